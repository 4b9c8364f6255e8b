"""The streaming window in NumPy: what `kernels.StreamingWindow` computes, in few lines.

It stands in where the extension is missing, and is the readable form of ``csrc/window.cpp``: the
same steps on the same precision as the offline path in ``detach.data.sensors``.
"""

import bisect
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

SAME_TIME_S = 1e-6
"""A value so little after a grid point counts as at it."""
Silence = Literal["usual", "hold", "mask"]
"""What becomes of a channel that is silent for longer than its largest gap: as is usual for its
kind, its value stands until the next, or it is missing."""
ZSCORES = ("plain", "keep-zero", "binary-unscaled")
MOST_SAMPLES, MOST_CAPACITY = 2**20, 2**24
MOST_KEPT, MOST_WRITTEN = 2**26, 2**28
"""Raw values of all channels together, and samples of one window."""


@dataclass(frozen=True)
class WindowChannel:
    """One column of the samples, and how its raw values become them.

    Raises:
        ValueError: A number is out of range. The message names the channel.
    """

    name: str
    hz: float | None
    """Nominal rate of a sampled channel; None for events, whose values hold until the next."""
    binary: bool = False
    """Raw values are 0 and 1, and samples stay so."""
    mean: float = 0.0
    std: float = 1.0
    max_gap_s: float = 1.0
    """A sampled channel silent for longer is missing; never less than 2.5 of its periods."""
    polarity: int = 1
    """-1: values are negated, those of 0/1 channels inverted."""
    silence: Silence = "usual"
    """Usual is hold for events and mask for a sampled channel, which is read as events where it
    holds."""

    def __post_init__(self) -> None:
        rules = {
            "hz": (self.hz is None or 0 < self.hz < math.inf, "None or finite and > 0"),
            "mean": (math.isfinite(self.mean), "finite"),
            "std": (0 <= self.std < math.inf, "finite and >= 0"),
            "max_gap_s": (self.max_gap_s >= 0, ">= 0"),
            "polarity": (self.polarity in {1, -1}, "1 or -1"),
            "silence": (self.silence in get_args(Silence), "usual, hold or mask"),
        }
        for name, (holds, must) in rules.items():
            if not holds:
                found = getattr(self, name)
                raise ValueError(f"{name} of channel {self.name!r} must be {must}, got {found}")

    @property
    def holds(self) -> bool:
        """Whether values hold until the next one, instead of being joined by lines."""
        return self.hz is None or self.silence == "hold"

    @property
    def gap_s(self) -> float:
        """The longest silence that is none."""
        return self.max_gap_s if self.hz is None else max(self.max_gap_s, 2.5 / self.hz)


@dataclass(frozen=True, kw_only=True)
class WindowForm:
    """How windows are cut and normalised: the arguments of `kernels.StreamingWindow`.

    Raises:
        ValueError: A number, or the product of two, is out of range. The message names it.
    """

    rate_hz: float
    samples: int
    channels: tuple[WindowChannel, ...]
    capacity: int
    zscore: str
    std_floor: float
    clip: float
    percentile_q: float
    absolute: bool

    def __post_init__(self) -> None:
        width = len(self.channels)
        rules = {
            "rate_hz": (0 < self.rate_hz <= 10_000, "in (0, 10000]"),
            "samples": (1 <= self.samples <= MOST_SAMPLES, f"in [1, {MOST_SAMPLES}]"),
            "capacity": (2 <= self.capacity <= MOST_CAPACITY, f"in [2, {MOST_CAPACITY}]"),
            "zscore": (self.zscore in ZSCORES, f"one of {', '.join(ZSCORES)}"),
            "std_floor": (0 < self.std_floor < math.inf, "finite and > 0"),
            "clip": (self.clip > 0, "> 0"),
            "percentile_q": (0 <= self.percentile_q <= 1, "in [0, 1]"),
        }
        for name, (holds, must) in rules.items():
            if not holds:
                raise ValueError(f"{name} must be {must}, got {getattr(self, name)!r}")
        if not width:
            raise ValueError("channels must not be empty")
        for name, most in (("capacity", MOST_KEPT), ("samples", MOST_WRITTEN)):
            count = getattr(self, name)
            if width * count > most:
                raise ValueError(f"channels x {name} must be <= {most}, got {width} x {count}")


def whole(name: str, value: int, least: int | None = None, most: int | None = None) -> int:
    """``value`` as an integer, in [``least``, ``most``] where they are given.

    Raises:
        TypeError: It is not an integer.
        ValueError: It is out of range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if least is not None and most is not None and not least <= number <= most:
        raise ValueError(f"{name} must be in [{least}, {most}], got {number}")
    return number


def default_capacity(rate_hz: float, samples: int, channels: Sequence[WindowChannel]) -> int:
    """Four windows of the fastest channel, and at least 2048 values."""
    fastest_hz = max((channel.hz or 0.0 for channel in channels), default=0.0)
    wanted = 4 * samples * fastest_hz / rate_hz if rate_hz > 0 else 0.0
    return int(min(max(2048.0, wanted), MOST_CAPACITY))


def buffer(
    name: str, given: NDArray[Any] | None, shape: tuple[int, ...], dtype: type
) -> NDArray[Any]:
    """The array to write to: ``given`` where it fits, a new one for None.

    Raises:
        ValueError: It does not fit.
    """
    if given is None:
        return np.empty(shape, dtype)
    fits = given.shape == shape and given.dtype == dtype
    if not fits or not given.flags.c_contiguous or not given.flags.writeable:
        raise ValueError(
            f"{name} must be a writeable contiguous {np.dtype(dtype)} array {list(shape)}, "
            f"got {given.dtype} {list(given.shape)}"
        )
    return given


class NumpyWindow:
    """Sorted lists instead of rings; resamples all of them whenever a window is asked for."""

    def __init__(self, form: WindowForm) -> None:
        self._form = form
        self._channels = form.channels
        self._times: list[list[float]] = [[] for _ in form.channels]
        self._values: list[list[float]] = [[] for _ in form.channels]
        self._released = 0
        self._late = self._overflow = self._invalid = 0
        self._held, self._missing = [0] * len(form.channels), [0] * len(form.channels)
        self._counted = 0

    def push_one(self, channel: int, t_s: float, value: float) -> int:
        """1 where the value was taken, otherwise 0."""
        of, times = self._channels[channel], self._times[channel]
        with np.errstate(over="ignore"):
            x = float(np.float32(value))
        known = math.isfinite(x)
        if not math.isfinite(t_s) or (of.binary and known and x not in {0, 1}):
            self._invalid += 1
            return 0
        if not known and not of.holds:
            return 0  # no value; an event says so, that from now on nothing is known
        if of.polarity < 0:
            x = 1 - x if of.binary else -x
        place = bisect.bisect_right(times, t_s)
        if place < len(times) and self._before_grid(of, times[place]):
            self._late += 1
            return 0
        times.insert(place, t_s)
        self._values[channel].insert(place, x if known else math.nan)
        if len(times) > self._form.capacity:
            self._overflow += 1
            self._drop(channel, 1)
            return int(place > 0)
        return 1

    def push(self, channel: int, t_s: NDArray[np.float64], value: NDArray[np.float64]) -> int:
        """How many were taken."""
        pairs = zip(t_s.tolist(), value.tolist(), strict=True)
        return sum(self.push_one(channel, t, x) for t, x in pairs)

    def window(
        self,
        first: int,
        samples: NDArray[np.float32],
        observed: NDArray[np.bool_],
        activation: NDArray[np.float32],
    ) -> None:
        """Writes the three results."""
        if first < self._released:
            raise ValueError(f"first must be >= {self._released}, which was released, got {first}")
        form = self._form
        grid_s = np.arange(first, first + form.samples) / form.rate_hz
        fresh = min(max(self._counted - first, 0), form.samples)
        self._counted = max(self._counted, first + form.samples)
        for c, channel in enumerate(self._channels):
            x, held = self._resample(c, grid_s)
            self._held[c] += int(held[fresh:].sum())
            self._missing[c] += int(np.isnan(x[fresh:]).sum())
            observed[c] = _fill(x, binary=channel.binary)
            samples[:, c] = _normalise(x, channel, form) if observed[c] else 0
        ranked = np.abs(samples) if form.absolute else samples
        activation[:] = np.quantile(ranked.astype(np.float64), form.percentile_q, axis=0)

    def release(self, first: int) -> None:
        """Forgets what no window from ``first`` on needs."""
        self._released = max(self._released, first)
        for c, (channel, times) in enumerate(zip(self._channels, self._times, strict=True)):
            needless = 0
            while needless + 1 < len(times) and self._before_grid(channel, times[needless + 1]):
                needless += 1
            self._drop(c, needless)

    def reached_s(self, channel: int) -> float:
        """Time of the newest value."""
        return self._times[channel][-1] if self._times[channel] else -math.inf

    def counters(self) -> tuple[int, int, int]:
        """Late, overflow, invalid."""
        return self._late, self._overflow, self._invalid

    def points(self) -> list[tuple[int, int]]:
        """Held and missing, of each channel."""
        return list(zip(self._held, self._missing, strict=True))

    def _drop(self, channel: int, count: int) -> None:
        del self._times[channel][:count]
        del self._values[channel][:count]

    def _before_grid(self, channel: WindowChannel, t_s: float) -> bool:
        # Whether a value at t_s makes all older ones needless from the released point on.
        start_s = self._released / self._form.rate_hz
        return t_s <= start_s + (SAME_TIME_S if channel.holds else 0.0)

    def _resample(
        self, c: int, grid_s: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        # The points, and which of them are held although they are old.
        channel, none = self._channels[c], np.zeros(grid_s.shape, bool)
        t_s, values = np.array(self._times[c]), np.array(self._values[c], np.float32)
        if not t_s.size:
            return np.full(grid_s.shape, np.nan, np.float32), none
        if channel.hz is None or channel.holds:
            at = np.searchsorted(t_s, grid_s + SAME_TIME_S, side="right") - 1
            x = np.where(at >= 0, values[at], np.float32(np.nan))
            old = ~np.isnan(x) & (grid_s - t_s[at] > channel.gap_s + SAME_TIME_S)
            if channel.silence == "mask":
                return np.where(old, np.float32(np.nan), x), none
            return x, old
        edge_s = max(1 / channel.hz, 1 / self._form.rate_hz)
        x = _interpolate(t_s, values, grid_s, channel.gap_s, edge_s)
        return np.round(x) if channel.binary else x, none


def _interpolate(
    t_s: NDArray[np.float64],
    values: NDArray[np.float32],
    grid_s: NDArray[np.float64],
    gap_s: float,
    edge_s: float,
) -> NDArray[np.float32]:
    after = np.searchsorted(t_s, grid_s, side="left")
    left, right = np.maximum(after - 1, 0), np.minimum(after, len(t_s) - 1)
    known = (t_s[right] - t_s[left] <= gap_s) | (np.abs(t_s[right] - grid_s) < SAME_TIME_S)
    known &= (grid_s >= t_s[0] - edge_s) & (grid_s <= t_s[-1] + edge_s)
    return np.where(known, np.interp(grid_s, t_s, values), np.nan).astype(np.float32)


def _fill(x: NDArray[np.float32], *, binary: bool) -> bool:
    # In place; False where more than half is missing.
    gap = np.isnan(x)
    if gap.mean() > 0.5:
        return False
    t = np.arange(len(x))
    between = np.interp(t[gap], t[~gap], x[~gap])
    x[gap] = np.round(between) if binary else between
    return True


def _normalise(
    x: NDArray[np.float32], channel: WindowChannel, form: WindowForm
) -> NDArray[np.float32]:
    mean, std = np.float32(channel.mean), np.float32(channel.std)
    if form.zscore == "binary-unscaled":
        if channel.binary:
            return x
        by, limit = max(std, np.float32(form.std_floor)), np.float32(form.clip)
        clipped: NDArray[np.float32] = np.clip((x - mean) / by, -limit, limit)
        return clipped
    by = 1 / std if std > np.float32(1e-8) else np.float32(0)
    scaled: NDArray[np.float32] = (x - mean) * by
    if form.zscore == "keep-zero":
        scaled[x == 0] = 0
    return scaled
