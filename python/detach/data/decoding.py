"""Decoding in a process of its own, which may crash, stand still or grow without harm to ours.

Decoders read what strangers made. This module is also the program that is started: it writes each
frame as its time stamp (float64) and its RGB bytes, or what containers say of themselves, a line of
JSON each; and a refusal as text with our exit code.
"""

import contextlib
import dataclasses
import json
import os
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from detach.config import VideoConfig
from detach.data import video
from detach.data.recording import VideoTrack
from detach.data.video import Pictures, Probe
from detach.errors import DataError, DetachError, MachineError

STALLED_S = 20.0
"""Without a frame for so long, a decoder is ended."""
SPARE_S, SLOWEST = 120.0, 10.0
"""All of a film may take two minutes and ten times its length: see `longest_s`."""
PROBE_S = 2.0
"""What a container may take to say what it holds, on average, beside `STALLED_S`."""
MEMORY_BYTES = 4 << 30
_STAMP = struct.Struct("<d")


def probe_apart(paths: Sequence[Path]) -> list[Probe]:
    """As `detach.data.video.probe`, of one file after the other, by one process of its own.

    Raises:
        DataError: As there; or it crashed, or took too long.
        MachineError: cv2 is not there.
    """
    for path in paths:
        video.container_of(path)  # before any decoder is started
    if not paths:
        return []
    patience_s = STALLED_S + PROBE_S * len(paths)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "detach.data.decoding"],
            input=json.dumps([str(path) for path in paths]).encode(),
            capture_output=True,
            env=_environment(),
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        count = (error.stdout or b"").count(b"\n")
        raise _stalled(paths[min(count, len(paths) - 1)], patience_s) from error
    at = min(done.stdout.count(b"\n"), len(paths) - 1)
    _check_end(done.returncode, done.stderr, paths[at])
    return [Probe(**json.loads(line)) for line in done.stdout.splitlines()]


def longest_s(path: Path, track: VideoTrack) -> float:
    """How long a decoder may let us wait in all, over and above what the caller does meanwhile.

    `SPARE_S`, and `SLOWEST` times as long as the film lasts: at its own rate, or at 25 frames a
    second where that is longer. No film has more frames than a quarter of its file has bytes.
    """
    frames = min(track.frames, path.stat().st_size // 4)
    rate = track.fps if 0 < track.fps < 25 else 25.0
    return SPARE_S + SLOWEST * max(0, frames) / rate


def decode_apart(
    path: Path, track: VideoTrack, config: VideoConfig, *, stalled_s: float = STALLED_S
) -> Iterator[tuple[float, Pictures]]:
    """As `detach.data.video.decode`, by a process of its own.

    Raises:
        DataError: As there; or the decoder crashed, or gave no frame for ``stalled_s``, or kept us
            waiting for more than `longest_s` in all.
        MachineError: cv2 is not there.
    """
    video.container_of(path)  # before any decoder is started
    longest = longest_s(path, track)
    height, width = video.picture_size(track.width_px, track.height_px, config)
    size = _STAMP.size + height * width * 3
    words = [json.dumps(dataclasses.asdict(x)) for x in (track, config)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 -- our own module
            [sys.executable, "-m", "detach.data.decoding", str(path), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env=_environment(),
        )
        try:
            for record in _records(process.stdout, size, path, stalled_s, longest):
                (t_s,) = _STAMP.unpack_from(record)
                picture = np.frombuffer(record, np.uint8, offset=_STAMP.size)
                yield t_s, picture.reshape(height, width, 3)
            process.wait(stalled_s)
        except subprocess.TimeoutExpired as error:
            raise _stalled(path, stalled_s) from error
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        said.seek(0)
        _check_end(process.returncode, said.read(4096), path)


def _records(
    pipe: IO[bytes] | None, size: int, path: Path, stalled_s: float, longest: float
) -> Iterator[bytes]:
    """Pieces of ``size`` bytes as they come; what is left over at the end is dropped."""
    if pipe is None:
        return
    held = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        last, left_s = time.monotonic(), longest
        while True:
            began = time.monotonic()
            wait_s = min(last + stalled_s - began, left_s)
            if not selector.select(max(0.0, wait_s)):
                raise _too_slow(path, longest) if wait_s == left_s else _stalled(path, stalled_s)
            left_s -= time.monotonic() - began
            more = os.read(pipe.fileno(), 1 << 20)
            if not more:
                return
            held += more
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
                last = time.monotonic()


def _check_end(status: int, said: bytes, path: Path) -> None:
    text = said[:4096].decode(errors="replace").strip()
    if status == 0:
        return
    if status == DataError.exit_code:
        raise DataError(text)
    if status == MachineError.exit_code:
        raise MachineError(text)
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    raise DataError(
        f"{path}: the decoder ended {how}; the file is damaged. Copy or encode it again"
    )


def _stalled(path: Path, stalled_s: float) -> DataError:
    return DataError(
        f"{path}: the decoder gave no frame for {stalled_s:g} s and was ended; the file is "
        "damaged, or the machine is far too busy. Copy or encode it again"
    )


def _too_slow(path: Path, longest: float) -> DataError:
    return DataError(
        f"{path}: the decoder was not done after {longest:.0f} s and was ended; the file is "
        "damaged, or the machine is far too busy. Copy or encode it again"
    )


def _environment() -> dict[str, str]:
    """Ours, with this very package on the path."""
    here = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}


def main(argv: list[str]) -> int:
    """Decodes argv[0] to the standard output, or probes the files that the input lists."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for record in _frames(argv) if argv else _claims(json.load(sys.stdin)):
            sys.stdout.buffer.write(record)
        sys.stdout.buffer.flush()
    except DetachError as error:
        sys.stdout.buffer.flush()
        sys.stderr.write(str(error))
        return error.exit_code
    except BrokenPipeError:  # whoever asked has gone
        os._exit(0)
    return 0


def _frames(argv: list[str]) -> Iterator[bytes]:
    track, config = VideoTrack(**json.loads(argv[1])), VideoConfig(**json.loads(argv[2]))
    for t_s, picture in video.decode(Path(argv[0]), track, config):
        yield _STAMP.pack(t_s) + np.ascontiguousarray(picture).tobytes()


def _claims(paths: list[str]) -> Iterator[bytes]:
    for path in paths:
        yield json.dumps(dataclasses.asdict(video.probe(Path(path)))).encode() + b"\n"
        sys.stdout.buffer.flush()  # so that a crash can be told to which file it belongs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
