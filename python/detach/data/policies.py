"""`SensorConfig.policy`: what becomes of a sensor's silences, and of a clock that was set.

A name beats a kind. Without an entry a sensor that reports changes holds, a sampled one is masked,
and nothing is counted.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from detach.config import SensorConfig
from detach.data.recording import LONGEST_S, SensorTrack
from detach.errors import UsageError

Silence = Literal["hold", "mask", "drop"]
SILENCES = ("hold", "mask", "drop")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Of one sensor."""

    silence: Silence | None
    """None is the usual for its kind, and counts nothing."""
    max_gap_s: float
    """A longer silence is one; of a sampled sensor never below 2.5 of its periods."""
    resync_s: float | None
    """A clock that goes back, or forward by more, was set; None believes it."""

    def gap_s(self, hz: float | None) -> float:
        """The longest silence that is none, of a sensor with that rate."""
        return self.max_gap_s if hz is None else max(self.max_gap_s, 2.5 / hz)


@dataclass(frozen=True)
class _Entry:
    text: str
    target: str
    action: str
    seconds: float | None


def check_policies(tracks: Sequence[SensorTrack], config: SensorConfig) -> None:
    """Refuses entries that mean nothing for the sensors ``tracks``.

    Raises:
        UsageError: Not of the form, no such sensor or kind, two that contradict each other, or
            resync for a sensor that reports changes.
    """
    names = {track.name for track in tracks}
    kinds = {track.kind for track in tracks}
    for entry in map(_parse, config.policy):
        if entry.target not in names | kinds:
            raise _wrong(
                entry.text,
                f"no sensor or kind {entry.target!r} is used; there are "
                f"{', '.join(track.name for track in tracks)} of the kinds "
                f"{', '.join(sorted(kinds))}",
            )
    for track in tracks:
        policy_of(track, config)


def policy_of(track: SensorTrack, config: SensorConfig) -> Policy:
    """What the entries say of one sensor.

    Raises:
        UsageError: As `check_policies`.
    """
    entries = [_parse(text) for text in config.policy]
    silence = _chosen(track, (e for e in entries if e.action in SILENCES))
    resync = _chosen(track, (e for e in entries if e.action == "resync"))
    max_gap_s = config.max_gap_s
    if silence is not None and silence.seconds is not None:
        max_gap_s = silence.seconds
    if resync is not None and track.hz is None:
        raise _wrong(
            resync.text,
            f"{track.name} reports changes (hz null), and only the clock of a sampled sensor shows "
            "that it was set",
        )
    step_s = max_gap_s if resync is None or resync.seconds is None else resync.seconds
    return Policy(
        silence=None if silence is None else cast("Silence", silence.action),
        max_gap_s=max_gap_s,
        resync_s=None if resync is None else step_s,
    )


def take_out_steps(
    t_s: NDArray[np.float64], hz: float, resync_s: float
) -> tuple[NDArray[np.float64], int, float]:
    """Stamps as a clock would have given them that nobody set.

    Where one steps back, or forward by more than ``resync_s`` (at least 2.5 periods), all that
    follow are moved so that they go on one period after the last before.

    Args:
        t_s: Stamps [n], in the order of their rows. The first is believed.
        hz: Nominal rate.
        resync_s: Largest step forward that is a silence.

    Returns:
        Stamps [n] that do not fall, how often the clock was set, and by how many seconds in all.
    """
    step_s = np.diff(t_s)
    were_set = (step_s < 0) | (step_s > max(resync_s, 2.5 / hz))
    by_s = np.where(were_set, 1 / hz - step_s, 0.0)
    moved = t_s.copy()
    moved[1:] += np.cumsum(by_s)
    # Sums of large moves and their undoing round; times must not fall for that.
    return np.maximum.accumulate(moved), int(were_set.sum()), float(np.abs(by_s).sum())


def _parse(text: str) -> _Entry:
    target, _, rest = text.rpartition("=")
    action, timed, number = rest.partition(":")
    if not target or action not in (*SILENCES, "resync"):
        raise _wrong(
            text, "must be NAME=hold, mask, drop or resync, or KIND=...; as in Door=mask:90"
        )
    if not timed:
        return _Entry(text, target, action, None)
    seconds = _seconds(number)
    if action == "hold" or not 0 <= seconds <= LONGEST_S:
        raise _wrong(
            text,
            "hold takes no seconds, since it knows no longest silence"
            if action == "hold"
            else f"seconds must be in [0, {LONGEST_S:.0f}], got {number!r}",
        )
    return _Entry(text, target, action, seconds)


def _seconds(number: str) -> float:
    try:
        return float(number)
    except ValueError:
        return math.nan


def _chosen(track: SensorTrack, entries: Iterable[_Entry]) -> _Entry | None:
    """The entry for a sensor: that of its name, else that of its kind."""
    listed = list(entries)
    for target in (track.name, track.kind):
        own = [entry for entry in listed if entry.target == target]
        for entry in own[1:]:
            if (entry.action, entry.seconds) != (own[0].action, own[0].seconds):
                raise _wrong(
                    entry.text,
                    f"contradicts {own[0].text!r}; one of hold, mask and drop may stand for "
                    f"{target}, and resync beside it",
                )
        if own:
            return own[0]
    return None


def _wrong(entry: str, problem: str) -> UsageError:
    return UsageError(f"sensors.policy: {entry!r}: {problem}")
