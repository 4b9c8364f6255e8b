"""What is wrong with sensors, film and labels, from numbers, and what to do about it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from detach.data.quality_numbers import Floats, Numbers, SensorQuality

FEW = 8
"""With fewer changes than this nothing is said about where and when a sensor fires."""
RESTS_ON = frozenset({"closed", "shut", "close"})
RESTS_OFF = frozenset({"open", "opened", "half", "ajar", "motion", "pir", "occupancy"})
DUTY = (0.45, 0.55)
"""A switch that rests in a state is in it for more than this share of the time."""
SAME_S, LAG_S, SAME_SHARE = 0.2, 1.0, 0.8
"""Two sensors are one whose changes agree to `SAME_S`, after a lag up to `LAG_S`, this often."""
UNSEEN_SHARE = 0.5
CHANCE_P, CLEAR = 0.05, 3.0
"""Motion at a sensor's changes is chance above this p; it is clear above so many deviations."""
SILENT_CHANGES, SILENT_SHARE, SILENT_TIMES = 20, 0.3, 3.0
"""Silence at the end counts after so many changes, from this share of the time, and when it is so
many times as long as the longest silence before."""
SHORT_HOURS = 0.2
"""In less time a sensor may well not have been used, or not enough to be sure of."""
DRIFT, RARE_S = 1.0, 40.0
TO_DO = {
    "dead": "Check battery, magnet and pairing; one that is never used can be left out.",
    "silent": "Check its battery; use only the recordings from before.",
    "reversed": 'If on means the opposite here, set "polarity": -1 in each recording.json.',
    "duplicate": "Keep one of the two: the same twice tells a model nothing new.",
    "misplaced": "Look where it is mounted, and at the clocks; move it, or leave it out.",
    "missing": "See why it is not available for so long: range, battery, or the log.",
    "rate": "Set hz in each recording.json to the rate that was measured.",
    "gaps": "Look for lost packets; windows in the holes are masked.",
    "drift": "Calibrate it, or see what moved it.",
    "no film": "See why the camera did not record, and check its clock.",
    "frozen": "Check the camera's link, and the rate it records at.",
    "no labels": "None are needed to train.",
    "rare": "Label more of it, or merge it: so little cannot be tested.",
}
"""What each finding asks a person to do."""


@dataclass(frozen=True)
class Finding:
    """Something that a person should look at."""

    what: str
    """A key of `TO_DO`."""
    about: str
    """Name of a sensor, camera or label track."""
    evidence: str
    sure: bool = True

    @property
    def to_do(self) -> str:
        """What to do about it."""
        return TO_DO[self.what]


def find_faults(found: Numbers) -> list[Finding]:
    """Everything worth a look in what was measured."""
    faults: list[Finding] = []
    used = sum(sensor.changes > 0 for sensor in found.sensors)
    for sensor in found.sensors:
        if sensor.still and used:
            text = f"one value only in {found.hours:.2f} h, while {used} others changed"
            faults.append(Finding("dead", sensor.name, text, sure=found.hours >= SHORT_HOURS))
            continue
        faults += _silent(sensor, found) + _reversed(sensor) + _misplaced(sensor, found)
        faults += _signal(sensor)
    return faults + _duplicates(found) + _film(found) + _labels(found)


def _signal(sensor: SensorQuality) -> list[Finding]:
    """Faults of the values themselves."""
    found = []
    if sensor.missing > 0.2:
        found.append(
            Finding("missing", sensor.name, f"no value for {sensor.missing:.0%} of the time")
        )
    if abs(sensor.hz / sensor.nominal_hz - 1) > 0.1:
        text = f"{sensor.hz:.1f} samples a second, {sensor.nominal_hz:g} stated"
        found.append(Finding("rate", sensor.name, text))
    if sensor.gaps:
        found.append(
            Finding("gaps", sensor.name, f"{sensor.gaps} holes of 2 s and more", sure=False)
        )
    if sensor.drift > DRIFT:
        text = f"its level moved by {sensor.drift:.1f} times its usual spread"
        found.append(Finding("drift", sensor.name, text, sure=False))
    return found


def _film(found: Numbers) -> list[Finding]:
    faults = []
    if 0 < found.film < 0.95:
        faults.append(Finding("no film", "camera", f"covers {found.film:.0%} of the time"))
    shares = [motion.frozen for motion in found.motions if motion]
    if shares and max(shares) > 0.5:
        text = f"up to {max(shares):.0%} of its pictures are the same as the one before"
        faults.append(Finding("frozen", "camera", text))
    return faults


def _labels(found: Numbers) -> list[Finding]:
    faults = []
    for track, classes in found.labels.items():
        rare = [name for name, (_, seconds) in classes.items() if seconds < RARE_S]
        if rare:
            text = f"less than {RARE_S:.0f} s of {', '.join(rare[:6])}"
            faults.append(Finding("rare", track, text, sure=False))
    if not any(found.labels.values()):
        faults.append(Finding("no labels", "labels", "no track names what happens", sure=False))
    return faults


def _silent(sensor: SensorQuality, found: Numbers) -> list[Finding]:
    """A sensor that stopped: silent at the end for far longer than ever before."""
    starts = np.cumsum([0.0, *found.duration_s])
    pairs = zip(starts, found.changes[sensor.name], strict=False)
    t_s = np.concatenate([start + own for start, own in pairs])
    whole_s = float(starts[-1])
    if len(t_s) < SILENT_CHANGES:
        return []
    rest_s, before_s = whole_s - float(t_s[-1]), float(np.diff(t_s, prepend=0.0).max())
    if rest_s < SILENT_SHARE * whole_s or rest_s < SILENT_TIMES * before_s:
        return []
    text = f"nothing in the last {rest_s / 60:.0f} min, never silent for {before_s / 60:.0f} before"
    return [Finding("silent", sensor.name, text)]


def _reversed(sensor: SensorQuality) -> list[Finding]:
    """A switch whose state of rest is not the one that its name or kind says."""
    if not np.isfinite(sensor.duty):
        return []
    words = set(re.split(r"[^a-z]+", sensor.name.lower()))
    rests_on = bool(words & RESTS_ON)
    told = rests_on or sensor.kind == "motion" or bool(words & RESTS_OFF)
    if rests_on and sensor.duty < DUTY[0]:
        text = f"on {sensor.duty:.0%} of the time, although its name says that it rests on"
    elif not rests_on and sensor.duty > DUTY[1]:
        text = f"on {sensor.duty:.0%} of the time, where a {sensor.kind} usually rests off"
    else:
        return []
    return [Finding("reversed", sensor.name, text, sure=told)]


def _misplaced(sensor: SensorQuality, found: Numbers) -> list[Finding]:
    if sensor.changes < FEW:
        return []
    if sensor.unseen > UNSEEN_SHARE:
        text = f"{sensor.unseen:.0%} of its {sensor.changes} changes come while nobody is in view"
        return [Finding("misplaced", sensor.name, text)]
    fits = sensor.agreement
    others = [s.agreement.excess for s in found.sensors if s.agreement and s is not sensor]
    if fits is None or fits.changes < FEW or len(others) < 2 or fits.p < CHANCE_P:
        return []
    sure = float(np.median(others)) > CLEAR and found.hours >= SHORT_HOURS
    text = f"where it fires the camera sees no more motion than at any time (p = {fits.p:.2f})"
    return [Finding("misplaced", sensor.name, text, sure=sure)]


def _duplicates(found: Numbers) -> list[Finding]:
    kinds = {s.name: s.kind for s in found.sensors}
    counts = {s.name: s.changes for s in found.sensors if s.changes >= FEW}
    faults = []
    for a, b in combinations(counts, 2):
        if kinds[a] != kinds[b] or not 0.8 <= counts[a] / counts[b] <= 1.25:
            continue
        share = same_changes(found.changes[a], found.changes[b])
        if share >= SAME_SHARE:
            text = f"{share:.0%} of its changes are those of {a}, to {SAME_S:g} s"
            faults.append(Finding("duplicate", b, text))
    return faults


def same_changes(a: Sequence[Floats], b: Sequence[Floats]) -> float:
    """Share of changes that two sensors have in common after a steady lag, the lower of the two.

    Args:
        a: Times of one sensor in each recording.
        b: Of the other.
    """
    apart = [_nearest(x, y) for x, y in zip(a, b, strict=True)]
    back = [-_nearest(y, x) for x, y in zip(a, b, strict=True)]
    there, back_again = np.concatenate(apart), np.concatenate(back)
    near = there[np.abs(there) <= LAG_S]
    if not len(near):
        return 0.0
    lag_s = float(np.median(near))
    return float(min((np.abs(d - lag_s) <= SAME_S).mean() for d in (there, back_again)))


def _nearest(t_s: Floats, other_s: Floats) -> Floats:
    """How much later the nearest of ``other_s`` is than each time [n]; infinite where none is."""
    if not len(other_s):
        return np.full(len(t_s), np.inf)
    at = np.searchsorted(other_s, t_s)
    left, right = other_s[np.maximum(at - 1, 0)], other_s[np.minimum(at, len(other_s) - 1)]
    return np.asarray(np.where(np.abs(left - t_s) <= np.abs(right - t_s), left, right) - t_s)
