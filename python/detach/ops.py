"""The operators for torch: checks, registration, gradients, and which kernel runs.

Each operator is one entry of `torch.library`, so that autograd, `torch.compile` and `opcheck` know
it. Fallback chain: CUDA kernel, CPU kernel, plain torch; `DETACH_BACKEND=cuda|cpu|torch|reference`
forces one.
"""

import os
from typing import Any

import torch
from torch import Tensor

from detach import equations, kernels

if kernels.available():
    from detach import _C

BACKENDS = ("cuda", "cpu", "torch", "reference")
_COMPUTED = (torch.float32, torch.float64)
_CONVERTED = (torch.float16, torch.bfloat16, torch.int16)

_library = torch.library.Library("detach", "DEF")  # lives as long as we do
_library.define(
    "activation_percentile(Tensor x, float q, int dim, bool absolute) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def activation_percentile(
    x: Tensor, q: float = 0.99, dim: int = -1, *, absolute: bool = False
) -> Tensor:
    """How strongly each channel was active: the q-quantile over ``dim``, section 3.1.

    Equal to :func:`detach.equations.activation_percentile`. Channels last ([N, T, C] with dim 1)
    and time last ([.., T]) are both read in place. The gradient goes to the two order statistics
    that the result lies between, as torch.quantile's does.

    Args:
        x: Values, any shape with at least one axis; float32, float64, float16, bfloat16 (computed
            in float32) or int16 (result float32).
        q: Which quantile, in [0, 1].
        dim: The axis that is reduced; it must not be empty.
        absolute: Take ``|x|`` first.

    Returns:
        ``x``'s shape without ``dim``, contiguous, in ``x``'s dtype.

    Raises:
        TypeError: ``x`` has another dtype.
        ValueError: ``q``, ``dim``, the length of the axis, or DETACH_BACKEND is out of range.
    """
    if x.dtype not in _COMPUTED + _CONVERTED:
        raise TypeError(f"x must be floating point or int16, got {x.dtype}")
    axis = kernels.check_percentile(tuple(x.shape), q, dim, "dim")
    if x.dtype in _COMPUTED:
        return _percentile_op(x, q, axis, absolute)
    result = _percentile_op(x.float(), q, axis, absolute)
    return result if x.dtype == torch.int16 else result.to(x.dtype)


def backend(device: torch.device) -> tuple[str, str]:
    """Which implementation runs for tensors on ``device``, and why.

    Raises:
        ValueError: DETACH_BACKEND names no backend, or one that cannot serve ``device``.
    """
    forced = os.environ.get("DETACH_BACKEND", "")
    if forced and forced not in BACKENDS:
        raise ValueError(f"DETACH_BACKEND must be one of {', '.join(BACKENDS)}, got {forced!r}")
    chosen, why = _best(device)
    if not forced:
        return chosen, why
    if forced in ("cuda", "cpu") and forced != chosen:
        raise ValueError(f"DETACH_BACKEND={forced} cannot serve a tensor on {device}: {why}")
    return forced, f"DETACH_BACKEND={forced}"


def _best(device: torch.device) -> tuple[str, str]:
    if not kernels.available():
        return "torch", kernels.info()["why"]
    if device.type == "cpu":
        return "cpu", f"compiled module, {_C.simd()}"
    if device.type == "cuda" and _C.cuda_built and _C.cuda_devices() > 0:
        return "cuda", f"compiled module, {_C.cuda_architectures}"
    return "torch", f"no {device.type} kernel: {_C.cuda_reason}"


def _percentile_op(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:
    result: Tensor = torch.ops.detach.activation_percentile(x, q, dim, absolute)
    return result


def _percentile(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:
    chosen, _ = backend(x.device)
    if chosen == "reference":
        return equations.activation_percentile(x, q, dim, absolute).contiguous()
    if chosen == "torch":
        return _percentile_torch(x, q, dim, absolute=absolute)
    return _percentile_kernel(x, q, dim, absolute=absolute)


def _percentile_kernel(x: Tensor, q: float, dim: int, *, absolute: bool) -> Tensor:
    order = kernels.memory_order(x.stride())
    dense = x.permute(order).contiguous()  # x itself where it only was transposed
    where = order.index(dim)
    rest = order[:where] + order[where + 1 :]
    out = x.new_empty([x.shape[i] for i in rest])
    outer, length, inner = kernels.outer_length_inner(tuple(dense.shape), where)
    what = (dense.data_ptr(), out.data_ptr(), x.dtype == torch.float64, outer, length, inner)
    if x.is_cuda:
        with torch.cuda.device(x.device):
            _C.percentile_cuda(*what, q, absolute, torch.cuda.current_stream().cuda_stream)
    else:
        _C.percentile_cpu(*what, q, absolute, torch.get_num_threads())
    back = sorted(range(len(rest)), key=lambda i: rest[i])
    return out.permute(back).contiguous()


def _percentile_torch(x: Tensor, q: float, dim: int, *, absolute: bool) -> Tensor:
    low, weight = _rank(x.shape[dim], q)
    values = x.abs() if absolute else x
    ordered = values.sort(dim=dim).values  # NaN last
    below = ordered.select(dim, low).double()
    above = ordered.select(dim, low + 1).double() if weight > 0 else below
    between = (1.0 - weight) * below + weight * above  # no difference that could be inf - inf
    result = torch.where(below == above, below, between)
    nan = ordered.select(dim, -1).isnan()
    return result.masked_fill(nan, torch.nan).to(x.dtype).contiguous()


def _rank(length: int, q: float) -> tuple[int, float]:
    """Index of the lower order statistic, and the share of the one above it."""
    rank = q * (length - 1)
    low = min(int(rank), length - 1)
    return low, rank - low if low + 1 < length else 0.0


def _percentile_fake(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:  # noqa: ARG001
    return x.new_empty([size for i, size in enumerate(x.shape) if i != dim])


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    x, ctx.q, ctx.dim, ctx.absolute = inputs
    ctx.save_for_backward(x)


def _percentile_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    (x,) = ctx.saved_tensors
    low, weight = _rank(x.shape[ctx.dim], ctx.q)
    values = x.abs() if ctx.absolute else x
    places = values.sort(dim=ctx.dim).indices.narrow(ctx.dim, low, 2 if weight > 0 else 1)
    grad = grad.unsqueeze(ctx.dim)
    shares = torch.cat([(1.0 - weight) * grad, weight * grad], ctx.dim) if weight > 0 else grad
    spread = torch.zeros_like(x).scatter(ctx.dim, places, shares)
    return (spread * x.sign() if ctx.absolute else spread), None, None, None


_library.impl("activation_percentile", _percentile, "CPU")
_library.impl("activation_percentile", _percentile, "CUDA")
torch.library.register_fake("detach::activation_percentile", _percentile_fake, lib=_library)
torch.library.register_autograd(
    "detach::activation_percentile",
    _percentile_backward,
    setup_context=_keep_for_backward,
    lib=_library,
)
