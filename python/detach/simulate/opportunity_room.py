"""The home ``opportunity``: a room with seven things that open, and where one stands to use them.

Everything that moves hangs in a heavy body on stiff springs (the building), and the drawers in a
chest on springs of its own, so that a slammed door is felt by every accelerometer and a drawer by
its neighbours.
"""

from detach.simulate.furniture import FURNITURE, WALLS
from detach.simulate.home import Home, Item, Spot, Thing, View
from detach.simulate.mjcf import document, springs

VIEW = View(name="corner", eye=(0.16, 0.14, 2.34), look_at=(2.72, 2.72, 0.52), fov_deg=66.0)

LIGHTS = """  <light name="lamp" pos="2.3 1.9 2.45" dir="0 0 -1" directional="false"
    diffuse=".42 .40 .36" specular=".1 .1 .1" attenuation="1 0 .03" cutoff="88" exponent="1"
    castshadow="false"/>
  <light name="sun" pos="4.4 1.2 2.2" dir="-.7 .35 -.6" directional="true"
    diffuse=".26 .26 .28" specular="0 0 0" castshadow="false"/>
"""
BUILDING_KG = 2400.0
BUILDING_HZ = 12.0
CHEST_KG = 35.0
CHEST_HZ = 9.0

TRIPLET = ("closed", "half", "open")
THINGS = (
    Thing(
        name="Door 1",
        slug="door1",
        reach=1.65,
        stand_closed=(0.62, 3.15),
        stand_open=(0.6, 2.7),
        face=(0.6, 3.9),
        right_hand=True,
        latch=5.0,
    ),
    Thing(
        name="Door 2",
        slug="door2",
        reach=1.65,
        stand_closed=(3.95, 2.28),
        stand_open=(3.5, 2.42),
        face=(4.7, 2.45),
        right_hand=False,
        latch=5.0,
    ),
    Thing(
        name="Fridge",
        slug="fridge",
        reach=1.75,
        stand_closed=(3.15, 2.55),
        stand_open=(3.28, 2.05),
        face=(3.15, 3.4),
        right_hand=True,
        switches=TRIPLET,
        latch=7.0,
    ),
    Thing(
        name="Dishwasher",
        slug="dishwasher",
        reach=1.45,
        stand_closed=(2.08, 2.72),
        stand_open=(2.14, 2.42),
        face=(1.75, 3.2),
        right_hand=False,
        switches=TRIPLET,
    ),
    *(
        Thing(
            name=f"Drawer {i}",
            slug=f"drawer{i}",
            reach=0.42,
            stand_closed=(2.86, 2.68),
            stand_open=(2.9, 2.4),
            face=(2.48, 3.3),
            right_hand=False,
            switches=("any",) if i == 1 else TRIPLET,
        )
        for i in (1, 2, 3)
    ),
)
"""In the order of the published `place` list."""

DRAWER_HEIGHT_M = {1: 0.735, 2: 0.475, 3: 0.215}


def room_mjcf(
    timestep_s: float = 1 / 300,
    crosstalk: float = 1.0,
    size_px: tuple[int, int] = (160, 120),
    furnished: bool = True,
) -> str:
    """The whole room as MJCF.

    Args:
        timestep_s: Physics step.
        crosstalk: How easily building and chest shake; 1 is a light wooden house, 0.1 concrete.
        size_px: Largest picture that will be rendered, width and height.
        furnished: With walls and furniture; physics does not need them and is faster without.
    """
    hung = springs(BUILDING_KG / crosstalk, BUILDING_HZ, "xyz", 0.03)
    sensors = "".join(
        f'<accelerometer name="{t.slug}" site="{t.slug}_accelerometer"/>' for t in THINGS
    )
    moving = f"""  <body name="building">
    <inertial pos="0 0 0" mass="{BUILDING_KG / crosstalk:.1f}" diaginertia="1e4 1e4 1e4"/>
    {hung}
{_doors()}{_fridge()}{_dishwasher()}{_chest(crosstalk)}
  </body>
"""
    return document(
        "opportunity",
        VIEW,
        timestep_s=timestep_s,
        size_px=size_px,
        lights=LIGHTS,
        fixed=WALLS + FURNITURE if furnished else "",
        moving=moving,
        sensors=sensors,
    )


def _doors() -> str:
    return "".join(
        f"""    <body name="{slug}" pos="{pos}" euler="0 0 {turn}">
      <joint name="{slug}" axis="0 0 {axis}" range="0 {reach}" damping="1.1" frictionloss=".7"/>
      <geom type="box" material="{material}" pos="{-side * 0.4:.2f} 0 1.03"
        size=".395 .02 1.0" mass="16"/>
      <geom type="box" material="{panel}" pos="{-side * 0.4:.2f} -.021 1.5"
        size=".26 .004 .38" mass=".1"/>
      <geom type="box" material="{panel}" pos="{-side * 0.4:.2f} -.021 .55"
        size=".26 .004 .38" mass=".1"/>
      <geom type="box" material="{panel}" pos="{-side * 0.4:.2f} .021 1.03"
        size=".26 .004 .86" mass=".1"/>
      <geom type="sphere" material="dark" pos="{-side * 0.73:.2f} -.06 1.0" size=".035" mass=".1"/>
      <geom type="sphere" material="dark" pos="{-side * 0.73:.2f} .06 1.0" size=".035" mass=".1"/>
      <site name="{slug}_handle" pos="{-side * 0.73:.2f} -.07 1.0" size=".01" rgba="0 0 0 0"/>
      <site name="{slug}_accelerometer" pos="{-side * 0.6:.2f} .03 1.5" size=".01"
        rgba="0 0 0 0"/>
    </body>
"""
        for slug, pos, turn, axis, side, reach, material, panel in (
            ("door1", "1.15 3.8 0", "0", 1, 1, THINGS[0].reach, "door", "doorb"),
            ("door2", "4.6 3.0 0", "-1.5707963", -1, -1, THINGS[1].reach, "doorb", "door"),
        )
    )


def _fridge() -> str:
    return f"""    <body name="fridge" pos="3.70 3.18 0">
      <joint name="fridge" axis="0 0 1" range="0 {THINGS[2].reach}" damping="1"
        frictionloss=".9"/>
      <geom type="box" material="white" pos="-.35 -.03 .92" size=".345 .03 .84" mass="15"/>
      <geom type="box" material="inside" pos="-.35 .006 .92" size=".30 .006 .78" mass=".2"/>
      <geom type="box" material="white" pos="-.35 .05 .55" size=".28 .05 .03" mass=".3"/>
      <geom type="box" material="white" pos="-.35 .05 1.15" size=".28 .05 .03" mass=".3"/>
      <geom type="cylinder" material="red" pos="-.2 .05 .66" size=".035 .1" mass=".4"/>
      <geom type="cylinder" material="leaf" pos="-.42 .05 .67" size=".035 .1" mass=".4"/>
      <geom type="capsule" material="dark" pos="-.63 -.09 1.05" size=".018 .2" mass=".2"/>
      <site name="fridge_handle" pos="-.63 -.11 1.05" size=".01" rgba="0 0 0 0"/>
      <site name="fridge_accelerometer" pos="-.5 -.07 1.4" size=".01" rgba="0 0 0 0"/>
    </body>
"""


def _dishwasher() -> str:
    return f"""    <body name="dishwasher" pos="1.74 3.2 .1" gravcomp=".93">
      <joint name="dishwasher" axis="1 0 0" range="0 {THINGS[3].reach}" damping="1.3"
        frictionloss="1.6"/>
      <geom type="box" material="steel" pos="0 -.025 .385" size=".29 .025 .375" mass="6"/>
      <geom type="box" material="white" pos="0 .004 .385" size=".26 .006 .34" mass=".3"/>
      <geom type="box" material="dark" pos="0 -.053 .69" size=".27 .004 .05" mass=".1"/>
      <geom type="capsule" material="white" pos="0 -.08 .60" size=".016 .18" mass=".2"
        euler="0 1.5707963 0"/>
      <site name="dishwasher_handle" pos="-.1 -.1 .60" size=".01" rgba="0 0 0 0"/>
      <site name="dishwasher_accelerometer" pos=".2 -.055 .5" size=".01" rgba="0 0 0 0"/>
    </body>
"""


def _chest(crosstalk: float) -> str:
    mass_kg = CHEST_KG / crosstalk
    drawers = "".join(_drawer(i, z) for i, z in DRAWER_HEIGHT_M.items())
    return f"""    <body name="chest" pos="2.485 3.49 0">
      <inertial pos="0 0 .45" mass="{mass_kg:.1f}" diaginertia="5 5 5"/>
      {springs(mass_kg, CHEST_HZ, "xy", 0.06)}
{drawers}    </body>
"""


def _drawer(i: int, z: float) -> str:
    return f"""      <body name="drawer{i}" pos="0 0 {z}">
        <joint name="drawer{i}" type="slide" axis="0 -1 0" range="0 {THINGS[3 + i].reach}"
          damping="3" frictionloss="2.5"/>
        <geom type="box" material="front" pos="0 -.28 0" size=".40 .015 .122" mass="1.2"/>
        <geom type="box" material="tray{i}" pos="0 -.02 -.08" size=".37 .25 .01" mass="1.6"/>
        <geom type="box" material="tray{i}" pos="-.37 -.02 -.02" size=".01 .25 .07" mass=".5"/>
        <geom type="box" material="tray{i}" pos=".37 -.02 -.02" size=".01 .25 .07" mass=".5"/>
        <geom type="box" material="cream" pos="-.15 .0 -.04" size=".1 .16 .03" mass=".6"/>
        <geom type="box" material="blue" pos=".15 -.05 -.04" size=".12 .1 .03" mass=".6"/>
        <geom type="capsule" material="steel" pos="0 -.325 0" size=".016 .12" mass=".2"
          euler="0 1.5707963 0"/>
        <site name="drawer{i}_handle" pos="-.05 -.345 0" size=".01" rgba="0 0 0 0"/>
        <site name="drawer{i}_accelerometer" pos=".25 -.26 .05" size=".01" rgba="0 0 0 0"/>
      </body>
"""


SPOTS = {
    "clean": Spot(
        stand=(2.35, 2.02),
        face=(2.35, 1.4),
        lasts_s=(4.0, 8.0),
        label="Clean Table",
        hand=(2.33, 1.55, 0.79),
        gesture="circle",
        sound_db=44.0,
    ),
    "drink": Spot(
        stand=(2.1, 2.02),
        face=(2.25, 1.4),
        lasts_s=(4.0, 6.5),
        label="Drink from Cup",
        hand=(2.25, 1.64, 0.78),
        gesture="mouth",
        rad_s=1.9,
        holds="cup",
    ),
    "toggle": Spot(
        stand=(1.22, 3.32),
        face=(1.31, 3.8),
        lasts_s=(1.8, 2.6),
        label="Toggle Switch",
        hand=(1.31, 3.76, 1.15),
    ),
    "sit": Spot(
        stand=(3.72, 1.15), face=(2.5, 1.15), lasts_s=(5.0, 11.0), label="Sit", seated=True
    ),
    "look": Spot(stand=(3.42, 1.25), face=(4.6, 1.2), lasts_s=(2.5, 5.0)),
}
OPPORTUNITY = Home(
    name="opportunity",
    things=THINGS,
    spots=SPOTS,
    items={
        "cup": Item(at=(2.25, 1.64, 0.78), height_m=0.06, radius_m=0.04, colour=(0.2, 0.35, 0.8))
    },
    view=VIEW,
    free_y=2.45,
    sensor_hz=30,
    mjcf=room_mjcf,
    corners={"Door 1": (0.4, 3.6, 2.2), "Counter": (2.4, 3.6, 1.4), "Door 2": (4.4, 2.2, 2.2)},
    lamp=(2.3, 1.9, 2.45),
    plugs={"Fridge": (4.0, 18.0), "Dishwasher": (0.5, 3.5)},
)
