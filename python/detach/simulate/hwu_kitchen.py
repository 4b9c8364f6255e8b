"""The home ``hwu``: a test kitchen whose every part stands in ``models/simulate/hwu.yaml``.

Cupboards and drawers are built from where their fronts are; furniture, items, spots and activities
are taken as they stand. Sensors are those of HWU-USP: a contact on each of eight cupboards and
drawers, two motion sensors, and the power of one plug.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from detach.errors import DataError
from detach.recipes import models_folder
from detach.simulate.home import Home, Item, Point, Spot, Thing, View
from detach.simulate.levels import Range
from detach.simulate.mjcf import box, document, numbers, springs

DOOR_REACH, DRAWER_REACH = 1.6, 0.36
DOOR_KG, DRAWER_KG = 3.5, 2.5
BLOCK_KG, BLOCK_HZ = 220.0, 10.0
"""All cupboards hang in one block, so that each feels its neighbours a little."""
MAGNET_NM = 1.2
LIGHTS = """  <light name="lamp" pos="2.1 1.8 2.45" dir="0 0 -1" directional="false"
    diffuse=".46 .44 .40" specular=".1 .1 .1" attenuation="1 0 .03" cutoff="88" exponent="1"
    castshadow="false"/>
  <light name="sun" pos="4 1.5 2.2" dir="-.7 .5 -.5" directional="true"
    diffuse=".24 .24 .26" specular="0 0 0" castshadow="false"/>
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of an activity: a cupboard to use, or a spot where something is done."""

    use: tuple[str, ...] = ()
    do: str = ""
    chance: float = 1.0
    carries: str = ""
    """Item in the hand from then on."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """How one activity goes: ``first`` once, ``then`` over and over."""

    first: tuple[Step, ...]
    then: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class Kitchen:
    """The home, what people do in it, and what its sensors look at."""

    home: Home
    activities: Mapping[str, Activity]
    motion: Mapping[str, tuple[Point, Point]]
    """Corners of what each motion sensor overlooks, on the floor plan."""
    motion_hold_s: Range
    plug: str
    standby_w: float
    kettle_w: float
    boils_s: Range


@lru_cache(maxsize=1)
def kitchen() -> Kitchen:
    """The kitchen as its file describes it.

    Raises:
        DataError: The file cannot be read, or lacks something.
    """
    path = _file()
    try:
        return _kitchen(_raw())
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error


def kitchen_mjcf(
    timestep_s: float = 1 / 300,
    crosstalk: float = 1.0,
    size_px: tuple[int, int] = (160, 120),
    furnished: bool = True,
) -> str:
    """The whole kitchen as MJCF, as `opportunity_room.room_mjcf`."""
    raw, home = _raw(), kitchen().home
    mass_kg = BLOCK_KG / crosstalk
    fronts = "".join(_front(row, raw["units"][row["row"]]) for row in raw["things"])
    moving = f"""  <body name="block">
    <inertial pos="1.8 3.3 1" mass="{mass_kg:.1f}" diaginertia="60 60 60"/>
    {springs(mass_kg, BLOCK_HZ, "xy", 0.05)}
{fronts}  </body>
"""
    fixed = _walls(raw["room_m"]) + "".join(
        _shell(row, raw["units"][row["row"]]) for row in raw["things"]
    )
    fixed += "".join(_geom(*parts) for parts in (*raw["furniture"], *raw["contents"]))
    return document(
        "hwu",
        home.view,
        timestep_s=timestep_s,
        size_px=size_px,
        lights=LIGHTS,
        fixed=fixed if furnished else "",
        moving=moving,
        sensors="".join(
            f'<accelerometer name="{t.slug}" site="{t.slug}_accelerometer"/>' for t in home.things
        ),
    )


@lru_cache(maxsize=1)
def _raw() -> Mapping[str, Any]:
    return dict(yaml.safe_load(_file().read_text(encoding="utf-8")))


def _file() -> Path:
    return models_folder() / "simulate" / "hwu.yaml"


def place_name(sensor: str) -> str:
    """``Ktch_B4_Cupboard`` as people say it: B4 Cupboard."""
    return sensor.removeprefix("Ktch_").replace("_", " ")


def _kitchen(raw: Mapping[str, Any]) -> Kitchen:
    things = tuple(_thing(row, raw["units"][row["row"]]) for row in raw["things"])
    plug = raw["plug"]
    home = Home(
        name="hwu",
        things=things,
        spots={name: Spot(**_tuples(row)) for name, row in raw["spots"].items()},
        items={name: Item(**_tuples(row)) for name, row in raw["items"].items()},
        view=View(**_tuples(raw["camera"])),
        free_y=float(raw["free_y"]),
        sensor_hz=int(raw["sensor_hz"]),
        mjcf=kitchen_mjcf,
        corners={name: tuple(at) for name, at in raw["corners"].items()},
        lamp=tuple(raw["lamp"]),
        plugs={},
    )
    activities = {
        name: Activity(**{part: tuple(_step(s) for s in steps) for part, steps in row.items()})
        for name, row in raw["activities"].items()
    }
    _check(home, activities)
    return Kitchen(
        home=home,
        activities=activities,
        motion={n: (tuple(a), tuple(b)) for n, (a, b) in raw["motion"].items()},
        motion_hold_s=tuple(raw["motion_hold_s"]),
        plug=plug["name"],
        standby_w=plug["standby_w"],
        kettle_w=plug["kettle_w"],
        boils_s=tuple(plug["boils_s"]),
    )


def _check(home: Home, activities: Mapping[str, Activity]) -> None:
    """Everything that is named must be there."""
    names = {t.name for t in home.things}
    for spot in home.spots.values():
        if spot.holds and spot.holds not in home.items:
            raise ValueError(f"no item {spot.holds!r}")
    for activity in activities.values():
        for step in (*activity.first, *activity.then):
            unknown = set(step.use) - names or {step.do} - {"", *home.spots}
            unknown = unknown or {step.carries} - {"", *home.items}
            if unknown:
                raise ValueError(f"no thing, spot or item {min(unknown)!r}")


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}


def _step(row: Mapping[str, Any]) -> Step:
    return Step(
        use=tuple(place_name(name) for name in row.get("use", ())),
        do=row.get("do", ""),
        chance=float(row.get("chance", 1.0)),
        carries=row.get("with", ""),
    )


def _thing(row: Mapping[str, Any], unit: Mapping[str, Any]) -> Thing:
    """Where one stands: at the handle, and beside the door once it is open."""
    x, drawer = float(row["x"]), "drawer" in row
    side = 0.0 if drawer else 1.0 if row["hinge"] == "left" else -1.0
    closed_y, open_y = unit["stand_y"]
    return Thing(
        name=place_name(row["name"]),
        slug=_slug(row),
        reach=DRAWER_REACH if drawer else DOOR_REACH,
        stand_closed=(x + 0.15 * side, closed_y),
        stand_open=(x + 0.3 * side, open_y),
        face=(x, unit["front_y"] + 0.3),
        right_hand=side <= 0,
        latch=0.0 if drawer else MAGNET_NM,
        inside=(x, unit["front_y"] + (-0.12 if drawer else 0.12), _inside_z(row, unit)),
    )


def _inside_z(row: Mapping[str, Any], unit: Mapping[str, Any]) -> float:
    """High in a drawer and in what stands on the floor, low in what hangs on the wall."""
    if "drawer" in row:
        return float(row["drawer"][1])
    return float(0.7 * unit["to_z"] if unit["from_z"] < 1.0 else unit["from_z"] + 0.15)


def _slug(row: Mapping[str, Any]) -> str:
    return str(row["name"]).removeprefix("Ktch_").lower()


def _geom(shape: str, material: str, at: Sequence[float], size: Sequence[float]) -> str:
    return (
        f'  <geom type="{shape}" material="{material}" pos="{numbers(at)}" '
        f'size="{numbers(size)}"/>\n'
    )


def _walls(room_m: Sequence[float]) -> str:
    """Floor, ceiling, and four walls."""
    x, y, z = (side / 2 for side in room_m)
    return (
        f'  <geom type="plane" material="floor" pos="{x} {y} 0" size="{x} {y} .1"/>\n'
        + box("ceiling", f"{x} {y} {2 * z + 0.05}", f"{x} {y} .05")
        + box("wall", f"{x} {2 * y + 0.05} {z}", f"{x} .05 {z}")
        + box("wall", f"{x} -.05 {z}", f"{x} .05 {z}")
        + box("wall", f"-.05 {y} {z}", f".05 {y} {z}")
        + box("wall", f"{2 * x + 0.05} {y} {z}", f".05 {y} {z}")
    )


def _shell(row: Mapping[str, Any], unit: Mapping[str, Any]) -> str:
    """The box behind a front: two sides, back, bottom, top and a board."""
    x, half = float(row["x"]), unit["width_m"] / 2
    low, high, deep = unit["from_z"], unit["to_z"], unit["depth_m"] / 2
    y, z, tall = unit["front_y"] + deep + 0.02, (low + high) / 2, (high - low) / 2
    boards = "".join(
        box("inside", f"{x} {y} {at:.3f}", f"{half} {deep} .01") for at in (low, z, high - 0.01)
    )
    front = ""
    if "drawer" in row:  # below the drawer is a front that stays
        top = row["drawer"][0] - 0.02
        middle, rest = (low + top) / 2, (top - low) / 2 - 0.005
        front = box("front", f"{x} {unit['front_y']} {middle:.3f}", f"{half - 0.008} .012 {rest}")
    return (
        box("front", f"{x - half} {y} {z}", f".008 {deep} {tall}")
        + box("front", f"{x + half} {y} {z}", f".008 {deep} {tall}")
        + box("inside", f"{x} {y + deep - 0.01:.3f} {z}", f"{half} .008 {tall}")
        + boards
        + front
    )


def _front(row: Mapping[str, Any], unit: Mapping[str, Any]) -> str:
    return _drawer(row, unit) if "drawer" in row else _door(row, unit)


def _door(row: Mapping[str, Any], unit: Mapping[str, Any]) -> str:
    slug = _slug(row)
    side = 1 if row["hinge"] == "left" else -1
    half, tall = unit["width_m"] / 2, (unit["to_z"] - unit["from_z"]) / 2
    z = (unit["from_z"] + unit["to_z"]) / 2
    # Handles of wall cupboards are low, of those on the floor high.
    grip = (0.55 if z < 1.0 else -0.7) * tall
    free = side * (2 * half - 0.06)
    return f"""    <body name="{slug}" pos="{row["x"] - side * half:.3f} {unit["front_y"]} {z:.3f}">
      <joint name="{slug}" axis="0 0 {-side}" range="0 {DOOR_REACH}" damping=".5"
        frictionloss=".35"/>
      <geom type="box" material="front" pos="{side * half:.3f} 0 0"
        size="{half - 0.008:.3f} .012 {tall - 0.008:.3f}" mass="{DOOR_KG}"/>
      <geom type="box" material="cream" pos="{side * half:.3f} .013 0"
        size="{half - 0.03:.3f} .003 {tall - 0.03:.3f}" mass=".05"/>
      <geom type="capsule" material="steel" pos="{free:.3f} -.035 {grip:.3f}" size=".011 .07"
        mass=".1"/>
      <site name="{slug}_handle" pos="{free:.3f} -.05 {grip:.3f}" size=".01" rgba="0 0 0 0"/>
      <site name="{slug}_accelerometer" pos="{free:.3f} .02 0" size=".01" rgba="0 0 0 0"/>
    </body>
"""


def _drawer(row: Mapping[str, Any], unit: Mapping[str, Any]) -> str:
    slug = _slug(row)
    low, high = row["drawer"]
    half, tall = unit["width_m"] / 2, (high - low) / 2
    return f"""    <body name="{slug}" pos="{row["x"]} {unit["front_y"]} {(low + high) / 2:.3f}">
      <joint name="{slug}" type="slide" axis="0 -1 0" range="0 {DRAWER_REACH}" damping="3"
        frictionloss="2"/>
      <geom type="box" material="front" size="{half - 0.008:.3f} .012 {tall:.3f}" mass="1"/>
      <geom type="box" material="tray1" pos="0 .26 {-0.6 * tall:.3f}"
        size="{half - 0.03:.3f} .24 .01" mass="{DRAWER_KG}"/>
      <geom type="box" material="steel" pos="-.08 .2 {-0.45 * tall:.3f}" size=".05 .14 .012"
        mass=".5"/>
      <geom type="capsule" material="steel" pos="0 -.035 0" size=".011 .09" mass=".1"
        euler="0 1.5707963 0"/>
      <site name="{slug}_handle" pos="0 -.05 0" size=".01" rgba="0 0 0 0"/>
      <site name="{slug}_accelerometer" pos=".15 .02 0" size=".01" rgba="0 0 0 0"/>
    </body>
"""
