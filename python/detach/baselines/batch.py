"""What a rival sees of one training step."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Windows of one step, already warped and recoloured as `AugmentConfig` says."""

    window: Tensor
    """Which windows these are, of those trained on, [n]."""
    samples: Tensor
    """[n, T, C]"""
    clean: Tensor
    """The same, unwarped, [n, T, C]."""
    video: Tensor
    """[n, F, h, w, 3] in about [0, 1]"""
    generator: torch.Generator
    """Random numbers of this very step, on the CPU."""
    step: int
    """Since the start of training, from 0."""
