"""Encoders of finished runs over sliding windows of simulated actions, as clips to measure.

A window is the frame at its middle: it sees a second of what was before and of what comes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.alignment.measures import Clip
from detach.alignment.phases import phase_at, uses_in
from detach.assess import embed_sensors
from detach.data.recording import DATASET_FILE, Dataset, read_dataset
from detach.data.windows import Windows, load_windows
from detach.errors import DataError, UsageError
from detach.model import Run, Supervised, build, load_run
from detach.probe import raw_statistics
from detach.scores import Ints
from detach.simulate.plan import Act

HOP_S = 0.2
LEAST = 6
"""Windows of a clip: shorter actions say nothing of order."""


@dataclass(frozen=True)
class Cuts:
    """Windows every 0.2 s of some recordings, and which of them are clips."""

    windows: Windows
    clips: tuple[tuple[str, Ints, Ints], ...]
    """(action, windows [n], their phase [n])"""

    def seen_by(self, features: NDArray[np.float32]) -> list[Clip]:
        """Clips of features of all windows [N, d]."""
        return [Clip(name, features[index], phase) for name, index, phase in self.clips]


def clips_of_run(
    folder: Path, say: Callable[[str], None] = print, *, recordings: int = 4
) -> Mapping[str, tuple[list[Clip], list[Clip]]]:
    """Training and test clips as the run's sensor encoder, the same untrained and statistics see.

    Args:
        folder: A finished run.
        say: Told in words what is being done.
        recordings: Taken of each part, at most.

    Raises:
        UsageError: A supervised run, which has no embedding, one that drew its parts itself, or
            no recordings.
        DataError: Its data are not simulated, or by another version, or lack a part.
    """
    run = load_run(folder)
    if isinstance(run.model, Supervised):
        raise UsageError(f"{folder}: a supervised run has no embedding to measure")
    dataset = read_dataset(run.data)
    parts = _parts(run, dataset, recordings)
    say(f"windows every {HOP_S:g} s of {', '.join(n for names in parts.values() for n in names)}")
    cuts = {part: _cut(run, dataset, names) for part, names in parts.items()}
    fresh = build(
        replace(run.config, encoders=replace(run.config.encoders, spatial="features")),
        len(run.stats.mean), run.clusters, len(run.classes),
    ).eval()  # fmt: skip
    assert not isinstance(fresh, Supervised)  # noqa: S101 -- as the run is
    networks = ((run.config.method, run.model), (f"{run.config.method}, untrained", fresh))
    found = {}
    for name, network in networks:
        width = network.embedding_width
        seen = [
            cut.seen_by(embed_sensors(network, cut.windows, np.arange(len(cut.windows)))[:, :width])
            for cut in cuts.values()
        ]
        found[name] = (seen[0], seen[1])
    plain = [cut.seen_by(raw_statistics(cut.windows.samples)) for cut in cuts.values()]
    return {**found, "raw statistics": (plain[0], plain[1])}


def _parts(run: Run, dataset: Dataset, most: int) -> Mapping[str, Sequence[str]]:
    """Recordings that teach phases, and those that are asked, of which no encoder saw anything.

    Raises:
        UsageError: The run drew its parts itself, or ``most`` is not positive.
        DataError: dataset.json leaves a part empty.
    """
    if most < 1:
        raise UsageError(f"recordings must be >= 1, as so many of each part are taken, got {most}")
    if (by := run.config.split.by) != "dataset":
        raise UsageError(
            f"{run.folder}: split.by must be dataset, got {by}: the run drew its parts itself and "
            "may have learned from what dataset.json names as test; train one with split.by=dataset"
        )
    path, seen = dataset.folder / DATASET_FILE, set(dataset.splits.get("pretrain", ()))
    train = dataset.splits.get("train", ())
    test = [name for name in dataset.splits.get("test", ()) if name not in seen]
    if not (train and test):
        raise DataError(
            f"{path}: splits must name recordings of train, and of test some that are not in "
            f"pretrain, found {len(train)} and {len(test)}; name others, and train again"
        )
    return {"train": train[:most], "test": test[:most]}


def _cut(run: Run, dataset: Dataset, names: Sequence[str]) -> Cuts:
    config = replace(run.config, windows=replace(run.config.windows, hop_s=HOP_S, background=False))
    windows = load_windows(dataset, config, names=names, stats=run.stats, video=False)
    clips = []
    for recording in dataset.recordings():
        if recording.name not in names:
            continue
        mine = np.flatnonzero(windows.recording == windows.recordings.index(recording.name))
        middle = windows.start_s[mine] + windows.seconds / 2
        for act in uses_in(dataset, recording):
            clips += _clip(act, mine, middle)
    return Cuts(windows, tuple(clips))


def _clip(act: Act, index: Ints, middle: NDArray[np.floating]) -> list[tuple[str, Ints, Ints]]:
    """The act's windows and phases, unless it is too short."""
    within = (middle >= act.start_s) & (middle < act.end_s)
    if within.sum() < LEAST:
        return []
    return [(act.label, index[within], phase_at(act, middle[within]))]
