"""One recording cut into raw windows: samples with gaps, labels, who is in view, which frames."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.config import RunConfig, WindowConfig
from detach.data import labels as labelling
from detach.data import sensors
from detach.data.frames import SAY_EVERY_S, Frames
from detach.data.policies import policy_of
from detach.data.recording import PRESENCE_TRACK, Dataset, Recording, SensorTrack
from detach.errors import MachineError
from detach.ram import available_mib

Progress = Callable[[str], None]
COPIES = 1.7
"""Of the samples of all windows, that are in memory at once while they are normalised."""


@dataclass
class Cut:
    """The windows of one recording."""

    samples: NDArray[np.float32]
    """Raw [n, T, C], NaN where missing."""
    start_s: NDArray[np.float64]
    in_view: NDArray[np.bool_]
    labels: dict[str, NDArray[np.int32]]
    frame_index: NDArray[np.int32]
    counts: Counter[str]
    weighted: set[str]
    """Label tracks that carry probabilities here."""


def cut_all(
    dataset: Dataset,
    recordings: Sequence[Recording],
    tracks: Sequence[SensorTrack],
    config: RunConfig,
    pictures: Sequence[Frames],
    progress: Progress | None,
) -> list[Cut]:
    """The windows of all ``recordings``; ``pictures`` is empty where none are wanted."""
    _check_room(recordings, tracks, config)
    cuts, said = [], time.monotonic()
    for i, recording in enumerate(recordings):
        frames = pictures[i] if pictures else None
        cuts.append(_cut(dataset, recording, tracks, config, frames))
        if progress and time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            progress(f"sensors: {i + 1} of {len(recordings)} recordings")
    return cuts


def _check_room(
    recordings: Sequence[Recording], tracks: Sequence[SensorTrack], config: RunConfig
) -> None:
    """Before hours of reading: the kernel ends whoever takes too much, without a word."""
    count = sum(len(starts_of(recording, config, Counter())) for recording in recordings)
    channels = sum(len(track.axes) for track in tracks)
    samples = max(2, round(config.windows.seconds * config.sensors.rate_hz))
    need_mib = COPIES * count * samples * channels * 4 / 2**20
    free_mib = available_mib()
    if free_mib is not None and need_mib > free_mib:
        raise MachineError(
            f"{count} windows of {samples} samples of {channels} channels take "
            f"{need_mib / 1024:.1f} GB of memory, {free_mib / 1024:.1f} GB are free; choose fewer "
            "sensors (sensors.include), a lower sensors.rate_hz, a longer windows.hop_s, or fewer "
            "recordings"
        )


def _cut(
    dataset: Dataset,
    recording: Recording,
    tracks: Sequence[SensorTrack],
    config: RunConfig,
    frames: Frames | None,
) -> Cut:
    seconds, rate_hz = config.windows.seconds, config.sensors.rate_hz
    counts: Counter[str] = Counter()
    start_s = starts_of(recording, config, counts)
    first = np.round(start_s * rate_hz).astype(np.int64)
    length = max(2, round(seconds * rate_hz))
    grid_s = np.arange(int(first[-1]) + length if first.size else 0) / rate_hz
    grid = sensors.read_grid(recording, tracks, grid_s, config.sensors, counts)
    lacking = len(tracks) - len({t.name for t in tracks} & {t.name for t in recording.sensors})
    counts["sensors that a recording lacks"] = lacking
    samples = grid[first[:, None] + np.arange(length)]
    missing = np.isnan(samples).mean(axis=1) > sensors.MISSING_SHARE
    silent = missing.all(axis=1)
    counts["windows dropped: no sensor has data"] = int(silent.sum())
    silent |= _dropped(missing, tracks, config, counts)
    samples, start_s = samples[~silent], start_s[~silent]
    cut = Cut(
        samples=samples,
        start_s=start_s,
        in_view=np.ones(len(start_s), dtype=bool),
        labels={},
        frame_index=np.zeros((len(start_s), 0), dtype=np.int32),
        counts=counts,
        weighted=set(),
    )
    _annotate(cut, dataset, recording, config.windows)
    if frames is not None:
        cut.frame_index = _pick_frames(cut, frames, config, recording)
    return cut


def _dropped(
    missing: NDArray[np.bool_],
    tracks: Sequence[SensorTrack],
    config: RunConfig,
    counts: Counter[str],
) -> NDArray[np.bool_]:
    """Windows [n] in which a sensor is missing whose policy drops them.

    Each sensor counts all of its own, so that a window may count more than once.
    """
    dropped, first = np.zeros(len(missing), dtype=bool), 0
    for track in tracks:
        columns = slice(first, first + len(track.axes))
        first = columns.stop
        if policy_of(track, config.sensors).silence == "drop":
            own = missing[:, columns].any(axis=1)
            counts[f"windows dropped: {track.name} is silent"] = int(own.sum())
            dropped |= own
    return dropped


def starts_of(recording: Recording, config: RunConfig, counts: Counter[str]) -> NDArray[np.float64]:
    """Starts of the windows that the recording and its video cover."""
    seconds, hop_s = config.windows.seconds, config.windows.hop_s
    total = max(0, int((recording.duration_s - seconds) / hop_s + 1e-6) + 1)
    if recording.duration_s < seconds - 1e-6:
        total = 0
    starts = np.arange(total, dtype=np.float64) * hop_s
    counts["recordings shorter than a window"] = int(total == 0)
    if recording.videos:
        track = recording.video(config.video.camera)
        slack_s = 1.5 / track.fps
        end_s = track.end_s + slack_s
        seen = (starts >= track.start_s - slack_s) & (starts + seconds <= end_s)
        counts["windows dropped: outside the video"] = int((~seen).sum())
        starts = starts[seen]
    return starts


def _annotate(cut: Cut, dataset: Dataset, recording: Recording, config: WindowConfig) -> None:
    for track, classes in dataset.classes.items():
        intervals = recording.read_labels(track)
        weight = labelling.mean_weight(intervals, classes, cut.start_s, config.seconds)
        nothing = labelling.with_nothing(classes).index(labelling.NOTHING)
        empty = nothing if config.background and intervals.name else -1
        cut.labels[track], why = labelling.window_labels(weight, empty=empty)
        cut.counts.update({f"{track}: {reason} windows": n for reason, n in why.items()})
        unknown = sum(name not in classes for name in intervals.name)
        cut.counts[f"{track}: label rows of unlisted classes"] = unknown
        if (intervals.weight != 1).any():
            cut.weighted.add(track)
    if PRESENCE_TRACK in {track.name for track in recording.labels}:
        intervals = recording.read_labels(PRESENCE_TRACK)
        cut.in_view = labelling.presence(intervals, cut.start_s, config.seconds)


def _pick_frames(
    cut: Cut, frames: Frames, config: RunConfig, recording: Recording
) -> NDArray[np.int32]:
    """Frames on screen at F equally spaced times of each window [N, F]."""
    count = config.video.frames
    step_s = config.windows.seconds / count
    at_s = cut.start_s[:, None] + (np.arange(count) + 0.5) * step_s
    index, late = frames.on_screen(at_s, 1 / recording.video(config.video.camera).fps)
    cut.counts["frames missing in the video, the last one shown instead"] = int(late.sum())
    return index
