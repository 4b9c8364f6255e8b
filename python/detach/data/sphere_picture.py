"""Pictures for SPHERE: a figure for each box, drawn on the photograph of the empty room.

The data set holds no video, only boxes around people. What is drawn here moves as the real person
moved and is as large; it has no appearance. Three views stand side by side in the order of CAMERAS.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detach.data.recording import VideoTrack
from detach.data.sphere_files import CAMERAS, merged
from detach.errors import DataError, MachineError

VIEW_PX = (160, 120)
"""Width and height of one view."""
GRID_PX = (320, 240)
"""Of the boxes; the photographs are twice that."""
HOLD_S = 0.25
"""A frame shows the boxes nearest to its time, up to this far away. Boxes come every 31 ms; in
gaps of up to half a second the tracker has blinked, not the person left."""
FRACTION_BITS = 4
LOOK_EVERY, SPARE_BYTES = 200, 8 << 20
"""Frames between two looks at the disk, and what must be free: OpenCV fails frame by frame, with a
warning each, and only this ends it in one message."""

SHADOW = (20, 25, 30)
TROUSERS, SHIRT, SLEEVE, SKIN, HAIR = (
    *((82, 62, 52), (128, 92, 70), (112, 80, 60)),
    *((132, 160, 200), (40, 48, 58)),
)
"""Blue, green, red."""

Image = NDArray[np.uint8]
Point = tuple[float, float]


def load_photographs(paths: Mapping[str, Path]) -> dict[str, Image]:
    """Each camera's empty room at `VIEW_PX`, blue-green-red.

    Raises:
        DataError: A file is not a picture.
    """
    loaded = {}
    for camera in CAMERAS:
        content = np.fromfile(paths[camera], dtype=np.uint8)
        picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
        if picture is None:
            raise DataError(f"{paths[camera]}: not a picture; is the copy whole?")
        small = cv2.resize(picture, VIEW_PX, interpolation=cv2.INTER_AREA)
        loaded[camera] = small.astype(np.uint8)
    return loaded


def presence(boxes: Mapping[str, NDArray[np.float64]], duration_s: float) -> NDArray[np.float64]:
    """When a picture shows somebody: stretches [n, 2] in seconds, over all cameras."""
    times = np.concatenate([b[:, 0] for b in boxes.values()])
    held = np.stack([times - HOLD_S, times + HOLD_S], axis=1)
    return np.clip(merged(held), 0.0, duration_s)


def write_video(
    path: Path,
    boxes: Mapping[str, NDArray[np.float64]],
    photographs: Mapping[str, Image],
    duration_s: float,
    fps: float,
) -> VideoTrack:
    """Writes ``path``; frame i shows the time i / ``fps``.

    Raises:
        MachineError: The video cannot be written, or not whole.
    """
    count = max(1, int(duration_s * fps + 1e-6))
    size = (VIEW_PX[0] * len(CAMERAS), VIEW_PX[1])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    try:
        for i, frame in enumerate(draw_frames(boxes, photographs, np.arange(count) / fps)):
            if i % LOOK_EVERY == 0 and shutil.disk_usage(path.parent).free < SPARE_BYTES:
                raise MachineError(f"{path}: the disk is full; free some space and start again")
            writer.write(frame)
    finally:
        writer.release()
    if frames_in(path) != count:  # a failed write raises nothing in OpenCV
        raise MachineError(f"{path}: the video could not be written whole; is the disk full?")
    width, height = size
    return VideoTrack(
        name="rooms", file=path.name, fps=fps, frames=count, width_px=width, height_px=height
    )


def frames_in(path: Path) -> int:
    """Frames a video file claims; 0 when it does not open."""
    reader = cv2.VideoCapture(str(path))
    try:
        return int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    finally:
        reader.release()


def draw_frames(
    boxes: Mapping[str, NDArray[np.float64]],
    photographs: Mapping[str, Image],
    times_s: NDArray[np.float64],
) -> Iterator[Image]:
    """One picture [H, 3 W, 3] for each time. The caller must not keep or change them."""
    empty = np.concatenate([photographs[c] for c in CAMERAS], axis=1)
    rows = {c: nearest_rows(boxes[c][:, 0], times_s) for c in CAMERAS}
    for i in range(len(times_s)):
        people = {c: boxes[c][slice(*rows[c][i])] for c in CAMERAS}
        if not any(len(p) for p in people.values()):
            yield empty
            continue
        frame = empty.copy()
        for place, camera in enumerate(CAMERAS):
            view = frame[:, place * VIEW_PX[0] : (place + 1) * VIEW_PX[0]]
            for box in people[camera][np.argsort(-people[camera][:, 6])]:  # the far one first
                draw_person(view, box)
        yield frame


def nearest_rows(box_s: NDArray[np.float64], times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """First and last + 1 of the rows nearest to each time [n, 2]; equal when none is near."""
    stamps = np.unique(box_s)
    if not len(stamps):
        return np.zeros((len(times_s), 2), dtype=np.int64)
    after = np.clip(np.searchsorted(stamps, times_s), 0, len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    closer = np.abs(stamps[before] - times_s) <= np.abs(stamps[after] - times_s)
    nearest = stamps[np.where(closer, before, after)]
    first = np.searchsorted(box_s, nearest, side="left")
    last = np.searchsorted(box_s, nearest, side="right")
    last = np.where(np.abs(nearest - times_s) <= HOLD_S, last, first)
    return np.stack([first, last], axis=1)


def draw_person(view: Image, box: NDArray[np.float64]) -> None:
    """Draws a figure that fills ``box`` (columns of `BOX`, on the grid) into ``view``, in place."""
    scale = VIEW_PX[0] / GRID_PX[0]
    left, top, right, bottom, mass = (box[1:6] * scale).tolist()
    _shade_floor(view, (left + right) / 2, bottom, right - left)
    if bottom - top > 0.9 * (right - left):
        _draw_upright(view, (left, top, right, bottom), mass)
    else:
        _draw_lying(view, (left, top, right, bottom), mass)


def _draw_upright(view: Image, box: tuple[float, float, float, float], mass: float) -> None:
    left, top, right, bottom = box
    w, h = right - left, bottom - top
    middle = (left + right) / 2
    lean = float(np.clip(mass - middle, -0.15 * w, 0.15 * w))
    head = min(0.2 * w, 0.12 * h)
    neck, hip = top + 2 * head, top + 0.55 * h
    limb = 0.17 * w
    for side in (-1, 1):
        foot = (middle + side * 0.24 * w, bottom - limb / 2)
        _capsule(view, (middle + lean + side * 0.12 * w, hip), foot, limb, TROUSERS)
    for side in (-1, 1):
        shoulder = (middle + lean + side * 0.26 * w, neck + 0.08 * h)
        hand = (middle + side * 0.42 * w, hip)
        _capsule(view, shoulder, hand, 0.7 * limb, SLEEVE)
        _disc(view, hand, (0.35 * limb, 0.35 * limb), SKIN)
    chest = (middle + lean, (neck + hip) / 2)
    _disc(view, chest, (0.3 * w, 0.58 * (hip - neck)), SHIRT)
    _draw_head(view, (middle + 1.4 * lean, top + head), head)


def _draw_lying(view: Image, box: tuple[float, float, float, float], mass: float) -> None:
    """Wider than high: lying, or bent far over. The head is on the side of the mass."""
    left, top, right, bottom = box
    w, h = right - left, bottom - top
    side = 1.0 if mass >= (left + right) / 2 else -1.0
    middle, centre = (left + right) / 2, (top + bottom) / 2
    head = min(0.28 * h, 0.14 * w)
    feet = (middle - side * (0.5 * w - 0.12 * h), bottom - 0.2 * h)
    hips = (middle - side * 0.05 * w, centre + 0.1 * h)
    _capsule(view, hips, feet, 0.34 * h, TROUSERS)
    _disc(view, (middle + side * 0.13 * w, centre), (0.24 * w, 0.42 * h), SHIRT)
    elbow = (middle + side * 0.05 * w, bottom - 0.15 * h)
    _capsule(view, (middle + side * 0.25 * w, centre), elbow, 0.2 * h, SLEEVE)
    _draw_head(view, (middle + side * (0.5 * w - head), top + 1.2 * head), head)


def _draw_head(view: Image, centre: Point, radius: float) -> None:
    _disc(view, centre, (0.85 * radius, radius), HAIR)
    _disc(view, (centre[0], centre[1] + 0.3 * radius), (0.65 * radius, 0.7 * radius), SKIN)


def _shade_floor(view: Image, x: float, y: float, width: float) -> None:
    """A faint shadow under the figure."""
    half = max(2.0, 0.6 * width)
    rows = slice(max(0, int(y - 0.3 * half)), max(0, int(y + 0.3 * half) + 1))
    columns = slice(max(0, int(x - half)), max(0, int(x + half) + 1))
    part = view[rows, columns]
    if not part.size:
        return
    dark = part.copy()
    at = _fixed((x - columns.start, y - rows.start))
    cv2.ellipse(
        dark, at, _fixed((half, 0.3 * half)), 0, 0, 360, SHADOW, -1, cv2.LINE_AA, FRACTION_BITS
    )
    part[...] = cv2.addWeighted(part, 0.65, dark, 0.35, 0)


def _disc(view: Image, centre: Point, radii: Point, colour: tuple[int, int, int]) -> None:
    """An ellipse lit from above: a lighter one inside."""
    for grow, light in ((1.0, 0.82), (0.72, 1.05)):
        lit = tuple(min(255, int(light * c)) for c in colour)
        at = (centre[0] - (1 - grow) * 0.3 * radii[0], centre[1] - (1 - grow) * 0.4 * radii[1])
        size = _fixed((max(0.6, grow * radii[0]), max(0.6, grow * radii[1])))
        cv2.ellipse(view, _fixed(at), size, 0, 0, 360, lit, -1, cv2.LINE_AA, FRACTION_BITS)


def _capsule(
    view: Image, start: Point, end: Point, width: float, colour: tuple[int, int, int]
) -> None:
    thick = max(1, round(width))
    edge: Any = tuple(int(0.8 * c) for c in colour)
    cv2.line(view, _fixed(start), _fixed(end), edge, thick, cv2.LINE_AA, FRACTION_BITS)
    if thick > 2:
        cv2.line(view, _fixed(start), _fixed(end), colour, thick - 2, cv2.LINE_AA, FRACTION_BITS)


def _fixed(point: Point) -> tuple[int, int]:
    """Sub-pixel positions, so that slow movement does not jump from pixel to pixel."""
    return round(point[0] * (1 << FRACTION_BITS)), round(point[1] * (1 << FRACTION_BITS))
