"""Pictures as they come, the video graphs' inputs out. The work of a frame is done once."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data import video
from detach.edge.manifest import Manifest, Video
from detach.edge.source import Source
from detach.errors import DataError

SLACK_S = 1e-3
"""A frame whose stamp is so little after a moment counts as on screen then."""


@dataclass(frozen=True)
class _Frame:
    t_s: float
    picture: NDArray[np.uint8]
    """[H, W, 3]"""
    whole: NDArray[np.float32]
    """[H, W, 3] in [0, 1]."""
    shrunk: NDArray[np.float32]
    """[h, w, 3] in [0, 1]."""


class FilmReader:
    """Reads a source's video forward, as far as each window needs.

    Args:
        source: With a video.
        manifest: Of a bundle with video graphs.

    Raises:
        DataError: There is no video, or its pictures would have another shape than in training.
    """

    def __init__(self, source: Source, manifest: Manifest) -> None:
        form, track = manifest.video, source.video_track
        if form is None or track is None or source.video_file is None:
            what = "the bundle has no video graphs" if form is None else "the source has no video"
            raise DataError(f"{source.name}: {what}; run it without --video")
        self._form, self._window, self._track = form, manifest.window, track
        config = _config(form, source)
        size = video.picture_size(track.width_px, track.height_px, config)
        if size != tuple(form.size_px):
            raise DataError(
                f"{source.video_file}: pictures would be {size[1]}x{size[0]}, but "
                f"{form.size_px[1]}x{form.size_px[0]} in the bundle; the camera has another aspect"
            )
        self._decoded: Iterator[tuple[float, NDArray[np.uint8]]] = video.decode(
            source.video_file, track, config
        )
        self._frames: deque[_Frame] = deque()
        self._flows: dict[tuple[float, float], NDArray[np.float32]] = {}
        """Flow from one moment to another [h, w, 2], in shares of the height."""

    def inputs(self, start_s: float) -> dict[str, NDArray[np.float32]] | None:
        """Inputs [1, ...] of the video graphs for the window at ``start_s``, by name.

        ``frames_spatial`` stands for the frames of the spatial graph. Windows must be asked for in
        order. None where the video does not cover the window.
        """
        slack_s = 1.5 / self._track.fps
        end_s = self._track.end_s + slack_s
        if start_s < self._track.start_s - slack_s or start_s + self._window.seconds > end_s:
            return None
        step_s = self._window.seconds / self._form.frames
        moments = start_s + (np.arange(self._form.frames) + 0.5) * step_s
        self._read_until(float(moments[-1]) + SLACK_S)
        self._forget_before(float(moments[0]) + SLACK_S)
        shown = [self._on_screen(t + SLACK_S) for t in moments.tolist()]
        if not shown or shown[0] is None:
            return None
        frames = [frame for frame in shown if frame is not None]
        found = {"frames": np.stack([frame.shrunk for frame in frames])[None]}
        if self._form.flow is not None:
            found["flow"] = self._flow(frames)[None]
        whole = np.stack([frame.whole for frame in frames])
        if self._form.average == "pixels":
            return found | {"pictures": whole.mean(axis=0)[None]}
        return found | {"frames_spatial": whole[None]}

    def _read_until(self, t_s: float) -> None:
        while not self._frames or self._frames[-1].t_s <= t_s:
            stamp_s, picture = next(self._decoded, (None, None))
            if stamp_s is None or picture is None:
                return
            whole = picture.astype(np.float32)
            shrunk = average(whole, self._form.motion_px) / np.float32(255)
            shown_s = self._track.at(stamp_s)
            self._frames.append(_Frame(shown_s, picture, whole / np.float32(255), shrunk))

    def _forget_before(self, t_s: float) -> None:
        while len(self._frames) > 1 and self._frames[1].t_s <= t_s:
            self._frames.popleft()

    def _flow(self, frames: Sequence[_Frame]) -> NDArray[np.float32]:
        """Optical flow between frames in turn [F-1, h, w, 2]; each pair is looked at once."""
        pairs = list(itertools.pairwise(frames))
        known = {(a.t_s, b.t_s): (a, b) for a, b in pairs}
        self._flows = {
            key: self._flows[key] if key in self._flows else self._flow_between(*of)
            for key, of in known.items()
        }
        return np.stack([self._flows[a.t_s, b.t_s] for a, b in pairs])

    def _flow_between(self, earlier: _Frame, later: _Frame) -> NDArray[np.float32]:
        pictures = np.stack([earlier.picture, later.picture])
        (steps,) = video.dense_flow(pictures, np.array([[0, 1]], dtype=np.int32))
        pixels = steps.astype(np.float32) * np.float32(video.FLOW_STEP_PX)
        return average(pixels / np.float32(len(earlier.picture)), self._form.motion_px)

    def _on_screen(self, t_s: float) -> _Frame | None:
        latest = None
        for frame in self._frames:
            if frame.t_s > t_s:
                break
            latest = frame
        return latest or (self._frames[0] if self._frames else None)


def _config(form: Video, source: Source) -> VideoConfig:
    """The configuration under which pictures get the bundle's size."""
    area = round((form.size_px[0] * form.size_px[1]) ** 0.5)
    track = source.video_track
    for size_px in sorted(range(16, 1025), key=lambda n: abs(n - area)):
        config = VideoConfig(size_px=size_px, fit=form.fit)
        if track and video.picture_size(track.width_px, track.height_px, config) == form.size_px:
            return config
    return VideoConfig(size_px=max(16, area), fit=form.fit)


def average(picture: NDArray[np.float32], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Means of squares of pixels, as `encoders.shrink`; [H, W, n] to [h, w, n]."""
    factor = max(1, picture.shape[0] // size_px[0])
    height, width = size_px
    cut = picture[: height * factor, : width * factor]
    squares = cut.reshape(height, factor, width, factor, -1)
    return np.asarray(squares.mean(axis=(1, 3), dtype=np.float32))
