"""Refuses what the weighted InfoNCE cannot take, and names it."""

import math
from typing import Any

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_options(
    positive: float, debias: float, hardness: float, hardness_form: str, reduction: str
) -> None:
    """Raises: TypeError or ValueError that names the number or the word."""
    for name, value in (("positive", positive), ("debias", debias), ("hardness", hardness)):
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, got {type(value).__name__}")
        if not 0.0 <= value < math.inf:  # also refuses NaN
            raise ValueError(f"{name} must be >= 0 and finite, got {value}")
    if debias >= 1.0:
        raise ValueError(f"debias must be in [0, 1), got {debias}")
    for name, word, words in (
        ("hardness_form", hardness_form, ("hcl", "additive")),
        ("reduction", reduction, ("mean", "sum", "none")),
    ):
        if word not in words:
            raise ValueError(f"{name} must be one of {', '.join(words)}, got {word!r}")


def check_features(query: Tensor, key: Tensor, extra_keys: Tensor | None) -> None:
    """Raises: TypeError or ValueError that names the tensor."""
    for name, x in (("query", query), ("key", key), ("extra_keys", extra_keys)):
        if x is not None or name != "extra_keys":
            _check_rows(name, x, query)
    if len(query) == 0:
        raise ValueError(f"query must have at least one row, got shape {list(query.shape)}")
    if len(key) != len(query):
        raise ValueError(f"key must have {len(query)} rows as query has, got {len(key)}")


def _check_rows(name: str, x: Any, query: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in _DTYPES:
        raise TypeError(f"{name} must be float32, float64, float16 or bfloat16, got {x.dtype}")
    if x.dim() != 2:
        raise ValueError(f"{name} must be [N, d], got shape {list(x.shape)}")
    _check_like(name, x, query)
    if x.shape[1] != query.shape[1]:
        raise ValueError(f"{name} must be {query.shape[1]} wide as query is, got {x.shape[1]}")


def check_pairs(
    query: Tensor,
    extra_keys: Tensor | None,
    weight: Tensor | None,
    extra_weight: Tensor | None,
    mask: Tensor | None,
) -> None:
    """Raises: TypeError or ValueError that names the tensor."""
    n = len(query)
    if extra_weight is not None and extra_keys is None:
        raise ValueError("extra_weight must be None where there are no extra_keys")
    extra = 0 if extra_keys is None else len(extra_keys)
    for name, x, columns in (
        ("weight", weight, n),
        ("extra_weight", extra_weight, extra),
        ("mask", mask, n),
    ):
        if x is None:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
        if tuple(x.shape) != (n, columns):
            raise ValueError(f"{name} must have shape {[n, columns]}, got {list(x.shape)}")
        if name == "mask":
            _check_mask(x, query)
        else:
            _check_like(name, x, query)
            _check_sign(name, x, "must be >= 0")


def check_temperature(temperature: Any, query: Tensor) -> None:
    """Raises: TypeError or ValueError that names it."""
    if isinstance(temperature, (int, float)):
        if not 0.0 < temperature < math.inf:
            raise ValueError(f"temperature must be > 0 and finite, got {temperature}")
        return
    if not isinstance(temperature, Tensor):
        kind = type(temperature).__name__
        raise TypeError(f"temperature must be a number or a tensor, got {kind}")
    if not temperature.is_floating_point():
        raise TypeError(f"temperature must be floating point, got {temperature.dtype}")
    if temperature.dim() > 1 or temperature.numel() not in (1, len(query)):
        shape = list(temperature.shape)
        raise ValueError(f"temperature must be one number or one a row [{len(query)}], got {shape}")
    if temperature.device != query.device:
        raise ValueError(f"temperature must be on {query.device}, got {temperature.device}")
    if _can_look(temperature) and not bool((temperature > 0).all()):
        raise ValueError(f"temperature must be > 0, got {temperature.min().item()}")


def _check_mask(mask: Tensor, query: Tensor) -> None:
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be bool, got {mask.dtype}")
    if mask.device != query.device:
        raise ValueError(f"mask must be on {query.device} as query is, got {mask.device}")


def _check_like(name: str, x: Tensor, query: Tensor) -> None:
    if x.dtype != query.dtype and not torch.is_autocast_enabled(query.device.type):
        raise TypeError(f"{name} must be {query.dtype} as query is, got {x.dtype}")
    if x.device != query.device:
        raise ValueError(f"{name} must be on {query.device} as query is, got {x.device}")


def _check_sign(name: str, x: Tensor, must: str) -> None:
    if _can_look(x) and x.numel() and not bool((x >= 0).all()):
        raise ValueError(f"{name} {must}, got {x.min().item()}")


def _can_look(x: Tensor) -> bool:
    """Whether values can be read without waiting for a device, or breaking a graph."""
    if x.is_cuda or torch.compiler.is_compiling():
        return False
    return not torch._C._are_functorch_transforms_active()  # noqa: SLF001 -- no public name
