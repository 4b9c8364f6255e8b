"""The person: where they stand, what their hands do, and the capsules they are drawn from.

Kinematic: `walk_through` lays out the path once for a whole run, `Body.limbs` bends the limbs
for one moment. Nothing here acts back on physics; the hand follows the handle.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.simulate.home import THINGS
from detach.simulate.physics import STEPS_HZ, minimum_jerk
from detach.simulate.script import Act, stand_at

Array = NDArray[np.float64]
Colour = tuple[float, float, float]

HIP_M = 0.90
THIGH_M, SHIN_M = 0.44, 0.43
UPPER_ARM_M, FOREARM_M = 0.30, 0.27
TORSO_M = 0.46
STRIDE_M = 1.25
UP = np.array([0.0, 0.0, 1.0])
SKIN: Colour = (0.88, 0.66, 0.52)
SEAT_M = 0.50
AWAY_AFTER_S = 1.9
"""After so long on the way out one is behind the wall."""
CUP_COLOUR: Colour = (0.2, 0.35, 0.8)
CUP = np.array([2.25, 1.64, 0.78])
LIGHT_SWITCH = np.array([1.31, 3.76, 1.15])


@dataclass(frozen=True)
class Limb:
    """A capsule from one point to another, or a sphere where both are the same."""

    start: Array
    end: Array
    radius: float
    colour: Colour


@dataclass(frozen=True)
class Path:
    """Where the person is at each frame, F frames."""

    at: Array
    """[F, 2]"""
    heading: Array
    """[F], radians"""
    gait: Array
    """[F], phase of the step, radians"""
    speed: Array
    """[F], m/s"""
    act: NDArray[np.int64]
    """[F], which act is going on"""


def walk_through(
    acts: Sequence[Act], fraction: NDArray[np.float32], fps: float, frames: int
) -> Path:
    """The path through all ``acts``; ``fraction`` is that of `physics.Traces`."""
    t_s = np.asarray((np.arange(frames) + 0.5) / fps, dtype=np.float64)
    act_of = np.clip(
        np.searchsorted([a.start_s for a in acts], t_s, side="right") - 1, 0, len(acts) - 1
    )
    at, heading = np.zeros((frames, 2)), np.zeros(frames)
    open_by: Array
    came_from = acts[0].at
    for i, act in enumerate(acts):
        mine = np.flatnonzero(act_of == i)
        if mine.size:
            step = np.minimum((t_s[mine] * STEPS_HZ).astype(int), len(fraction) - 1)
            open_by = np.zeros(mine.size)
            if act.kind == "use":
                open_by = fraction[step, act.thing].astype(np.float64)
            at[mine] = _positions(act, came_from, t_s[mine], open_by)
            heading[mine] = _headings(act, at[mine])
        came_from = act.at
    at = np.stack([_smooth(at[:, 0], 0.12 * fps), _smooth(at[:, 1], 0.12 * fps)], axis=1)
    heading = _smooth(np.unwrap(heading), 0.18 * fps)
    moved = np.linalg.norm(np.diff(at, axis=0, prepend=at[:1]), axis=1)
    gait = np.cumsum(moved) / STRIDE_M * 2 * np.pi
    return Path(at, heading, gait, moved * fps, act_of)


def _positions(act: Act, start: tuple[float, float], t_s: Array, open_by: Array) -> Array:
    tau = np.clip((t_s - act.start_s) / (act.end_s - act.start_s), 0.0, 1.0)
    if act.kind == "walk":
        s = (0.35 * minimum_jerk(tau) + 0.65 * tau)[:, None]
        # Bend the way towards the free middle of the room.
        bend = np.array([(start[0] + act.at[0]) / 2, min(start[1], act.at[1], 2.45) - 0.1])
        way = (1 - s) ** 2 * start + 2 * s * (1 - s) * bend + s**2 * np.array(act.at)
        return np.asarray(way)
    if act.kind == "use":
        return np.array([stand_at(act.thing, float(f)) for f in open_by])
    if act.kind == "away":
        out = np.clip(np.minimum(t_s - act.start_s, act.end_s - t_s) / 2.2, 0.0, 1.0)[:, None]
        return np.asarray((1 - out) * np.array(act.at) + out * np.array(act.face))
    return np.tile(np.array(act.at), (len(t_s), 1))


def _headings(act: Act, at: Array) -> Array:
    """Towards what is faced; along the way while walking."""
    face = np.array(act.face) - at
    if act.kind in {"walk", "away"} and len(at) > 2:
        way = np.gradient(at, axis=0)
        last = np.arange(len(at)) > 0.75 * len(at)
        moving = np.linalg.norm(way, axis=1) > 0.01
        face = np.where((moving & ~(last & (act.kind == "walk")))[:, None], way, face)
    return np.asarray(np.arctan2(face[:, 1], face[:, 0]))


def _smooth(x: Array, sigma: float) -> Array:
    reach = int(3 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.concatenate([np.full(reach, x[0]), x, np.full(reach, x[-1])])
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def in_sight(act: Act, t_s: float) -> bool:
    """False while the person is behind a wall."""
    return act.kind != "away" or min(t_s - act.start_s, act.end_s - t_s) < AWAY_AFTER_S


def effort(act: Act, t_s: float) -> float:
    """How far the hand has left its rest for its work: 0 at rest, 1 at the handle."""
    arrive_s = act.reach_s if act.kind == "use" else 0.6
    leave_s = 0.6 * act.release_s if act.kind == "use" else 0.5
    x = min((t_s - act.start_s) / arrive_s, (act.end_s - t_s) / leave_s, 1.0)
    return float(minimum_jerk(np.array(max(0.0, x))))


def hand_goals(act: Act, t_s: float, handle: Array | None) -> tuple[Array | None, Array | None]:
    """Where the left and the right hand work; None for a hand at rest."""
    since = t_s - act.start_s
    if act.kind == "use":
        return (None, handle) if THINGS[act.thing].right_hand else (handle, None)
    if act.kind == "clean":
        circle = [0.2 * np.cos(3.2 * since), 0.12 * np.sin(3.2 * since), 0.0]
        return None, np.array([2.33, 1.55, 0.79]) + circle
    if act.kind == "drink":
        return None, CUP if np.sin(1.9 * since) < 0 else np.array([np.nan] * 3)
    if act.kind == "toggle":
        return None, LIGHT_SWITCH
    return None, None


@dataclass(frozen=True)
class Body:
    """One person's size and clothes."""

    scale: float
    shirt: Colour
    trousers: Colour
    hair: Colour

    def limbs(
        self, path: Path, frame: int, act: Act, t_s: float, handle: Array | None
    ) -> list[Limb]:
        """All capsules at one moment."""
        ahead, left = _axes(path.heading[frame])
        ground = np.array([*path.at[frame], 0.0])
        work = effort(act, t_s)
        goals = hand_goals(act, t_s, handle)
        lowest = min([float(g[2]) for g in goals if g is not None and np.isfinite(g[2])] or [1.2])
        low = work * float(np.clip((1.0 - lowest) / 0.8, 0.0, 1.0))
        sitting = work if act.kind == "sit" else 0.0
        lean = 0.06 * min(1.0, path.speed[frame]) + 0.75 * low + 0.12 * work * (1 - sitting)
        drop = max(0.30 * low, sitting * (HIP_M - SEAT_M))
        pelvis = ground + UP * (HIP_M - drop) * self.scale - ahead * (0.22 * low + 0.36 * sitting)
        spine = UP * np.cos(lean) + ahead * np.sin(lean)
        chest = pelvis + spine * TORSO_M * self.scale
        legs = self._legs(path, frame, ground, pelvis, ahead, left, sitting)
        head = chest + (0.85 * spine + 0.15 * ahead) * 0.27 * self.scale
        arms = self._arms(path, frame, chest, head, ahead, left, goals, work)
        cup = arms[-1].end if act.kind == "drink" and work > 0.8 else CUP
        return [
            *legs,
            *self._trunk(pelvis, chest, head, ahead, left),
            *arms,
            Limb(cup, cup + UP * 0.06, 0.04, CUP_COLOUR),
        ]

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
        goals: tuple[Array | None, Array | None],
        work: float,
    ) -> list[Limb]:
        limbs = []
        swing = min(1.0, path.speed[frame] / 0.8)
        for side, phase, goal in ((1, np.pi, goals[0]), (-1, 0.0, goals[1])):
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


def subject_body(subject: int, rng: np.random.Generator) -> Body:
    """Size and clothes of one of four people; clothes change a little from run to run."""
    tint = rng.uniform(0.85, 1.1)
    shirt = tuple(float(min(1.0, c * tint)) for c in SHIRTS[subject % 4])
    return Body(
        scale=(0.96, 1.02, 1.05, 0.92)[subject % 4],
        shirt=(shirt[0], shirt[1], shirt[2]),
        trousers=TROUSERS[int(rng.integers(4))],
        hair=HAIR[subject % 4],
    )
