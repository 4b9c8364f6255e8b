"""Video: times of frames, damage that decoders keep quiet about, and files that only pretend."""

import dataclasses
import errno
import os
import resource
import shutil
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from detach.config import VideoConfig
from detach.data import video
from detach.data.frames import Frames, open_frames
from detach.data.recording import Recording, VideoTrack
from detach.errors import DataError, MachineError

CONFIG = VideoConfig(size_px=32)
COUNT = 30


def write_video(path: Path, count: int = COUNT, size: tuple[int, int] = (64, 48)) -> VideoTrack:
    """A square that moves to the right by one pixel a frame; brightness tells the frame."""
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 10, size)
    for i in range(count):
        picture = np.full((size[1], size[0], 3), 8 * i % 256, dtype=np.uint8)
        picture[10:20, i : i + 10] = (0, 0, 255)
        writer.write(picture)
    writer.release()
    return VideoTrack(
        name="camera", file=path.name, fps=10.0, frames=count, width_px=size[0], height_px=size[1]
    )


def recording(folder: Path, name: str = "one", **changes: Any) -> Recording:
    (folder / name).mkdir(exist_ok=True)
    track = write_video(folder / name / "video.mp4")
    return Recording(
        folder=folder / name,
        name=name,
        subject="a",
        run="1",
        duration_s=3.0,
        videos=(dataclasses.replace(track, **changes),),
    )


def decode_all(path: Path, track: VideoTrack) -> list[tuple[float, video.Pictures]]:
    return list(video.decode(path, track, CONFIG))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_frames_come_with_their_times(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"video{suffix}"
    track = write_video(path)
    found = decode_all(path, track)
    assert_allclose([t for t, _ in found], np.arange(COUNT) / 10, atol=2e-3)
    assert found[0][1].shape == (24, 40, 3)
    brightness = [picture[-4:].mean() for _, picture in found]
    assert_allclose(brightness, 8.0 * np.arange(COUNT), atol=4)


def test_pictures_are_red_green_blue(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    first = decode_all(path, write_video(path))[0][1]
    assert first[7, 2, 0] > 180
    assert first[7, 2, 2] < 60


def stretch_second_half(path: Path) -> None:
    """Rewrites the table of durations of an MP4: from frame 10 on each lasts five times longer."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stts") - 4
    assert data.index(b"moov") > data.index(b"mdat")  # growing it moves no frame
    count, each = struct.unpack(">II", data[at + 16 : at + 24])
    table = struct.pack(">IIII", 10, each, count - 10, 5 * each)
    data[at : at + 24] = struct.pack(">I4sII", 32, b"stts", 0, 2) + table
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        size_at = data.index(box) - 4
        size = struct.unpack(">I", data[size_at : size_at + 4])[0]
        data[size_at : size_at + 4] = struct.pack(">I", size + 8)
    data[data.index(b"edts") : data.index(b"edts") + 4] = b"free"  # its edit list ends too early
    path.write_bytes(data)


def test_times_are_those_in_the_file_not_the_count_over_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    track = write_video(path)
    stretch_second_half(path)
    times = [t for t, _ in decode_all(path, track)]
    expected = np.concatenate([np.arange(10) / 10, 1.0 + 0.5 * np.arange(20)])
    assert_allclose(times, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("width", "height", "fit", "expected"),
    [
        (640, 480, "crop", (64, 64)),
        (640, 480, "keep", (56, 72)),
        (1280, 720, "keep", (48, 88)),
        (1000, 20, "keep", (8, 456)),
    ],
)
def test_sizes(width: int, height: int, fit: Any, expected: tuple[int, int]) -> None:
    assert video.picture_size(width, height, VideoConfig(fit=fit)) == expected


def test_crop_takes_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    track = write_video(path, count=30)
    wide = list(video.decode(path, track, VideoConfig(size_px=48, fit="crop")))
    assert wide[0][1].shape == (48, 48, 3)
    # the square starts at x = 29 of 64 in the last frame: 21 of the central 48
    assert wide[29][1][15, 26, 0] > wide[29][1][15, 10, 0] - 60
    assert_array_equal(np.abs(wide[29][1][15, 21:31, 1].astype(int)) < 60, True)
    assert wide[29][1][15, 10, 1] > 150


def test_probe_says_what_the_file_claims(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path)
    assert video.probe(path) == video.Probe(
        container="mp4", frames=COUNT, fps=10.0, width_px=64, height_px=48
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("video.mp4", b"ffconcat version 1.0\nfile other.mp4\n"),
        ("video.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///tmp/other.mp4\n"),
        ("video.mp4", b"\x89PNG\r\n\x1a\n"),
        ("video.mp4", b""),
        ("video.wav.avi", b"RIFF\x00\x00\x00\x00WAVEfmt "),
        ("frame%03d.mp4", b"\x00\x00\x00\x1cftypisom\x00\x00\x02\x00"),
        ("video.txt", b"\x00\x00\x00\x1cftypisom\x00\x00\x02\x00"),
    ],
)
def test_files_that_only_pretend_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the decoder saw the file")

    monkeypatch.setattr(cv2, "VideoCapture", refuse)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="not a video file; MP4, MOV, AVI, MKV or WebM expected"):
        video.probe(tmp_path / name)


def test_an_address_is_not_followed() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        video.probe(Path("http://127.0.0.1:9/video.mp4"))


def test_a_cut_file_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "video.mkv"
    track = write_video(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError) as caught:
        decode_all(path, track)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert "30 expected by recording.json; it is cut short or damaged" in said


def test_half_an_mp4_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    track = write_video(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be opened; it is cut short, damaged"):
        decode_all(path, track)


def test_damage_in_the_middle_never_passes_quietly_short(tmp_path: Path) -> None:
    """Zeroes over the frames of a quarter of the file: all frames or an error, never fewer."""
    path = tmp_path / "video.mp4"
    track = write_video(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start + 600 : start + 1200] = bytes(600)
    path.write_bytes(data)
    try:
        found = len(decode_all(path, track))
    except DataError as error:
        found = COUNT if "frames can be decoded, 30 expected" in str(error) else -1
    assert found == COUNT


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        (32, "30 frames can be decoded, 32 expected by recording.json; it is cut short"),
        (20, "30 frames can be decoded, 20 expected by recording.json; it is another file's"),
    ],
)
def test_a_wrong_count_names_both(tmp_path: Path, claimed: int, said: str) -> None:
    path = tmp_path / "video.mp4"
    track = dataclasses.replace(write_video(path), frames=claimed)
    with pytest.raises(DataError, match=said):
        decode_all(path, track)


def test_one_frame_is_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    track = write_video(path)
    for claimed in (29, 31):
        assert len(decode_all(path, dataclasses.replace(track, frames=claimed))) == COUNT


def test_another_files_content_is_seen_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    track = dataclasses.replace(write_video(path), width_px=640, height_px=480)
    with pytest.raises(DataError, match=r"pictures are 64x48, but recording.json says 640x480"):
        decode_all(path, track)


def test_no_cv2_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MachineError, match="pip install opencv-python-headless"):
        video.probe(tmp_path / "video.mp4")


def test_the_cache_is_made_once_and_said_before(tmp_path: Path) -> None:
    source = recording(tmp_path, start_s=1.5)
    said: list[str] = []
    first = open_frames([source], CONFIG, dataset=tmp_path, progress=said.append)[0]
    assert said[0] == f"pictures: 1 recordings, 30 frames, 0.1 MB to {tmp_path / '.cache'}"
    assert "30 of 30 frames" in said[-1]
    assert_allclose(first.t_s, 1.5 + np.arange(COUNT) / 10, atol=1e-3)
    assert first.pictures.shape == (COUNT, 24, 40, 3)
    expected = [p for _, p in decode_all(source.folder / "video.mp4", source.videos[0])]
    assert_array_equal(first.pictures, expected)
    said.clear()
    again = open_frames([source], CONFIG, dataset=tmp_path, progress=said.append)[0]
    assert said == []
    assert again.path == first.path
    assert_array_equal(again.pictures, expected)


def test_a_changed_video_makes_a_new_cache_and_removes_the_old(tmp_path: Path) -> None:
    source = recording(tmp_path)
    old = open_frames([source], CONFIG, dataset=tmp_path)[0].path
    data = (source.folder / "video.mp4").read_bytes()
    (source.folder / "video.mp4").write_bytes(data + bytes(8))
    new = open_frames([source], CONFIG, dataset=tmp_path)[0].path
    other = open_frames([source], VideoConfig(size_px=48), dataset=tmp_path)[0].path
    assert old != new
    left = {p.name for p in (tmp_path / ".cache").iterdir()}
    assert {new.name, other.name} < left
    assert len(left) == 4  # pictures and times of the two sizes


def test_a_damaged_video_leaves_no_cache(tmp_path: Path) -> None:
    source = recording(tmp_path, frames=60)
    with pytest.raises(DataError, match="60 expected"):
        open_frames([source], CONFIG, dataset=tmp_path)
    assert list((tmp_path / ".cache").iterdir()) == []


def test_a_data_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    source = recording(data)
    (data / ".cache").touch()  # a file where the folder would be stops even the root user
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    path = open_frames([source], CONFIG, dataset=data)[0].path
    assert path.is_relative_to(tmp_path / "user" / "detach")
    with pytest.raises(MachineError, match="no folder for prepared pictures can be written"):
        open_frames([source], CONFIG, dataset=data, cache=data / ".cache")


def test_no_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MachineError, match=r"0\.1 MB of pictures do not fit, 0\.0 MB are free"):
        open_frames([recording(tmp_path)], CONFIG, dataset=tmp_path)
    assert list((tmp_path / ".cache").iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    source = recording(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(MachineError, match=r"one\..*npy: writing 0\.1 MB failed: File too"):
            open_frames([source], CONFIG, dataset=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / ".cache").iterdir()) == []


def test_one_bad_video_stops_the_others(tmp_path: Path) -> None:
    bad = recording(tmp_path, "bad", frames=90)
    good = [recording(tmp_path, f"good{i}") for i in range(3)]
    with pytest.raises(DataError, match=r"bad/video.mp4"):
        open_frames([bad, *good], CONFIG, dataset=tmp_path)
    assert threading.active_count() == 1
    assert not [p for p in (tmp_path / ".cache").iterdir() if p.name.endswith(".part")]


def test_cameras_of_one_data_set_need_one_aspect(tmp_path: Path) -> None:
    wide = recording(tmp_path, "wide", width_px=640, height_px=120)
    with pytest.raises(DataError, match="wide: pictures would be 72x16, but 40x24 in one"):
        open_frames([recording(tmp_path), wide], CONFIG, dataset=tmp_path)


def frames_at(t_s: list[float], tmp_path: Path) -> Frames:
    shape = (len(t_s), 24, 40, 3)
    return Frames(np.zeros(shape, np.uint8), np.asarray(t_s), tmp_path / "x.npy")


def test_the_frame_on_screen(tmp_path: Path) -> None:
    frames = frames_at([0.0, 0.1, 0.2, 0.9], tmp_path)
    index, late = frames.on_screen(np.array([-0.2, 0.05, 0.1, 0.199999, 0.28, 0.5, 0.95]), 0.1)
    assert index.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert late.tolist() == [True, False, False, False, False, True, False]


def test_optical_flow_follows_the_motion_and_is_kept(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :56]
    texture = [128 + 60 * np.sin((x - i) / 3) + 60 * np.cos(y / 4) for i in (0, 1)]
    pictures = np.repeat(np.asarray(texture)[..., None], 3, axis=-1).astype(np.uint8)
    path = tmp_path / "x.npy"
    np.save(path, pictures)
    frames = Frames(pictures, np.array([0.0, 0.1]), path)
    pairs = np.array([[0, 1], [1, 0]], dtype=np.int32)
    flow = frames.flow(pairs) * video.FLOW_STEP_PX
    assert flow.shape == (2, 40, 56, 2)
    inside = flow[:, 8:-8, 8:-8]
    assert_allclose(np.median(inside[0], axis=(0, 1)), [1.0, 0.0], atol=0.15)
    assert_allclose(np.median(inside[1], axis=(0, 1)), [-1.0, 0.0], atol=0.15)
    assert len(list(tmp_path.glob("x.flow-*.npy"))) == 1
    assert_array_equal(frames.flow(pairs) * video.FLOW_STEP_PX, flow)


def test_optical_flow_lies_elsewhere_when_pictures_are_on_a_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, spare = tmp_path / "fixed", tmp_path / "spare"
    fixed.mkdir()
    pictures = np.random.default_rng(0).integers(0, 255, (2, 24, 40, 3), dtype=np.uint8)
    np.save(fixed / "x.npy", pictures)
    frames = Frames(pictures, np.array([0.0, 0.1]), fixed / "x.npy", (fixed, spare))
    touch = Path.touch

    def refused(path: Path, *args: Any, **named: Any) -> None:
        if path.parent == fixed:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        touch(path, *args, **named)

    monkeypatch.setattr(Path, "touch", refused)
    pairs = np.array([[0, 1]], dtype=np.int32)
    flow = frames.flow(pairs)
    assert [p.name for p in fixed.iterdir()] == ["x.npy"]
    (made,) = spare.iterdir()
    stamp = made.stat().st_mtime_ns
    assert_array_equal(frames.flow(pairs), flow)
    assert made.stat().st_mtime_ns == stamp


def test_pictures_stay_when_the_clock_of_a_film_is_put_right(tmp_path: Path) -> None:
    source = recording(tmp_path, start_s=1.5)
    (before,) = open_frames([source], CONFIG, dataset=tmp_path)
    moved = dataclasses.replace(source.videos[0], start_s=-0.5, drift_ppm=100.0)
    said: list[str] = []
    later = dataclasses.replace(source, videos=(moved,))
    (after,) = open_frames([later], CONFIG, dataset=tmp_path, progress=said.append)
    assert said == []
    assert after.path == before.path
    assert_allclose(after.t_s, (before.t_s - 1.5) * 1.0001 - 0.5)


def test_a_video_of_another_rate_is_seen_by_its_length(tmp_path: Path) -> None:
    track = write_video(tmp_path / "video.mp4")
    slower = dataclasses.replace(track, fps=track.fps / 4)
    with pytest.raises(DataError, match=r"last frame is at .* s, but .* take 12.0 s. Check fps"):
        decode_all(tmp_path / "video.mp4", slower)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_damaged_cache_is_made_again(tmp_path: Path, size: int) -> None:
    one = recording(tmp_path)
    before = open_frames([one], VideoConfig(), dataset=tmp_path)[0]
    pictures = before.pictures.copy()
    before.path.write_bytes(before.path.read_bytes()[:size])
    again = open_frames([one], VideoConfig(), dataset=tmp_path)[0]
    assert np.array_equal(again.pictures, pictures)
