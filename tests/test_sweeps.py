"""Figures over rows that differ in one number: which runs make which line."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detach.errors import DataError
from detach.report import our_figures
from detach.reproduce import figures, sweeps
from detach.reproduce.rows import FALSE_PER_MIN, GIVEN_PLACES, ROWS

F1 = {
    "detach": [0.8, 0.9], "no-refinement": [0.7], "false-2": [0.6], "false-2-no-refinement": [0.5],
    "places-4": [0.4], "places-12": [0.75],
}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs whose scores are `F1`, and whose clusters agree with places half as well."""

    def of_row(row: Path) -> list[float]:
        return F1.get(row.name, [])

    def runs(_: Path, __: str, row: str) -> list[SimpleNamespace]:
        found = [SimpleNamespace(places=[SimpleNamespace(nmi=x / 2)]) for x in F1.get(row, [])]
        return found if row != "false-2" else [SimpleNamespace(places=[])]

    monkeypatch.setattr(sweeps, "f1_of_seeds", of_row)
    monkeypatch.setattr(sweeps, "_runs", runs)
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
    panels = sweeps.false_activations(out, "home")
    x, mean, low, high = panels["weighted F1"]["with refinement"]
    assert x.tolist() == [0, FALSE_PER_MIN[0]]
    np.testing.assert_allclose([mean, low, high], [[0.85, 0.6], [0.8, 0.6], [0.9, 0.6]])
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
    assert f1 == {4: 0.4, 12: 0.75, 8: pytest.approx(0.85)}
    assert set(f1) - {8} <= set(GIVEN_PLACES)
    svg = our_figures.place_counts(curve, chosen, known, f1)
    assert "two halves agree" in svg
    assert "found" in svg
    assert "known" in svg


def test_a_run_without_a_curve_is_told(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(out, "places-auto", {"clusters": 7}, monkeypatch)
    with pytest.raises(DataError, match="has no places_curve"):
        sweeps.place_counts(out, "home")
