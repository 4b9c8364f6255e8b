"""Batch normalisation whose means and variances are those of the whole batch.

As torch's own for several processes, which refuses the CPU. N values a channel over all processes;
gradients are exact. Names and contents of the state are those of `torch.nn.BatchNorm*d`.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detach.distributed.world import World


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 -- the public ones fix the rank
    """Any of `torch.nn.BatchNorm1d` to 3d, for a world of several processes."""

    def __init__(self, like: nn.modules.batchnorm._BatchNorm, world: World) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine)
        self.load_state_dict(like.state_dict())
        self.to(like.weight)
        self.train(like.training)
        self.world = world

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 -- torch calls it so
        if input.dim() < 2:
            raise ValueError(f"x must be [N, channels, ...], got shape {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch calls it so
        """Normalises [N, channels, ...]; all processes must call it where it is in training."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        y, mean, variance, count = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, self.eps, self.world
        )
        self._move_statistics(mean, variance, count)
        return y  # type: ignore[no-any-return]

    @torch.no_grad()
    def _move_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(unbiased.to(self.running_var), share)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, world: World
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean, variance, count = _statistics(full, world)
        inverse = (variance + eps).rsqrt()
        scale = weight * inverse
        y = torch.addcmul(_wide(bias - mean * scale, x), full, _wide(scale, x)).to(x.dtype)
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.world = world
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, count = ctx.saved_tensors
        g = upstream.to(mean.dtype)
        unit = (x.to(mean.dtype) - _wide(mean, x)) * _wide(inverse, x)
        over = [0, *range(2, x.dim())]
        sums = torch.stack([g.sum(dim=over), (g * unit).sum(dim=over)])
        own = sums.clone()
        with ctx.world.watched("summing gradients of batch statistics"):
            dist.all_reduce(sums, group=ctx.world.group)
        along, across = sums / count
        back = (g - _wide(along, x) - unit * _wide(across, x)) * _wide(weight * inverse, x)
        # Parameters get this process's own sums: all gradients of parameters are summed later.
        return back.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None, None


def share_batch_norms(module: nn.Module, world: World) -> nn.Module:
    """``module`` with each batch norm in it replaced; itself in a world of one."""
    if world.alone:
        return module
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
            setattr(module, name, SharedBatchNorm(child, world))
        else:
            share_batch_norms(child, world)
    return module


def _statistics(x: Tensor, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance [channels] over all processes, and N.

    Parts are joined about the common mean (Chan, Golub and LeVeque 1983), so that a large mean
    costs no digits.
    """
    over = [0, *range(2, x.dim())]
    variance, mean = torch.var_mean(x, dim=over, correction=0)
    count = mean.new_full((1,), x.numel() // x.shape[1])
    own = torch.cat([count, mean, variance])
    table = world.collect(own[None], world.size)
    counts, rest = table.split([1, 2 * len(mean)], dim=1)
    means, variances = rest.chunk(2, dim=1)
    whole = counts.sum(dim=0)
    joint = (counts * means).sum(dim=0) / whole
    spread = (counts * (variances + (means - joint).square())).sum(dim=0) / whole
    return joint, spread, whole


def _wide(x: Tensor, like: Tensor) -> Tensor:
    """[channels] as [1, channels, 1, ...]."""
    return x.view(1, -1, *[1] * (like.dim() - 2))
