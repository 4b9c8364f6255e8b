"""Figures that the paper does not have, each from plain arrays to SVG."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from detach.report.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    SURFACE,
    method_colour,
    new_figure,
    styled,
    to_svg,
)

DASHES = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1, 2)))
"""Of lines that may lie on one another."""
Line = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""Where, mean, lowest and highest over seeds."""
OTHERS = ("InfoNCE", "labels", "global")
"""Words in the name of a run of another method."""


THEIRS = (("D", "none", "theirs, Opportunity++"), ("d", MUTED, "theirs, HWU-USP"))
"""Mark, its inside and what it says of each data set of `Gap.theirs`."""


class Gap(NamedTuple):
    """How far the method is ahead of something else."""

    name: str
    value: float
    low: float
    high: float
    theirs: tuple[float, ...] = ()
    """The same as the authors report it, on Opportunity++ and on HWU-USP."""
    one_seed: bool = False


class End(NamedTuple):
    """Where a line ends, and what it is."""

    y: float
    x: float
    name: str
    colour: str


@styled
def label_budget(
    curves: Sequence[tuple[str, NDArray[Any], NDArray[Any], NDArray[Any]]], ticks: Sequence[str]
) -> str:
    """F1 by the number of labelled windows a class that the probe may see.

    Args:
        curves: (method, F1 at each budget, its lowest and highest over draws), best last.
        ticks: Names of the budgets.
    """
    figure, axes = new_figure(3.6)
    ax = axes[0, 0]
    at = np.arange(len(ticks))
    ends: list[End] = []
    for i, (name, value, low, high) in enumerate(curves):
        colour = method_colour(name, i)
        own = name.partition(",")[0] == "detach"
        line: dict[str, Any] = {"lw": 2.4} if own else {"lw": 1.5, "ls": DASHES[i % len(DASHES)]}
        ax.fill_between(at, low, high, color=colour, alpha=0.10, lw=0)
        ax.plot(at, value, color=colour, marker="o", ms=4, **line)
        ends.append(End(float(value[-1]), float(at[-1]), name, colour))
    top = max([1e-3, *(float(np.nanmax(highest)) for *_, highest in curves)])
    ax.set_xticks(at, ticks)
    ax.set(ylim=(0, 1.05 * top), xlim=(-0.15, at[-1] + 0.1), ylabel="weighted F1")
    ax.set_xlabel("labelled windows a class")
    _name_ends(ax, [end for end in ends if np.isfinite(end.y)], 0.053)
    return to_svg(figure, "F1 by the number of labelled windows a class")


def spread_out(y: Sequence[float], apart: float, low: float, high: float) -> NDArray[np.float64]:
    """Places for names beside ``y``, in rising order: near them, apart, and in [low, high]."""
    steps = apart * np.arange(len(y))
    room = max(high - apart * max(len(y) - 1, 0), low)
    return np.asarray(isotonic_regression(np.asarray(y) - steps, y_min=low, y_max=room) + steps)


def _name_ends(ax: Any, ends: Sequence[End], apart: float) -> None:
    """Names of lines at the right, so far apart beside the height of the axes."""
    low, high = ax.get_ylim()
    left, right = ax.get_xlim()
    gap, ends = apart * (high - low), sorted(ends)
    places = spread_out([end.y for end in ends], gap, low + gap / 2, high - gap / 2)
    for place, (y, x, name, colour) in zip(places, ends, strict=True):
        ax.annotate(name, (x, y), (right + 0.06 * (right - left), place), va="center", fontsize=8,
                    color=INK if colour == GREY else colour, annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8, "shrinkA": 1,
                                "shrinkB": 4, "relpos": (0, 0.5)})  # fmt: skip


@styled
def dots(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """F1 of several runs, with intervals where known, one below the other (Fig. 12 to 15).

    Args:
        rows: (what was run, F1, low, high), in the order shown.
    """
    figure, axes = new_figure(0.8 + 0.32 * len(rows))
    ax = axes[0, 0]
    at = np.arange(len(rows))[::-1]
    colours = [GREY if any(w in name for w in OTHERS) else BLUE for name, *_ in rows]
    for y, (_, value, low, high), colour in zip(at, rows, colours, strict=True):
        if np.isfinite(low):
            ax.plot([low, high], [y, y], color=colour, lw=2.2, alpha=0.6)
        ax.plot(value, y, marker="o", ms=6, color=colour)
        ax.annotate(f"{value:.2f}", (value, y), (0, 6), textcoords="offset points", ha="center",
                    fontsize=8, color=INK)  # fmt: skip
    if GREY in colours:
        for colour, words in ((BLUE, "the method"), (GREY, "other methods")):
            ax.plot([], [], ls="", marker="o", ms=6, color=colour, label=words)
        figure.legend(loc="outside upper right", ncols=2, fontsize=8, labelcolor=MUTED,
                      handlelength=1.0)  # fmt: skip
    ax.set_yticks(at, [name for name, *_ in rows], color=INK)
    ax.set(xlim=(0, 1.02), ylim=(-0.6, len(rows) - 0.3), xlabel="weighted F1")
    ax.grid(visible=False)
    ax.grid(visible=True, axis="x")
    return to_svg(figure, "Weighted F1 of each run, with intervals where known")


@styled
def gaps(rows: Sequence[Gap]) -> str:
    """How far the method is ahead of every row, the furthest on top, and what the authors report.

    Args:
        rows: In the order shown.
    """
    figure, axes = new_figure(0.9 + 0.24 * len(rows))
    ax = axes[0, 0]
    ax.axvline(0, color=MUTED, lw=1)
    for y, row in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
        colour = BLUE if row.low > 0 else ORANGE if row.high < 0 else GREY
        ax.plot([row.low, row.high], [y, y], color=colour, lw=2.2, alpha=0.6)
        face = SURFACE if row.one_seed else colour
        ax.plot(row.value, y, marker="o", ms=5, mec=colour, mfc=face, mew=1.4)
        for theirs, (marker, inside, _) in zip(row.theirs, THEIRS, strict=False):
            ax.plot(theirs, y, ls="", marker=marker, ms=4.5, mfc=inside, mec=MUTED)
    shown = [
        *((BLUE, "o", BLUE, "ahead"), (ORANGE, "o", ORANGE, "behind")),
        (GREY, "o", GREY, "not told apart"),
    ]
    if any(row.one_seed for row in rows):
        shown.append((MUTED, "o", SURFACE, "one seed"))
    if any(row.theirs for row in rows):
        shown += [(MUTED, marker, inside, words) for marker, inside, words in THEIRS]
    for edge, marker, face, words in shown:
        ax.plot([], [], ls="", marker=marker, ms=5, mec=edge, mfc=face, label=words)
    figure.legend(loc="outside upper right", ncols=len(shown), fontsize=8, labelcolor=MUTED,
                  handlelength=1.0)  # fmt: skip
    ax.set_yticks(range(len(rows) - 1, -1, -1), [row.name for row in rows], color=INK, fontsize=8)
    ax.set(ylim=(-0.7, len(rows) - 0.3), xlabel="weighted F1 of the method less that of the row")
    ax.grid(visible=False)
    ax.grid(visible=True, axis="x")
    return to_svg(figure, "How far the method is ahead of every row, with intervals")


@styled
def robustness(panels: Mapping[str, Mapping[str, Line]], x_label: str) -> str:
    """What becomes of several measures as sensors err more, a panel a measure (Fig. 16).

    Args:
        panels: Lines by name, by what is measured.
        x_label: Of what errs.
    """
    figure, axes = new_figure(2.7, 1, len(panels))
    for ax, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for (name, (x, mean, low, high)), colour in zip(
            lines.items(), (BLUE, ORANGE), strict=False
        ):
            ax.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            ax.plot(x, mean, color=colour, marker="o", ms=4, label=name)
            ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.set_title(title)
        ax.set(xlabel=x_label, ylim=(0, 1))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8,
                  labelcolor=MUTED, handlelength=1.5)  # fmt: skip
    return to_svg(figure, "Measures by how often sensors err")


@styled
def place_counts(curve: Line, chosen: int, known: int | None, f1: Mapping[int, float]) -> str:
    """Stability of each number of places and, where runs are there, what it is worth (Fig. 17).

    Args:
        curve: Stability by K.
        chosen: The K that was taken.
        known: The K that the sensors' places give.
        f1: Weighted F1 of runs that were given K.
    """
    figure, axes = new_figure(2.8)
    ax = axes[0, 0]
    k, mean, low, high = curve
    bottom = min(0.0, float(np.min(low)) - 0.03)
    if bottom < 0:
        ax.axhline(0, color=MUTED, lw=0.8)
    ax.fill_between(k, low, high, color=BLUE, alpha=0.12, lw=0)
    ax.plot(k, mean, color=BLUE, marker="o", ms=4)
    ends = [End(float(mean[-1]), k[-1], "two halves agree", BLUE)]
    if f1:
        at = sorted(f1)
        ax.plot(at, [f1[x] for x in at], color=ORANGE, marker="s", ms=4, lw=1.2, ls=(0, (4, 2)))
        ends.append(End(f1[at[-1]], at[-1], "weighted F1", ORANGE))
    for x, words, shift in ((chosen, "found", 4), (known, "known", -4)):
        if x is not None:
            ax.axvline(x, color=MUTED, lw=1, ls=":")
            side = "left" if shift > 0 else "right"
            ax.annotate(words, (x, bottom + 0.03), (shift, 0), textcoords="offset points", ha=side,
                        fontsize=8, color=MUTED)  # fmt: skip
    ax.set(xlabel="number of places K", ylim=(bottom, 1.03))
    ax.set_ylabel("adjusted Rand index, F1" if f1 else "adjusted Rand index")
    ax.set_xticks(range(2, int(max([*k, *f1])) + 1, 2))
    _name_ends(ax, ends, 0.075)
    return to_svg(figure, "Stability and F1 by the number of places")
