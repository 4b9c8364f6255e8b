"""The tables as text: what we measured, and beside it, marked, what the authors report."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detach.data.recording import Dataset
from detach.reproduce.paper import ARXIV, CAMERA_READY, DATA, Pair, Reported
from detach.reproduce.rows import LEAD, ROWS, TABLES
from detach.results import Results, read_results, renamed
from detach.table import Cell, Difference, Group, Row, make_table

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


def read_runs(out: Path, data: str) -> list[Results]:
    """Results of all finished runs on a data set, named by their row."""
    runs = [path.parent for path in sorted((out / "runs" / data).glob("*/seed*/results.json"))]
    known = [folder for folder in runs if folder.parent.name in ROWS]
    return [renamed(read_results(folder), folder.parent.name) for folder in known]


def fill(
    number: int, data: str, runs: Sequence[Results], failed: Mapping[tuple[str, str], str]
) -> Filled:
    """A table from finished runs; rows without any say so."""
    table = TABLES[number]
    lines, group = lines_of((*table.rows, *table.ours), data, runs, failed, number)
    return Filled(number, data, tuple(lines), group, _verdict(lines))


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


def markdown(filled: Filled) -> str:
    """As a table in Markdown, with how to read it."""
    rows = [HEAD, *(_cells(line) for line in filled.lines)]
    body = ["| " + " | ".join(row) + " |" for row in rows]
    body.insert(1, "|" + "---|" * len(HEAD))
    notes = [f"- {ROWS[x.name].title}: {ROWS[x.name].note}." for x in filled.lines
             if ROWS[x.name].note]  # fmt: skip
    parts = [f"## {filled.title}, {filled.data}", "\n".join(body)]
    if filled.group:
        parts.append(filled.group.caption)
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
        _less(line.less) if line.less else "",
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


def _less(pair: Difference) -> str:
    told = "" if pair.clear else ", not told apart"
    return f"{pair.value:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}]{told}"


def _verdict(lines: Sequence[Line]) -> str:
    """The method against the best baseline; each ablation's direction against theirs."""
    said = []
    rivals = [x for x in lines if x.ours is not None and ROWS[x.name].baseline]
    if rivals:
        best = max(rivals, key=lambda x: x.ours.cells["f1"].mean if x.ours else 0.0)
        if best.less is not None:
            said.append(f"Best baseline: {ROWS[best.name].title}; "
                        f"{ROWS[LEAD].title} less it: {_less(best.less)}.")  # fmt: skip
    lead = next((x.reported for x in lines if x.name == LEAD), None)
    for line in lines:
        if line.less is None or line.reported is None or lead is None or line.name == LEAD:
            continue
        gap = lead.opportunity.f1 - line.reported.opportunity.f1
        way = "as theirs" if (gap > 0) == (line.less.value > 0) else "the other way than theirs"
        sure = way if line.less.clear else "not told apart"
        said.append(f"{ROWS[line.name].title}: {sure} ({line.less.value:+.3f}; "
                    f"theirs {gap:+.2f}).")  # fmt: skip
    return " ".join(said)


def _described(dataset: Dataset, about: Mapping[str, Any]) -> dict[str, str]:
    recordings = list(dataset.recordings())
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
