"""Where the video encoders of two runs look in the frames of some windows: Fig. 8."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detach.baselines.whole import Global
from detach.data.recording import read_dataset
from detach.data.splits import split_windows
from detach.data.windows import load_windows
from detach.errors import DataError
from detach.evaluate import choose_track
from detach.model import Detach, load_run
from detach.video_encoders import GlobalVideoEncoder, motion_input, shrink

FRAMES = 6
ROWS = 3


@dataclass(frozen=True)
class Looked:
    """One window and where encoders look in it."""

    title: str
    frames: NDArray[np.uint8]
    """[F, H, W, 3]"""
    maps: Mapping[str, NDArray[np.float64]]
    """Of each encoder [F, h, w], >= 0."""


def looks(method: Path, rival: Path) -> list[Looked]:
    """Test windows, one of each of the three commonest classes: the liveliest.

    Raises:
        DataError: A run is of another kind, or there are no labelled test windows.
    """
    ours, theirs = load_run(method), load_run(rival)
    if not isinstance(ours.model, Detach) or not isinstance(theirs.model, Global):
        raise DataError(f"{method} and {rival} must be runs of detach and of global")
    if not isinstance(theirs.model.video, GlobalVideoEncoder):
        raise DataError(f"{rival}: encoders.video must be cnn, whose 3-D convolutions are drawn")
    dataset = read_dataset(ours.data)
    windows = load_windows(dataset, ours.config, stats=ours.stats)
    parts = split_windows(windows, dataset, ours.config.split)
    track = choose_track(ours.config, dataset, None)
    label, names = windows.labels[track], windows.classes[track]
    test = parts["test"]
    if not len(test):
        raise DataError(f"{dataset.folder}: the test part has no labelled windows")
    chosen = [_liveliest(windows.frames, test[label[test] == k]) for k in _classes(label[test])]
    found = []
    for index in chosen:
        frames = windows.frames(np.array([index]))
        at = np.linspace(0, frames.shape[1] - 2, min(FRAMES, frames.shape[1] - 1)).round()
        pick = at.astype(int)
        maps = _maps(ours.model, theirs.model, torch.from_numpy(frames))
        shown = {name: np.stack([m[i] for i in pick]) for name, m in maps.items()}
        found.append(Looked(names[int(label[index])], frames[0][pick], shown))
    return found


def _classes(label: NDArray[np.int32]) -> list[int]:
    """The three commonest classes."""
    kinds, counts = np.unique(label, return_counts=True)
    return [int(k) for k in kinds[np.argsort(-counts, kind="stable")][:ROWS]]


def _liveliest(frames: object, index: NDArray[np.int64]) -> int:
    """The window whose picture changes most, of at most 32."""
    some = index[:32]
    pictures = frames(some).astype(np.float32)  # type: ignore[operator]
    return int(some[np.abs(np.diff(pictures, axis=1)).mean(axis=(1, 2, 3, 4)).argmax()])


@torch.no_grad()
def _maps(ours: Detach, theirs: Global, frames: torch.Tensor) -> dict[str, NDArray[np.float64]]:
    """Maps of one window [F, h, w] of each encoder: mean absolute activation of its last layer."""
    size = ours.config.motion_size_px
    motion = motion_input(frames, size).permute(0, 4, 1, 2, 3)
    temporal = ours.video_temporal.convolutions(motion).abs().mean(dim=1)[0]
    spatial = ours.video_spatial
    trunk = spatial.trunk(shrink(frames, None)[0].permute(0, 3, 1, 2))
    thing = (spatial.thing(trunk) * spatial.attention(trunk)).abs().mean(dim=1)
    whole = shrink(frames, theirs.config.motion_size_px).permute(0, 4, 1, 2, 3)
    assert isinstance(theirs.video, GlobalVideoEncoder)  # noqa: S101 -- `looks` has looked
    other = theirs.video.convolutions(whole).abs().mean(dim=1)[0]
    return {
        "DETACH, temporal": temporal.double().numpy(),
        "DETACH, spatial": thing.double().numpy(),
        "global": other.double().numpy(),
    }
