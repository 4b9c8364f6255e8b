"""Four questions that the paper leaves open, each tried in simulated homes: Fig. 12 to 15.

Everything is made by the command: homes of one seed that differ in one thing, and runs on them.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detach.config import RunConfig
from detach.data.store import only_one, write_whole
from detach.report import our_figures as drawn
from detach.reproduce.figures import Picture
from detach.reproduce.lines import Line, lines_of, read_runs
from detach.reproduce.queue import Job, make_jobs
from detach.reproduce.rows import LEAD

Say = Callable[[str], None]

SEED = 11
MINUTES_A_RUN = 8.0
USUAL = "usual"
HOMES: Mapping[str, Mapping[str, Any]] = {
    USUAL: {},
    "extra": {"extra": ("sound", "light", "power")},
    "two": {"people": 2},
    "three": {"people": 3},
    "head": {"camera": "head"},
}
"""How the simulated homes differ, as options of the simulator."""
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


def home_jobs(
    out: Path,
    numbers: Sequence[int],
    seeds: int,
    base: RunConfig,
    minutes: float,
    say: Say,
    *,
    simulate: bool,
) -> list[Job]:
    """Runs of the questions asked; makes the homes that are not there, or leaves them out.

    Raises:
        MachineError: A home is to be made, and MuJoCo or OpenGL is missing.
    """
    wanted: dict[str, list[str]] = {}
    for part in (t for n in numbers for t in QUESTIONS[n].tries):
        wanted.setdefault(part.home, []).append(part.row)
    jobs = []
    for home, rows in wanted.items():
        folder = out / "homes" / home
        if not (folder / "dataset.json").is_file():
            if not simulate:
                say(f"the home {home!r} is to be simulated first, {minutes:g} minutes of it")
                continue
            _make(folder, home, minutes, say, max(1, base.threads))
        names = tuple(dict.fromkeys([*(row for row in rows if row == LEAD), *rows]))
        jobs += make_jobs(out, {_data(home): folder}, names, seeds, base)
    return sorted(jobs, key=lambda job: job.seed)  # all first seeds first


def answer(
    number: int, out: Path, failed: Mapping[tuple[str, str], str]
) -> tuple[Picture, list[dict[str, object]]]:
    """The figure of a question and its rows; runs that are not there say so."""
    question = QUESTIONS[number]
    lines = {
        home: {
            line.name: line
            for line in lines_of(
                [t.row for t in question.tries if t.home == home],
                _data(home),
                read_runs(out, _data(home)),
                failed,
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
    caption = "Weighted F1 of the linear probe on the sensor encoder, 95 % intervals."
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


def _data(home: str) -> str:
    return f"home-{home}"


def _make(folder: Path, home: str, minutes: float, say: Say, workers: int) -> None:
    """Simulates a home, unless another process is at it or was."""
    from detach.simulate.record import Options, simulate  # noqa: PLC0415  (needs mujoco)

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{home}.lock")
    with only_one(lock, lambda: say(f"{home} is being simulated by another process; waiting")):
        if (folder / "dataset.json").is_file():
            return
        say(f"simulating the home {home!r}, {minutes:g} minutes")
        runs = max(6, round(minutes / MINUTES_A_RUN))
        options = Options(minutes=minutes, seed=SEED, runs=runs, **HOMES[home])
        simulate(folder, options, say, workers)
