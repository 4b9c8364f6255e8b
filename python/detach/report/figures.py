"""The figures of the report, each from plain arrays to inline SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from detach.report.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    RED,
    SERIES,
    SURFACE,
    TEAL,
    WIDTH_IN,
    in_view,
    method_colour,
    new_figure,
    styled,
    to_svg,
)
from detach.scores import Calibration, f1_per_class

LOSS_NAMES = {
    "stage1 cluster": "1: clusters (Eq. 1)",
    "stage1 video": "1: video (Eq. 2)",
    "stage1 refine": "1: refinement (Eq. 3)",
    "stage2 contrast": "2: contrast (Eq. 12)",
}
MARKS = "o^sD"
"""Of the groups of a map, as colours come round again."""
MAPPED = len(MARKS) * len(SERIES)
NAMED_IN_PLACE = len(SERIES)
"""Of more groups a map has a key too."""
KEY_COLUMNS = 5
PHASE_NAMES = {"cluster": "clustering alone", "joint": "with video", "refine": "refinement"}

Curve = tuple[str, NDArray[Any], NDArray[Any]]
"""Method, epochs, values of one seed."""


@styled
def loss_curves(panels: Mapping[str, Sequence[Curve]]) -> str:
    """Small multiples: one panel a loss, one line a seed, methods named at their line."""
    names = list(panels)
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure, axes = new_figure(2.1 * rows + 0.2, rows, columns)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        methods = list(dict.fromkeys(curve[0] for curve in panels[name]))
        for method, epochs, values in panels[name]:
            colour = method_colour(method, methods.index(method))
            marker = "o" if len(epochs) == 1 else None
            ax.plot(epochs, values, color=colour, lw=1.3, alpha=0.75, marker=marker, ms=3)
        _label_lines(ax, panels[name], methods)
        ax.set_title(LOSS_NAMES.get(name, name.replace("_", " ").replace(" ", ": ", 1)))
        ax.set_xlabel("epoch")
        _whole_ticks(ax, max(int(curve[1].max()) for curve in panels[name]))
    return to_svg(figure, "Training losses by epoch")


@styled
def change_rate(
    curves: Sequence[Curve], phases: Sequence[tuple[str, int, int]], stop: float
) -> str:
    """Share of pseudo-labels that changed in each epoch of stage 1, refinement marked (Fig. 10)."""
    figure, axes = new_figure(2.7)
    ax = axes[0, 0]
    top = 100 * max(stop, *(float(values.max()) for _, _, values in curves))
    for i, (name, first, last) in enumerate(phases):
        if i % 2:
            ax.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=0.08, lw=0)
        ax.text((first + last) / 2, top * 1.13, PHASE_NAMES.get(name, name), color=MUTED,
                ha="center", va="bottom", fontsize=8)  # fmt: skip
        if name == "refine":
            ax.axvline(first - 0.5, color=INK, lw=1, ls=(0, (4, 3)))
            at = (first - 0.5, top * 1.02)
            ax.annotate("refinement starts", at, (-5, 0), textcoords="offset points", ha="right",
                        va="center", fontsize=8, color=INK)  # fmt: skip
    methods = list(dict.fromkeys(curve[0] for curve in curves))
    for method, epochs, values in curves:
        colour = method_colour(method, methods.index(method))
        ax.plot(epochs, 100 * values, color=colour, alpha=0.8, marker="o", ms=3, lw=1.4)
    last = max(int(epochs.max()) for _, epochs, _ in curves)
    ax.axhline(100 * stop, color=MUTED, lw=1, ls=":")
    ax.annotate(f"settled below {100 * stop:g} %", (0.5, 100 * stop), (4, 2), color=MUTED,
                textcoords="offset points", fontsize=7.5, va="bottom")  # fmt: skip
    room = 0.07 * last if len(methods) > 1 else 0
    ax.set(xlim=(0.5, last + 0.5 + room), ylim=(0, top * 1.12), xlabel="epoch of stage 1")
    ax.set_ylabel("labels changed, %")
    _label_lines(ax, [(m, e, 100 * v) for m, e, v in curves], methods)
    _whole_ticks(ax, last)
    return to_svg(figure, "Share of pseudo-labels changed by epoch")


@styled
def cluster_sizes(epochs: NDArray[Any], sizes: NDArray[Any]) -> str:
    """How windows spread over clusters, [epochs, K]: bands by epoch, named at the right."""
    figure, axes = new_figure(2.7)
    ax = axes[0, 0]
    share = 100 * sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1)
    order = np.argsort(-share[-1])
    colours = [SERIES[i % len(SERIES)] for i in range(len(order))]
    shown, at = share[:, order], epochs
    if len(epochs) == 1:
        shown, at = np.repeat(shown, 2, axis=0), np.array([epochs[0] - 0.5, epochs[0] + 0.5])
    ax.stackplot(at, shown.T, colors=colours, alpha=0.8, edgecolor=SURFACE, linewidth=0.8)
    heights = np.cumsum(shown[-1]) - shown[-1] / 2
    for cluster, height, part in zip(order, heights, shown[-1], strict=True):
        if part >= 3:
            ax.annotate(f"cluster {cluster} \u00b7 {part:.0f} %", (at[-1], height), (6, 0),
                        textcoords="offset points", va="center", fontsize=8, color=INK)  # fmt: skip
    ax.set(xlim=(at[0], at[-1]), ylim=(0, 100), xlabel="epoch of stage 1", ylabel="windows, %")
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)
    _whole_ticks(ax, int(epochs[-1]))
    return to_svg(figure, "Sizes of clusters by epoch")


@styled
def embedding_maps(
    maps: Mapping[str, NDArray[Any]],
    colourings: Sequence[tuple[str, tuple[str, ...], NDArray[Any]]],
) -> tuple[str, list[NDArray[np.float64]]]:
    """t-SNE of each modality (columns) by each labeling (rows), groups named in place.

    Each group has a colour and a mark of its own; many are named in a key below the row too.

    Args:
        maps: Points [n, 2] of each modality.
        colourings: (title, names, label of each point; -1 is none).

    Returns:
        The figure, and where its points stand in it, [n, 2] of each panel, row by row.
    """
    high = [3.75 + _key_in(len(_groups(label))) for _, _, label in colourings]
    figure = Figure(figsize=(WIDTH_IN, sum(high)))
    parts = figure.subfigures(len(high), 1, squeeze=False, height_ratios=high)[:, 0]
    axes = np.stack([part.subplots(1, len(maps), squeeze=False)[0] for part in parts])
    for part, row, (title, names, label) in zip(parts, axes, colourings, strict=True):
        groups = _groups(label)
        for ax, (modality, points) in zip(row, maps.items(), strict=True):
            _scatter(ax, points, label, groups)
            ax.set_title(f"{modality}, by {title}")
            _name_groups(ax, points, label, names, groups)
            ax.set_axis_off()
            ax.set_aspect("equal", adjustable="datalim")
        if _key_in(len(groups)):
            _key(part, [names[k] for k in groups])
    drawn = in_view(figure, axes, list(maps.values()), dpi=170)
    return to_svg(figure, "t-SNE maps of sensor and video embeddings", dpi=170), drawn


def unnamed(colourings: Sequence[tuple[str, tuple[str, ...], NDArray[Any]]]) -> str:
    """What is grey in the maps, as a sentence; nothing where nothing is."""
    bare = [title for title, _, label in colourings if (label < 0).any()]
    rest = [title for title, _, label in colourings if len(np.unique(label[label >= 0])) > MAPPED]
    said = [f"windows without a label of {' or '.join(bare)}"] if bare else []
    said += [f"classes of {' and '.join(rest)} after the {MAPPED} commonest"] if rest else []
    return f"Grey: {'; '.join(said)}." if said else ""


@styled
def confusion_map(counts: NDArray[Any], names: Sequence[str]) -> str:
    """Confusion matrix, each row as shares of its true class; the diagonal is right.

    Args:
        counts: [L, L], or their mean over seeds.
        names: Classes.
    """
    count = len(names)
    figure, axes = new_figure(1.35 + 5.2 * count / max(count, 9))
    ax = axes[0, 0]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for i, j in np.ndindex(*counts.shape):
        if counts[i, j] == 0:
            continue
        fill = BLUE if i == j else RED
        depth = 0.08 + 0.87 * float(share[i, j])
        ax.add_patch(_square(j, i, fill, depth))
        if share[i, j] >= (0.01 if count <= 14 else 0.1):
            ink = "#ffffff" if depth > 0.62 else INK
            ax.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", color=ink,
                    fontsize=8 if count <= 14 else 6.5)  # fmt: skip
    said = [
        f"{name} \u00b7 {total:.0f}" for name, total in zip(names, counts.sum(axis=1), strict=True)
    ]
    ax.set_xticks(range(count), names, rotation=40, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()
    ax.set_yticks(range(count), said)
    ax.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(colors=INK)
    return to_svg(figure, "Confusion matrix in percent of each true class")


@styled
def class_bars(
    counts: NDArray[Any], names: Sequence[str], train: Mapping[str, NDArray[Any]]
) -> str:
    """F1 of each class, best first, against references marked on the same line.

    Args:
        counts: Confusion matrix [L, L], or its mean over seeds.
        names: Classes.
        train: F1 [L] of every reference to be marked.
    """
    f1, support = f1_per_class(counts), counts.sum(axis=1)
    order = [i for i in np.argsort(f1) if support[i] > 0]
    figure, axes = new_figure(1.0 + 0.25 * len(order))
    ax = axes[0, 0]
    at = np.arange(len(order))
    ax.barh(at, f1[order], height=0.62, color=BLUE, alpha=0.85)
    for y, i in zip(at, order, strict=True):
        ax.annotate(f"{f1[i]:.2f}", (f1[i], y), (4, 0), textcoords="offset points", va="center",
                    fontsize=8, color=INK)  # fmt: skip
    for mark, (name, other) in zip("|dx", train.items(), strict=False):
        ax.scatter(other[order], at, marker=mark, s=70 if mark == "|" else 20, color=INK, lw=1.6,
                   zorder=3, label=name, alpha=0.7)  # fmt: skip
    ax.set_yticks(at, [f"{names[i]} \u00b7 {support[i]:.0f}" for i in order], color=INK)
    ax.set(
        xlim=(0, 1.06),
        ylim=(-0.6, len(order) - 0.4),
        xlabel="F1; beside each class, its test items",
    )
    ax.grid(visible=False)
    ax.grid(visible=True, axis="x")
    ax.spines["left"].set_visible(False)
    if train:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, labelcolor=MUTED,
                  handletextpad=0.3, borderaxespad=0.2)  # fmt: skip
    return to_svg(figure, "F1 of each class")


@styled
def reliability(found: Calibration) -> str:
    """How often answers are right against how sure they are, and how many are how sure."""
    figure, axes = new_figure(3.3, 1, 2)
    ax, beside = axes[0]
    kept = found.count > 0
    ax.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
    ax.text(0.62, 0.575, "as right as sure", color=MUTED, fontsize=8, rotation=45, va="top",
            ha="center", rotation_mode="anchor", transform_rotates_text=True)  # fmt: skip
    x, y = found.confidence[kept], found.right[kept]
    ax.plot(x, y, color=BLUE, lw=1.4)
    ax.scatter(x, y, s=14 + 260 * found.count[kept] / found.count.sum(), color=BLUE,
               edgecolor=SURFACE, lw=1, zorder=3)  # fmt: skip
    ax.set(xlim=(0, 1.02), ylim=(0, 1.04), aspect="equal", xlabel="confidence of the answer")
    ax.set_title("share that is right")
    edges = np.linspace(0, 1, len(found.count) + 1)
    right = 100 * found.count * found.right / max(found.count.sum(), 1)
    wrong = 100 * found.count / max(found.count.sum(), 1) - right
    options = {"width": 0.85 / len(found.count), "align": "center"}
    middle = (edges[1:] + edges[:-1]) / 2
    beside.bar(middle, right, color=BLUE, alpha=0.85, label="right", **options)
    beside.bar(middle, wrong, bottom=right, color=RED, alpha=0.85, label="wrong", **options)
    beside.set(xlim=(0, 1.02), xlabel="confidence of the answer")
    beside.set_title("answers, %")
    beside.legend(loc="upper left", fontsize=8, labelcolor=MUTED, handlelength=1)
    return to_svg(figure, "Reliability diagram")


@styled
def contingency(counts: NDArray[Any], names: Sequence[str]) -> str:
    """What each cluster is: shares of places in every cluster, [K, places]."""
    rows, columns = counts.shape
    figure, axes = new_figure(0.9 + 0.31 * rows)
    ax = axes[0, 0]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for i, j in np.ndindex(rows, columns):
        if share[i, j] > 0:
            depth = 0.06 + 0.9 * float(share[i, j])
            ax.add_patch(_square(j, i, TEAL, depth))
        if share[i, j] >= 0.05:
            ink = "#ffffff" if share[i, j] > 0.6 else INK
            ax.text(
                j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", fontsize=8, color=ink
            )
    ax.set_xticks(
        range(columns),
        names,
        rotation=0 if columns < 7 else 30,
        ha="center" if columns < 7 else "left",
    )
    ax.xaxis.tick_top()
    ax.set_yticks(
        range(rows), [f"cluster {k} \u00b7 {n}" for k, n in enumerate(counts.sum(axis=1))]
    )
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(colors=INK)
    return to_svg(figure, "Share of places in each cluster, percent")


def _square(x: float, y: float, colour: str, depth: float) -> Any:
    return Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, facecolor=colour, alpha=depth, lw=0)


def _label_lines(ax: Any, curves: Sequence[Curve], methods: Sequence[str]) -> None:
    """Names beside the ends of lines, pushed apart where they would meet."""
    if len(methods) < 2:
        return
    low, high = ax.get_ylim()
    ends = [(np.mean([c[2][-1] for c in curves if c[0] == m]), m) for m in methods]
    previous = -np.inf
    for end, method in sorted(ends):
        y = max(float(end), previous + 0.1 * (high - low))
        previous = y
        x = max(float(c[1][-1]) for c in curves if c[0] == method)
        colour = method_colour(method, methods.index(method))
        ax.annotate(method, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5,
                    color=colour, annotation_clip=False)  # fmt: skip


def _groups(label: NDArray[Any]) -> list[int]:
    """Groups that get a colour and a mark, the commonest first."""
    kinds, counts = np.unique(label[label >= 0], return_counts=True)
    return [int(k) for k in kinds[np.argsort(-counts, kind="stable")][:MAPPED]]


def _look_of(place: int) -> tuple[str, str]:
    """Colour and mark of a group, by its place."""
    return SERIES[place % len(SERIES)], MARKS[place // len(SERIES)]


def _scatter(ax: Any, points: NDArray[Any], label: NDArray[Any], groups: Sequence[int]) -> None:
    size = float(np.clip(9000 / len(points), 6, 26))
    rest = points[~np.isin(label, groups)]
    ax.scatter(*rest.T, color=GREY, s=size, alpha=0.75, lw=0, rasterized=True)
    for place, k in enumerate(groups):
        colour, mark = _look_of(place)
        ax.scatter(*points[label == k].T, color=colour, marker=mark, s=size, alpha=0.75, lw=0,
                   rasterized=True)  # fmt: skip


def _key_in(groups: int) -> float:
    """Height of the key of so many groups; few need none."""
    return 0.16 * -(-groups // KEY_COLUMNS) + 0.1 if groups > NAMED_IN_PLACE else 0.0


def _key(part: Any, names: Sequence[str]) -> None:
    """Colours and marks of groups below their row of maps."""
    looks = [_look_of(i) for i in range(len(names))]
    marks = [Line2D([], [], ls="", ms=5, color=colour, marker=mark) for colour, mark in looks]
    part.legend(marks, names, loc="outside lower center", ncols=KEY_COLUMNS, fontsize=7.5,
                labelcolor=MUTED, handletextpad=0.1, columnspacing=1.2)  # fmt: skip


def _name_groups(
    ax: Any,
    points: NDArray[Any],
    label: NDArray[Any],
    names: Sequence[str],
    groups: Sequence[int],
) -> None:
    """Writes each group's name at its most central point, moved down where two would overlap."""
    height = float(np.ptp(points[:, 1])) or 1.0
    width = float(np.ptp(points[:, 0])) or 1.0
    placed: list[tuple[float, float]] = []
    centres = []
    for k in groups:
        mine = points[label == k]
        if len(groups) <= NAMED_IN_PLACE or len(mine) >= max(3, len(points) // 200):
            x, y = mine[np.argmin(np.abs(mine - np.median(mine, axis=0)).sum(axis=1))]
            near = mine[np.abs(mine - (x, y)).max(axis=1) < 0.06 * max(width, height)]
            centres.append((float(near[:, 1].max()) + 0.025 * height, float(x), k))
    for y, x, k in sorted(centres, reverse=True):
        while any(abs(y - b) < 0.05 * height and abs(x - a) < 0.28 * width for a, b in placed):
            y -= 0.01 * height  # noqa: PLW2901
        placed.append((x, y))
        halo = [patheffects.withStroke(linewidth=3, foreground=SURFACE)]
        ax.text(x, y, names[k], ha="center", va="center", fontsize=8, fontweight="bold",
                color=INK, path_effects=halo)  # fmt: skip


def _whole_ticks(ax: Any, last: int) -> None:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if last / s <= 8)
    ax.set_xticks([x for x in range(0, last + 1, step) if x] if step > 1 else range(1, last + 1))
