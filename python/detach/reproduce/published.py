"""What was found as lines of the ledger, `benchmarks/results.csv`: `detach reproduce --append`."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from detach import ledger
from detach.reproduce.figures import Picture, labels_file
from detach.reproduce.lines import Line
from detach.reproduce.rows import LEAD, ROWS
from detach.reproduce.tables import Filled

Fields = dict[str, object]


def append(path: Path, lines: Iterable[Fields]) -> int:
    """Adds ``lines`` with date, commit and machine; returns how many.

    Raises:
        MachineError: The file cannot be written.
    """
    return ledger.append_lines(path, lines, ledger.machine())


def of_tables(tables: Sequence[Filled], recipe: str) -> Iterator[Fields]:
    """F1 and mAP of every row that was run, and the method less it."""
    for table in tables:
        group = table.group
        shared: Fields = {"what": f"table {table.number}, recipe {recipe}", "data": table.data}
        if group is not None:
            shared |= {"data": group.dataset, "items": group.items}
        for line in table.lines:
            yield from ({**shared, **found} for found in _numbers(line))


def of_answers(
    answers: Sequence[tuple[Picture, Sequence[Mapping[str, object]]]], recipe: str
) -> Iterator[Fields]:
    """F1 and mAP of every try that was run to answer an open question."""
    for picture, rows in answers:
        for row in rows:
            if not row["seeds"]:
                continue
            shared: Fields = {
                "what": f"figure {picture.number}, recipe {recipe}",
                "data": f"simulated home {row['home']}",
                "provider": row["title"],
                "seeds": row["seeds"],
            }
            f1 = {"value": row["f1"], "low": row["low"], "high": row["high"]}
            yield shared | {"metric": "f1"} | f1
            yield shared | {"metric": "map", "value": row["map"]}


def of_labels(out: Path, data: Mapping[str, str], recipe: str) -> Iterator[Fields]:
    """Fig. 11: F1 by labelled windows of each class; low and high are the worst and best draw.

    Args:
        out: Where its numbers are.
        data: Names of data sets by their folder there, of which it was drawn.
        recipe: The runs' own.
    """
    for folder, name in data.items():
        path = out / labels_file(folder)
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                budget = row.pop("labels")
                what = f"figure 11, recipe {recipe}"
                shared: Fields = {"what": what, "data": name, "provider": row["method"]}
                where = {"value": row["f1"], "low": row["low"], "high": row["high"]}
                yield shared | {"metric": f"f1 of {budget} labels a class"} | where


def _numbers(line: Line) -> Iterator[Fields]:
    if line.ours is None:
        return
    row: Fields = {"provider": ROWS[line.name].title, "seeds": line.ours.seeds or ""}
    for metric in ("f1", "map"):
        cell = line.ours.cells[metric]
        numbers = {"value": cell.mean, "sd": cell.sd, "low": cell.low, "high": cell.high}
        yield row | {"metric": metric} | ledger.rounded(numbers)
    if line.less is not None:
        pair = f"{ROWS[LEAD].title} - {ROWS[line.name].title}"
        numbers = {"value": line.less.value, "low": line.less.low, "high": line.less.high}
        yield (
            row
            | {"provider": pair, "seeds": line.less.seeds or "", "metric": "f1"}
            | ledger.rounded(numbers)
        )
