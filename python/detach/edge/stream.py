"""Raw sensor values in as they come, windows of the bundle's channels out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.edge.manifest import Channel, Manifest
from detach.errors import DataError
from detach.kernels import StreamingWindow, WindowChannel
from detach.window import Silence

SILENCES: Mapping[str, Silence] = {"hold": "hold", "mask": "mask", "drop": "mask"}


@dataclass(frozen=True, kw_only=True)
class SensorForm:
    """How one sensor of a home differs from what the bundle says of it."""

    hz: float | None
    """Its own nominal rate; None reports changes."""
    polarity: int = 1
    """-1 where it reports the opposite of what its kind says."""


@dataclass(frozen=True, kw_only=True)
class SensorWindow:
    """One window as the sensor graph takes it."""

    number: int
    start_s: float
    samples: NDArray[np.float32]
    """[T, C], normalised, 0 where missing."""
    observed: NDArray[np.bool_]
    """[C]"""
    activation: NDArray[np.float32]
    """[C], the 99th percentile of |samples|."""
    silent: tuple[str, ...] = ()
    """Sensors that are missing for more than half and whose policy then drops the window."""

    @property
    def live_share(self) -> float:
        """Share of the channels that were observed."""
        return float(self.observed.mean())


class SensorStream:
    """A streaming window with a bundle's channels.

    Args:
        manifest: Of the bundle.
        sensors: The sensors there are, by name; None takes all of the bundle, as it knows them.
            Channels of others stay missing.

    Raises:
        DataError: None of the bundle's sensors is there.
    """

    def __init__(self, manifest: Manifest, sensors: Mapping[str, SensorForm] | None = None) -> None:
        if sensors is not None:
            _check_some(manifest, sensors)
        form = manifest.normalise
        self.window = manifest.window
        self._streaming = StreamingWindow(
            self.window.rate_hz,
            self.window.samples,
            [_window_channel(c, (sensors or {}).get(c.sensor)) for c in manifest.channels],
            zscore=form.zscore,
            std_floor=form.std_floor,
            clip=form.clip,
        )
        self._columns = {(c.sensor, c.axis): i for i, c in enumerate(manifest.channels)}
        self._channels = manifest.channels
        self._there = {c.sensor for c in manifest.channels} if sensors is None else set(sensors)
        self._dropped: Counter[str] = Counter()

    @property
    def width(self) -> int:
        """C, how many channels there are."""
        return len(self._columns)

    def column(self, sensor: str, axis: str) -> int | None:
        """Which channel an axis of a sensor is; None where the bundle does not use it."""
        return self._columns.get((sensor, axis))

    def push(self, column: int, t_s: NDArray[np.float64], values: NDArray[np.float32]) -> None:
        """Values [n] of one channel at their times [n], raw."""
        self._streaming.push(column, t_s, values)

    def bounds(self, number: int) -> tuple[int, float]:
        """First grid point of window ``number``, and when its last one is over, in seconds."""
        first = int(np.round(number * self.window.hop_s * self.window.rate_hz))
        return first, (first + self.window.samples - 1) / self.window.rate_hz

    def cut(self, number: int) -> SensorWindow:
        """Window ``number`` as it is known now; earlier ones can no longer be asked for."""
        first, _ = self.bounds(number)
        samples, observed, activation = self._streaming.window(first)
        self._streaming.release(first)
        silent = self._silent(observed)
        self._dropped.update(silent)
        return SensorWindow(
            number=number,
            start_s=number * self.window.hop_s,
            samples=samples,
            observed=observed,
            activation=activation,
            silent=silent,
        )

    def _silent(self, observed: NDArray[np.bool_]) -> tuple[str, ...]:
        pairs = zip(self._channels, observed.tolist(), strict=True)
        lost = [c.sensor for c, seen in pairs if c.policy == "drop" and not seen]
        return tuple(dict.fromkeys(lost))

    @property
    def policy_counts(self) -> dict[str, dict[str, int]]:
        """What policies did so far, and by sensor: samples_held, samples_masked, windows_dropped.

        Samples of each axis count, in the first window that has them; nothing that is 0 is listed.
        """
        held: Counter[str] = Counter()
        masked: Counter[str] = Counter()
        for c, (old, missing) in zip(self._channels, self._streaming.points, strict=True):
            if c.policy is not None and c.sensor in self._there:
                held[c.sensor] += old
                masked[c.sensor] += 0 if c.policy == "hold" else missing
        found = {"samples_held": held, "samples_masked": masked, "windows_dropped": self._dropped}
        return {what: dict(+counts) for what, counts in found.items()}

    @property
    def counters(self) -> dict[str, int]:
        """Values that were dropped: late, overflow, invalid."""
        return self._streaming.counters


def _window_channel(channel: Channel, own: SensorForm | None) -> WindowChannel:
    return WindowChannel(
        name=channel.name,
        hz=channel.hz if own is None else own.hz,
        binary=channel.binary,
        mean=channel.mean,
        std=channel.std,
        max_gap_s=channel.max_gap_s,
        polarity=1 if own is None else own.polarity,
        silence="usual" if channel.policy is None else SILENCES[channel.policy],
    )


def _check_some(manifest: Manifest, sensors: Mapping[str, SensorForm]) -> None:
    wanted = list(dict.fromkeys(c.sensor for c in manifest.channels))
    if not set(wanted) & set(sensors):
        raise DataError(
            f"none of the {len(wanted)} sensors of the bundle is there: it knows "
            f"{', '.join(wanted[:8])}; found {', '.join(list(sensors)[:8]) or 'none'}. "
            "Use the home that the run was trained on, or train anew"
        )
