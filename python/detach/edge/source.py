"""What `detach run` reads: a recording, or a folder of sensor files with or without a video."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data import video
from detach.data.policies import take_out_steps
from detach.data.recording import (
    DATASET_FILE,
    RECORDING_FILE,
    Recording,
    SensorTrack,
    VideoTrack,
    read_recording,
)
from detach.data.tables import Intervals, read_times
from detach.edge.manifest import Channel, Manifest
from detach.edge.stream import SensorForm
from detach.errors import DataError, UsageError

DAY_S = 86_400.0
LONGEST_S = 31 * DAY_S
"""Of a folder of sensor files."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """All values of one sensor."""

    form: SensorForm
    axes: tuple[str, ...]
    t_s: NDArray[np.float64]
    """[n], not falling."""
    values: NDArray[np.float32]
    """Raw [n, axes]."""
    clocks_set: int = 0
    """How often its clock was set, which is taken out of ``t_s`` where the bundle says resync,"""
    clocks_set_s: float = 0.0
    """and by how much in all."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where windows come from."""

    name: str
    duration_s: float
    series: Mapping[str, Series]
    video_file: Path | None
    video_track: VideoTrack | None
    labels: Intervals | None
    """Of the bundle's track, where the recording has it."""

    def windows(self, seconds: float, hop_s: float) -> range:
        """Numbers of the windows that fit, as in training but for what the video covers."""
        if self.duration_s < seconds - 1e-6:
            return range(0)
        return range(int((self.duration_s - seconds) / hop_s + 1e-6) + 1)


def open_source(path: Path, manifest: Manifest, video_file: Path | None = None) -> Source:
    """Reads the sensors of a source; pictures stay on disk.

    Args:
        path: A recording, or a folder with ``SENSOR.csv`` files (or them in ``sensors/``), whose
            header is t_s and the axes.
        manifest: Of the bundle.
        video_file: Use this video instead of the recording's, or beside the sensor files.

    Raises:
        UsageError: A data set, of which one recording must be chosen.
        DataError: Neither, or damaged, or its sensors are not those of the bundle.
    """
    if (path / DATASET_FILE).is_file():
        names = sorted(p.parent.name for p in path.glob(f"*/{RECORDING_FILE}"))
        raise UsageError(
            f"{path} is a data set of {len(names)} recordings; give one of them, for example "
            f"{path / (names[0] if names else 'NAME')}"
        )
    if (path / RECORDING_FILE).is_file():
        return _from_recording(read_recording(path), manifest, video_file)
    if not path.is_dir():
        raise DataError(
            f"{path}: expected a recording ({RECORDING_FILE} in it) or a folder of sensor files"
        )
    return _from_folder(path, manifest, video_file)


def _from_recording(recording: Recording, manifest: Manifest, video_file: Path | None) -> Source:
    known = {channel.sensor: channel for channel in manifest.channels}
    series = {}
    for track in recording.sensors:
        if track.name in known:
            _check_track(recording, track, manifest)
            form, channel = SensorForm(hz=track.hz, polarity=track.polarity), known[track.name]
            right = _is_put_right(form, channel)
            stamps, values = recording.read_sensor(track, may_fall=right)
            series[track.name] = _series(form, channel, track.axes, stamps, values)
    file, film = video_file, None
    if file is not None:
        film = _film(file)
    elif len(recording.videos) == 1:
        film = recording.videos[0]
        file = recording.folder / film.file
    labelled = manifest.track in {track.name for track in recording.labels}
    return Source(
        name=recording.name,
        duration_s=recording.duration_s,
        series=series,
        video_file=file,
        video_track=film,
        labels=recording.read_labels(manifest.track) if manifest.track and labelled else None,
    )


def _is_put_right(form: SensorForm, channel: Channel) -> bool:
    return channel.resync_s is not None and form.hz is not None


def _series(
    form: SensorForm,
    channel: Channel,
    axes: tuple[str, ...],
    t_s: NDArray[np.float64],
    values: NDArray[np.float32],
) -> Series:
    often, by_s = 0, 0.0
    if channel.resync_s is not None and form.hz is not None:
        t_s, often, by_s = take_out_steps(t_s, form.hz, channel.resync_s)
    return Series(form=form, axes=axes, t_s=t_s, values=values, clocks_set=often, clocks_set_s=by_s)


def _check_track(recording: Recording, track: SensorTrack, manifest: Manifest) -> None:
    axes = {c.axis: c for c in manifest.channels if c.sensor == track.name}
    if missing := set(axes) - set(track.axes):
        raise DataError(
            f"{recording.folder}: sensor {track.name!r} has the axes {', '.join(track.axes)}, but "
            f"the bundle knows {sorted(missing)[0]!r} too"
        )
    for channel in axes.values():
        for what in ("kind", "unit"):
            expected, found = getattr(channel, what), getattr(track, what)
            if expected != found:
                raise DataError(
                    f"{recording.folder}: sensor {track.name!r} has {what} {found!r}, but "
                    f"{expected!r} in the bundle"
                )


def _from_folder(path: Path, manifest: Manifest, video_file: Path | None) -> Source:
    sensors: dict[str, list[Channel]] = {}
    for channel in manifest.channels:
        sensors.setdefault(channel.sensor, []).append(channel)
    folder = path / "sensors" if (path / "sensors").is_dir() else path
    series = {}
    for name, channels in sensors.items():
        file = folder / f"{name}.csv"
        if file.is_file():
            axes = tuple(channel.axis for channel in channels)
            form = SensorForm(hz=channels[0].hz)
            rows = read_times(file, ("t_s", *axes), may_fall=_is_put_right(form, channels[0]))
            values = rows[:, 1:].astype(np.float32)
            series[name] = _series(form, channels[0], axes, rows[:, 0], values)
            _check_end(file, series[name].t_s)
    if not series:
        raise DataError(
            f"{path}: no recording, and no file of a sensor of the bundle: expected "
            f"{RECORDING_FILE}, or {', '.join(f'{name}.csv' for name in list(sensors)[:5])} ..."
        )
    _check_start(folder, series)
    ends = [float(s.t_s[-1]) for s in series.values() if len(s.t_s)]
    film = _film(video_file) if video_file is not None else None
    if film is not None:
        ends.append(film.frames / film.fps)
    return Source(
        name=path.name,
        duration_s=max(ends, default=0.0),
        series=series,
        video_file=video_file,
        video_track=film,
        labels=None,
    )


def _check_end(file: Path, t_s: NDArray[np.float64]) -> None:
    """That no time is beyond what a folder may last; Unix times are."""
    far = np.flatnonzero(np.abs(t_s) > LONGEST_S)
    if not far.size:
        return
    i = int(far[0])
    if i == 0:
        raise _starts_at(file, float(t_s[0]))
    raise DataError.at(
        file,
        i + 2,
        f"the time {t_s[i]:.0f} s comes after {t_s[i - 1]:.0f} s; a source lasts at most "
        f"{LONGEST_S / DAY_S:.0f} days. Put that line right, or cut the files",
    )


def _check_start(folder: Path, series: Mapping[str, Series]) -> None:
    """That something is heard in the first day; a single sensor may begin later."""
    firsts = {name: float(s.t_s[0]) for name, s in series.items() if len(s.t_s)}
    if firsts and min(firsts.values()) > DAY_S:
        name = min(firsts, key=firsts.__getitem__)
        raise _starts_at(folder / f"{name}.csv", firsts[name])


def _starts_at(file: Path, first_s: float) -> DataError:
    return DataError.at(
        file,
        2,
        f"starts at {first_s:.0f} s; times count from the start of the recording, as those of "
        "all its files do. Take the same start off all of them",
    )


def _film(file: Path) -> VideoTrack:
    """A video that no recording describes, by what its container says."""
    claim = video.probe(file)
    if not (0 < claim.fps <= 1000 and 0 < claim.frames <= LONGEST_S * claim.fps):
        raise DataError(
            f"{file}: its container names {claim.fps:g} frames a second and {claim.frames} frames; "
            "encode it again with a constant rate"
        )
    return VideoTrack(
        name=file.stem,
        file=file.name,
        fps=claim.fps,
        frames=claim.frames,
        width_px=claim.width_px,
        height_px=claim.height_px,
    )
