"""The process that decodes: one camera in, small RGB pictures out on standard output.

It is on its own so that a decoder that hangs, grows or dies takes nothing with it. It may not write
files (a limit of 0 bytes), and what it reads is one typed source: ``/dev/videoN``, an ``rtsp://``
address, or a file that begins as a known container does; no playlist, no other address.

Each picture is `HEADER` (when it was taken, monotonic; H and W) and H x W x 3 bytes.
"""

import contextlib
import json
import os
import re
import resource
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data import video
from detach.data.recording import VideoTrack
from detach.errors import DataError, DetachError, MachineError, UsageError

HEADER = struct.Struct("<4sdHH")
MAGIC = b"DTCH"
MOST_MEMORY = 2 << 30
OPEN_MS, READ_MS = 10_000, 10_000
RTSP_OPTIONS = "rtsp_transport;tcp|analyzeduration;1000000|fpsprobesize;0"
"""FFmpeg would otherwise look at a stream for 5 s before its first picture."""
DEVICE = re.compile(r"/dev/video(\d{1,3})")
Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to read, and how pictures are wanted."""

    source: str
    fps: float
    size_px: tuple[int, int] | int
    """H and W; or the side of a square with as many pixels, in the camera's own aspect."""
    fit: str
    """``keep`` the camera's aspect, or ``crop`` a square out of it."""

    def dump(self) -> str:
        """One line for standard input."""
        return json.dumps(asdict(self)) + "\n"


def check_source(source: str) -> None:
    """Whether it is of a kind that is read; what a file holds is looked at when it is opened.

    Raises:
        UsageError: It is not.
    """
    typed = DEVICE.fullmatch(source) or re.match(r"rtsps?://[^\s|;]+$", source)
    if not typed and ("://" in source or not Path(source).suffix):
        raise UsageError(
            "camera.source must be /dev/videoN, an rtsp:// address or a video file, found "
            f"{re.sub('//.*@', '//...@', source)[:80]!r}"
        )


def pictures(order: Order) -> Iterator[tuple[float, Picture]]:
    """Monotonic time and picture, as they come; of a file in its own time.

    Raises:
        DataError: The source cannot be opened, or is no video.
    """
    check_source(order.source)
    if DEVICE.fullmatch(order.source) or order.source.startswith("rtsp"):
        yield from _of_camera(order)
    else:
        yield from _of_file(order, Path(order.source))


def main(given: IO[str], out: IO[bytes]) -> int:
    """Reads an `Order`, writes pictures until the source ends or nobody reads."""
    body = json.loads(given.readline())
    size_px = body["size_px"]
    order = Order(**{**body, "size_px": size_px if isinstance(size_px, int) else tuple(size_px)})
    _confine()
    try:
        for t_s, picture in pictures(order):
            out.write(HEADER.pack(MAGIC, t_s, *picture.shape[:2]))
            out.write(np.ascontiguousarray(picture).data)
            out.flush()
    except BrokenPipeError:
        return 0
    except DetachError as error:
        sys.stderr.write(f"{re.sub('//.*@', '//...@', str(error))}\n")
        return error.exit_code
    return 0


def _of_file(order: Order, path: Path) -> Iterator[tuple[float, Picture]]:
    claim = video.probe(path)
    track = VideoTrack(
        name=path.stem,
        file=path.name,
        fps=claim.fps,
        frames=claim.frames,
        width_px=claim.width_px,
        height_px=claim.height_px,
    )
    start_s, next_s = time.monotonic(), -1.0
    config = _config(order, claim.width_px, claim.height_px)
    for stamp_s, picture in video.decode(path, track, config):
        if stamp_s < next_s:
            continue
        next_s = stamp_s + 0.999 / order.fps
        time.sleep(max(0.0, start_s + stamp_s - time.monotonic()))
        yield start_s + stamp_s, picture


def _of_camera(order: Order) -> Iterator[tuple[float, Picture]]:
    import cv2  # noqa: PLC0415 -- only this process needs it

    capture = _opened(cv2, order)
    next_s = -1.0
    try:
        while capture.grab():  # all of them, so that none waits in a queue and grows old
            now_s = time.monotonic()
            if now_s < next_s:
                continue
            good, frame = capture.retrieve()
            if not good:
                break
            next_s = now_s + 0.9 / order.fps
            config = _config(order, frame.shape[1], frame.shape[0])
            size = video.picture_size(frame.shape[1], frame.shape[0], config)
            yield now_s, video.shrink(frame, size, config)
    finally:
        capture.release()


def _opened(cv2: Any, order: Order) -> Any:
    device = DEVICE.fullmatch(order.source)
    if device:
        capture = cv2.VideoCapture(int(device[1]), cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_FPS, order.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    else:
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = RTSP_OPTIONS
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        capture = cv2.VideoCapture(order.source, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise DataError(f"{order.source}: cannot be opened; {_why_closed(order.source)}")
    return capture


def _why_closed(source: str) -> str:
    """What is known of a camera that does not open, and what to do."""
    if not DEVICE.fullmatch(source):
        return "is the camera on, and free?"
    if not Path(source).exists():
        there = ", ".join(sorted(map(str, Path("/dev").glob("video[0-9]*")))) or "none"
        return f"there is no such device, only {there}; is it plugged in, and passed in?"
    if not os.access(source, os.R_OK | os.W_OK):
        return "this user may not; `sudo usermod -aG video USER`, then log in again"
    return "another program has it, or it is no camera for V4L2"


@cache
def _config(order: Order, width_px: int, height_px: int) -> VideoConfig:
    """The configuration under which pictures of this camera get the size that is wanted."""
    fit: Literal["crop", "keep"] = "crop" if order.fit == "crop" else "keep"
    if isinstance(order.size_px, int):
        return VideoConfig(size_px=order.size_px, fit=fit)
    area_px = round((order.size_px[0] * order.size_px[1]) ** 0.5)
    for size_px in sorted(range(16, 1025), key=lambda n: abs(n - area_px)):
        config = VideoConfig(size_px=size_px, fit=fit)
        if video.picture_size(width_px, height_px, config) == order.size_px:
            return config
    raise DataError(
        f"{order.source}: its pictures are {width_px}x{height_px}, and cannot become "
        f"{order.size_px[1]}x{order.size_px[0]} as in training; the camera has another aspect"
    )


def _confine() -> None:
    """No file may be written, no core dumped, and memory is bounded."""
    limits = {
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_AS: MOST_MEMORY,
    }
    for limit, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.stdin, sys.stdout.buffer))
    except (MachineError, KeyboardInterrupt):
        sys.exit(4)
