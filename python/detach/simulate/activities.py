"""What people do in the home ``hwu``: an activity a sequence, as its steps say."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from detach.simulate.home import Point
from detach.simulate.hwu_kitchen import Step, kitchen
from detach.simulate.levels import Level
from detach.simulate.plan import CLOSED, Act, Plan, Room, live

STARTS: tuple[Point, ...] = ((1.4, 1.9), (2.3, 2.0), (0.9, 2.1))
"""Where each of up to three people is at the start, give or take `AROUND_M`."""
AROUND_M = 0.25
TAKE_S = (0.9, 1.9)
"""How long one has a hand in a cupboard."""


@dataclass
class _Doer:
    """Where one is in an activity."""

    first: list[Step]
    then: tuple[Step, ...]
    left_open: list[int] = field(default_factory=list)

    def next_step(self) -> Step:
        if not self.first:
            self.first = list(self.then)
        return self.first.pop(0)


def write_sequences(
    rngs: Sequence[np.random.Generator],
    level: Level,
    duration_s: float,
    activities: Sequence[str],
) -> list[list[Act]]:
    """Acts of each person, who does the activity of the same place in ``activities``."""
    known = kitchen()
    room = Room(known.home)
    doers = {}
    plans = []
    for rng, start, name in zip(rngs, STARTS, activities, strict=False):
        near = (start[0] + rng.uniform(-AROUND_M, AROUND_M), start[1] + rng.uniform(0, AROUND_M))
        plan = Plan(room, rng, level, near)
        plan.stay("stand", plan.draw((0.3, 1.2)))
        doers[id(plan)] = _Doer(list(known.activities[name].first), known.activities[name].then)
        plans.append(plan)
    return live(plans, lambda plan: _decide(plan, doers[id(plan)]), duration_s)


def _decide(plan: Plan, doer: _Doer) -> None:
    """One step; what another person stands before is waited for."""
    step = doer.next_step()
    if not plan.chance(step.chance):
        return
    if step.do:
        spot = plan.room.home.spots[step.do]
        if not plan.free(spot.stand):
            _wait(plan, doer, step)
            return
        plan.walk(spot.stand, spot.face)
        plan.stay(step.do, plan.draw(spot.lasts_s))
    else:
        within = [i for i in map(plan.room.home.thing, step.use) if plan.reachable(i)]
        if not within:
            _wait(plan, doer, step)
            return
        _fetch(plan, doer, int(plan.rng.choice(within)))
    plan.holds = step.carries
    if doer.left_open and plan.chance(0.5) and plan.reachable(doer.left_open[0]):
        _close(plan, doer.left_open.pop(0))


def _wait(plan: Plan, doer: _Doer, step: Step) -> None:
    """Stands by for a second, or steps aside, lest two wait for each other for ever."""
    doer.first.insert(0, step)
    if plan.chance(0.3):
        plan.walk((plan.draw((0.9, 2.6)), plan.draw((1.9, 2.2))), plan.face)
    plan.stay("stand", 1.0)


def _fetch(plan: Plan, doer: _Doer, thing: int) -> None:
    """Opens, takes or puts away something, and closes, unless that is forgotten for a while."""
    if plan.room.fraction[thing] < CLOSED:
        wide = plan.draw((0.55, 1.0)) if plan.chance(plan.level.partial) else 1.0
        plan.use(thing, wide)
    plan.stay("take", plan.draw(TAKE_S), thing)
    if plan.chance(plan.level.leave):
        doer.left_open.append(thing)
    else:
        _close(plan, thing)


def _close(plan: Plan, thing: int) -> None:
    if plan.room.fraction[thing] >= CLOSED:
        plan.use(thing, 0.0)
