"""What `detach run` saw and said as one file for the rerun viewer: all of it on one time axis."""

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from detach.config import VideoConfig
from detach.data import video
from detach.edge.decide import UNKNOWN, Decision
from detach.edge.manifest import Manifest
from detach.edge.source import Source
from detach.edge.stream import SensorWindow
from detach.errors import MachineError

TIMELINE = "time"
PICTURE_PX = 256
"""Pictures are stored one by one, as JPEG: the viewer does not know every codec of films."""
QUALITY = 80

Found = Sequence[tuple[SensorWindow, Decision]]


def write_rrd(path: Path, source: Source, manifest: Manifest, found: Found) -> int:
    """Writes film, sensors, labels and answers; whole or not at all.

    Args:
        path: NAME.rrd.
        source: What was run.
        manifest: Of the bundle it was run through.
        found: Its windows and their answers.

    Returns:
        How many pictures are in it.

    Raises:
        DataError: The video is damaged.
        MachineError: rerun is not installed, or the file cannot be written.
    """
    rerun = _rerun()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One name for one source and model, so that the viewer tells runs apart.
        name = uuid.uuid5(uuid.NAMESPACE_OID, f"{manifest.model} {source.name}")
        stream = rerun.RecordingStream("detach", recording_id=str(name))
        stream.save(part)
        _sensors(rerun, stream, source)
        _labels(rerun, stream, source)
        _answers(rerun, stream, found)
        count = _film(rerun, stream, source)
        stream.flush()
        stream.disconnect()
        part.replace(path)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return count


def _sensors(rerun: ModuleType, stream: object, source: Source) -> None:
    for name, series in source.series.items():
        for axis, values in zip(series.axes, series.values.T, strict=True):
            entity = f"sensors/{name}" if len(series.axes) == 1 else f"sensors/{name}/{axis}"
            known = np.isfinite(values)
            t_s, x = series.t_s[known], values[known].astype(np.float64)
            if series.form.hz is None and len(t_s):  # a value holds until the next
                t_s = np.repeat(np.append(t_s, max(source.duration_s, t_s[-1])), 2)[1:-1]
                x = np.repeat(x, 2)
            _column(rerun, stream, entity, t_s, rerun.Scalars.columns(scalars=x))


def _labels(rerun: ModuleType, stream: object, source: Source) -> None:
    if source.labels is None:
        return
    for start_s, end_s, name in zip(
        source.labels.start_s, source.labels.end_s, source.labels.name, strict=True
    ):
        _text(rerun, stream, "labels", float(start_s), f"{name} (until {end_s:.1f} s)")


def _answers(rerun: ModuleType, stream: object, found: Found) -> None:
    """Each answer belongs to the end of its window, when it can be known."""
    ends = np.array([decision.end_s for _, decision in found])
    sure = [d.confidence for _, d in found]
    if all(x is not None for x in sure):
        values = rerun.Scalars.columns(scalars=np.array(sure, dtype=np.float64))
        _column(rerun, stream, "answers/confidence", ends, values)
    places = [d.place for _, d in found]
    if all(x is not None for x in places):
        values = rerun.Scalars.columns(scalars=np.array(places, dtype=np.float64))
        _column(rerun, stream, "answers/place", ends, values)
    before = None
    for end_s, (_, decision) in zip(ends, found, strict=True):
        if decision.label is not None and decision.label != before:
            level = "WARN" if decision.label == UNKNOWN else "INFO"
            _text(rerun, stream, "answers/state", float(end_s), decision.label, level)
        before = decision.label


def _film(rerun: ModuleType, stream: object, source: Source) -> int:
    track = source.video_track
    if track is None or source.video_file is None:
        return 0
    count = 0
    for stamp_s, picture in video.decode(
        source.video_file, track, VideoConfig(size_px=min(PICTURE_PX, track.width_px))
    ):
        stream.set_time(TIMELINE, duration=track.at(stamp_s))  # type: ignore[attr-defined]
        stream.log("camera", rerun.Image(picture).compress(jpeg_quality=QUALITY))  # type: ignore[attr-defined]
        count += 1
    return count


def _column(
    rerun: ModuleType, stream: object, entity: str, t_s: np.ndarray, columns: object
) -> None:
    if len(t_s):
        index = [rerun.TimeColumn(TIMELINE, duration=t_s)]
        stream.send_columns(entity, indexes=index, columns=columns)  # type: ignore[attr-defined]


def _text(
    rerun: ModuleType, stream: object, entity: str, t_s: float, text: str, level: str = "INFO"
) -> None:
    stream.set_time(TIMELINE, duration=t_s)  # type: ignore[attr-defined]
    stream.log(entity, rerun.TextLog(text, level=level))  # type: ignore[attr-defined]


def _rerun() -> ModuleType:
    try:
        import rerun  # noqa: PLC0415 -- an extra, for who wants to look
    except ImportError as error:
        raise MachineError(
            f"an .rrd file needs rerun, which is not there ({error}): pip install rerun-sdk"
        ) from error
    return rerun
