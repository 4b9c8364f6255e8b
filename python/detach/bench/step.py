"""`detach bench step`: one step of stage 2 at recipe `small`, and the loss's share of it.

Random windows of the right size; nothing is read or saved. The step is that of
`detach.train_temporal`, with the loss's backward cut off from the encoders' so that it is timed.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detach import equations, ops, recipes
from detach.augment import colour_change, recolour, time_warp
from detach.bench.options import Options, machine
from detach.bench.table import Benchmark, Block, Row
from detach.bench.timing import Clock, clock_of, interleave, threads
from detach.config import RunConfig
from detach.model import Detach, build
from detach.optimizers import Stepper
from detach.train_temporal import MomentumEncoders, freeze_spatial, loss_options
from detach.video_encoders import motion_input, shrink

RECIPE = "small"
CHANNELS, CLUSTERS = 34, 8
STAGES = ("input", "momentum encoders", "encoders", "loss", "encoders, backward", "optimizer")
"""In the order of a step; ``loss`` is forward and backward."""

LossOf = Callable[..., Tensor]
LOSSES: dict[str, LossOf] = {
    "detach": ops.weighted_contrastive_loss,
    "equations": equations.weighted_contrastive_loss,
}


class TrainingStep:
    """Stage 2 on one batch of ``n`` random windows, again and again."""

    def __init__(self, n: int, loss: LossOf, config: RunConfig, device: torch.device) -> None:
        self.config, self.device, self._loss = config, device, loss
        model = build(config, CHANNELS, CLUSTERS).to(device)
        if not isinstance(model, Detach):
            raise TypeError(f"recipe {RECIPE} must train detach, got {config.method}")
        self.model = model
        freeze_spatial(model)
        trained = nn.ModuleList([model.sensor_temporal, model.video_temporal])
        self._stepper = Stepper(trained.parameters(), config.stage2, 10**6, config, device)
        self._momentum = MomentumEncoders(model, config)
        self._samples, self._frames = _windows(n, config, device)
        with torch.no_grad():
            self._place_video = model.place_of_video(shrink(self._frames, None))
            self._place_sensor = model.place_of_sensors(self._samples)
        self._random = torch.Generator().manual_seed(0)
        self.spent: list[tuple[float, ...]] = []
        """Seconds of each stage, one entry a step."""
        self.now: Callable[[], float] = time.process_time

    def __call__(self) -> Tensor:
        """One step; returns the loss."""
        at = [self._time()]
        samples, motion = self._input()
        at.append(self._time())
        slow = self._momentum(motion, self._samples)
        at.append(self._time())
        features = self.model.video_temporal(motion), self.model.sensor_temporal(samples)
        at.append(self._time())
        loss, gradients = self._loss_and_gradients(*features, slow)
        at.append(self._time())
        self._stepper.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(features, gradients)
        at.append(self._time())
        self._stepper.optimizer.step()
        self._stepper.schedule.step()
        self._momentum.update(len(self.spent))
        at.append(self._time())
        self.spent.append(tuple(b - a for a, b in itertools.pairwise(at)))
        return loss

    def _input(self) -> tuple[Tensor, Tensor]:
        """Augmented samples and frame differences."""
        augment, count = self.config.augment, len(self._samples)
        motion = motion_input(self._frames, self.config.encoders.motion_size_px, None)
        samples = self._samples
        if augment.time_warp:
            samples = time_warp(samples, augment.time_warp, self._random)
        if augment.colour_jitter:
            motion = recolour(motion, colour_change(count, augment.colour_jitter, self._random)[0])
        return samples, motion

    def _loss_and_gradients(
        self, video: Tensor, sensor: Tensor, slow: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, list[Tensor | None]]:
        leaves = [x.detach().requires_grad_() for x in (video, sensor)]
        words: dict[str, Any] = {**loss_options(self.config.stage2, plain=False)}
        words.pop("transpose", None)  # it makes no difference where W is symmetric
        momentum = slow or (video.detach(), sensor.detach())
        loss = self._loss(
            self._place_video, leaves[0], self._place_sensor, leaves[1], *momentum, **words
        )
        loss.backward()
        return loss.detach(), [x.grad for x in leaves]

    def _time(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.now()


def run(options: Options, say: Callable[[str], None]) -> Benchmark:
    """Times whole steps with our loss and with the equations, and their stages."""
    config = recipes.read(recipes.find(Path(RECIPE)))
    clock = clock_of(options.on, options.threads)
    with threads(options.threads):
        sizes = options.chosen((config.stage2.batch_size,), (config.stage2.batch_size, 1024))
        blocks = [_block(n, config, options, clock, say) for n in sizes]
    return Benchmark(
        "step",
        f"one step of stage 2, recipe {RECIPE}, d = {config.encoders.width}, {clock.name}",
        machine(options),
        tuple(blocks),
        ("Random windows; reading and decoding are not in it. Stages are of the fastest step.",),
    )


def _block(
    n: int, config: RunConfig, options: Options, clock: Clock, say: Callable[[str], None]
) -> Block:
    say(f"N = {n}: {len(LOSSES)} losses in turns, in a whole training step")
    steps = {name: TrainingStep(n, loss, config, options.on) for name, loss in LOSSES.items()}
    if options.threads > 1 or options.on.type == "cuda":
        for step in steps.values():
            step.now = time.perf_counter
    timed = interleave(steps, clock, options.turn_s, options.repeats)
    rows = [Row(name, "step", timed[name].seconds, timed[name].calls) for name in steps]
    notes = []
    for name, step in steps.items():
        fastest = dict(zip(STAGES, min(step.spent, key=sum), strict=True))
        whole = sum(fastest.values())
        rows += [
            Row(f"{name}: {stage}", "stage", seconds, timed[name].calls, seconds / whole)
            for stage, seconds in fastest.items()
        ]
        rate, share = n / timed[name].seconds, fastest["loss"] / whole
        notes.append(f"{name}: {rate:.0f} windows/s, {100 * share:.1f} % of a step in the loss")
    return Block(f"N = {n}", f"random windows, recipe {RECIPE}", n, tuple(rows), tuple(notes),
                 share="step")  # fmt: skip


def _windows(n: int, config: RunConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples [n, T, C] and frames [n, F, H, W, 3], uint8."""
    length = config.sensors.length or round(config.sensors.rate_hz * config.windows.seconds)
    chance = torch.Generator().manual_seed(0)
    samples = torch.randn(n, length, CHANNELS, generator=chance)
    size = config.video.size_px
    shape = (n, config.video.frames, size, size, 3)
    frames = torch.randint(0, 256, shape, generator=chance, dtype=torch.uint8)
    return samples.to(device), frames.to(device)
