"""A film that grows frame by frame, each with its own time, and that any end leaves readable.

OpenCV can only write films of an even rate, whose index comes last. So a few seconds at a time are
encoded into a small AVI, its packets are appended here, and time and length of each go into an
index that is on disk as soon as they are. To finish, nothing is copied: the box around the packets
gets its length and the MP4 its table of frames (ISO 14496-12 and 14496-14; MPEG-4 part 2 video).
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from detach.errors import DataError

TICKS = 10_000
"""Of the film's clock, a second."""
HEAD = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp41")
MDAT = len(HEAD) + 16
"""Where the packets begin: behind a box with a length of 64 bits."""
VOP, KEY_VOP = b"\0\0\1\xb6", 0
GROUP = b"\0\0\1\xb3"


@dataclass(frozen=True)
class Frame:
    """One packet of the film."""

    t_s: float
    bytes: int
    key: bool
    """Whether it can be decoded by itself."""


def packets(avi: Path) -> Iterator[bytes]:
    """The packets of an AVI with one film, in order; of one that is cut short, those before it.

    Raises:
        OSError: It cannot be read.
    """
    raw = avi.read_bytes()
    at = raw.find(b"movi") + 4
    while raw[at : at + 4] == b"00dc":
        (size,) = struct.unpack_from("<I", raw, at + 4)
        packet = raw[at + 8 : at + 8 + size]
        if size == 0 or len(packet) < size:
            return
        yield packet
        at += 8 + size + size % 2


def is_key(packet: bytes) -> bool:
    """Whether a packet of MPEG-4 part 2 can be decoded by itself."""
    at = packet.find(VOP)
    return 0 <= at < len(packet) - len(VOP) and packet[at + len(VOP)] >> 6 == KEY_VOP


def begin(path: Path) -> None:
    """A film without frames, which `finish` can finish.

    Raises:
        OSError: It cannot be written.
    """
    with path.open("xb") as file:
        file.write(HEAD + struct.pack(">I4sQ", 1, b"mdat", 16))
        file.flush()
        os.fsync(file.fileno())


def finish(path: Path, frames: Sequence[Frame], size_px: tuple[int, int], last_s: float) -> None:
    """Makes the packets a film: frame i is shown at its time less that of the first.

    Args:
        path: As `begin` made it, with packets behind; what is behind those of ``frames`` goes.
        frames: In order, the first a key frame.
        size_px: H and W.
        last_s: How long the last frame is shown.

    Raises:
        DataError: There are fewer bytes than the frames have, or no key frame.
        OSError: It cannot be written.
    """
    total = sum(frame.bytes for frame in frames)
    if not frames or path.stat().st_size < MDAT + total:
        raise DataError(f"{path}: has fewer bytes than its {len(frames)} frames should have")
    with path.open("r+b") as file:
        file.seek(MDAT)
        first = file.read(frames[0].bytes)
        if not is_key(first):
            raise DataError(f"{path}: its first frame cannot be decoded by itself")
        file.truncate(MDAT + total)
        file.seek(0, os.SEEK_END)
        file.write(_moov(frames, size_px, last_s, first))
        file.flush()
        os.fsync(file.fileno())
        file.seek(len(HEAD) + 8)
        file.write(struct.pack(">Q", 16 + total))
        file.flush()
        os.fsync(file.fileno())


def _moov(frames: Sequence[Frame], size_px: tuple[int, int], last_s: float, first: bytes) -> bytes:
    stamps = [round(TICKS * (frame.t_s - frames[0].t_s)) for frame in frames]
    steps = [max(1, b - a) for a, b in pairwise(stamps)]
    steps.append(max(1, round(TICKS * last_s)))
    length = sum(steps)
    height, width = size_px
    matrix = struct.pack(">9I", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    movie = (
        struct.pack(">QQIQIH10x", 0, 0, TICKS, length, 65536, 256) + matrix + bytes(24) + _u32(2)
    )
    track = struct.pack(">QQIIQ8xHHHH", 0, 0, 1, 0, length, 0, 0, 0, 0) + matrix
    track += _u32(width << 16, height << 16)
    media = struct.pack(">QQIQHH", 0, 0, TICKS, length, 0x55C4, 0)
    handler = struct.pack(">I4s12x", 0, b"vide") + b"film\0"
    where = _box(b"dinf", _full(b"dref", _u32(1) + _full(b"url ", b"", flags=1)))
    table = _box(b"stbl", _table(frames, steps, size_px, first))
    info = _full(b"vmhd", bytes(8), flags=1) + where + table
    body = _full(b"mdhd", media, version=1) + _full(b"hdlr", handler) + _box(b"minf", info)
    whole = _full(b"tkhd", track, version=1, flags=3) + _box(b"mdia", body)
    return _box(b"moov", _full(b"mvhd", movie, version=1) + _box(b"trak", whole))


def _table(
    frames: Sequence[Frame], steps: Sequence[int], size_px: tuple[int, int], first: bytes
) -> bytes:
    """Form, time, place and length of every frame."""
    height, width = size_px
    entry = struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, 24, -1)
    form = _box(b"mp4v", entry + _full(b"esds", _description(first)))
    runs = [(len(list(same)), step) for step, same in groupby(steps)]
    keys = [i + 1 for i, frame in enumerate(frames) if frame.key]
    return (
        _full(b"stsd", _u32(1) + form)
        + _full(b"stts", _u32(len(runs), *(n for run in runs for n in run)))
        + _full(b"stss", _u32(len(keys), *keys))
        + _full(b"stsc", _u32(1, 1, len(frames), 1))
        + _full(b"stsz", _u32(0, len(frames), *(frame.bytes for frame in frames)))
        + _full(b"co64", struct.pack(">IQ", 1, MDAT))
    )


def _description(first: bytes) -> bytes:
    """What a decoder must know first: the headers that stand before the first picture."""
    ends = [at for mark in (GROUP, VOP) if (at := first.find(mark)) >= 0]
    decoder = struct.pack(">BBxxxII", 32, 0x11, 0, 0) + _described(5, first[: min(ends)])
    return _described(3, struct.pack(">HB", 1, 0) + _described(4, decoder) + _described(6, b"\2"))


def _described(tag: int, body: bytes) -> bytes:
    size = len(body)
    return (
        struct.pack(
            ">5B", tag, *(0x80 | size >> shift & 0x7F for shift in (21, 14, 7)), size & 0x7F
        )
        + body
    )


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, body: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, _u32(version << 24 | flags) + body)


def _u32(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)
