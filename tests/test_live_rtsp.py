"""A camera that speaks RTSP: its pictures, a freeze, and that it comes back."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detach.config import VideoConfig
from detach.data import mp4, video
from detach.edge.live.camera import Camera
from detach.edge.live.clock import SystemClock
from detach.edge.live.config import CameraSource

from .live_home import wait_for  # type: ignore[import-not-found]
from .rtsp_server import (  # type: ignore[import-not-found]
    GSTREAMER,
    PIPELINES,
    Rtsp,
    gstreamer,
    has_gstreamer,
)

FPS, COUNT = 10.0, 300
SIZE = video.picture_size(64, 48, VideoConfig(size_px=32))
INSTALL = f"apt-get install --no-install-recommends {' '.join(GSTREAMER)}"


def brightening(count: int = COUNT) -> Iterator[np.ndarray]:
    """Each picture is a little brighter than the one before."""
    return (np.full((48, 64, 3), 30 + 200 * k // count, np.uint8) for k in range(count))


class Watched:
    """A camera with what was said about it, watched until it is closed."""

    def __init__(self, address: str, size: tuple[int, int] = SIZE, **about: float) -> None:
        self.said: list[str] = []
        limits = {"silent_after_s": 2.0, **about}
        source = CameraSource(source=address, fps=FPS, **limits)  # type: ignore[arg-type]
        self.camera = Camera(source, size, "keep", clock=SystemClock(), say=self.said.append)

    def until_frames(self, count: int) -> None:
        def come() -> bool:
            self.camera.watch()
            return self.camera.counts["frames"] >= count

        wait_for(come, f"{count} pictures", 60)

    def until_said(self, count: int) -> None:
        def said() -> bool:
            self.camera.watch()
            return len(self.said) >= count

        wait_for(said, "what happened", 30)


@pytest.fixture
def packets(tmp_path: Path) -> list[bytes]:
    video.encode(tmp_path / "film.avi", brightening(), FPS)
    return list(mp4.packets(tmp_path / "film.avi"))


def test_pictures_come_in_their_size_at_their_rate(packets: list[bytes]) -> None:
    with Rtsp(packets, FPS) as server:
        watched = Watched(server.address)
        try:
            watched.until_frames(25)
            shots = watched.camera.shots()
        finally:
            watched.camera.close()
            server.shutdown()
    assert {shot.picture.shape for shot in shots} == {(*SIZE, 3)}
    light = [float(shot.picture.mean()) for shot in shots]
    assert light == sorted(light)
    steps = np.diff([shot.t_s for shot in shots[-12:]])
    assert float(np.median(steps)) == pytest.approx(1 / FPS, abs=0.03)
    assert abs(shots[-1].t_s - time.monotonic()) < 10  # the machine's clock, not the camera's


def test_a_camera_that_freezes_is_started_again(packets: list[bytes]) -> None:
    with Rtsp(packets, FPS) as server:
        watched = Watched(server.address)
        try:
            watched.until_frames(5)
            server.frozen.set()
            watched.until_said(1)
            assert "sent no picture for 2 s" in watched.said[0]
            server.frozen.clear()
            watched.until_frames(watched.camera.counts["frames"] + 5)
            assert server.plays == 2
        finally:
            watched.camera.close()
            server.shutdown()


def test_a_camera_that_is_not_there_is_said(packets: list[bytes]) -> None:
    with Rtsp(packets, FPS) as server:
        address = server.address
        server.shutdown()
    watched = Watched(address, restarts_a_minute=1)
    try:
        watched.until_said(1)
        assert "cannot be opened; is the camera on, and free?" in watched.said[0]
    finally:
        watched.camera.close()


@pytest.mark.slow
@pytest.mark.parametrize("coding", PIPELINES)
def test_debians_gstreamer_server(tmp_path: Path, coding: str) -> None:
    """With DETACH_RTSP_VIDEO=FILE.mp4 a film of one's own, coded in H.264."""
    if not has_gstreamer():
        pytest.skip(f"not installed here, since it brings 120 packages: {INSTALL}")
    film, size = tmp_path / "film.mp4", SIZE
    if coding == "h264":
        own = os.environ.get("DETACH_RTSP_VIDEO")
        if own is None:
            pytest.skip("OpenCV writes no H.264: DETACH_RTSP_VIDEO=FILE.mp4 names a film that is")
        film = Path(own)
        claim = video.probe(film)
        size = video.picture_size(claim.width_px, claim.height_px, VideoConfig(size_px=112))
    else:
        video.write(film, brightening(), FPS)
    with gstreamer(film, PIPELINES[coding]) as address:
        watched = Watched(address, size)
        try:
            watched.until_frames(20)
            assert {shot.picture.shape for shot in watched.camera.shots()} == {(*size, 3)}
        finally:
            watched.camera.close()
