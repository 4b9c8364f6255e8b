"""What stands in the room ``opportunity`` and never moves, as MJCF: walls, windows, furniture."""

from detach.simulate.mjcf import box

WALLS = (
    '  <geom type="plane" material="floor" pos="2.3 1.9 0" size="2.4 2 .1"/>\n'
    # back wall around door 1 (x .35 .. 1.15) and right wall around door 2 (y 2.2 .. 3)
    + box("wall", ".135 3.85 1.25", ".215 .05 1.25")
    + box("wall", ".75 3.85 2.27", ".4 .05 .23")
    + box("wall", "2.9 3.85 1.25", "1.75 .05 1.25")
    + box("wall", "4.65 1.1 1.25", ".05 1.1 1.25")
    + box("wall", "4.65 2.6 2.27", ".05 .4 .23")
    + box("wall", "4.65 3.4 1.25", ".05 .4 1.25")
    + box("tiles", "2.2 3.795 1.12", ".74 .006 .22")
    # what is seen through the open doors
    + box("hall", ".75 5.2 1.2", "1 .02 1.3")
    + box("hall", ".75 4.5 .0", ".9 .7 .005")
    + box("hall", "1.7 4.55 1.2", ".02 .65 1.3")
    + box("hall", "-.2 4.55 1.2", ".02 .65 1.3")
    + box("hall", "6 2.6 1.2", ".02 1 1.3")
    + box("hall", "5.3 2.6 .0", ".7 .9 .005")
    + box("hall", "5.35 3.6 1.2", ".65 .02 1.3")
    + box("hall", "5.35 1.6 1.2", ".65 .02 1.3")
    # ceiling, and the walls beside and behind the camera
    + box("ceiling", "2.3 1.9 2.55", "2.5 2.1 .05")
    + box("wall", "-.05 1.9 1.25", ".05 2 1.25")
    + box("wall", "2.3 -.05 1.25", "2.4 .05 1.25")
    # frames
    + box("wood", ".31 3.78 1.03", ".04 .05 1.04")
    + box("wood", "1.19 3.78 1.03", ".04 .05 1.04")
    + box("wood", ".75 3.78 2.08", ".48 .05 .04")
    + box("wood", "4.58 2.16 1.03", ".05 .04 1.04")
    + box("wood", "4.58 3.04 1.03", ".05 .04 1.04")
    + box("wood", "4.58 2.6 2.08", ".05 .48 .04")
    # windows
    + box("white", "2.2 3.80 1.78", ".52 .012 .36")
    + box("view", "1.95 3.79 1.78", ".22 .012 .31")
    + box("view", "2.45 3.79 1.78", ".22 .012 .31")
    + box("white", "4.60 1.15 1.62", ".012 .62 .44")
    + box("view", "4.59 .84 1.62", ".012 .27 .39")
    + box("view", "4.59 1.46 1.62", ".012 .27 .39")
    + box("cream", "2.9 3.797 .04", "1.68 .006 .04")
)

FURNITURE = (
    '  <geom type="box" material="rug" pos="2.35 1.4 .006" size=".85 .62 .006"/>\n'
    # table, stools, cup's plate
    + box("wood", "2.35 1.45 .72", ".46 .32 .025")
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
    + box("cream", "2.17 3.5 .905", ".77 .31 .025")
    + box("front", "1.42 3.5 .44", ".02 .29 .44")
    + box("front", "2.17 3.78 .44", ".75 .02 .44")
    + box("front", "2.055 3.5 .44", ".02 .29 .44")
    + box("front", "2.92 3.5 .44", ".02 .29 .44")
    + box("dark", "2.17 3.5 .04", ".75 .25 .04")
    + box("steel", "1.75 3.55 .932", ".2 .16 .006")
    + '  <geom type="cylinder" material="steel" pos="1.75 3.70 1.0" size=".015 .09"/>\n'
    + '  <geom type="cylinder" material="red" pos="2.75 3.62 1.01" size=".055 .08"/>\n'
    + '  <geom type="cylinder" material="cream" pos="2.6 3.66 .99" size=".045 .06"/>\n'
    # fridge shell: an open box
    + box("steel", "3.02 3.5 .88", ".02 .3 .86")
    + box("steel", "3.68 3.5 .88", ".02 .3 .86")
    + box("steel", "3.35 3.5 1.75", ".35 .3 .02")
    + box("steel", "3.35 3.5 .05", ".35 .3 .05")
    + box("inside", "3.35 3.77 .9", ".31 .02 .85")
    + box("inside", "3.35 3.52 .55", ".31 .24 .01")
    + box("inside", "3.35 3.52 1.0", ".31 .24 .01")
    + box("inside", "3.35 3.52 1.4", ".31 .24 .01")
    + box("red", "3.2 3.5 .66", ".07 .1 .1")
    + box("leaf", "3.45 3.5 .64", ".1 .1 .08")
    + '  <geom type="cylinder" material="blue" pos="3.25 3.45 1.13" size=".05 .12"/>\n'
    + '  <geom type="cylinder" material="pot" pos="3.45 3.45 1.10" size=".05 .09"/>\n'
    # dishwasher tub
    + box("dark", "1.74 3.75 .46", ".28 .02 .38")
    + box("steel", "1.74 3.5 .30", ".26 .24 .01")
    + box("steel", "1.74 3.5 .58", ".26 .24 .01")
    + "".join(
        f'  <geom type="cylinder" material="white" pos="{x} 3.42 .39" size=".085 .008" '
        f'euler="0 1.35 0"/>\n'
        for x in (1.56, 1.66, 1.76, 1.86, 1.94)
    )
    # book shelf in the far corner
    + box("wood", "3.86 3.65 .8", ".02 .14 .8")
    + box("wood", "4.54 3.65 .8", ".02 .14 .8")
    + "".join(box("wood", f"4.2 3.65 {z}", ".34 .14 .015") for z in (0.06, 0.45, 0.85, 1.25, 1.6))
    + "".join(
        box(m, f"{x} 3.62 {z}", f"{w} .1 {h}")
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
    + box("cloth", "4.2 1.15 .22", ".36 .72 .2")
    + box("cloth", "4.48 1.15 .58", ".1 .72 .24")
    + box("cloth", "4.2 .38 .38", ".36 .07 .22")
    + box("cloth", "4.2 1.92 .38", ".36 .07 .22")
    + box("red", "4.33 .62 .52", ".06 .14 .13", 'euler="0 -.25 0"')
    + box("cream", "4.33 1.68 .52", ".06 .14 .13", 'euler="0 -.25 0"')
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
    + box("blue", "4.592 3.42 1.75", ".008 .16 .2")
    + box("cream", "4.585 3.42 1.75", ".008 .10 .13")
    + box("white", "1.31 3.79 1.15", ".05 .012 .06")
)
