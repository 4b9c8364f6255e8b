"""Figures over rows that differ in one number: which runs make which line."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detach.errors import DataError
from detach.report import our_figures
from detach.reproduce import few_labels, figures, sweeps
from detach.reproduce.rows import FALSE_PER_MIN, GIVEN_PLACES, ROWS
from detach.tasks import Fold, Items

F1 = {
    "detach": [0.8, 0.9], "no-refinement": [0.7], "false-2": [0.6, 0.7],
    "false-2-no-refinement": [0.5, 0.6, 0.1], "places-4": [0.4, 0.6],
    "places-12": [0.75, 0.55, 1.0],
}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs whose scores are `F1`, seed by seed, and whose clusters agree with places half as well.

    Those of false-2 were not compared with places.
    """

    def f1(row: Path) -> dict[int, float]:
        return dict(enumerate(F1.get(row.name, [])))

    def agreements(_: Path, __: str, row: str) -> dict[int, float]:
        found = F1.get(row, []) if row != "false-2" else []
        return {seed: x / 2 for seed, x in enumerate(found)}

    monkeypatch.setattr(sweeps, "f1_of_seeds", f1)
    monkeypatch.setattr(sweeps, "_agreements", agreements)
    return tmp_path


def finish(out: Path, row: str, about: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = out / "runs" / "home" / row / "seed0"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text("{}")
    (folder / "about.json").write_text(json.dumps(about))
    monkeypatch.setattr(
        sweeps, "load_config", lambda f: (None, json.loads((f / "about.json").read_text()))
    )


def test_rows_of_the_figures_are_in_the_list() -> None:
    for number in (16, 17):
        assert set(figures.FIGURES[number].rows) <= set(ROWS)


def test_lines_hold_what_was_run(out: Path) -> None:
    panels, seeds = sweeps.false_activations(out, "home")
    assert seeds == 1  # one row has no more
    x, mean, low, high = panels["weighted F1"]["with refinement"]
    assert x.tolist() == [0, FALSE_PER_MIN[0]]
    np.testing.assert_allclose([mean, low, high], [[0.8, 0.6]] * 3)
    assert set(panels["weighted F1"]) == {"with refinement", "without"}
    assert set(panels["places (NMI)"]) == {"without"}  # of one point there is no line
    svg = our_figures.robustness(panels, "false activations a minute")
    assert "with refinement" in svg
    assert "places (NMI)" in svg


def test_without_runs_there_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row with false activations was run"):
        sweeps.false_activations(tmp_path, "home")


def test_the_curve_of_places_stands_beside_what_k_is_worth(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [{"clusters": k, "mean": k / 10, "low": k / 11, "high": k / 9} for k in range(2, 8)]
    finish(out, "places-auto", {"clusters": 7, "places_curve": points}, monkeypatch)
    finish(out, "detach", {"clusters": 8}, monkeypatch)
    curve, chosen, known, f1 = sweeps.place_counts(out, "home")
    assert curve[0].tolist() == [2, 3, 4, 5, 6, 7]
    assert (chosen, known) == (7, 8)
    assert f1 == {4: [0.4, 0.6], 12: [0.75, 0.55], 8: [0.8, 0.9]}  # at the seeds all have
    assert set(f1) - {8} <= set(GIVEN_PLACES)
    means = {k: float(np.mean(values)) for k, values in f1.items()}
    svg = our_figures.place_counts(curve, chosen, known, means)
    assert "two halves agree" in svg
    assert "found" in svg
    assert "known" in svg


def test_a_run_without_a_curve_is_told(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(out, "places-auto", {"clusters": 7}, monkeypatch)
    with pytest.raises(DataError, match="has no places_curve"):
        sweeps.place_counts(out, "home")


def test_points_of_a_line_are_means_over_the_same_seeds() -> None:
    found = {"a": {0: 0.9, 1: 0.7, 2: 0.8}, "b": {1: 0.6, 0: 0.8}, "c": {}}
    assert sweeps.of_shared_seeds(found) == {"a": [0.9, 0.7], "b": [0.8, 0.6]}
    assert sweeps.of_shared_seeds({"a": {}}) == {}
    with pytest.raises(DataError, match="a, b have no seed in common; run the same seeds of each"):
        sweeps.of_shared_seeds({"a": {0: 0.9}, "b": {1: 0.6}})


def test_few_labels_count_what_carries_them() -> None:
    """Where each sequence has one label, twelve sequences are tested and not their windows."""
    of = np.repeat(np.arange(24), 5)
    truth = np.arange(24) % 3
    fold = Fold(np.arange(12), np.zeros(0, np.int64), np.arange(12, 24))
    items = Items(np.arange(120), of, "sequences", truth, np.arange(24), np.zeros(24),
                  np.arange(0, 120, 5), ("a", "b", "c"), (fold,))  # fmt: skip
    windows = np.eye(3, dtype=np.float32)[truth][of]
    windows[::5] = windows[::5, [1, 2, 0]]  # one of five says something else
    points: list[list[float]] = [[], [], [], []]
    few_labels._points(points, items.pooled(windows), items)
    assert [len(found) for found in points] == [few_labels.DRAWS] * 3 + [1]
    assert min(min(found) for found in points) == 1.0


def test_runs_without_an_answer_of_their_own_are_named(tmp_path: Path) -> None:
    lacking = SimpleNamespace(tasks=[SimpleNamespace(answers=[SimpleNamespace(kind="reference")])])
    with pytest.raises(DataError, match="has no answer of the method itself; evaluate it again"):
        few_labels.own_answer(lacking, tmp_path)  # type: ignore[arg-type]
