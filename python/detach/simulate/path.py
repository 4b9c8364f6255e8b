"""Where a person is at each moment: the way through a plan, laid out once for a whole run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.simulate.home import Home, Point
from detach.simulate.physics import STEPS_HZ, minimum_jerk
from detach.simulate.plan import Act

Array = NDArray[np.float64]

STRIDE_M = 1.25
AWAY_AFTER_S = 1.9
"""After so long on the way out one is behind the wall."""


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
    home: Home, acts: Sequence[Act], fraction: NDArray[np.float32], fps: float, frames: int
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
            at[mine] = _positions(home, act, came_from, t_s[mine], open_by)
            heading[mine] = _headings(act, at[mine])
        came_from = act.at
    at = np.stack([_smooth(at[:, 0], 0.12 * fps), _smooth(at[:, 1], 0.12 * fps)], axis=1)
    heading = _smooth(np.unwrap(heading), 0.18 * fps)
    moved = np.linalg.norm(np.diff(at, axis=0, prepend=at[:1]), axis=1)
    gait = np.cumsum(moved) / STRIDE_M * 2 * np.pi
    return Path(at, heading, gait, moved * fps, act_of)


def _positions(home: Home, act: Act, start: Point, t_s: Array, open_by: Array) -> Array:
    tau = np.clip((t_s - act.start_s) / (act.end_s - act.start_s), 0.0, 1.0)
    if act.kind == "walk":
        s = (0.35 * minimum_jerk(tau) + 0.65 * tau)[:, None]
        # Bend the way towards the free middle of the room.
        bend = np.array([(start[0] + act.at[0]) / 2, min(start[1], act.at[1], home.free_y) - 0.1])
        way = (1 - s) ** 2 * start + 2 * s * (1 - s) * bend + s**2 * np.array(act.at)
        return np.asarray(way)
    if act.kind == "use":
        return np.array([home.things[act.thing].stand_at(float(f)) for f in open_by])
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
