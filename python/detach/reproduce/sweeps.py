"""Rows that differ in one number: false activations a minute, the number of places."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detach.errors import DataError
from detach.model import load_config
from detach.report.our_figures import Line
from detach.reproduce.few_labels import f1_of_seeds
from detach.reproduce.rows import FALSE_PER_MIN, GIVEN_PLACES, LEAD
from detach.results import RESULTS_FILE, read_results

FALSE_ROWS = tuple(f"false-{n}{name}" for n in FALSE_PER_MIN for name in ("", "-no-refinement"))
PLACE_ROWS = tuple(f"places-{k}" for k in GIVEN_PLACES)


def false_activations(out: Path, data: str) -> tuple[dict[str, dict[str, Line]], int]:
    """F1, and agreement of clusters with places, by rate, with refinement and without.

    Returns:
        The lines of each panel, and how many seeds there are of every point of F1.

    Raises:
        DataError: No rate was run.
    """
    ways = {
        "with refinement": (LEAD, *(f"false-{n}" for n in FALSE_PER_MIN)),
        "without": ("no-refinement", *(f"false-{n}-no-refinement" for n in FALSE_PER_MIN)),
    }
    rows = tuple(row for names in ways.values() for row in names)
    f1 = of_shared_seeds({row: f1_of_seeds(_row(out, data, row)) for row in rows})
    nmi = of_shared_seeds({row: _agreements(out, data, row) for row in rows})
    panels = {}
    for title, found in (("weighted F1", f1), ("places (NMI)", nmi)):
        lines = {way: _line(names, found) for way, names in ways.items()}
        panels[title] = {way: line for way, line in lines.items() if len(line[0]) > 1}
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        raise DataError(f"{data}: no row with false activations was run")
    return panels, max(len(values) for values in f1.values())


def of_shared_seeds(found: Mapping[str, Mapping[int, float]]) -> dict[str, list[float]]:
    """Values of the rows that were run, each at the seeds that all of those have.

    Raises:
        DataError: They have no seed in common.
    """
    there = {row: values for row, values in found.items() if values}
    seeds = (
        sorted(set[int].intersection(*({*values} for values in there.values()))) if there else []
    )
    if there and not seeds:
        raise DataError(f"{', '.join(there)} have no seed in common; run the same seeds of each")
    return {row: [values[seed] for seed in seeds] for row, values in there.items()}


def place_counts(out: Path, data: str) -> tuple[Line, int, int | None, dict[int, list[float]]]:
    """The curve of the first seed that looked for K, what it took, K as known, F1 by K and seed.

    Raises:
        DataError: The run has no curve.
    """
    folder = sorted(_row(out, data, "places-auto").glob(f"seed*/{RESULTS_FILE}"))[0].parent
    _, about = load_config(folder)
    points = about.get("places_curve", ())
    if not points:
        raise DataError(f"{folder}: its config.yaml has no places_curve; train it again")
    columns = [np.array([p[name] for p in points]) for name in ("clusters", "mean", "low", "high")]
    known = _clusters(out, data)
    rows = {k: f"places-{k}" for k in GIVEN_PLACES} | ({known: LEAD} if known is not None else {})
    f1 = of_shared_seeds({row: f1_of_seeds(_row(out, data, row)) for row in rows.values()})
    given = {k: f1[row] for k, row in rows.items() if row in f1}
    return (columns[0], columns[1], columns[2], columns[3]), int(about["clusters"]), known, given


def _clusters(out: Path, data: str) -> int | None:
    """K of the method as recommended."""
    found = sorted(_row(out, data, LEAD).glob(f"seed*/{RESULTS_FILE}"))
    return int(load_config(found[0].parent)[1]["clusters"]) if found else None


def _row(out: Path, data: str, row: str) -> Path:
    return out / "runs" / data / row


def _agreements(out: Path, data: str, row: str) -> dict[int, float]:
    """Of clusters with places, by seed."""
    found = sorted(_row(out, data, row).glob(f"seed*/{RESULTS_FILE}"))
    runs = [read_results(path.parent) for path in found]
    return {run.seed: run.places[0].nmi for run in runs if run.places}


def _line(rows: Sequence[str], found: Mapping[str, Sequence[float]]) -> Line:
    """Rates, means, lowest and highest, of the rows that were run."""
    rates = (0, *FALSE_PER_MIN)
    there = [(x, np.array(found[row])) for x, row in zip(rates, rows, strict=True) if row in found]
    return (
        np.array([x for x, _ in there]),
        np.array([v.mean() for _, v in there]),
        np.array([v.min() for _, v in there]),
        np.array([v.max() for _, v in there]),
    )
