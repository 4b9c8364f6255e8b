"""The film of a recording that is being made: pictures by their time, and safe every few seconds.

Pictures of `PART_S` are encoded together, their packets appended to ``video.mp4`` and forced to
disk, and then a row for each (time, bytes, whether it is a key frame) to ``frames.csv``. What a
power cut leaves is as much of a film as has rows; `finished` makes it one. See `detach.data.mp4`.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data import mp4, video
from detach.data.recording import VideoTrack
from detach.errors import DataError, MachineError

FILM, INDEX, PART = "video.mp4", "frames.csv", ".part.avi"
PART_S = 5.0
LEAST_S = 5e-4
"""Two frames nearer than half a millisecond are one."""
Picture = NDArray[np.uint8]


class Film:
    """Takes pictures, and writes them in parts.

    Args:
        folder: Of the recording in the making.
        fps: Pictures a second that are expected.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, fps: float) -> None:
        self._folder, self._fps = folder, fps
        self._waiting: list[tuple[float, Picture]] = []
        self._shape: tuple[int, ...] | None = None
        self._last_s = -1.0
        self.counts: Counter[str] = Counter()
        mp4.begin(folder / FILM)
        (folder / INDEX).write_text("t_s,bytes,key,height,width\n", encoding="ascii")

    def push(self, t_s: float, picture: Picture) -> None:
        """RGB [H, W, 3] of even sides, all of the first one's size; others are left out."""
        self._shape = self._shape or picture.shape
        if picture.shape != self._shape:
            self.counts["pictures_odd_size"] += 1
        elif t_s - self._last_s < LEAST_S or t_s < 0:
            self.counts["pictures_late"] += 1
        else:
            self._last_s = t_s
            self._waiting.append((t_s, picture))

    def until(self, now_s: float) -> None:
        """Writes a part when it is time.

        Raises:
            OSError: The disk is full or gone; the part is lost and counted.
            MachineError: OpenCV cannot encode.
        """
        if self._waiting and now_s - self._waiting[0][0] >= PART_S:
            self.write()

    def write(self) -> None:
        """Writes all that waits; raises as `until`."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        film, part = self._folder / FILM, self._folder / PART
        size = film.stat().st_size
        written = 0
        try:
            video.encode(part, (picture for _, picture in waiting), self._fps)
            frames = [
                mp4.Frame(t_s, len(packet), mp4.is_key(packet))
                for (t_s, _), packet in zip(waiting, mp4.packets(part), strict=False)
            ]
            _append(film, b"".join(list(mp4.packets(part))[: len(frames)]))
            height, width = waiting[0][1].shape[:2]
            rows = [f"{f.t_s:.4f},{f.bytes},{f.key:d},{height},{width}\n" for f in frames]
            _append(self._folder / INDEX, "".join(rows).encode())
            written = len(frames)
        except OSError:
            os.truncate(film, size)
            raise
        finally:
            part.unlink(missing_ok=True)
            self.counts["pictures"] += written
            self.counts["pictures_lost"] += len(waiting) - written


def finished(folder: Path, fps: float) -> VideoTrack | None:
    """Makes the film of a folder whole, with as many frames as have a row and are there.

    It can be done again, as long as the index is there.

    Args:
        folder: Of the recording in the making.
        fps: Pictures a second that were expected.

    Returns:
        Its track; None where there is not one frame, and no film then.

    Raises:
        DataError: The index is damaged.
        MachineError: It cannot be written.
    """
    film, index = folder / FILM, folder / INDEX
    if not film.is_file():  # it had no frames, and was there when this was begun before
        return None
    try:
        frames, size_px = _indexed(index, film.stat().st_size - mp4.MDAT)
        if not frames:
            film.unlink()
        else:
            mp4.finish(film, frames, size_px, 1 / fps)
    except OSError as error:
        raise MachineError(f"{film}: {error.strerror or error}") from error
    if not frames:
        return None
    length_s = frames[-1].t_s - frames[0].t_s
    return VideoTrack(
        name="camera",
        file=FILM,
        fps=round((len(frames) - 1) / length_s, 3) if length_s > 0 else fps,
        frames=len(frames),
        width_px=size_px[1],
        height_px=size_px[0],
        start_s=frames[0].t_s,
    )


def _indexed(index: Path, there: int) -> tuple[Sequence[mp4.Frame], tuple[int, int]]:
    frames: list[mp4.Frame] = []
    size_px, total = (0, 0), 0
    lines = index.read_bytes().rstrip(b"\0").decode(errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines[1:], start=2):
        if not line.endswith("\n"):
            break  # cut short by the end
        try:
            t_s, length, key, height, width = (float(cell) for cell in line.split(","))
        except ValueError as error:
            raise DataError.at(index, number, f"five numbers expected: {error}") from error
        total += int(length)
        if total > there:
            break
        frames.append(mp4.Frame(t_s, int(length), bool(key)))
        size_px = int(height), int(width)
    return frames, size_px


def _append(path: Path, raw: bytes) -> None:
    """All of it, on disk; or none."""
    size = path.stat().st_size
    try:
        with path.open("ab", buffering=0) as file:
            if file.write(raw) != len(raw):
                raise OSError(28, "the disk is full")  # noqa: TRY301 -- as a write would
            os.fsync(file.fileno())
    except OSError:
        os.truncate(path, size)
        raise
