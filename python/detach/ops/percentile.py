"""The activation percentile as an operator for torch."""

from typing import Any

import torch
from torch import Tensor

from detach import equations, kernels
from detach.ops.dispatch import backend, library, transformed

if kernels.available():
    from detach import _C

_TYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.int16: "int16",
}

library.define(
    "activation_percentile(Tensor x, float q, int dim, bool absolute) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)


def activation_percentile(
    x: Tensor, q: float = 0.99, dim: int = -1, *, absolute: bool = False
) -> Tensor:
    """How strongly each channel was active: the q-quantile over ``dim``, section 3.1.

    Equal to :func:`detach.equations.activation_percentile`. Channels last ([N, T, C] with dim 1)
    and time last ([.., T]) are both read in place. The gradient goes to the two order statistics
    that the result lies between, as torch.quantile's does. `torch.func` and forward-mode
    derivatives are served by the equation.

    Args:
        x: Values, any shape with at least one axis; float32, float64, float16, bfloat16 (computed
            in float32) or int16 (result float32).
        q: Which quantile, in [0, 1].
        dim: The axis that is reduced; it must not be empty.
        absolute: Take ``|x|`` first.

    Returns:
        ``x``'s shape without ``dim``, contiguous, in ``x``'s dtype; float32 for int16.

    Raises:
        TypeError: ``x`` has another dtype.
        ValueError: ``q``, ``dim``, the length of the axis, or DETACH_BACKEND is out of range.
    """
    if x.dtype not in _TYPES:
        raise TypeError(f"x must be floating point or int16, got {x.dtype}")
    axis = kernels.check_percentile(tuple(x.shape), q, dim, "dim")
    if transformed((x,)):
        return _percentile_by_equation(x, q, axis, absolute=absolute)
    result: Tensor = _operator(x, q, axis, absolute)
    return result


def _result_type(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype == torch.int16 else x.dtype


def _percentile(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:
    chosen, _ = backend(x.device)
    if chosen == "reference":
        return _percentile_by_equation(x, q, dim, absolute=absolute)
    if chosen == "torch":
        return _percentile_torch(x, q, dim, absolute=absolute)
    return _percentile_kernel(x, q, dim, absolute=absolute)


def _percentile_by_equation(x: Tensor, q: float, dim: int, *, absolute: bool) -> Tensor:
    values = x if x.dtype in (torch.float32, torch.float64) else x.float()
    truth = equations.activation_percentile(values, q, dim, absolute)
    return truth.to(_result_type(x)).contiguous()


def _percentile_kernel(x: Tensor, q: float, dim: int, *, absolute: bool) -> Tensor:
    if x.is_contiguous():
        out = x.new_empty(x.shape[:dim] + x.shape[dim + 1 :], dtype=_result_type(x))
        _call(x, out, q, dim, absolute=absolute)
        return out
    order = kernels.memory_order(x.stride())
    dense = x.permute(order).contiguous()  # x itself where it only was transposed
    where = order.index(dim)
    rest = order[:where] + order[where + 1 :]
    out = x.new_empty([x.shape[i] for i in rest], dtype=_result_type(x))
    _call(dense, out, q, where, absolute=absolute)
    back = sorted(range(len(rest)), key=lambda i: rest[i])
    return out.permute(back).contiguous()


def _call(x: Tensor, out: Tensor, q: float, dim: int, *, absolute: bool) -> None:
    outer, length, inner = kernels.outer_length_inner(tuple(x.shape), dim)
    what = (_TYPES[x.dtype], x.data_ptr(), out.data_ptr(), outer, length, inner, q, absolute)
    if x.is_cuda:
        with torch.cuda.device(x.device):
            _C.percentile_cuda(*what, torch.cuda.current_stream().cuda_stream)
    else:
        _C.percentile_cpu(*what, torch.get_num_threads())


def _percentile_torch(x: Tensor, q: float, dim: int, *, absolute: bool) -> Tensor:
    low, weight = _rank(x.shape[dim], q)
    values = x.to(_result_type(x))  # |-32768| is no int16
    ordered = (values.abs() if absolute else values).sort(dim=dim).values  # NaN last
    below = ordered.select(dim, low).double()
    above = ordered.select(dim, low + 1).double() if weight > 0 else below
    between = (1.0 - weight) * below + weight * above  # no difference that could be inf - inf
    result = torch.where(below == above, below, between)
    nan = ordered.select(dim, -1).isnan()
    return result.masked_fill(nan, torch.nan).to(values.dtype).contiguous()


def _rank(length: int, q: float) -> tuple[int, float]:
    """Index of the lower order statistic, and the share of the one above it."""
    rank = q * (length - 1)
    low = min(int(rank), length - 1)
    return low, rank - low if low + 1 < length else 0.0


def _percentile_fake(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:  # noqa: ARG001
    shape = [size for i, size in enumerate(x.shape) if i != dim]
    return x.new_empty(shape, dtype=_result_type(x))


class _Percentile(torch.autograd.Function):
    """The operator's gradient. Own class: register_autograd costs 20 us a call."""

    @staticmethod
    def forward(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:
        return _below_autograd(x, q, dim, absolute)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        x, ctx.q, ctx.dim, ctx.absolute = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        low, weight = _rank(x.shape[ctx.dim], ctx.q)
        values = x.abs() if ctx.absolute else x
        places = values.sort(dim=ctx.dim).indices.narrow(ctx.dim, low, 2 if weight > 0 else 1)
        grad = grad.unsqueeze(ctx.dim)
        shares = torch.cat([(1.0 - weight) * grad, weight * grad], ctx.dim) if weight > 0 else grad
        spread = torch.zeros_like(x).scatter(ctx.dim, places, shares)
        return (spread * x.sign() if ctx.absolute else spread), None, None, None


def _below_autograd(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:
    with torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001 -- no public name
        result: Tensor = _operator(x, q, dim, absolute)
    return result


def _percentile_autograd(x: Tensor, q: float, dim: int, absolute: bool) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _Percentile.apply(x, q, dim, absolute)  # type: ignore[no-untyped-call]
        return result
    return _below_autograd(x, q, dim, absolute)


library.impl("activation_percentile", _percentile, "CPU")
library.impl("activation_percentile", _percentile, "CUDA")
library.impl("activation_percentile", _percentile_autograd, "Autograd")
torch.library.register_fake("detach::activation_percentile", _percentile_fake, lib=library)
_operator = torch.ops.detach.activation_percentile.default
