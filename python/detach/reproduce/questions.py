"""Four questions that the paper leaves open, each tried in simulated homes: Fig. 12 to 15.

Everything is made by the command: homes of one seed that differ in one thing, and runs on them.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detach.data.store import write_whole
from detach.report import our_figures as drawn
from detach.reproduce.figures import Picture
from detach.reproduce.homes import USUAL, data_name
from detach.reproduce.jobs import Outcome
from detach.reproduce.lines import Line, lines_of, read_runs
from detach.reproduce.rows import LEAD

COLUMNS = ("figure", "home", "row", "title", "seeds", "f1", "low", "high", "map")


@dataclass(frozen=True)
class Try:
    """One run: what it shows, which row it is, and in which home."""

    title: str
    row: str
    home: str = USUAL


@dataclass(frozen=True)
class Question:
    """One open question and what is tried to answer it."""

    title: str
    tries: tuple[Try, ...]


QUESTIONS: Mapping[int, Question] = {
    12: Question(
        "Sensors that feel no motion",
        (
            Try("switches and accelerometers", "own-sensors", "extra"),
            Try("and sound, light, power", LEAD, "extra"),
            Try("sound, light, power alone", "other-sensors", "extra"),
        ),
    ),
    13: Question(
        "Several people at once",
        tuple(
            Try(f"{people}, {method}", row, home)
            for home, people in ((USUAL, "one"), ("two", "two"), ("three", "three"))
            for row, method in ((LEAD, "DETACH"), ("infonce", "InfoNCE"), ("supervised", "labels"))
        ),
    ),
    14: Question(
        "A number of places that is unknown, or changes",
        (
            *(Try(f"K = {k}", f"places-{k}") for k in (2, 4)),
            Try("K = 8, a place a thing and one for none", LEAD),
            *(Try(f"K = {k}", f"places-{k}") for k in (12, 16, 24)),
            Try("K found by stability", "places-auto"),
            Try("the fridge comes after training", "unseen-fridge"),
        ),
    ),
    15: Question(
        "A camera that moves",
        tuple(
            Try(f"{camera}, {method}", row, home)
            for home, camera in ((USUAL, "fixed"), ("head", "on the head"))
            for row, method in ((LEAD, "DETACH"), ("infonce", "InfoNCE"), ("global", "global"))
        ),
    ),
}


def rows_of_homes(numbers: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """The rows that questions need, by home, the method first."""
    rows: dict[str, list[str]] = {}
    for part in (t for n in numbers for t in QUESTIONS[n].tries):
        rows.setdefault(part.home, []).append(part.row)
    return {
        home: tuple(dict.fromkeys([*(n for n in names if n == LEAD), *names]))
        for home, names in rows.items()
    }


def answer(number: int, out: Path, outcome: Outcome) -> tuple[Picture, list[dict[str, object]]]:
    """The figure of a question and its rows; runs that are not there say so."""
    question = QUESTIONS[number]
    lines = {
        home: {
            line.name: line
            for line in lines_of(
                [t.row for t in question.tries if t.home == home],
                data_name(home),
                read_runs(out, data_name(home), outcome.damaged),
                outcome.failed,
            )[0]
        }
        for home in {t.home for t in question.tries}
    }
    rows = [_row(number, t, lines[t.home][t.row]) for t in question.tries]
    bars = [
        (str(r["title"]), _number(r["f1"]), _number(r["low"]), _number(r["high"]))
        for r in rows
        if r["seeds"]
    ]
    lacking = [str(r["title"]) for r in rows if not r["seeds"]]
    if not bars:
        return Picture(number, "simulated homes", question.title, "", problem="not run"), rows
    spread = ", 95 % intervals" if any(math.isfinite(low) for _, _, low, _ in bars) else ""
    caption = f"Weighted F1 of the linear probe on the sensor encoder{spread}."
    caption += f" Not run: {', '.join(lacking)}." if lacking else ""
    svg = drawn.dots(bars)
    return Picture(number, "simulated homes", question.title, caption, svg), rows


def write(out: Path, rows: Sequence[Mapping[str, object]]) -> str:
    """Writes questions.csv and questions.md; returns the latter."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "questions.csv", text.getvalue().encode())
    head = ("figure", "what", "seeds", "weighted F1", "mAP")
    body = [[str(r["figure"]), str(r["title"]), str(r["seeds"]), *_shown(r)] for r in rows]
    table = ["| " + " | ".join(line) + " |" for line in (head, *body)]
    table.insert(1, "|" + "---|" * len(head))
    shown = "\n".join(["## Open questions, in simulated homes", "", *table, ""])
    write_whole(out / "questions.md", shown.encode())
    return shown


def _shown(row: Mapping[str, object]) -> tuple[str, str]:
    if not row["seeds"]:
        return str(row["f1"]) or "not run", ""
    spread = f" [{row['low']}, {row['high']}]" if row["low"] else ""
    return f"{row['f1']}{spread}", str(row["map"])


def _row(number: int, part: Try, line: Line) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row |= {"figure": number, "home": part.home, "row": part.row, "title": part.title, "seeds": 0}
    if line.ours is None:
        return row | ({"f1": f"cannot be trained: {line.failed}"} if line.failed else {})
    f1, precision = line.ours.cells["f1"], line.ours.cells["map"]
    numbers = {"f1": f1.mean, "low": f1.low, "high": f1.high, "map": precision.mean}
    shown = {k: "" if math.isnan(v) else f"{v:.3f}" for k, v in numbers.items()}
    return row | {"seeds": max(1, line.ours.seeds)} | shown


def _number(cell: object) -> float:
    return float(str(cell or "nan"))
