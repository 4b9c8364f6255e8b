"""The weighted contrastive loss in plain torch: rows in blocks, so that memory is O(C N).

C rows a block. The gradient computes every block again, so that nothing N x N is ever kept.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detach import equations
from detach.ops.contrast_call import GATES, TEMPORALS, Call, computed_in, upstream_each

BLOCK_NUMBERS = 1 << 20
"""Pairs that are looked at at once, about; ten arrays of that many numbers live at a time."""
SHORTEST = 1e-12
"""Vectors shorter than this are divided by it, as torch.nn.functional.normalize does."""


def losses(call: Call, *, stats: bool) -> Tensor:
    """Of the windows asked for, float64 [3, 2, n], without ``stats`` [2, 2, n].

    Losses, logarithms of denominators, mean weights of negatives; video to sensor first.
    """
    with torch.autocast(call.video_spatial.device.type, enabled=False):
        features = _Features.of(call)
        directions = [
            torch.cat([features.sums(i, *block, stats=stats) for block in _blocks(call)], dim=1)
            for i in (0, 1)
        ]
    return torch.stack(directions, dim=1).double()


def gradients(
    call: Call, sums: Tensor, upstream: Tensor, wanted: list[bool]
) -> list[Tensor | None]:
    """Of the four parts, where ``wanted``; ``sums`` as `losses` gave them."""
    each = upstream_each(call, upstream) / call.temperature
    with torch.autocast(call.video_spatial.device.type, enabled=False):
        features = _Features.of(call)
        found = [torch.zeros_like(z) for z in features.embedding]
        for own, other in ((0, 1), (1, 0)):
            for first, last in _blocks(call):
                span = slice(first - call.start, last - call.start)
                pull = features.pull(own, first, last, sums[1, own, span])
                pull *= each[span, None].to(pull.dtype)
                found[own][first:last] += pull @ features.embedding[other]
                found[other] += pull.T @ features.embedding[own][first:last]
        halves = (call.parts[:2], call.parts[2:])
        return [
            part
            for gradient, (spatial, temporal), asked in zip(
                found, halves, (wanted[:2], wanted[2:]), strict=True
            )
            for part in _through_join(gradient, spatial, temporal, call, asked)
        ]


def _blocks(call: Call) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_NUMBERS // len(call.video_spatial))
    for first in range(call.start, call.stop, step):
        yield first, min(first + step, call.stop)


class _Features(NamedTuple):
    """Embeddings and unit weight features, video first, and the call they were made for."""

    call: Call
    embedding: tuple[Tensor, Tensor]
    place: tuple[Tensor, Tensor]
    motion: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, call: Call) -> "_Features":
        dtype = computed_in(call.video_spatial.dtype)
        vs, vt, ss, st = (x.detach().to(dtype) for x in call.parts)
        join = equations.video_embedding
        embedding = (
            join(vs, vt, normalize=call.normalize),
            join(ss, st, normalize=call.normalize),
        )
        place = (F.normalize(vs, dim=1), F.normalize(ss, dim=1))
        if TEMPORALS[call.temporal] == "none":
            return cls(call, embedding, place, None)
        assert call.video_momentum is not None  # noqa: S101 -- checked where the call was made
        assert call.sensor_momentum is not None  # noqa: S101
        slow = (call.video_momentum, call.sensor_momentum)
        vm, sm = (F.normalize(x.detach().to(dtype), dim=1) for x in slow)
        return cls(call, embedding, place, (vm, sm))

    def logits(self, direction: int, first: int, last: int) -> Tensor:
        """Of rows [first, last) of one modality with all of the other, [C, N]."""
        own, other = self.embedding[direction], self.embedding[1 - direction]
        return own[first:last] @ other.T / self.call.temperature

    def weight(self, direction: int, first: int, last: int) -> Tensor:
        """W of the same pairs, 0 where a pair is left out and for the row's own window."""
        call, (video, sensor) = self.call, self.place
        similar = (video[first:last] @ video.T).relu()
        place = torch.maximum(similar, (sensor[first:last] @ sensor.T).relu())
        weight = equations.spatial_weight(place, lambda_hard=call.lambda_hard)
        if self.motion is not None:
            alike = self._alike(self.motion, direction, first, last)
            gate = GATES[call.gate]
            weight *= equations.temporal_weight(alike, place, gate=gate, power=call.power)
        return weight.clamp_(min=0.0).masked_fill_(self.left_out(direction, first, last), 0.0)

    def _alike(
        self, motion: tuple[Tensor, Tensor], direction: int, first: int, last: int
    ) -> Tensor:
        own, other = motion[direction], motion[1 - direction]
        if TEMPORALS[self.call.temporal] == "cross":
            return own[first:last] @ other.T
        return 0.5 * (own[first:last] @ own.T + other[first:last] @ other.T)

    def left_out(self, direction: int, first: int, last: int) -> Tensor:
        """Bool [C, N]: pairs that are no negatives, a window's own among them."""
        call, device = self.call, self.call.video_spatial.device
        columns = torch.arange(len(call.video_spatial), device=device)
        away = columns[first:last, None] == columns
        if call.left_out is not None:
            away |= call.left_out[first:last] if direction == 0 else call.left_out.T[first:last]
        if call.group is not None and call.position is not None:
            near = (call.position[first:last, None] - call.position).abs() < call.reach
            away |= near & (call.group[first:last, None] == call.group)
        return away

    def sums(self, direction: int, first: int, last: int, *, stats: bool) -> Tensor:
        """Loss, logarithm of the denominator and mean weight of rows [first, last), [3, C]."""
        logits = self.logits(direction, first, last)
        weight = self.weight(direction, first, last)
        positive = logits.diagonal(first)
        counted = weight != 0
        counted.diagonal(first).fill_(True)
        shift = logits.masked_fill(~counted, -torch.inf).amax(dim=1, keepdim=True)
        terms = (logits - shift).masked_fill_(~counted, 0.0).exp_().mul_(weight)
        shift = shift.squeeze(1)
        log_denominator = shift + (terms.sum(dim=1) + (positive - shift).exp()).log()
        sums = [log_denominator - positive, log_denominator]
        if stats:
            kept = (~self.left_out(direction, first, last)).sum(dim=1)
            sums.append(weight.sum(dim=1) / kept.clamp(min=1))
        return torch.stack(sums)

    def pull(self, direction: int, first: int, last: int, log_denominator: Tensor) -> Tensor:
        """D loss / d logits of rows [first, last), [C, N]."""
        logits = self.logits(direction, first, last)
        weight = self.weight(direction, first, last)
        lower = log_denominator.to(logits.dtype)
        own = (logits.diagonal(first) - lower).expm1()
        share = (logits - lower[:, None]).masked_fill_(weight == 0, 0.0).exp_().mul_(weight)
        share.diagonal(first).copy_(own)
        return share


def _through_join(
    gradient: Tensor, spatial: Tensor, temporal: Tensor, call: Call, wanted: list[bool]
) -> list[Tensor | None]:
    """From the gradient of an embedding to those of its two halves, where wanted."""
    halves = [x.detach().to(gradient.dtype) for x in (spatial, temporal)]
    if call.normalize:
        whole = torch.cat([F.normalize(x, dim=1) for x in halves], dim=1)
        gradient = _through_unit(gradient, whole)
    pieces = gradient.split([x.shape[1] for x in halves], dim=1)
    return [
        (_through_unit(piece, x) if call.normalize else piece).to(spatial.dtype) if asked else None
        for piece, x, asked in zip(pieces, halves, wanted, strict=True)
    ]


def _through_unit(gradient: Tensor, x: Tensor) -> Tensor:
    """From the gradient of ``x`` at length 1 to that of ``x``: what points along ``x`` is lost."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    unit = x / length.clamp(min=SHORTEST)
    along = (gradient * unit).sum(dim=1, keepdim=True).masked_fill(length < SHORTEST, 0.0)
    across: Tensor = (gradient - unit * along) / length.clamp(min=SHORTEST)
    return across
