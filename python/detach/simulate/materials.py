"""Colours and surfaces of all homes, as MJCF."""

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
