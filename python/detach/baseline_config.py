"""Knobs of the rivals, as frozen dataclasses. Standard library only.

Defaults are each rival in good order for windows of ours. What the authors of DETACH seem to have
run instead is a row of `detach.reproduce`, made of overrides. Epochs, batches, learning rate and
schedule are those of the two stages of the method, so that all rivals train alike.
"""

import math
from dataclasses import dataclass
from typing import Literal

from detach.ranges import check

View = Literal["noise", "scale", "negate", "reverse", "permute"]


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """The reference that learns from labels alone: a sensor encoder and a linear head."""

    epochs: int = 40
    least_steps: int = 500
    """Few windows are gone through more often, until there were so many steps."""
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        check("epochs", self.epochs, self.epochs >= 1, ">= 1")
        check("least_steps", self.least_steps, self.least_steps >= 1, ">= 1")
        check("batch_size", self.batch_size, self.batch_size >= 2, ">= 2")
        rate, decay = self.learning_rate, self.weight_decay
        check("learning_rate", rate, 0 < rate < math.inf, "> 0 and finite")
        check("weight_decay", decay, 0 <= decay < math.inf, ">= 0 and finite")

    def passes(self, windows: int) -> int:
        """Epochs over so many labelled windows."""
        steps = -(-windows // self.batch_size)
        return max(self.epochs, -(-self.least_steps // steps))


@dataclass(frozen=True, kw_only=True)
class Imu2ClipConfig:
    """IMU2CLIP (arXiv 2210.14395) without its text branch."""

    samples: int = 500
    """What a window is brought to before the convolutions, which leave 14 steps of 500 samples, 32
    of the 1000 they were made for, and one of 150."""
    fit: Literal["resize", "pad"] = "resize"
    """Bring it there by linear interpolation, or by zeros at the end."""
    least_steps: int = 2
    """Fewer steps than this are refused: a recurrent layer over one has nothing to remember."""
    temperature: float = 0.1
    """Where the learned temperature starts."""

    def __post_init__(self) -> None:
        _check_stack(self.samples, self.least_steps, pool_last=True)
        check("temperature", self.temperature, 1e-2 <= self.temperature <= 100, "in [0.01, 100]")


@dataclass(frozen=True, kw_only=True)
class PrimusConfig:
    """PRIMUS (ICASSP 2025) without its text branch."""

    samples: int = 500
    """What a window is resized to before the convolutions; 128 leaves one step, repeated 32
    times."""
    least_steps: int = 2
    temperature: float = 0.1
    """Where both learned temperatures start."""
    views: tuple[View, ...] = ("scale", "permute")
    """How the second view of a window is made; its own. Cut points and factors are drawn for each
    window and channel, as was meant."""
    self_share: float = 0.5
    """c: share of the terms between views; the rest goes to those with the video."""
    neighbours: bool = True
    """Whether the nearest window in the queue is a positive too."""
    queue: int | None = None
    """Windows remembered; None takes half of those trained on, at most 8192."""
    negatives: Literal["batch", "queue"] = "batch"
    """Whether remembered windows are negatives as well, other than the window itself."""
    momentum: float = 0.99
    """Of the slow copies whose features are remembered; 0 remembers those being trained."""

    def __post_init__(self) -> None:
        _check_stack(self.samples, self.least_steps, pool_last=False)
        check("temperature", self.temperature, 1e-2 <= self.temperature <= 100, "in [0.01, 100]")
        known = set(View.__args__)  # type: ignore[attr-defined]
        check("views", self.views, set(self.views) <= known, f"some of {', '.join(sorted(known))}")
        some = bool(self.views) or self.self_share == 0
        check("views", self.views, some, "one at least where self_share is above 0")
        check("self_share", self.self_share, 0 <= self.self_share < 1, "in [0, 1)")
        check("queue", self.queue, self.queue is None or self.queue >= 2, ">= 2")
        check("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class ComodoConfig:
    """COMODO (arXiv 2503.07259): distils a frozen video encoder through a queue."""

    teacher_epochs: int | None = None
    """Epochs in which the video encoder learns by itself, two views of a clip against each other;
    None takes stage1.epochs. 0: a teacher that has learned nothing."""
    teacher_temperature: float = 0.1
    student_temperature: float = 0.05
    hidden: int = 512
    """Of both heads."""
    output: int = 128
    """Width in which similarities are compared."""
    queue: int | None = None
    """Teacher vectors compared with; None takes a share of the windows, at most 16384."""
    queue_share: float = 0.5
    """Of the windows trained on."""
    probe: Literal["encoder", "head"] = "encoder"
    """What is recognised from: the encoder, as in COMODO, or its head's output."""

    def __post_init__(self) -> None:
        epochs = self.teacher_epochs
        check("teacher_epochs", epochs, epochs is None or epochs >= 0, ">= 0")
        for name in ("teacher_temperature", "student_temperature"):
            value = getattr(self, name)
            check(name, value, 1e-3 <= value <= 100, "in [0.001, 100]")
        check("hidden", self.hidden, self.hidden >= 8, ">= 8")
        check("output", self.output, self.output >= 4 and self.output % 2 == 0, "even and >= 4")
        check("queue_share", self.queue_share, 0 < self.queue_share <= 1, "in (0, 1]")
        check("queue", self.queue, self.queue is None or self.queue >= 2, ">= 2")


@dataclass(frozen=True, kw_only=True)
class CavMaeConfig:
    """CAV-MAE (ICLR 2023), which is EVI-MAE (ECCV 2024) without its graph of worn sensors."""

    samples: int = 128
    """What a window is resized to before its spectrogram."""
    window: int = 24
    """Samples under the spectrogram's window."""
    hop: int = 4
    bins: int = 32
    """Frequencies kept, evenly from 0 to Nyquist."""
    patch: int = 8
    """Side of the patches of spectrogram and picture."""
    tubelet: int = 2
    """Frames in a video patch."""
    depth: int = 4
    """Blocks of each modality's encoder; one joint block and two of the decoder follow."""
    sensor_mask: float = 0.75
    video_mask: float = 0.9
    masked_weight: float = 1.0
    contrast_weight: float = 0.01
    temperature: float = 0.05

    def __post_init__(self) -> None:
        check("samples", self.samples, self.samples >= 16, ">= 16")
        check("window", self.window, 2 <= self.window <= self.samples, f"in [2, {self.samples}]")
        check("hop", self.hop, 1 <= self.hop <= self.samples, f"in [1, {self.samples}]")
        check("patch", self.patch, self.patch >= 2, ">= 2")
        fits = self.bins >= self.patch and self.bins % self.patch == 0
        check("bins", self.bins, fits, f"a multiple of patch, {self.patch}")
        steps = self.samples // self.hop
        check("hop", self.hop, steps % self.patch == 0, f"so that samples / hop is {self.patch} k")
        patches = (self.bins // self.patch) * (steps // self.patch)
        must = f"so small that {self.bins} x {steps} are 2 patches at least, one of them hidden"
        check("patch", self.patch, patches >= 2, must)
        check("tubelet", self.tubelet, self.tubelet >= 1, ">= 1")
        check("depth", self.depth, self.depth >= 1, ">= 1")
        for name in ("sensor_mask", "video_mask"):
            share = getattr(self, name)
            check(name, share, 0 < share < 1, "in (0, 1)")
        for name in ("masked_weight", "contrast_weight"):
            weight = getattr(self, name)
            check(name, weight, 0 <= weight < math.inf, ">= 0 and finite")
        check("temperature", self.temperature, 1e-3 <= self.temperature <= 100, "in [0.001, 100]")


@dataclass(frozen=True, kw_only=True)
class MasaConfig:
    """Our interpretation of MASA (arXiv 2503.12519), or CASA (CVPR 2022), on joints."""

    form: Literal["masa", "casa"] = "masa"
    width: int = 64
    heads: int = 4
    layers: int = 4
    """Of attention within a view and across two, each."""
    frames: int = 24
    """Of a view, however long it lasts."""
    temperature: float = 0.1
    """Of the softmax over frames."""
    cluster_temperature: float = 0.1
    cluster_weight: float = 0.1
    """Of the contrast of clips; 0 matches frames alone."""
    speed: float = 0.5
    """Spread of the logarithm of a view's speed."""
    cut: float = 0.15
    """Largest share that a view leaves out at either end."""
    chance: float = 0.3
    """Of each other change."""
    unsteady: float = 0.02
    """Standard deviation of joints, metres."""
    place: float = 0.1
    """Standard deviation of where the person is, metres."""
    learning_rate: float = 1e-3
    batch_size: int = 24
    steps: int = 300

    def __post_init__(self) -> None:
        check("heads", self.heads, self.heads >= 1, ">= 1")
        fits = self.width >= 8 and self.width % (2 * self.heads) == 0
        check("width", self.width, fits, f"a multiple of 2 heads, {2 * self.heads}")
        check("layers", self.layers, self.layers >= 1, ">= 1")
        check("frames", self.frames, self.frames >= 4, ">= 4")
        for name in ("temperature", "cluster_temperature"):
            value = getattr(self, name)
            check(name, value, 1e-3 <= value <= 100, "in [0.001, 100]")
        for name in ("cluster_weight", "unsteady", "place"):
            value = getattr(self, name)
            check(name, value, 0 <= value < math.inf, ">= 0 and finite")
        check("speed", self.speed, 0 <= self.speed <= 10, "in [0, 10]")
        check("cut", self.cut, 0 <= self.cut < 0.5, "in [0, 0.5)")
        check("chance", self.chance, 0 <= self.chance <= 1, "in [0, 1]")
        rate = self.learning_rate
        check("learning_rate", rate, 0 < rate < math.inf, "> 0 and finite")
        check("batch_size", self.batch_size, self.batch_size >= 2, ">= 2")
        check("steps", self.steps, self.steps >= 1, ">= 1")


def steps_left(samples: int, *, pool_last: bool) -> int:
    """Steps that the convolutions of IMU2CLIP, or of PRIMUS, leave of a window; at least 0.

    Kernels of 10, 5 and 5, dilated by 2, each pooled by 3. PRIMUS does not pool the last but
    averages it to a fixed length: ``pool_last`` is False.
    """
    for kernel, pooled in ((10, 3), (5, 3), (5, 3 if pool_last else 1)):
        samples = max(samples - 2 * (kernel - 1), 0) // pooled
    return samples


def _check_stack(samples: int, least: int, *, pool_last: bool) -> None:
    check("least_steps", least, 1 <= least <= 1000, "in [1, 1000]")
    left = steps_left(samples, pool_last=pool_last)
    enough = next(n for n in range(10**5) if steps_left(n, pool_last=pool_last) >= least)
    must = (
        f">= {enough}: the convolutions leave {left} steps of {samples} samples, fewer than "
        f"least_steps = {least}"
    )
    check("samples", samples, left >= least, must)
