"""A camera at /dev/videoN: what OpenCV is asked for, what becomes of pictures, and what is said.

There is no such device here, and none can be made without a kernel module: a capture of our own
stands in for OpenCV's, so that the driver itself stays untried.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detach.edge.live import capture as capturing
from detach.edge.live.capture import HEADER, Order, main, pictures
from detach.errors import DataError

ORDER = Order(source="/dev/video7", fps=1000.0, size_px=(24, 32), fit="keep")
SMALL, LARGE, WIDE = (48, 64), (480, 640), (24, 96)


class Device:
    """Gives pictures of these sizes in turn, then ends, as a camera that is pulled out does."""

    sizes: tuple[tuple[int, int], ...] = ()
    opens = True

    def __init__(self, *how: Any) -> None:
        self.how, self.released, self.set_to = how, False, {}  # type: ignore[var-annotated]
        self._rest: Iterator[tuple[int, int]] = iter(self.sizes)
        made.append(self)

    def isOpened(self) -> bool:  # noqa: N802 -- OpenCV's name
        return self.opens

    def set(self, what: int, value: float) -> bool:
        self.set_to[what] = value
        return True

    def grab(self) -> bool:
        self._now = next(self._rest, None)
        return self._now is not None

    def retrieve(self) -> tuple[bool, Any]:
        assert self._now is not None
        return True, np.full((*self._now, 3), (10, 20, 30), np.uint8)

    def release(self) -> None:
        self.released = True


made: list[Device] = []


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    made.clear()

    class Own(Device):
        pass

    monkeypatch.setattr(cv2, "VideoCapture", Own)
    return Own


def test_the_device_is_opened_by_v4l2_at_its_rate_and_let_go(device: type[Device]) -> None:
    device.sizes = (SMALL,) * 3
    found = [picture for _, picture in pictures(ORDER)]
    assert made[0].how == (7, cv2.CAP_V4L2)
    assert made[0].set_to == {cv2.CAP_PROP_FPS: 1000.0, cv2.CAP_PROP_BUFFERSIZE: 1}
    assert made[0].released
    assert [picture.shape for picture in found] == [(24, 32, 3)] * len(found)
    assert len(found) >= 1
    assert found[0][0, 0].tolist() == [30, 20, 10]  # RGB


def test_a_camera_that_changes_size_gives_the_same_pictures(device: type[Device]) -> None:
    device.sizes = (SMALL, LARGE)
    order = Order(**{**vars(ORDER), "fps": 1e9})
    assert [picture.shape for _, picture in pictures(order)] == [(24, 32, 3)] * 2


def test_a_camera_that_changes_aspect_is_refused(device: type[Device]) -> None:
    device.sizes = (SMALL, WIDE)
    order = Order(**{**vars(ORDER), "fps": 1e9})
    with pytest.raises(DataError, match="its pictures are 96x24, and cannot become 32x24"):
        list(pictures(order))
    assert made[0].released


@pytest.mark.parametrize(
    ("there", "allowed", "says"),
    [
        (False, True, "there is no such device, only"),
        (True, False, "this user may not; `sudo usermod -aG video USER`"),
        (True, True, "another program has it, or it is no camera"),
    ],
)
def test_why_it_does_not_open_is_said(
    device: type[Device], monkeypatch: pytest.MonkeyPatch, there: bool, allowed: bool, says: str
) -> None:
    device.opens = False
    monkeypatch.setattr(Path, "exists", lambda _: there)
    monkeypatch.setattr(os, "access", lambda *_: allowed)
    with pytest.raises(DataError, match=says):
        list(pictures(ORDER))


def test_the_process_tells_it_and_ends_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenCV's own capture, asked for a device that is not there."""
    monkeypatch.setattr(capturing, "_confine", lambda: None)
    out = io.BytesIO()
    order = Order(**{**vars(ORDER), "source": "/dev/video987"})
    assert main(io.StringIO(order.dump()), out) == 3
    assert "/dev/video987: cannot be opened; there is no such device" in capsys.readouterr().err
    assert out.getvalue() == b""


def test_pictures_of_a_device_reach_whoever_reads(
    device: type[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    device.sizes = (SMALL,)
    monkeypatch.setattr(capturing, "_confine", lambda: None)
    out = io.BytesIO()
    assert main(io.StringIO(ORDER.dump()), out) == 0
    assert len(out.getvalue()) == HEADER.size + 24 * 32 * 3
