"""Films that grow: each frame at its own time, and readable by OpenCV whatever cut them short."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detach.config import VideoConfig
from detach.data import mp4, video
from detach.data.recording import VideoTrack
from detach.errors import DataError

H, W, PART = 48, 64, 20


def picture(number: int) -> np.ndarray:
    """Its number can be read off it."""
    made = np.full((H, W, 3), 128, np.uint8)
    for bit in range(8):
        made[8:40, 8 * bit : 8 * bit + 8] = 230 if number >> bit & 1 else 25
    return made


def number_of(shown: np.ndarray) -> int:
    middles = shown[12:36, 4::8].mean(axis=(0, 2))
    return sum(1 << bit for bit in range(8) if middles[bit] > 128)


def grown(folder: Path, stamps: list[float]) -> tuple[Path, list[mp4.Frame]]:
    """A film that is not finished."""
    film, frames = folder / "film.mp4", []
    mp4.begin(film)
    for first in range(0, len(stamps), PART):
        times = stamps[first : first + PART]
        pictures = (picture((first + i) % 256) for i in range(len(times)))
        assert video.encode(folder / "part.avi", pictures, 10.0) == len(times)
        found = list(mp4.packets(folder / "part.avi"))
        assert len(found) == len(times)
        with film.open("ab") as file:
            file.write(b"".join(found))
        frames += [mp4.Frame(t, len(p), mp4.is_key(p)) for t, p in zip(times, found, strict=True)]
    return film, frames


def read(film: Path) -> Iterator[tuple[float, int]]:
    claim = video.probe(film)
    track = VideoTrack(
        name="a", file=film.name, fps=claim.fps, frames=claim.frames, width_px=W, height_px=H
    )
    for t_s, shown in video.decode(film, track, VideoConfig(size_px=56)):
        assert shown.shape == (48, 64, 3)
        yield t_s, number_of(shown)


@pytest.fixture
def stamps() -> list[float]:
    """Of a camera that is uneven, freezes for half a minute, and begins late."""
    steps = np.random.default_rng(0).uniform(0.02, 0.2, 130)
    steps[70] = 30.0
    return [round(t, 4) for t in (3.25 + np.cumsum(steps)).tolist()]


def test_every_frame_is_shown_at_its_time(tmp_path: Path, stamps: list[float]) -> None:
    film, frames = grown(tmp_path, stamps)
    assert sum(frame.key for frame in frames) >= len(stamps) / PART
    mp4.finish(film, frames, (H, W), 0.1)
    found = list(read(film))
    assert [number for _, number in found] == list(range(len(stamps)))
    assert [t for t, _ in found] == pytest.approx([t - stamps[0] for t in stamps], abs=1e-4)
    assert video.probe(film).frames == len(stamps)


def test_what_is_behind_the_last_frame_goes(tmp_path: Path, stamps: list[float]) -> None:
    film, frames = grown(tmp_path, stamps)
    mp4.finish(film, frames[:50], (H, W), 0.1)
    assert len(list(read(film))) == 50
    mp4.finish(film, frames[:50], (H, W), 0.1)  # again, as after an end in between
    assert [number for _, number in read(film)] == list(range(50))


def test_a_film_of_one_frame(tmp_path: Path) -> None:
    film, frames = grown(tmp_path, [1.0])
    mp4.finish(film, frames, (H, W), 0.1)
    assert list(read(film)) == [(0.0, 0)]


def test_what_makes_no_film_is_refused(tmp_path: Path, stamps: list[float]) -> None:
    film, frames = grown(tmp_path, stamps)
    with film.open("ab") as file:
        file.write(b"12345")
    with pytest.raises(DataError, match="cannot be decoded by itself"):
        mp4.finish(film, [mp4.Frame(0.0, 5, key=True), *frames], (H, W), 0.1)
    with pytest.raises(DataError, match="fewer bytes"):
        mp4.finish(film, [*frames, mp4.Frame(99.0, 10**9, key=False)], (H, W), 0.1)
    with pytest.raises(DataError, match="fewer bytes"):
        mp4.finish(film, [], (H, W), 0.1)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_packets_of_an_avi_that_was_cut_are_those_before(tmp_path: Path, share: float) -> None:
    whole, cut = tmp_path / "part.avi", tmp_path / "cut.avi"
    video.encode(whole, (picture(i) for i in range(30)), 10.0)
    raw = whole.read_bytes()
    cut.write_bytes(raw[: round(share * len(raw))])
    expected = list(mp4.packets(whole))
    assert len(expected) == 30
    ends, at = [], 0
    for packet in expected:
        at = raw.index(packet, at) + len(packet)
        ends.append(at)
    there = sum(end <= round(share * len(raw)) for end in ends)
    assert list(mp4.packets(cut)) == expected[:there]
