"""Three hundred damaged videos, and decoders that crash, stand still or never end."""

import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.config import VideoConfig
from detach.data import video
from detach.data.decoding import decode_apart
from detach.errors import DataError

from .test_video import COUNT, decode_all, write_video  # type: ignore[import-not-found]

CONFIG = VideoConfig(size_px=32)
SUFFIXES = (".mp4", ".avi", ".mkv")
CUTS, FLIPS = 20, 60
SEED = int(os.environ.get("DETACH_SEED", "8"))
SHORT = re.compile(r"\d+ frames can be decoded, \d+ expected by")
OTHER = re.compile(
    r"cannot be opened; it is cut short|not a video file|stamps must rise|pictures are \d+x\d+, but"
    r"|says its pictures are|its last frame is at"
)
SLOWEST_S = 10.0


def damaged(whole: bytes, suffix: str) -> Iterator[tuple[str, bytes]]:
    """A hundred of one container: cut, with bytes changed, and something else altogether."""
    rng = np.random.default_rng([SEED, ord(suffix[1])])
    for i in range(CUTS):
        yield f"cut {i}", whole[: len(whole) * (i + 1) // (CUTS + 1)]
    for i in range(FLIPS):
        spoiled = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(0, len(spoiled), 20)
        spoiled[at] = rng.integers(0, 256, 20)
        yield f"flip {i}", spoiled.tobytes()
    texts = ["", "#EXTM3U\n/etc/passwd\n", "ffconcat version 1.0\nfile /etc/passwd\n", "<html>"]
    texts += ["#!/bin/sh\n", "RIFF", "v=0\nm=video 9 RTP/AVP 96\n", "concat:/etc/passwd"]
    for i in range(20):
        raw = texts[i].encode() if i < len(texts) else rng.bytes(int(rng.integers(1, 4000)))
        yield f"other {i}", raw


def judge(path: Path, track: Any, decode: Any = decode_all) -> str:
    """What became of a file: "whole", "short" or "refused"; anything else is a fault."""
    began = time.monotonic()
    try:
        found = len(decode(path, track))
    except DataError as error:
        said = str(error)
        assert said.startswith(f"{path}: ")
        assert "\n" not in said
        assert SHORT.search(said) or OTHER.search(said), said
        return "short" if SHORT.search(said) else "refused"
    finally:
        assert time.monotonic() - began < SLOWEST_S
    assert abs(found - COUNT) <= 1, f"{path}: {found} of {COUNT} frames without a word"
    return "whole"


def in_a_fork(work: Callable[[], dict[str, int]], log: Path) -> dict[str, int]:
    """In a process that may crash: that would be one test that fails, not all."""
    pid = os.fork()
    if pid == 0:
        try:
            log.write_text(json.dumps(work()))
            os._exit(0)
        except BaseException:  # noqa: BLE001 -- whatever it is is told
            log.write_text(traceback.format_exc())
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, log.read_text() if log.is_file() else f"status {status}"
    return dict(json.loads(log.read_text()))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_hundred_damaged_videos(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"video{suffix}"
    track = write_video(path)

    def try_all() -> dict[str, int]:
        found: Counter[str] = Counter()
        for name, raw in damaged(path.read_bytes(), suffix):
            spoiled = tmp_path / f"{name.replace(' ', '-')}{suffix}"
            spoiled.write_bytes(raw)
            found[judge(spoiled, track)] += 1
        return found

    found = in_a_fork(try_all, tmp_path / "log.txt")
    assert sum(found.values()) == 100
    assert found["refused"] >= 20, "what is no video at all is never opened"
    assert set(found) <= {"whole", "short", "refused"}
    if suffix == ".mkv":
        assert found["short"] >= 10


def test_a_process_of_its_own_gives_the_same_frames(tmp_path: Path) -> None:
    path = tmp_path / "video.mkv"
    track = write_video(path)
    here, apart = decode_all(path, track), list(decode_apart(path, track, CONFIG))
    assert [t for t, _ in here] == [t for t, _ in apart]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(here, apart, strict=True))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert judge(path, track, lambda p, t: list(decode_apart(p, t, CONFIG))) == "short"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "the decoder ended by signal 11",
        ),
        ("import time; time.sleep(60)", "gave no frame for 0.5 s and was ended"),
        ("import sys; sys.stdout.write('x'); sys.exit(7)", "the decoder ended with status 7"),
    ],
)
def test_a_decoder_that_misbehaves_is_ended(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "video.mp4"
    track = write_video(path)
    popen = subprocess.Popen

    def other(_: list[str], **options: Any) -> Any:
        return popen([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", other)
    with pytest.raises(DataError, match=said):
        list(decode_apart(path, track, CONFIG, stalled_s=0.5))


def test_whoever_stops_asking_ends_the_decoder(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    frames = decode_apart(path, write_video(path), CONFIG)
    next(frames)
    frames.close()  # type: ignore[attr-defined]


def test_a_video_that_never_ends_is_left(tmp_path: Path) -> None:
    path = tmp_path / "video.avi"
    track = replace(write_video(path, 130), frames=3)
    with pytest.raises(DataError, match="107 frames can be decoded, 3 expected"):
        decode_all(path, track)


def test_huge_pictures_are_refused_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "video.mp4"
    track = write_video(path)
    monkeypatch.setattr(video, "LARGEST_SIDE_PX", 40)
    with pytest.raises(DataError, match="says its pictures are 64x48, at most 40 a side"):
        decode_all(path, track)
