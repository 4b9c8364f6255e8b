"""Trains MASA, as we read it, or CASA on skeletons, and embeds them frame by frame. One model."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from detach.alignment.measures import Clip
from detach.alignment.skeletons import JOINTS, MIRRORED, Skeleton
from detach.baseline_config import MasaConfig
from detach.baselines.masa import Clips, Masa
from detach.errors import DataError

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
    clips = together(skeletons)
    model, generator = untrained(settings, seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    mirrored = torch.tensor(MIRRORED)
    for step in range(settings.steps):
        chosen = torch.randperm(len(skeletons), generator=generator)[: settings.batch_size]
        some = Clips(clips.joints[chosen], clips.lengths[chosen])
        terms = model.losses(some, mirrored, generator)
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


@torch.no_grad()
def embedded_so_far(model: Masa, skeletons: Sequence[Skeleton]) -> list[Clip]:
    """Every frame as the last of those seen until then: what follows is not known."""
    clips = together(skeletons)
    found = torch.zeros(*clips.joints.shape[:2], model.settings.width)
    for frames in range(1, clips.joints.shape[1] + 1):
        going = clips.lengths >= frames
        found[going, frames - 1] = model.embed(clips.joints[going, :frames])[:, -1]
    return [
        Clip(s.action, found[i, : len(s.phase)].numpy(), s.phase) for i, s in enumerate(skeletons)
    ]


def raw(skeletons: Sequence[Skeleton]) -> list[Clip]:
    """The joints themselves, for comparison."""
    return [
        Clip(s.action, s.joints.reshape(len(s.joints), -1).astype(np.float32), s.phase)
        for s in skeletons
    ]


def together(skeletons: Sequence[Skeleton]) -> Clips:
    """Clips at their own lengths, with zeros up to the longest."""
    joints = [torch.from_numpy(s.joints) for s in skeletons]
    lengths = torch.tensor([len(j) for j in joints])
    return Clips(pad_sequence(joints, batch_first=True), lengths)
