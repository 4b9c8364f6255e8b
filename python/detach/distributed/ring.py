"""The weighted contrastive loss by a half ring: each pair of processes is visited once.

Each of R processes keeps its n windows. In round k = 1 .. R / 2 it takes the block of the process
k places on, computes what both add to each other's denominators, and sends the other's share back;
where R is even both meet in the last round, and each takes half of the pairs. The gradient goes
round again with whole denominators. A pair of windows is visited once, where gathered negatives
visit it twice. Memory is O(n d) a process, and a number for each pair that was visited as long as
that stays below `SAVED_LIMIT_BYTES`; above it the gradient computes pairs again.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from detach.distributed.world import World
from detach.ops import contrast_pairs
from detach.ops.contrast import SAVED_LIMIT_BYTES
from detach.ops.contrast_pairs import Params
from detach.share import Share

_HALVES = 4
"""Features that a gradient may go to; the others are momentum features."""


class Visit(NamedTuple):
    """One round of one process."""

    ahead: int
    """Whose block comes here."""
    behind: int
    """Who gets this process's block."""
    own: slice
    """Rows here that meet ``theirs`` of the process ahead."""
    theirs: slice
    back: slice
    """Rows here that the process behind reports on."""


def visits(rank: int, size: int, count: int) -> Iterator[Visit]:
    """The rounds of process ``rank``, for a batch of ``count`` windows."""
    everything = slice(0, None)
    rows = [len(Share.of(count, r, size)) for r in range(size)]
    for k in range(1, size // 2 + 1):
        ahead, behind = (rank + k) % size, (rank - k) % size
        if ahead != behind:
            yield Visit(ahead, behind, everything, everything, everything)
            continue
        half = rows[max(rank, ahead)] // 2
        low, high = slice(0, half), slice(half, None)
        if rank < ahead:
            yield Visit(ahead, behind, everything, low, everything)
        else:
            yield Visit(ahead, behind, high, everything, low)


def ring_loss(world: World, features: Sequence[Tensor], count: int, params: Params) -> Tensor:
    """This process's share of the loss; shares sum to the mean over the batch of ``count``.

    Args:
        world: Of at least two processes.
        features: This process's, [n, width] each, in the operator's order.
        count: Windows in the batch.
        params: As for `detach.ops.contrast_pairs.sums`.
    """
    share: Tensor = _Ring.apply(world, count, params, *features)  # type: ignore[no-untyped-call]
    return share


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, world: World, count: int, params: Params, *features: Tensor) -> Tensor:
        own = [x.detach().contiguous() for x in features]
        visited = len(own[0]) * (count // 2 + 1) * own[0].element_size()
        save = any(ctx.needs_input_grad) and visited <= SAVED_LIMIT_BYTES
        log_sums, ctx.saved = _log_sums(world, own, count, params, save=save)
        ctx.save_for_backward(*own, log_sums[:2])
        ctx.call = world, count, params
        share = 0.5 * (log_sums[0] + log_sums[1] - 2.0 * log_sums[2]).sum() / count
        return share.to(own[0].dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        *own, log_sums = ctx.saved_tensors
        world, count, params = ctx.call
        each = (0.5 / count * upstream.double()).expand(1, log_sums.shape[1])
        denominators = torch.cat([log_sums, each])
        wanted = ctx.needs_input_grad[3 : 3 + _HALVES]
        found = _gradients(world, own, denominators, ctx.saved, params, wanted, count)
        return (None, None, None, *found, *(None,) * (len(own) - _HALVES))


def _log_sums(
    world: World, own: list[Tensor], count: int, params: Params, *, save: bool
) -> tuple[Tensor, list[Tensor]]:
    """Logarithms of both whole denominators and positives, float64 [3, n], and what is saved."""
    found, _, first = contrast_pairs.sums(own, None, params, save=save)
    saved = [first]
    found[:2] = torch.logaddexp(found[:2], found[2])
    packed = torch.cat(own, dim=1)
    rounds = list(visits(world.rank, world.size, count))
    coming = _Exchange(world, rounds[0], count, [packed])
    for i, visit in enumerate(rounds):
        (theirs,) = coming.result()
        if i + 1 < len(rounds):
            coming = _Exchange(world, rounds[i + 1], count, [packed])
        a = [x[visit.own] for x in own]
        b = _unpacked(theirs[visit.theirs], own)
        of_a, of_b, more = _pair_sums(a, b, params, save=save)
        saved.append(more)
        found[:2, visit.own] = torch.logaddexp(found[:2, visit.own], of_a)
        reported = _give_back(world, visit, of_b, found[:2, visit.back])
        found[:2, visit.back] = torch.logaddexp(found[:2, visit.back], reported)
    return found, saved


def _pair_sums(
    a: list[Tensor], b: list[Tensor], params: Params, *, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Both [2, n], -inf where the other block has no window, and what is saved."""
    if len(a[0]) and len(b[0]):
        of_a, of_b, saved = contrast_pairs.sums(a, b, params, save=save)
        return of_a[:2], of_b[:2], saved
    of_a, of_b = (x[0].new_full((2, len(x[0])), -torch.inf, dtype=torch.float64) for x in (a, b))
    return of_a, of_b, a[0].new_empty(0)


def _gradients(
    world: World,
    own: list[Tensor],
    denominators: Tensor,
    saved: list[Tensor],
    params: Params,
    wanted: Sequence[bool],
    count: int,
) -> list[Tensor | None]:
    """Of the first four features, where wanted."""
    found = _zeros(own, wanted)
    contrast_pairs.add_gradients(own, None, params, saved[0], (denominators, None), (found, None))
    sent = [torch.cat(own, dim=1), denominators.T.contiguous()]
    rounds = list(visits(world.rank, world.size, count))
    coming = _Exchange(world, rounds[0], count, sent)
    for i, visit in enumerate(rounds):
        packed, table = coming.result()
        if i + 1 < len(rounds):
            coming = _Exchange(world, rounds[i + 1], count, sent)
        a = [x[visit.own] for x in own]
        b = _unpacked(packed[visit.theirs], own)
        to_b = _zeros(b, wanted)
        if len(a[0]) and len(b[0]):
            of = denominators[:, visit.own].contiguous(), table[visit.theirs].T.contiguous()
            to_a = [None if x is None else x[visit.own] for x in found]
            contrast_pairs.add_gradients(a, b, params, saved[i + 1], of, (to_a, to_b))
        mine = [x[visit.back] for x in found if x is not None]
        reported = _give_back(
            world, visit, _joined(to_b), torch.cat(mine, dim=1) if mine else own[0][:0]
        )
        for to, more in zip(mine, reported.split([x.shape[1] for x in mine], dim=1), strict=True):
            to.add_(more)
    return found


class _Exchange:
    """One block going to the process behind while another comes from the one ahead."""

    def __init__(self, world: World, visit: Visit, count: int, sent: Sequence[Tensor]) -> None:
        rows = len(Share.of(count, visit.ahead, world.size))
        self._world = world
        self._sent = sent  # they must live until they have gone
        self._come = [x.new_empty((rows, *x.shape[1:])) for x in sent]
        self._works = _start(world, visit.behind, sent, visit.ahead, self._come)

    def result(self) -> list[Tensor]:
        """What has come."""
        _finish(self._world, self._works)
        return self._come


def _give_back(world: World, visit: Visit, theirs: Tensor, like: Tensor) -> Tensor:
    """Sends what belongs to the process ahead; returns what the one behind found, as ``like``."""
    come = torch.empty_like(like, memory_format=torch.contiguous_format)
    _finish(world, _start(world, visit.ahead, [theirs.contiguous()], visit.behind, [come]))
    return come


def _start(
    world: World, to: int, sent: Sequence[Tensor], source: int, come: Sequence[Tensor]
) -> list[Any]:
    """Empty messages are not sent; both sides know which are empty."""
    calls = [dist.P2POp(dist.isend, x, to, group=world.group) for x in sent if x.numel()]
    calls += [dist.P2POp(dist.irecv, x, source, group=world.group) for x in come if x.numel()]
    with world.watched("passing windows on"):
        return list(dist.batch_isend_irecv(calls)) if calls else []


def _finish(world: World, works: Sequence[Any]) -> None:
    with world.watched("passing windows on"):
        for work in works:
            work.wait()


def _unpacked(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    pieces = packed.split([x.shape[1] for x in like], dim=1)
    return [x.contiguous() for x in pieces]


def _zeros(block: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    pairs = zip(block, wanted, strict=False)
    return [torch.zeros_like(x) if asked else None for x, asked in pairs]


def _joined(gradients: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([x for x in gradients if x is not None], dim=1)
