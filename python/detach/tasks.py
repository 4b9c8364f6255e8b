"""One label track tested one way: which items, and what each method and reference says of them.

Works on arrays of features; knows neither models nor files. Item and part names as in Task.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.data.windows import Windows
from detach.errors import DataError
from detach.probe import (
    C_GRID,
    LinearProbe,
    clock_features,
    fit_probe,
    labelled_by_sequence,
    majority,
    pool_sequences,
    raw_statistics,
)
from detach.results import CLOCK, MAJORITY, RAW, Answer, Kind, Protocol
from detach.scores import Floats, Ints


@dataclass(frozen=True)
class Fold:
    """Positions of items that train a probe, choose its penalty, and test it."""

    train: Ints
    val: Ints
    test: Ints


@dataclass(frozen=True)
class Items:
    """Labelled windows, or whole sequences where each carries one label."""

    windows: Ints
    """[n], into all windows; features are computed for these"""
    of: Ints
    """[n], item each window belongs to"""
    unit: str
    truth: Ints
    """[items]"""
    recording: Ints
    start_s: Floats
    first: Ints
    """[items], into all windows"""
    classes: tuple[str, ...]
    folds: tuple[Fold, ...]

    @property
    def test(self) -> Ints:
        """Positions of all test items, fold after fold."""
        return np.concatenate([fold.test for fold in self.folds])

    def pooled(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of items [items, d] from those of windows [n, d]: the mean."""
        if self.unit == "windows":
            return features
        total = np.zeros((len(self.truth), features.shape[1]))
        np.add.at(total, self.of, features)
        return np.asarray(total / np.bincount(self.of)[:, None], dtype=np.float32)


def make_items(
    windows: Windows, parts: Mapping[str, Ints], track: str, protocol: Protocol
) -> Items:
    """The labelled items of a track and how they are divided.

    Raises:
        DataError: The track is not there, or a part has nothing to train or test on.
    """
    if track not in windows.labels:
        known = ", ".join(windows.labels) or "none"
        raise DataError(f"no label track {track!r} in this data set; it has {known}")
    label = windows.labels[track].astype(np.int64)
    used = np.zeros(len(label), dtype=bool)
    for part in ("train", "val", "test"):
        used[parts.get(part, np.zeros(0, dtype=np.int64))] = True
    index = np.flatnonzero((label >= 0) & used)
    recording, truth = windows.recording[index].astype(np.int64), label[index]
    of, unit, first = np.arange(len(index)), "windows", index
    if labelled_by_sequence(recording, truth):
        _, truth, _ = pool_sequences(np.zeros((len(index), 1)), recording, truth)
        _, start, of = np.unique(recording, return_index=True, return_inverse=True)
        of, unit, first = of.reshape(-1), "sequences", index[start]
    items = Items(
        index,
        of,
        unit,
        truth,
        windows.recording[first].astype(np.int64),
        windows.start_s[first],
        first,
        windows.classes[track],
        (),
    )
    cut = _split(items, parts) if protocol == "split" else _runs(items, windows)
    return Items(**{**items.__dict__, "folds": tuple(_checked(f, items, track) for f in cut)})


def probe_answer(
    name: str,
    kind: Kind,
    features: NDArray[np.float32],
    items: Items,
    seed: int | None,
    widths: Sequence[int] = (),
) -> tuple[Answer, LinearProbe]:
    """A linear probe on features of windows [n, d]; the probe is that of the last fold.

    ``widths`` are numbers of leading columns the probe may see, the validation items deciding at
    the penalty they chose for the narrowest; none gives it all.
    """
    x = items.pooled(features)
    probes = [_fold_probe(x, items, fold, widths) for fold in items.folds]
    pairs = zip(probes, items.folds, strict=True)
    said = np.concatenate(
        [probe.probabilities(x[fold.test, : probe.width]) for probe, fold in pairs]
    )
    c = probes[0].c if len(probes) == 1 else None
    return Answer(name, kind, said, c, seed), probes[-1]


def reference_answers(windows: Windows, items: Items) -> tuple[Answer, ...]:
    """What statistics of the samples, the clock and the majority say."""
    raw = raw_statistics(windows.samples[items.windows])
    clock, most = [], []
    labels = len(items.classes)
    for fold in items.folds:
        known = np.concatenate([fold.train, fold.val])
        x = clock_features(items.start_s, items.start_s[known])
        clock.append(_fold_probe(x, items, fold).probabilities(x[fold.test]))
        most.append(majority(items.truth[fold.train], len(fold.test), labels))
    return (
        probe_answer(RAW, "reference", raw, items, None)[0],
        Answer(CLOCK, "reference", np.concatenate(clock)),
        Answer(MAJORITY, "reference", np.concatenate(most)),
    )


def _fold_probe(
    x: NDArray[np.float32], items: Items, fold: Fold, widths: Sequence[int] = ()
) -> LinearProbe:
    """Chooses C, then the width, on the validation items; over several folds those train too."""
    labels, y = len(items.classes), items.truth
    narrow, *wider = sorted(widths) or [x.shape[1]]

    def fit(width: int, grid: Sequence[float]) -> LinearProbe:
        train, val = ((x[part, :width], y[part]) for part in (fold.train, fold.val))
        return fit_probe(train, val, labels, grid)

    probe = fit(narrow, C_GRID)
    others = [fit(width, [probe.c]) for width in wider if probe.validation]
    probe = max([probe, *others], key=lambda p: max((f1 for _, f1 in p.validation), default=0.0))
    if len(items.folds) == 1:
        return probe
    both = np.concatenate([fold.train, fold.val])
    return fit_probe((x[both, : probe.width], y[both]), None, labels, grid=(probe.c,))


def _split(items: Items, parts: Mapping[str, Ints]) -> Iterator[Fold]:
    found = [
        np.flatnonzero(np.isin(items.first, parts.get(part, ())))
        for part in ("train", "val", "test")
    ]
    yield Fold(*(part.astype(np.int64) for part in found))


def _runs(items: Items, windows: Windows) -> Iterator[Fold]:
    """One fold a run: tested on it, C chosen on the next one, trained on the rest.

    Raises:
        DataError: Fewer than three runs are labelled.
    """
    run = np.array(windows.run)[items.recording]
    names = np.unique(run)
    if len(names) < 3:
        raise DataError(
            f"leave-one-run-out needs at least 3 labelled runs, found {len(names)} "
            f"({', '.join(names)}); evaluate without it"
        )
    for i, name in enumerate(names):
        following = names[(i + 1) % len(names)]
        held, chosen = run == name, run == following
        rest = np.flatnonzero(~held & ~chosen)
        yield Fold(rest, np.flatnonzero(chosen), np.flatnonzero(held))


def _checked(fold: Fold, items: Items, track: str) -> Fold:
    kinds = len(np.unique(items.truth[fold.train]))
    if len(fold.test) == 0:
        raise DataError(f"the test part has no {items.unit} labelled in track {track!r}")
    if kinds < 2:
        raise DataError(
            f"the training part has {kinds} class of track {track!r} in {len(fold.train)} "
            f"{items.unit}; a probe needs at least 2. Check the splits in dataset.json"
        )
    return fold
