"""What stands in the room and never moves: materials, walls, windows, furniture, as MJCF."""

ASSETS = """<asset>
  <texture name="floor" type="2d" builtin="checker" width="128" height="128"
    rgb1=".70 .54 .38" rgb2=".64 .48 .33" mark="edge" markrgb=".52 .38 .25"/>
  <texture name="tiles" type="2d" builtin="flat" width="64" height="64" rgb1=".80 .88 .87"
    rgb2=".8 .8 .8" mark="edge" markrgb=".62 .72 .72"/>
  <texture name="wall" type="2d" builtin="flat" width="128" height="128" rgb1=".90 .87 .78"
    rgb2=".9 .87 .8" mark="random" random=".03" markrgb=".84 .80 .70"/>
  <texture name="rug" type="2d" builtin="checker" width="64" height="64" rgb1=".55 .20 .22"
    rgb2=".72 .42 .30" mark="cross" markrgb=".90 .80 .60"/>
  <texture name="wood" type="2d" builtin="gradient" width="64" height="64" rgb1=".55 .36 .20"
    rgb2=".43 .27 .14" mark="random" random=".08" markrgb=".38 .23 .12"/>
  <texture name="view" type="2d" builtin="gradient" width="64" height="64" rgb1=".62 .82 .98"
    rgb2=".55 .72 .45"/>
  <texture name="cloth" type="2d" builtin="flat" width="64" height="64" rgb1=".28 .42 .48"
    rgb2=".3 .4 .5" mark="random" random=".2" markrgb=".24 .36 .42"/>
  <material name="floor" texture="floor" texrepeat="7 6" specular=".15" shininess=".3"/>
  <material name="tiles" texture="tiles" texrepeat="10 3" specular=".3" shininess=".6"/>
  <material name="wall" texture="wall" texrepeat="3 2" specular="0"/>
  <material name="rug" texture="rug" texrepeat="6 4" specular="0"/>
  <material name="wood" texture="wood" texrepeat="1 1" specular=".2" shininess=".4"/>
  <material name="view" texture="view" specular="0" emission=".75"/>
  <material name="cloth" texture="cloth" texrepeat="2 2" specular="0"/>
  <material name="door" rgba=".93 .91 .86 1" specular=".2"/>
  <material name="doorb" rgba=".42 .55 .66 1" specular=".2"/>
  <material name="steel" rgba=".70 .73 .76 1" specular=".7" shininess=".8"/>
  <material name="dark" rgba=".20 .21 .23 1" specular=".2"/>
  <material name="white" rgba=".95 .95 .95 1" specular=".3"/>
  <material name="inside" rgba=".98 .97 .80 1" emission=".35"/>
  <material name="front" rgba=".36 .52 .44 1" specular=".2"/>
  <material name="tray1" rgba=".95 .80 .30 1" emission=".1"/>
  <material name="tray2" rgba=".90 .48 .30 1" emission=".1"/>
  <material name="tray3" rgba=".75 .40 .62 1" emission=".1"/>
  <material name="leaf" rgba=".25 .50 .22 1" specular="0"/>
  <material name="pot" rgba=".72 .40 .26 1" specular="0"/>
  <material name="red" rgba=".72 .22 .20 1" specular=".1"/>
  <material name="blue" rgba=".22 .34 .60 1" specular=".1"/>
  <material name="cream" rgba=".94 .90 .80 1" specular=".1"/>
  <material name="ceiling" rgba=".93 .92 .89 1" specular="0" emission=".15"/>
  <material name="hall" rgba=".52 .44 .36 1" specular="0"/>
</asset>"""


def _box(material: str, pos: str, size: str, extra: str = "") -> str:
    return f'  <geom type="box" material="{material}" pos="{pos}" size="{size}" {extra}/>\n'


WALLS = (
    '  <geom type="plane" material="floor" pos="2.3 1.9 0" size="2.4 2 .1"/>\n'
    # back wall around door 1 (x .35 .. 1.15) and right wall around door 2 (y 2.2 .. 3)
    + _box("wall", ".135 3.85 1.25", ".215 .05 1.25")
    + _box("wall", ".75 3.85 2.27", ".4 .05 .23")
    + _box("wall", "2.9 3.85 1.25", "1.75 .05 1.25")
    + _box("wall", "4.65 1.1 1.25", ".05 1.1 1.25")
    + _box("wall", "4.65 2.6 2.27", ".05 .4 .23")
    + _box("wall", "4.65 3.4 1.25", ".05 .4 1.25")
    + _box("tiles", "2.2 3.795 1.12", ".74 .006 .22")
    # what is seen through the open doors
    + _box("hall", ".75 5.2 1.2", "1 .02 1.3")
    + _box("hall", ".75 4.5 .0", ".9 .7 .005")
    + _box("hall", "1.7 4.55 1.2", ".02 .65 1.3")
    + _box("hall", "-.2 4.55 1.2", ".02 .65 1.3")
    + _box("hall", "6 2.6 1.2", ".02 1 1.3")
    + _box("hall", "5.3 2.6 .0", ".7 .9 .005")
    + _box("hall", "5.35 3.6 1.2", ".65 .02 1.3")
    + _box("hall", "5.35 1.6 1.2", ".65 .02 1.3")
    # ceiling, and the walls beside and behind the camera
    + _box("ceiling", "2.3 1.9 2.55", "2.5 2.1 .05")
    + _box("wall", "-.05 1.9 1.25", ".05 2 1.25")
    + _box("wall", "2.3 -.05 1.25", "2.4 .05 1.25")
    # frames
    + _box("wood", ".31 3.78 1.03", ".04 .05 1.04")
    + _box("wood", "1.19 3.78 1.03", ".04 .05 1.04")
    + _box("wood", ".75 3.78 2.08", ".48 .05 .04")
    + _box("wood", "4.58 2.16 1.03", ".05 .04 1.04")
    + _box("wood", "4.58 3.04 1.03", ".05 .04 1.04")
    + _box("wood", "4.58 2.6 2.08", ".05 .48 .04")
    # windows
    + _box("white", "2.2 3.80 1.78", ".52 .012 .36")
    + _box("view", "1.95 3.79 1.78", ".22 .012 .31")
    + _box("view", "2.45 3.79 1.78", ".22 .012 .31")
    + _box("white", "4.60 1.15 1.62", ".012 .62 .44")
    + _box("view", "4.59 .84 1.62", ".012 .27 .39")
    + _box("view", "4.59 1.46 1.62", ".012 .27 .39")
    + _box("cream", "2.9 3.797 .04", "1.68 .006 .04")
)

FURNITURE = (
    '  <geom type="box" material="rug" pos="2.35 1.4 .006" size=".85 .62 .006"/>\n'
    # table, stools, cup's plate
    + _box("wood", "2.35 1.45 .72", ".46 .32 .025")
    + "".join(
        f'  <geom type="cylinder" material="wood" pos="{x} {y} .35" size=".03 .35"/>\n'
        for x in (1.95, 2.75)
        for y in (1.18, 1.72)
    )
    + '  <geom type="cylinder" material="cream" pos="2.2 1.35 .752" size=".11 .006"/>\n'
    + '  <geom type="cylinder" material="red" pos="1.6 1.3 .44" size=".17 .025"/>\n'
    + '  <geom type="cylinder" material="dark" pos="1.6 1.3 .21" size=".03 .21"/>\n'
    + '  <geom type="cylinder" material="dark" pos="1.6 1.3 .01" size=".13 .01"/>\n'
    + '  <geom type="ellipsoid" material="pot" pos="2.62 1.5 .80" size=".08 .08 .06"/>\n'
    + '  <geom type="sphere" material="red" pos="2.62 1.5 .85" size=".04"/>\n'
    + '  <geom type="sphere" material="leaf" pos="2.58 1.54 .85" size=".035"/>\n'
    # counter: top over dishwasher and chest, its sides, things on it
    + _box("cream", "2.17 3.5 .905", ".77 .31 .025")
    + _box("front", "1.42 3.5 .44", ".02 .29 .44")
    + _box("front", "2.17 3.78 .44", ".75 .02 .44")
    + _box("front", "2.055 3.5 .44", ".02 .29 .44")
    + _box("front", "2.92 3.5 .44", ".02 .29 .44")
    + _box("dark", "2.17 3.5 .04", ".75 .25 .04")
    + _box("steel", "1.75 3.55 .932", ".2 .16 .006")
    + '  <geom type="cylinder" material="steel" pos="1.75 3.70 1.0" size=".015 .09"/>\n'
    + '  <geom type="cylinder" material="red" pos="2.75 3.62 1.01" size=".055 .08"/>\n'
    + '  <geom type="cylinder" material="cream" pos="2.6 3.66 .99" size=".045 .06"/>\n'
    # fridge shell: an open box
    + _box("steel", "3.02 3.5 .88", ".02 .3 .86")
    + _box("steel", "3.68 3.5 .88", ".02 .3 .86")
    + _box("steel", "3.35 3.5 1.75", ".35 .3 .02")
    + _box("steel", "3.35 3.5 .05", ".35 .3 .05")
    + _box("inside", "3.35 3.77 .9", ".31 .02 .85")
    + _box("inside", "3.35 3.52 .55", ".31 .24 .01")
    + _box("inside", "3.35 3.52 1.0", ".31 .24 .01")
    + _box("inside", "3.35 3.52 1.4", ".31 .24 .01")
    + _box("red", "3.2 3.5 .66", ".07 .1 .1")
    + _box("leaf", "3.45 3.5 .64", ".1 .1 .08")
    + '  <geom type="cylinder" material="blue" pos="3.25 3.45 1.13" size=".05 .12"/>\n'
    + '  <geom type="cylinder" material="pot" pos="3.45 3.45 1.10" size=".05 .09"/>\n'
    # dishwasher tub
    + _box("dark", "1.74 3.75 .46", ".28 .02 .38")
    + _box("steel", "1.74 3.5 .30", ".26 .24 .01")
    + _box("steel", "1.74 3.5 .58", ".26 .24 .01")
    + "".join(
        f'  <geom type="cylinder" material="white" pos="{x} 3.42 .39" size=".085 .008" '
        f'euler="0 1.35 0"/>\n'
        for x in (1.56, 1.66, 1.76, 1.86, 1.94)
    )
    # book shelf in the far corner
    + _box("wood", "3.86 3.65 .8", ".02 .14 .8")
    + _box("wood", "4.54 3.65 .8", ".02 .14 .8")
    + "".join(_box("wood", f"4.2 3.65 {z}", ".34 .14 .015") for z in (0.06, 0.45, 0.85, 1.25, 1.6))
    + "".join(
        _box(m, f"{x} 3.62 {z}", f"{w} .1 {h}")
        for m, x, z, w, h in (
            ("red", 3.96, 1.40, 0.03, 0.12),
            ("blue", 4.03, 1.38, 0.03, 0.11),
            ("cream", 4.10, 1.41, 0.03, 0.13),
            ("leaf", 4.17, 1.37, 0.03, 0.10),
            ("blue", 4.40, 1.00, 0.05, 0.12),
            ("pot", 4.28, 0.99, 0.04, 0.11),
            ("cream", 4.00, 0.99, 0.06, 0.11),
            ("red", 4.20, 0.58, 0.10, 0.10),
        )
    )
    # sofa, cushion, plant, picture, lamp, switch
    + _box("cloth", "4.2 1.15 .22", ".36 .72 .2")
    + _box("cloth", "4.48 1.15 .58", ".1 .72 .24")
    + _box("cloth", "4.2 .38 .38", ".36 .07 .22")
    + _box("cloth", "4.2 1.92 .38", ".36 .07 .22")
    + _box("red", "4.33 .62 .52", ".06 .14 .13", 'euler="0 -.25 0"')
    + _box("cream", "4.33 1.68 .52", ".06 .14 .13", 'euler="0 -.25 0"')
    + '  <geom type="cylinder" material="pot" pos="3.55 .45 .14" size=".14 .14"/>\n'
    + "".join(
        f'  <geom type="ellipsoid" material="leaf" pos="{x} {y} {z}" size=".09 .05 .28" '
        f'euler="{a} {b} 0"/>\n'
        for x, y, z, a, b in (
            (3.55, 0.45, 0.60, 0.0, 0.0),
            (3.66, 0.45, 0.52, 0.0, 0.6),
            (3.44, 0.45, 0.52, 0.0, -0.6),
            (3.55, 0.56, 0.52, -0.6, 0.0),
        )
    )
    + _box("blue", "4.592 3.42 1.75", ".008 .16 .2")
    + _box("cream", "4.585 3.42 1.75", ".008 .10 .13")
    + _box("white", "1.31 3.79 1.15", ".05 .012 .06")
)
