"""The tables as text: what we measured, and beside it, marked, what the authors report."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detach.data.recording import Dataset
from detach.errors import DataError
from detach.reproduce.lines import Line, lines_of
from detach.reproduce.paper import DATA, Pair
from detach.reproduce.rows import LEAD, ROWS, TABLES
from detach.reproduce.verdict import differs, verdict
from detach.results import Results
from detach.table import Cell, Group

HEAD = (
    *("row", "seeds", "weighted F1", "mAP", f"{LEAD} less this, F1"),
    *("Opportunity++: F1 / mAP (theirs)", "HWU-USP: F1 / mAP (theirs)"),
)
COLUMNS = (
    *("table", "data", "row", "title", "metric", "seeds", "value", "sd", "low", "high"),
    *("less_value", "less_low", "less_high"),
    *("theirs_opportunity_arxiv", "theirs_hwu_arxiv"),
    *("theirs_opportunity_camera_ready", "theirs_hwu_camera_ready"),
)
THEIRS = (
    "Columns marked *theirs* are the authors', on their data and split: arXiv v1, and after an "
    "arrow the camera-ready where public notes of it give another number. They are not comparable "
    "with ours digit by digit; directions are."
)


@dataclass(frozen=True)
class Filled:
    """One table on one data set."""

    number: int
    data: str
    lines: tuple[Line, ...]
    group: Group | None
    verdict: str

    @property
    def title(self) -> str:
        """As its heading says."""
        return f"Table {self.number}. {TABLES[self.number].title}"


def fill(
    number: int, data: str, runs: Sequence[Results], failed: Mapping[tuple[str, str], str]
) -> Filled:
    """A table from finished runs; rows without any say so."""
    table = TABLES[number]
    lines, group = lines_of((*table.rows, *table.ours), data, runs, failed, number)
    return Filled(number, data, tuple(lines), group, verdict(lines, data))


def markdown(filled: Filled) -> str:
    """As a table in Markdown, with how to read it."""
    rows = [HEAD, *(_cells(line) for line in filled.lines)]
    body = ["| " + " | ".join(row) + " |" for row in rows]
    body.insert(1, "|" + "---|" * len(HEAD))
    notes = [f"- {ROWS[x.name].title}: {ROWS[x.name].note}." for x in filled.lines
             if ROWS[x.name].note]  # fmt: skip
    parts = [f"## {filled.title}, {filled.data}", "\n".join(body)]
    if filled.group:
        parts.append(" ".join([filled.group.caption, *filled.group.notes]))
    parts += [text for text in (filled.verdict, "\n".join(notes)) if text]
    return "\n\n".join(parts)


def data_rows(datasets: Mapping[str, tuple[Dataset, Mapping[str, Any]]]) -> list[list[str]]:
    """Table 7, its head first: ours beside theirs. Windows are counted by a finished run."""
    ours = {name: _described(dataset, about) for name, (dataset, about) in datasets.items()}
    head = ["", *ours, "Opportunity++ (theirs)", "HWU-USP (theirs)"]
    return [head, *([what, *(o[what] for o in ours.values()), a, b] for what, a, b in DATA)]


def data_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Table 7 in Markdown."""
    body = ["| " + " | ".join(row) + " |" for row in rows]
    body.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join([f"## Table 7. {TABLES[7].title}", "", *body])


def as_csv(tables: Sequence[Filled]) -> str:
    """Every number once, by column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for filled in tables:
        for line in filled.lines:
            writer.writerows(_lines(filled, line))
    return text.getvalue()


def _lines(filled: Filled, line: Line) -> Iterator[dict[str, object]]:
    for metric in ("f1", "map"):
        cell = line.ours.cells[metric] if line.ours else None
        row: dict[str, object] = {
            "table": filled.number,
            "data": filled.data,
            "row": line.name,
            "title": ROWS[line.name].title,
            "metric": metric,
            "seeds": (line.ours.seeds or "") if line.ours else 0,
        }
        if cell is not None:
            values = zip(("value", "sd", "low", "high"), _numbers(cell), strict=True)
            row.update({name: _short(value) for name, value in values})
        if metric == "f1" and line.less is not None:
            less = (line.less.value, line.less.low, line.less.high)
            row.update(zip(("less_value", "less_low", "less_high"), map(_short, less), strict=True))
        for version, found in (("arxiv", line.reported), ("camera_ready", line.camera_ready)):
            if found is not None:
                row[f"theirs_opportunity_{version}"] = getattr(found.opportunity, metric)
                row[f"theirs_hwu_{version}"] = getattr(found.hwu, metric)
        yield row


def _numbers(cell: Cell) -> tuple[float, float, float, float]:
    return cell.mean, cell.sd, cell.low, cell.high


def _cells(line: Line) -> tuple[str, ...]:
    title = ROWS[line.name].title
    reported = tuple(theirs(line, where) for where in ("opportunity", "hwu"))
    if line.ours is None:
        why = f"cannot be trained: {line.failed}" if line.failed else "not run"
        return (title, "0", why, "", "", *reported)
    cells = line.ours.cells
    return (
        title,
        str(line.ours.seeds or "-"),
        _cell(cells["f1"]),
        _cell(cells["map"]),
        differs(line.less) if line.less else "",
        *reported,
    )


def theirs(line: Line, where: str) -> str:
    """What the authors report of a row, ``where`` opportunity or hwu."""
    if line.reported is None:
        return "-"
    first: Pair = getattr(line.reported, where)
    text = f"{first.f1:.2f} / {first.map:.2f}"
    later: Pair | None = getattr(line.camera_ready, where) if line.camera_ready else None
    return text if later in {None, first} else f"{text} → {later.f1:.2f} / {later.map:.2f}"


def _cell(cell: Cell) -> str:
    sd = "" if math.isnan(cell.sd) else f" ± {cell.sd:.3f}"
    spread = "" if math.isnan(cell.low) else f" [{cell.low:.3f}, {cell.high:.3f}]"
    return f"{cell.mean:.3f}{sd}{spread}"


def _described(dataset: Dataset, about: Mapping[str, Any]) -> dict[str, str]:
    try:
        recordings = list(dataset.recordings())
    except DataError:  # said where it was to be trained on
        return dict.fromkeys((what for what, *_ in DATA), "cannot be read")
    tracks = {s.name: s for r in recordings for s in r.sensors}
    kinds: dict[str, int] = {}
    for sensor in tracks.values():
        kinds[sensor.kind] = kinds.get(sensor.kind, 0) + 1
    places = sorted({s.place for s in tracks.values() if s.place})
    track = next(iter(dataset.classes), "")
    windows = about.get("counts", {}).get("windows")
    simulated = " (simulated)" if dataset.notes.get("simulated") else ""
    return {
        "sensors": ", ".join(f"{n} {kind}" for kind, n in kinds.items()),
        "sensor locations": ", ".join(places) or "-",
        "labels": f"{track or '-'}{simulated}",
        "classes": str(len(dataset.classes.get(track, ()))),
        "subjects": str(len({r.subject for r in recordings})),
        "windows": str(windows) if windows else "not run",
    }


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
