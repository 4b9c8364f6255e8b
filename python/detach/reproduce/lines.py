"""Rows of tables and of answers: what we measured and what the authors report, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def read_runs(out: Path, data: str) -> list[Results]:
    """Results of all finished runs on a data set, named by their row."""
    runs = [path.parent for path in sorted((out / "runs" / data).glob("*/seed*/results.json"))]
    known = [folder for folder in runs if folder.parent.name in ROWS]
    return [renamed(read_results(folder), folder.parent.name) for folder in known]


def lines_of(
    names: Sequence[str],
    data: str,
    runs: Sequence[Results],
    failed: Mapping[tuple[str, str], str],
    number: int = 0,
) -> tuple[list[Line], Group | None]:
    """Lines of the rows ``names``, beside what is reported of table ``number``, and their group."""
    used = [run for run in runs if run.method in names]
    groups = [g for g in make_table(used).groups if g.protocol == "split"] if used else []
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
