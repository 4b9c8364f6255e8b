"""Phase classification, Kendall's tau, phase progression and AP@K. No torch.

Definitions as in CASA (Kwon et al., CVPR 2022) and, for AP@K, CARL (Chen et al., CVPR 2022); but
CASA takes tau with stride 2, of every other frame, and this of every frame. A clip is one action
from beginning to end; n frames, d numbers of a feature, P phases, E = P - 1 events.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from detach.errors import DataError
from detach.probe import fit_probe
from detach.scores import Floats, Ints

SHARES = (0.1, 0.5, 1.0)
"""Of labelled frames, for phase classification."""
NEAREST = (5, 10, 15)
MOST_PHASES = 1000
RIDGE = 1.0
"""Penalty of the regression on standardised features: there may be more of them than frames."""


@dataclass(frozen=True)
class Clip:
    """One action as an encoder sees it."""

    action: str
    features: NDArray[np.float32]
    """[n, d]"""
    phase: Ints
    """[n], 0 to P - 1, never falling"""

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.phase.shape != self.features.shape[:1]:
            raise ValueError(
                f"a clip's features must be [n, d] and phase [n], got {self.features.shape} and "
                f"{self.phase.shape}"
            )
        if len(self.phase) < 2 or (np.diff(self.phase) < 0).any():
            raise ValueError("a clip needs 2 frames at least, in phases that never fall")
        wrong = np.flatnonzero(~np.isfinite(self.features).all(axis=1))
        if len(wrong):
            raise DataError(
                f"a clip of {self.action!r}: features must be finite, found {len(wrong)} of "
                f"{len(self.phase)} frames where they are not, the first {wrong[0]}; look at "
                "the weights of the encoder and at what it was given"
            )


@dataclass(frozen=True)
class Alignment:
    """The measures, means over actions; NaN where too few clips were there."""

    accuracy: dict[float, float]
    """Of phases, by share of labelled frames."""
    tau: float
    progression: float
    precision: dict[int, float]
    """AP@K among frames of the same action."""
    precision_anywhere: dict[int, float]
    """AP@K among frames of all actions; those of another action count as wrong."""


def measure(train: Sequence[Clip], test: Sequence[Clip], *, seed: int = 0) -> Alignment:
    """All measures. Classifier and regression learn on ``train``, one of each an action.

    Raises:
        DataError: No action has two test clips, or none has clips to learn from, or those of one
            show a single phase.
    """
    pairs = [
        ([c for c in train if c.action == name], [c for c in test if c.action == name])
        for name in sorted({c.action for c in test})
    ]
    pairs = [(mine, tested) for mine, tested in pairs if mine and len(tested) > 1]
    if not pairs:
        raise DataError("alignment needs an action with a training clip and two test clips")
    for mine, _ in pairs:
        _check_phases(mine)
    asked = [c for _, tested in pairs for c in tested]
    within = [average_precision(tested, NEAREST) for _, tested in pairs]
    return Alignment(
        {s: _mean(phase_accuracy(a, b, s, seed) for a, b in pairs) for s in SHARES},
        _mean(kendall_tau(b) for _, b in pairs),
        _mean(progression(a, b) for a, b in pairs),
        {k: _mean(found[k] for found in within) for k in NEAREST},
        average_precision(asked, NEAREST),
    )


def _check_phases(train: Sequence[Clip]) -> None:
    """That there is something to tell apart.

    Raises:
        DataError: All training clips of an action show the same phase.
    """
    shown = np.unique(np.concatenate([c.phase for c in train]))
    if len(shown) < 2:
        raise DataError(
            f"training clips of {train[0].action!r} must show 2 phases at least, found phase "
            f"{shown[0]} alone in {len(train)}; give clips of whole actions, or leave it out"
        )


def phase_accuracy(
    train: Sequence[Clip], test: Sequence[Clip], share: float = 1.0, seed: int = 0
) -> float:
    """Share of test frames whose phase a logistic regression names that saw ``share`` of labels.

    NaN where those show fewer than two phases.
    """
    x, y = np.concatenate([c.features for c in train]), np.concatenate([c.phase for c in train])
    order = np.random.default_rng(seed).permutation(len(y))
    kept = np.sort(order[: max(1, round(share * len(y)))])
    if len(np.unique(y[kept])) < 2:
        return float("nan")
    phases = 1 + max(int(c.phase.max()) for c in (*train, *test))
    probe = fit_probe((x[kept], y[kept].astype(np.int64)), None, phases, grid=(1.0,))
    asked = np.concatenate([c.features for c in test])
    said = probe.probabilities(asked).argmax(axis=1)
    return float((said == np.concatenate([c.phase for c in test])).mean())


def kendall_tau(clips: Sequence[Clip]) -> float:
    """Tau-b of each clip's frames and their nearest frames in another, over all ordered pairs.

    1 where the neighbours go forward, -1 backward; a pair whose neighbours are all one frame is 0.
    """
    values = [
        tau_b(_distances(a.features, b.features).argmin(axis=1))
        for a in clips
        for b in clips
        if a is not b
    ]
    return _mean(values)


def tau_b(order: NDArray[np.integer]) -> float:
    """Kendall's tau-b of 0, 1, 2 ... and ``order`` [n]; 0 where all of it is tied."""
    sign = np.sign(order[None, :].astype(np.int64) - order[:, None])
    above = sign[np.triu_indices(len(order), 1)]
    untied = int(np.abs(above).sum())
    return float(above.sum() / np.sqrt(len(above) * untied)) if untied else 0.0


def progression(train: Sequence[Clip], test: Sequence[Clip]) -> float:
    """R2 on test frames of how far off each event is, by linear regression; mean over events."""
    x = np.concatenate([c.features for c in train]).astype(np.float64)
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.where(std > 1e-6, std, 1.0)
    events = 1 + max(int(c.phase.max()) for c in (*train, *test))
    target = np.concatenate([time_to_events(c.phase, events) for c in train])
    asked = np.concatenate([c.features for c in test]).astype(np.float64)
    truth = np.concatenate([time_to_events(c.phase, events) for c in test])
    said = Ridge(alpha=RIDGE).fit((x - mean) / std, target).predict((asked - mean) / std)
    return r_squared(truth, said.reshape(truth.shape))


def time_to_events(phase: Ints, phases: int) -> Floats:
    """How far each frame is from the start of phases 1, 2 ..., in clip lengths, [n, E].

    Negative before. A phase that no frame shows starts where the next one does.
    """
    starts = np.searchsorted(phase, np.arange(1, phases))
    return np.asarray((np.arange(len(phase))[:, None] - starts) / len(phase), dtype=np.float64)


def r_squared(truth: Floats, said: Floats) -> float:
    """1 - squared error / variance of each column of [n, E], averaged over those that vary."""
    error = ((truth - said) ** 2).sum(axis=0)
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    known = spread > 1e-12
    return _mean((1 - error[known] / spread[known]).tolist())


def average_precision(clips: Sequence[Clip], nearest: Sequence[int]) -> dict[int, float]:
    """Share of the K nearest frames of other clips that show the same action and phase, by K.

    A mean over a clip's frames, then over clips; NaN where fewer than K frames are elsewhere.
    """
    actions = {name: i for i, name in enumerate(sorted({c.action for c in clips}))}
    x = np.concatenate([c.features for c in clips])
    clip = np.concatenate([np.full(len(c.phase), i) for i, c in enumerate(clips)])
    shown = np.concatenate([MOST_PHASES * actions[c.action] + c.phase for c in clips])
    most = max(nearest)
    values: dict[int, list[float]] = {k: [] for k in nearest}
    for i in range(len(clips)):
        mine, others = np.flatnonzero(clip == i), np.flatnonzero(clip != i)
        apart = _distances(x[mine], x[others])
        near = np.argpartition(apart, min(most, len(others)) - 1, axis=1)[:, :most]
        order = np.argsort(np.take_along_axis(apart, near, axis=1), axis=1, kind="stable")
        near = others[np.take_along_axis(near, order, axis=1)]
        right = shown[near] == shown[mine, None]
        for k in nearest:
            values[k].append(float(right[:, :k].mean()) if len(others) >= k else float("nan"))
    return {k: float(np.mean(found)) for k, found in values.items()}


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    """Squared Euclidean distances [n, m] of rows [n, d] and [m, d]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    return np.asarray(square - 2 * a @ b.T)


def _mean(values: object) -> float:
    found = [v for v in values if not np.isnan(v)]  # type: ignore[attr-defined]
    return float(np.mean(found)) if found else float("nan")
