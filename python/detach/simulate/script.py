"""What people do in the home ``opportunity``: a random but plausible sequence of acts."""

from collections.abc import Sequence

import numpy as np

from detach.simulate.home import Point
from detach.simulate.levels import Level
from detach.simulate.opportunity_room import OPPORTUNITY, SPOTS, THINGS
from detach.simulate.plan import CLOSED, Act, Plan, Room, live

MOST_OPEN = 3
STARTS: tuple[Point, ...] = ((2.0, 2.2), (1.2, 2.4), (3.6, 1.9))
"""Where each of up to three people is at the start."""
DOORS = (0, 1)
FIRST_DRAWER = 4
BEYOND: dict[int, Point] = {0: (0.66, 4.75), 1: (5.55, 2.5)}
AWAY_S = (6.0, 12.0)
KINDS = (*SPOTS, "away", "walk")


def action_classes() -> tuple[str, ...]:
    """The 14 classes in the published order: both doors together, then thing by thing."""
    doors = [f"{verb} {THINGS[i].name}" for verb in ("Open", "Close") for i in DOORS]
    others = [f"{verb} {t.name}" for t in THINGS[2:] for verb in ("Open", "Close")]
    return (*doors, *others)


def write_scripts(
    rngs: Sequence[np.random.Generator], level: Level, duration_s: float
) -> list[list[Act]]:
    """Acts of each person, one after the other, without gaps, until at least ``duration_s``."""
    room = Room(OPPORTUNITY)
    plans = [Plan(room, rng, level, STARTS[i]) for i, rng in enumerate(rngs)]
    for plan in plans:
        plan.stay("stand", plan.draw((0.5, 2.0)))
    return live(plans, _decide, duration_s)


def _decide(plan: Plan) -> None:
    if plan.chance(plan.level.other):
        _other(plan)
        return
    thing = _choose(plan)
    if thing is None:
        plan.stay("stand", 1.0)
    else:
        _visit(plan, thing)


def _choose(plan: Plan) -> int | None:
    """The next thing, rarely used ones first; None where others are in the way of all."""
    room = plan.room
    opened = [i for i, f in enumerate(room.fraction) if f >= CLOSED and plan.reachable(i)]
    if len(opened) > MOST_OPEN:
        return int(plan.rng.choice(opened))
    uses = np.asarray(room.uses, dtype=np.float64)
    within = [plan.reachable(i) for i in range(len(uses))]
    weight = (1.0 + uses.max() - uses) ** 2 * within
    if not weight.any():
        return None
    return int(plan.rng.choice(len(THINGS), p=weight / weight.sum()))


def _visit(plan: Plan, thing: int) -> None:
    """One visit to a thing: open, open further, close, in an order that makes sense."""
    fraction, level = plan.room.fraction, plan.level
    for above in range(FIRST_DRAWER, thing):
        if fraction[above] > 2 * CLOSED:
            plan.use(above, 0.0)
    if fraction[thing] < CLOSED:
        plan.use(thing, _open_goal(plan, thing))
        if plan.chance(level.leave):
            return
        plan.pause()
    if fraction[thing] < 0.7 and plan.chance(0.4):
        plan.use(thing, 1.0)
        plan.pause()
    plan.use(thing, _close_goal(plan, thing))
    if fraction[thing] >= CLOSED and plan.chance(1.0 - level.leave):
        plan.pause()
        plan.use(thing, 1.0 if plan.chance(0.3) else 0.0)


def _open_goal(plan: Plan, thing: int) -> float:
    partial = plan.chance(plan.level.partial)
    return plan.room.fraction[thing] + plan.draw((0.35, 0.75)) if partial else 1.0


def _close_goal(plan: Plan, thing: int) -> float:
    f = plan.room.fraction[thing]
    if f > 0.6 and plan.chance(plan.level.partial):
        return f - plan.draw((0.35, 0.6)) * f
    return 0.0


def _other(plan: Plan) -> None:
    kind = KINDS[int(plan.rng.integers(len(KINDS)))]
    if kind == "walk":
        plan.walk((plan.draw((1.0, 3.6)), plan.draw((2.0, 2.6))), (2.4, 1.5))
        return
    if kind == "away":
        door = int(plan.rng.integers(len(DOORS)))
        if plan.reachable(door):
            _leave_room(plan, door)
            return
    elif plan.free(SPOTS[kind].stand):
        plan.walk(SPOTS[kind].stand, SPOTS[kind].face)
        plan.stay(kind, plan.draw(SPOTS[kind].lasts_s))
        return
    plan.stay("stand", 1.0)


def _leave_room(plan: Plan, door: int) -> None:
    """Out through a door and back, opening it first and perhaps closing it after."""
    if plan.room.fraction[door] < 0.8:
        plan.use(door, 1.0)
    plan.walk(THINGS[door].stand_at(1.0), BEYOND[door])
    plan.stay("away", plan.draw(AWAY_S), door, BEYOND[door])
    if plan.chance(1.0 - plan.level.leave):
        plan.use(door, 0.0)
