"""Trains MASA, as we read it, or CASA on skeletons, and embeds them frame by frame. One model."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from detach.alignment.measures import Clip
from detach.alignment.skeletons import JOINTS, MIRRORED, Skeleton
from detach.baseline_config import MasaConfig
from detach.baselines.masa import Masa
from detach.errors import DataError

FRAMES = 64
"""To which clips are brought for training, so that they make a batch."""
CLIP_NORM = 0.5


def fit_masa(
    skeletons: Sequence[Skeleton],
    settings: MasaConfig,
    *,
    seed: int,
    say: Callable[[str], None] = print,
) -> Masa:
    """One model over all actions, without labels of any kind.

    Raises:
        DataError: Fewer clips than two.
    """
    if len(skeletons) < 2:
        raise DataError(f"at least 2 clips are needed to train on, got {len(skeletons)}")
    clips = torch.stack([_resized(s) for s in skeletons])
    model, generator = untrained(settings, seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    mirrored = torch.tensor(MIRRORED)
    for step in range(settings.steps):
        chosen = torch.randperm(len(clips), generator=generator)[: settings.batch_size]
        terms = model.losses(clips[chosen], mirrored, generator)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
        if (step + 1) % 200 == 0:
            told = "  ".join(f"{k} {v.item():.4f}" for k, v in terms.items())
            say(f"{settings.form} step {step + 1}/{settings.steps}  {told}")
    return model.eval()


def untrained(settings: MasaConfig, seed: int) -> Masa:
    """The model as it is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Masa(len(JOINTS), settings).eval()


@torch.no_grad()
def embedded(model: Masa, skeletons: Sequence[Skeleton]) -> list[Clip]:
    """Every frame of every clip, at its own length."""
    return [
        Clip(s.action, model.embed(torch.from_numpy(s.joints)[None])[0].numpy(), s.phase)
        for s in skeletons
    ]


def raw(skeletons: Sequence[Skeleton]) -> list[Clip]:
    """The joints themselves, for comparison."""
    return [
        Clip(s.action, s.joints.reshape(len(s.joints), -1).astype(np.float32), s.phase)
        for s in skeletons
    ]


def _resized(skeleton: Skeleton) -> Tensor:
    """Joints [64, J, 3] by linear interpolation."""
    joints = torch.from_numpy(skeleton.joints).flatten(1).T[None]
    sized = torch.nn.functional.interpolate(joints, FRAMES, mode="linear", align_corners=True)
    frames: Tensor = sized[0].T.unflatten(1, (-1, 3))
    return frames
