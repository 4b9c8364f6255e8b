"""What a few labels are worth: F1 of a probe on 1, 5, 20 or all labelled windows of each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.assess import embed_sensors
from detach.data.recording import read_dataset
from detach.data.splits import few_of_each, split_windows
from detach.data.windows import load_windows
from detach.errors import DataError
from detach.evaluate import choose_track
from detach.model import Supervised, load_run
from detach.probe import fit_probe, raw_statistics
from detach.results import RAW, RESULTS_FILE, Results, Task, read_results
from detach.scores import Floats, confusion, weighted_f1
from detach.tasks import Items, make_items

BUDGETS = (1, 5, 20)
DRAWS = 5
C = 1.0
"""Penalty of the probe: who has few labels has none to choose it on."""


@dataclass(frozen=True)
class Curve:
    """F1 at each budget and with all labels, mean, lowest and highest over draws and seeds."""

    name: str
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def curves(out: Path, data: str, rows: Sequence[str]) -> list[Curve]:
    """One curve a row whose runs are there, and one of plain statistics; the worst first."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        for folder in sorted((out / "runs" / data / row).glob("seed*")):
            if (folder / "results.json").is_file():
                _add(found, row, folder)
    supervised = _supervised(out, data)
    if supervised:
        found["supervised"] = supervised
    made = [_curve(name, points) for name, points in found.items()]
    return sorted(made, key=lambda c: float(c.value[-1]))


def _add(found: dict[str, list[list[float]]], row: str, folder: Path) -> None:
    run = load_run(folder)
    if isinstance(run.model, Supervised):
        return
    dataset = read_dataset(run.data)
    windows = load_windows(dataset, run.config, stats=run.stats, video=False)
    parts = split_windows(windows, dataset, run.config.split)
    items = make_items(windows, parts, choose_track(run.config, dataset, None), "split")
    x = items.pooled(embed_sensors(run.model, windows, items.windows))
    _points(found.setdefault(row, [[] for _ in (*BUDGETS, 0)]), x, items)
    if RAW not in found:
        plain = items.pooled(raw_statistics(windows.samples[items.windows]))
        _points(found.setdefault(RAW, [[] for _ in (*BUDGETS, 0)]), plain, items)


def _points(points: list[list[float]], x: NDArray[np.float32], items: Items) -> None:
    """Adds F1 of several draws at every budget; items are windows, or sequences with one label."""
    fold, truth, labels = items.folds[0], items.truth, len(items.classes)
    for place, budget in enumerate((*BUDGETS, None)):
        for draw in range(DRAWS if budget else 1):
            few = fold.train
            if budget:
                few = few_of_each(fold.train, truth.astype(np.int32), budget, draw)
            if len(np.unique(truth[few])) < 2:
                continue
            probe = fit_probe((x[few], truth[few]), None, labels, grid=(C,))
            said = probe.probabilities(x[fold.test]).argmax(axis=1)
            points[place].append(float(weighted_f1(confusion(truth[fold.test], said, labels))))


def _supervised(out: Path, data: str) -> list[list[float]]:
    """F1 of networks trained on as few labels, where such rows were run."""
    names = [*(f"supervised-{n}" for n in BUDGETS), "supervised"]
    points = [[*f1_of_seeds(out / "runs" / data / name).values()] for name in names]
    return points if all(points) else []


def f1_of_seeds(row: Path) -> dict[int, float]:
    """Weighted F1 of the method itself in every finished run of a row, by seed.

    Raises:
        DataError: A run has no answer of its own to what was tested first.
    """
    found = {}
    for run in sorted(row.glob(f"seed*/{RESULTS_FILE}")):
        results = read_results(run.parent)
        task, said = own_answer(results, run.parent)
        counts = confusion(task.truth, said.argmax(axis=1), len(task.classes))
        found[results.seed] = float(weighted_f1(counts))
    return found


def own_answer(results: Results, folder: Path) -> tuple[Task, Floats]:
    """The task of the run itself, and the method's answer to it [n, L].

    Raises:
        DataError: There is none.
    """
    for task in results.tasks[:1]:
        for answer in task.answers:
            if answer.kind == "method":
                return task, answer.probability
    raise DataError(
        f"{folder}: its results.json has no answer of the method itself; evaluate it again"
    )


def _curve(name: str, points: Sequence[Sequence[float]]) -> Curve:
    filled = [list(p) or [float("nan")] for p in points]
    return Curve(
        name,
        np.array([np.mean(p) for p in filled]),
        np.array([np.min(p) for p in filled]),
        np.array([np.max(p) for p in filled]),
    )


def as_rows(found: Sequence[Curve]) -> list[Mapping[str, object]]:
    """For the CSV beside the figure."""
    names = [*(str(b) for b in BUDGETS), "all"]
    return [
        {"method": c.name, "labels": n, "f1": f"{v:.4f}", "low": f"{lo:.4f}", "high": f"{hi:.4f}"}
        for c in found
        for n, v, lo, hi in zip(names, c.value, c.low, c.high, strict=True)
    ]
