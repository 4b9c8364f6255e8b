"""Who decodes what strangers made, for how long, and what that process opens meanwhile."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import detach.data
from detach.config import VideoConfig
from detach.data import decoding, video
from detach.data.decoding import decode_apart, longest_s, probe_apart
from detach.errors import DataError

from .test_video import COUNT, write_video  # type: ignore[import-not-found]

CONFIG = VideoConfig(size_px=32)
POPEN = subprocess.Popen
DATA = Path(detach.data.__file__).parent
OURS = {"video.py", "decoding.py", "sphere_picture.py"}
"""The decoder, its process, and who counts the frames of a film that it has just written."""


def instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Starts ``program`` for a decoder."""

    def other(_: list[str], **options: Any) -> Any:
        return POPEN([sys.executable, "-c", program], **options)

    monkeypatch.setattr(subprocess, "Popen", other)


def test_nobody_else_decodes_in_a_process_of_ours() -> None:
    """Training, inspecting, importing and putting clocks right ask `decode_apart`."""
    here = re.compile(r"\bvideo\.(decode|probe)\(|VideoCapture|video import .*\b(decode|probe)\b")
    files = [file for file in DATA.rglob("*.py") if file.name not in OURS]
    assert len(files) > 30
    assert [file.name for file in files if here.search(file.read_text())] == []


@pytest.mark.parametrize(
    ("fps", "frames", "limit_s"),
    [(10.0, 600, 720.0), (100.0, 6000, 2520.0), (1.0, 60, 720.0), (0.0, 50, 140.0)],
)
def test_the_limit_follows_the_films_length(
    fps: float, frames: int, limit_s: float, tmp_path: Path
) -> None:
    path = tmp_path / "video.mp4"
    track = replace(write_video(path), fps=fps, frames=frames)
    path.write_bytes(bytes(100_000))
    assert longest_s(path, track) == pytest.approx(limit_s)
    path.write_bytes(bytes(4 * 25))  # cannot hold what it claims
    assert longest_s(path, replace(track, fps=25.0, frames=2**31)) == pytest.approx(130.0)


def test_a_film_that_drips_for_ever_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "video.mp4"
    track = write_video(path)
    height, width = video.picture_size(track.width_px, track.height_px, CONFIG)
    frame = f"bytes({8 + 3 * height * width})"
    drip = f"import os, time\nwhile True: os.write(1, {frame}); time.sleep(0.05)"
    instead(monkeypatch, drip)
    monkeypatch.setattr(decoding, "SPARE_S", 1.0)
    monkeypatch.setattr(decoding, "SLOWEST", 0.0)
    with pytest.raises(DataError, match="the decoder was not done after 1 s and was ended"):
        list(decode_apart(path, track, CONFIG))


def test_what_containers_say(tmp_path: Path) -> None:
    paths = [tmp_path / f"video{suffix}" for suffix in (".mp4", ".avi", ".mkv")]
    for path in paths:
        write_video(path)
    found = probe_apart(paths)
    assert found == [video.probe(path) for path in paths]
    assert [claim.frames for claim in found] == [COUNT] * 3
    assert probe_apart([]) == []
    paths[1].write_bytes(paths[1].read_bytes()[:20])
    with pytest.raises(DataError, match=re.escape(str(paths[1]))):
        probe_apart(paths)


def test_a_container_that_crashes_the_decoder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"video{k}.mp4" for k in range(3)]
    for path in paths:
        write_video(path)
    crash = "import os; os.write(1, b'{}\\n'); os.kill(os.getpid(), 11)"
    instead(monkeypatch, crash)
    with pytest.raises(DataError, match=r"video1.mp4: the decoder ended by signal 11"):
        probe_apart(paths)
    monkeypatch.setattr(decoding, "STALLED_S", 0.2)
    monkeypatch.setattr(decoding, "PROBE_S", 0.1)
    instead(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(DataError, match=r"video0.mp4: the decoder gave no frame for"):
        probe_apart(paths)
