"""Draws a home and its people as the fixed camera, or one on somebody's head, sees them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.simulate.home import Home
from detach.simulate.levels import Level
from detach.simulate.machine import gl_context, import_mujoco
from detach.simulate.person import Limb

MOST_GEOMS = 600
HEAD_FOV_DEG = 80.0
"""Of a camera worn on the head."""


class Camera:
    """The room on a graphics backend; close it when done."""

    def __init__(self, home: Home, backend: str, size_px: tuple[int, int]) -> None:
        self.mj: Any = import_mujoco()
        self.size_px = size_px
        self.gl = gl_context(backend, *size_px)
        self.model = self.mj.MjModel.from_xml_string(home.mjcf(size_px=size_px))
        self.data = self.mj.MjData(self.model)
        self.scene = self.mj.MjvScene(self.model, maxgeom=MOST_GEOMS)
        self.scene.flags[self.mj.mjtRndFlag.mjRND_REFLECTION] = False
        self.scene.flags[self.mj.mjtRndFlag.mjRND_SHADOW] = False
        self.scene.flags[self.mj.mjtRndFlag.mjRND_SKYBOX] = False
        self.context = self.mj.MjrContext(self.model, self.mj.mjtFontScale.mjFONTSCALE_50)
        self.mj.mjr_setBuffer(self.mj.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.view = self.mj.MjvCamera()
        self.view.type = self.mj.mjtCamera.mjCAMERA_FIXED
        self.view.fixedcamid = 0
        self.option = self.mj.MjvOption()
        self.rect = self.mj.MjrRect(0, 0, *size_px)
        self.lamp = self.model.light_diffuse.copy()
        self.ambient = self.model.vis.headlight.ambient.copy()
        self.pose(np.zeros(self.model.nq, dtype=np.float32))

    def close(self) -> None:
        """Gives the graphics back."""
        self.context.free()
        self.gl.free()

    def pose(self, joints: NDArray[np.float32]) -> None:
        """Sets all joint positions."""
        self.data.qpos[:] = joints
        self.mj.mj_kinematics(self.model, self.data)
        self.mj.mj_camlight(self.model, self.data)

    def handle(self, slug: str) -> NDArray[np.float64]:
        """Where a thing's handle is now."""
        return np.array(self.data.site(f"{slug}_handle").xpos)

    def look(self, eye: NDArray[np.float64], to: NDArray[np.float64]) -> None:
        """Takes the camera off its wall: it looks from ``eye`` to ``to``, upright."""
        way = to - eye
        distance = float(np.linalg.norm(way))
        self.view.type = self.mj.mjtCamera.mjCAMERA_FREE
        self.view.lookat[:] = to
        self.view.distance = distance
        self.view.azimuth = float(np.degrees(np.arctan2(way[1], way[0])))
        self.view.elevation = float(np.degrees(np.arcsin(way[2] / max(distance, 1e-9))))
        self.model.vis.global_.fovy = HEAD_FOV_DEG

    def picture(
        self, limbs: Sequence[Limb], lamp: float = 1.0, daylight: float = 1.0
    ) -> NDArray[np.uint8]:
        """One picture [H, W, 3], RGB, with the person's limbs drawn in."""
        self.model.light_diffuse[0] = self.lamp[0] * lamp
        self.model.light_diffuse[1] = self.lamp[1] * daylight
        self.model.vis.headlight.ambient[:] = self.ambient * (0.45 + 0.25 * lamp + 0.3 * daylight)
        self.mj.mjv_updateScene(
            self.model,
            self.data,
            self.option,
            None,
            self.view,
            self.mj.mjtCatBit.mjCAT_ALL,
            self.scene,
        )
        for limb in limbs:
            self._add(limb)
        self.mj.mjr_render(self.rect, self.scene, self.context)
        width, height = self.size_px
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        self.mj.mjr_readPixels(pixels, None, self.rect, self.context)
        return np.ascontiguousarray(pixels[::-1])

    def _add(self, limb: Limb) -> None:
        if self.scene.ngeom >= MOST_GEOMS:
            return
        geom = self.scene.geoms[self.scene.ngeom]
        same = np.allclose(limb.start, limb.end)
        shape = self.mj.mjtGeom.mjGEOM_SPHERE if same else self.mj.mjtGeom.mjGEOM_CAPSULE
        self.mj.mjv_initGeom(
            geom,
            shape,
            np.array([limb.radius] * 3),
            np.asarray(limb.start, dtype=np.float64),
            np.eye(3).reshape(-1),
            np.array([*limb.colour, 1.0], dtype=np.float32),
        )
        if not same:
            self.mj.mjv_connector(geom, shape, limb.radius, limb.start, limb.end)
        geom.specular = 0.1
        self.scene.ngeom += 1


def light_over_time(
    rng: np.random.Generator, level: Level, frames: int, fps: float
) -> NDArray[np.float64]:
    """Daylight and exposure at each frame, [F, 2]: clouds take minutes, flicker takes none."""
    t_s = np.arange(frames) / fps
    day = np.full(frames, 1.0 + level.light * rng.uniform(-1.0, 1.0))
    for period_s in (31.0, 83.0, 240.0):
        day = day + 0.4 * level.light * np.sin(2 * np.pi * (t_s / period_s + rng.random()))
    exposure = 1.0 + level.flicker * rng.normal(0.0, 1.0, frames)
    return np.stack([np.clip(day, 0.2, 2.0), exposure], axis=1)


def as_filmed(
    picture: NDArray[np.uint8], exposure: float, noise: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A picture with the camera's exposure and noise."""
    grain = rng.standard_normal(picture.shape, dtype=np.float32) * noise
    return np.clip(picture * exposure + grain + 0.5, 0, 255).astype(np.uint8)
