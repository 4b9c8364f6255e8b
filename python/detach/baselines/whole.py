"""Global alignment: one encoder a modality, plain InfoNCE, no places and no stages.

What IMU2CLIP and its kin do once the text branch is gone, with encoders of the size of ours.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detach import ops
from detach.augment import colour_change, recolour, time_warp
from detach.checkpoint import Stateful
from detach.config import RunConfig
from detach.course import Course
from detach.data.windows import Windows
from detach.encoders import shrink
from detach.model import Global, load_batch
from detach.optimizers import Stepper


def train_global(
    model: Global,
    windows: Windows,
    index: NDArray[np.int64],
    course: Course,
    config: RunConfig,
) -> None:
    """Trains on the windows ``index`` for the epochs both stages of the method have together."""
    stage = config.stage2
    total = config.stage1.epochs + stage.epochs
    device = next(model.parameters()).device
    steps = total * -(-len(index) // stage.batch_size)
    stepper = Stepper(model.parameters(), stage, steps, config, device)
    parts: dict[str, Stateful] = {"model": model, "stepper": stepper}
    model.train()
    for _ in course.epochs("global", total, parts):
        for _, (samples, frames, _flow) in course.steps(
            len(index),
            stage.batch_size,
            lambda i: load_batch(windows, index[i], flow=False, device=device),
        ):
            generator = course.generator()
            with stepper.autocast():
                loss = _loss(model, samples, frames, course.epoch, generator, config)
            stepper.step(loss)
            course.add(contrast=loss)
        course.close_epoch()


def _loss(
    model: Global,
    samples: Tensor,
    frames: Tensor,
    epoch: int,
    generator: torch.Generator,
    config: RunConfig,
) -> Tensor:
    augment = config.augment
    if augment.time_warp and epoch > 0:
        samples = time_warp(samples, augment.time_warp, generator)
    video = shrink(frames, config.encoders.motion_size_px)
    if augment.colour_jitter:
        video = recolour(video, *colour_change(len(video), augment.colour_jitter, generator))
    seen, felt = model.video(video), model.sensor(samples)
    seen_halves, felt_halves = (z.float().chunk(2, dim=1) for z in (seen, felt))
    return ops.weighted_contrastive_loss(
        *seen_halves,
        *felt_halves,
        temperature=config.stage2.temperature,
        lambda_hard=1.0,
        temporal="none",
    )
