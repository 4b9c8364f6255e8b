"""Runs the script through MuJoCo: the hand pulls, joints, friction, stops and springs decide.

While a hand holds a handle, a stiff spring draws the joint along a smooth path; the rest of the
time the thing is free. Nothing is drawn here, so the result is the same on every machine with
the same MuJoCo.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.simulate.home import Home
from detach.simulate.levels import Level
from detach.simulate.machine import import_mujoco
from detach.simulate.plan import Act, uses_of

STEPS_HZ = 300
SETTLE_S = 3.0
G = 9.81
GRIP_RAD_S = 32.0
"""How stiffly the hand holds: natural frequency of the pull."""
STRONGEST = 45.0
"""Largest acceleration the hand can give, in units of travel per s2 of the joint's own inertia."""
LATCH_RAD = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Traces:
    """What physics made of a script."""

    fraction: NDArray[np.float32]
    """How far each thing is open, [T at STEPS_HZ, things]."""
    acceleration_g: NDArray[np.float32]
    """What an ideal accelerometer on each thing feels, [T at the home's rate, things, 3]."""
    joints: NDArray[np.float32]
    """All joint positions, [T at the home's rate, nq], to draw from."""


def run_physics(
    home: Home,
    scripts: Sequence[Sequence[Act]],
    level: Level,
    rng: np.random.Generator,
    duration_s: float,
) -> Traces:
    """Physics of one run of ``duration_s`` with a script for each person."""
    return _Physics(home, level, rng).run(scripts, duration_s)


def movement(act: Act, rng: np.random.Generator, start: float, tremor: float) -> Array:
    """Where the hand wants the joint at each step of the movement, as a share of the travel.

    A minimum-jerk path from ``start``, skewed, perhaps with a halt on the way, with the hand's
    tremor; it ends a little beyond a stop when the act pushes.
    """
    steps = max(2, round((act.end_s - act.start_s - act.reach_s - act.release_s) * STEPS_HZ))
    tau = np.linspace(0.0, 1.0, steps) ** act.skew
    if act.halt:
        split = act.halt
        first = np.clip(tau / (0.85 * split), 0.0, 1.0)
        second = np.clip((tau - split) / (1.0 - split), 0.0, 1.0)
        s = split * minimum_jerk(first) + (1.0 - split) * minimum_jerk(second)
    else:
        s = minimum_jerk(tau)
    path = start + (act.goal + act.push - start) * s
    t_s = np.arange(steps) / STEPS_HZ
    shake = np.zeros(steps)
    for hz in rng.uniform(2.5, 8.0, 4):
        shake += rng.normal(0.0, 0.0012) * np.sin(2 * np.pi * (hz * t_s + rng.random()))
    return np.asarray(path + tremor * shake * np.sin(np.pi * np.linspace(0.0, 1.0, steps)))


def minimum_jerk(tau: Array) -> Array:
    """From 0 to 1 as a hand moves: smooth in position, speed and acceleration."""
    return tau**3 * (10.0 - 15.0 * tau + 6.0 * tau**2)


@dataclass
class _Hand:
    """One person's hand: the use that comes or goes on, and the path of what it holds."""

    uses: Iterator[Act]
    act: Act | None = None
    path: Array | None = None
    first: int = 0

    def next_use(self) -> None:
        """Lets go, and waits for the next use."""
        self.act, self.path = next(self.uses, None), None


class _Physics:
    def __init__(self, home: Home, level: Level, rng: np.random.Generator) -> None:
        self.mj: Any = import_mujoco()
        self.home, self.rng, self.level = home, rng, level
        self.model = self.mj.MjModel.from_xml_string(
            home.mjcf(1 / STEPS_HZ, level.crosstalk, furnished=False)
        )
        self.data = self.mj.MjData(self.model)
        joints = [self.model.joint(t.slug) for t in home.things]
        self.qpos = np.array([j.qposadr[0] for j in joints])
        self.dof = np.array([j.dofadr[0] for j in joints])
        self.travel = np.array([t.reach for t in home.things])
        self.latch = np.array([t.latch for t in home.things])
        for _ in range(round(SETTLE_S * STEPS_HZ)):
            self.mj.mj_step(self.model, self.data)
        self.inertia = self.model.dof_M0[self.dof]
        self.friction = self.model.dof_frictionloss[self.dof]

    def run(self, scripts: Sequence[Sequence[Act]], duration_s: float) -> Traces:
        hz, things = self.home.sensor_hz, len(self.home.things)
        every = STEPS_HZ // hz
        ticks = round(duration_s * hz)
        steps = ticks * every
        fraction = np.zeros((steps, things), dtype=np.float32)
        felt = np.zeros((steps, 3 * things))
        joints = np.zeros((steps, self.model.nq), dtype=np.float32)
        hands = [_Hand(iter(uses_of([script]))) for script in scripts]
        for hand in hands:
            hand.next_use()
        for k in range(steps):
            for hand in hands:
                self._work(hand, k)
            self._hold_latches([h.act.thing for h in hands if h.act and h.path is not None])
            self.mj.mj_step(self.model, self.data)
            fraction[k] = self.data.qpos[self.qpos] / self.travel
            felt[k] = self.data.sensordata
            joints[k] = self.data.qpos
        mean = felt.reshape(ticks, every, things, 3).mean(axis=1) / G
        return Traces(fraction, mean.astype(np.float32), joints[every - 1 :: every])

    def _work(self, hand: _Hand, k: int) -> None:
        """One step of a hand, from grabbing to letting go."""
        act = hand.act
        if act is None or k < round((act.start_s + act.reach_s) * STEPS_HZ):
            return
        if hand.path is None:
            hand.path, hand.first = self._grab(act), k
        over = k >= round(act.end_s * STEPS_HZ)
        if over or not self._pull(act, hand.path, k - hand.first):
            self.data.qfrc_applied[self.dof[act.thing]] = 0.0
            hand.next_use()

    def _grab(self, act: Act) -> Array:
        start = float(self.data.qpos[self.qpos[act.thing]] / self.travel[act.thing])
        path = movement(act, self.rng, start, self.level.tremor)
        return path * self.home.things[act.thing].reach

    def _pull(self, act: Act, path: Array, k: int) -> bool:
        """One step of pulling; False once the hand lets go."""
        i = act.thing
        let_go = round((0.72 if act.throw else 1.0) * len(path))
        if act.throw and k >= let_go:
            return False
        hold = round(0.4 * act.release_s * STEPS_HZ)
        if k >= len(path) + hold:
            return False
        j = min(k, len(path) - 2)
        wanted, speed = path[j], (path[j + 1] - path[j]) * STEPS_HZ
        if k >= len(path):
            wanted, speed = min(max(path[-1], 0.0), self.travel[i]), 0.0
        q, v = self.data.qpos[self.qpos[i]], self.data.qvel[self.dof[i]]
        pull = GRIP_RAD_S**2 * (wanted - q) + 2 * GRIP_RAD_S * (speed - v)
        limit = STRONGEST * self.travel[i]
        force = self.inertia[i] * min(limit, max(-limit, pull)) + self.friction[i] * np.sign(speed)
        self.data.qfrc_applied[self.dof[i]] = force
        return True

    def _hold_latches(self, held: Sequence[int]) -> None:
        """Latches pull what is nearly closed; a hand on the handle opens the latch."""
        q = self.data.qpos[self.qpos]
        pull = np.where(q < LATCH_RAD, -self.latch, 0.0)
        for i in held:
            pull[i] = self.data.qfrc_applied[self.dof[i]]
        self.data.qfrc_applied[self.dof] = pull
