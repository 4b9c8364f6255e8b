"""Switches and accelerometers of ``opportunity`` as they are bought: late, noisy, askew, dead.

What is wrong with a home (which switch is dead, which accelerometer drifts, where each magnet
sits) is drawn once from the home's seed; what differs from day to day (how each accelerometer
sits in its mount) once a run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.data.recording import SensorTrack
from detach.simulate.levels import Level
from detach.simulate.opportunity_room import OPPORTUNITY, THINGS
from detach.simulate.physics import STEPS_HZ, Traces

Array = NDArray[np.float64]
Series = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Times [n] in seconds, and values [n] or [n, axes]."""

SENSOR_HZ = OPPORTUNITY.sensor_hz
FULL_SCALE_MG = 3000.0
BOUNCE_S = (0.008, 0.03)
PULSE_S = (0.05, 0.6)
CENTRE = {"closed": 0.0, "half": 0.5, "open": 1.0}


@dataclass(frozen=True)
class Faults:
    """What is wrong with one home for good."""

    dead: frozenset[str]
    """Names of switches that never fire."""
    drifting: frozenset[str]
    """Names of accelerometers that drift."""
    misplaced: dict[str, float]
    """How far each magnet sits from where it should, as a share of the travel."""
    mount: dict[str, NDArray[np.float64]]
    """How each accelerometer is turned, [3, 3]."""


def switch_tracks() -> list[SensorTrack]:
    """The 13 switches: three on each thing, one on drawer 1, none on the doors."""
    return [
        SensorTrack(name=f"{t.slug}_{zone}", kind="switch", unit="on/off", hz=None, place=t.name)
        for t in THINGS
        for zone in t.switches
    ]


def accelerometer_tracks() -> list[SensorTrack]:
    """The 7 accelerometers, one on each thing, in milli-g."""
    return [
        SensorTrack(
            name=f"{t.slug}_accelerometer",
            kind="acceleration",
            unit="mg",
            hz=float(SENSOR_HZ),
            axes=("x", "y", "z"),
            place=t.name,
        )
        for t in THINGS
    ]


def home_faults(rng: np.random.Generator, level: Level) -> Faults:
    """Draws what is wrong with a home. Drawer 1 keeps its only switch."""
    switches = [t.name for t in switch_tracks()]
    candidates = [n for n in switches if not n.endswith("_any")]
    accelerometers = [t.name for t in accelerometer_tracks()]
    return Faults(
        dead=frozenset(rng.choice(candidates, level.dead, replace=False).tolist()),
        drifting=frozenset(rng.choice(accelerometers, level.drifting, replace=False).tolist()),
        misplaced={n: float(rng.normal(0.0, level.zone / 6)) for n in switches},
        mount={n: _small_rotation(rng, level.mount_deg) for n in accelerometers},
    )


def read_switches(
    traces: Traces, level: Level, faults: Faults, rng: np.random.Generator
) -> dict[str, Series]:
    """What each switch reports: its changes, the first row being the state at the start."""
    duration_s = len(traces.fraction) / STEPS_HZ
    series = {}
    for track in switch_tracks():
        thing, zone = track.name.rsplit("_", 1)
        i = next(i for i, t in enumerate(THINGS) if t.slug == thing)
        shifted = traces.fraction[:, i] - faults.misplaced[track.name]
        zones = CENTRE.values() if zone == "any" else (CENTRE[zone],)
        near = np.any([np.abs(shifted - c) < level.zone for c in zones], axis=0)
        closed = intervals(near)
        if track.name in faults.dead:
            closed = np.zeros((0, 2))
        else:
            closed = with_faults(closed, duration_s, level, rng)
        series[track.name] = _changes(closed, duration_s)
    return series


def intervals(on: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Stretches [n, 2] in seconds during which ``on`` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2) / STEPS_HZ


def with_faults(
    closed: NDArray[np.float64], duration_s: float, level: Level, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Passes missed, pulses out of nothing, contacts that bounce."""
    kept = closed[rng.random(len(closed)) >= level.miss]
    count = int(rng.poisson(level.false_per_min * duration_s / 60))
    start = rng.uniform(0.0, duration_s, count)
    false = np.stack([start, start + rng.uniform(*PULSE_S, count)], axis=1)
    bounces = []
    for begin, end in kept[rng.random(len(kept)) < 0.3]:
        gap = rng.uniform(*BOUNCE_S)
        if begin > 0 and end - begin > 4 * gap:
            bounces.append((begin - 2 * gap, begin - gap))
    rows = [kept, false, np.asarray(bounces).reshape(-1, 2)]
    merged = _merge(np.concatenate(rows))
    return merged[merged[:, 0] < duration_s]


def _merge(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    merged: list[list[float]] = []
    for start, end in rows[np.argsort(rows[:, 0], kind="stable")].tolist():
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.asarray(merged, dtype=np.float64).reshape(-1, 2)


def _changes(closed: NDArray[np.float64], duration_s: float) -> Series:
    t_s = np.concatenate([[0.0], np.maximum(closed.reshape(-1), 0.0)])
    value = np.concatenate([[0.0], np.tile([1.0, 0.0], len(closed))])
    if len(closed) and closed[0, 0] <= 0.0:
        t_s, value = t_s[1:], value[1:]
    inside = t_s < duration_s
    return t_s[inside], value[inside]


def read_accelerometers(
    traces: Traces, level: Level, faults: Faults, rng: np.random.Generator
) -> dict[str, Series]:
    """What each accelerometer reports, whole milli-g at 30 Hz, with gaps where a radio failed."""
    series: dict[str, Series] = {}
    n = len(traces.acceleration_g)
    for i, track in enumerate(accelerometer_tracks()):
        turn = _small_rotation(rng, level.tilt_deg) @ faults.mount[track.name]
        felt: Array = 1000.0 * traces.acceleration_g[:, i].astype(np.float64) @ turn.T
        felt += rng.normal(0.0, level.bias_mg, 3) + rng.normal(0.0, level.noise_mg, felt.shape)
        drift = rng.normal(0.0, 1.0, 3)
        if track.name in faults.drifting:
            minutes = np.arange(n) / SENSOR_HZ / 60
            felt += minutes[:, None] * level.drift_mg_per_min * drift / np.linalg.norm(drift)
        t_s = (np.arange(n) + rng.random()) / SENSOR_HZ
        shaken = np.maximum(0.0, t_s + rng.normal(0.0, level.jitter_s, n))
        t_s = np.maximum.accumulate(shaken)
        kept = _outside_gaps(t_s, level.gaps_per_min, rng)
        # Adding 0 turns -0 into 0.
        values = np.clip(felt, -FULL_SCALE_MG, FULL_SCALE_MG).round() + 0.0
        series[track.name] = (t_s[kept], values[kept])
    return series


def _small_rotation(rng: np.random.Generator, degrees: float) -> NDArray[np.float64]:
    """A random rotation by about ``degrees`` (Rodrigues' formula)."""
    axis = rng.normal(0.0, 1.0, 3)
    axis /= np.linalg.norm(axis)
    angle = np.radians(rng.normal(0.0, 1.0) * degrees)
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)


def _outside_gaps(
    t_s: NDArray[np.float64], per_min: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    duration_s = len(t_s) / SENSOR_HZ
    kept = np.ones(len(t_s), dtype=bool)
    count = int(rng.poisson(per_min * duration_s / 60))
    for start, length in zip(
        rng.uniform(0.0, duration_s, count), rng.uniform(0.1, 0.8, count), strict=True
    ):
        kept &= (t_s < start) | (t_s > start + length)
    return kept
