"""Pieces of film that follow one another, put together as one video on one clock."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data import video
from detach.data.decoding import decode_apart, probe_apart
from detach.data.importers.log import Segment
from detach.data.recording import VideoTrack
from detach.data.video import Probe

JOIN_S = 1.0
"""Segments further apart than this do not follow one another."""
LARGEST_PX = 192
"""Pictures keep the camera's aspect and at most the area of a square of this side."""


def stretches_of(segments: Sequence[Segment], longest_s: float) -> list[list[Segment]]:
    """Segments of one camera as runs without a hole, none longer than ``longest_s`` if possible."""
    runs: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda s: s.start_s):
        run = runs[-1] if runs else []
        hole_s = segment.start_s - run[-1].end_s if run else 0.0
        if not run or hole_s > JOIN_S or segment.end_s - run[0].start_s > longest_s:
            runs.append([segment])
        else:
            run.append(segment)
    return runs


def join(segments: Sequence[Segment], start_s: float, folder: Path, fps: float) -> VideoTrack:
    """Writes one video of all ``segments``, each frame at its time, and describes it.

    The frame of a moment is the last that the camera had given by then, so that segments that
    are short of a frame, or a camera of another rate, do not shift what comes later.

    Raises:
        DataError: A segment is damaged.
        MachineError: The video cannot be written.
    """
    claims = probe_apart([segment.path for segment in segments])
    first = claims[0]
    side = min(LARGEST_PX, int((first.width_px * first.height_px) ** 0.5))
    config = VideoConfig(size_px=max(16, side))
    height, width = video.picture_size(first.width_px, first.height_px, config)
    path = folder / "video.mp4"
    frames = video.write(path, _resampled(segments, claims, start_s, fps, config), fps)
    return VideoTrack(
        name=segments[0].camera,
        file=path.name,
        fps=fps,
        frames=frames,
        width_px=width,
        height_px=height,
    )


def _resampled(
    segments: Sequence[Segment],
    claims: Sequence[Probe],
    start_s: float,
    fps: float,
    config: VideoConfig,
) -> Iterator[NDArray[np.uint8]]:
    count, shown = 0, None
    for segment, claim in zip(segments, claims, strict=True):
        track = VideoTrack(
            name=segment.camera,
            file=segment.path.name,
            fps=claim.fps,
            frames=claim.frames,
            width_px=claim.width_px,
            height_px=claim.height_px,
        )
        for t_s, picture in decode_apart(segment.path, track, config):
            at_s = segment.start_s + t_s - start_s
            while shown is not None and count / fps < at_s - 1e-6:
                yield shown
                count += 1
            shown = picture
    while shown is not None and count / fps < segments[-1].end_s - start_s - 1e-6:
        yield shown
        count += 1
