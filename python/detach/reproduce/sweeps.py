"""Rows that differ in one number: false activations a minute, the number of places."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detach.errors import DataError
from detach.model import load_config
from detach.report.our_figures import Line
from detach.reproduce.few_labels import f1_of_seeds
from detach.reproduce.rows import FALSE_PER_MIN, GIVEN_PLACES, LEAD
from detach.results import RESULTS_FILE, Results, read_results

FALSE_ROWS = tuple(f"false-{n}{name}" for n in FALSE_PER_MIN for name in ("", "-no-refinement"))
PLACE_ROWS = tuple(f"places-{k}" for k in GIVEN_PLACES)


def false_activations(out: Path, data: str) -> dict[str, dict[str, Line]]:
    """F1, and agreement of clusters with places, by rate, with refinement and without.

    Raises:
        DataError: No rate was run.
    """
    ways = {
        "with refinement": (LEAD, *(f"false-{n}" for n in FALSE_PER_MIN)),
        "without": ("no-refinement", *(f"false-{n}-no-refinement" for n in FALSE_PER_MIN)),
    }
    rates = (0, *FALSE_PER_MIN)
    panels: dict[str, dict[str, Line]] = {"weighted F1": {}, "places (NMI)": {}}
    for way, rows in ways.items():
        runs = [(rate, _runs(out, data, row)) for rate, row in zip(rates, rows, strict=True)]
        scores = [
            (r, f1_of_seeds(_row(out, data, row))) for r, row in zip(rates, rows, strict=True)
        ]
        scores = [pair for pair in scores if pair[1]]
        if len(scores) > 1:
            panels["weighted F1"][way] = _line(scores)
        placed = [(r, [x.places[0].nmi for x in found if x.places]) for r, found in runs]
        placed = [pair for pair in placed if pair[1]]
        if len(placed) > 1:
            panels["places (NMI)"][way] = _line(placed)
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        raise DataError(f"{data}: no row with false activations was run")
    return panels


def place_counts(out: Path, data: str) -> tuple[Line, int, int | None, dict[int, float]]:
    """The curve of the first seed that looked for K, what it took, K as known, F1 by K.

    Raises:
        DataError: The run has no curve.
    """
    folder = sorted(_row(out, data, "places-auto").glob(f"seed*/{RESULTS_FILE}"))[0].parent
    _, about = load_config(folder)
    points = about.get("places_curve", ())
    if not points:
        raise DataError(f"{folder}: its config.yaml has no places_curve; train it again")
    columns = [np.array([p[name] for p in points]) for name in ("clusters", "mean", "low", "high")]
    f1 = {k: _mean_f1(out, data, f"places-{k}") for k in GIVEN_PLACES}
    known = _clusters(out, data)
    if known is not None:
        f1[known] = _mean_f1(out, data, LEAD)
    given = {k: value for k, value in f1.items() if not np.isnan(value)}
    return (columns[0], columns[1], columns[2], columns[3]), int(about["clusters"]), known, given


def _clusters(out: Path, data: str) -> int | None:
    """K of the method as recommended."""
    found = sorted(_row(out, data, LEAD).glob(f"seed*/{RESULTS_FILE}"))
    return int(load_config(found[0].parent)[1]["clusters"]) if found else None


def _row(out: Path, data: str, row: str) -> Path:
    return out / "runs" / data / row


def _runs(out: Path, data: str, row: str) -> list[Results]:
    found = sorted(_row(out, data, row).glob(f"seed*/{RESULTS_FILE}"))
    return [read_results(path.parent) for path in found]


def _mean_f1(out: Path, data: str, row: str) -> float:
    found = f1_of_seeds(_row(out, data, row))
    return float(np.mean(found)) if found else float("nan")


def _line(points: Sequence[tuple[int, Sequence[float]]]) -> Line:
    values = [np.array(found) for _, found in points]
    return (
        np.array([x for x, _ in points]),
        np.array([v.mean() for v in values]),
        np.array([v.min() for v in values]),
        np.array([v.max() for v in values]),
    )
