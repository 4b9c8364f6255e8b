"""Films a run: the room as things move in it, its people and what they carry, light and noise."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detach.data.recording import VideoTrack
from detach.errors import MachineError
from detach.simulate.home import Home
from detach.simulate.levels import Level
from detach.simulate.path import Path as Way
from detach.simulate.path import in_sight, walk_through
from detach.simulate.person import Body, Figure, Limb, effort, items_of
from detach.simulate.physics import Traces
from detach.simulate.plan import Act
from detach.simulate.render import Camera, as_filmed, light_over_time

Progress = Callable[[str], None]
Rngs = Callable[[int], np.random.Generator]

CODEC = "mp4v"
LAMP_OFF = 0.35
CLEAR_M = 0.3
"""Nearer than this to a camera on somebody's head nothing of them is drawn."""
CAMERAS = ("corner", "head")


@dataclass(frozen=True)
class Shot:
    """All that a film needs of a run."""

    name: str
    home: Home
    level: Level
    scripts: Sequence[Sequence[Act]]
    traces: Traces
    bodies: Sequence[Body]
    seconds: float
    size_px: tuple[int, int]
    fps: float
    camera: str
    """corner, where the home has its camera; head, on the first person."""
    rng: Rngs


def film(shot: Shot, backend: str, file: Path, progress: Progress | None) -> VideoTrack:
    """Writes the film to ``file``.

    Raises:
        MachineError: The video cannot be written.
    """
    frames = int(shot.seconds * shot.fps)
    paths = [
        walk_through(shot.home, s, shot.traces.fraction, shot.fps, frames) for s in shot.scripts
    ]
    noise = shot.rng(6)
    light = light_over_time(shot.rng(7), shot.level, frames, shot.fps)
    lamp = lamp_over_time(shot.scripts, shot.rng(8), frames, shot.fps)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*CODEC), shot.fps, shot.size_px)
    if not writer.isOpened():
        raise MachineError(f"{file}: OpenCV cannot write {CODEC} video here; is the disk full?")
    with closing(Camera(shot.home, backend, shot.size_px)) as camera:
        for f in range(frames):
            limbs = _pose(shot, camera, paths, f)
            picture = camera.picture(limbs, float(lamp[f]), float(light[f, 0]))
            filmed = as_filmed(picture, float(light[f, 1]), shot.level.camera_noise, noise)
            writer.write(np.ascontiguousarray(filmed[..., ::-1]))
            if progress and f % 600 == 599:
                progress(f"{shot.name}: {(f + 0.5) / shot.fps:.0f} of {shot.seconds:.0f} s")
    writer.release()
    _check_video(file, frames)
    width, height = shot.size_px
    return VideoTrack(
        name=shot.home.view.name if shot.camera == "corner" else shot.camera,
        file=file.name,
        fps=shot.fps,
        frames=frames,
        width_px=width,
        height_px=height,
        start_s=0.5 / shot.fps,
    )


def lamp_over_time(
    scripts: Sequence[Sequence[Act]], rng: np.random.Generator, frames: int, fps: float
) -> NDArray[np.float64]:
    """How bright the lamp is at each frame: each toggle turns it on or off."""
    on = np.ones(frames)
    start = 0
    bright = bool(rng.random() < 0.7)
    toggles = sorted(
        (act.start_s + act.end_s) / 2 for acts in scripts for act in acts if act.kind == "toggle"
    )
    for at_s in toggles:
        turn = min(frames, int(at_s * fps))
        on[start:turn], start, bright = 1.0 if bright else LAMP_OFF, turn, not bright
    on[start:] = 1.0 if bright else LAMP_OFF
    return on


def _pose(shot: Shot, camera: Camera, paths: Sequence[Way], f: int) -> list[Limb]:
    """Sets things as they are at a frame, and the camera where it is; returns what to draw."""
    t_s = (f + 0.5) / shot.fps
    joints = shot.traces.joints
    camera.pose(joints[min(len(joints) - 1, int(t_s * shot.home.sensor_hz))])
    figures: list[tuple[Act, Figure]] = []
    for script, path, body in zip(shot.scripts, paths, shot.bodies, strict=True):
        act = script[path.act[f]]
        handle = camera.handle(shot.home.things[act.thing].slug) if act.kind == "use" else None
        figures.append((act, body.figure(shot.home, path, f, act, t_s, handle)))
    limbs = [limb for act, figure in figures if in_sight(act, t_s) for limb in figure.limbs]
    if shot.camera == "head":
        wearer = figures[0][1]
        camera.look(wearer.head, wearer.gaze)
        limbs = [x for x in limbs if np.linalg.norm(x.start - wearer.head) > CLEAR_M]
    if not limbs:  # and nothing that one could carry, since the levels were frozen so
        return []
    held = [(act, effort(act, t_s), figure.hand) for act, figure in figures]
    return [*limbs, *items_of(shot.home, held)]


def _check_video(file: Path, frames: int) -> None:
    """OpenCV says nothing when a picture could not be written."""
    video = cv2.VideoCapture(str(file))
    found = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    if found != frames:
        raise MachineError(
            f"{file}: {frames} pictures were written, {found} are there; is the disk full?"
        )
