"""The sensors of ``hwu``: contacts on cupboards, motion sensors, and the power of a kettle's plug.

All are sampled at 50 Hz, as published. A contact is 1 while its cupboard is open.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detach.data.recording import SensorTrack
from detach.simulate.hwu_kitchen import Kitchen, kitchen, place_name
from detach.simulate.levels import Level
from detach.simulate.path import Path
from detach.simulate.person import effort
from detach.simulate.physics import STEPS_HZ, Traces
from detach.simulate.plan import Act
from detach.simulate.sensors import Series, intervals, with_faults

Bools = NDArray[np.bool_]

OPEN_FROM = 0.06
"""Share of the travel at which a contact parts, give or take `OPEN_SPREAD`."""
OPEN_SPREAD = 0.015
STEP_M_S = 0.35
"""A motion sensor notices whoever moves as fast as this."""
HANDS = 0.35
"""And, every second, hands at work with this chance."""
NOISE_W = 0.02
"""Share of the power that its reading varies by."""


def contact_name(place: str) -> str:
    """B4 Cupboard as published: Ktch_B4_Cupboard."""
    return f"Ktch_{place.replace(' ', '_')}"


def kitchen_tracks() -> list[SensorTrack]:
    """All 11 sensors, in the order of the published columns."""
    known = kitchen()
    contacts = [
        SensorTrack(name=contact_name(t.name), kind="switch", unit="0/1", hz=50.0, place=t.name)
        for t in known.home.things
    ]
    motion = [
        SensorTrack(name=name, kind="motion", unit="0/1", hz=50.0, place=place_name(name))
        for name in known.motion
    ]
    power = SensorTrack(name=known.plug, kind="power", unit="W", hz=50.0, place="Plug")
    return [*contacts[:4], *motion, *contacts[4:], power]


def read_kitchen(
    scripts: Sequence[Sequence[Act]],
    paths: Sequence[Path],
    traces: Traces,
    level: Level,
    house: np.random.Generator,
    rng: np.random.Generator,
) -> dict[str, Series]:
    """What each sensor reports; ``paths`` are at their rate, ``house`` is the same every day."""
    known = kitchen()
    duration_s = len(traces.fraction) / STEPS_HZ
    at_s = np.arange(int(duration_s * known.home.sensor_hz)) / known.home.sensor_hz
    found: dict[str, NDArray[np.float64]] = {}
    for i, thing in enumerate(known.home.things):
        from_share = OPEN_FROM + OPEN_SPREAD * house.normal()
        opened = intervals(traces.fraction[:, i] > from_share)
        found[contact_name(thing.name)] = _held(with_faults(opened, duration_s, level, rng), at_s)
    for name, (low, high) in known.motion.items():
        seen: Bools = np.zeros(len(at_s), dtype=np.bool_)
        for script, path in zip(scripts, paths, strict=True):
            at = path.at[: len(at_s)]
            inside = (at >= low).all(axis=1) & (at <= high).all(axis=1)
            seen = seen | np.asarray(inside & _moves(script, path, at_s, rng))
        found[name] = _kept_on(seen, at_s, known, level, rng)
    found[known.plug] = _power(scripts, at_s, known, rng)
    return {name: (at_s, values) for name, values in found.items()}


def _held(rows: NDArray[np.float64], at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    on = np.zeros(len(at_s))
    for start_s, end_s in rows:
        on[(at_s >= start_s) & (at_s < end_s)] = 1.0
    return on


def _moves(
    script: Sequence[Act], path: Path, at_s: NDArray[np.float64], rng: np.random.Generator
) -> Bools:
    """Whether a person moves enough to be noticed."""
    n = len(at_s)
    lucky = rng.random(int(at_s[-1]) + 1 if n else 1) < HANDS
    busy = np.zeros(n, dtype=bool)
    for i in range(0, n, 10):
        act = script[path.act[i]]
        busy[i : i + 10] = act.kind not in {"walk", "stand"} and effort(act, at_s[i]) > 0.5
    return np.asarray((path.speed[:n] > STEP_M_S) | (busy & lucky[at_s.astype(int)]))


def _kept_on(
    seen: Bools, at_s: NDArray[np.float64], known: Kitchen, level: Level, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A motion sensor stays on for a while after the last motion; now and then it errs."""
    hz = known.home.sensor_hz
    on = np.zeros(len(at_s))
    edges = np.flatnonzero(np.diff(seen.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    for first, last in edges:
        on[first : last + int(hz * rng.uniform(*known.motion_hold_s))] = 1.0
    for start_s in rng.uniform(0, at_s[-1], rng.poisson(level.false_per_min * at_s[-1] / 60)):
        first = int(hz * start_s)
        on[first : first + int(hz * rng.uniform(*known.motion_hold_s))] = 1.0
    return on


def _power(
    scripts: Sequence[Sequence[Act]],
    at_s: NDArray[np.float64],
    known: Kitchen,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Watts of the plug; the kettle turns itself off."""
    watts = np.full(len(at_s), known.standby_w)
    for act in (a for script in scripts for a in script if a.kind == "boil"):
        begin = (act.start_s + act.end_s) / 2
        watts[(at_s >= begin) & (at_s < begin + rng.uniform(*known.boils_s))] = known.kettle_w
    return np.asarray(np.round(watts * (1 + NOISE_W * rng.normal(size=len(at_s))), 1))
