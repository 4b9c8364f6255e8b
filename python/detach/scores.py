"""How good predictions are, and how sure we are of it. NumPy only.

Overlapping windows of one recording resemble each other, so intervals never come from resampling
windows: whole recordings are drawn, or blocks of 60 s where the test part has few recordings.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 1000
BLOCK_S = 60.0
RECORDINGS_MIN = 8
"""From so many recordings in the test part on, whole recordings are drawn."""
CALIBRATION_BINS = 15
STEPS_MAX = 1000
"""Steps of a precision-recall curve kept in resamples; the estimate itself keeps all."""


@dataclass(frozen=True)
class Blocks:
    """What the bootstrap draws: a block number per item, and what a block is."""

    of: Ints
    """[n], 0 to count - 1."""
    count: int
    unit: str

    def draws(self, resamples: int = RESAMPLES, seed: int = 0) -> Ints:
        """How often each block is in each resample, [resamples, count]; the same for one seed."""
        share = np.full(self.count, 1.0 / self.count)
        drawn = np.random.default_rng(seed).multinomial(self.count, share, size=resamples)
        return drawn.astype(np.int64)

    def mean_draws(self, value: NDArray[Any]) -> Floats:
        """Mean of ``value`` [n] in every resample, [resamples]."""
        drawn = self.draws()
        total = drawn @ np.bincount(self.of, weights=value, minlength=self.count)
        return np.asarray(total / np.maximum(drawn @ np.bincount(self.of, minlength=self.count), 1))


def cut_blocks(recording: NDArray[Any], start_s: NDArray[Any], block_s: float = BLOCK_S) -> Blocks:
    """Blocks of test items: whole recordings where there are at least 8, else stretches of 60 s.

    Args:
        recording: Index or name of the recording of each item, [n].
        start_s: Start of each item in its recording, [n].
        block_s: Length of a stretch in seconds.
    """
    names, index = np.unique(recording, return_inverse=True)
    if len(names) >= RECORDINGS_MIN:
        return Blocks(index.astype(np.int64), len(names), "recordings")
    stretch = np.floor(np.asarray(start_s, dtype=np.float64) / block_s).astype(np.int64)
    pairs = np.stack([index.astype(np.int64), stretch], axis=1)
    found, of = np.unique(pairs, axis=0, return_inverse=True)
    return Blocks(of.reshape(-1).astype(np.int64), len(found), f"blocks of {block_s:g} s")


def interval(draws: Floats, share: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values [resamples]; NaN where they are all NaN."""
    known = draws[np.isfinite(draws)]
    if known.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def confusion(truth: Ints, predicted: Ints, labels: int) -> Ints:
    """Counts [L, L], rows the truth, columns the prediction."""
    flat = np.bincount(truth * labels + predicted, minlength=labels * labels)
    return flat.reshape(labels, labels).astype(np.int64)


def confusion_draws(truth: Ints, predicted: Ints, labels: int, blocks: Blocks) -> Floats:
    """Confusion matrix of every resample, [resamples, L, L]."""
    cell = blocks.of * labels * labels + truth * labels + predicted
    per_block = np.bincount(cell, minlength=blocks.count * labels * labels)
    drawn = blocks.draws() @ per_block.reshape(blocks.count, labels * labels)
    return drawn.reshape(-1, labels, labels).astype(np.float64)


def f1_per_class(counts: NDArray[Any]) -> Floats:
    """F1 of each class from confusion matrices [..., L, L]; 0 for a class never seen nor said."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    both = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.asarray(np.divide(2 * hit, both, out=np.zeros_like(hit), where=both > 0))


def weighted_f1(counts: NDArray[Any]) -> Floats:
    """F1 averaged over classes by their true frequency, from confusion matrices [..., L, L]."""
    support = counts.sum(axis=-1)
    total = np.maximum(support.sum(axis=-1), 1)
    return np.asarray((f1_per_class(counts) * support).sum(axis=-1) / total)


def accuracy(counts: NDArray[Any]) -> Floats:
    """Share of right predictions, from confusion matrices [..., L, L]."""
    hit = np.trace(counts, axis1=-2, axis2=-1)
    return np.asarray(hit / np.maximum(counts.sum(axis=(-2, -1)), 1))


def average_precision(
    positive: NDArray[np.bool_], score: Floats, blocks: Blocks | None = None
) -> Floats:
    """Area under the precision-recall steps of one class, ties taken together.

    Args:
        positive: Which items are of the class, [n].
        score: How sure the model is of the class, [n].
        blocks: Resamples them; None counts every item once.

    Returns:
        [resamples], or [1] without blocks; NaN where no positive item counts.
    """
    drawn = np.ones((1, 1)) if blocks is None else blocks.draws().astype(np.float64)
    of = np.zeros(len(score), dtype=np.int64) if blocks is None else blocks.of
    # Precision is only ever read where recall rises, so steps at the positives' scores are enough;
    # counts by block and step turn a thousand resamples into one product of matrices.
    steps = np.unique(score[positive])
    if blocks is not None and len(steps) > STEPS_MAX:
        steps = steps[np.linspace(0, len(steps) - 1, STEPS_MAX).astype(np.int64)]
    cell = of * (len(steps) + 1) + len(steps) - np.searchsorted(steps, score, side="right")
    size = (drawn.shape[1], len(steps) + 1)
    said = np.bincount(cell, minlength=size[0] * size[1]).reshape(size)
    true = np.bincount(cell, weights=positive, minlength=size[0] * size[1]).reshape(size)
    gained = drawn @ true
    precision = np.cumsum(gained, axis=1) / np.maximum(np.cumsum(drawn @ said, axis=1), 1e-12)
    total = gained.sum(axis=1)
    area = (gained * precision).sum(axis=1)
    return np.asarray(np.divide(area, total, out=np.full(len(area), np.nan), where=total > 0))


def mean_average_precision(
    truth: Ints, probability: Floats, blocks: Blocks | None = None
) -> Floats:
    """Macro mean of one-vs-rest average precisions, [resamples] or [1].

    A class without a test item (or without one in a resample) is left out of the mean: counting it
    as 0 or 1 would move the mean by points for a reason that has nothing to do with the model.
    """
    seen = np.unique(truth)
    table = np.stack([average_precision(truth == k, probability[:, k], blocks) for k in seen])
    known = np.isfinite(table)
    return np.asarray(np.where(known, table, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


@dataclass(frozen=True)
class Calibration:
    """Reliability by confidence bin; empty bins have count 0."""

    error: float
    """Expected calibration error: mean gap between confidence and accuracy, by count."""
    count: Ints
    confidence: Floats
    right: Floats


def calibration(truth: Ints, probability: Floats, bins: int = CALIBRATION_BINS) -> Calibration:
    """Compares how sure the top answer is with how often it is right; bins of equal width."""
    top = probability.max(axis=1)
    hit = probability.argmax(axis=1) == truth
    of = np.minimum((top * bins).astype(np.int64), bins - 1)
    count = np.bincount(of, minlength=bins).astype(np.int64)
    seen = np.maximum(count, 1)
    confidence = np.bincount(of, weights=top, minlength=bins) / seen
    right = np.bincount(of, weights=hit, minlength=bins) / seen
    error = float((count * np.abs(confidence - right)).sum() / max(len(truth), 1))
    return Calibration(error, count, confidence, right)


def retrieval_ranks(query: NDArray[Any], gallery: NDArray[Any], chunk: int = 1024) -> Ints:
    """How many others are at least as near to each query as its own partner, [n]; 0 is best.

    Args:
        query: Vectors [n, d]; row i belongs to row i of ``gallery``.
        gallery: Vectors [n, d].
        chunk: Queries compared at once, to bound memory.
    """
    left, right = _unit(query), _unit(gallery)
    ranks = np.empty(len(left), dtype=np.int64)
    for start in range(0, len(left), chunk):
        cosine = left[start : start + chunk] @ right.T
        own = cosine[np.arange(len(cosine)), start + np.arange(len(cosine))]
        # Ties count against the model, or vectors that are all alike would retrieve perfectly.
        ranks[start : start + chunk] = (cosine >= own[:, None] - 1e-6).sum(axis=1) - 1
    return ranks


def mutual_information(a: Ints, b: Ints) -> float:
    """Normalised mutual information of two labelings [n], arithmetic mean; 0 unrelated, 1 equal."""
    joint = confusion(a, b, int(max(a.max(), b.max())) + 1) / len(a)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    outer = np.outer(rows, columns)
    kept = joint > 0
    shared = float((joint[kept] * np.log(joint[kept] / outer[kept])).sum())
    mean = (_entropy(rows) + _entropy(columns)) / 2
    return max(shared, 0.0) / mean if mean > 0 else 1.0


def _entropy(share: Floats) -> float:
    kept = share[share > 0]
    return float(-(kept * np.log(kept)).sum())


def _unit(x: NDArray[Any]) -> NDArray[np.float32]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.maximum(norm, 1e-12), dtype=np.float32)
