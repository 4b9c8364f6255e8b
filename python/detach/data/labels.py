"""Annotation of recordings to labels of windows."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from detach.data.recording import Intervals

MIN_TRAIN_WINDOWS = 20
"""Classes of a weighted track with fewer training windows are merged into `OTHER`."""
OTHER = "other"
NOTHING = "nothing"
"""Class of windows that no annotation touches, where that is a class."""
HALF = 0.5 - 1e-6

Labels = NDArray[np.int32]


def mean_weight(
    intervals: Intervals, classes: Sequence[str], start_s: NDArray[np.float64], seconds: float
) -> NDArray[np.float64]:
    """Mean weight of each class over each window [N, L]; without weights, its share of the time."""
    result = np.zeros((len(start_s), len(classes)))
    names = np.asarray(intervals.name, dtype=object)
    for c, name in enumerate(classes):
        own = names == name
        if not own.any():
            continue
        starts, ends, weights = (
            x[own] for x in (intervals.start_s, intervals.end_s, intervals.weight)
        )
        t = np.concatenate([starts, ends])
        order = np.argsort(t, kind="stable")
        slope = np.cumsum(np.concatenate([weights, -weights]).astype(np.float64)[order])
        slope = np.minimum(slope, 1.0)  # what is annotated twice at once is there once
        t = t[order]
        area = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(t))])
        result[:, c] = np.interp(start_s + seconds, t, area) - np.interp(start_s, t, area)
    return result / seconds


def with_nothing(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The same with `NOTHING`, at the end where it is new."""
    return classes if NOTHING in classes else (*classes, NOTHING)


def window_labels(weight: NDArray[np.float64], *, empty: int = -1) -> tuple[Labels, dict[str, int]]:
    """The class of largest mean weight [N, L] if it is at least half, else -1; and why not.

    Windows without any weight are of class ``empty``, where that is one.
    """
    if not weight.shape[1]:
        return np.full(len(weight), -1, dtype=np.int32), {"unlabelled": len(weight)}
    best = weight.max(axis=1)
    label = np.where(best >= HALF, weight.argmax(axis=1), -1).astype(np.int32)
    bare, mixed = best <= 0, (best > 0) & (best < HALF)
    label[bare] = empty
    return label, {"unlabelled": int(bare.sum()) if empty < 0 else 0, "mixed": int(mixed.sum())}


def presence(
    intervals: Intervals, start_s: NDArray[np.float64], seconds: float
) -> NDArray[np.bool_]:
    """Whether any interval covers at least half of each window [N]."""
    ends = np.maximum.accumulate(intervals.end_s) if intervals.name else intervals.end_s
    starts = intervals.start_s.copy()
    starts[1:] = np.maximum(starts[1:], ends[:-1])  # people at once count once
    union = Intervals(
        starts,
        np.maximum(ends, starts),
        ("person",) * len(starts),
        np.ones(len(starts), dtype=np.float32),
    )
    share = mean_weight(union, ("person",), start_s, seconds)[:, 0]
    return np.asarray(share >= HALF)


def merge_rare(label: Labels, classes: tuple[str, ...], train: NDArray[np.intp]) -> tuple[str, ...]:
    """Class names after those with too few windows among ``train`` became `OTHER`, which is last.

    A single rare class is merged too, so that its name says that little is known of it. Classes
    without any window at all in ``label`` [N] stay away without a trace.
    """
    seen = np.bincount(label[train][label[train] >= 0], minlength=len(classes))
    rare = [name for name, n in zip(classes, seen, strict=True) if n < MIN_TRAIN_WINDOWS]
    kept = tuple(name for name in classes if name not in rare and name != OTHER)
    present = {classes[i] for i in np.unique(label[label >= 0])}
    return (*kept, OTHER) if present - set(kept) else kept


def relabel(label: Labels, old: tuple[str, ...], new: tuple[str, ...]) -> Labels:
    """Labels [N] among classes ``old`` as labels among ``new``; what is gone becomes `OTHER`."""
    where: Mapping[str, int] = {name: i for i, name in enumerate(new)}
    table = [where.get(name, where.get(OTHER, -1)) for name in old] + [-1]
    return np.asarray(table, dtype=np.int32)[label]
