"""A camera in a process of its own: pictures as in training, and a watchdog that gives up."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.config import VideoConfig
from detach.data import video
from detach.data.recording import VideoTrack
from detach.edge.live.camera import Camera, Process, Shot, read_shots
from detach.edge.live.capture import HEADER, MAGIC, Order, check_source, pictures
from detach.edge.live.clock import SystemClock
from detach.edge.live.config import CameraSource
from detach.errors import DataError, MachineError, UsageError

from .live_home import FakeClock, wait_for  # type: ignore[import-not-found]

FPS, COUNT = 20.0, 30
SMALL = video.picture_size(64, 48, VideoConfig(size_px=32))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    made = (np.full((48, 64, 3), 8 * i, np.uint8) for i in range(COUNT))
    video.write(path, made, FPS)
    return path


class Fake:
    """A process that the test lets speak and die."""

    def __init__(self, take: Callable[[Shot], None]) -> None:
        self.take = take
        self.code: int | None = None
        self.killed = False

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> str:
        self.killed = True
        return "no signal"


class Bench:
    def __init__(self, **changes: float) -> None:
        self.clock, self.said, self.made = FakeClock(), list[str](), list[Fake]()
        source = CameraSource(source="/dev/video0", **changes)  # type: ignore[arg-type]
        self.camera = Camera(
            source, SMALL, "keep", clock=self.clock, say=self.said.append, spawn=self._spawn
        )

    def _spawn(self, order: Order, take: Callable[[Shot], None]) -> Process:
        assert order.source == "/dev/video0"
        self.made.append(Fake(take))
        return self.made[-1]

    def go_on(self, seconds: float, *, shots: bool = False) -> None:
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.clock.now_s += 0.5
            if shots:
                self.made[-1].take(Shot(self.clock.now_s, np.zeros((8, 8, 3), np.uint8)))
            self.camera.watch()


def test_a_camera_that_is_silent_is_started_again() -> None:
    bench = Bench()
    bench.camera.watch()
    bench.go_on(60, shots=True)
    assert len(bench.made) == 1
    bench.go_on(19)
    assert len(bench.made) == 1
    bench.go_on(3)
    assert len(bench.made) == 2
    assert bench.made[0].killed
    assert "no picture for 20 s: no signal" in bench.said[0]
    bench.go_on(60, shots=True)
    assert len(bench.made) == 2


def test_a_camera_that_fails_again_and_again_is_left_alone_for_longer_and_longer() -> None:
    bench = Bench()
    starts = []
    for _ in range(2000):
        bench.clock.now_s += 0.5
        bench.camera.watch()
        if bench.made[-1].code is None:
            starts.append(bench.clock.now_s)
            bench.made[-1].code = 1
    assert len(starts) == len(bench.made)
    for at_s in starts:
        assert sum(at_s - 60 < other <= at_s for other in starts) <= 5
    pauses = np.diff(starts)
    assert sorted(pauses[pauses > 30].tolist()) == pytest.approx([60, 120, 240, 480], abs=2)


def test_only_the_newest_pictures_are_kept() -> None:
    bench = Bench(fps=10.0)
    bench.camera.watch()
    take = bench.made[0].take
    for k in range(1000):
        take(Shot(k / 10, np.zeros((8, 8, 3), np.uint8)))
    take(Shot(5.0, np.zeros((8, 8, 3), np.uint8)))
    assert len(bench.camera.shots()) == 80
    assert bench.camera.counts["frames_dropped"] == 1
    take(Shot(200.0, np.zeros((16, 8, 3), np.uint8)))
    assert len(bench.camera.shots()) == 1
    assert bench.camera.counts["size_changed"] == 1


def test_pictures_of_a_file_are_those_of_training_in_their_own_time(film: Path) -> None:
    config = VideoConfig(size_px=32)
    track = VideoTrack(name="a", file="a", fps=FPS, frames=COUNT, width_px=64, height_px=48)
    expected = [picture for _, picture in video.decode(film, track, config)]
    order = Order(source=str(film), fps=FPS, size_px=SMALL, fit=config.fit)
    found = list(pictures(order))
    assert len(found) == COUNT
    assert found[-1][0] - found[0][0] == pytest.approx((COUNT - 1) / FPS, abs=1e-6)
    assert all(np.array_equal(a, b) for (_, a), b in zip(found, expected, strict=True))
    half = Order(source=str(film), fps=FPS / 2, size_px=(32, 32), fit="crop")
    found = list(pictures(half))
    assert len(found) == COUNT // 2
    assert found[0][1].shape == (32, 32, 3)


def test_a_real_process_sends_pictures_and_is_started_again_when_it_ends(film: Path) -> None:
    source = CameraSource(source=str(film), fps=FPS)
    said: list[str] = []
    camera = Camera(source, SMALL, "keep", clock=SystemClock(), say=said.append)
    try:
        camera.watch()
        wait_for(lambda: camera.counts["frames"] >= COUNT, "all pictures")
        assert {shot.picture.shape for shot in camera.shots()} == {(*SMALL, 3)}

        def again() -> bool:
            camera.watch()
            return camera.counts["starts"] == 2

        wait_for(again, "another start")
        assert "has ended" in said[0]
    finally:
        camera.close()


CHATTY = """
import sys, time
from detach.edge.live.capture import HEADER, MAGIC
sys.stdin.readline()
for n in range(60):
    sys.stderr.write(f"picture {n}: error while decoding MB 34 21, bytestream -7\\n" * 100)
    sys.stderr.flush()
    sys.stdout.buffer.write(HEADER.pack(MAGIC, time.monotonic(), 8, 8) + bytes(192))
    sys.stdout.buffer.flush()
time.sleep(60)
"""
"""Says some 300 kB, as FFmpeg does of a damaged stream; a pipe holds 64."""


def test_a_decoder_that_complains_without_end_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def chatty(_: list[str], **more: Any) -> "subprocess.Popen[bytes]":
        return real([sys.executable, "-c", CHATTY], **more)

    monkeypatch.setattr(subprocess, "Popen", chatty)
    source = CameraSource(source="/dev/video0")
    camera = Camera(source, SMALL, "keep", clock=SystemClock(), say=print)
    camera.watch()
    try:
        wait_for(lambda: camera.counts["frames"] == 60, "all pictures")
    finally:
        last = camera.close()
    assert last.endswith("picture 59: error while decoding MB 34 21, bytestream -7")
    assert len(last) <= 300


def test_the_process_cannot_write_files(tmp_path: Path) -> None:
    target = tmp_path / "frame.bin"
    program = (
        "from pathlib import Path; from detach.edge.live import capture\ncapture._confine()\n"
        f"Path({str(target)!r}).write_bytes(b'x' * 100)"
    )
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], capture_output=True, check=False
    )
    assert b"File too large" in done.stderr
    assert not target.exists() or not target.read_bytes()


@pytest.mark.parametrize(
    "source",
    ["http://camera/stream", "file:///etc/passwd", "concat:a|b", "/dev/sda", "rtsp://a;b c"],
)
def test_other_kinds_of_sources_are_refused(source: str) -> None:
    with pytest.raises(UsageError, match="camera.source must be"):
        check_source(source)


def test_a_playlist_named_mp4_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("#EXTM3U\n/etc/passwd\n")
    with pytest.raises(DataError, match="not a video file"):
        next(pictures(Order(source=str(path), fps=10, size_px=SMALL, fit="keep")))


def test_an_address_with_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="environment"):
        CameraSource(source="rtsp://me:secret@10.0.0.1/a")
    source = CameraSource(address_env="CAMERA")
    monkeypatch.delenv("CAMERA", raising=False)
    with pytest.raises(MachineError, match="CAMERA is not set"):
        Camera(source, SMALL, "keep", clock=FakeClock(), say=print)
    monkeypatch.setenv("CAMERA", "http://me:secret@10.0.0.1/a")
    with pytest.raises(UsageError) as error:
        Camera(source, SMALL, "keep", clock=FakeClock(), say=print)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"short",
        HEADER.pack(b"JPEG", 0.0, 8, 8) + bytes(192),
        HEADER.pack(MAGIC, 0.0, 60000, 60000),
        HEADER.pack(MAGIC, 0.0, 8, 8) + bytes(191),
    ],
)
def test_what_is_no_picture_ends_reading(raw: bytes) -> None:
    found: list[Shot] = []
    good = HEADER.pack(MAGIC, 1.0, 8, 8) + bytes(192)
    read_shots(io.BytesIO(good + raw), found.append)
    assert [shot.t_s for shot in found] == [1.0]
