"""What one call of the weighted contrastive loss is made of, in the operator's order."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detach.equations import Gate, Temporal

# The kernels know these words by their places here.
GATES: tuple[Gate, ...] = ("none", "spatial")
TEMPORALS: tuple[Temporal, ...] = ("none", "intra", "cross")
REDUCTIONS = ("none", "mean", "sum")


class Call(NamedTuple):
    """N windows, of which the losses of [start, stop) are asked for."""

    video_spatial: Tensor
    video_temporal: Tensor
    sensor_spatial: Tensor
    sensor_temporal: Tensor
    video_momentum: Tensor | None
    sensor_momentum: Tensor | None
    left_out: Tensor | None
    """Bool [N, N], or None."""
    group: Tensor | None
    """int64 [N], or None."""
    position: Tensor | None
    """float64 [N], or None."""
    reach: float
    temperature: float
    lambda_hard: float
    gate: int
    power: int
    temporal: int
    normalize: bool
    start: int
    stop: int
    reduction: int
    tf32: bool
    """Whether a GPU rounds float32 to TF32 in products: decided once for both directions."""
    backend: int
    """Its place in `detach.ops.dispatch.BACKENDS`."""

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What gradients go to."""
        return self[:4]

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """Features and mask."""
        return self[:9]

    @property
    def widths(self) -> tuple[int, int, int]:
        """Of spatial, temporal and momentum features; 0 for none."""
        momentum = 0 if self.video_momentum is None else self.video_momentum.shape[1]
        return self.video_spatial.shape[1], self.video_temporal.shape[1], momentum


def saved_pairs(rows: int, start: int, stop: int) -> int:
    """About how many numbers are kept for the gradient, where any are."""
    return rows * rows if stop - start == rows else 2 * rows * (stop - start)


def reduced(loss: Tensor, reduction: int) -> Tensor:
    """[] or [n], from the losses of both directions, [2, n]."""
    if REDUCTIONS[reduction] == "mean":
        return loss.mean()
    return 0.5 * (loss.sum() if REDUCTIONS[reduction] == "sum" else loss.sum(dim=0))


def share(call: Call) -> float:
    """What one of the 2 n losses adds to the result."""
    return 0.5 / (call.stop - call.start) if REDUCTIONS[call.reduction] == "mean" else 0.5


def upstream_each(call: Call, upstream: Tensor) -> Tensor:
    """From the gradient of the result, [] or [n], to that of each window's two losses, [n]."""
    return (upstream.double() * share(call)).expand(call.stop - call.start).contiguous()


def contiguous(tensors: Iterable[Tensor | None], dtype: torch.dtype | None) -> list[Any]:
    """The tensors themselves where they already are, and of this type if one is given."""
    return [
        x
        if x is None or (x.is_contiguous() and (dtype is None or x.dtype == dtype))
        else x.to(dtype or x.dtype).contiguous()
        for x in tensors
    ]


def addresses(tensors: Iterable[Tensor | None]) -> tuple[Any, ...]:
    """Where they lie, as int; 0 for None."""
    return tuple([0 if x is None else x.data_ptr() for x in tensors])


def computed_in(dtype: torch.dtype) -> torch.dtype:
    """Half types are computed in float32 where no kernel takes them."""
    return torch.float64 if dtype == torch.float64 else torch.float32
