"""Numbers about recordings: of each sensor, of the labels, and of the film. No judgement."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detach.data import quality_camera as camera
from detach.data.recording import PRESENCE_TRACK, Recording, SensorTrack
from detach.data.sensors import common_sensors
from detach.errors import DataError

GAP_S, GAP_SAMPLES = 2.0, 5.0
"""A sampled sensor has a hole where samples are further apart than both of these."""
MINUTES = 5
"""Levels are compared in pieces of so many minutes."""

Floats = NDArray[np.float64]
Series = tuple[Floats, NDArray[np.float32]]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SensorQuality:
    """Numbers of one sensor over all recordings; NaN where one means nothing."""

    name: str
    kind: str
    place: str | None
    changes: int
    """Changes of a switch, or bursts of a sampled sensor."""
    still: bool
    """Whether it never had more than one value."""
    per_hour: float
    duty: float
    """Share of the time that it is on, polarity applied."""
    missing: float
    """Share of the time without a value."""
    hz: float
    """Measured rate of a sampled sensor."""
    nominal_hz: float
    """The rate that the recording states."""
    gaps: int
    """Holes of a sampled sensor longer than 2 s and five of its samples."""
    drift: float
    """Change of level from begin to end, in units of its spread."""
    unseen: float
    """Share of its changes with nobody in view."""
    agreement: camera.Agreement | None


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What was measured in recordings of one home."""

    recordings: tuple[str, ...]
    duration_s: tuple[float, ...]
    sensors: tuple[SensorQuality, ...]
    labels: dict[str, dict[str, tuple[int, float]]]
    """For each track, for each class, how many stretches and seconds."""
    in_view: float
    """Share of the time with somebody in view; NaN where nothing says so."""
    film: float
    """Share of the time with a video; 0 without cameras."""
    changes: dict[str, tuple[Floats, ...]] = field(repr=False)
    """For each sensor, times of its changes in each recording."""
    motions: tuple[camera.Motion | None, ...] = field(repr=False)

    @property
    def hours(self) -> float:
        """Of all recordings."""
        return sum(self.duration_s) / 3600


def measure(
    recordings: Sequence[Recording], *, film: bool = True, say: Say | None = None
) -> Numbers:
    """Measures sensors, labels and film.

    Args:
        recordings: At least one; their sensors must agree.
        film: Whether videos are looked at, which takes about a second for each 1000 pictures.
        say: Told in words what is being done.

    Raises:
        DataError: A file is damaged, or two recordings describe one sensor differently.
    """
    if not recordings:
        raise DataError("there is no recording to inspect")
    motions = _motions(recordings, film, say or (lambda _line: None))
    seen = [camera.seen_stretches(recording) for recording in recordings]
    sensors, changes = [], {}
    for track in common_sensors(recordings) if any(r.sensors for r in recordings) else ():
        series = [_series(recording, track) for recording in recordings]
        changes[track.name] = tuple(changes_of(track, *one) for one in series)
        sensors.append(_sensor(track, recordings, series, changes[track.name], motions, seen))
    return Numbers(
        recordings=tuple(r.name for r in recordings),
        duration_s=tuple(r.duration_s for r in recordings),
        sensors=tuple(sensors),
        labels=_labels(recordings),
        in_view=_in_view(recordings, seen),
        film=_film(recordings),
        changes=changes,
        motions=motions,
    )


def changes_of(track: SensorTrack, t_s: Floats, values: NDArray[np.float32]) -> Floats:
    """Times at which something happened: a change of a switch, the beginning of a burst."""
    known = np.isfinite(values).all(axis=1)
    t_s, values = t_s[known], values[known].astype(np.float64)
    if len(t_s) < 2:
        return np.zeros(0)
    if track.hz is None:
        step = np.abs(np.diff(values[:, 0]))
        low, high = np.percentile(values[:, 0], (5, 95))
        floor = 0.0 if track.binary else 0.1 * (high - low)
        return np.asarray(t_s[1:][step > floor])
    size = np.linalg.norm(values - np.median(values, axis=0), axis=1)
    middle = float(np.median(size))
    noise = 1.4826 * float(np.median(np.abs(size - middle)))
    loud = t_s[size > middle + 8 * max(noise, 1e-9)]
    return np.asarray(loud[np.diff(loud, prepend=-np.inf) > 1.0])


def _motions(
    recordings: Sequence[Recording], film: bool, say: Say
) -> tuple[camera.Motion | None, ...]:
    found: list[camera.Motion | None] = []
    for recording in recordings:
        if film and recording.videos:
            say(f"looking at the film of {recording.name}")
        found.append(camera.see_motion(recording) if film else None)
    return tuple(found)


def _series(recording: Recording, track: SensorTrack) -> Series:
    """Times and values of a sensor, polarity of a switch applied; nothing where it is not there."""
    own = next((t for t in recording.sensors if t.name == track.name), None)
    if own is None:
        return np.zeros(0), np.zeros((0, len(track.axes)), dtype=np.float32)
    t_s, values = recording.read_sensor(own)
    return t_s, 1 - values if own.binary and own.polarity < 0 else values


def _sensor(
    track: SensorTrack,
    recordings: Sequence[Recording],
    series: Sequence[Series],
    changes: Sequence[Floats],
    motions: Sequence[camera.Motion | None],
    seen: Sequence[Floats | None],
) -> SensorQuality:
    lengths = [r.duration_s for r in recordings]
    count = sum(map(len, changes))
    on_s, known_s = _held(track, series, lengths)
    sampled = track.hz is not None
    return SensorQuality(
        name=track.name,
        kind=track.kind,
        place=track.place,
        changes=count,
        still=_still(series),
        per_hour=3600 * count / sum(lengths),
        duty=on_s / known_s if track.binary and known_s > 0 else float("nan"),
        missing=1 - min(1.0, known_s / sum(lengths)),
        hz=_rate(series, track.hz) if track.hz else float("nan"),
        nominal_hz=track.hz or float("nan"),
        gaps=sum(_gaps(t_s, track.hz) for t_s, _ in series) if track.hz else 0,
        drift=_drift(series) if sampled else float("nan"),
        unseen=_unseen(changes, seen),
        agreement=camera.agreement(motions, changes),
    )


def _held(
    track: SensorTrack, series: Sequence[Series], lengths: Sequence[float]
) -> tuple[float, float]:
    """Seconds on, and seconds known: a change holds until the next, a sample for two periods."""
    on_s = known_s = 0.0
    for (t_s, values), length_s in zip(series, lengths, strict=True):
        if not len(t_s):
            continue
        hold = np.diff(np.append(t_s, max(length_s, t_s[-1])))
        if track.hz is not None:
            hold = np.minimum(hold, max(2 / track.hz, GAP_S))
        good = np.isfinite(values).all(axis=1)
        known_s += float(hold[good].sum())
        on_s += float((hold[good] * (values[good, 0] > 0.5)).sum())
    return on_s, known_s


def _still(series: Sequence[Series]) -> bool:
    known = [values[np.isfinite(values).all(axis=1)] for _, values in series]
    return len(np.unique(np.concatenate(known), axis=0)) <= 1


def _rate(series: Sequence[Series], hz: float) -> float:
    """Samples a second, holes left out, of a sensor that should have ``hz``."""
    steps = np.concatenate([np.diff(t_s) for t_s, _ in series])
    steps = steps[steps <= _longest_s(hz)]
    return float(len(steps) / steps.sum()) if len(steps) else 0.0


def _longest_s(hz: float) -> float:
    """From one sample to the next; after that it is a hole."""
    return max(GAP_S, GAP_SAMPLES / hz)


def _gaps(t_s: Floats, hz: float) -> int:
    return int((np.diff(t_s) > _longest_s(hz)).sum())


def _drift(series: Sequence[Series]) -> float:
    """Largest difference between the first and the last level of a recording, in spreads."""
    worst = 0.0
    for t_s, values in series:
        good = np.isfinite(values).all(axis=1)
        t, x = t_s[good], values[good].astype(np.float64)
        if len(t) < 100 or t[-1] - t[0] < 2 * 60 * MINUTES:
            continue
        first, last = x[t < t[0] + 60 * MINUTES], x[t > t[-1] - 60 * MINUTES]
        spread = np.percentile(x, 95, axis=0) - np.percentile(x, 5, axis=0)
        moved = np.abs(np.median(last, axis=0) - np.median(first, axis=0))
        worst = max(worst, float((moved / np.maximum(spread, 1e-9)).max()))
    return worst


def _unseen(changes: Sequence[Floats], seen: Sequence[Floats | None]) -> float:
    """Share of changes with nobody in view, where a track says when somebody is."""
    pairs = [(t_s, s) for t_s, s in zip(changes, seen, strict=True) if s is not None]
    count = sum(len(t_s) for t_s, _ in pairs)
    if not count:
        return float("nan")
    return 1 - sum(int(camera.inside(t_s, s).sum()) for t_s, s in pairs) / count


def _labels(recordings: Sequence[Recording]) -> dict[str, dict[str, tuple[int, float]]]:
    """Stretches and seconds of each class of each track, the most first."""
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for recording in recordings:
        for track in recording.labels:
            if track.name == PRESENCE_TRACK:
                continue
            classes = found.setdefault(track.name, {})
            own = recording.read_labels(track.name)
            spent = Counter[str]()
            for name, seconds in zip(own.name, (own.end_s - own.start_s).tolist(), strict=True):
                spent[name] += seconds
            for name, count in Counter(own.name).items():
                before = classes.get(name, (0, 0.0))
                classes[name] = (before[0] + count, before[1] + spent[name])
    return {t: dict(sorted(c.items(), key=lambda item: -item[1][1])) for t, c in found.items()}


def _in_view(recordings: Sequence[Recording], seen: Sequence[Floats | None]) -> float:
    known = [(r.duration_s, s) for r, s in zip(recordings, seen, strict=True) if s is not None]
    whole_s = sum(length for length, _ in known)
    return (
        sum(float((s[:, 1] - s[:, 0]).sum()) for _, s in known) / whole_s if known else float("nan")
    )


def _film(recordings: Sequence[Recording]) -> float:
    """Share of the time that the longest video of each recording covers."""
    lengths = (max((v.frames / v.fps for v in r.videos), default=0.0) for r in recordings)
    return min(1.0, sum(lengths) / sum(r.duration_s for r in recordings))
