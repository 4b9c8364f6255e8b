"""The compiled kernels on NumPy arrays, and what is known about them. No torch.

Works without the extension too: then NumPy computes, and `info` says why.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detach.window import NumpyWindow, WindowForm, buffer, default_capacity, whole
from detach.window import WindowChannel as WindowChannel  # offered here

try:
    from detach import _C

    _missing = ""
except ImportError as error:  # a source tree that was never built, or another Python's build
    _missing = str(error)

_KERNEL_TYPES = ("float32", "float64", "float16", "int16")  # others are converted first
_EXACT_IN_FLOAT32 = ("int8", "uint8", "int16", "uint16", "bool")

Numbers = float | Sequence[float] | NDArray[Any]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class StreamingWindow:
    """Raw sensor values in as they come; the samples of a window out, equal to the offline path.

    Times are seconds since the start of the recording; grid point k stands at k / ``rate_hz``.
    Values are kept as they came and resampled when a window is asked for, so that chunks, the order
    of arrival and repeated questions change nothing. Event channels hold their newest value;
    sampled ones are joined by lines up to their largest gap, and the newest value so far stands for
    the last one. A window is final, equal to the offline one, once every sampled channel has a
    value after its last point (``reached_s``; at it will do where no two share a time) or has
    ended. Asked earlier, the points after the newest value hold it for one period and are missing
    beyond.

    Memory is 12 bytes x capacity x C, taken at once. Calls on one object must not overlap in time;
    the compiled form takes overlapping ones one after the other. It releases the GIL for windows
    and for arrays pushed.

    Args:
        rate_hz: Of the grid, in (0, 10000].
        samples: T, grid points of a window.
        channels: The C columns.
        capacity: Values kept of each channel. None is enough for four windows of the fastest
            channel, and for 2048 events.
        zscore: Form of normalising, as `SensorConfig.zscore`.
        std_floor: As `SensorConfig.std_floor`.
        clip: As `SensorConfig.clip`.
        percentile_q: Quantile of the activation, section 3.1.
        absolute: Activation of ``|x|`` instead of ``x``.

    Raises:
        ValueError: An argument is out of range, or the product of two is. The message names it.
    """

    def __init__(
        self,
        rate_hz: float,
        samples: int,
        channels: Sequence[WindowChannel],
        *,
        capacity: int | None = None,
        zscore: Literal["plain", "keep-zero", "binary-unscaled"] = "binary-unscaled",
        std_floor: float = 1e-2,
        clip: float = 10.0,
        percentile_q: float = 0.99,
        absolute: bool = True,
    ) -> None:
        form = WindowForm(
            rate_hz=rate_hz,
            samples=whole("samples", samples),
            channels=tuple(channels),
            capacity=default_capacity(rate_hz, samples, channels)
            if capacity is None
            else whole("capacity", capacity),
            zscore=zscore,
            std_floor=std_floor,
            clip=clip,
            percentile_q=percentile_q,
            absolute=absolute,
        )
        self.shape = form.samples, len(form.channels)
        """[T, C] of a window."""
        self._core: _C.StreamingWindow | NumpyWindow
        self._core = _compiled_window(form) if available() else NumpyWindow(form)

    def push(self, channel: int, t_s: Numbers, value: Numbers) -> int:
        """Takes raw values of one channel, at their own times, in any order.

        NaN and infinite values are none on a sampled channel; on one that holds, as those of events
        do, they say that the state is unknown from there on. Negative times lie before the grid. Of
        values at one time the later arrival counts. What no window needs that may still be asked
        for is dropped and counted as late; a full channel drops its oldest value, counted as
        overflow; a time that is not finite, or another value than 0 and 1 on a 0/1 channel, is
        dropped as invalid.

        Args:
            channel: Which column, in [0, C).
            t_s: Time or times [n] in seconds.
            value: As many raw values.

        Returns:
            How many were taken.

        Raises:
            TypeError: ``channel`` is not an integer.
            ValueError: No such channel, or not as many values as times.
        """
        channel = whole("channel", channel, 0, self.shape[1] - 1)
        if isinstance(t_s, (float, int)) and isinstance(value, (float, int)):
            return self._core.push_one(channel, t_s, value)
        times = np.ascontiguousarray(t_s, np.float64)
        values = np.ascontiguousarray(value, np.float64)
        if times.ndim > 1 or times.shape != values.shape:
            raise ValueError(
                "t_s and value must be numbers or equally long lists of them, "
                f"got shapes {list(np.shape(t_s))} and {list(np.shape(value))}"
            )
        return self._core.push(channel, times, values)

    def window(
        self,
        first: int,
        *,
        samples: Floats | None = None,
        observed: Bools | None = None,
        activation: Floats | None = None,
    ) -> tuple[Floats, Bools, Floats]:
        """The window of the grid points from ``first``, as far as it is known now.

        Args:
            first: Its first grid point; not before what was released.
            samples: Array [T, C] to write to instead of a new one.
            observed: Array [C] to write to.
            activation: Array [C] to write to.

        Returns:
            Samples [T, C], normalised and without gaps; observed [C], False where a channel is
            missing for more than half and its samples are 0; activation [C], their percentile.

        Raises:
            TypeError: ``first`` is not an integer.
            ValueError: ``first`` is out of range or was released, or an array does not fit.
        """
        first = whole("first", first, 0, 2**63 - 1 - self.shape[0])
        samples = buffer("samples", samples, self.shape, np.float32)
        observed = buffer("observed", observed, self.shape[1:], np.bool_)
        activation = buffer("activation", activation, self.shape[1:], np.float32)
        self._core.window(first, samples, observed, activation)
        return samples, observed, activation

    def release(self, first: int) -> None:
        """Forgets what no window from ``first`` on needs; earlier ones can no longer be asked for.

        Raises:
            TypeError: ``first`` is not an integer.
            ValueError: It is out of range.
        """
        self._core.release(whole("first", first, 0, 2**63 - 1))

    def reached_s(self, channel: int) -> float:
        """Time of the newest value of a channel; minus infinity before there is one.

        Raises:
            TypeError: ``channel`` is not an integer.
            ValueError: No such channel.
        """
        return self._core.reached_s(whole("channel", channel, 0, self.shape[1] - 1))

    @property
    def counters(self) -> dict[str, int]:
        """Values dropped so far: late, overflow, invalid."""
        return dict(zip(("late", "overflow", "invalid"), self._core.counters(), strict=True))

    @property
    def points(self) -> list[tuple[int, int]]:
        """Of each channel the grid points held and missing so far.

        Held stand although their value is older than ``max_gap_s``; missing is counted before gaps
        are filled. A point counts in the first window that has it.
        """
        return self._core.points()


def activation_percentile(
    x: NDArray[Any], q: float = 0.99, axis: int = -1, *, absolute: bool = False, threads: int = 1
) -> NDArray[Any]:
    """How strongly each channel was active: the q-quantile along one axis, section 3.1.

    Equal to ``numpy.quantile(x, q, axis)`` (rule "linear") where that is finite; between equal
    infinities it is that infinity. A NaN makes its row's result NaN. [N, T, C] with axis 1 and
    [.., T] are both read in place, in one pass where q is near 0 or 1.

    Args:
        x: Values, any shape with at least one axis. float32 and float64 are computed as they are,
            float16 and integers of up to 16 bits in float32, wider integers in float64. The three
            float types and int16 are read as they are, others through a converted copy.
        q: Which quantile, in [0, 1].
        axis: The axis that is reduced; it must not be empty.
        absolute: Take ``|x|`` first.
        threads: How many threads to use, the calling one included.

    Returns:
        ``x``'s shape without ``axis``; float16 for float16, otherwise the type computed in.

    Raises:
        TypeError: ``x`` holds something else than real numbers.
        ValueError: ``q``, ``axis``, ``threads`` or the length of the axis is out of range.
    """
    x = np.asarray(x)
    axis = check_percentile(x.shape, q, axis, "axis")
    if threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}")
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    computed_in = _computed_in(x.dtype)
    result_type = np.float16 if x.dtype == np.float16 else computed_in
    if not available():
        result = _percentile_numpy(x.astype(computed_in, copy=False), q, axis, absolute=absolute)
        return result.astype(result_type)
    if x.dtype.name not in _KERNEL_TYPES:
        x = x.astype(result_type)
    return _percentile_cpu(x, q, axis, result_type, absolute=absolute, threads=threads)


def check_percentile(shape: tuple[int, ...], q: float, axis: int, name: str) -> int:
    """The axis counted from the front; ``name`` is what the caller calls it.

    Raises:
        ValueError: An argument is out of range. The message names it.
    """
    if not 0.0 <= q <= 1.0:  # also refuses NaN
        raise ValueError(f"q must be in [0, 1], got {q}")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{name} must be in [{-len(shape)}, {len(shape)}), got {axis}")
    if shape[axis] == 0:
        raise ValueError(f"{name} {axis} of x must not be empty, got shape {list(shape)}")
    return axis % len(shape)


def memory_order(strides: tuple[int, ...]) -> list[int]:
    """Axes from the widest stride to the narrowest: how the array lies in memory."""
    return sorted(range(len(strides)), key=lambda i: -strides[i])


def outer_length_inner(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    """A contiguous shape as [outer, length, inner] around ``axis``."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def available() -> bool:
    """Whether the compiled module could be imported."""
    return not _missing


def info() -> dict[str, Any]:
    """What runs here and why: the extension, its instruction set, its CUDA code."""
    if _missing:
        return {
            "extension": False,
            "why": f"detach._C cannot be imported ({_missing}); NumPy and torch compute instead",
            "simd": "none",
            "cuda_built": False,
            "cuda_architectures": "",
            "cuda_devices": 0,
            "cuda_why": "no extension",
        }
    return {
        "extension": True,
        "why": "compiled module found",
        "simd": _C.simd(),
        "cuda_built": _C.cuda_built,
        "cuda_architectures": _C.cuda_architectures,
        "cuda_devices": _C.cuda_devices(),
        "cuda_why": _C.cuda_reason,
    }


def self_test() -> float:
    """Largest difference between the percentile kernel and NumPy's float64 result, in float32 ulp.

    Runs both memory layouts on seeded values; a healthy build stays under 2.
    """
    values = np.random.default_rng(0).standard_normal((16, 60, 34)).astype(np.float32)
    worst = 0.0
    for axis in (1, 2):
        for q in (0.99, 0.5, 0.03):
            expected = np.quantile(values.astype(np.float64), q, axis=axis)
            ours = activation_percentile(values, q, axis).astype(np.float64)
            ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
            worst = max(worst, float(np.max(np.abs(ours - expected) / ulp)))
    return worst


def _compiled_window(form: WindowForm) -> "_C.StreamingWindow":
    columns: list[tuple[float, bool, float, float, float, int, str]] = [
        (c.hz or 0.0, c.binary, c.mean, c.std, c.max_gap_s, c.polarity, c.silence)
        for c in form.channels
    ]
    return _C.StreamingWindow(
        form.rate_hz,
        form.samples,
        columns,
        form.capacity,
        form.zscore,
        form.std_floor,
        form.clip,
        form.percentile_q,
        form.absolute,
    )


def _computed_in(dtype: np.dtype[Any]) -> type[np.float32] | type[np.float64]:
    if dtype in (np.float32, np.float16) or dtype.name in _EXACT_IN_FLOAT32:
        return np.float32
    if dtype == np.float64 or dtype.kind in "iu":
        return np.float64
    raise TypeError(f"x must hold real numbers of at most 64 bits, got {dtype}")


def _percentile_cpu(
    x: NDArray[Any], q: float, axis: int, result_type: type, *, absolute: bool, threads: int
) -> NDArray[Any]:
    order = memory_order(x.strides)
    dense = np.ascontiguousarray(x.transpose(order))  # x itself where it only was transposed
    where = order.index(axis)
    rest = order[:where] + order[where + 1 :]
    out: NDArray[Any] = np.empty([x.shape[i] for i in rest], result_type)
    outer, length, inner = outer_length_inner(dense.shape, where)
    _C.percentile_cpu(
        x.dtype.name,
        dense.ctypes.data,
        out.ctypes.data,
        outer,
        length,
        inner,
        q,
        absolute,
        threads,
    )
    return out.transpose(np.argsort(rest))


def _percentile_numpy(x: NDArray[Any], q: float, axis: int, *, absolute: bool) -> NDArray[Any]:
    ordered = np.sort(np.abs(x) if absolute else x, axis=axis)  # NaN last
    rank = q * (x.shape[axis] - 1)
    low = int(rank)
    weight = rank - low
    below = np.take(ordered, low, axis=axis).astype(np.float64)
    above = np.take(ordered, min(low + 1, x.shape[axis] - 1), axis=axis).astype(np.float64)
    if weight == 0:
        above = below
    with np.errstate(invalid="ignore"):  # between -inf and +inf lies NaN
        between = (1.0 - weight) * below + weight * above
    result = np.where(below == above, below, between)
    nan = np.isnan(np.take(ordered, -1, axis=axis))
    return np.where(nan, np.nan, result).astype(x.dtype)
