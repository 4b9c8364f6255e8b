"""Video files to small RGB pictures with time stamps. The only importer of cv2.

A file is opened only when its first bytes are those of a container we know: a playlist or a
script under another name could make the decoder open other files. Decoders end early without a
word when a file is damaged, so what came out is counted against what the recording and the
container promise.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data.recording import VideoTrack
from detach.errors import DataError, MachineError

SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"}
LARGEST_SIDE_PX = 16384
FLOW_STEP_PX = 0.125
"""Optical flow is kept as int8 in steps of so many pixels, up to 16 pixels either way."""

LATIN = (
    str.maketrans("øłđðØŁĐÐ\u0131\u2013\u2019", "olddOLDDi-'")
    | str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"})
    | str.maketrans({"ẞ": "SS", "Æ": "Ae", "Œ": "Oe", "Þ": "Th"})
)
"""Letters and signs that Unicode does not take apart."""
UMLAUT = re.compile("(?<=[aouAOU])\u0308")

Pictures = NDArray[np.uint8]
Container = Literal["mp4", "avi", "matroska"]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a container says of itself."""

    container: Container
    frames: int
    fps: float
    width_px: int
    height_px: int


def probe(path: Path) -> Probe:
    """Opens a video and says what it claims to hold, without decoding it.

    Raises:
        DataError: Not a video file that we read, or damaged.
        MachineError: cv2 is not installed.
    """
    capture, kind = _open(path)
    try:
        return _claim(capture, kind)
    finally:
        capture.release()


def picture_size(width_px: int, height_px: int, config: VideoConfig) -> tuple[int, int]:
    """H and W of the pictures made from a camera of this size.

    ``crop`` gives a square; ``keep`` the camera's aspect with the same area, sides in steps of 8.
    """
    if config.fit == "crop":
        return config.size_px, config.size_px
    stretch = (width_px / height_px) ** 0.5
    sides = (config.size_px / stretch, config.size_px * stretch)
    return max(8, 8 * round(sides[0] / 8)), max(8, 8 * round(sides[1] / 8))


def decode(path: Path, track: VideoTrack, config: VideoConfig) -> Iterator[tuple[float, Pictures]]:
    """All frames in order: time stamp in the file (s) and RGB picture [H, W, 3].

    Raises:
        DataError: Not a video, not the one that ``track`` describes, or frames are missing. The
            count is checked after the last frame.
    """
    cv2 = _cv2()
    capture, kind = _open(path)
    claim = _claim(capture, kind)
    _check_claim(path, track, claim)
    size = picture_size(track.width_px, track.height_px, config)
    count, last_s = 0, -1.0
    try:
        while capture.grab():
            t_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            good, frame = capture.retrieve()
            if not good:
                break
            if t_s <= last_s:
                raise DataError(
                    f"{path}: frame {count} has time stamp {t_s:.3f} s after {last_s:.3f} s; "
                    "stamps must rise. Encode the video again"
                )
            _check_picture(path, track, frame.shape)
            if count > 2 * track.frames + 100:
                break  # it may go on for ever
            yield t_s, shrink(frame, size, config)
            count, last_s = count + 1, t_s
    finally:
        capture.release()
    _check_count(path, track, claim, count)
    _check_length(path, track, last_s)


def shrink(frame: Pictures, size: tuple[int, int], config: VideoConfig) -> Pictures:
    """BGR of the camera [h, w, 3] to RGB of another H and W, as training sees it."""
    cv2 = _cv2()
    if config.fit == "crop":
        side = min(frame.shape[:2])
        top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
        frame = frame[top : top + side, left : left + side]
    grows = size[0] > frame.shape[0]
    method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
    small = cv2.resize(frame, (size[1], size[0]), interpolation=method)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))


def dense_flow(pictures: Pictures, pairs: NDArray[np.int32]) -> Iterator[NDArray[np.int8]]:
    """DIS optical flow between pairs of frames, in steps of `FLOW_STEP_PX`.

    Args:
        pictures: RGB [n, H, W, 3].
        pairs: Index of the earlier and the later frame [P, 2].

    Yields:
        [H, W, 2] for each pair: x then y, in pixels of these small pictures.
    """
    cv2 = _cv2()
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    for pair in pairs:
        grey = [cv2.cvtColor(np.ascontiguousarray(pictures[i]), cv2.COLOR_RGB2GRAY) for i in pair]
        flow = dis.calc(grey[0], grey[1], None)
        yield np.clip(np.round(flow / FLOW_STEP_PX), -127, 127).astype(np.int8)


def write(path: Path, pictures: Iterable[Pictures], fps: float) -> int:
    """Writes RGB pictures [H, W, 3] of even sides as a video (MPEG-4), whole or not at all.

    Returns:
        How many.

    Raises:
        MachineError: It cannot be written, or comes out shorter; nothing is left behind.
    """
    part = path.with_name(f".{path.stem}.part.mp4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        count = encode(part, pictures, fps)
        if count == 0:
            raise MachineError(f"{path}: there is no picture to write")
        if probe(part).frames != count:
            raise MachineError(f"{path}: the video came out short; is the disk full?")
        part.replace(path)
    except (DataError, OSError) as error:
        raise MachineError(f"{path}: cannot be written: {error}") from error
    finally:
        if part.exists():
            part.unlink()
    return count


def encode(path: Path, pictures: Iterable[Pictures], fps: float) -> int:
    """Encodes what comes, as long as it comes, as MPEG-4; the container is that of the suffix.

    Returns:
        How many. OpenCV does not tell when they did not all reach the disk.

    Raises:
        MachineError: OpenCV cannot begin.
    """
    cv2 = _cv2()
    writer, count = None, 0
    try:
        for picture in pictures:
            if writer is None:
                size = (picture.shape[1], picture.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise MachineError(f"{path.parent}: OpenCV cannot write MPEG-4 video there")
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    return count


def resized(picture: Pictures, size_px: tuple[int, int]) -> Pictures:
    """[H, W, 3] at another H and W."""
    return np.asarray(_cv2().resize(picture, (size_px[1], size_px[0])))


def put_text(
    picture: Pictures, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int]
) -> None:
    """Writes into a contiguous picture; ``at`` is x and y of the baseline's left end.

    OpenCV 4 draws ASCII alone: other letters are written as `in_ascii` has them.
    """
    cv2 = _cv2()
    if cv2.__version__.startswith("4."):
        text = in_ascii(text)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def in_ascii(text: str) -> str:
    """Text in ASCII, as in addresses: "Öffnen" is "Oeffnen", "Café" is "Cafe".

    Letters that have no such form, as those of other scripts, become question marks.
    """
    composed = unicodedata.normalize("NFC", text).translate(LATIN)
    apart = [UMLAUT.sub("e", unicodedata.normalize("NFKD", letter)) for letter in composed]
    return "".join(letter.encode("ascii", "ignore").decode() or "?" for letter in apart)


def _cv2() -> ModuleType:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # damage is reported by our own errors
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        import cv2  # noqa: PLC0415  only who decodes video needs it
    except ImportError as error:
        raise MachineError(
            "reading video needs cv2, which cannot be imported "
            f"({error}): pip install opencv-python-headless"
        ) from error
    return cv2


def container_of(path: Path) -> Container:
    """What its first bytes say it is.

    Raises:
        DataError: Nothing that we read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if path.suffix.lower() in SUFFIXES and "%" not in path.name:
        if head[4:8] == b"ftyp":
            return "mp4"
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return "avi"
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return "matroska"
    raise DataError(
        f"{path}: not a video file; MP4, MOV, AVI, MKV or WebM expected, it starts with "
        f"{head[:12]!r}. Playlists, addresses and text are refused"
    )


def check_whole(path: Path) -> None:
    """Compares the file's size with what AVI and MP4 say of their parts, without decoding.

    The count of frames that a container claims is no help: where a download broke off it is still
    that of the whole file.

    Raises:
        DataError: Nothing that we read, or bytes are missing.
    """
    kind, size = container_of(path), path.stat().st_size
    end = 0
    with path.open("rb") as file:
        while kind != "matroska" and end < size:
            file.seek(end)
            head = file.read(16)
            length = _part_length(head, kind)
            if length < 8:  # says 0: up to the end, or is not known
                return
            end += length
    if end > size:
        raise DataError(
            f"{path}: is {size / 1e6:.1f} MB and should be {end / 1e6:.1f} MB by what it says of "
            "its parts; the download broke off. Get it again"
        )


def _part_length(head: bytes, kind: Container) -> int:
    """Bytes of a part of a file, from its first 16 bytes; 0 where they do not tell.

    Whoever cannot go back to the start of a file writes 0 or the largest number; and what stands
    after the last part need be none.
    """
    if kind == "avi":
        length = int.from_bytes(head[4:8], "little")
        return 8 + length if head[:4] == b"RIFF" and 0 < length < 2**32 - 1 else 0
    if not head[4:8].isalnum():
        return 0
    length = int.from_bytes(head[:4], "big")
    return int.from_bytes(head[8:16], "big") if length == 1 else length


def _open(path: Path) -> tuple[Any, Container]:
    cv2 = _cv2()
    kind = container_of(path)
    options = [cv2.CAP_PROP_N_THREADS, 1]  # the pool decodes several files at once
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        raise DataError(
            f"{path}: a {kind} file that cannot be opened; it is cut short, damaged, or its codec "
            "is not in this build of OpenCV. Copy it again, or encode it as H.264 or MPEG-4"
        )
    return capture, kind


def _claim(capture: Any, kind: Container) -> Probe:
    cv2 = _cv2()
    return Probe(
        container=kind,
        frames=round(capture.get(cv2.CAP_PROP_FRAME_COUNT)),
        fps=float(capture.get(cv2.CAP_PROP_FPS)),
        width_px=round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        height_px=round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
    )


def _check_claim(path: Path, track: VideoTrack, claim: Probe) -> None:
    """Before the first picture takes the memory that the file asks for."""
    if max(claim.width_px, claim.height_px) > LARGEST_SIDE_PX:
        raise DataError(
            f"{path}: says its pictures are {claim.width_px}x{claim.height_px}, at most "
            f"{LARGEST_SIDE_PX} a side are read, and recording.json says "
            f"{track.width_px}x{track.height_px}. Copy it again"
        )


def _check_picture(path: Path, track: VideoTrack, shape: tuple[int, ...]) -> None:
    if shape[:2] != (track.height_px, track.width_px):
        raise DataError(
            f"{path}: pictures are {shape[1]}x{shape[0]}, but recording.json says "
            f"{track.width_px}x{track.height_px}; this is another file's content. Copy it again"
        )


def _check_count(path: Path, track: VideoTrack, claim: Probe, found: int) -> None:
    # One frame is tolerated. Matroska has no count of its own; FFmpeg guesses from the length.
    slack = max(1, claim.frames // 50) if claim.container == "matroska" else 1
    if found == 0 or abs(found - track.frames) > 1:
        expected, who = track.frames, "recording.json"
    elif claim.frames - found > slack:
        expected, who = claim.frames, "the container"
    else:
        return
    what = "it is cut short or damaged" if found < expected else "it is another file's content"
    raise DataError(
        f"{path}: {found} frames can be decoded, {expected} expected by {who}; {what}. "
        "Copy or import it again"
    )


def _check_length(path: Path, track: VideoTrack, last_s: float) -> None:
    # Pauses of a camera are usual and make it longer; half the length is another rate, or file.
    length_s = track.frames / track.fps
    if length_s - last_s > 2.0 and last_s < 0.5 * length_s:
        raise DataError(
            f"{path}: its last frame is at {last_s:.1f} s, but {track.frames} frames at "
            f"{track.fps:g} per second take {length_s:.1f} s. Check fps in recording.json"
        )
