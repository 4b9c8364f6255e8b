"""What happens when: a random but plausible sequence of acts, written before physics runs."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detach.simulate.home import THINGS
from detach.simulate.levels import Level, Range

Kind = Literal["walk", "stand", "use", "clean", "drink", "toggle", "sit", "look", "away"]
Point = tuple[float, float]

CLOSED = 0.12
"""A thing whose travel is below this share counts as closed."""
MOST_OPEN = 3
START: Point = (2.0, 2.2)
DOORS = (0, 1)
FIRST_DRAWER = 4
BEYOND: dict[int, Point] = {0: (0.66, 4.75), 1: (5.55, 2.5)}
PLACES: dict[Kind, tuple[Point, Point]] = {
    "clean": ((2.35, 2.02), (2.35, 1.4)),
    "drink": ((2.1, 2.02), (2.25, 1.4)),
    "toggle": ((1.22, 3.32), (1.31, 3.8)),
    "sit": ((3.72, 1.15), (2.5, 1.15)),
    "look": ((3.42, 1.25), (4.6, 1.2)),
}
"""Where one stands for each other activity, and what one faces."""
LASTS_S: dict[Kind, Range] = {
    "clean": (4.0, 8.0),
    "drink": (4.0, 6.5),
    "toggle": (1.8, 2.6),
    "sit": (5.0, 11.0),
    "look": (2.5, 5.0),
    "away": (6.0, 12.0),
}
OTHER_NAMES: dict[Kind, str] = {
    "clean": "Clean Table",
    "drink": "Drink from Cup",
    "toggle": "Toggle Switch",
    "sit": "Sit",
}


@dataclass(frozen=True, kw_only=True)
class Act:
    """Something the person does from ``start_s`` to ``end_s``, ending at ``at`` on the plan."""

    kind: Kind
    start_s: float
    end_s: float
    at: Point
    face: Point
    thing: int = -1
    begin: float = 0.0
    """How far the thing is open when the act begins, as planned."""
    goal: float = 0.0
    push: float = 0.0
    reach_s: float = 0.0
    release_s: float = 0.0
    skew: float = 1.0
    """Below 1 the movement is fast at first, above 1 at the end."""
    halt: float = 0.0
    """Where on the way it stops for a moment; 0 for nowhere."""
    throw: bool = False

    @property
    def opens(self) -> bool:
        """Whether it opens the thing, be it not entirely."""
        return self.goal > self.begin

    @property
    def label(self) -> str:
        """The class of a use, such as ``Open Door 1``."""
        return f"{'Open' if self.opens else 'Close'} {THINGS[self.thing].name}"


def action_classes() -> tuple[str, ...]:
    """The 14 classes in the published order: both doors together, then thing by thing."""
    doors = [f"{verb} {THINGS[i].name}" for verb in ("Open", "Close") for i in DOORS]
    others = [f"{verb} {t.name}" for t in THINGS[2:] for verb in ("Open", "Close")]
    return (*doors, *others)


def stand_at(thing: int, fraction: float) -> Point:
    """Where one stands to use a thing that is open by ``fraction``."""
    closed, opened = THINGS[thing].stand_closed, THINGS[thing].stand_open
    f = min(1.0, max(0.0, fraction))
    return (
        closed[0] + f * (opened[0] - closed[0]),
        closed[1] + f * (opened[1] - closed[1]),
    )


def write_script(rng: np.random.Generator, level: Level, duration_s: float) -> list[Act]:
    """Acts one after the other, without gaps, until at least ``duration_s``."""
    return _Writer(rng, level).write(duration_s)


class _Writer:
    def __init__(self, rng: np.random.Generator, level: Level) -> None:
        self.rng, self.level = rng, level
        self.t_s, self.at, self.face = 0.0, START, (2.5, 3.0)
        self.acts: list[Act] = []
        self.fraction = [0.0] * len(THINGS)
        self.uses = np.zeros(len(THINGS))
        self.pace_m_s = self._draw(level.walk_m_s)

    def write(self, duration_s: float) -> list[Act]:
        self._stay("stand", self._draw((0.5, 2.0)))
        while self.t_s < duration_s:
            if self.rng.random() < self.level.other:
                self._other()
            else:
                self._visit(self._choose())
        return self.acts

    def _draw(self, between: Range) -> float:
        return float(self.rng.uniform(*between))

    def _chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def _choose(self) -> int:
        opened = [i for i, f in enumerate(self.fraction) if f >= CLOSED]
        if len(opened) > MOST_OPEN:
            return int(self.rng.choice(opened))
        weight = (1.0 + self.uses.max() - self.uses) ** 2
        return int(self.rng.choice(len(THINGS), p=weight / weight.sum()))

    def _visit(self, thing: int) -> None:
        """One visit to a thing: open, open further, close, in an order that makes sense."""
        for above in range(FIRST_DRAWER, thing):
            if self.fraction[above] > 2 * CLOSED:
                self._use(above, 0.0)
        if self.fraction[thing] < CLOSED:
            self._use(thing, self._open_goal(thing))
            if self._chance(self.level.leave):
                return
            self._pause()
        if self.fraction[thing] < 0.7 and self._chance(0.4):
            self._use(thing, 1.0)
            self._pause()
        self._use(thing, self._close_goal(thing))
        if self.fraction[thing] >= CLOSED and self._chance(1.0 - self.level.leave):
            self._pause()
            self._use(thing, 1.0 if self._chance(0.3) else 0.0)

    def _open_goal(self, thing: int) -> float:
        partial = self._chance(self.level.partial)
        return self.fraction[thing] + self._draw((0.35, 0.75)) if partial else 1.0

    def _close_goal(self, thing: int) -> float:
        f = self.fraction[thing]
        if f > 0.6 and self._chance(self.level.partial):
            return f - self._draw((0.35, 0.6)) * f
        return 0.0

    def _use(self, thing: int, goal: float) -> None:
        level, begin = self.level, self.fraction[thing]
        goal = min(1.0, max(0.0, goal))
        opens, at_stop = goal > begin, goal in (0.0, 1.0)
        self._walk(stand_at(thing, begin), THINGS[thing].face)
        reach_s, release_s = self._draw(level.reach_s), self._draw(level.release_s)
        # A short way takes less time, but a hand is not arbitrarily quick.
        move_s = self._draw(level.move_s) * (0.45 + 0.55 * abs(goal - begin))
        push = self._draw(level.push_open if opens else level.push_close) if at_stop else 0.0
        start_s, self.t_s = self.t_s, self.t_s + reach_s + move_s + release_s
        act = Act(
            kind="use",
            start_s=start_s,
            end_s=self.t_s,
            at=stand_at(thing, goal),
            face=THINGS[thing].face,
            thing=thing,
            begin=begin,
            goal=goal,
            push=push if opens else -push,
            reach_s=reach_s,
            release_s=release_s,
            skew=self._draw((0.75, 1.35)) if level.hesitate else 1.0,
            halt=self._draw((0.3, 0.7)) if self._chance(level.hesitate) else 0.0,
            throw=at_stop and self._chance(level.throw),
        )
        self.acts.append(act)
        self.at, self.face = act.at, act.face
        self.fraction[thing] = goal
        self.uses[thing] += 1

    def _pause(self) -> None:
        self._stay("stand", self._draw(self.level.pause_s))

    def _other(self) -> None:
        kinds: tuple[Kind, ...] = ("clean", "drink", "toggle", "sit", "look", "away", "walk")
        kind = kinds[int(self.rng.integers(len(kinds)))]
        if kind == "walk":
            self._walk((self._draw((1.0, 3.6)), self._draw((2.0, 2.6))), (2.4, 1.5))
        elif kind == "away":
            self._leave_room(int(self.rng.integers(len(DOORS))))
        else:
            self._walk(*PLACES[kind])
            self._stay(kind, self._draw(LASTS_S[kind]))

    def _leave_room(self, door: int) -> None:
        """Out through a door and back, opening it first and perhaps closing it after."""
        if self.fraction[door] < 0.8:
            self._use(door, 1.0)
        self._walk(stand_at(door, 1.0), BEYOND[door])
        seconds = self._draw(LASTS_S["away"])
        self.acts.append(
            Act(
                kind="away",
                start_s=self.t_s,
                end_s=self.t_s + seconds,
                at=self.at,
                face=BEYOND[door],
                thing=door,
            )
        )
        self.t_s += seconds
        if self._chance(1.0 - self.level.leave):
            self._use(door, 0.0)

    def _stay(self, kind: Kind, seconds: float) -> None:
        act = Act(kind=kind, start_s=self.t_s, end_s=self.t_s + seconds, at=self.at, face=self.face)
        self.acts.append(act)
        self.t_s += seconds

    def _walk(self, to: Point, face: Point) -> None:
        distance_m = math.dist(self.at, to)
        if distance_m > 0.05:
            seconds = 0.35 + distance_m / self.pace_m_s * self._draw((0.9, 1.15))
            end_s = self.t_s + seconds
            self.acts.append(Act(kind="walk", start_s=self.t_s, end_s=end_s, at=to, face=face))
            self.t_s = end_s
        self.at, self.face = to, face
