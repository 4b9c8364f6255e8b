"""What an export needs of the data a run was trained on: its channels, and windows to try on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detach.config import RunConfig
from detach.data.labels import NOTHING
from detach.data.policies import policy_of
from detach.data.recording import Dataset, read_dataset
from detach.data.sensors import channels_of, common_sensors
from detach.data.splits import draw_parts
from detach.data.windows import Progress, Windows, load_windows
from detach.edge.manifest import Channel
from detach.errors import DataError
from detach.model import Run
from detach.probe import Head
from detach.video_encoders import motion_input, shrink

CHECKED = 256
CALIBRATION = 64


@dataclass(frozen=True)
class Material:
    """A data set as the graphs of one run see it."""

    dataset: str
    channels: tuple[Channel, ...]
    """In the order of the model's columns."""
    windows: Windows
    """Samples are filled and normalised only; low-pass and resizing are the graph's."""
    config: RunConfig
    validation: NDArray[np.intp]
    """Labelled windows [n] that the run's head was not fitted to, its penalty aside."""

    @property
    def video(self) -> bool:
        """Whether there are pictures."""
        return bool(self.windows.pictures)

    def checked(self) -> NDArray[np.int64]:
        """Windows for the parity check, spread over all recordings."""
        return _spread(len(self.windows), CHECKED)

    def calibration(self) -> NDArray[np.int64]:
        """Windows that set the ranges of 8-bit activations."""
        return _spread(len(self.windows), CALIBRATION)

    def inputs(self, graph: str, index: NDArray[np.int64]) -> dict[str, Tensor]:
        """Inputs of the graph ``sensor``, ``video_spatial`` or ``video_temporal``, by name."""
        if graph == "sensor":
            return {"samples": torch.from_numpy(self.windows.samples[index])}
        frames, encoders = torch.from_numpy(self.windows.frames(index)), self.config.encoders
        if graph == "video_spatial":
            whole = shrink(frames, None)
            pixels = encoders.average == "pixels"
            return {"pictures": whole.mean(dim=1)} if pixels else {"frames": whole}
        found = {"frames": shrink(frames, encoders.motion_size_px)}
        if encoders.flow and self.config.method != "global":
            flow = torch.from_numpy(self.windows.flow(index))
            found["flow"] = motion_input(frames, encoders.motion_size_px, flow)[..., 3:]
        return found


def read_material(
    run: Run, data: Path | None, *, head: Head | None = None, video: bool, say: Progress
) -> Material:
    """Reads the data set a run was trained on, or another one like it.

    Args:
        run: The run.
        data: Folder of the data set; None takes the run's.
        head: What answers, for the windows it was not fitted to.
        video: Whether pictures are wanted.
        say: Is told what is being done.

    Raises:
        DataError: The data set is not there, or lacks a channel of the run.
    """
    folder = data or run.data
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not there: export needs the data that {run.folder} was trained on, for "
            "its channels and for windows to check the graphs on; say where it is with --data"
        )
    dataset = read_dataset(folder)
    raw = replace(run.config.sensors, lowpass=False, length=None)
    flow = run.config.encoders.flow and video and run.config.method in {"detach", "infonce"}
    cut = run.config.windows
    if head is not None and NOTHING in head.classes:
        cut = replace(cut, background=True)
    encoders = replace(run.config.encoders, flow=flow)
    config = replace(run.config, sensors=raw, encoders=encoders, windows=cut)
    windows = load_windows(dataset, config, stats=run.stats, progress=say, video=video)
    channels, held = _channels(dataset, run), _validation(windows, dataset, run, head)
    return Material(dataset.name, channels, windows, run.config, held)


def _validation(
    windows: Windows, dataset: Dataset, run: Run, head: Head | None
) -> NDArray[np.intp]:
    """The validation part; none where windows were drawn at random, since those overlap others."""
    split = run.config.split
    if head is None or head.track not in windows.labels or split.by == "random-window":
        return np.zeros(0, dtype=np.intp)
    return draw_parts(windows, dataset, replace(split, track=head.track))["val"]


def _channels(dataset: Dataset, run: Run) -> tuple[Channel, ...]:
    tracks = common_sensors(list(dataset.recordings()), run.config.sensors.include)
    axes = [(track, axis) for track in tracks for axis in track.axes]
    found = {c.name: (c, *axes[i]) for i, c in enumerate(channels_of(tracks))}
    made = []
    for name, mean, std in zip(run.stats.names, run.stats.mean, run.stats.std, strict=True):
        channel, track, axis = found[name]
        policy = policy_of(track, run.config.sensors)
        made.append(
            Channel(
                name=name,
                sensor=track.name,
                axis=axis,
                kind=channel.kind,
                unit=channel.unit,
                hz=track.hz,
                mean=mean,
                std=std,
                max_gap_s=policy.max_gap_s if policy.silence else policy.gap_s(track.hz),
                policy=policy.silence,
                resync_s=policy.resync_s,
            )
        )
    return tuple(made)


def _spread(n: int, count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(np.int64))
