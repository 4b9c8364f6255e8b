"""Refuses what the weighted contrastive loss cannot take, and names it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detach.ops.contrast_call import GATES, REDUCTIONS, TEMPORALS, Call

MEMORIES = ("auto", "saved", "recompute")
MOST_WINDOWS = 1 << 30
"""So that N^2 numbers of 8 bytes can be counted in 63 bits."""

_HALVES = (torch.float16, torch.bfloat16)
_DTYPES = (torch.float32, torch.float64, *_HALVES)
_NAMES = Call._fields[:6]


def check_options(temperature: float, lambda_hard: float, power: Any) -> None:
    """Raises: TypeError or ValueError that names the number."""
    if not isinstance(temperature, (int, float)):
        raise TypeError(f"temperature must be a number, got {type(temperature).__name__}")
    if not isinstance(lambda_hard, (int, float)):
        raise TypeError(f"lambda_hard must be a number, got {type(lambda_hard).__name__}")
    if not 0.0 < temperature < math.inf:  # also refuses NaN
        raise ValueError(f"temperature must be > 0 and finite, got {temperature}")
    if not 1.0 <= lambda_hard < math.inf:
        raise ValueError(f"lambda_hard must be >= 1 and finite, got {lambda_hard}")
    if not isinstance(power, int) or power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power!r}")


def check_words(gate: str, temporal: str, memory: str, reduction: str) -> None:
    """Raises: ValueError that names the word and those there are."""
    if gate in GATES and temporal in TEMPORALS and memory in MEMORIES and reduction in REDUCTIONS:
        return
    for name, value, words in (
        ("gate", gate, GATES),
        ("temporal", temporal, TEMPORALS),
        ("memory", memory, MEMORIES),
        ("reduction", reduction, REDUCTIONS),
    ):
        if value not in words:
            raise ValueError(f"{name} must be one of {', '.join(words)}, got {value!r}")


def checked_features(tensors: Sequence[Any], temporal: str) -> list[Any]:
    """The six tensors, under autocast in float32 where they are of half types.

    Raises:
        TypeError: Not a tensor, or not a dtype that is taken, or more than one.
        ValueError: A shape or a device is not as it must be.
    """
    needed = 4 if temporal == "none" else 6
    features: list[Any] = list(tensors[:needed])
    for name, x in zip(_NAMES, features, strict=False):
        if not isinstance(x, Tensor):
            kind = "None" if x is None else type(x).__name__
            when = f" where temporal is {temporal!r}" if name.endswith("momentum") else ""
            raise TypeError(f"{name} must be a tensor{when}, got {kind}")
    where = features[0].device.type
    if torch.amp.is_autocast_available(where) and torch.is_autocast_enabled(where):
        features = [x.float() if x.dtype in _HALVES else x for x in features]
    _check_kinds(features)
    _check_shapes([x.shape for x in features])
    return [*features, *(None,) * (6 - needed)]


def _check_kinds(features: list[Tensor]) -> None:
    dtype, device = features[0].dtype, features[0].device
    if dtype not in _DTYPES:
        raise TypeError(f"video_spatial must be float32, float64, float16 or bfloat16, got {dtype}")
    for x, name in zip(features, _NAMES, strict=False):
        if x.dtype != dtype:
            raise TypeError(f"{name} must be {dtype} as video_spatial is, got {x.dtype}")
        if x.device != device:
            raise ValueError(f"{name} must be on {device} as video_spatial is, got {x.device}")


def _check_shapes(shapes: list[torch.Size]) -> None:
    for shape, name in zip(shapes, _NAMES, strict=False):
        if len(shape) != 2 or shape[1] == 0:
            raise ValueError(f"{name} must be [N, d] with d >= 1, got shape {list(shape)}")
    n = shapes[0][0]
    if not 1 <= n <= MOST_WINDOWS:
        raise ValueError(f"video_spatial must have 1 to 2^30 windows, got {n}")
    like = (*shapes[:2], *shapes[:2], *shapes[4:5] * 2)
    for shape, other, name in zip(shapes, like, _NAMES, strict=False):
        if shape[0] != n:
            raise ValueError(f"{name} must have {n} windows as video_spatial has, got {shape[0]}")
        if shape[1] != other[1]:
            video = name.replace("sensor", "video")
            raise ValueError(f"{name} must be {other[1]} wide as {video} is, got {shape[1]}")


def checked_rows(rows: tuple[int, int] | None, n: int) -> tuple[int, int]:
    """Start and stop. Raises: ValueError where they are not a part of the N windows."""
    if rows is None:
        return 0, n
    try:
        start, stop = rows
    except (TypeError, ValueError):
        raise ValueError(f"rows must be (start, stop), got {rows!r}") from None
    if not all(isinstance(x, (int, torch.SymInt)) for x in (start, stop)):
        raise ValueError(f"rows must be (start, stop), both whole, got {rows}")
    if not 0 <= start < stop <= n:
        raise ValueError(f"rows must be (start, stop) with 0 <= start < stop <= {n}, got {rows}")
    return start, stop


def checked_mask(mask: Any, x: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, float]:
    """(pairs left out, group, position, reach), for windows like ``x``'s.

    Raises:
        TypeError: ``mask`` is neither of its two forms, or of another dtype.
        ValueError: A shape, a device or the reach is not as it must be.
    """
    if mask is None:
        return None, None, None, 0.0
    n, device = x.shape[0], x.device
    if isinstance(mask, Tensor):
        _check_tensor("mask", mask, (n, n), device)
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be bool, got {mask.dtype}")
        return mask, None, None, 0.0
    if not isinstance(mask, tuple) or len(mask) != 3:
        kind = type(mask).__name__
        raise TypeError(f"mask must be a bool tensor or (group, position, reach), got {kind}")
    return None, *_checked_neighbours(mask, n, device)


def _checked_neighbours(
    mask: tuple[Any, Any, Any], n: int, device: torch.device
) -> tuple[Tensor, Tensor, float]:
    group, position, reach = mask
    _check_tensor("group of mask", group, (n,), device)
    _check_tensor("position of mask", position, (n,), device)
    if group.dtype != torch.int64:
        raise TypeError(f"group of mask must be int64, got {group.dtype}")
    if position.dtype == torch.bool or position.is_complex():
        raise TypeError(f"position of mask must be real numbers, got {position.dtype}")
    if not isinstance(reach, (int, float)):
        raise TypeError(f"reach of mask must be a number, got {type(reach).__name__}")
    if not reach >= 0:  # also refuses NaN
        raise ValueError(f"reach of mask must be >= 0, got {reach}")
    return group, position.detach().double(), float(reach)


def _check_tensor(name: str, x: Any, shape: tuple[int, ...], device: torch.device) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if tuple(x.shape) != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(x.shape)}")
    if x.device != device:
        raise ValueError(f"{name} must be on {device} as the features are, got {x.device}")
