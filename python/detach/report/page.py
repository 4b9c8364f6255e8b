"""Puts stories, table and figures on one page."""

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from detach import __version__
from detach.data.store import write_whole
from detach.errors import DataError
from detach.evaluate import find_runs
from detach.report import figures, hover, strips
from detach.report.look import Look, look_at
from detach.report.story import (
    Story,
    change_curves,
    loss_panels,
    phases,
    read_story,
    sizes,
    stage1_elsewhere,
    warnings,
)
from detach.report.style import method_colour
from detach.results import CLOCK, RAW, UNTRAINED, Answer, Task, label_runs
from detach.scores import Floats, calibration, confusion, f1_per_class
from detach.table import RECALL_AT, Cell, Difference, Group, Row, Table, make_table

REPORT_FILE = "report.html"
LIMIT_BYTES = 5_000_000


def report(
    runs: Sequence[Path], out: Path | None = None, *, progress: Callable[[str], None] | None = None
) -> Path:
    """Writes one self-contained page over all runs.

    Args:
        runs: Run folders, or folders of run folders.
        out: File to write; None puts report.html into the first folder given.
        progress: Told in words what is being done.

    Returns:
        The file written, at most 5 MB, with no outside reference.
    """
    say = progress or (lambda _: None)
    stories = _labelled([read_story(folder) for folder in find_runs(runs)])
    table = make_table([s.results for s in stories if s.results])
    look, problem = None, ""
    main = main_task(stories)
    if main:
        try:
            look = look_at(main[0].folder, main[1], main[2].probability, say)
        except DataError as error:
            problem = str(error)
    path = out or Path(runs[0]) / REPORT_FILE
    write_whole(path, render(stories, table, look, problem).encode())
    return path


def render(stories: Sequence[Story], table: Table, look: Look | None, problem: str = "") -> str:
    """The page as HTML; ``problem`` says why there is nothing to look at."""
    text = resources.files("detach.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(number=number, spread=spread, signed=signed)
    page = environment.from_string(text)
    html = ""
    for shown in _fewer(look):
        found, points = _figures(stories, shown)
        svg = {k: Markup(v) for k, v in found.items()}  # noqa: S704
        films = [_film(s) for s in shown.samples] if shown else []
        for film in films:
            film["traces"] = Markup(film["traces"])  # noqa: S704
        html = page.render(
            **facts(stories, table),
            table=table,
            svg=svg,
            films=films,
            problem=problem,
            names=strips.NAMES,
            unnamed=figures.unnamed(shown.colourings) if shown else "",
            points=Markup(points),  # noqa: S704  JSON of ours, without a <
            script=Markup(hover.script()),  # noqa: S704
        )
        if len(html.encode()) <= LIMIT_BYTES:
            break
    return html


def main_task(stories: Sequence[Story]) -> tuple[Story, Task, Answer] | None:
    """The run, its first task on the split and its answer that figures are drawn from."""
    ranked = sorted(stories, key=lambda s: (s.config.method != "detach", s.config.seed))
    for story in ranked:
        for task in story.results.tasks if story.results else ():
            for answer in task.answers:
                if answer.kind == "method" and task.protocol == "split":
                    return story, task, answer
    return None


def facts(stories: Sequence[Story], table: Table) -> dict[str, Any]:
    """Everything the page says in words and numbers."""
    first = stories[0]
    group = table.groups[0] if table.groups else None
    dataset = group.dataset if group else Path(str(first.about.get("data", ""))).name
    main = main_task(stories)
    return {
        "version": __version__,
        "dataset": dataset,
        "track": group.track if group else first.about.get("track", ""),
        "banners": banners(first),
        "drawn": main[0] if main else None,
        "pooled": len(_answers(_alike(stories, main[0]), main[1], main[2].name)) if main else 0,
        "unit": main[1].unit if main else "windows",
        "lead": group.rows[0] if group and group.rows[0].kind == "method" else None,
        "references": _references(group),
        "verdict": verdict(group.differences) if group else [],
        "groups": [_group(g) for g in table.groups],
        "pools": [{"pool": p, "rows": [_recall(r) for r in p.rows]} for p in table.retrieval],
        "recall_at": RECALL_AT,
        "tiles": _tiles(stories, table),
        "about": first.about,
        "config": first.config,
        "stories": stories,
        "methods": list(dict.fromkeys(s.method for s in stories)),
        "warnings": warnings(stories),
        "env": {k: v for k, v in first.env.items() if k != "command"},
        "commands": _commands(stories),
        "nmi": _nmi(stories),
        "elsewhere": stage1_elsewhere(stories),
    }


def banners(story: Story) -> list[str]:
    """What a reader must know before the first number."""
    notes, said = story.about.get("notes", {}), []
    if notes.get("simulated"):
        said.append("This home is simulated: people, sensors and pictures come from a program.")
    if notes.get("pictures"):
        said.append(f"About the pictures: {notes['pictures']}.")
    if story.config.split.by == "random-window":
        said.append(
            "Windows were split at random, as in the paper: neighbours that overlap stand on both "
            "sides, so these numbers are too high."
        )
    return said


def verdict(differences: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    """Differences sorted into clearly better, not told apart, clearly worse."""
    sorts = {
        "clearly above": [d for d in differences if d.low > 0],
        "not told apart from": [d for d in differences if not d.clear],
        "clearly below": [d for d in differences if d.high < 0],
    }
    return [(words, found) for words, found in sorts.items() if found]


def number(value: float, digits: int = 2) -> str:
    """0.62, or a dash where nothing is known."""
    return "\u2013" if math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """With a sign that lines up."""
    return f"{value:+.3f}".replace("-", "\u2212")


def spread(cell: Cell) -> str:
    """The interval in brackets, where there is one."""
    return "" if math.isnan(cell.low) else f"[{cell.low:.2f}, {cell.high:.2f}]"


def _figures(stories: Sequence[Story], look: Look | None) -> tuple[dict[str, str], str]:
    """SVG by name, and what the maps show of a point."""
    found: dict[str, str] = {}
    points = ""
    curves = change_curves(stories)
    if curves:
        staged = next((s for s in stories if phases(s) or sizes(s)), stories[0])
        found["change"] = figures.change_rate(
            curves, phases(staged), staged.config.stage1.stop_change
        )
        grown = sizes(staged)
        if grown:
            found["sizes"] = figures.cluster_sizes(*grown)
    panels = loss_panels(stories)
    if panels:
        found["losses"] = figures.loss_curves(panels)
    if look and look.maps:
        found["maps"], drawn = figures.embedding_maps(look.maps, look.colourings)
        points = hover.page_data(look.strips, drawn) if look.strips else ""
    main = main_task(stories)
    if main:
        found.update(_answer_figures(stories, main))
        places = main[0].results.places if main[0].results else ()
        if places:
            found["places"] = figures.contingency(places[0].counts, places[0].names)
    return found, points


def _answer_figures(stories: Sequence[Story], main: tuple[Story, Task, Answer]) -> dict[str, str]:
    """Figures of the answers of a method, and of references, over the seeds of the method."""
    story, task, answer = main
    alike, labels = _alike(stories, story), len(task.classes)
    said = {name: _answers(alike, task, name) for name in (answer.name, UNTRAINED, RAW)}
    means = {
        name: np.mean([confusion(task.truth, p.argmax(axis=1), labels) for p in found], axis=0)
        for name, found in said.items()
        if found
    }
    counts = means.pop(answer.name)  # of each seed as many items
    marks = {name: f1_per_class(mean) for name, mean in means.items()}
    probability = np.concatenate(said[answer.name])
    truth = np.tile(task.truth, len(said[answer.name]))
    present = [i for i in range(labels) if counts[i].sum() or counts[:, i].sum()]
    names = [task.classes[i] for i in present]
    return {
        "confusion": figures.confusion_map(counts[np.ix_(present, present)], names),
        "classes": figures.class_bars(counts, task.classes, marks),
        "calibration": figures.reliability(calibration(truth, probability)),
    }


def _alike(stories: Sequence[Story], story: Story) -> list[Story]:
    """The seeds of a run."""
    return [s for s in stories if s.method == story.method and _dataset(s) == _dataset(story)]


def _answers(stories: Sequence[Story], like: Task, name: str) -> list[Floats]:
    """What ``name`` said in each of the runs that asked the same as ``like``."""
    said = (_of(story, like, name) for story in stories)
    return [found for found in said if found is not None]


def _of(story: Story, like: Task, name: str) -> Floats | None:
    """What ``name`` said in the run's task that asks the same of the same items as ``like``."""
    for task in story.results.tasks if story.results else ():
        if _question(task) == _question(like) and np.array_equal(task.truth, like.truth):
            for answer in task.answers:
                if answer.name == name:
                    return answer.probability
    return None


def _question(task: Task) -> tuple[str, str, tuple[str, ...]]:
    return task.track, task.protocol, task.classes


def _dataset(story: Story) -> str:
    return story.results.dataset if story.results else ""


def _labelled(stories: Sequence[Story]) -> list[Story]:
    """Stories whose results carry names that only seeds share."""
    named = iter(label_runs([s.results for s in stories if s.results]))
    return [Story(**{**s.__dict__, "results": next(named) if s.results else None}) for s in stories]


def _group(group: Group) -> dict[str, Any]:
    """A group's rows with where their dot and whisker stand, in percent of the axis."""
    highs = [c for r in group.rows for c in (r.cells["f1"].mean, r.cells["f1"].high)]
    top = max(1, math.ceil(10 * max(h for h in highs if not math.isnan(h)))) / 10
    rows = []
    for i, row in enumerate(group.rows):
        cell = row.cells["f1"]
        low = cell.mean if math.isnan(cell.low) else cell.low
        high = cell.mean if math.isnan(cell.high) else cell.high
        at = {k: round(100 * v / top, 2) for k, v in (("dot", cell.mean), ("low", low))}
        colour = method_colour(row.name, i)
        rows.append(
            {"row": row, "colour": colour, "width": round(100 * (high - low) / top, 2), **at}
        )
    return {"group": group, "rows": rows, "top": top, "verdict": verdict(group.differences)}


def _recall(row: Row) -> dict[str, Any]:
    return {"row": row, "colour": method_colour(row.name)}


def _references(group: Group | None) -> list[Row]:
    if group is None:
        return []
    return [r for r in group.rows if r.name in {UNTRAINED, RAW, CLOCK}]


def _tiles(stories: Sequence[Story], table: Table) -> list[tuple[str, str]]:
    about = stories[0].about
    parts = about.get("windows", {})
    methods = len({s.method for s in stories})
    tiles = [
        (f"{parts.get('pretrain', 0):,}", "windows trained on, without labels"),
        (f"{parts.get('test', 0):,}", "windows to test on"),
        (str(len(about.get("channels", ()))), "sensor channels"),
        (
            str(len(stories)),
            f"{_many('run', len(stories))} of {methods} {_many('method', methods)}",
        ),
    ]
    for pool in table.retrieval[:1]:
        leads = [row.name for group in table.groups[:1] for row in group.rows[:1]]
        row = next((r for r in pool.rows if r.name in leads), pool.rows[0])
        found = f"of videos find their sensors in the first 10 of {pool.windows:,}, by {row.name}"
        tiles.append((f"{100 * row.cells['video_to_sensor@10'].mean:.0f} %", found))
    return tiles


def _many(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _nmi(stories: Sequence[Story]) -> list[tuple[str, str, float]]:
    """Method, track of which data set, mean over seeds."""
    found: dict[tuple[str, str], list[float]] = {}
    for story in stories:
        for places in story.results.places if story.results else ():
            track = f"{places.track} of {_dataset(story)}"
            found.setdefault((story.method, track), []).append(places.nmi)
    return [(method, track, float(np.mean(v))) for (method, track), v in found.items()]


def _commands(stories: Sequence[Story]) -> list[str]:
    trained = [str(s.env["command"]) for s in stories if s.env.get("command")]
    kept = (s.folder.parent if s.folder.name.startswith("seed") else s.folder for s in stories)
    folders = shlex.join(str(folder) for folder in dict.fromkeys(kept))
    return [*dict.fromkeys(trained), f"detach evaluate {folders}", f"detach report {folders}"]


def _fewer(look: Look | None) -> list[Look | None]:
    """The look, and then with fewer pictures, for pages that come out too large."""
    if look is None:
        return [None]
    bare = replace(look, strips=None)
    thin = replace(look, strips=look.strips.thinned()) if look.strips else bare
    return [look, thin, bare, replace(bare, samples=look.samples[:3]), None]


def _film(sample: strips.Sample) -> dict[str, Any]:
    return {"picture": strips.film(sample), "traces": strips.traces(sample), "sample": sample}
