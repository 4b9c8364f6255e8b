"""The weighted contrastive loss as an operator for torch: registration and gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from detach.ops import contrast_cpu, contrast_cuda, contrast_plain, contrast_reference
from detach.ops.contrast_call import Call, computed_in, reduced
from detach.ops.dispatch import BACKENDS, library, transformed, undisturbed

_CALL = (
    "Tensor video_spatial, Tensor video_temporal, Tensor sensor_spatial, Tensor sensor_temporal, "
    "Tensor? video_momentum, Tensor? sensor_momentum, "
    "Tensor? left_out, Tensor? group, Tensor? position, float reach, "
    "float temperature, float lambda_hard, int gate, int power, int temporal, bool normalize, "
    "SymInt start, SymInt stop, int reduction, bool tf32, int backend"
)
_PARTS, _TENSORS, _FIELDS = 4, 9, len(Call._fields)

library.define(
    f"weighted_contrast({_CALL}, bool save, bool stats) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
library.define(
    f"weighted_contrast_gradient({_CALL}, Tensor sums, Tensor saved, Tensor upstream, "
    "bool[] wanted, bool keep) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_losses_op = torch.ops.detach.weighted_contrast.default
_gradients_op = torch.ops.detach.weighted_contrast_gradient.default


def losses(call: Call, *, save: bool, stats: bool) -> tuple[Tensor, Tensor]:
    """The reduced loss, differentiable, and sums as in `detach.ops.contrast_plain.losses`."""
    if not undisturbed(call.tensors):
        result, sums, _ = _losses_op(*call, save, stats)
    elif torch.is_grad_enabled() and any(x.requires_grad for x in call.parts):
        options = (*call[_TENSORS:], save, stats)
        result, sums, _ = _losses_with_gradient(_losses, options, *call.tensors)
    else:
        result, sums, _ = _losses(*call, save, stats)
    return result, sums


def _losses(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Reduced loss [] or [n], sums, and what the gradient can use again."""
    call, (save, stats) = Call._make(arguments[:_FIELDS]), arguments[_FIELDS:]
    name = BACKENDS[call.backend]
    if name == "cpu":
        return contrast_cpu.losses(call, save=save, stats=stats)
    if name == "cuda":
        sums, saved = contrast_cuda.losses(call, save=save, stats=stats)
    else:
        sums = contrast_plain.losses(call, stats=stats)
        saved = sums.new_empty(0)
    result = reduced(sums[0], call.reduction)
    return result.to(computed_in(call.video_spatial.dtype)), sums, saved


def _losses_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    call, (save, stats) = Call._make(arguments[:_FIELDS]), arguments[_FIELDS:]
    x, n = call.video_spatial, call.stop - call.start
    dtype = computed_in(x.dtype)
    sums = x.new_empty((3 if stats else 2, 2, n), dtype=torch.float64)
    return reduced(sums[0], call.reduction).to(dtype), sums, _saved_fake(call, dtype, save=save)


def _saved_fake(call: Call, dtype: torch.dtype, *, save: bool) -> Tensor:
    x, name = call.video_spatial, BACKENDS[call.backend]
    if name == "torch":
        return x.new_empty(0, dtype=torch.float64)
    saved = x.new_empty(0, dtype=dtype if name == "cpu" else torch.uint8)
    if not save:
        return saved
    known = all(isinstance(size, int) for size in (x.shape[0], call.start, call.stop))
    kernel = contrast_cpu if name == "cpu" else contrast_cuda
    size = kernel.saved_size(call) if known else torch.library.get_ctx().new_dynamic_size()
    return saved.new_empty(size)


def _gradients(*arguments: Any) -> list[Tensor | None]:
    """Of the four parts, where wanted."""
    call = Call._make(arguments[:_FIELDS])
    sums, saved, upstream, wanted, keep = arguments[_FIELDS:]
    name = BACKENDS[call.backend]
    if name == "cpu":
        found = contrast_cpu.gradients(call, sums, upstream, saved, wanted)
    elif name == "cuda":
        saved = saved.clone() if keep else saved
        found = contrast_cuda.gradients(call, sums, upstream, saved, wanted)
    else:
        found = contrast_plain.gradients(call, sums, upstream, wanted)
    dtype = call.video_spatial.dtype
    return [x if x is None or x.dtype == dtype else x.to(dtype) for x in found]


def _gradients_filled(*arguments: Any) -> tuple[Tensor, ...]:
    """An operator returns no None."""
    found = _gradients(*arguments)
    return tuple(arguments[0].new_empty(0) if x is None else x for x in found)


def _gradients_fake(*arguments: Any) -> tuple[Tensor, ...]:
    wanted = arguments[-2]
    return tuple(
        part.new_empty(part.shape if asked else 0)
        for part, asked in zip(arguments[:_PARTS], wanted, strict=True)
    )


class _Losses(torch.autograd.Function):
    """The operator's gradient. Own class: register_autograd costs 100 us with so many arguments.

    Options come as one argument, since torch looks at each.
    """

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[..., Any], options: tuple[Any, ...], *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        result, sums, saved = compute(*tensors, *options)
        ctx.set_materialize_grads(False)  # else zeros as large as what is saved
        ctx.mark_non_differentiable(sums, saved)
        ctx.save_for_backward(*tensors, sums, saved)
        ctx.options = options[:-2]
        ctx.used = False
        return result, sums, saved

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if upstream is None:
            return (None,) * (_TENSORS + 2)
        *tensors, sums, saved = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[2 : _PARTS + 2])
        if ctx.used and BACKENDS[ctx.options[-1]] == "cuda":  # its kernel has used up what it saved
            saved = saved.new_empty(0)
        ctx.used = True
        keep = torch.compiler.is_compiling()  # a compiled gradient does not know which time it is
        if transformed((*tensors, upstream)):
            gradients: Callable[..., Any] = _gradients_by_equations
        elif torch.is_grad_enabled():
            gradients = _gradients_with_gradient
        else:
            gradients = _gradients if undisturbed((*tensors, upstream)) else _gradients_op
        found = gradients(*tensors, *ctx.options, sums, saved, upstream, wanted, keep)
        parts = [x if asked else None for x, asked in zip(found, wanted, strict=True)]
        return (None, None, *parts, *(None,) * (_TENSORS - _PARTS))


class _Gradients(torch.autograd.Function):
    """The gradient's own gradient, through the equations: it needs N x N arrays."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        upstream, ctx.wanted = arguments[_FIELDS + 2 : _FIELDS + 4]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arguments[:_TENSORS], upstream)
        ctx.options = arguments[_TENSORS:_FIELDS]
        return _gradients_op(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, upstream = ctx.saved_tensors
        more, needed = torch.is_grad_enabled(), ctx.needs_input_grad
        with torch.enable_grad():
            upstream, *parts = map(_apart, (upstream, *tensors[:_PARTS]))
            rest = (*tensors[_PARTS:], *ctx.options, None, None)
            first = _gradients_by_equations(*parts, *rest, upstream, ctx.wanted, False)
            terms = zip(first, incoming, strict=True)
            asked = [(x, g) for x, g in terms if x is not None and g is not None]
            if not asked:
                return (None,) * (_FIELDS + 5)
            leaves, needed = (*parts, upstream), (*needed[:_PARTS], needed[_FIELDS + 2])
            of, pulls = zip(*asked, strict=True)
            second = _derivatives(of, pulls, leaves, needed, keep=more)
        between = (None,) * (_FIELDS - _PARTS + 2)
        return (*second[:_PARTS], *between, second[_PARTS], None, None)


def _gradients_by_equations(*arguments: Any) -> list[Tensor | None]:
    """The same as `_gradients`, for what must be able to follow each step."""
    call, keep = Call._make(arguments[:_FIELDS]), torch.is_grad_enabled()
    upstream, wanted = arguments[_FIELDS + 2 : _FIELDS + 4]
    with torch.enable_grad():
        parts = [_apart(x) for x in call.parts]
        call = Call._make((*parts, *call[_PARTS:]))
        result = reduced(contrast_reference.losses(call)[0], call.reduction)
        return _derivatives((result,), (upstream,), parts, wanted, keep=keep)


def _derivatives(
    of: Sequence[Tensor],
    upstream: Sequence[Tensor],
    by: Sequence[Tensor],
    wanted: Sequence[bool],
    *,
    keep: bool,
) -> list[Tensor | None]:
    """By each tensor that is wanted, None for the others."""
    asked = [x for x, this in zip(by, wanted, strict=True) if this]
    found = iter(torch.autograd.grad(of, asked, upstream, create_graph=keep, allow_unused=True))
    return [next(found) if this else None for this in wanted]


def _apart(x: Tensor) -> Tensor:
    """A tensor to differentiate by, which is no other's even where one was passed twice."""
    return x.view_as(x)


_losses_with_gradient: Callable[..., Any] = _Losses.apply
_gradients_with_gradient: Callable[..., Any] = _Gradients.apply


def _below_autograd(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    with torch._C._AutoDispatchBelowAutograd():  # noqa: SLF001 -- no public name
        found: tuple[Tensor, Tensor, Tensor] = _losses_op(*arguments)
    return found


def _losses_autograd(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    if torch.is_grad_enabled() and any(x.requires_grad for x in arguments[:_PARTS]):
        options, tensors = arguments[_TENSORS:], arguments[:_TENSORS]
        found: tuple[Tensor, Tensor, Tensor]
        found = _losses_with_gradient(_below_autograd, options, *tensors)
        return found
    return _below_autograd(*arguments)


for _device in ("CPU", "CUDA"):
    library.impl("weighted_contrast", _losses, _device)
    library.impl("weighted_contrast_gradient", _gradients_filled, _device)
library.impl("weighted_contrast", _losses_autograd, "Autograd")
torch.library.register_fake("detach::weighted_contrast", _losses_fake, lib=library)
torch.library.register_fake("detach::weighted_contrast_gradient", _gradients_fake, lib=library)
