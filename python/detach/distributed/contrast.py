"""The weighted contrastive loss of a batch whose windows several processes have."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from detach import ops
from detach.distributed.ring import ring_loss
from detach.distributed.world import World
from detach.ops import contrast_pairs
from detach.ops.contrast_call import GATES, TEMPORALS

Exchange = Literal["auto", "gather", "ring"]

RING_BYTES = 4 << 20
"""Gathered features and their gradients above which a ring is chosen."""


def contrastive_loss(
    world: World,
    features: Sequence[Tensor],
    count: int | None = None,
    *,
    exchange: Exchange = "auto",
    **options: Any,
) -> Tensor:
    """This process's share of `detach.ops.weighted_contrastive_loss` of the whole batch.

    Shares sum over processes to the loss of one process on the whole batch, and so do gradients:
    sum them over processes (`World.sum_gradients`), do not average them.

    Args:
        world: The processes.
        features: This process's windows, [n, width] each: the four parts that the operator takes,
            and both momentum features where ``temporal`` is not "none".
        count: Windows in the batch; None asks the processes.
        exchange: "gather": every process gets all features and computes its rows against them;
            "ring": blocks go round, each pair of processes is visited once, memory O(n width);
            "auto": by size. Where no kernel serves the features they are gathered.
        options: ``temperature``, ``lambda_hard``, ``gate``, ``power``, ``temporal``, ``normalize``.

    Returns:
        Scalar.

    Raises:
        ValueError: Some process has another number of windows than its share.
        MachineError: A process did not answer.
    """
    kept = features[: 4 if options.get("temporal") == "none" else 6]
    if world.alone:
        return ops.weighted_contrastive_loss(*kept, **options)  # type: ignore[no-any-return]
    count = world.count_rows(len(features[0]), count)
    if not _goes_round(world, kept, count, exchange):
        whole = gather_features(world, kept, count)
        share = world.share(count)
        loss: Tensor = ops.weighted_contrastive_loss(
            *whole, rows=(share.start, share.stop), reduction="sum", **options
        )
        return loss / count
    return ring_loss(world, kept, count, _params(**options))


def _goes_round(world: World, features: Sequence[Tensor], count: int, exchange: Exchange) -> bool:
    first = features[0]
    if world.alone or exchange == "gather" or not contrast_pairs.served(first.device, first.dtype):
        return False
    moved = 2 * count * sum(x.shape[1] for x in features) * first.element_size()
    return exchange == "ring" or moved > RING_BYTES


def gather_features(world: World, features: Sequence[Tensor], count: int) -> list[Tensor]:
    """All processes' rows; learned features in one message, frozen ones in another.

    Gradients are exact where every process computes its share of the loss, or all of it divided by
    the number of processes.
    """
    if world.alone:
        return list(features)
    whole: list[Tensor] = list(features)
    for learned, gather in ((True, world.gather), (False, world.collect)):
        chosen = [i for i, x in enumerate(features) if x.requires_grad == learned]
        if chosen:
            rows = gather(torch.cat([features[i] for i in chosen], dim=1), count)
            pieces = rows.split([features[i].shape[1] for i in chosen], dim=1)
            for i, piece in zip(chosen, pieces, strict=True):
                whole[i] = piece
    return whole


def _params(
    temperature: float = 0.10,
    lambda_hard: float = 3.0,
    gate: str = "spatial",
    power: int = 1,
    temporal: str = "intra",
    normalize: bool = True,
) -> contrast_pairs.Params:
    words = GATES.index(gate), power, TEMPORALS.index(temporal)
    return temperature, lambda_hard, *words, normalize
