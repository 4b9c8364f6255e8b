"""Which windows train the encoders, train the probe, choose, and test."""

from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detach.config import SplitConfig
from detach.data.recording import DATASET_FILE, Dataset
from detach.errors import DataError, UsageError

if TYPE_CHECKING:
    from detach.data.windows import Windows

PARTS = ("pretrain", "train", "val", "test")

Indices = NDArray[np.intp]


def split_windows(windows: "Windows", dataset: Dataset, split: SplitConfig) -> dict[str, Indices]:
    """Index arrays into ``windows`` of the parts pretrain, train, val and test.

    pretrain uses no labels and, unless the windows were loaded otherwise, only windows in which
    somebody is in view. The others hold the windows that have a label in the track to recognise;
    where the data set has no track they are empty. What a reader should know about the split is
    added to ``windows.counts``.

    Raises:
        DataError: A part is empty or cannot be drawn, or there is nothing to tell apart.
        UsageError: There is no such label track.
    """
    parts = draw_parts(windows, dataset, split)
    check_pretrain(windows, dataset, parts)
    track = task_track(windows.classes, split)
    if track is not None:
        _check_labels(windows, dataset, track, parts)
    return parts


def check_pretrain(windows: "Windows", dataset: Dataset, parts: Mapping[str, Indices]) -> None:
    """Somebody must be left to learn from.

    Raises:
        DataError: No window is left for pretraining.
    """
    if not parts["pretrain"].size:
        raise DataError(
            f"{dataset.folder}: no window is left for pretraining; somebody is in view in "
            f"{int(windows.in_view.sum())} of {len(windows)} windows. Use windows.skip_empty=false "
            "or other parts"
        )


def task_track(classes: Mapping[str, tuple[str, ...]], split: SplitConfig) -> str | None:
    """The label track that is recognised: the one named, or the first.

    Raises:
        UsageError: The named one does not exist.
    """
    if split.track is not None and split.track not in classes:
        raise UsageError(
            f"split.track: no label track {split.track!r}; there are {', '.join(classes) or 'none'}"
        )
    return split.track or next(iter(classes), None)


def draw_parts(windows: "Windows", dataset: Dataset, split: SplitConfig) -> dict[str, Indices]:
    """`split_windows` without its demands on labels, for statistics and for parts of a data set."""
    if split.by == "random-window":
        members = _random_windows(len(windows), split)
    else:
        named = _named_parts(windows, dataset, split)
        members = {
            part: np.isin(windows.recording, [windows.recordings.index(n) for n in sorted(names)])
            for part, names in named.items()
        }
    if windows.skip_empty:
        members["pretrain"] = members["pretrain"] & windows.in_view
    members["pretrain"] = members["pretrain"] & ~_unseen(windows, split)
    track = task_track(windows.classes, split)
    labelled = windows.labels[track] >= 0 if track else np.zeros(len(windows), dtype=bool)
    for part in PARTS[1:]:
        members[part] = members[part] & labelled
    parts = {part: np.flatnonzero(members[part]) for part in PARTS}
    if split.labels is not None and track:
        parts["train"] = few_of_each(
            parts["train"], windows.labels[track], split.labels, split.labels_seed
        )
    if split.by == "random-window":
        windows.counts["WARNING: test windows that overlap training windows (random-window)"] = (
            _overlapping(windows, parts)
        )
    return parts


def _unseen(windows: "Windows", split: SplitConfig) -> NDArray[np.bool_]:
    """Windows of a class that is to stay out of pretraining, in any track."""
    found = np.zeros(len(windows), dtype=np.bool_)
    for name in split.unseen:
        tracks = [track for track, classes in windows.classes.items() if name in classes]
        if not tracks:
            known = ", ".join(n for classes in windows.classes.values() for n in classes)
            raise UsageError(f"split.unseen: no class {name!r}; there are {known or 'none'}")
        for track in tracks:
            found |= windows.labels[track] == windows.classes[track].index(name)
    return found


def few_of_each(index: Indices, label: NDArray[np.int32], count: int, seed: int) -> Indices:
    """At most ``count`` windows of each class among ``index``, drawn at random, ascending."""
    order = np.random.default_rng([seed, count]).permutation(index)
    chosen = [order[label[order] == k][:count] for k in np.unique(label[order])]
    return np.sort(np.concatenate([*chosen, np.zeros(0, dtype=index.dtype)]))


def _named_parts(windows: "Windows", dataset: Dataset, split: SplitConfig) -> dict[str, set[str]]:
    if split.by == "dataset":
        return _dataset_parts(windows, dataset)
    keys = windows.run if split.by == "run" else windows.subject
    groups = sorted(set(keys))
    if len(groups) < 2:
        raise DataError(
            f"{dataset.folder}: split.by={split.by} needs at least 2 different ones, found "
            f"{', '.join(groups) or 'none'}; use another split"
        )
    order = np.random.default_rng(split.seed).permutation(len(groups))
    cut = min(max(1, round(split.pretrain * len(groups))), len(groups) - min(2, len(groups) - 1))
    val = (len(groups) - cut) // 2
    chosen = {
        "pretrain": order[:cut],
        "train": order[:cut],
        "val": order[cut : cut + val],
        "test": order[cut + val :],
    }
    return {
        part: {
            name
            for name, key in zip(windows.recordings, keys, strict=True)
            if key in {groups[i] for i in members}
        }
        for part, members in chosen.items()
    }


def _dataset_parts(windows: "Windows", dataset: Dataset) -> dict[str, set[str]]:
    path = dataset.folder / DATASET_FILE
    needed = ("pretrain", "train", "test") if windows.classes else ("pretrain",)
    for part in needed:
        if not dataset.splits.get(part):
            raise DataError(
                f"{path}: splits has no part {part!r}, found {', '.join(dataset.splits) or 'none'};"
                " name its recordings there, or use split.by=run"
            )
    for one, other in combinations(PARTS[1:], 2):
        if both := set(dataset.splits.get(one, ())) & set(dataset.splits.get(other, ())):
            raise DataError(f"{path}: {sorted(both)[0]!r} is both in {one} and in {other}")
    shared = set(dataset.splits["pretrain"]) & set(dataset.splits.get("test", ()))
    if shared:
        windows.counts["test recordings whose unlabelled windows are in pretrain"] = len(shared)
    loaded = set(windows.recordings)
    return {part: set(dataset.splits.get(part, ())) & loaded for part in PARTS}


def _random_windows(count: int, split: SplitConfig) -> dict[str, NDArray[np.bool_]]:
    """The paper's: the rest after pretraining is 80/10/10 for the probe."""
    order = np.random.default_rng(split.seed).permutation(count)
    cut = round(split.pretrain * count)
    rest = count - cut
    ends = [cut, cut + round(0.8 * rest), cut + round(0.9 * rest), count]
    pieces = [order[:cut], *(order[a:b] for a, b in pairwise(ends))]
    members = {}
    for part, piece in zip(PARTS, pieces, strict=True):
        members[part] = np.zeros(count, dtype=bool)
        members[part][piece] = True
    return members


def _overlapping(windows: "Windows", parts: Mapping[str, Indices]) -> int:
    """How many test windows share time with a window of pretrain or train."""
    seen = np.union1d(parts["pretrain"], parts["train"])
    total = 0
    for r in np.unique(windows.recording[parts["test"]]):
        test = windows.start_s[parts["test"]][windows.recording[parts["test"]] == r]
        near = np.sort(windows.start_s[seen][windows.recording[seen] == r])
        first = np.searchsorted(near, test - windows.seconds + 1e-6)
        last = np.searchsorted(near, test + windows.seconds - 1e-6)
        total += int((last > first).sum())
    return total


def _check_labels(
    windows: "Windows", dataset: Dataset, track: str, parts: Mapping[str, Indices]
) -> None:
    label = windows.labels[track]
    for part in ("train", "test"):
        if not parts[part].size:
            raise DataError(
                f"{dataset.folder}: part {part!r} has no window labelled in track {track!r}; "
                f"{int((label >= 0).sum())} of {len(label)} windows are labelled. Check the label "
                "files of its recordings, or split otherwise"
            )
    present = np.unique(label[parts["train"]])
    if present.size < 2:
        name = windows.classes[track][int(present[0])]
        raise DataError(
            f"{dataset.folder}: track {track!r} has one class only in train, {name!r}; nothing can "
            "be told apart. Label more, or choose another track with split.track"
        )
    if absent := int((~np.isin(label[parts["test"]], present)).sum()):
        windows.counts[f"{track}: test windows of classes absent from train"] = absent
    if not parts["val"].size:
        windows.counts["no validation part"] = 1
