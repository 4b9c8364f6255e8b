"""Stage 2: align motion within places. Section 3.2 of the paper.

Spatial encoders stand still and their features are computed once; temporal encoders learn under the
weighted contrastive loss, whose weights see momentum copies. N windows, d feature width.
"""

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from detach import signs
from detach.augment import colour_change, recolour, time_warp
from detach.checkpoint import Stateful, write_whole
from detach.config import RunConfig
from detach.course import Course, batches_in
from detach.data.windows import Windows
from detach.distributed import World, contrastive_loss, gather_features
from detach.model import Detach, batches, embed, load_batch
from detach.optimizers import Stepper
from detach.stage2_loss import CONTROLS, Features, Overlap, is_operator, stage2_loss
from detach.stage2_loss import loss_options as loss_options  # offered here too
from detach.video_encoders import motion_input, shrink

KEPT = "momentum/epoch{}.safetensors"
"""Momentum copies after some epochs, in the run folder."""
WATCHED = 512
"""Windows on which failure signatures are looked for after an epoch."""


def train_temporal(
    model: Detach, windows: Windows, index: NDArray[np.int64], course: Course, config: RunConfig
) -> None:
    """Trains both temporal encoders on the windows ``index``; all that is spatial stays frozen."""
    stage, device, world = config.stage2, next(model.parameters()).device, course.world
    freeze_spatial(model)
    trained = nn.ModuleList([model.sensor_temporal, model.video_temporal])
    steps = stage.epochs * batches_in(len(index), stage.batch_size)
    stepper = Stepper(
        trained.parameters(),
        stage,
        steps,
        config,
        device,
        buffers=trained.buffers(),
        reduce=world.sum_gradients,
    )
    momentum = MomentumEncoders(model, config)
    place: Places | None = None
    parts: dict[str, Stateful] = {
        "model": model,
        "stepper": stepper,
        "momentum": momentum.encoders,
    }
    for epoch in course.epochs("stage2", stage.epochs, parts):
        if place is None:  # not sooner: a run that resumes has its weights back only here
            place = Places.of(model, windows, index, world)
            share = signs.start_share(stage.momentum, steps, ramp=stage.momentum_ramp)
            course.warn(signs.of_momentum(share) if momentum.needed else ())
        trained.train()
        for rows, (samples, frames, flow) in course.steps(
            len(index),
            stage.batch_size,
            lambda i: load_batch(windows, index[i], flow=config.encoders.flow, device=device),
        ):
            motion = motion_input(frames, config.encoders.motion_size_px, flow)
            with stepper.forward():
                loss = _loss(model, place.rows(rows), samples, motion, momentum, course, config)
            if not course.add(stepper.step(loss), contrast=loss):
                stepper.take_back()
                continue
            momentum.update(epoch * batches_in(len(index), stage.batch_size) + course.step)
        _watch(model, windows, index, place, course)
        course.close_epoch()
        if momentum.needed and epoch + 1 in kept_epochs(stage.epochs):
            kept = course.folder / KEPT.format(epoch + 1)
            course.world.lead(partial(momentum.keep, kept))


def _loss(
    model: Detach,
    place: "Places",
    samples: Tensor,
    motion: Tensor,
    momentum: "MomentumEncoders",
    course: Course,
    config: RunConfig,
) -> Tensor:
    """This process's share of the loss of one batch, whose windows are all in ``place``.

    Only trained encoders see augmented input.
    """
    slow = momentum(motion, samples)
    generator = course.generator()
    if config.augment.time_warp and course.epoch > 0:
        samples = time_warp(samples, config.augment.time_warp, generator, course.share)
    if config.augment.colour_jitter:
        strength = config.augment.colour_jitter
        change = colour_change(len(samples), strength, generator, course.share)
        motion = recolour(motion, change[0])
    video, sensor = model.video_temporal(motion), model.sensor_temporal(samples)
    stage, plain, share, world = (
        *(config.stage2, config.method == "infonce"),
        *(course.share, course.world),
    )
    own = Features(place.video[share.rows], video.float(), place.sensor[share.rows], sensor.float())
    slow = slow or (video.detach().float(), sensor.detach().float())
    if not world.alone and is_operator(stage, plain=plain) and not stage.mask_overlap:
        options = loss_options(stage, plain=plain)
        return contrastive_loss(world, (*own, *slow), share.whole, **options)
    whole = gather_features(world, (*own, *slow), share.whole)
    loss = stage2_loss(
        Features(*whole[:4]),
        (whole[4], whole[5]),
        stage,
        plain=plain,
        overlap=Overlap(place.recording, place.start_s, config.windows.seconds),
    )
    return loss / world.size  # each process computes all of it


def kept_epochs(epochs: int) -> tuple[int, int]:
    """After which epochs momentum copies are kept: two fifths on (20 of 50 in Fig. 4) and last."""
    return max(1, round(0.4 * epochs)), epochs


def freeze_spatial(model: Detach) -> None:
    """No gradient and no running statistics move in what stage 1 has trained."""
    for part in (
        model.sensor_spatial,
        model.video_spatial,
        model.sensor_places,
        model.video_places,
    ):
        part.eval().requires_grad_(False)


@dataclass(frozen=True)
class Places:
    """Frozen place features of windows, [N, d] each, their cluster, [N], and where they are."""

    video: Tensor
    sensor: Tensor
    label: Tensor
    recording: Tensor
    """Where each window is, [N], int64."""
    start_s: Tensor
    """When it starts there, [N]."""

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: Detach, windows: Windows, index: NDArray[np.int64], world: World
    ) -> "Places":
        """Encodes un-augmented input once, each process its share."""
        device = next(model.parameters()).device
        video, sensor = [], []
        for piece in batches(index[world.share(len(index)).rows], 256):
            samples, frames, _ = load_batch(windows, piece, flow=False, device=device)
            sensor.append(model.place_of_sensors(samples))
            video.append(model.place_of_video(shrink(frames, None)))
        seen, felt = (world.collect(torch.cat(x), len(index)) for x in (video, sensor))
        where = torch.from_numpy(windows.recording[index].astype(np.int64)).to(device)
        when = torch.from_numpy(windows.start_s[index]).to(device)
        return cls(seen, felt, model.nearest(felt), where, when)

    def rows(self, rows: NDArray[np.int64]) -> "Places":
        """Those of one batch."""
        chosen = torch.from_numpy(rows).to(self.label.device)
        parts = (self.video, self.sensor, self.label, self.recording, self.start_s)
        return Places(*(part[chosen] for part in parts))


class MomentumEncoders:
    """Slow copies of the temporal encoders, in eval mode, that the weights are computed from."""

    def __init__(self, model: Detach, config: RunConfig) -> None:
        self._online = nn.ModuleList([model.video_temporal, model.sensor_temporal])
        self._stage = config.stage2
        stage = config.stage2
        looks = stage.temporal != "none" and stage.negatives in {"weighted", *CONTROLS}
        self.needed = config.method != "infonce" and looks and stage.detach_weight
        """Whether the loss looks at temporal similarity at all."""
        self.encoders = copy.deepcopy(self._online)
        self.encoders.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, motion: Tensor, samples: Tensor) -> tuple[Tensor, Tensor] | None:
        """Video and sensor features [n, d], or None where nobody needs them."""
        if not self.needed:
            return None
        video, sensor = self.encoders
        return video(motion).float(), sensor(samples).float()

    def keep(self, path: Path) -> None:
        """Writes the copies as they stand, for figures of how W came to be."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.encoders.state_dict().items()}
        path.parent.mkdir(exist_ok=True)
        write_whole(path, save(tensors))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the copies towards the trained encoders; buffers are copied."""
        m = self._stage.momentum
        if self._stage.momentum_ramp:
            m = min(m, (1 + step) / (10 + step))
        for slow, fast in zip(self.encoders.parameters(), self._online.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - m)
        for old, new in zip(self.encoders.buffers(), self._online.buffers(), strict=True):
            old.copy_(new)


def _watch(
    model: Detach,
    windows: Windows,
    index: NDArray[np.int64],
    place: Places,
    course: Course,
) -> None:
    """Looks for failure signatures on a few windows, in the second half of the stage."""
    if course.progress < 0.5:
        return
    rows = np.linspace(0, len(index) - 1, min(WATCHED, len(index))).astype(np.int64)
    features = embed(model, windows, index[rows])
    raw = torch.from_numpy(windows.samples[index[rows]]).flatten(1)
    course.warn(
        signs.of_motion(
            place.rows(rows).label.cpu(),
            torch.from_numpy(features.video_temporal),
            torch.from_numpy(features.sensor_temporal),
            raw,
        )
    )
