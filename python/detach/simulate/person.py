"""People: what their hands do, and the capsules they are drawn from.

Kinematic: `Body.limbs` bends the limbs for one moment of a path. Nothing here acts back on physics;
the hand follows the handle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.simulate.home import Colour, Home, Place
from detach.simulate.path import Path
from detach.simulate.physics import minimum_jerk
from detach.simulate.plan import Act

Array = NDArray[np.float64]
Goals = tuple[Array | None, Array | None]
"""Where the left and the right hand work; None for a hand at rest, NaN for the mouth."""

HIP_M = 0.90
THIGH_M, SHIN_M = 0.44, 0.43
UPPER_ARM_M, FOREARM_M = 0.30, 0.27
TORSO_M = 0.46
UP = np.array([0.0, 0.0, 1.0])
SKIN: Colour = (0.88, 0.66, 0.52)
SEAT_M = 0.50
APART_M = 0.16
"""Between two hands that work together."""
MOUTH = np.full(3, np.nan)


@dataclass(frozen=True)
class Limb:
    """A capsule from one point to another, or a sphere where both are the same."""

    start: Array
    end: Array
    radius: float
    colour: Colour


def effort(act: Act, t_s: float) -> float:
    """How far the hand has left its rest for its work: 0 at rest, 1 at the handle."""
    arrive_s = act.reach_s if act.kind == "use" else 0.6
    leave_s = 0.6 * act.release_s if act.kind == "use" else 0.5
    x = min((t_s - act.start_s) / arrive_s, (act.end_s - t_s) / leave_s, 1.0)
    return float(minimum_jerk(np.array(max(0.0, x))))


def hand_goals(home: Home, act: Act, t_s: float, handle: Array | None, left: Array) -> Goals:
    """Where both hands work; ``left`` is the direction to one's left."""
    if act.kind == "use":
        return (None, handle) if home.things[act.thing].right_hand else (handle, None)
    if act.kind == "take":
        return None, np.array(home.things[act.thing].inside)
    spot = home.spots.get(act.kind)
    if spot is None or spot.hand is None:
        return None, None
    since = t_s - act.start_s
    goal = np.array(spot.hand)
    if spot.gesture == "circle":
        turn = spot.rad_s * since
        swing = np.array([*spot.swing_m, 0.0])
        goal = goal + swing * [np.cos(turn), np.sin(turn), 0.0]
    elif spot.gesture == "mouth" and np.sin(spot.rad_s * since) >= 0:
        goal = MOUTH
    return (goal + left * APART_M if spot.both else None), goal


def items_of(home: Home, acts: Sequence[tuple[Act, float, Array]]) -> list[Limb]:
    """All items where they are now; ``acts`` are each person's act, effort and right hand."""
    limbs = []
    for name, item in home.items.items():
        at = np.array(item.at)
        for act, work, hand in acts:
            spot = home.spots.get(act.kind)
            if name == act.holds or (spot is not None and name == spot.holds and work > 0.8):
                at = hand
        limbs.append(Limb(at, at + UP * item.height_m, item.radius_m, item.colour))
    return limbs


@dataclass(frozen=True)
class Figure:
    """A person at one moment."""

    limbs: list[Limb]
    hand: Array
    """The right one."""
    head: Array
    gaze: Array
    """A point that is looked at."""


@dataclass(frozen=True)
class Body:
    """One person's size and clothes."""

    scale: float
    shirt: Colour
    trousers: Colour
    hair: Colour

    def figure(
        self, home: Home, path: Path, frame: int, act: Act, t_s: float, handle: Array | None
    ) -> Figure:
        """How the person stands at one moment."""
        ahead, left = _axes(path.heading[frame])
        ground = np.array([*path.at[frame], 0.0])
        work = effort(act, t_s)
        goals = hand_goals(home, act, t_s, handle, left)
        lowest = min([float(g[2]) for g in goals if g is not None and np.isfinite(g[2])] or [1.2])
        low = work * float(np.clip((1.0 - lowest) / 0.8, 0.0, 1.0))
        spot = home.spots.get(act.kind)
        sitting = work if spot is not None and spot.seated else 0.0
        lean = 0.06 * min(1.0, path.speed[frame]) + 0.75 * low + 0.12 * work * (1 - sitting)
        drop = max(0.30 * low, sitting * (HIP_M - SEAT_M))
        pelvis = ground + UP * (HIP_M - drop) * self.scale - ahead * (0.22 * low + 0.36 * sitting)
        spine = UP * np.cos(lean) + ahead * np.sin(lean)
        chest = pelvis + spine * TORSO_M * self.scale
        legs = self._legs(path, frame, ground, pelvis, ahead, left, sitting)
        head = chest + (0.85 * spine + 0.15 * ahead) * 0.27 * self.scale
        works = (work, work)
        if act.holds and goals[1] is None:  # what is carried is held before the chest
            carried = chest + ahead * 0.3 - UP * 0.2 * self.scale - left * 0.1
            goals, works = (goals[0], carried), (work, 1.0)
        arms = self._arms(path, frame, chest, head, ahead, left, goals, works)
        limbs = [*legs, *self._trunk(pelvis, chest, head, ahead, left), *arms]
        gaze = head + 1.2 * ahead - 0.4 * UP
        seen: Array | Place | None = handle if spot is None else spot.hand
        if act.kind == "take":
            seen = home.things[act.thing].inside
        if seen is not None:
            gaze = gaze + work * (np.array(seen) - gaze)
        return Figure(limbs, arms[-1].end, head, gaze)

    def _trunk(
        self, pelvis: Array, chest: Array, head: Array, ahead: Array, left: Array
    ) -> list[Limb]:
        s = self.scale
        return [
            Limb(pelvis - left * 0.07 * s, pelvis + left * 0.07 * s, 0.125 * s, self.trousers),
            Limb(pelvis + UP * 0.08 * s, chest - (chest - pelvis) * 0.15, 0.145 * s, self.shirt),
            Limb(chest - left * 0.13 * s, chest + left * 0.13 * s, 0.085 * s, self.shirt),
            Limb(chest, head, 0.055 * s, SKIN),
            Limb(head, head, 0.112 * s, SKIN),
            Limb(head - ahead * 0.03, head - ahead * 0.035 + UP * 0.045, 0.108 * s, self.hair),
        ]

    def _legs(
        self,
        path: Path,
        frame: int,
        ground: Array,
        pelvis: Array,
        ahead: Array,
        left: Array,
        sitting: float,
    ) -> list[Limb]:
        limbs = []
        swing = min(1.0, path.speed[frame] / 0.7)
        for side, phase in ((1, 0.0), (-1, np.pi)):
            turn = path.gait[frame] + phase
            hip = pelvis + left * 0.10 * side * self.scale
            ankle = ground + left * 0.10 * side + ahead * (0.30 * swing * np.sin(turn))
            ankle = ankle + UP * (0.07 + 0.10 * swing * max(0.0, np.cos(turn)))
            ankle = ankle + ahead * 0.05 * sitting
            knee, ankle = bend(
                hip, ankle, THIGH_M * self.scale, SHIN_M * self.scale, ahead + 0.1 * left * side
            )
            limbs += [
                Limb(hip, knee, 0.082 * self.scale, self.trousers),
                Limb(knee, ankle, 0.062 * self.scale, self.trousers),
                Limb(ankle - UP * 0.03, ankle - UP * 0.03 + ahead * 0.14, 0.045, (0.15, 0.12, 0.1)),
            ]
        return limbs

    def _arms(
        self,
        path: Path,
        frame: int,
        chest: Array,
        head: Array,
        ahead: Array,
        left: Array,
        goals: Goals,
        works: tuple[float, float],
    ) -> list[Limb]:
        limbs = []
        swing = min(1.0, path.speed[frame] / 0.8)
        sides = zip((1, -1), (np.pi, 0.0), goals, works, strict=True)
        for side, phase, goal, work in sides:
            shoulder = chest + left * 0.20 * side * self.scale - UP * 0.02
            sway = 0.22 * swing * np.sin(path.gait[frame] + phase)
            hand = shoulder - UP * 0.53 * self.scale + ahead * (0.08 + sway) + left * 0.05 * side
            if goal is not None:
                target = head + ahead * 0.14 - UP * 0.05 if np.isnan(goal[0]) else goal
                hand = hand + work * (target - hand) + UP * 0.1 * work * (1 - work)
            elbow, hand = bend(
                shoulder,
                hand,
                UPPER_ARM_M * self.scale,
                FOREARM_M * self.scale,
                left * 0.5 * side - UP * 0.6 - ahead * 0.5,
            )
            limbs += [
                Limb(shoulder, elbow, 0.053 * self.scale, self.shirt),
                Limb(elbow, hand, 0.043 * self.scale, SKIN),
                Limb(hand, hand, 0.052 * self.scale, SKIN),
            ]
        return limbs


def bend(root: Array, goal: Array, upper: float, lower: float, hint: Array) -> tuple[Array, Array]:
    """A limb of two parts from ``root`` towards ``goal``: where its joint and its end are.

    The joint points towards ``hint``; a goal out of reach is approached as far as the limb goes.
    """
    way = goal - root
    distance = float(np.linalg.norm(way))
    reach = min(max(distance, abs(upper - lower) + 0.02), 0.999 * (upper + lower))
    along = way / max(distance, 1e-9)
    across = hint - along * float(hint @ along)
    across = across / max(float(np.linalg.norm(across)), 1e-9)
    cosine = (upper**2 + reach**2 - lower**2) / (2 * upper * reach)
    sine = np.sqrt(max(0.0, 1.0 - cosine**2))
    return root + upper * (cosine * along + sine * across), root + reach * along


def _axes(heading: float) -> tuple[Array, Array]:
    c, s = np.cos(heading), np.sin(heading)
    return np.array([c, s, 0.0]), np.array([-s, c, 0.0])


SHIRTS: tuple[Colour, ...] = (
    (0.80, 0.25, 0.22),
    (0.20, 0.40, 0.75),
    (0.92, 0.72, 0.20),
    (0.55, 0.30, 0.62),
)
TROUSERS: tuple[Colour, ...] = (
    (0.18, 0.20, 0.32),
    (0.35, 0.28, 0.22),
    (0.22, 0.22, 0.24),
    (0.30, 0.38, 0.30),
)

HAIR: tuple[Colour, ...] = (
    (0.16, 0.10, 0.07),
    (0.45, 0.30, 0.15),
    (0.10, 0.10, 0.10),
    (0.60, 0.60, 0.60),
)
SCALES = (0.96, 1.02, 1.05, 0.92)


def subject_body(subject: int, rng: np.random.Generator) -> Body:
    """Size and clothes of one of sixteen people; clothes change a little from run to run."""
    group, member = divmod(subject % 16, 4)
    tint = rng.uniform(0.85, 1.1)
    shirt = tuple(float(min(1.0, c * tint)) for c in SHIRTS[member])
    return Body(
        scale=SCALES[member] + 0.012 * group,
        shirt=(shirt[0], shirt[1], shirt[2]),
        trousers=TROUSERS[int(rng.integers(4))],
        hair=HAIR[(member + group) % 4],
    )
