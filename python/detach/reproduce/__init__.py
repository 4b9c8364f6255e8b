"""`detach reproduce`: the tables and figures of the paper, and ours, from one command."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detach import ledger, recipes
from detach.config import RunConfig, override
from detach.data.recording import Dataset
from detach.data.store import write_whole
from detach.errors import DataError, DetachError, MachineError, UsageError
from detach.reproduce import figures, page, published, tables
from detach.reproduce.datasets import Found, find, together
from detach.reproduce.homes import Homes, data_name
from detach.reproduce.jobs import Job, Outcome, make_jobs
from detach.reproduce.kept import check_kept
from detach.reproduce.lines import read_runs
from detach.reproduce.overview import overviews
from detach.reproduce.plan import show_left, show_odd, show_plan
from detach.reproduce.questions import QUESTIONS, answer, rows_of_homes
from detach.reproduce.questions import write as write_answers
from detach.reproduce.queue import Queue, budget_s
from detach.reproduce.rows import LEAD, TABLES, chosen, wanted

Say = Callable[[str], None]
HOME_MINUTES = (1, 10_000)
MOST_SEEDS = 1000


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
        DataError: A data set without labels, or damaged; the others are trained and written first.
        MachineError: ``append`` cannot be written; nothing is trained then.
        KeyboardInterrupt: Stopped; finished rows are kept, and in the tables.
    """
    limit = budget_s(options.budget)
    numbers, drawn = _asked(options)
    asked = tuple(n for n in drawn if n in QUESTIONS)
    drawn = tuple(n for n in drawn if n not in QUESTIONS)
    _check(options, asked)
    names = chosen((*wanted(numbers), *figures.rows_of(drawn)), options.rows)
    queue, outcome, index = Queue(options.out, limit, say), Outcome(), None
    data = find(options.data, options.out, say) if numbers or drawn else Found()
    base = _read(_recipes(options)[0], options)
    jobs = make_jobs(options.out, data.folders, names, options.seeds, base)
    homes, (more, missing) = _asked_of_homes(options, asked, queue)
    jobs += more
    only_read = options.write_only or options.plan_only
    check_kept(options.out, jobs, outcome, say, only_read=only_read)
    try:
        if not options.write_only:
            queue.measure(jobs, all_kinds=options.plan_only or options.budget is None)
            show_plan(jobs, queue, say)
        if options.plan_only:
            homes.say_missing(missing)
            show_odd(queue, say)
            return _or_bad(None, [*data.bad, *homes.bad, *_damage(queue.odd.values())])
        if not options.write_only:
            queue.run(jobs, outcome)
            jobs += (made := homes.make(missing))
            queue.run(made, outcome)
    finally:
        if not options.plan_only and (not jobs or any(job.done for job in jobs)):
            index = _write(options, numbers, (*drawn, *asked), data.datasets, outcome, say)
    show_left(outcome, queue, say)
    if homes.too_late and any(job.done for job in jobs):
        say(homes.too_late)
    elif homes.too_late:
        homes.bad.append(UsageError(homes.too_late))
    bad = [*data.bad, *homes.bad, *outcome.damaged.values(), *_untrained(jobs, outcome)]
    return _or_bad(index, bad)


def _damage(errors: Iterable[DetachError]) -> list[DetachError]:
    """Of the reasons why rows cannot be trained those that are no fact about a row."""
    return [error for error in errors if isinstance(error, DataError)]


def _untrained(jobs: Sequence[Job], outcome: Outcome) -> list[DetachError]:
    """Why nothing could be trained on some data sets, one reason each, or some row not here."""
    fine = {job.name for job in jobs if job.done}
    short = [e for e in outcome.errors.values() if isinstance(e, MachineError)]
    found = {name: e for (name, _), e in outcome.errors.items() if name not in fine}
    return list(dict.fromkeys([*found.values(), *short]))


def _or_bad(index: Path | None, bad: Sequence[DetachError]) -> Path | None:
    """What came out; or, now that it is written, what was wrong with some of the data."""
    if bad:
        raise together(bad)
    return index


def _check(options: Options, questions: Sequence[int]) -> None:
    """That numbers are in their ranges, rows asked for where there are some, and files writable."""
    if not 1 <= options.seeds <= MOST_SEEDS:
        raise UsageError(f"seeds must be 1 to {MOST_SEEDS}, got {options.seeds}")
    least, most = HOME_MINUTES
    if not least <= options.home_minutes <= most:  # also refuses NaN
        raise UsageError(f"home_minutes must be {least} to {most}, got {options.home_minutes}")
    if options.rows and questions:
        raise UsageError(f"rows cannot be chosen for figure {questions[0]}; leave out one of both")
    if figures.MORE_MAPS in options.figures and len(options.data) < 2:
        raise UsageError(figures.ONE_DATA_SET)
    if options.append is not None:
        ledger.append_lines(options.append, (), "")


def _asked(options: Options) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tables and figures; where none is named, all but those for a GPU."""
    wanted(options.tables)
    figures.check(options.figures, {n: q.title for n, q in QUESTIONS.items()})
    if options.tables or options.figures:
        return tuple(dict.fromkeys(options.tables)), tuple(dict.fromkeys(options.figures))
    return tuple(n for n in TABLES if not TABLES[n].for_gpu), tuple(figures.FIGURES)


def _asked_of_homes(
    options: Options, asked: Sequence[int], queue: Queue
) -> tuple[Homes, tuple[list[Job], list[str]]]:
    """Runs on simulated homes that are there, and which are not; by small if none is named."""
    rows = rows_of_homes(asked)
    base = _read(_recipes(options)[1], options)

    def runs(home: str, folder: Path) -> list[Job]:
        return make_jobs(options.out, {data_name(home): folder}, rows[home], options.seeds, base)

    homes = Homes(options.out, options.home_minutes, max(1, base.threads), queue, runs)
    return homes, homes.take(tuple(rows))


def _recipes(options: Options) -> tuple[str, str]:
    """For the data, and for simulated homes."""
    return options.config or ("small" if options.data else "demo"), options.config or "small"


def _read(recipe: str, options: Options) -> RunConfig:
    base = recipes.read(recipes.find(Path(recipe)))
    if base.method != LEAD:
        raise UsageError(
            f"recipe {recipe} has the method {base.method}; rows choose their own: leave it out"
        )
    try:
        return override(base, {"threads": options.threads})
    except ValueError as error:
        raise UsageError(str(error)) from error


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
    runs = {name: read_runs(out, name, outcome.damaged) for name in datasets}
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
    pictures = figures.draw_all(plain, out, tuple(datasets), say)
    answers = [answer(n, out, outcome) for n in drawn if n in QUESTIONS]
    if answers:
        say(write_answers(out, [row for _, rows in answers for row in rows]))
        pictures += [picture for picture, _ in answers]
    if options.append is not None:
        recipe, of_homes = (Path(name).stem for name in _recipes(options))
        found = [*published.of_tables(filled, recipe), *published.of_answers(answers, of_homes)]
        drawn_now = {p.data: datasets[p.data].name for p in pictures if p.number == 11 and p.svg}
        found += published.of_labels(out, drawn_now, recipe)
        say(f"{published.append(options.append, found)} lines added to {options.append}")
    return page.write(out, filled, lines, pictures, overviews(filled))
