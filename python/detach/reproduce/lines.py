"""Rows of tables and of answers: what we measured and what the authors report, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detach.errors import DataError
from detach.reproduce.paper import ARXIV, CAMERA_READY, Reported
from detach.reproduce.rows import LEAD, ROWS
from detach.results import Results, read_results, renamed
from detach.table import Difference, Group, Row, make_table


@dataclass(frozen=True)
class Line:
    """One row of one table on one data set."""

    name: str
    ours: Row | None
    """None where nothing was run."""
    less: Difference | None
    """The method less this row."""
    reported: Reported | None
    camera_ready: Reported | None
    failed: str = ""


def read_runs(out: Path, data: str, damaged: dict[Path, DataError] | None = None) -> list[Results]:
    """Results of all finished runs on a data set, named by their row.

    Where ``damaged`` is given, those that cannot be read are put into it, by their folder.

    Raises:
        DataError: One cannot be read, and ``damaged`` is not given.
    """
    runs = [path.parent for path in sorted((out / "runs" / data).glob("*/seed*/results.json"))]
    found = []
    for folder in (folder for folder in runs if folder.parent.name in ROWS):
        try:
            found.append(renamed(read_results(folder), folder.parent.name))
        except DataError as error:
            if damaged is None:
                raise
            damaged[folder] = error
    return found


def lines_of(
    names: Sequence[str],
    data: str,
    runs: Sequence[Results],
    failed: Mapping[tuple[str, str], str],
    number: int = 0,
) -> tuple[list[Line], Group | None]:
    """Lines of the rows ``names``, beside what is reported of table ``number``, and their group."""
    used = [run for run in runs if run.method in names]
    groups = [g for g in make_table(used, named=True).groups if g.protocol == "split"]
    group = groups[0] if groups else None
    lines = []
    for name in names:
        holder = next((g for g in groups if any(r.name == name for r in g.rows)), None)
        ours = next((r for r in holder.rows if r.name == name), None) if holder else None
        pairs = holder.differences if holder else ()
        less = next((d for d in pairs if d.a == LEAD and d.b == name), None)
        key = (number, name)
        why = failed.get((data, name), "")
        lines.append(Line(name, ours, less, ARXIV.get(key), CAMERA_READY.get(key), why))
    return lines, group
