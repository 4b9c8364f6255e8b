"""The weighted contrastive loss as one writes it in plain torch: three forms, W without a graph.

Eq. 7 to 13 with gate "spatial" and power 1, on rows that have length 1 already, so that nothing is
normalised; W is symmetric, so that both directions share its product with the logits.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TAU, LAMBDA_HARD = 0.1, 3.0


class Features(NamedTuple):
    """What the loss takes: six times [N, d], rows of length 1. Motion of the first pair learns."""

    video_spatial: Tensor
    video_temporal: Tensor
    sensor_spatial: Tensor
    sensor_temporal: Tensor
    video_momentum: Tensor
    sensor_momentum: Tensor

    @property
    def learning(self) -> tuple[Tensor, Tensor]:
        """Those that get gradients."""
        return self.video_temporal, self.sensor_temporal

    @property
    def joined(self) -> tuple[Tensor, Tensor]:
        """Eq. 5 and 6 without a final normalisation: two times [N, 2d]."""
        video = torch.cat([self.video_spatial, self.video_temporal], dim=1)
        return video, torch.cat([self.sensor_spatial, self.sensor_temporal], dim=1)


Loss = Callable[[Features], Tensor]


def features(
    n: int,
    width: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Features:
    """Gaussian rows of length 1."""
    generator = torch.Generator().manual_seed(seed)
    parts = (torch.randn(n, width, generator=generator) for _ in range(6))
    made = Features(*(F.normalize(x, dim=1).to(device, dtype) for x in parts))
    for leaf in made.learning:
        leaf.requires_grad_()
    return made


def literal(f: Features) -> Tensor:
    """Eq. 12 to the letter: exponentials, no shift."""
    video, sensor = f.joined
    return _from_exponentials(video @ sensor.T / TAU, _weight(f))


def log_sum_exp(f: Features) -> Tensor:
    """Eq. 12 as log-sum-exp of s + log W, which cannot overflow."""
    video, sensor = f.joined
    logits = video @ sensor.T / TAU
    with torch.no_grad():
        log_weight = _weight(f).fill_diagonal_(1.0).log()
    both = logits + log_weight
    return 0.5 * (both.logsumexp(0) + both.logsumexp(1) - 2 * logits.diagonal()).mean()


def tuned(f: Features) -> Tensor:
    """The literal form of somebody who knows what costs: in place, no gradient to frozen halves."""
    with torch.no_grad():
        place = torch.maximum(
            f.video_spatial @ f.video_spatial.T, f.sensor_spatial @ f.sensor_spatial.T
        ).relu_()
        both = torch.cat([f.video_momentum, f.sensor_momentum], dim=1)
        motion = (both @ both.T).mul_(0.5).relu_()
        damping = motion.mul_(place).neg_().add_(1.0)
        weight = place.mul_(LAMBDA_HARD - 1.0).add_(1.0).mul_(damping).clamp_(min=0.0)
        weight.fill_diagonal_(0.0)
        frozen = f.video_spatial @ f.sensor_spatial.T
    scale = 1.0 / TAU
    logits = torch.addmm(frozen, f.video_temporal, f.sensor_temporal.T, beta=scale, alpha=scale)
    return _from_exponentials(logits, weight)


def _weight(f: Features) -> Tensor:
    """W of Eq. 7 to 11, [N, N], with a zero diagonal."""
    with torch.no_grad():
        video = f.video_spatial @ f.video_spatial.T
        sensor = f.sensor_spatial @ f.sensor_spatial.T
        place = torch.maximum(video, sensor).relu()
        video = f.video_momentum @ f.video_momentum.T
        sensor = f.sensor_momentum @ f.sensor_momentum.T
        motion = (0.5 * (video + sensor)).relu()
        weight = (1.0 + (LAMBDA_HARD - 1.0) * place) * (1.0 - place * motion)
        return weight.clamp(min=0.0).fill_diagonal_(0.0)


def _from_exponentials(logits: Tensor, weight: Tensor) -> Tensor:
    negatives = weight * logits.exp()
    positive = logits.diagonal()
    alone = positive.exp()
    video = (alone + negatives.sum(dim=1)).log()
    sensor = (alone + negatives.sum(dim=0)).log()
    return 0.5 * (video + sensor - 2 * positive).mean()
