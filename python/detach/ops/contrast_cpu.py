"""The weighted contrastive loss through the CPU kernel: addresses in, tensors out."""

from array import array
from typing import Any

import torch
from torch import Tensor

from detach import kernels
from detach.ops.contrast_call import (
    REDUCTIONS,
    Call,
    addresses,
    computed_in,
    contiguous,
    reduced,
    share,
    upstream_each,
)

if kernels.available():
    from detach import _C

_MANY = 1 << 20
"""Numbers; the C library keeps less than that for the next who asks."""


def losses(call: Call, *, save: bool, stats: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The result, sums as in `detach.ops.contrast_plain.losses`, and what the gradient can use."""
    tensors = _contiguous(call)
    x, n = tensors[0], call.stop - call.start
    sums = x.new_empty((3 if stats else 2, 2, n), dtype=torch.float64)
    saved = _room(saved_size(call) if save else 0, x)
    at = sums.data_ptr()
    total = _C.contrast_batch(
        *_arguments(call, tensors),
        (at, at + 16 * n, at + 32 * n if stats else 0),
        saved.data_ptr() if save else 0,
        torch.get_num_threads(),
    )
    if REDUCTIONS[call.reduction] == "none":
        return reduced(sums[0], call.reduction).to(x.dtype), sums, saved
    # torch's own reduction of so few numbers takes ten times as long
    result = torch.scalar_tensor(total * share(call), dtype=x.dtype, device=x.device)
    return result, sums, saved


def gradients(
    call: Call, sums: Tensor, upstream: Tensor, saved: Tensor, wanted: list[bool]
) -> list[Tensor | None]:
    """Of the four parts, where ``wanted``."""
    tensors = _contiguous(call)
    n = call.stop - call.start
    if upstream.dim() == 0:  # an array costs a fifth of what a tensor does
        same = array("d", (share(call) * upstream.item(),)) * n
        each = same.buffer_info()[0]
    else:
        several = upstream_each(call, upstream)
        each = several.data_ptr()
    parts = zip(tensors[:4], wanted, strict=True)
    found = [torch.empty_like(x) if asked else None for x, asked in parts]
    _C.contrast_batch_gradient(
        *_arguments(call, tensors),
        sums.data_ptr() + 16 * n,
        each,
        saved.data_ptr(),  # 0 where nothing was saved
        addresses(found),
        torch.get_num_threads(),
    )
    return found


def saved_size(call: Call) -> int:
    """Numbers that `losses` saves, of the type that it computes in."""
    rows = call.video_spatial.shape[0]
    size: int = _C.contrast_batch_saved_size(rows, call.start, call.stop)
    return size


def _room(numbers: int, like: Tensor) -> Tensor:
    """Where many are asked for, memory of an earlier call: fresh pages cost a tenth of the time."""
    if numbers < _MANY:
        return like.new_empty(numbers)
    return torch.frombuffer(_C.Workspace(numbers * like.element_size()), dtype=like.dtype)


def _contiguous(call: Call) -> list[Any]:
    features = contiguous(call[:6], computed_in(call.video_spatial.dtype))
    return features + contiguous(call[6:9], None)


def _arguments(call: Call, tensors: list[Any]) -> tuple[Any, Any, Any, Any, Any, Any, Any, Any]:
    where = addresses(tensors)
    return (
        where[:6],
        tensors[0].dtype == torch.float64,
        tensors[0].shape[0],
        call.widths,
        call[10:16],
        (*where[6:], call.reach),
        call.start,
        call.stop,
    )
