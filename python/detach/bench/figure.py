"""The numbers of a benchmark as one SVG that can stand by itself or in a page."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from detach.bench.table import Benchmark, Block, Row
from detach.edge.live.curve import Curve
from detach.edge.live.rates import Rate
from detach.errors import MachineError
from detach.report.style import (
    BLUE,
    GREY,
    GRID,
    INK,
    MAGENTA,
    MUTED,
    ORANGE,
    RED,
    TEAL,
    new_figure,
    styled,
    to_svg,
)

FAMILIES = {
    "detach": BLUE,
    "eager": ORANGE,
    "torch.compile": TEAL,
    "open_clip": MAGENTA,
    "torch linear": RED,
    "equations": ORANGE,
}
FAR = 20.0
"""Times apart, from which on a bar of the fastest would not be seen."""
STROKES = ("-", "--", ":", "-.")
COLOURS = """<style>
:root { --ink: #1d2733; --muted: #66727f; --grid: #e4e5e4; --card: #ffffff;
        --sans: ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7ecf1; --muted: #97a4b2; --grid: #2c353f; --card: #191f26; } }
</style>"""
"""The page's, for a picture without a page."""


def save(found: Benchmark, folder: Path) -> Path:
    """Draws into ``folder``; returns the file.

    Raises:
        MachineError: It cannot be written.
    """
    svg = curves(found) if found.part == "loss" else bars(found)
    return _written(svg, folder / f"{found.part}.svg")


def save_events(found: Curve, folder: Path) -> Path:
    """As `save`, what a threshold costs and brings."""
    return _written(events(found), folder / "events.svg")


def _written(svg: str, path: Path) -> Path:
    head, _, rest = svg.partition(">")
    lines = f"{head}>{COLOURS}{rest}".splitlines()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror}") from error
    return path


@styled
def events(found: Curve) -> str:
    """Actions found against false events a day, the thresholds beside the points."""
    figure, axes = new_figure(3.4)
    (ax,) = axes[0]
    least = 24 / found.hours
    seen = [r for r in found.rates if r.false]
    ax.axvspan(least / 5, least, color=GRID, lw=0)
    ax.annotate("fewer than one\nin the recordings", (least / 4.6, 100), fontsize=8, color=MUTED,
                va="top")  # fmt: skip
    x, y = [r.false_per_day for r in seen], [100 * r.found for r in seen]
    ax.plot(x, y, "-o", color=BLUE, ms=4)
    shown = [r for r, after in pairwise(seen) if _apart(r, after)] + seen[-1:]
    for r in shown:
        at = (r.false_per_day, 100 * r.found)
        ax.annotate(f"{r.threshold:g}", at, (5, -11), textcoords="offset points",
                    fontsize=8, color=INK)  # fmt: skip
    ax.set(xscale="log", xlim=(least / 5, 2 * max([least, *x])), ylim=(0, 105))
    ax.set(xlabel="false events a day", ylabel="% of the actions found")
    ax.set_title(f"{found.bundle}: {found.rates[0].stretches} actions in {found.hours:.1f} h")
    return to_svg(figure, "Actions found against false events a day, by threshold")


def _apart(rate: Rate, after: Rate) -> bool:
    """Whether there is room for a number between two points."""
    return rate.false_per_day > 1.12 * after.false_per_day or rate.found > after.found + 0.05


@styled
def curves(found: Benchmark) -> str:
    """Time a pair of windows, and peak memory, against N; one line a variant."""
    figure, axes = new_figure(4.2, 1, 2)
    cost, memory = axes[0]
    names = list(dict.fromkeys(row.name for block in found.blocks for row in block.rows))
    for name in names:
        look = {"color": _colour(name), "ls": _stroke(name, names), "marker": "o", "ms": 3.5}
        cost.plot(*_points(found.blocks, name, _pair_ns), label=name, **look)
        memory.plot(*_points(found.blocks, name, _extra_mb), **look)
    cost.set(title=f"time, {found.what.partition(',')[0]}", ylabel="ns a pair of windows")
    cost.set_ylim(bottom=0)
    memory.set(title="peak extra memory", ylabel="MB", yscale="log")
    sizes = sorted({block.size for block in found.blocks})
    for ax in axes[0]:
        ax.set(xlabel="N windows in a batch", xscale="log")
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.set_xticks([], minor=True)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, labelcolor=MUTED)
    return to_svg(figure, "Time and memory of the contrastive loss by batch size")


@styled
def bars(found: Benchmark) -> str:
    """One panel a block; bars, or dots on a logarithmic scale where rows are far apart."""
    count, columns = len(found.blocks), min(len(found.blocks), 2)
    lines = -(-count // columns)
    rows = max(len(block.rows) for block in found.blocks)
    figure, axes = new_figure(lines * (0.75 + 0.22 * rows), lines, columns)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    for ax, block in zip(axes.flat, found.blocks, strict=False):
        _panel(ax, block)
    return to_svg(figure, f"Time of each way: {found.part}")


def _panel(ax: Any, block: Block) -> None:
    shown = [row for row in block.rows if row.seconds][::-1]
    at, values = range(len(shown)), [1e3 * (row.seconds or 0.0) for row in shown]
    colours = [_colour(row.name) for row in shown]
    far = max(values) > FAR * min(values) and block.share == "ceiling"  # shares add up: bars
    if far:
        ax.set(xscale="log", xlim=(min(values) / 2, 8 * max(values)))
        ax.scatter(values, at, s=36, color=colours)
    else:
        ax.barh(at, values, height=0.62, color=colours)
    for y, value in zip(at, values, strict=True):
        ax.annotate(f"{value:.3g}", (value, y), (6, 0), textcoords="offset points",
                    va="center", fontsize=8, color=INK)  # fmt: skip
    ax.set_yticks(at, [row.name for row in shown], color=INK)
    ax.set(title=block.title, xlabel="ms")
    ax.grid(visible=False)
    if far:
        ax.grid(visible=True, axis="x")


def _points(
    blocks: Sequence[Block], name: str, value: Callable[[Row, int], float | None]
) -> tuple[list[int], list[float]]:
    found = [
        (block.size, y)
        for block in blocks
        for row in block.rows
        if row.name == name and (y := value(row, block.size)) is not None
    ]
    return [n for n, _ in found], [y for _, y in found]


def _pair_ns(row: Row, n: int) -> float | None:
    return None if row.seconds is None else 1e9 * row.seconds / n**2


def _extra_mb(row: Row, _: int) -> float | None:
    return row.extra_bytes / 1e6 if row.extra_bytes else None  # nothing has no logarithm


def _family(name: str) -> str:
    return next((stem for stem in FAMILIES if name.startswith(stem)), "")


def _colour(name: str) -> str:
    return FAMILIES.get(_family(name), GREY)


def _stroke(name: str, names: Sequence[str]) -> Any:
    siblings = [other for other in names if _family(other) == _family(name)]
    return STROKES[siblings.index(name) % len(STROKES)]
