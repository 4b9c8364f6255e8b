"""The linear probe, and what it is compared with: statistics, the clock, the majority. No torch."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from detach.data.store import write_whole
from detach.errors import DataError
from detach.scores import Floats, Ints, confusion, weighted_f1

HEAD_FILE = "head.safetensors"
NAMED_FILE = "named.safetensors"
MADE_BY = {HEAD_FILE: "detach evaluate", NAMED_FILE: "detach name"}
HEAD_SCHEMA = 1
C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
ABSENT_BIAS = -50.0
"""Logit of a class without a training item; finite, so that the head exports everywhere."""
CLOCK_BIN_S = 60.0
CLOCK_KNOTS = 12


@dataclass(frozen=True)
class LinearProbe:
    """A linear head on raw features; the standardisation is folded into its weights."""

    weight: NDArray[np.float32]
    """[L, features]"""
    bias: NDArray[np.float32]
    """[L]"""
    c: float
    """Inverse strength of the penalty, chosen on validation data."""
    validation: tuple[tuple[float, float], ...] = ()
    """(C, weighted F1 on the validation part) of every value tried."""

    @property
    def width(self) -> int:
        """Features it takes."""
        return int(self.weight.shape[1])

    def probabilities(self, features: NDArray[Any]) -> Floats:
        """Class probabilities [n, L] of features [n, features]."""
        return softmax(features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias)


@dataclass(frozen=True)
class Head:
    """What `save_head` wrote: x @ weight.T + bias for x of `model.Detach.describe`.

    Each of the R rows speaks for a class, whose logit is its highest row.
    """

    weight: NDArray[np.float32]
    """[R, features]: as many as Eq. 6 has, or all."""
    bias: NDArray[np.float32]
    """[R]"""
    track: str
    classes: tuple[str, ...]
    model: str | None
    """sha256 of the model.safetensors it was fitted on; None in a head of before it was kept."""
    rows: tuple[int, ...]
    """Class of each row [R]; each class has one at least."""

    def probabilities(self, features: NDArray[Any]) -> Floats:
        """Class probabilities [n, L] of features [n, features]."""
        each = features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        logit = np.full((len(each), len(self.classes)), -np.inf)
        for row, of in enumerate(self.rows):
            logit[:, of] = np.maximum(logit[:, of], each[:, row])
        return softmax(logit)


def save_head(
    folder: Path,
    probe: LinearProbe,
    *,
    track: str,
    classes: Sequence[str],
    model: str,
    rows: Sequence[int] | None = None,
    file: str = HEAD_FILE,
) -> None:
    """Writes the linear head of a run folder.

    Args:
        folder: Of the run.
        probe: Weights and biases, a row each.
        track: Whose classes they are.
        classes: Their names.
        model: sha256 of its model.safetensors.
        rows: Class of each row; None is one row a class, in order.
        file: `HEAD_FILE` is what labels gave, `NAMED_FILE` what people gave names to.
    """
    about = {
        "schema": str(HEAD_SCHEMA),
        "track": track,
        "classes": json.dumps(list(classes)),
        "rows": json.dumps(list(range(len(classes)) if rows is None else rows)),
        "input": "sensor embedding [spatial, temporal], halves and whole of length 1; in a wider "
        "head place features of length 1 follow",
        "model": model,
    }
    write_whole(folder / file, save({"weight": probe.weight, "bias": probe.bias}, about))


def load_head(folder: Path, file: str = HEAD_FILE) -> Head | None:
    """The head of a run folder; None where none was written.

    Raises:
        DataError: It is damaged, or of another schema.
    """
    path, verb = folder / file, MADE_BY.get(file, "detach evaluate")
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as stored:
            about = stored.metadata() or {}
            found = about.get("schema")
            if found != str(HEAD_SCHEMA):
                raise DataError(
                    f"{path}: schema must be {HEAD_SCHEMA}, found {found!r}; run `{verb}` again"
                )
            weight, bias = stored.get_tensor("weight"), stored.get_tensor("bias")
        classes = tuple(map(str, json.loads(about["classes"])))
        rows = tuple(map(int, json.loads(about.get("rows") or "null") or range(len(classes))))
        head = Head(weight, bias, about["track"], classes, about.get("model"), rows)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DataError(f"{path}: damaged: {error}; run `{verb}` again") from error
    fits = weight.ndim == 2 and weight.shape[:1] == bias.shape == (len(rows),)
    if not fits or set(rows) != set(range(len(classes))):
        raise DataError(
            f"{path}: weight {list(weight.shape)} and bias {list(bias.shape)} do not fit "
            f"{len(classes)} classes; run `{verb}` again"
        )
    return head


def fit_probe(
    train: tuple[NDArray[Any], Ints],
    validation: tuple[NDArray[Any], Ints] | None,
    labels: int,
    grid: Sequence[float] = C_GRID,
) -> LinearProbe:
    """Multinomial logistic regression on standardised features; deterministic.

    Args:
        train: Features [n, features] and classes [n].
        validation: The same of the validation part, on which C is chosen by weighted F1 (the
            smaller C on a tie); without it C = 1, or the grid's only value.
        labels: Number of classes; those without a training item are never answered.
        grid: Values of C, ascending.

    Raises:
        ValueError: Fewer than two classes to tell apart.
    """
    features, truth = np.asarray(train[0], dtype=np.float32), train[1]
    if len(np.unique(truth)) < 2:
        raise ValueError(f"train must hold at least 2 classes, got {len(np.unique(truth))}")
    mean, std = features.mean(axis=0), features.std(axis=0)
    std = np.where(std > 1e-6, std, 1.0).astype(np.float32)
    scaled = (features - mean) / std
    if validation is None or len(validation[1]) == 0:
        c = grid[0] if len(grid) == 1 else 1.0
        return _fold(_fit(scaled, truth, labels, [c])[0], mean, std, c, ())
    heads = _fit(scaled, truth, labels, grid)
    probes = [_fold(h, mean, std, c, ()) for h, c in zip(heads, grid, strict=True)]
    f1 = [_f1(p.probabilities(validation[0]), validation[1], labels) for p in probes]
    best = probes[int(np.argmax(f1))]
    tried = tuple((float(c), value) for c, value in zip(grid, f1, strict=True))
    return LinearProbe(best.weight, best.bias, best.c, tried)


def softmax(logit: Floats) -> Floats:
    """Rows [n, L] to probabilities."""
    power = np.exp(logit - logit.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True))


def raw_statistics(samples: NDArray[Any], chunk: int = 4096) -> NDArray[np.float32]:
    """What order-free statistics see: mean, std, min, max and 99th percentile of |x| by channel.

    Args:
        samples: Normalised windows [N, T, C].
        chunk: Windows taken at once, to bound memory.

    Returns:
        [N, 5 C]; nothing in it depends on the order of samples within a window.
    """
    parts = [_statistics(samples[i : i + chunk]) for i in range(0, len(samples), chunk)]
    width = 5 * samples.shape[2]
    return np.concatenate([*parts, np.zeros((0, width))]).astype(np.float32)


def clock_features(start_s: Floats, train_start_s: Floats) -> NDArray[np.float32]:
    """Time since the start of the recording as one-hot minutes and a cubic spline, [n, features].

    Where people follow a script, the clock alone recognises much; sensors must beat it. Times
    later than any in the training part fall into its last minute.
    """
    last = float(train_start_s.max())
    t = np.clip(start_s, 0.0, last)
    bins = int(last // CLOCK_BIN_S) + 1
    minute = np.eye(bins)[(t // CLOCK_BIN_S).astype(np.int64)]
    knots = np.unique(np.quantile(train_start_s, np.linspace(0, 1, CLOCK_KNOTS)))[:-1]
    scale = max(last, 1.0)
    spline = np.maximum((t[:, None] - knots[None, :]) / scale, 0.0) ** 3
    powers = np.stack([t / scale, (t / scale) ** 2], axis=1)
    return np.concatenate([minute, powers, spline], axis=1).astype(np.float32)


def majority(train_truth: Ints, n: int, labels: int) -> Floats:
    """The training part's class frequencies as everyone's probabilities, [n, L]."""
    share = np.bincount(train_truth, minlength=labels) / max(len(train_truth), 1)
    return np.repeat(share[None, :], n, axis=0)


def pool_sequences(
    features: NDArray[Any], recording: Ints, truth: Ints
) -> tuple[NDArray[Any], Ints, Ints]:
    """Mean vector, label and index of every recording: features [n, d] to [recordings, d]."""
    names, first, of = np.unique(recording, return_index=True, return_inverse=True)
    pooled = np.zeros((len(names), features.shape[1]))
    np.add.at(pooled, of.reshape(-1), features)
    pooled /= np.bincount(of.reshape(-1))[:, None]
    return pooled.astype(np.float32), truth[first], names.astype(np.int64)


def labelled_by_sequence(recording: Ints, truth: Ints) -> bool:
    """Whether every recording carries a single label, so that windows are not what is judged."""
    pairs = np.unique(np.stack([recording, truth], axis=1), axis=0)
    names = np.unique(recording)
    return len(names) >= 4 and len(pairs) == len(names) and len(np.unique(truth)) > 1


def _statistics(x: NDArray[Any]) -> NDArray[Any]:
    top = np.quantile(np.abs(x), 0.99, axis=1)
    return np.concatenate([x.mean(1), x.std(1), x.min(1), x.max(1), top], axis=1)


def _fit(
    scaled: NDArray[np.float32], truth: Ints, labels: int, grid: Sequence[float]
) -> list[tuple[Floats, Floats]]:
    """Weight [L, features] and bias [L] for every C; each starts from the one before."""
    model = LogisticRegression(max_iter=200, tol=1e-4, warm_start=True)
    found = []
    for c in grid:
        model.set_params(C=c)
        with warnings.catch_warnings():
            # A step cap is part of the recipe: weak penalties have no use for more digits.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, truth)
        weight, bias = np.zeros((labels, scaled.shape[1])), np.full(labels, ABSENT_BIAS)
        coefficients, intercept = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn gives the second class's logit alone
            coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
            intercept = np.concatenate([-intercept / 2, intercept / 2])
        weight[model.classes_], bias[model.classes_] = coefficients, intercept
        found.append((weight, bias))
    return found


def _fold(
    head: tuple[Floats, Floats],
    mean: NDArray[Any],
    std: NDArray[Any],
    c: float,
    tried: tuple[tuple[float, float], ...],
) -> LinearProbe:
    weight = head[0] / std
    bias = head[1] - weight @ mean
    return LinearProbe(weight.astype(np.float32), bias.astype(np.float32), float(c), tried)


def _f1(probability: Floats, truth: Ints, labels: int) -> float:
    return float(weighted_f1(confusion(truth, probability.argmax(axis=1), labels)))
