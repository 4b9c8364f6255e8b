"""Small pieces of MJCF, MuJoCo's XML, that every home is written with."""

from collections.abc import Sequence

from detach.simulate.home import View
from detach.simulate.materials import ASSETS


def document(
    name: str,
    view: View,
    *,
    timestep_s: float,
    size_px: tuple[int, int],
    lights: str,
    fixed: str,
    moving: str,
    sensors: str,
) -> str:
    """A whole home: what never moves, what does, and the accelerometers on it."""
    return f"""<mujoco model="{name}">
<option timestep="{timestep_s:.8f}" integrator="implicitfast" cone="elliptic"/>
<compiler angle="radian"/>
<visual>
  <global offwidth="{size_px[0]}" offheight="{size_px[1]}" fovy="{view.fov_deg}"/>
  <quality shadowsize="0" offsamples="0" numslices="14" numstacks="8" numquads="2"/>
  <headlight ambient=".36 .36 .37" diffuse=".26 .26 .26" specular=".05 .05 .05"/>
  <map znear=".01" zfar="30"/>
</visual>
<default>
  <geom contype="0" conaffinity="0" group="1"/>
  <joint damping=".4" solreflimit=".012 .7" limited="true"/>
</default>
{ASSETS}
<worldbody>
{lights}  <camera name="{view.name}" pos="{numbers(view.eye)}" xyaxes="{camera_axes(view)}"
    fovy="{view.fov_deg}"/>
{fixed}
{moving}</worldbody>
<sensor>{sensors}</sensor>
</mujoco>"""


def box(material: str, pos: str, half: str, extra: str = "") -> str:
    """A box by its centre and half its sides."""
    return f'  <geom type="box" material="{material}" pos="{pos}" size="{half}" {extra}/>\n'


def springs(mass_kg: float, hz: float, axes: str, damping_ratio: float) -> str:
    """Sliding joints with springs, so that a body of ``mass_kg`` rings at ``hz``."""
    omega = 2 * 3.141592653589793 * hz
    stiffness, damping = mass_kg * omega**2, 2 * damping_ratio * mass_kg * omega
    unit = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}
    # Gravity would let the body sag by a fraction of a millimetre; z starts there at once.
    return "".join(
        f'<joint type="slide" axis="{unit[a]}" stiffness="{stiffness:.1f}" '
        f'damping="{damping:.1f}" limited="false"/>'
        for a in axes
    )


def numbers(values: Sequence[float]) -> str:
    """As MJCF writes a vector."""
    return " ".join(f"{v:.6g}" for v in values)


def camera_axes(view: View) -> str:
    """The camera's x and y axes, so that it looks where it should, upright."""
    back = [e - t for e, t in zip(view.eye, view.look_at, strict=True)]
    right = _unit([-back[1], back[0], 0.0])
    return numbers((*right, *_unit(_cross(back, right))))


def _unit(v: list[float]) -> list[float]:
    length = sum(c * c for c in v) ** 0.5
    return [c / length for c in v]


def _cross(a: list[float], b: list[float]) -> list[float]:
    return [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
