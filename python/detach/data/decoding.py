"""Decoding in a process of its own, which may crash, stand still or grow without harm to ours.

Decoders read what strangers made. This module is also the program that is started: it writes each
frame as its time stamp (float64) and its RGB bytes, and a refusal as text with our exit code.
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
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from detach.config import VideoConfig
from detach.data import video
from detach.data.recording import VideoTrack
from detach.data.video import Pictures
from detach.errors import DataError, DetachError, MachineError

STALLED_S = 20.0
"""Without a frame for so long, a decoder is ended."""
MEMORY_BYTES = 4 << 30
_STAMP = struct.Struct("<d")


def decode_apart(
    path: Path, track: VideoTrack, config: VideoConfig, *, stalled_s: float = STALLED_S
) -> Iterator[tuple[float, Pictures]]:
    """As `detach.data.video.decode`, by a process of its own.

    Raises:
        DataError: As there; or the decoder crashed, or gave no frame for ``stalled_s``.
        MachineError: cv2 is not there.
    """
    video.container_of(path)  # before any decoder is started
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
            for record in _records(process.stdout, size, path, stalled_s):
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
        _check_end(process.returncode, said, path)


def _records(pipe: IO[bytes] | None, size: int, path: Path, stalled_s: float) -> Iterator[bytes]:
    """Pieces of ``size`` bytes as they come; what is left over at the end is dropped."""
    if pipe is None:
        return
    held = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        last = time.monotonic()
        while True:
            if not selector.select(max(0.0, last + stalled_s - time.monotonic())):
                raise _stalled(path, stalled_s)
            more = os.read(pipe.fileno(), 1 << 20)
            if not more:
                return
            held += more
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
                last = time.monotonic()


def _check_end(status: int, said: IO[bytes], path: Path) -> None:
    said.seek(0)
    text = said.read(4096).decode(errors="replace").strip()
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


def _environment() -> dict[str, str]:
    """Ours, with this very package on the path."""
    here = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}


def main(argv: list[str]) -> int:
    """Decodes argv[0] to the standard output."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    track, config = VideoTrack(**json.loads(argv[1])), VideoConfig(**json.loads(argv[2]))
    out = sys.stdout.buffer
    try:
        for t_s, picture in video.decode(Path(argv[0]), track, config):
            out.write(_STAMP.pack(t_s) + np.ascontiguousarray(picture).tobytes())
        out.flush()
    except DetachError as error:
        sys.stderr.write(str(error))
        return error.exit_code
    except BrokenPipeError:  # whoever asked has gone
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
