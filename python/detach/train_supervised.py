"""Training on what labels exist: the reference every adopter asks for."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from detach.augment import time_warp
from detach.config import RunConfig
from detach.course import Course, batches_in
from detach.data.windows import Windows
from detach.errors import DataError
from detach.model import Supervised, predict
from detach.optimizers import Stepper


def train_supervised(
    model: Supervised,
    windows: Windows,
    parts: dict[str, NDArray[np.int64]],
    labels: NDArray[np.int32],
    course: Course,
    config: RunConfig,
) -> None:
    """Trains on the labelled windows of part ``train``; keeps the epoch best on ``val``.

    With ``split.labels`` the last epoch is kept: whoever has a few labels has none to choose by.

    Raises:
        DataError: No labelled windows to train on.
    """
    index = parts["train"][labels[parts["train"]] >= 0]
    few = config.split.labels is not None
    held = parts["val"][:0] if few else parts["val"][labels[parts["val"]] >= 0]
    if len(index) == 0:
        raise DataError("part 'train' has no labelled window; a supervised run needs some")
    device = next(model.parameters()).device
    settings = config.supervised
    epochs = settings.passes(len(index))
    stepper = Stepper(
        model.parameters(),
        settings,
        epochs * batches_in(len(index), settings.batch_size),
        config,
        device,
        buffers=model.buffers(),
        reduce=course.world.sum_gradients,
    )
    best = copy.deepcopy(model)
    target = torch.from_numpy(labels[index].astype(np.int64)).to(device)
    for _ in course.epochs(
        "supervised", epochs, {"model": model, "best": best, "stepper": stepper}
    ):
        model.train()
        for chosen, samples in course.steps(
            len(index),
            settings.batch_size,
            lambda i: torch.from_numpy(windows.samples[index[i]]).to(device),
        ):
            sigma = config.augment.time_warp
            warped = sigma > 0 and course.epoch > 0
            changes = course.generator(), course.share
            seen = time_warp(samples, sigma, *changes) if warped else samples
            with stepper.forward():
                own = target[torch.from_numpy(chosen[course.share.rows])]
                loss = F.cross_entropy(model(seen), own) * (len(own) / len(chosen))
            if not course.add(stepper.step(loss), classes=loss):
                stepper.take_back()
        score = _score(model, windows, held, labels)
        if score >= course.extra.get("best", -1.0):
            course.extra["best"] = score
            best.load_state_dict(model.state_dict())
        course.close_epoch(validation_f1=round(score, 4))
    model.load_state_dict(best.state_dict())


def _score(
    model: Supervised, windows: Windows, index: NDArray[np.int64], labels: NDArray[np.int32]
) -> float:
    from sklearn.metrics import f1_score  # noqa: PLC0415  (a second of import)

    if len(index) == 0:
        return 0.0  # no validation part: the last epoch is kept
    guess = predict(model, windows, index).argmax(axis=1)
    return float(f1_score(labels[index], guess, average="weighted", zero_division=0))
