"""Recordings cut into windows: samples, labels and the indices of frames, ready for training."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.config import RunConfig
from detach.data import labels as labelling
from detach.data import sensors
from detach.data.cutting import Cut, cut_all
from detach.data.frames import Frames, open_flow, open_frames
from detach.data.policies import check_policies
from detach.data.recording import Dataset, Recording
from detach.data.sensors import Channel as Channel  # offered here too
from detach.data.sensors import ChannelStats as ChannelStats
from detach.data.splits import check_pretrain, draw_parts
from detach.data.splits import split_windows as split_windows
from detach.data.video import FLOW_STEP_PX
from detach.errors import DataError

Progress = Callable[[str], None]
Index = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """N windows of a data set. Pictures stay on disk until `frames` asks for them."""

    samples: NDArray[np.float32]
    """Normalised, without gaps [N, T, C]."""
    observed: NDArray[np.bool_]
    """False where a channel is missing for more than half of a window [N, C]."""
    recording: NDArray[np.int32]
    """Index into ``recordings`` [N]."""
    recordings: tuple[str, ...]
    subject: tuple[str, ...]
    """Of each recording."""
    run: tuple[str, ...]
    """Of each recording."""
    start_s: NDArray[np.float64]
    """Since the start of the recording [N]."""
    in_view: NDArray[np.bool_]
    """Whether somebody is in view for at least half of the window [N]; True without that track."""
    labels: dict[str, NDArray[np.int32]]
    """Class of each window [N] for each track; -1 is none."""
    classes: dict[str, tuple[str, ...]]
    channels: tuple[Channel, ...]
    stats: ChannelStats
    counts: dict[str, int]
    """Everything that was dropped, merged or masked, for the report."""
    seconds: float
    skip_empty: bool
    """Whether pretraining leaves out windows with nobody in view."""
    frame_index: NDArray[np.int32]
    """Frames of each window within its recording [N, F]; [N, 0] without pictures."""
    pictures: tuple[Frames, ...] = ()
    """Of each recording."""
    flow_index: NDArray[np.int32] | None = None
    """Rows of ``flows`` for each window [N, F - 1]."""
    flows: tuple[NDArray[np.int8], ...] = ()
    """Of each recording [P, H, W, 2]."""
    pictures_of: NDArray[np.intp] | None = None
    """Window whose pictures each window shows [N]; None is its own. See `with_wrong_pictures`."""

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def picture_shape(self) -> tuple[int, int]:
        """H and W of the frames; (0, 0) without pictures."""
        if not self.pictures:
            return 0, 0
        return int(self.pictures[0].pictures.shape[1]), int(self.pictures[0].pictures.shape[2])

    def frames(self, index: Index) -> NDArray[np.uint8]:
        """RGB pictures [n, F, H, W, 3] of the windows ``index`` [n], read from the cache.

        Raises:
            DataError: The recordings have no video, or the windows were loaded without.
        """
        if not self.pictures:
            raise DataError("these windows have no pictures: no video, or loaded with video=False")
        maps = [frames.pictures for frames in self.pictures]
        shown = index if self.pictures_of is None else self.pictures_of[index]
        return _gather(maps, self.recording[shown], self.frame_index[shown])

    def flow(self, index: Index) -> NDArray[np.float16]:
        """Optical flow [n, F - 1, H, W, 2] between the frames of the windows ``index``, in pixels.

        Raises:
            DataError: The windows were loaded without ``encoders.flow``.
        """
        if self.flow_index is None:
            raise DataError("these windows have no optical flow: load them with encoders.flow=true")
        shown = index if self.pictures_of is None else self.pictures_of[index]
        steps = _gather(self.flows, self.recording[shown], self.flow_index[shown])
        return steps.astype(np.float16) * np.float16(FLOW_STEP_PX)

    def with_wrong_pictures(self, index: Index, seed: int) -> "Windows":
        """The control that must fail: the windows ``index`` show one another's pictures."""
        shown = np.arange(len(self))
        shown[index] = np.random.default_rng(seed).permutation(index)
        return dataclasses.replace(self, pictures_of=shown)

    def select(self, index: Index | NDArray[np.bool_]) -> "Windows":
        """The windows ``index`` (integers or booleans) alone; recordings keep their numbers.

        Raises:
            ValueError: These are the windows of the control.
        """
        if self.pictures_of is not None:
            raise ValueError("windows with wrong pictures cannot be selected from; select first")
        chosen = np.arange(len(self))[index]
        return dataclasses.replace(
            self,
            samples=self.samples[chosen],
            observed=self.observed[chosen],
            recording=self.recording[chosen],
            start_s=self.start_s[chosen],
            in_view=self.in_view[chosen],
            labels={track: label[chosen] for track, label in self.labels.items()},
            frame_index=self.frame_index[chosen],
            flow_index=None if self.flow_index is None else self.flow_index[chosen],
            counts=dict(self.counts),
        )


def load_windows(
    dataset: Dataset,
    config: RunConfig,
    *,
    names: Sequence[str] | None = None,
    stats: ChannelStats | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    video: bool = True,
) -> Windows:
    """Cuts recordings into windows.

    Args:
        dataset: Where the recordings are.
        config: How they are cut, resampled, normalised and split.
        names: Recordings to load; None loads all.
        stats: Statistics and classes of the run whose model will see the windows. None takes
            statistics from the pretraining part of what is loaded, and classes from its training
            part.
        cache: Folder for prepared pictures; None keeps them beside the recordings.
        progress: Is told what is being done.
        video: Whether pictures are wanted; without, no video is opened.

    Raises:
        DataError: A damaged file, recordings that do not fit together, nothing to cut.
        MachineError: No room for the pictures, or no cv2.
        UsageError: The configuration names a sensor or a track that does not exist.
    """
    recordings = _choose(dataset, names)
    tracks = sensors.common_sensors(recordings, config.sensors.include)
    check_policies(tracks, config.sensors)
    channels = sensors.channels_of(tracks)
    order = _channel_order(dataset, channels, stats)
    pictures: tuple[Frames, ...] = ()
    if video and any(recording.videos for recording in recordings):
        pictures = open_frames(
            recordings, config.video, dataset=dataset.folder, cache=cache, progress=progress
        )
    cuts = cut_all(dataset, recordings, tracks, config, pictures, progress)
    weighted = {track for cut in cuts for track in cut.weighted}
    windows = _join(dataset, recordings, cuts, config, pictures)
    if order != list(range(windows.samples.shape[2])):
        windows = dataclasses.replace(windows, samples=windows.samples[:, :, order])
    windows = dataclasses.replace(windows, channels=tuple(channels[i] for i in order))
    if stats is None:
        stats = _own_stats(windows, dataset, config, weighted)
    windows = _finish(windows, config, stats)
    return _with_flow(windows, progress) if config.encoders.flow and pictures else windows


def _choose(dataset: Dataset, names: Sequence[str] | None) -> list[Recording]:
    recordings = list(dataset.recordings())
    if names is not None:
        known = {recording.name for recording in recordings}
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"names: no recording {unknown[0]!r} in {dataset.folder}")
        recordings = [recording for recording in recordings if recording.name in set(names)]
    if not recordings:
        raise DataError(
            f"{dataset.folder}: no recordings; each is a folder with a recording.json. "
            "Check the path, or import the data again"
        )
    return recordings


def _channel_order(
    dataset: Dataset, channels: Sequence[Channel], stats: ChannelStats | None
) -> list[int]:
    # Columns in the order in which the model knows them.
    names = [channel.name for channel in channels]
    wanted = names if stats is None else list(stats.names)
    if missing := [name for name in wanted if name not in names]:
        raise DataError(
            f"{dataset.folder}: the run knows a channel {missing[0]!r} that these recordings lack "
            f"({len(missing)} of {len(wanted)}); they have {', '.join(names)}. "
            "Use the data that the run was trained on, or train anew"
        )
    return [names.index(name) for name in wanted]


def _join(
    dataset: Dataset,
    recordings: Sequence[Recording],
    cuts: list[Cut],
    config: RunConfig,
    pictures: tuple[Frames, ...],
) -> Windows:
    # Samples are still raw and statistics missing; empties ``cuts`` to save memory.
    lengths = [len(cut.start_s) for cut in cuts]
    counts = Counter({"windows": sum(lengths)})
    for cut in cuts:
        counts.update(cut.counts)
    if not sum(lengths) and (why := [what for what in +counts if what.endswith(" is silent")]):
        raise DataError(
            f"{dataset.folder}: no window is left, {counts[why[0]]} {why[0]}; choose another "
            "sensors.policy for it"
        )
    if not sum(lengths):
        raise DataError(
            f"{dataset.folder}: no window of {config.windows.seconds} s fits: the longest of "
            f"{len(recordings)} recordings is {max(r.duration_s for r in recordings):.1f} s, "
            "its video and its sensors must cover a window"
        )
    in_view = np.concatenate([cut.in_view for cut in cuts])
    counts["windows without a person in view"] = int((~in_view).sum())
    windows = Windows(
        samples=np.empty((sum(lengths), *cuts[0].samples.shape[1:]), dtype=np.float32),
        observed=np.zeros((0, 0), dtype=bool),
        recording=np.repeat(np.arange(len(cuts), dtype=np.int32), lengths),
        recordings=tuple(recording.name for recording in recordings),
        subject=tuple(recording.subject for recording in recordings),
        run=tuple(recording.run for recording in recordings),
        start_s=np.concatenate([cut.start_s for cut in cuts]),
        in_view=in_view,
        labels={t: np.concatenate([cut.labels[t] for cut in cuts]) for t in dataset.classes},
        classes={
            track: labelling.with_nothing(names) if config.windows.background else names
            for track, names in dataset.classes.items()
        },
        channels=(),
        stats=ChannelStats(names=(), mean=(), std=()),
        counts=dict(+counts),
        seconds=config.windows.seconds,
        skip_empty=config.windows.skip_empty,
        frame_index=np.concatenate([cut.frame_index for cut in cuts]),
        pictures=pictures,
    )
    end = len(windows)
    for cut in reversed(cuts):
        windows.samples[end - len(cut.start_s) : end] = cut.samples
        end -= len(cut.start_s)
        cut.samples = cut.samples[:0].copy()
    return windows


def _own_stats(
    windows: Windows, dataset: Dataset, config: RunConfig, weighted: set[str]
) -> ChannelStats:
    """Statistics over the pretraining part, and classes without those rare in the training part."""
    parts = draw_parts(windows, dataset, config.split)
    check_pretrain(windows, dataset, parts)
    stats = sensors.channel_stats(
        windows.samples, parts["pretrain"], [channel.name for channel in windows.channels]
    )
    classes = dict(windows.classes)
    for track in sorted(weighted):
        # Of all labels there are: which classes a run knows does not hang on how few it may use.
        whole = dataclasses.replace(config.split, track=track, labels=None)
        own = draw_parts(windows, dataset, whole)
        classes[track] = labelling.merge_rare(windows.labels[track], classes[track], own["train"])
    return dataclasses.replace(stats, classes=classes)


def _finish(windows: Windows, config: RunConfig, stats: ChannelStats) -> Windows:
    """Merges rare classes and normalises."""
    labels, classes = {}, {}
    for track, names in windows.classes.items():
        classes[track] = stats.classes.get(track, names)
        if config.windows.background:
            classes[track] = labelling.with_nothing(classes[track])
        labels[track] = labelling.relabel(windows.labels[track], names, classes[track])
        for i, name in enumerate(names):
            if name not in classes[track] and (merged := int((windows.labels[track] == i).sum())):
                windows.counts[f"{track}: windows of {name!r} merged into other"] = merged
    samples, observed = sensors.prepare(windows.samples, windows.channels, stats, config.sensors)
    if missing := int((~observed).sum()):
        windows.counts["channel-windows missing"] = missing
    return dataclasses.replace(
        windows,
        samples=samples,
        observed=observed,
        labels=labels,
        classes=classes,
        stats=stats,
        channels=tuple(
            dataclasses.replace(channel, mean=mean, std=std)
            for channel, mean, std in zip(windows.channels, stats.mean, stats.std, strict=True)
        ),
    )


def _with_flow(windows: Windows, progress: Progress | None) -> Windows:
    """Adds optical flow between the consecutive frames of each window, each pair made once."""
    first, second = windows.frame_index[:, :-1], windows.frame_index[:, 1:]
    index, jobs = np.empty_like(first), []
    for r, frames in enumerate(windows.pictures):
        own = windows.recording == r
        pairs = np.stack([first[own].ravel(), second[own].ravel()], axis=1)
        pairs, inverse = np.unique(pairs, axis=0, return_inverse=True)
        index[own] = inverse.reshape(first[own].shape)
        jobs.append((frames, pairs))
    return dataclasses.replace(windows, flow_index=index, flows=open_flow(jobs, progress))


def _gather(
    maps: Sequence[NDArray[Any]], recording: NDArray[np.int32], rows: NDArray[np.int32]
) -> NDArray[Any]:
    """Rows [n, F] of the map of each window's recording, as [n, F, ...]."""
    result = np.empty((*rows.shape, *maps[0].shape[1:]), dtype=maps[0].dtype)
    for i, r in enumerate(recording):
        np.take(maps[r], rows[i], axis=0, out=result[i], mode="clip")  # "raise" would buffer
    return result
