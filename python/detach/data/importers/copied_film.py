"""A film that comes with sensors: looked at, and copied into the recording."""

import shutil
from pathlib import Path

from detach.data.decoding import probe_apart
from detach.data.recording import VideoTrack
from detach.data.video import check_whole
from detach.errors import DataError


def copy_film(source: Path, folder: Path, name: str) -> VideoTrack:
    """Copies a film into a recording, as ``video`` with its own suffix, and describes it.

    Raises:
        DataError: Not a video, cut short, or without pictures or a rate.
    """
    check_whole(source)
    (claim,) = probe_apart([source])
    if not (claim.frames > 0 and claim.fps > 0):
        raise DataError(
            f"{source}: says it has {claim.frames} pictures at {claim.fps:g} a second; both must "
            "be above 0. Encode it again"
        )
    file = f"video{source.suffix.lower()}"
    shutil.copyfile(source, folder / file)
    return VideoTrack(
        name=name,
        file=file,
        fps=claim.fps,
        frames=claim.frames,
        width_px=claim.width_px,
        height_px=claim.height_px,
    )
