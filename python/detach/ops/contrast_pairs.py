"""The weighted contrastive loss of two blocks of windows, by the kernels that serve whole batches.

What a ring of processes calls: `sums` for what two blocks add to each other's denominators, and
`add_gradients` given whole denominators. Where W is not symmetric both orientations are formed.
A block is the six features of n windows in the operator's order, contiguous, [n, width] each; four
where there is no temporal similarity.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detach import kernels
from detach.ops.contrast_call import addresses
from detach.ops.contrast_cuda import FLOAT32, TF32, takes_tf32
from detach.ops.dispatch import chosen

if kernels.available():
    from detach import _C

Block = Sequence[Tensor]
Params = tuple[float, float, int, int, int, bool]
"""temperature, lambda_hard, gate, power, temporal and normalize, words by their places."""

_NO_MASK = (0, 0, 0, 0, 0.0)
_KINDS = {torch.uint8: FLOAT32, torch.int8: TF32}
"""How the kernel for a GPU multiplies, by the type of what `sums` saved, which are bytes: both
directions must agree, whatever the user has allowed in between."""


def served(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel takes such blocks."""
    return dtype in {torch.float32, torch.float64} and chosen(device, dtype) in {"cpu", "cuda"}


def sums(a: Block, b: Block | None, params: Params, *, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What two blocks add to each other's denominators, or one block to its own.

    Returns:
        For a and for b, float64 [3, n] each: log sum_j W_ij exp(s_ij), the same of the other
        direction, and s_ii, which is 0 for a pair. Where ``b`` is None the second is empty. Then
        what the gradient can use again, a number a pair of windows, empty unless to ``save``.
    """
    of_a, of_b = _table(a[0], len(a[0])), _table(a[0], 0 if b is None else len(b[0]))
    rest = (0, 0, 0, 0)
    to: Any = ((*_rows(of_a), *rest), None if b is None else (*_rows(of_b), *rest))
    saved = _saved(a, b, save=save)
    if a[0].is_cuda:
        _on_gpu(_C.contrast_cuda_sums, a, b, params, (*to, saved.data_ptr()), saved)
    else:
        head = _head(a, b, params, a[0].dtype == torch.float64)
        _C.contrast_sums(*head, to[0], to[1], saved.data_ptr(), torch.get_num_threads())
    return of_a, of_b, saved


def add_gradients(
    a: Block,
    b: Block | None,
    params: Params,
    saved: Tensor,
    denominators: tuple[Tensor, Tensor | None],
    gradients: tuple[Sequence[Tensor | None], Sequence[Tensor | None] | None],
) -> None:
    """Adds the pair's share to gradients of the first four features, None where none is wanted.

    Args:
        a: A block.
        b: Another one, or None for a by itself.
        params: As for `sums`.
        saved: What `sums` returned for the pair; used up on a GPU.
        denominators: Of a and b, float64 [3, n]: logarithms of whole denominators, video to sensor
            first, and d result / d (sum of both losses) of each window.
        gradients: Of a and b, in the features' type.
    """
    of: Any = [None if x is None else _rows(x) for x in denominators]
    to: Any = [None if x is None else addresses(x) for x in gradients]
    where = saved.data_ptr()
    if a[0].is_cuda:
        _on_gpu(_C.contrast_cuda_gradient, a, b, params, (*of, where, *to), saved)
    else:
        head = _head(a, b, params, a[0].dtype == torch.float64)
        _C.contrast_gradient(*head, of[0], of[1], where, to[0], to[1], torch.get_num_threads())


def _head(
    a: Block, b: Block | None, params: Params, kind: int
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """``kind`` is how the kernel for the CPU, or that for a GPU, calls the precision."""
    return _block(a), None if b is None else _block(b), kind, _widths(a), params, _NO_MASK


def _saved(a: Block, b: Block | None, *, save: bool) -> Tensor:
    """Room for what is kept a pair of windows; empty unless to ``save``."""
    rows = len(a[0]), len((a if b is None else b)[0]), b is None
    if a[0].is_cuda:
        dtype = torch.int8 if takes_tf32(a[0].dtype) else torch.uint8
        size = _C.contrast_cuda_pair_saved_size(_KINDS[dtype], *rows) if save else 0
        return a[0].new_empty(size, dtype=dtype)
    return a[0].new_empty(_C.contrast_saved_size(*rows) if save else 0)


def _on_gpu(
    kernel: Any, a: Block, b: Block | None, params: Params, rest: tuple[Any, ...], saved: Tensor
) -> None:
    """Runs on the current stream."""
    rows_b, widths = len((a if b is None else b)[0]), _widths(a)
    kind, save = _KINDS[saved.dtype], saved.numel() > 0
    size = _C.contrast_cuda_pair_workspace(kind, len(a[0]), rows_b, b is None, widths, save)
    workspace = torch.empty(size, dtype=torch.uint8, device=a[0].device)
    with torch.cuda.device(a[0].device):
        stream = torch.cuda.current_stream().cuda_stream
        kernel(*_head(a, b, params, kind), *rest, workspace.data_ptr(), stream)


def _block(x: Block) -> tuple[tuple[int, ...], int, int, int]:
    where = addresses(x)
    return (*where, *(0,) * (6 - len(where))), len(x[0]), 0, 0


def _widths(x: Block) -> tuple[int, int, int]:
    return x[0].shape[1], x[1].shape[1], x[4].shape[1] if len(x) > 4 else 0


def _table(like: Tensor, columns: int) -> Tensor:
    return like.new_zeros((3, columns), dtype=torch.float64)


def _rows(table: Tensor) -> tuple[int, ...]:
    """Addresses of the rows of a contiguous table."""
    return addresses(table.unbind(0))
