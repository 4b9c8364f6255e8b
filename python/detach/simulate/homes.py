"""The homes there are: who lives in them, what their sensors say, and what is labelled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detach.data.recording import PRESENCE_TRACK, SensorTrack
from detach.simulate.activities import write_sequences
from detach.simulate.home import Home
from detach.simulate.hwu_kitchen import kitchen
from detach.simulate.hwu_sensors import kitchen_tracks, read_kitchen
from detach.simulate.levels import Level
from detach.simulate.opportunity_room import OPPORTUNITY, THINGS
from detach.simulate.path import AWAY_AFTER_S, walk_through
from detach.simulate.physics import Traces
from detach.simulate.plan import Act, uses_of
from detach.simulate.script import action_classes, write_scripts
from detach.simulate.sensors import (
    Series,
    accelerometer_tracks,
    home_faults,
    read_accelerometers,
    read_switches,
    switch_tracks,
)

Scripts = Sequence[Sequence[Act]]
Rngs = Callable[[int], np.random.Generator]
Rows = list[tuple[float, float, str]]

HOMES = ("opportunity", "hwu")


@dataclass(frozen=True, kw_only=True)
class Household:
    """One home with its people, sensors and labels."""

    home: Home
    subjects: int
    write: Callable[[Sequence[np.random.Generator], Level, float, Sequence[str]], list[list[Act]]]
    """Scripts of so many people, for so many seconds, and their activities if there are any."""
    tracks: Callable[[], list[SensorTrack]]
    sense: Callable[[Scripts, Traces, Level, int, Rngs, float], dict[str, Series]]
    """What sensors say, from the home's seed, the run's random numbers and seconds."""
    classes: Callable[[], Mapping[str, tuple[str, ...]]]
    activities: tuple[str, ...] = ()
    """One a recording; none where people do as they like."""
    places: int | None = None
    """How many places the data set says there are; None leaves it to the sensors."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Label of each spot."""


def household(name: str) -> Household:
    """One of `HOMES`."""
    return _hwu() if name == "hwu" else _opportunity()


def label_rows(
    house: Household, scripts: Scripts, seconds: float, activity: str
) -> dict[str, Rows]:
    """Labels from the scripts of everybody, track by track."""
    uses = [act for act in uses_of(scripts) if act.start_s < seconds]
    others = sorted(
        (act for script in scripts for act in script
         if act.kind in house.others and act.start_s < seconds),
        key=lambda act: act.start_s,
    )  # fmt: skip
    rows = {
        "action": [(a.start_s, min(a.end_s, seconds), a.label) for a in uses],
        "place": [(a.start_s, min(a.end_s, seconds), a.name) for a in uses],
        "other": [(a.start_s, min(a.end_s, seconds), house.others[a.kind]) for a in others],
        PRESENCE_TRACK: _union([_in_view(script, seconds) for script in scripts]),
    }
    return {"activity": [(0.0, seconds, activity)], **rows} if activity else rows


def _in_view(script: Sequence[Act], seconds: float) -> Rows:
    """When a person is not behind a wall."""
    edges = [0.0]
    for act in script:
        if act.kind == "away" and act.end_s - act.start_s > 2 * AWAY_AFTER_S:
            edges += [act.start_s + AWAY_AFTER_S, act.end_s - AWAY_AFTER_S]
    edges.append(seconds)
    return [
        (a, min(b, seconds), PRESENCE_TRACK)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if a < seconds
    ]


def _union(views: Sequence[Rows]) -> Rows:
    """When anybody is in view."""
    merged: Rows = []
    for start_s, end_s, name in sorted(row for rows in views for row in rows):
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s), name)
        else:
            merged.append((start_s, end_s, name))
    return merged


def _opportunity() -> Household:
    return Household(
        home=OPPORTUNITY,
        subjects=4,
        write=_live_freely,
        tracks=_opportunity_tracks,
        sense=_sense_opportunity,
        classes=_opportunity_classes,
        places=len(THINGS),
        others={kind: s.label for kind, s in OPPORTUNITY.spots.items() if s.label},
    )


def _hwu() -> Household:
    known = kitchen()
    return Household(
        home=known.home,
        subjects=16,
        write=write_sequences,
        tracks=kitchen_tracks,
        sense=_sense_kitchen,
        classes=_kitchen_classes,
        activities=tuple(known.activities),
        others={kind: s.label for kind, s in known.home.spots.items() if s.label},
    )


def _live_freely(
    rngs: Sequence[np.random.Generator], level: Level, seconds: float, _: Sequence[str]
) -> list[list[Act]]:
    return write_scripts(rngs, level, seconds)


def _opportunity_tracks() -> list[SensorTrack]:
    return [*switch_tracks(), *accelerometer_tracks()]


def _opportunity_classes() -> Mapping[str, tuple[str, ...]]:
    return {"action": action_classes(), "place": tuple(t.name for t in THINGS)}


def _kitchen_classes() -> Mapping[str, tuple[str, ...]]:
    """Activities, and the cupboards that any of them uses."""
    known = kitchen()
    used = {
        place
        for activity in known.activities.values()
        for step in (*activity.first, *activity.then)
        for place in step.use
    }
    places = tuple(t.name for t in known.home.things if t.name in used)
    return {"activity": tuple(known.activities), "place": places}


def _sense_opportunity(
    _: Scripts, traces: Traces, level: Level, seed: int, rng: Rngs, __: float
) -> dict[str, Series]:
    faults = home_faults(np.random.default_rng([seed, 0]), level)
    return {
        **read_switches(traces, level, faults, rng(3)),
        **read_accelerometers(traces, level, faults, rng(4)),
    }


def _sense_kitchen(
    scripts: Scripts, traces: Traces, level: Level, seed: int, rng: Rngs, seconds: float
) -> dict[str, Series]:
    home = kitchen().home
    frames = int(seconds * home.sensor_hz)
    paths = [walk_through(home, s, traces.fraction, home.sensor_hz, frames) for s in scripts]
    return read_kitchen(scripts, paths, traces, level, np.random.default_rng([seed, 0]), rng(3))
