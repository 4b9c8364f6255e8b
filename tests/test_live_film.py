"""The camera in `detach record`: pictures at their own time, whole after any end."""

import contextlib
import dataclasses
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from detach.config import VideoConfig
from detach.data import video
from detach.data.recording import Recording, read_recording
from detach.edge.live import filming
from detach.edge.live.camera import Camera, Shot
from detach.edge.live.config import CameraSource
from detach.edge.live.filming import Film
from detach.edge.live.journal import recover
from detach.edge.live.record import Recorder

from .live_home import FakeClock, configured, wait_for  # type: ignore[import-not-found]

WITH_CAMERA = (
    "schema: 1\nlines: true\nrecord: {picture_px: 64}\nsensors: {a: {topic: a, kind: switch}}"
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "home"


def finish(found: Recorder) -> None:
    stop = threading.Event()
    stop.set()
    found.run(stop)


def grey(seconds: float) -> np.ndarray:
    """Pictures that tell when they were taken."""
    return np.full((48, 64, 3), min(250, round(40 + 10 * seconds)), np.uint8)


def seen(recording: Recording) -> list[tuple[float, float]]:
    """Time in the recording and the time that the picture tells."""
    track = recording.video()
    found = video.decode(recording.folder / track.file, track, VideoConfig(size_px=64))
    return [(track.start_s + t_s, (picture.mean() - 40) / 10) for t_s, picture in found]


def test_pictures_stand_beside_the_sensors_at_their_own_time(tmp_path: Path, out: Path) -> None:
    clock, source = FakeClock(), CameraSource(source="/dev/video0")
    config = dataclasses.replace(configured(tmp_path, WITH_CAMERA), camera=source)
    camera = Camera(source, 64, "keep", clock=clock, say=print, spawn=None)
    found = Recorder(config, out, clock=clock, say=lambda _: None, camera=camera)
    rng = np.random.default_rng(0)
    taken = []
    while clock.now_s < 14:
        clock.now_s += float(rng.uniform(0.05, 0.2))
        if not 6 < clock.now_s < 9:  # it froze
            taken.append(clock.now_s)
            camera._take(Shot(clock.now_s, grey(clock.now_s)))
        found.step()
    camera._take(Shot(clock.now_s + 0.1, np.zeros((64, 64, 3), np.uint8)))  # another size
    finish(found)
    recording = read_recording(found.finished[0])
    shown = seen(recording)
    assert [t for t, _ in shown] == pytest.approx(taken, abs=2e-4)
    assert [told for _, told in shown] == pytest.approx(taken, abs=0.6)
    counters = recording.notes["counters"]
    assert counters["pictures"] == len(taken)
    assert counters["pictures_odd_size"] == 1
    assert sorted(p.name for p in recording.folder.iterdir()) == [
        "recording.json", "sensors", "video.mp4",
    ]  # fmt: skip


def test_a_camera_that_shows_nothing_leaves_no_film(tmp_path: Path, out: Path) -> None:
    clock, source = FakeClock(), CameraSource(source="/dev/video0")
    config = dataclasses.replace(configured(tmp_path, WITH_CAMERA), camera=source)
    camera = Camera(source, 64, "keep", clock=clock, say=print)
    found = Recorder(config, out, clock=clock, say=lambda _: None, camera=camera)
    clock.now_s = 3.0
    finish(found)
    recording = read_recording(found.finished[0])
    assert recording.videos == ()
    assert not (recording.folder / "video.mp4").exists()


def fill(film: Film, from_s: int, to_s: int) -> None:
    for k in range(10 * from_s, 10 * to_s):
        film.push(k / 10, grey(k / 10))


@pytest.mark.parametrize("at", ["part", "film", "index"])
def test_a_full_disk_costs_a_part_of_the_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    film = Film(tmp_path, 10.0)
    fill(film, 0, 3)
    film.write()
    with monkeypatch.context() as patched:
        fill(film, 3, 6)
        fills_up(patched, at)
        with contextlib.nullcontext() if at == "part" else pytest.raises(OSError, match="No space"):
            film.write()
    assert film.counts["pictures_lost"] > 0
    fill(film, 6, 9)
    film.write()
    track = filming.finished(tmp_path, 10.0)
    assert track is not None
    assert track.frames == film.counts["pictures"] == 90 - film.counts["pictures_lost"]
    for t_s, picture in video.decode(tmp_path / track.file, track, VideoConfig(size_px=64)):
        assert (picture.mean() - 40) / 10 == pytest.approx(t_s, abs=0.6)


def fills_up(patched: pytest.MonkeyPatch, at: str) -> None:
    append, encode = filming._append, video.encode

    def full(path: Path, raw: bytes) -> None:
        if (at == "film") == (path.name == "video.mp4"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(path, raw)

    def cut(path: Path, pictures: Iterable[np.ndarray], fps: float) -> int:
        count = encode(path, pictures, fps)
        os.truncate(path, path.stat().st_size // 2)  # OpenCV says nothing
        return count

    if at == "part":
        patched.setattr(video, "encode", cut)
    else:
        patched.setattr(filming, "_append", full)


@pytest.mark.slow
def test_kill_9_leaves_a_film_that_can_be_read(tmp_path: Path, out: Path) -> None:
    """A real camera process, a real end: all but the last part are there, at their times."""
    source = tmp_path / "camera.mp4"
    video.write(source, (grey(k / 10) for k in range(200)), 10.0)
    config = tmp_path / "record.yaml"
    config.write_text(f"{WITH_CAMERA}\ncamera: {{source: {source}, fps: 10}}\n")
    program = (
        "from pathlib import Path; from detach.edge.live import filming, record\n"
        "filming.PART_S = 1.0\n"
        f"record.run_record(Path({str(config)!r}), Path({str(out)!r}), say=print)"
    )
    process = subprocess.Popen(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:

        def parts() -> int:
            return sum(path.read_bytes().count(b"\n") for path in out.glob(".*/frames.csv"))

        wait_for(lambda: parts() > 35, "four seconds of film", 60)
    finally:
        process.kill()
        process.communicate()
    (left,) = out.glob(".*.recording")
    with (left / "video.mp4").open("ab") as film:
        film.write(b"half a packet" * 50)
    with (left / "frames.csv").open("ab") as index:
        index.write(b"9.2,17")
    (made,) = recover(out)
    recording = read_recording(made)
    shown = seen(recording)
    assert recording.notes == {"recovered": True}
    assert len(shown) == recording.video().frames >= 35
    begun = shown[0][0] - shown[0][1]
    assert [t - told for t, told in shown] == pytest.approx(len(shown) * [begun], abs=0.3)
    assert recording.duration_s >= shown[-1][0]
