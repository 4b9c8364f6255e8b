"""Known failure signatures of training: how to see each, what it means, what to do."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detach.config import SpatialStageConfig

LEVEL = 1e-6
"""Cosines that differ by no more are the same up to rounding."""


def of_schedule(stage: SpatialStageConfig, *, stage2: bool) -> Iterator[tuple[str, str]]:
    """Signs in how many epochs each part of stage 1 has."""
    joint = stage.warmup_epochs
    refine = joint + stage.joint_epochs
    if stage2 and stage.epochs <= joint:
        yield (
            "video never learned",
            f"stage1.epochs = {stage.epochs} end within stage1.warmup_epochs = {joint}: the video "
            "encoder of places stays as it was drawn, and stage 2 weighs by it. Train longer, or "
            "warm up less",
        )
    elif stage.refine and stage.epochs <= refine:
        yield (
            "nothing refined",
            f"stage1.epochs = {stage.epochs} end before refinement, which begins after epoch "
            f"{refine}. Train longer, lower stage1.warmup_epochs or stage1.joint_epochs, or set "
            "stage1.refine=false",
        )


def of_clusters(
    sizes: Tensor, change_rate: float, *, last_epoch: bool
) -> Iterator[tuple[str, str]]:
    """Signs in the clusters of stage 1: ``sizes`` [K], share of labels changed this epoch."""
    share = float(sizes.max() / sizes.sum().clamp(min=1))
    if share > 0.9:
        yield (
            "cluster collapse",
            f"cluster collapse: {100 * share:.0f} % of the windows are in one cluster, so places "
            "say nothing. Lower stage1.learning_rate, raise stage1.small_cluster, or set "
            "stage1.clusters nearer to the number of places that have a sensor",
        )
    if last_epoch and change_rate > 0.05:
        yield (
            "unsettled labels",
            f"pseudo-labels do not settle: {100 * change_rate:.0f} % still changed in the last "
            "epoch. Raise stage1.epochs, lower stage1.learning_rate, or set fewer "
            "stage1.clusters",
        )


def of_momentum(start_share: float) -> Iterator[tuple[str, str]]:
    """Sign in the momentum copies: how much of them is still their start."""
    if start_share > 0.3:
        yield (
            "slow momentum",
            f"momentum copies will still be {100 * start_share:.0f} % their start when training "
            "ends, so that temporal similarity is that of untrained weights. Turn on "
            "stage2.momentum_ramp, lower stage2.momentum, or train longer",
        )


def of_motion(
    place: Tensor, video: Tensor, sensor: Tensor, raw: Tensor
) -> Iterator[tuple[str, str]]:
    """Signs in the motion features of one sample of windows.

    Args:
        place: Pseudo-labels, [n].
        video: Motion features of the video, [n, d].
        sensor: Motion features of the sensors, [n, d].
        raw: The sensor samples themselves, flattened, [n, T * C].
    """
    rank = same_place_rank(place, video, sensor)
    if rank > 0.45:
        yield (
            "motion repeats place",
            "the temporal branch only repeats the place: among windows of one place the right "
            f"partner ranks at {rank:.2f} on average (0.50 is chance). Raise stage2.lambda_hard "
            "or stage2.epochs, and check that video and sensors are in step",
        )
    pushed = twin_similarity(place, sensor, raw)
    if pushed < 0.2:
        yield (
            "false negatives apart",
            "false negatives are pushed apart: windows with nearly equal signals at one place "
            f"have a mean cosine of {pushed:.2f}. Keep stage2.gate spatial, lower "
            "stage2.lambda_hard, or raise stage2.temperature",
        )


def same_place_rank(place: Tensor, video: Tensor, sensor: Tensor) -> float:
    """Mean rank of the right partner among windows of its own place: 0 best, 0.5 chance."""
    scores = F.normalize(video, dim=1) @ F.normalize(sensor, dim=1).T
    rivals = (place[:, None] == place[None, :]) & ~torch.eye(len(place), dtype=torch.bool)
    ahead = scores - scores.diagonal()[:, None]
    level = ahead.abs() <= LEVEL  # where all are alike the right one is found by chance
    better = (((ahead > LEVEL) + 0.5 * level) * rivals).sum(dim=1)
    counted = rivals.sum(dim=1) >= 5
    ranks = better[counted] / rivals.sum(dim=1)[counted]
    return float(ranks.mean()) if len(ranks) else 0.0


def twin_similarity(place: Tensor, sensor: Tensor, raw: Tensor) -> float:
    """Mean cosine of motion features over pairs whose signals all but coincide (1 if none)."""
    moving = F.normalize(raw - raw.mean(dim=1, keepdim=True), dim=1)
    alike = (moving @ moving.T > 0.98) & (place[:, None] == place[None, :])
    alike &= ~torch.eye(len(place), dtype=torch.bool)
    if not alike.any():
        return 1.0
    cosine = F.normalize(sensor, dim=1) @ F.normalize(sensor, dim=1).T
    return float(cosine[alike].mean())


def start_share(momentum: float, steps: int, *, ramp: bool) -> float:
    """How much of a momentum copy is its start after ``steps`` updates."""
    t = np.arange(steps)
    rates = np.minimum(momentum, (1 + t) / (10 + t)) if ramp else np.full(steps, momentum)
    return float(np.prod(rates))
