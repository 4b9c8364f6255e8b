"""Stage 1: find places. Section 3.1 of the paper.

Sensor activation is clustered online; a video encoder learns the confident labels; then, frozen,
it corrects the ambiguous ones. N windows of the pretraining part, K clusters, d feature width.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detach import equations, signs
from detach.augment import colour_change, recolour
from detach.checkpoint import Stateful
from detach.clustering import OnlineClustering
from detach.config import RunConfig
from detach.course import Course, batches_in
from detach.data.windows import Windows
from detach.distributed import World
from detach.model import Detach, batches
from detach.optimizers import Stepper
from detach.video_encoders import shrink


def train_spatial(
    model: Detach, windows: Windows, index: NDArray[np.int64], course: Course, config: RunConfig
) -> None:
    """Trains both spatial encoders on the windows ``index`` and leaves centroids in the model."""
    stage, device, world = config.stage1, next(model.parameters()).device, course.world
    pictures = Pictures(windows, index, config)
    features = _sensor_features(model, windows, index, world)
    clustering = OnlineClustering.start(features, len(model.centroids), config.seed, world)
    trained = nn.ModuleList(
        [model.sensor_spatial, model.sensor_places, model.video_spatial, model.video_places]
    )
    if stage.pseudo_labels == "random":
        clustering.shuffle(config.seed)
    a_epoch = batches_in(len(index), stage.batch_size)
    steps = stage.epochs * a_epoch
    stepper = Stepper(
        trained.parameters(),
        stage,
        steps,
        config,
        device,
        buffers=trained.buffers(),
        reduce=world.sum_gradients,
    )
    work = _Work(model, clustering, course, config)
    total = stage.epochs if stage.refine else min(work.refine_from, stage.epochs)
    parts: dict[str, Stateful] = {"model": model, "stepper": stepper, "clustering": clustering}
    parts["bank"] = clustering.memory_bank
    for _ in course.epochs("stage1", total, parts):
        model.train()
        course.warn(signs.of_schedule(stage, stage2=config.stage2.epochs > 0))
        if work.video_frozen:
            model.video_spatial.eval()
            work.video_said = work.video_said or _video_labels(
                model, pictures, stage.batch_size, world
            )
        for rows, (samples, frames) in course.steps(
            len(index),
            stage.batch_size,
            lambda i: pictures.load(i, device, with_frames=work.video_learns),
        ):
            chosen = torch.from_numpy(rows)
            with stepper.forward():
                features, losses = work.losses(chosen, samples, frames)
            if not course.add(stepper.step(losses["sensor"] + losses["video"]), **losses):
                stepper.take_back()
                continue
            free = stage.pseudo_labels == "clustered"
            clustering.update(chosen, features, stage.bank_momentum, assign=free)
            done = course.epoch * a_epoch + course.step + 1
            if stage.centroid_every and done % stage.centroid_every == 0:
                clustering.update_centroids()
        settled = work.close_epoch(last=course.epoch == total - 1)
        model.centroids.copy_(clustering.centroids)
        if settled:
            break


@dataclass
class _Work:
    """What one epoch of stage 1 needs to know."""

    model: Detach
    clustering: OnlineClustering
    course: Course
    config: RunConfig
    video_said: tuple[Tensor, Tensor] | None = None
    """Label and certainty [N] by the frozen video encoder."""

    @property
    def refine_from(self) -> int:
        return self.config.stage1.warmup_epochs + self.config.stage1.joint_epochs

    @property
    def joint(self) -> bool:
        return self.course.epoch >= self.config.stage1.warmup_epochs

    @property
    def refining(self) -> bool:
        return self.config.stage1.refine and self.course.epoch >= self.refine_from

    @property
    def video_frozen(self) -> bool:
        return self.refining and self.config.stage1.freeze_video

    @property
    def video_learns(self) -> bool:
        return self.joint and not self.video_frozen

    def losses(
        self, rows: Tensor, samples: Tensor, frames: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [n, d] of a whole batch, and this process's share of its losses.

        ``rows`` [n] are the batch's, ``samples`` and ``frames`` this process's.
        """
        stage, model, world = self.config.stage1, self.model, self.course.world
        label = self.clustering.label[rows].to(samples.device)
        sure = self.clustering.confident[rows].to(samples.device)
        features = world.gather(model.sensor_spatial(samples), len(rows))
        if stage.head == "learnable":
            logits = model.sensor_places(features)
        else:
            logits = self.clustering.logits(features, stage.cluster_temperature)
        used = sure if self.joint and stage.cluster_on == "confident" else torch.ones_like(sure)
        sizes = self.clustering.sizes.to(samples.device)
        cluster = equations.cluster_loss(logits[used], label[used], sizes)
        video = refine = torch.zeros((), device=samples.device)
        seen: Tensor | None = None
        if frames is not None:
            looked = model.video_places(_look(model, frames, self.course, self.config))
            seen = world.gather(looked, len(rows))
            video = equations.video_spatial_loss(seen, label, sure)
        if self.refining:
            guess, certainty = self._video_opinion(rows, seen)
            corrected = ~sure & (certainty >= stage.video_gate)
            hard = F.one_hot(guess, logits.shape[1])
            refine = equations.refine_loss(logits, hard, corrected)
        sensor = equations.sensor_loss(cluster, refine, alpha=stage.alpha, beta=stage.beta)
        losses = {"sensor": sensor, "cluster": cluster, "video": video, "refine": refine}
        return features, {name: loss / world.size for name, loss in losses.items()}

    def _video_opinion(self, rows: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.video_said is not None:
            device = self.model.centroids.device
            return self.video_said[0][rows].to(device), self.video_said[1][rows].to(device)
        if seen is None:
            raise ValueError("a video encoder that is not frozen must have looked at this batch")
        certainty, guess = seen.detach().float().softmax(dim=1).max(dim=1)
        return guess, certainty

    def close_epoch(self, *, last: bool) -> bool:
        """Centroids, confidence, the epoch's line. True when labels have settled."""
        stage, extra = self.config.stage1, self.course.extra
        seed = (self.config.seed + self.course.epoch) % 2**32
        changed, refilled = self.clustering.end_epoch(stage, seed)
        long_enough = self.course.epoch + 1 >= self.refine_from + 3
        quiet = changed < stage.stop_change and long_enough
        extra["quiet"] = extra.get("quiet", 0) + 1 if quiet else 0
        settled = bool(extra["quiet"] >= 2)
        sizes = self.clustering.sizes
        self.course.warn(signs.of_clusters(sizes, changed, last_epoch=last and not settled))
        self.course.close_epoch(
            change_rate=changed,
            clusters_size=sizes.tolist(),
            refilled=refilled,
            confident=float(self.clustering.confident.float().mean()),
            phase="refine" if self.refining else "joint" if self.joint else "cluster",
        )
        return settled


class Pictures:
    """Samples and pictures of the pretraining windows for stage 1.

    Where pixels are averaged, each window is one picture, made once and kept: 8 kB at 48 px.
    """

    def __init__(self, windows: Windows, index: NDArray[np.int64], config: RunConfig) -> None:
        self.windows, self.index = windows, index
        self.mean = config.encoders.average == "pixels"
        self._kept: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def frames(self, rows: NDArray[np.int64]) -> Tensor:
        """[n, 1 or F, H, W, 3], uint8."""
        if not self.mean:
            return torch.from_numpy(self.windows.frames(self.index[rows]))
        if self._kept is None:
            means = [_mean_picture(self.windows.frames(i)) for i in batches(self.index, 256)]
            self._kept = np.concatenate(means)
        return torch.from_numpy(self._kept[rows])

    def load(
        self, rows: NDArray[np.int64], device: torch.device, *, with_frames: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Samples [n, T, C] and, where asked, frames."""
        samples = torch.from_numpy(self.windows.samples[self.index[rows]]).to(device)
        return samples, self.frames(rows).to(device) if with_frames else None


def _mean_picture(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mean: NDArray[np.float32] = frames.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.asarray(np.rint(mean), dtype=np.uint8)


def _look(model: Detach, frames: Tensor, course: Course, config: RunConfig) -> Tensor:
    """Video place features [n, d] of a training batch, recoloured as the preset says."""
    video = shrink(frames, None)
    strength = config.augment.colour_jitter
    if strength:
        video = recolour(
            video, *colour_change(len(video), strength, course.generator(), course.share)
        )
    return model.video_spatial(video)  # type: ignore[no-any-return]


@torch.no_grad()
def _sensor_features(
    model: Detach, windows: Windows, index: NDArray[np.int64], world: World
) -> Tensor:
    """Place features [n, d] of the sensors, in eval mode: this process's share of all N."""
    device = next(model.parameters()).device
    model.eval()
    own = index[world.share(len(index)).rows]
    samples = (torch.from_numpy(windows.samples[i]).to(device) for i in batches(own, 512))
    return torch.cat([model.sensor_spatial(x).float().cpu() for x in samples])


@torch.no_grad()
def _video_labels(
    model: Detach, pictures: Pictures, batch: int, world: World
) -> tuple[Tensor, Tensor]:
    """Label and softmax certainty [N] that the video gives each window as it stands."""
    device = next(model.parameters()).device
    model.video_spatial.eval()
    said = []
    own = np.arange(len(pictures))[world.share(len(pictures)).rows]
    for rows in batches(own, batch):
        frames = pictures.frames(rows).to(device)
        said.append(model.video_places(model.video_spatial(shrink(frames, None))).float())
    logits = world.collect(torch.cat(said), len(pictures)).cpu()
    certainty, guess = logits.softmax(dim=1).max(dim=1)
    return guess, certainty
