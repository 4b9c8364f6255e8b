"""The weighted contrastive loss through the CUDA kernel: addresses in, tensors out.

Kernels run on the current stream; nothing waits for them, so that calls can be captured in a graph.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from detach import kernels
from detach.ops.contrast_call import Call, addresses, contiguous, upstream_each

if kernels.available():
    from detach import _C

TF32, FLOAT32 = 2, 3
_PRECISIONS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: FLOAT32}
_ALIGNMENT = 256
"""Bytes; where a workspace may start."""


def losses(call: Call, *, save: bool, stats: bool) -> tuple[Tensor, Tensor]:
    """Sums as in `detach.ops.contrast_plain.losses`, and what the gradient can use again."""
    tensors: list[Any] = contiguous(call[:9], None)
    x, n = tensors[0], call.stop - call.start
    sums = x.new_empty((3 if stats else 2, 2, n), dtype=torch.float64)
    sizes = _Sizes.of(call, save=save)
    memory = x.new_empty(sizes.total, dtype=torch.uint8)
    at = sums.data_ptr()
    with torch.cuda.device(x.device):
        _C.contrast_cuda_batch(
            *_arguments(call, tensors),
            (at, at + 16 * n, at + 32 * n if stats else 0),
            memory.data_ptr() if save else 0,
            memory.data_ptr() + sizes.workspace_at,
            torch.cuda.current_stream().cuda_stream,
        )
    return sums, memory if save else memory.new_empty(0)


def gradients(
    call: Call, sums: Tensor, upstream: Tensor, saved: Tensor, wanted: list[bool]
) -> list[Tensor | None]:
    """Of the four parts, where ``wanted``. What was ``saved`` is used up."""
    tensors: list[Any] = contiguous(call[:9], None)
    parts = zip(tensors[:4], wanted, strict=True)
    found = [torch.empty_like(x) if asked else None for x, asked in parts]
    each, save = upstream_each(call, upstream), saved.numel() > 0
    sizes = _Sizes.of(call, save=save)
    memory = saved if save else saved.new_empty(sizes.total)
    with torch.cuda.device(saved.device):
        _C.contrast_cuda_batch_gradient(
            *_arguments(call, tensors),
            sums.data_ptr() + 16 * len(each),
            each.data_ptr(),
            memory.data_ptr() if save else 0,
            addresses(found),
            memory.data_ptr() + sizes.workspace_at,
            torch.cuda.current_stream().cuda_stream,
            save,  # then the workspace is as the losses left it
        )
    return found


def saved_size(call: Call) -> int:
    """Bytes that `losses` saves: one number a pair, and the prepared features."""
    return _Sizes.of(call, save=True).total


class _Sizes(NamedTuple):
    """Bytes of what is saved with the workspace behind it."""

    workspace_at: int
    total: int

    @classmethod
    def of(cls, call: Call, *, save: bool) -> "_Sizes":
        precision = _precision(call)
        rows, span = call.video_spatial.shape[0], (call.start, call.stop)
        saved = _C.contrast_cuda_saved_size(precision, rows, *span) if save else 0
        workspace_at = -(-saved // _ALIGNMENT) * _ALIGNMENT
        workspace = _C.contrast_cuda_workspace(precision, rows, call.widths, *span, save)
        return cls(workspace_at, workspace_at + workspace)


def takes_tf32(dtype: torch.dtype) -> bool:
    """As torch's own matrix products: float32 in TF32 only where the user allowed that."""
    return dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"


# torch.compile cannot follow it, and compiles anew where the precision has changed.
takes_tf32._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001


def _precision(call: Call) -> int:
    return TF32 if call.tf32 else _PRECISIONS[call.video_spatial.dtype]


def _arguments(call: Call, tensors: list[Any]) -> tuple[Any, Any, Any, Any, Any, Any, Any, Any]:
    where, rows = addresses(tensors), tensors[0].shape[0]
    left_out, group, position = where[6:]
    return (
        where[:6],
        _precision(call),
        rows,
        call.widths,
        call[10:16],
        (left_out, rows, left_out, rows, group, position, call.reach),
        call.start,
        call.stop,
    )
