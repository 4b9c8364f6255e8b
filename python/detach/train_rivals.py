"""Rivals of the method: all in one loop, so that none is trained better than another.

Each gets as many epochs as both stages of the method have together, with the batches, optimizer,
schedule and augmentation of stage 2. N windows of the pretraining part, d feature width.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detach.augment import colour_change, recolour, time_warp
from detach.baselines.batch import Batch
from detach.baselines.comodo import Comodo, start_queue
from detach.baselines.primus import Memory, Primus
from detach.baselines.whole import Global
from detach.checkpoint import Stateful
from detach.config import RunConfig
from detach.course import Course, batches_in
from detach.data.windows import Windows
from detach.errors import UsageError
from detach.key_queue import KeyQueue
from detach.model import Rival, batches, build, load_batch, standing_still
from detach.optimizers import Stepper
from detach.video_encoders import shrink

METHODS = ("global", "imu2clip", "primus", "comodo", "cav-mae")
Losses = Callable[[Batch], Mapping[str, Tensor]]


def fit(
    windows: Windows,
    index: NDArray[np.int64],
    config: RunConfig,
    folder: Path,
    *,
    video_encoder: nn.Module | None = None,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """Trains the rival ``config.method`` on the windows ``index`` and returns its sensor encoder.

    Args:
        windows: Windows with pictures.
        index: Those that are trained on, [n].
        config: What is trained, and how.
        folder: For log and checkpoints.
        video_encoder: Any module from [n, F, 3, H, W] in [0, 1] to [n, 2 encoders.width]; not for
            cav-mae, whose video encoder is made of tokens.
        say: Told in words what is being done.

    Raises:
        ValueError: No rival, windows too short for it, or a video encoder that it cannot take.
        UsageError: As `train_rival`.
    """
    if config.method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {config.method!r}")
    model = cast(Rival, build(config, windows.samples.shape[2], 2, video_encoder=video_encoder))
    course = Course(folder, config.seed, resume=False, say=say)
    train_rival(model, windows, index, course, config)
    return model.sensor


def train_rival(
    model: Rival,
    windows: Windows,
    index: NDArray[np.int64],
    course: Course,
    config: RunConfig,
) -> None:
    """Trains on the windows ``index``.

    Raises:
        UsageError: A queue longer than there are windows, or settings by which a part of the rival
            cannot learn.
    """
    loop = _Loop(model, windows, index, course, config)
    epochs = config.stage1.epochs + config.stage2.epochs
    if isinstance(model, Comodo):
        _train_comodo(model, loop)
    elif isinstance(model, Primus):
        memory = _refused(lambda: Memory(model, len(index)))
        memory.slow.to(loop.device)
        loop.run("primus", epochs, lambda batch: model.losses(batch, memory),
                 parts={"memory": memory}, after=memory.remember)  # fmt: skip
    elif isinstance(model, Global):
        temperature = config.stage2.temperature
        loop.run("global", epochs, lambda batch: model.losses(batch, temperature))
    else:
        loop.run(config.method, epochs, model.losses)


def _train_comodo(model: Comodo, loop: "_Loop") -> None:
    """First the teacher by itself, then the student from the teacher."""
    _check_student(loop)
    epochs = model.settings.teacher_epochs
    epochs = loop.config.stage1.epochs if epochs is None else epochs
    empty = KeyQueue(1, model.settings.output)
    _refused(lambda: start_queue(model, empty.keys.expand(len(loop.index), -1), 0))
    if epochs and not loop.course.done("teacher"):
        loop.run("teacher", epochs, model.teacher_losses, trained=model.video.parameters())
    student = [*model.sensor.parameters(), *model.student_head.parameters()]
    state = _Taught(model, loop)
    loop.run("student", loop.config.stage2.epochs, state.losses, trained=student,
             parts={"queue": state}, still=(model.video, model.teacher_head),
             before=state.ready)  # fmt: skip


def _check_student(loop: "_Loop") -> None:
    """That it learns at all.

    Raises:
        UsageError: It does not.
    """
    if (epochs := loop.config.stage2.epochs) < 1:
        raise UsageError(
            f"stage2.epochs must be >= 1 for --method comodo, got {epochs}: its student learns in "
            "stage 2 alone, and stage 1 is its teacher's"
        )


class _Taught:
    """The frozen teacher's vectors of all windows, and the queue."""

    def __init__(self, model: Comodo, loop: "_Loop") -> None:
        self._model, self._loop = model, loop
        self._taught: Tensor | None = None
        self._queue: KeyQueue | None = None

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """Of the student."""
        return self._model.losses(batch, *self.ready())

    @torch.no_grad()
    def ready(self) -> tuple[Tensor, KeyQueue]:
        """Vectors and queue, made when first asked for.

        That must be when a run that resumes has its weights back, and outside a step: what one does
        to buffers is taken back where its batch is left out, and autocast would round.
        """
        if self._taught is None:
            features = self._loop.clip_features(self._model.video)
            self._model.freeze_teacher(features)
            self._taught = self._model.teach(features)
        self._queue = self._queue or start_queue(self._model, self._taught, self._loop.config.seed)
        return self._taught, self._queue

    def state_dict(self) -> dict[str, object]:
        """Of the queue; empty before there is one."""
        return {} if self._queue is None else self._queue.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        if state:
            self._queue = KeyQueue(*state["keys"].shape)
            self._queue.load_state_dict(state)


class _Loop:
    """What all loops share."""

    def __init__(
        self,
        model: Rival,
        windows: Windows,
        index: NDArray[np.int64],
        course: Course,
        config: RunConfig,
    ) -> None:
        self.model, self.windows, self.index = model, windows, index
        self.course, self.config = course, config
        self.device = next(model.parameters()).device

    def run(
        self,
        name: str,
        epochs: int,
        losses: Losses,
        *,
        trained: Iterable[nn.Parameter] | None = None,
        parts: Mapping[str, Stateful] | None = None,
        still: Iterable[nn.Module] = (),
        before: Callable[[], object] | None = None,
        after: Callable[[Batch], None] | None = None,
    ) -> None:
        """Goes down the sum of ``losses``, keeping ``still`` in eval mode.

        ``before`` is called at the start of each epoch, ``after`` with each batch that counted.
        """
        stage, course = self.config.stage2, self.course
        a_epoch = batches_in(len(self.index), stage.batch_size)
        parameters = self.model.parameters() if trained is None else trained
        steps, buffers = epochs * a_epoch, self.model.buffers()
        stepper = Stepper(parameters, stage, steps, self.config, self.device, buffers=buffers)
        saved: dict[str, Stateful] = {"model": self.model, "stepper": stepper, **(parts or {})}
        for _ in course.epochs(name, epochs, saved):
            if before is not None:
                before()
            self.model.train()
            for module in still:
                module.eval()
            for rows, loaded in course.steps(len(self.index), stage.batch_size, self._load):
                with stepper.forward():
                    batch = self._batch(rows, *loaded, step=course.epoch * a_epoch + course.step)
                    terms = losses(batch)
                total = sum(terms.values(), torch.zeros((), device=self.device))
                if not course.add(stepper.step(total), **terms):
                    stepper.take_back()
                elif after is not None:
                    after(batch)
            course.close_epoch()

    @torch.no_grad()
    def clip_features(self, video: nn.Module) -> Tensor:
        """What a video encoder makes of all windows [N, width], in eval mode."""
        with standing_still(video):
            pieces = (self._load(i)[1] for i in batches(np.arange(len(self.index)), 256))
            size = self.config.encoders.motion_size_px
            return torch.cat([video(shrink(frames, size)).float() for frames in pieces])

    def _load(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        windows, chosen = self.windows, self.index[rows]
        samples, frames, _ = load_batch(windows, chosen, flow=False, device=self.device)
        return samples, frames

    def _batch(
        self, rows: NDArray[np.int64], samples: Tensor, frames: Tensor, *, step: int
    ) -> Batch:
        """Warped and recoloured, with random numbers of this step."""
        augment, generator = self.config.augment, self.course.generator()
        clean = samples
        if augment.time_warp and self.course.epoch > 0:
            samples = time_warp(samples, augment.time_warp, generator)
        video = shrink(frames, self.config.encoders.motion_size_px)
        if augment.colour_jitter:
            change = colour_change(len(video), augment.colour_jitter, generator)
            video = recolour(video, *change)
        return Batch(torch.from_numpy(rows), samples, clean, video, generator, step)


def _refused(make: Callable[[], Memory | KeyQueue]) -> Memory:
    try:
        return make()  # type: ignore[return-value]
    except ValueError as error:
        raise UsageError(str(error)) from error
