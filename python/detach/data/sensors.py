"""Raw sensor values to samples on one grid: resampling, missing data, statistics, normalising.

Samples are float32, [T, C] for a stretch and [N, T, C] for windows; NaN is missing until `fill`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.config import SensorConfig
from detach.data.grid import Samples
from detach.data.grid import hold as hold  # offered here too
from detach.data.grid import interpolate as interpolate
from detach.data.grid import read_grid as read_grid
from detach.data.recording import Recording, SensorTrack
from detach.data.store import read_json, write_json
from detach.errors import DataError, MachineError, UsageError

SCHEMA = 1
MISSING_SHARE = 0.5
"""A channel missing for more than this share of a window is not observed."""
CHUNK = 2048
"""Windows handled at once, so that temporary arrays stay small."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One column of the samples: an axis of a sensor, with the statistics it is normalised by."""

    name: str
    kind: str
    unit: str
    binary: bool
    place: str | None
    mean: float = 0.0
    std: float = 1.0
    sensor: str = ""
    """Whose axis it is."""


@dataclass(frozen=True, kw_only=True)
class ChannelStats:
    """What a run remembers of its pretraining part: RUN/stats.json."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Classes of each label track after rare ones were merged."""

    def save(self, path: Path) -> None:
        """Writes JSON, whole or not at all."""
        classes = {track: list(names) for track, names in self.classes.items()}
        write_json(
            path,
            {
                "schema": SCHEMA,
                "names": list(self.names),
                "mean": list(self.mean),
                "std": list(self.std),
                "classes": classes,
            },
        )

    @classmethod
    def load(cls, path: Path) -> "ChannelStats":
        """Reads what `save` wrote.

        Raises:
            DataError: Not there, another schema, or damaged.
        """
        raw = read_json(path, SCHEMA, "a run folder has a stats.json; did its training finish?")
        try:
            stats = cls(
                names=tuple(map(str, raw["names"])),
                mean=tuple(map(float, raw["mean"])),
                std=tuple(map(float, raw["std"])),
                classes={k: tuple(v) for k, v in raw["classes"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: missing or malformed entry: {error}") from error
        if not len(stats.names) == len(stats.mean) == len(stats.std):
            raise DataError(f"{path}: names, mean and std must be equally long")
        if not np.isfinite((*stats.mean, *stats.std)).all() or min(stats.std, default=0.0) < 0:
            raise DataError(f"{path}: means must be finite, and deviations also not negative")
        return stats


def common_sensors(
    recordings: Sequence[Recording], include: Sequence[str] = ()
) -> tuple[SensorTrack, ...]:
    """The sensors of all ``recordings``, each once, in order of first appearance.

    Args:
        recordings: At least one.
        include: Names or kinds to keep; empty keeps all.

    Raises:
        DataError: Two recordings describe one sensor differently, or there is none at all.
        UsageError: ``include`` names what does not exist.
    """
    found: dict[str, tuple[SensorTrack, Recording]] = {}
    for recording in recordings:
        for track in recording.sensors:
            first, where = found.setdefault(track.name, (track, recording))
            _agree(first, where, track, recording)
    if not found:
        raise DataError(
            f"{recordings[0].folder.parent}: no recording has a sensor, so there is nothing to "
            "teach; were they left out when the data were imported?"
        )
    tracks = [track for track, _ in found.values()]
    known = {track.name for track in tracks} | {track.kind for track in tracks}
    if unknown := [name for name in include if name not in known]:
        raise UsageError(
            f"sensors.include: no sensor or kind {unknown[0]!r}; there are {', '.join(found)}"
        )
    wanted = set(include) or known
    return tuple(track for track in tracks if {track.name, track.kind} & wanted)


def channels_of(tracks: Iterable[SensorTrack]) -> tuple[Channel, ...]:
    """One channel per axis, named ``sensor`` or ``sensor.axis``."""
    return tuple(
        Channel(
            name=track.name if len(track.axes) == 1 else f"{track.name}.{axis}",
            kind=track.kind,
            unit=track.unit,
            binary=track.binary,
            place=track.place,
            sensor=track.name,
        )
        for track in tracks
        for axis in track.axes
    )


def channel_stats(samples: Samples, index: NDArray[np.intp], names: Sequence[str]) -> ChannelStats:
    """Mean and standard deviation of each channel over the windows ``index`` of [N, T, C].

    Missing samples are left out; a channel that was never observed gets 0 and 1.
    """
    mean, std = [], []
    for c in range(samples.shape[2]):
        x = samples[index, :, c].astype(np.float64)
        x = x[np.isfinite(x)]
        mean.append(float(x.mean()) if x.size else 0.0)
        std.append(float(x.std()) if x.size else 1.0)
    return ChannelStats(names=tuple(names), mean=tuple(mean), std=tuple(std))


def prepare(
    samples: Samples, channels: Sequence[Channel], stats: ChannelStats, config: SensorConfig
) -> tuple[Samples, NDArray[np.bool_]]:
    """Fills, normalises, filters and resizes windows; works in place where the length is kept.

    Args:
        samples: Raw windows [N, T, C], NaN where missing. They are overwritten.
        channels: What the C columns are.
        stats: Statistics of the pretraining part, in the order of ``channels``.
        config: Which form of each step.

    Returns:
        Samples [N, T or ``config.length``, C] without NaN, and observed [N, C].
    """
    n, length, width = samples.shape
    binary = np.array([channel.binary for channel in channels], dtype=bool)
    resized = config.length is not None and config.length != length
    result = np.empty((n, config.length or length, width), np.float32) if resized else samples
    observed = np.empty((n, width), dtype=bool)
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        chunk = samples[rows]
        observed[rows] = fill(chunk, binary)
        normalise(chunk, binary, stats, config)
        chunk.transpose(0, 2, 1)[~observed[rows]] = 0.0
        if config.lowpass:
            chunk[:] = _lowpass(chunk)
        if resized:
            result[rows] = resize(chunk, result.shape[1])
    return result, observed


def fill(samples: Samples, binary: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fills gaps of raw windows [N, T, C] in place, linearly; 0/1 channels stay 0/1.

    Returns:
        Observed [N, C]: False where more than half is missing; there the values become 0.
    """
    missing = np.isnan(samples)
    share = missing.mean(axis=1)
    observed = share <= MISSING_SHARE
    samples.transpose(0, 2, 1)[~observed] = 0.0
    t = np.arange(samples.shape[1])
    for n, c in zip(*np.nonzero(observed & (share > 0)), strict=True):
        gap = missing[n, :, c]
        x = np.interp(t[gap], t[~gap], samples[n, ~gap, c])
        samples[n, gap, c] = np.round(x) if binary[c] else x
    return np.asarray(observed)


def normalise(
    samples: Samples, binary: NDArray[np.bool_], stats: ChannelStats, config: SensorConfig
) -> None:
    """Applies ``config.zscore`` to windows [N, T, C] without NaN, in place.

    A channel that was constant in the pretraining part becomes 0, never NaN.
    """
    mean, std = np.asarray(stats.mean, np.float32), np.asarray(stats.std, np.float32)
    if config.zscore == "binary-unscaled":
        std = np.maximum(std, config.std_floor)
        mean, std = np.where(binary, 0, mean), np.where(binary, 1, std)
        limit = np.where(binary, np.inf, config.clip).astype(np.float32)
        samples -= mean
        samples /= std
        np.clip(samples, -limit, limit, out=samples)
        return
    scale = np.where(std > 1e-8, 1 / np.maximum(std, 1e-8), 0).astype(np.float32)
    zero = samples == 0
    samples -= mean
    samples *= scale
    if config.zscore == "keep-zero":
        samples[zero] = 0.0


def resize(samples: Samples, length: int) -> Samples:
    """Windows [N, T, C] brought linearly to ``length`` samples, ends kept."""
    at = np.linspace(0, samples.shape[1] - 1, length)
    low = np.minimum(at.astype(int), max(samples.shape[1] - 2, 0))
    share = (at - low).astype(np.float32)[:, None]
    high = np.minimum(low + 1, samples.shape[1] - 1)
    return np.asarray(samples[:, low] * (1 - share) + samples[:, high] * share)


def _lowpass(samples: Samples) -> Samples:
    # Butterworth of order 4 at 0.1 of Nyquist, forward and backward, over the time of windows.
    try:
        from scipy.signal import butter, sosfiltfilt  # noqa: PLC0415
    except ImportError as error:
        raise MachineError(
            "sensors.lowpass needs scipy, which is not installed: pip install scipy"
        ) from error
    sections = butter(4, 0.1, output="sos")
    pad = min(27, samples.shape[1] - 1)
    return np.asarray(sosfiltfilt(sections, samples, axis=1, padlen=pad), dtype=np.float32)


def _agree(first: SensorTrack, where: Recording, track: SensorTrack, recording: Recording) -> None:
    for what in ("axes", "kind", "unit"):
        expected, found = getattr(first, what), getattr(track, what)
        if expected != found:
            raise DataError(
                f"{recording.folder}: sensor {track.name!r} has {what} {found!r}, but {expected!r} "
                f"in {where.folder.name}; recordings of one data set must agree"
            )
