"""`detach reproduce`: the tables and figures of the paper, and ours, from one command."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detach import ledger, recipes
from detach.config import RunConfig, override
from detach.data.recording import Dataset, read_dataset
from detach.data.store import new_folder, write_whole
from detach.errors import DataError, UsageError
from detach.reproduce import figures, page, published, tables
from detach.reproduce.lines import read_runs
from detach.reproduce.questions import QUESTIONS, answer, home_jobs
from detach.reproduce.questions import write as write_answers
from detach.reproduce.queue import Job, Outcome, Queue, budget_s, check_finished, make_jobs
from detach.reproduce.rows import TABLES, chosen, wanted

Say = Callable[[str], None]
SAMPLE = "sample"
HOME_MINUTES = (1, 10_000)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for."""

    out: Path
    tables: tuple[int, ...] = ()
    figures: tuple[int, ...] = ()
    """12 to 15, the open questions, simulate homes and are drawn only when named."""
    rows: tuple[str, ...] = ()
    """Of these tables and figures train only those; none takes all."""
    data: tuple[Path, ...] = ()
    """Data sets; none takes the sample that comes along."""
    seeds: int = 5
    budget: str | None = None
    config: str | None = None
    """Recipe; None takes demo for the sample and small otherwise."""
    home_minutes: float = 88.917
    """Length of each simulated home; its 11 runs then hold 5,324 windows."""
    threads: int = 1
    plan_only: bool = False
    write_only: bool = False
    """Tables and figures over what is there; nothing is trained."""
    append: Path | None = None
    """CSV file that takes every number too, as `benchmarks/results.csv` has them."""


def reproduce(options: Options, say: Say) -> Path | None:
    """Trains what is missing, then writes tables.md, tables.csv and index.html into ``out``.

    Returns:
        The page; None where only the plan was asked for.

    Raises:
        UsageError: A table or figure that does not exist, a budget too small for one row, or runs
            in ``out`` that another recipe made.
        DataError: A data set without labels, or damaged.
        MachineError: ``append`` cannot be written; nothing is trained then.
        KeyboardInterrupt: Stopped; finished rows are kept, and in the tables.
    """
    limit = budget_s(options.budget)
    numbers, drawn = _asked(options)
    asked = tuple(n for n in drawn if n in QUESTIONS)
    drawn = tuple(n for n in drawn if n not in QUESTIONS)
    _check(options, asked)
    names = chosen((*wanted(numbers), *figures.rows_of(drawn)), options.rows)
    queue = Queue(options.out, limit, say)
    data, datasets = _datasets(options) if numbers or drawn else ({}, {})
    jobs = make_jobs(options.out, data, names, options.seeds, _read(_recipes(options)[0], options))
    jobs += _asked_of_homes(options, asked, say)
    check_finished(jobs)
    outcome, index = Outcome(), None
    try:
        if not options.write_only:
            queue.measure(jobs)
            _show_plan(jobs, queue, say)
        if options.plan_only:
            return None
        if not options.write_only:
            queue.run(jobs, outcome)
    finally:
        if not options.plan_only and any(job.done for job in jobs):
            index = _write(options, numbers, (*drawn, *asked), datasets, outcome, say)
    _show_left(outcome, queue, say)
    if not any(job.done for job in jobs) and outcome.failed:
        raise UsageError(next(iter(outcome.failed.values())))
    return index


def _check(options: Options, questions: Sequence[int]) -> None:
    """That numbers are in their ranges, rows asked for where there are some, and files writable."""
    if options.seeds < 1:
        raise UsageError(f"seeds must be at least 1, got {options.seeds}")
    least, most = HOME_MINUTES
    if not least <= options.home_minutes <= most:  # also refuses NaN
        raise UsageError(f"home_minutes must be {least} to {most}, got {options.home_minutes}")
    if options.rows and questions:
        raise UsageError(f"rows cannot be chosen for figure {questions[0]}; leave out one of both")
    if options.append is not None:
        ledger.append_lines(options.append, (), "")


def _asked(options: Options) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tables and figures; where none is named, all but those for a GPU."""
    wanted(options.tables)
    figures.check(options.figures, {n: q.title for n, q in QUESTIONS.items()})
    if options.tables or options.figures:
        return options.tables, options.figures
    return tuple(n for n in TABLES if not TABLES[n].for_gpu), tuple(figures.FIGURES)


def _asked_of_homes(options: Options, asked: Sequence[int], say: Say) -> list[Job]:
    """Runs on simulated homes, by the recipe small unless another is named."""
    if not asked:
        return []
    base = _read(_recipes(options)[1], options)
    train = not (options.plan_only or options.write_only)
    return home_jobs(
        options.out, asked, options.seeds, base, options.home_minutes, say, simulate=train
    )


def _datasets(options: Options) -> tuple[dict[str, Path], dict[str, Dataset]]:
    folders = options.data or (_sample(options.out),)
    found: dict[str, Path] = {}
    read: dict[str, Dataset] = {}
    for folder in folders:
        dataset = read_dataset(folder)
        if not dataset.classes:
            raise DataError(
                f"{folder}: dataset.json names no label track (`classes`); every table tests what "
                "is recognised, so some recordings must be labelled"
            )
        name = dataset.name if dataset.name not in found else f"{dataset.name}-{len(found) + 1}"
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
        found[name], read[name] = folder, dataset
    return found, read


def _sample(out: Path) -> Path:
    """A copy of the recordings that come along: the package itself may be read-only."""
    source, data = recipes.models_folder() / SAMPLE, out / "data"
    if not (source / "dataset.json").is_file():
        raise DataError(f"{source}: the sample recordings are not there; name data with --data")
    if not (data / "dataset.json").is_file():
        with new_folder(data) as part:
            ignored = shutil.ignore_patterns(".cache")
            shutil.copytree(source, part, dirs_exist_ok=True, ignore=ignored)
    return data


def _recipes(options: Options) -> tuple[str, str]:
    """For the data, and for simulated homes."""
    return options.config or ("small" if options.data else "demo"), options.config or "small"


def _read(recipe: str, options: Options) -> RunConfig:
    return override(recipes.read(recipes.find(Path(recipe))), {"threads": options.threads})


def _show_plan(jobs: Sequence[Job], queue: Queue, say: Say) -> None:
    """What there is to do, and about how long it takes."""
    done = [job for job in jobs if job.done]
    waiting = [job for job in jobs if not job.done]
    say(f"{len(jobs)} runs: {len(done)} finished, {len(waiting)} to do")
    total = 0.0
    for row in dict.fromkeys((job.name, job.row) for job in waiting):
        mine = [job for job in waiting if (job.name, job.row) == row]
        seconds = sum(queue.estimate(job) for job in mine)
        total += 0.0 if math.isnan(seconds) else seconds
        about = "not measured" if math.isnan(seconds) else f"about {minutes(seconds)}"
        say(f"  {row[0]}  {row[1]:<24}{len(mine)} seeds  {about}")
    if waiting:
        say(f"about {minutes(total)} in all, at the most: places may settle sooner")


def _show_left(outcome: Outcome, queue: Queue, say: Say) -> None:
    if not outcome.left:
        return
    known = [queue.estimate(job) for job in outcome.left]
    seconds = sum(x for x in known if not math.isnan(x))
    rows = dict.fromkeys(f"{job.name} {job.row} seed {job.seed}" for job in outcome.left)
    say(f"{len(rows)} runs are left, about {minutes(seconds)}; the same command goes on:")
    for row in rows:
        say(f"  {row}")


def _write(
    options: Options,
    numbers: Sequence[int],
    drawn: Sequence[int],
    datasets: Mapping[str, Dataset],
    outcome: Outcome,
    say: Say,
) -> Path:
    """Tables as Markdown and CSV, and one page with figures."""
    out = options.out
    runs = {name: read_runs(out, name) for name in datasets}
    filled = [
        tables.fill(number, name, runs[name], outcome.failed)
        for number in numbers
        if number != 7
        for name in datasets
    ]
    parts = [tables.markdown(table) for table in filled]
    lines: list[list[str]] = []
    if 7 in numbers:
        lines = tables.data_rows({n: (d, figures.about(out, n)) for n, d in datasets.items()})
        parts.append(tables.data_markdown(lines))
    if parts:
        text = "\n\n".join([*parts, tables.THEIRS]) + "\n"
        write_whole(out / "tables.md", text.encode())
        write_whole(out / "tables.csv", tables.as_csv(filled).encode())
        say(f"\n{text}")
    plain = [n for n in drawn if n not in QUESTIONS]
    pictures = [figures.draw(n, out, name, say) for n in plain for name in datasets]
    answers = [answer(n, out, outcome.failed) for n in drawn if n in QUESTIONS]
    if answers:
        say(write_answers(out, [row for _, rows in answers for row in rows]))
        pictures += [picture for picture, _ in answers]
    if options.append is not None:
        recipe, of_homes = (Path(name).stem for name in _recipes(options))
        found = [*published.of_tables(filled, recipe), *published.of_answers(answers, of_homes)]
        found += published.of_labels(out, datasets, recipe) if 11 in drawn else []
        say(f"{published.append(options.append, found)} lines added to {options.append}")
    return page.write(out, filled, lines, pictures)


def minutes(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
