"""False events a day and events found, against the threshold; and the threshold for a stated rate.

An event is a change of what is held to be going on to a class that is not idle, as
`detach.edge.live.outcomes.Settled` makes it. It is right where the truth has that class in one of
the windows that led to it or of the `TOLERANCE` before; otherwise it is false. A stretch of the
truth is found when such an event falls into it or so shortly after.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detach.edge.decide import UNKNOWN, Decision
from detach.edge.live.config import IDLE, Deciding
from detach.edge.live.outcomes import Settled

TOLERANCE = 3
"""Windows between an action and the event that tells of it."""
DAY_S = 86400.0


@dataclass(frozen=True, kw_only=True)
class Rate:
    """At one threshold."""

    threshold: float
    false_per_day: float
    false: int
    found: float
    """Share of the stretches of the truth that were found; NaN where there is none."""
    stretches: int
    events: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Windows of one recording in order, and what was going on."""

    probabilities: NDArray[np.float64]
    """[N, L]."""
    truth: NDArray[np.int64]
    """Class of each window [N]; -1 where nothing is said."""


def rate(
    recordings: Sequence[Judged],
    classes: tuple[str, ...],
    *,
    threshold: float,
    hop_s: float,
    config: Deciding,
    idle: Iterable[str] = IDLE,
) -> Rate:
    """What a threshold would have meant for recordings whose truth is known.

    Args:
        recordings: At least one window in all.
        classes: The L names.
        threshold: Less confident windows have no answer; ``config.mean_probability`` is at least
            this, too, since it is the other way to an answer.
        hop_s: Between two windows.
        config: When an answer counts.
        idle: Classes whose begin is no event.

    Raises:
        ValueError: The shapes do not fit together.
    """
    for judged in recordings:
        if judged.probabilities.shape != (len(judged.truth), len(classes)):
            raise ValueError(
                f"probabilities must be [N, {len(classes)}] and truth [N], "
                f"got {list(judged.probabilities.shape)} and {list(judged.truth.shape)}"
            )
    if not (windows := sum(len(judged.truth) for judged in recordings)):
        raise ValueError("there is no window to be judged")
    config = replace(config, mean_probability=max(config.mean_probability, threshold))
    quiet = {classes.index(name) for name in idle if name in classes}
    reach = config.windows + TOLERANCE
    events = false = 0
    found: list[bool] = []
    for judged in recordings:
        told = _events(judged.probabilities, classes, threshold, config, quiet)
        truth = judged.truth
        events += len(told)
        false += sum(c not in truth[max(0, n - reach) : n + 1] for n, c in told)
        found += [
            any(first <= n <= last + reach and c == label for n, c in told)
            for first, last, label in _stretches(truth)
            if label not in quiet
        ]
    return Rate(
        threshold=threshold,
        false_per_day=false * DAY_S / (windows * hop_s),
        false=false,
        found=float(np.mean(found)) if found else float("nan"),
        stretches=len(found),
        events=events,
    )


def choose(rates: Sequence[Rate], most_per_day: float) -> Rate:
    """The threshold that finds most among those with at most so many false events a day.

    Raises:
        ValueError: There is none.
    """
    good = [r for r in rates if r.false_per_day <= most_per_day]
    if not good:
        least = min((r.false_per_day for r in rates), default=float("nan"))
        raise ValueError(
            f"no threshold has at most {most_per_day:g} false events a day; the least is {least:g}"
        )
    return max(good, key=lambda r: (np.nan_to_num(r.found, nan=0.0), -r.threshold))


def _events(
    probabilities: NDArray[np.float64],
    classes: tuple[str, ...],
    threshold: float,
    config: Deciding,
    quiet: set[int],
) -> list[tuple[int, int]]:
    """Window and class of every event."""
    settled, events = Settled(config, classes), []
    for n, row in enumerate(probabilities):
        best = int(row.argmax())
        label = classes[best] if row[best] >= threshold else UNKNOWN
        decision = Decision(
            start_s=0.0,
            end_s=0.0,
            label=label,
            confidence=float(row[best]),
            probabilities=tuple(row.tolist()),
            place=None,
            place_confidence=None,
            live_share=1.0,
        )
        if settled.take(decision) and settled.state is not None:
            found = classes.index(settled.state)
            if found not in quiet:
                events.append((n, found))
    return events


def _stretches(truth: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """First and last window and class of every run of one class."""
    edges = np.flatnonzero(np.diff(truth)) + 1
    starts = [0, *edges.tolist()]
    ends = [*(edges - 1).tolist(), len(truth) - 1]
    runs = zip(starts, ends, strict=True)
    return [(first, last, int(truth[first])) for first, last in runs if truth[first] >= 0]
