"""Negative pairs of a run, sorted by what labels say of them: what Fig. 4, 5 and 6 are drawn from.

n windows, d feature width. Easy: another place and another action. Hard: the same place, another
action. False: the same place and action.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from detach import equations
from detach.assess import PLACE_TRACKS
from detach.data.recording import read_dataset
from detach.data.splits import split_windows
from detach.data.windows import Windows, load_windows
from detach.distributed import ALONE
from detach.errors import DataError
from detach.evaluate import choose_track
from detach.model import Detach, Run, batches, build, load_batch, load_run
from detach.stage2_loss import loss_options
from detach.train_temporal import KEPT, Places, kept_epochs
from detach.video_encoders import motion_input

MOST = 400
"""Windows whose pairs are looked at: 160,000 pairs."""
KINDS = ("easy", "hard", "false")


@dataclass(frozen=True)
class Pairs:
    """Windows of a run and how alike they are, after one epoch of stage 2."""

    epoch: int
    weight: NDArray[np.float64]
    """W, [n, n]"""
    spatial: NDArray[np.float64]
    """Eq. 7, [n, n]"""
    temporal: NDArray[np.float64]
    """Eq. 9 or its cross-modal form, [n, n]"""
    place: NDArray[np.int64]
    action: NDArray[np.int64]
    classes: tuple[str, ...]

    def left_out(self) -> NDArray[np.bool_]:
        """Pairs [n, n] of none of the kinds: of the same action at different places."""
        same_action = self.action[:, None] == self.action[None]
        return np.asarray((self.place[:, None] != self.place[None]) & same_action)

    def kinds(self) -> Mapping[str, NDArray[np.bool_]]:
        """Which pairs [n, n] are easy, hard, false; none with itself."""
        same_place = self.place[:, None] == self.place[None]
        same_action = self.action[:, None] == self.action[None]
        other = ~np.eye(len(self.place), dtype=bool)
        return {
            "easy": ~same_place & ~same_action & other,
            "hard": same_place & ~same_action & other,
            "false": same_place & same_action & other,
        }


def pairs_of(folder: Path) -> list[Pairs]:
    """Pairs at the start of stage 2, two fifths on, and at its end.

    Raises:
        DataError: The run has no momentum encoders, or its data no labels of places.
    """
    run = load_run(folder)
    if not isinstance(run.model, Detach):
        raise DataError(f"{folder}: {run.config.method} has no weights to look at")
    windows, index, place, action, classes = _labelled(run)
    frozen = Places.of(run.model, windows, index, ALONE)
    epochs = kept_epochs(run.config.stage2.epochs)
    found = []
    for epoch in (0, *dict.fromkeys(epochs)):
        slow = _slow(run, epoch)
        motion = _motion(run, windows, index, slow)
        found.append(_pairs(run, frozen, motion, epoch, place, action, classes))
    return found


def _labelled(
    run: Run,
) -> tuple[Windows, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    dataset = read_dataset(run.data)
    track = choose_track(run.config, dataset, None)
    places = next((t for t in PLACE_TRACKS if t in dataset.classes), None)
    if places is None:
        raise DataError(
            f"{dataset.folder}: no label track says where things happen "
            f"({', '.join(PLACE_TRACKS)}), so pairs cannot be told apart"
        )
    windows = load_windows(dataset, run.config, stats=run.stats)
    parts = split_windows(windows, dataset, run.config.split)
    where, what = windows.labels[places], windows.labels[track]
    index = parts["pretrain"][(where[parts["pretrain"]] >= 0) & (what[parts["pretrain"]] >= 0)]
    if len(index) < 2:
        raise DataError(f"{dataset.folder}: the pretraining part has no labelled windows")
    index = np.sort(np.random.default_rng(0).permutation(index)[:MOST])
    return (
        windows, index, where[index].astype(np.int64), what[index].astype(np.int64),
        windows.classes[track],
    )  # fmt: skip


def _slow(run: Run, epoch: int) -> nn.ModuleList:
    """Video and sensor momentum encoders after an epoch; 0 is as they were drawn."""
    fresh = build(run.config, len(run.stats.mean), run.clusters, len(run.classes))
    assert isinstance(fresh, Detach)  # noqa: S101 -- as the run is
    encoders = nn.ModuleList([fresh.video_temporal, fresh.sensor_temporal])
    if epoch:
        path = run.folder / KEPT.format(epoch)
        if not path.is_file():
            raise DataError(f"{path} is not there: train the run again to see how W came to be")
        try:
            encoders.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{path}: cannot be read: {reason}") from error
    return encoders.eval()


@torch.no_grad()
def _motion(
    run: Run, windows: Windows, index: NDArray[np.int64], slow: nn.ModuleList
) -> tuple[Tensor, Tensor]:
    """Motion features [n, d] of video and sensors."""
    encoders = run.config.encoders
    video, sensor = [], []
    for piece in batches(index, 128):
        samples, frames, flow = load_batch(
            windows, piece, flow=encoders.flow, device=torch.device("cpu")
        )
        video.append(slow[0](motion_input(frames, encoders.motion_size_px, flow)))
        sensor.append(slow[1](samples))
    return torch.cat(video), torch.cat(sensor)


def _pairs(
    run: Run,
    frozen: Places,
    motion: tuple[Tensor, Tensor],
    epoch: int,
    place: NDArray[np.int64],
    action: NDArray[np.int64],
    classes: tuple[str, ...],
) -> Pairs:
    options = loss_options(run.config.stage2, plain=False)
    weight = equations.negative_weight(
        frozen.video,
        frozen.sensor,
        *motion,
        lambda_hard=options["lambda_hard"],
        gate=options["gate"],
        power=options["power"],
        temporal=options["temporal"],
    )
    cross = options["temporal"] == "cross"
    similar = equations.temporal_similarity_cross if cross else equations.temporal_similarity
    spatial = equations.spatial_similarity(frozen.video, frozen.sensor)
    return Pairs(
        epoch,
        weight.double().numpy(),
        spatial.double().numpy(),
        similar(*motion).double().numpy(),
        place,
        action,
        classes,
    )
