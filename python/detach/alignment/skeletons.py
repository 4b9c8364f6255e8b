"""Simulated joints of whole actions: what MASA and CASA take from a pose estimator, exactly.

A person's 17 joints while something is opened or closed, about the pelvis and turned so that the
person looks along x: neither the room nor the way to the handle is told. F frames.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.alignment.phases import phase_at, uses_of
from detach.scores import Ints
from detach.simulate.levels import load_level
from detach.simulate.machine import import_mujoco
from detach.simulate.opportunity_room import OPPORTUNITY
from detach.simulate.path import Path, walk_through
from detach.simulate.person import Limb, subject_body
from detach.simulate.physics import run_physics
from detach.simulate.script import write_scripts

FPS = 15.0
RUN_S = 450.0
PEOPLE = 4
JOINTS = (
    *("left hip", "left knee", "left ankle", "left toe"),
    *("right hip", "right knee", "right ankle", "right toe"),
    *("pelvis", "chest", "head"),
    *("left shoulder", "left elbow", "left hand", "right shoulder", "right elbow", "right hand"),
)
MIRRORED = (4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 14, 15, 16, 11, 12, 13)
"""Which joint each becomes in a mirror, whose plane holds x and z."""
PELVIS = JOINTS.index("pelvis")


@dataclass(frozen=True)
class Skeleton:
    """One action of one person."""

    action: str
    joints: NDArray[np.float32]
    """[F, 17, 3], metres"""
    phase: Ints
    """[F]"""


def simulate_skeletons(
    runs: int, seed: int, *, level: str = "default", say: Callable[[str], None] = print
) -> list[Skeleton]:
    """All actions in ``runs`` stretches of 7.5 minutes, one person each; the same for one seed.

    Raises:
        MachineError: MuJoCo is not installed.
    """
    found = []
    for run in range(runs):
        found += _run(seed, run, level)
        say(f"joints of {run + 1} of {runs} runs, {len(found)} actions")
    return found


def _run(seed: int, run: int, level: str) -> list[Skeleton]:
    def rng(part: int) -> np.random.Generator:
        return np.random.default_rng([seed, run, part])

    chosen = load_level(level)
    home, acts = OPPORTUNITY, write_scripts([rng(0)], chosen, RUN_S)[0]
    traces = run_physics(home, [acts], chosen, rng(1), RUN_S)
    path = walk_through(home, acts, traces.fraction, FPS, int(RUN_S * FPS))
    body, handles = subject_body(run % PEOPLE, rng(2)), _Handles()
    found = []
    for act in uses_of(acts, RUN_S):
        frames = np.arange(int(np.ceil(act.start_s * FPS)), int(act.end_s * FPS))
        t_s = (frames + 0.5) / FPS
        poses = [traces.joints[min(len(traces.joints) - 1, int(t * home.sensor_hz))] for t in t_s]
        slug = home.things[act.thing].slug
        limbs = [
            body.figure(home, path, int(f), act, float(t), handles.at(slug, pose)).limbs
            for f, t, pose in zip(frames, t_s, poses, strict=True)
        ]
        joints = np.stack([joints_of(parts) for parts in limbs])
        found.append(Skeleton(act.label, _facing(joints, path, frames), phase_at(act, t_s)))
    return found


def joints_of(limbs: list[Limb]) -> NDArray[np.float64]:
    """The 17 joints [17, 3], in the order of `JOINTS`, of what `Body.figure` draws."""
    legs, trunk, arms = limbs[:6], limbs[6:12], limbs[12:18]
    points = []
    for thigh, shin, foot in (legs[:3], legs[3:]):
        points += [thigh.start, thigh.end, shin.end, foot.end]
    points += [(trunk[0].start + trunk[0].end) / 2, trunk[3].start, trunk[3].end]
    for upper, fore, _ in (arms[:3], arms[3:]):
        points += [upper.start, upper.end, fore.end]
    return np.stack(points)


def _facing(
    joints: NDArray[np.float64], path: Path, frames: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Joints [F, 17, 3] about the pelvis of each frame, turned by the mean heading."""
    heading = float(np.unwrap(path.heading[frames]).mean())
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray((joints - joints[:, PELVIS : PELVIS + 1]) @ turn, dtype=np.float32)


class _Handles:
    """Where handles are when the room's joints are as they are."""

    def __init__(self) -> None:
        self._mj = import_mujoco()
        self._model = self._mj.MjModel.from_xml_string(OPPORTUNITY.mjcf(furnished=False))
        self._data = self._mj.MjData(self._model)

    def at(self, slug: str, pose: NDArray[np.float32]) -> NDArray[np.float64]:
        """Position [3] of a handle."""
        self._data.qpos[:] = pose
        self._mj.mj_kinematics(self._model, self._data)
        return np.array(self._data.site(f"{slug}_handle").xpos)
