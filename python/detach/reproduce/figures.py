"""The figures, from run folders: which rows each needs, and its arrays."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detach import places
from detach.data.store import write_whole
from detach.errors import DataError, UsageError
from detach.model import CONFIG_FILE, METRICS_FILE, load_config
from detach.report import figures as shown
from detach.report import hover, our_figures
from detach.report import paper_figures as drawn
from detach.report.look import look_at
from detach.report.story import change_curves, phases, read_story, stage1_elsewhere
from detach.reproduce import activations, few_labels, sweeps
from detach.reproduce.pairs import KINDS, Pairs, pairs_of
from detach.reproduce.rows import LEAD, ROWS
from detach.results import RESULTS_FILE

Say = Callable[[str], None]
CLASSES_SHOWN = 3
QUERY = "dishwasher"
MAPS, MORE_MAPS = 7, 9
ONE_DATA_SET = "Fig. 9 is Fig. 7 on another data set: name a second one with --data"
ALIKE = 0.02
"""Two lines of Fig. 4 that are nowhere further apart look like one."""
POINTS_BYTES = 2_000_000
"""Film strips of one map that are larger are thinned: a page may hold several."""


@dataclass(frozen=True)
class Picture:
    """A figure, or why there is none."""

    number: int
    data: str
    title: str
    caption: str
    svg: str = ""
    problem: str = ""
    points: str = ""
    """What the page shows of a point that is pointed at, as JSON."""


class Drawn(NamedTuple):
    """What a figure is made of, in the order of `Picture`."""

    svg: str
    caption: str
    points: str = ""


@dataclass(frozen=True)
class Figure:
    """What a figure shows and the rows it needs."""

    title: str
    rows: tuple[str, ...]
    make: Callable[[Path, str], tuple[str, str] | Drawn]
    """Of the output folder and a data set."""


def rows_of(numbers: Sequence[int]) -> tuple[str, ...]:
    """Rows that the figures need."""
    return tuple(dict.fromkeys(row for n in numbers for row in FIGURES[n].rows))


def check(numbers: Sequence[int], questions: Mapping[int, str]) -> None:
    """Refuses figures that do not exist; ``questions`` are titles of those drawn elsewhere.

    Raises:
        UsageError: There is no such figure.
    """
    titles = {**{n: f.title for n, f in FIGURES.items()}, **questions}
    if unknown := [n for n in numbers if n not in titles]:
        known = ", ".join(f"{n} ({title.lower()})" for n, title in titles.items())
        raise UsageError(f"there is no figure {unknown[0]}; there are {known}")


def draw_all(numbers: Sequence[int], out: Path, data: Sequence[str], say: Say) -> list[Picture]:
    """Every figure on every data set; where Fig. 9 is asked for, Fig. 7 is of the first alone."""
    pictures = []
    for number in numbers:
        first = number == MAPS and MORE_MAPS in numbers
        names = data[:1] if first else data[1:] if number == MORE_MAPS else data
        pictures += [draw(number, out, name, say) for name in names]
        if not names:
            title = FIGURES[number].title
            pictures.append(Picture(number, "", title, "", problem=ONE_DATA_SET))
    return pictures


def draw(number: int, out: Path, data: str, say: Say) -> Picture:
    """One figure on one data set; a problem is told in its place."""
    figure = FIGURES[number]
    say(f"figure {number} on {data}")
    lacking = [row for row in figure.rows[:2] if not _folder(out, data, row)]
    if lacking:
        return Picture(number, data, figure.title, "", problem=f"not run: {ROWS[lacking[0]].title}")
    try:
        made = Drawn(*figure.make(out, data))
    except DataError as error:
        return Picture(number, data, figure.title, "", problem=str(error))
    return Picture(number, data, figure.title, made.caption, made.svg, points=made.points)


def about(out: Path, data: str) -> Mapping[str, Any]:
    """What a finished run of the method says of the data; nothing where there is none."""
    folder = _folder(out, data, LEAD)
    try:
        return load_config(folder)[1] if folder and (folder / CONFIG_FILE).is_file() else {}
    except DataError:  # which is said of the run itself
        return {}


def _folder(out: Path, data: str, row: str) -> Path | None:
    """The first finished run of a row."""
    found = sorted((out / "runs" / data / row).glob(f"seed*/{RESULTS_FILE}"))
    return found[0].parent if found else None


def _lead(out: Path, data: str) -> Path:
    folder = _folder(out, data, LEAD)
    assert folder is not None  # noqa: S101 -- `draw` has looked
    return folder


def _weights(out: Path, data: str) -> tuple[str, str]:
    found = pairs_of(_lead(out, data))
    panels = [(_epoch(p, found), {k: p.weight[m] for k, m in p.kinds().items()}) for p in found]
    gaps = [(_gap(p.weight, p.kinds()), p.epoch) for p in found]
    known = ", ".join(f"{gap:+.2f} after epoch {n}" for gap, n in gaps if not math.isnan(gap))
    caption = (
        f"Share of pairs with at most each weight, {len(found[0].place)} windows of the "
        f"pretraining part.{_left_out(found[0].left_out())}{_on_top(panels)} Mean weight of hard "
        f"less false negatives: {known or 'not both are there'}. Labels sort the pairs here and "
        "played no part in training."
    )
    return drawn.weight_cdfs(panels), caption


def _left_out(pairs: NDArray[np.bool_]) -> str:
    """What no kind of negatives holds, where there is some; a sentence."""
    count = int(pairs.sum())
    what = "pair is" if count == 1 else "pairs are"
    return f" {count:,} {what} of the same action at another place and not drawn." if count else ""


def _on_top(panels: Sequence[tuple[str, Mapping[str, NDArray[np.float64]]]]) -> str:
    """Which lines cannot be told apart in which panels; sentences."""
    said = []
    for title, kinds in panels:
        there = {kind: np.sort(weights) for kind, weights in kinds.items() if len(weights)}
        at = np.concatenate([*there.values()])
        share = {kind: np.searchsorted(x, at, "right") / len(x) for kind, x in there.items()}
        for a, b in combinations(share, 2):
            if np.abs(share[a] - share[b]).max() < ALIKE:
                said.append(f" {title.capitalize()}: {b} lies on {a}.")
    return "".join(said)


def _epoch(pairs: Pairs, found: Sequence[Pairs]) -> str:
    names = {found[0].epoch: "before stage 2", found[-1].epoch: f"epoch {pairs.epoch}, the end"}
    return names.get(pairs.epoch, f"epoch {pairs.epoch}")


def _gap(weight: Any, kinds: Mapping[str, Any]) -> float:
    hard, false = weight[kinds["hard"]], weight[kinds["false"]]
    return float(hard.mean() - false.mean()) if len(hard) and len(false) else float("nan")


def _classes(out: Path, data: str) -> tuple[str, str]:
    last = pairs_of(_lead(out, data))[-1]
    rows = []
    for k, name in enumerate(last.classes):
        own = {kind: mask[last.action == k] for kind, mask in last.kinds().items()}
        hard, false = (last.weight[last.action == k][own[kind]] for kind in ("hard", "false"))
        if len(hard) and len(false):
            rows.append((name, hard, false))
    rows.sort(key=lambda row: float(row[2].mean() - row[1].mean()))
    which = "classes by how well their hard and false negatives are told apart, the best first"
    if len(rows) >= 2 * CLASSES_SHOWN:
        rows = [*rows[:CLASSES_SHOWN], *rows[-CLASSES_SHOWN:]]
        which = ("the classes whose hard and false negatives are told apart best, and below the "
                 "line those told apart least")  # fmt: skip
    caption = (
        f"At the end of stage 2: {which}. Circle: median; thick: half of the pairs; thin: nine in "
        "ten."
    )
    if not rows:
        raise DataError(f"{data}: no class has both hard and false negatives")
    return drawn.class_separation(rows), caption


def _query(out: Path, data: str) -> tuple[str, str]:
    last = pairs_of(_lead(out, data))[-1]
    counts = np.bincount(last.action, minlength=len(last.classes))
    usual = [k for k, name in enumerate(last.classes) if QUERY in name.lower() and counts[k]]
    asked = usual[0] if usual else int(counts.argmax())
    members = np.flatnonzero(last.action == asked)
    kinds = last.kinds()
    # The window most like the others of its class in both: a typical one.
    typical = (last.spatial + last.temporal)[np.ix_(members, members)].mean(axis=1).argmax()
    row = int(members[typical])
    groups = {k: (last.spatial[row][kinds[k][row]], last.temporal[row][kinds[k][row]])
              for k in KINDS}  # fmt: skip
    caption = (
        f"At the end of stage 2, {sum(len(x) for x, _ in groups.values())} negatives of one window."
        f"{_left_out(last.left_out()[row])} Hard and false ones are at the same place; motion must "
        "tell them apart."
    )
    return drawn.phase_space(last.classes[asked], groups), caption


def _maps(out: Path, data: str) -> Drawn:
    story = read_story(_lead(out, data))
    if story.results is None:
        raise DataError(f"{story.folder} is not evaluated")
    task, said = few_labels.own_answer(story.results, story.folder)
    look = look_at(story.folder, task, said, lambda _: None)
    svg, panels = shown.embedding_maps(look.maps, look.colourings)
    points = hover.page_data(look.strips, panels) if look.strips else ""
    if look.strips and len(points) > POINTS_BYTES:
        points = hover.page_data(look.strips.thinned(), panels)
    caption = f"t-SNE of test windows, seeded. {shown.unnamed(look.colourings)}".strip()
    return Drawn(svg, caption, points)


def _looks(out: Path, data: str) -> tuple[str, str]:
    rival = _folder(out, data, "global")
    assert rival is not None  # noqa: S101 -- `draw` has looked
    found = activations.looks(_lead(out, data), rival)
    caption = (
        "Mean absolute activation over the frames: of the last convolutions of DETACH's temporal "
        "encoder and of global's, and of DETACH's spatial features times their attention. The "
        f"highest {100 * (1 - drawn.HEAT_FROM):.0f} % of each row, on a scale of its own. Chosen "
        "by the number of test windows and by motion, not by how they look."
    )
    return drawn.activation_maps([(x.title, x.frames, x.maps) for x in found]), caption


def _changes(out: Path, data: str) -> tuple[str, str]:
    runs = sorted((out / "runs" / data / LEAD).glob(f"seed*/{RESULTS_FILE}"))
    stories = [read_story(path.parent) for path in runs]
    first, curves = stories[0], change_curves(stories)
    if not curves:
        where = " ".join(stage1_elsewhere(stories))
        raise DataError(where or f"{first.folder / METRICS_FILE} tells nothing of pseudo-labels")
    svg = shown.change_rate(curves, phases(first), first.config.stage1.stop_change)
    return svg, "Share of pseudo-labels that changed in each epoch of stage 1, one line a seed."


def labels_file(data: str) -> str:
    """Where the numbers of Fig. 11 are."""
    return f"labels-{data}.csv"


def _labels(out: Path, data: str) -> tuple[str, str]:
    found = few_labels.curves(out, data, FIGURES[11].rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, ("method", "labels", "f1", "low", "high"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(few_labels.as_rows(found))
    write_whole(out / labels_file(data), text.getvalue().encode())
    ticks = [*(str(b) for b in few_labels.BUDGETS), "all"]
    curves = [(c.name, c.value, c.low, c.high) for c in found]
    caption = (
        f"A linear probe with a fixed penalty, C = {few_labels.C:g}, on so many labelled windows "
        f"of each class (or sequences, where each has one label), {few_labels.DRAWS} draws; bands "
        "reach from the worst to the best draw and seed. The tables choose C on the validation "
        "part, so their F1 differs from that at all labels here. Supervised: the network trained "
        "on as many. Shuffled: taught by the pictures of other windows. They were drawn from the "
        "whole training part, so even one a class supposes that somebody knew where to look."
    )
    return our_figures.label_budget(curves, ticks), caption


def _false(out: Path, data: str) -> tuple[str, str]:
    panels, seeds = sweeps.false_activations(out, data)
    caption = (
        "Encoders learn from a stream in which every sensor is active so often though nothing "
        "happens; probes and tests see none of it. Places: normalised mutual information of the "
        "clusters with the label track of places, on test windows. Bands reach from the worst to "
        f"the best of {_seeds(seeds)}, the same at every point."
    )
    return our_figures.robustness(panels, "false activations a minute, of each sensor"), caption


def _places(out: Path, data: str) -> tuple[str, str]:
    curve, chosen, known, f1 = sweeps.place_counts(out, data)
    caption = (
        "How well two halves agree is the adjusted Rand index: 1 is the same partition, 0 is "
        f"chance. Found: {chosen}, the most stable K, in the first seed; bands reach over "
        f"{places.DRAWS} draws of two halves. Known: the places that have a sensor and one for "
        "quiet windows. F1 is that of "
        f"{_seeds(max(map(len, f1.values()), default=0))}, the same for every K."
    )
    means = {k: float(np.mean(values)) for k, values in f1.items()}
    return our_figures.place_counts(curve, chosen, known, means), caption


def _seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


_LABELS = ("supervised", *(f"supervised-{n}" for n in few_labels.BUDGETS))
_RIVALS = ("infonce", "global", "imu2clip", "primus", "comodo", "cav-mae")
FIGURES: Mapping[int, Figure] = {
    4: Figure("Weights of negatives over training", (LEAD,), _weights),
    5: Figure("Separation by class", (LEAD,), _classes),
    6: Figure("Negatives of one window", (LEAD,), _query),
    MAPS: Figure("Maps of both modalities", (LEAD,), _maps),
    8: Figure("Where encoders look", (LEAD, "global"), _looks),
    MORE_MAPS: Figure("Maps of both modalities on other data", (LEAD,), _maps),
    10: Figure("Pseudo-labels that change", (LEAD,), _changes),
    11: Figure(
        "What a few labels are worth (ours)",
        (LEAD, *_RIVALS, *_LABELS, "shuffled"),
        _labels,
    ),
    16: Figure(
        "Learning from sensors that err (ours)", (LEAD, "no-refinement", *sweeps.FALSE_ROWS), _false
    ),
    17: Figure("Number of places (ours)", ("places-auto", LEAD, *sweeps.PLACE_ROWS), _places),
}
