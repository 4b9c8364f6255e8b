"""Sensors that feel no motion: how loud it is, how light, and what devices draw.

One microphone and one light sensor hang in each corner that a home names. Sound comes from what
moves and stops, from steps and from work at the sink; light from the window, the lamp and shadows;
power from the lamp and from devices that notice their door.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.data.recording import SensorTrack
from detach.simulate.home import Home
from detach.simulate.machine import import_mujoco
from detach.simulate.path import Path
from detach.simulate.person import effort
from detach.simulate.physics import STEPS_HZ, Traces
from detach.simulate.plan import Act
from detach.simulate.sensors import Series

Array = NDArray[np.float64]

EXTRAS = ("sound", "light", "power")
HZ = {"sound": 10.0, "light": 5.0, "power": 2.0}
QUIET_DB, QUIET_SPREAD_DB = 31.0, 0.8
STEP_DB = 47.0
"""Of a step at 1 m/s, a metre away."""
BANG_DB, RUB_DB = 70.0, 44.0
"""Of a thing that is jolted by 1 g, and of one that moves at 1 m/s or rad/s, a metre away."""
WINDOW_LUX, LAMP_LUX = 180.0, 140.0
SHADOW, SHADOW_M = 0.35, 0.5
"""How much light a person takes who is at most about so far from a sensor, on the floor plan."""
LAMP_W = 40.0
AJAR = 0.05
"""Share of the travel at which a device notices that its door is open."""
LIGHT_NOISE, POWER_NOISE = 0.01, 0.03


@dataclass(frozen=True)
class Scene:
    """What extra sensors are made from: people, things, and light."""

    home: Home
    scripts: Sequence[Sequence[Act]]
    paths: Sequence[Path]
    """At ``hz`` a second."""
    hz: float
    traces: Traces
    daylight: Array
    """1 is usual, at ``hz`` a second."""
    lamp: Array
    """1 is on, at ``hz`` a second."""

    def at(self, values: Array, rate_hz: float, seconds: float) -> Array:
        """Every so many values of a series at ``hz``."""
        t_s = np.arange(int(seconds * rate_hz)) / rate_hz
        return np.asarray(values[np.minimum((t_s * self.hz).astype(int), len(values) - 1)])


def extra_tracks(home: Home, kinds: Sequence[str]) -> list[SensorTrack]:
    """Tracks of the kinds asked for; power has a plug for each device, and one for the lamp."""
    units = {"sound": "dB", "light": "lx"}
    tracks = [
        SensorTrack(name=_name(kind, corner), kind=kind, unit=unit, hz=HZ[kind], place=corner)
        for kind, unit in units.items()
        if kind in kinds
        for corner in home.corners
    ]
    if "power" in kinds:
        tracks += [
            SensorTrack(
                name=_name("power", plug), kind="power", unit="W", hz=HZ["power"], place=plug
            )
            for plug in (*home.plugs, "Lamp")
        ]
    return tracks


def read_extras(
    scene: Scene, kinds: Sequence[str], seconds: float, rng: np.random.Generator
) -> dict[str, Series]:
    """What each of them reports."""
    made: dict[str, Array] = {}
    if "sound" in kinds:
        made |= _sound(scene, seconds, rng)
    if "light" in kinds:
        made |= _light(scene, seconds, rng)
    if "power" in kinds:
        made |= _power(scene, seconds, rng)
    rates = {t.name: t.hz or 1.0 for t in extra_tracks(scene.home, kinds)}
    return {name: (np.arange(len(v)) / rates[name], v) for name, v in made.items()}


def _name(kind: str, where: str) -> str:
    return f"{kind}_{where.lower().replace(' ', '_')}"


def _sound(scene: Scene, seconds: float, rng: np.random.Generator) -> dict[str, Array]:
    """Powers of all sources, by the square of their distance, over the quiet of the room."""
    steps = [STEP_DB + 20 * np.log10(np.maximum(p.speed, 1e-3)) for p in scene.paths]
    things = _thing_power(scene)
    handles = _handles(scene.home)
    made = {}
    for corner, where in scene.home.corners.items():
        here = np.array(where)
        power = np.full(len(scene.lamp), 10 ** (QUIET_DB / 10))
        for path, db in zip(scene.paths, steps, strict=True):
            power += 10 ** (db / 10) / _square(path.at, here)
        for script, path in zip(scene.scripts, scene.paths, strict=True):
            power += 10 ** (_work_db(scene, script, path) / 10) / _square(path.at, here)
        for i, handle in enumerate(handles):
            apart = max(0.2, float(((handle - here) ** 2).sum()))
            power += things[:, i] / apart
        level = 10 * np.log10(power) + QUIET_SPREAD_DB * rng.normal(size=len(power))
        made[_name("sound", corner)] = np.round(scene.at(level, HZ["sound"], seconds), 1)
    return made


def _thing_power(scene: Scene) -> Array:
    """How loud each thing is a metre away, from jolts and from rubbing, at each moment."""
    felt = scene.traces.acceleration_g.astype(np.float64)
    jolt = np.linalg.norm(np.diff(felt, axis=0, prepend=felt[:1]), axis=2)
    jolt = np.maximum(jolt, np.roll(jolt, 1, axis=0))
    fraction = scene.traces.fraction.astype(np.float64)
    reach = [thing.reach for thing in scene.home.things]
    speed = np.abs(np.diff(fraction, axis=0, prepend=fraction[:1])) * STEPS_HZ * reach
    t_s = np.arange(len(scene.lamp)) / scene.hz
    at_jolt = np.minimum((t_s * scene.home.sensor_hz).astype(int), len(jolt) - 1)
    at_speed = np.minimum((t_s * STEPS_HZ).astype(int), len(speed) - 1)
    loud = (10 ** (BANG_DB / 20) * jolt[at_jolt]) ** 2
    return np.asarray(loud + (10 ** (RUB_DB / 20) * speed[at_speed]) ** 2)


def _work_db(scene: Scene, script: Sequence[Act], path: Path) -> Array:
    """How loud what somebody does is at each moment; minus infinity for silence."""
    db = np.full(len(path.act), -np.inf)
    for i, k in enumerate(path.act):
        spot = scene.home.spots.get(script[k].kind)
        if spot is not None and spot.sound_db and effort(script[k], i / scene.hz) > 0.5:
            db[i] = spot.sound_db
    return db


def _square(at: Array, here: Array) -> Array:
    """Squared distances from a person's middle."""
    return np.asarray(np.maximum(0.2, ((at - here[:2]) ** 2).sum(axis=1) + (1.0 - here[2]) ** 2))


def _handles(home: Home) -> list[Array]:
    mj = import_mujoco()
    model = mj.MjModel.from_xml_string(home.mjcf(furnished=False))
    data = mj.MjData(model)
    mj.mj_kinematics(model, data)
    return [np.array(data.site(f"{t.slug}_handle").xpos) for t in home.things]


def _light(scene: Scene, seconds: float, rng: np.random.Generator) -> dict[str, Array]:
    """Window and lamp, less the shadow of whoever is near."""
    made = {}
    for corner, where in scene.home.corners.items():
        here = np.array(where)
        lamp = LAMP_LUX * 4 / (4 + float(((np.array(scene.home.lamp) - here) ** 2).sum()))
        lux = WINDOW_LUX * scene.daylight + lamp * scene.lamp
        for path in scene.paths:
            near = np.exp(-((path.at - here[:2]) ** 2).sum(axis=1) / (2 * SHADOW_M**2))
            lux = lux * (1 - SHADOW * near)
        lux = lux * (1 + LIGHT_NOISE * rng.normal(size=len(lux)))
        made[_name("light", corner)] = np.round(scene.at(lux, HZ["light"], seconds), 1)
    return made


def _power(scene: Scene, seconds: float, rng: np.random.Generator) -> dict[str, Array]:
    """A device draws more while its door is open."""
    t_s = np.arange(len(scene.lamp)) / scene.hz
    at = np.minimum((t_s * STEPS_HZ).astype(int), len(scene.traces.fraction) - 1)
    watts = {"Lamp": LAMP_W * scene.lamp}
    for plug, (closed, opened) in scene.home.plugs.items():
        part = scene.traces.fraction[at, scene.home.thing(plug)]
        watts[plug] = np.where(part > AJAR, opened, closed)
    return {
        _name("power", plug): np.round(
            scene.at(w * (1 + POWER_NOISE * rng.normal(size=len(w))), HZ["power"], seconds), 2
        )
        for plug, w in watts.items()
    }
