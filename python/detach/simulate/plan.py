"""What happens when: acts one after the other, planned before physics runs, for one or more people.

People share the state of things and keep out of each other's way: whoever is behind decides next,
and not for a place where another is or will be.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from detach.simulate.home import Home, Point
from detach.simulate.levels import Level, Range

CLOSED = 0.12
"""A thing whose travel is below this share counts as closed."""
ELBOW_ROOM_M = 0.7
"""Nearer than this two people do not work."""


@dataclass(frozen=True, kw_only=True)
class Act:
    """Something the person does from ``start_s`` to ``end_s``, ending at ``at`` on the plan."""

    kind: str
    """walk, stand, use, take, away, or the name of a spot."""
    start_s: float
    end_s: float
    at: Point
    face: Point
    thing: int = -1
    name: str = ""
    """Of the thing."""
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
    holds: str = ""
    """Item that is carried."""

    @property
    def opens(self) -> bool:
        """Whether it opens the thing, be it not entirely."""
        return self.goal > self.begin

    @property
    def label(self) -> str:
        """The class of a use, such as ``Open Door 1``."""
        return f"{'Open' if self.opens else 'Close'} {self.name}"


@dataclass
class Room:
    """What people share: how far things are open, how often they were used, and who is where."""

    home: Home
    fraction: list[float] = field(default_factory=list)
    uses: list[int] = field(default_factory=list)
    plans: list["Plan"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fraction = [0.0] * len(self.home.things)
        self.uses = [0] * len(self.home.things)


class Plan:
    """The acts of one person so far."""

    def __init__(self, room: Room, rng: np.random.Generator, level: Level, start: Point) -> None:
        self.room, self.rng, self.level = room, rng, level
        self.t_s, self.at = 0.0, start
        self.face: Point = (2.5, 3.0)
        self.holds = ""
        self.acts: list[Act] = []
        self.pace_m_s = self.draw(level.walk_m_s)
        room.plans.append(self)

    def draw(self, between: Range) -> float:
        """Uniform."""
        return float(self.rng.uniform(*between))

    def chance(self, p: float) -> bool:
        """True with probability ``p``."""
        return bool(self.rng.random() < p)

    def free(self, *points: Point) -> bool:
        """Whether nobody else is, or will be, near any of these points."""
        return all(
            math.dist(act.at, point) > ELBOW_ROOM_M
            for other in self.room.plans
            if other is not self
            for act in other.acts
            if act.end_s > self.t_s
            for point in points
        )

    def reachable(self, thing: int) -> bool:
        """Whether a thing can be used without getting in somebody's way."""
        known = self.room.home.things[thing]
        return self.free(known.stand_closed, known.stand_open)

    def use(self, thing: int, goal: float) -> None:
        """Goes to a thing and opens or closes it up to ``goal``."""
        level, begin = self.level, self.room.fraction[thing]
        known = self.room.home.things[thing]
        goal = min(1.0, max(0.0, goal))
        opens, at_stop = goal > begin, goal in (0.0, 1.0)
        self.walk(known.stand_at(begin), known.face)
        reach_s, release_s = self.draw(level.reach_s), self.draw(level.release_s)
        # A short way takes less time, but a hand is not arbitrarily quick.
        move_s = self.draw(level.move_s) * (0.45 + 0.55 * abs(goal - begin))
        push = self.draw(level.push_open if opens else level.push_close) if at_stop else 0.0
        start_s, self.t_s = self.t_s, self.t_s + reach_s + move_s + release_s
        act = Act(
            kind="use",
            start_s=start_s,
            end_s=self.t_s,
            at=known.stand_at(goal),
            face=known.face,
            thing=thing,
            name=known.name,
            begin=begin,
            goal=goal,
            push=push if opens else -push,
            reach_s=reach_s,
            release_s=release_s,
            skew=self.draw((0.75, 1.35)) if level.hesitate else 1.0,
            halt=self.draw((0.3, 0.7)) if self.chance(level.hesitate) else 0.0,
            throw=at_stop and self.chance(level.throw),
            holds=self.holds,
        )
        self.acts.append(act)
        self.at, self.face = act.at, act.face
        self.room.fraction[thing] = goal
        self.room.uses[thing] += 1

    def stay(self, kind: str, seconds: float, thing: int = -1, face: Point | None = None) -> None:
        """Stays where one is."""
        act = Act(
            kind=kind,
            start_s=self.t_s,
            end_s=self.t_s + seconds,
            at=self.at,
            face=self.face if face is None else face,
            thing=thing,
            holds=self.holds,
        )
        self.acts.append(act)
        self.t_s += seconds

    def pause(self) -> None:
        """A moment between two acts."""
        self.stay("stand", self.draw(self.level.pause_s))

    def walk(self, to: Point, face: Point) -> None:
        """Goes somewhere, unless one is there."""
        distance_m = math.dist(self.at, to)
        if distance_m > 0.05:
            seconds = 0.35 + distance_m / self.pace_m_s * self.draw((0.9, 1.15))
            end_s = self.t_s + seconds
            self.acts.append(
                Act(
                    kind="walk",
                    start_s=self.t_s,
                    end_s=end_s,
                    at=to,
                    face=face,
                    holds=self.holds,
                )
            )
            self.t_s = end_s
        self.at, self.face = to, face


def live(
    plans: Sequence[Plan], decide: Callable[[Plan], None], duration_s: float
) -> list[list[Act]]:
    """Whoever's plan ends first decides what comes next, until all plans are long enough."""
    while min(plan.t_s for plan in plans) < duration_s:
        decide(min(plans, key=lambda plan: plan.t_s))
    return [plan.acts for plan in plans]


def uses_of(scripts: Iterable[Sequence[Act]]) -> list[Act]:
    """All uses of all people, in order of their start."""
    acts = [act for script in scripts for act in script if act.kind == "use"]
    return sorted(acts, key=lambda act: act.start_s)
