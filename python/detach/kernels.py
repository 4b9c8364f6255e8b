"""The compiled kernels on NumPy arrays, and what is known about them. No torch.

Works without the extension too: then NumPy computes, and `info` says why.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from detach import _C

    _missing = ""
except ImportError as error:  # a source tree that was never built, or another Python's build
    _missing = str(error)

_KERNEL_TYPES = ("float32", "float64", "float16", "int16")  # others are converted first
_EXACT_IN_FLOAT32 = ("int8", "uint8", "int16", "uint16", "bool")


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
