"""The camera's pictures as the video graphs take them; the work of a picture is done once.

The same pictures, chosen by the same rule, as `detach.edge.film` takes from a file.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.edge.engine import Engine
from detach.edge.film import SLACK_S
from detach.edge.graph_input import Tensors
from detach.edge.live.camera import Camera, Shot
from detach.edge.manifest import Video

LONGEST_GAP_S = 0.5
"""Without a picture for longer, the camera did not see the window."""


@dataclass(frozen=True)
class _Frame:
    t_s: float
    whole: NDArray[np.float32]
    """[H, W, 3] in [0, 1]."""
    shrunk: NDArray[np.float32]
    """[h, w, 3] in [0, 1]."""


class Pictures:
    """Asks the video graphs about the camera's newest pictures.

    Args:
        camera: Watched elsewhere.
        form: How the graphs take pictures.
        seconds: Of a window.
        engines: Of ``video_spatial`` and ``video_temporal``.
        origin_s: Monotonic time of the stream's zero.
    """

    def __init__(
        self,
        camera: Camera,
        form: Video,
        seconds: float,
        engines: Mapping[str, Engine],
        origin_s: float,
    ) -> None:
        self._camera, self._form, self._seconds = camera, form, seconds
        self._engines, self._origin_s = engines, origin_s
        self._frames: deque[_Frame] = deque(maxlen=600)
        self.odd_size = 0
        """Pictures of another shape than in training."""

    def look(self, start_s: float) -> Tensors | None:
        """What the graphs say of the window at ``start_s`` of the stream; None if not covered."""
        self._take()
        step_s = self._seconds / self._form.frames
        moments = start_s + (np.arange(self._form.frames) + 0.5) * step_s
        shown = [self._on_screen(t + SLACK_S) for t in moments.tolist()]
        frames = [frame for frame in shown if frame is not None]
        if len(frames) < len(shown):
            return None
        whole = np.stack([frame.whole for frame in frames])
        found: Tensors = {}
        if "video_spatial" in self._engines:
            by_pixels = self._form.average == "pixels"
            inputs = (
                {"pictures": whole.mean(axis=0)[None]} if by_pixels else {"frames": whole[None]}
            )
            found |= self._engines["video_spatial"].run(inputs)
        if "video_temporal" in self._engines:
            shrunk = np.stack([frame.shrunk for frame in frames])[None]
            found |= self._engines["video_temporal"].run({"frames": shrunk})
        return found

    def _take(self) -> None:
        newest_s = self._frames[-1].t_s if self._frames else -np.inf
        for shot in self._camera.shots():
            if shot.t_s - self._origin_s <= newest_s:
                continue
            if shot.picture.shape[:2] != tuple(self._form.size_px):
                self.odd_size += 1
                continue
            self._frames.append(_frame(shot, self._form, self._origin_s))

    def _on_screen(self, t_s: float) -> _Frame | None:
        for frame in reversed(self._frames):
            if frame.t_s <= t_s:
                return frame if t_s - frame.t_s <= LONGEST_GAP_S else None
        return None


def _frame(shot: Shot, form: Video, origin_s: float) -> _Frame:
    pixels = shot.picture.astype(np.float32)
    height, width = form.motion_px
    factor = max(1, pixels.shape[0] // height)
    cut = pixels[: height * factor, : width * factor]
    squares = cut.reshape(height, factor, width, factor, 3)
    shrunk = squares.mean(axis=(1, 3), dtype=np.float32) / np.float32(255)
    return _Frame(shot.t_s - origin_s, pixels / np.float32(255), np.asarray(shrunk))
