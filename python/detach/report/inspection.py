"""`detach inspect`: one self-contained page on the quality of recordings, with what to do."""

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_rgb

from detach import __version__
from detach.data.quality import Quality, inspect_recordings, percent
from detach.data.quality_numbers import Numbers, Say
from detach.data.recording import DATASET_FILE, Recording, read_dataset, read_recording
from detach.data.store import write_whole
from detach.report.style import (
    BLUE,
    GREY,
    MUTED,
    ORANGE,
    RED,
    TEAL,
    new_figure,
    styled,
    to_svg,
)

PAGE_FILE = "quality.html"
ROWS_MAX = 60
"""Sensors drawn in one figure; more are listed in the table only."""
BINS = 240
KIND_COLOURS = {"switch": BLUE, "motion": ORANGE, "acceleration": TEAL}


def inspect_folder(
    folder: Path, out: Path | None = None, *, film: bool = True, progress: Say | None = None
) -> tuple[Quality, Path]:
    """Measures a recording, or all of a data set, and writes a page about it.

    Args:
        folder: A recording, or a data set.
        out: File to write; None puts quality.html beside what was inspected, into ``folder``.
        film: Whether videos are looked at.
        progress: Told in words what is being done.

    Returns:
        What was found, and the page.

    Raises:
        DataError: Neither, or a file in it is damaged.
        MachineError: The page cannot be written.
    """
    recordings = read_recordings(folder)
    quality = inspect_recordings(recordings, film=film, say=progress)
    path = out or folder / PAGE_FILE
    write_whole(path, render(quality, folder.resolve().name).encode())
    return quality, path


def read_recordings(folder: Path) -> list[Recording]:
    """The recording in a folder, or all of a data set in order of name.

    Raises:
        DataError: Neither, or damaged.
    """
    if (folder / DATASET_FILE).is_file():
        return list(read_dataset(folder).recordings())
    return [read_recording(folder)]


def render(quality: Quality, title: str) -> str:
    """The page as HTML."""
    folder = resources.files("detach.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = percent
    text = folder.joinpath("inspection.html.j2").read_text(encoding="utf-8")
    page = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    style = page[page.index("<style>") : page.index("</style>") + len("</style>")]
    found = quality.numbers
    figures = {name: Markup(svg) for name, svg in draw(found).items()}  # noqa: S704  drawn here
    return environment.from_string(text).render(
        version=__version__,
        style=Markup(style),  # noqa: S704  our own
        title=title,
        found=found,
        findings=quality.findings,
        svg=figures,
        tiles=_tiles(quality),
        command=f"detach inspect {title}",
    )


def draw(found: Numbers) -> dict[str, str]:
    """All figures that there is something for, by name."""
    figures = {}
    if found.sensors:
        figures["activity"] = activity_map(found)
        figures["duty"] = duty_bars(found)
    if any(s.agreement for s in found.sensors):
        figures["agreement"] = agreement_bars(found)
    if any(m and len(m.t_s) for m in found.motions):
        figures["motion"] = motion_maps(found)
    if any(found.labels.values()):
        figures["labels"] = label_bars(found)
    return figures


@styled
def activity_map(found: Numbers) -> str:
    """When each sensor changed: one row a sensor, recordings side by side."""
    sensors = found.sensors[:ROWS_MAX]
    starts = np.concatenate([[0.0], np.cumsum(found.duration_s)])
    table = np.zeros((len(sensors), BINS))
    for row, sensor in enumerate(sensors):
        times = [s + t for s, t in zip(starts, found.changes[sensor.name], strict=False)]
        table[row] = np.histogram(np.concatenate(times), bins=BINS, range=(0, starts[-1]))[0]
    figure, axes = new_figure(0.6 + 0.19 * max(len(sensors), 4))
    ax = axes[0, 0]
    busy = np.percentile(table[table > 0], 90) if table.any() else 1.0
    shades = np.ones((*table.shape, 4))
    for row, sensor in enumerate(sensors):
        shades[row, :, :3] = to_rgb(KIND_COLOURS.get(sensor.kind, GREY))
    shades[..., 3] = np.where(table > 0, np.clip(table / busy, 0.25, 1), 0)
    extent = (0, starts[-1] / 60, len(sensors) - 0.5, -0.5)
    ax.imshow(shades, aspect="auto", extent=extent, interpolation="nearest")
    for start in starts[1:-1]:
        ax.axvline(start / 60, color=MUTED, lw=0.7, ls=":")
    _name_rows(ax, [s.name for s in sensors])
    ax.set(xlim=(0, starts[-1] / 60), xlabel="minutes, recordings one after the other")
    return to_svg(figure, "Changes of each sensor over time")


@styled
def duty_bars(found: Numbers) -> str:
    """Share of the time that each sensor is on, and without a value."""
    shown = [s for s in found.sensors if not math.isnan(s.duty) or s.missing > 0.01]
    sensors = shown[:ROWS_MAX]
    figure, axes = new_figure(0.6 + 0.19 * max(len(sensors), 4))
    ax, rows = axes[0, 0], np.arange(len(sensors))
    on = 100 * np.nan_to_num([s.duty for s in sensors])
    missing = 100 * np.array([s.missing for s in sensors])
    colours = [KIND_COLOURS.get(s.kind, GREY) for s in sensors]
    ax.barh(rows, on, height=0.7, color=colours)
    ax.barh(rows, missing, left=100 - missing, height=0.7, color=RED, alpha=0.6)
    ax.axvline(50, color=MUTED, lw=0.8, ls=":")
    _name_rows(ax, [s.name for s in sensors])
    ax.set(xlim=(0, 100), xlabel="% of the time: on (from the left), without a value (red)")
    return to_svg(figure, "How long each sensor is on or missing")


@styled
def agreement_bars(found: Numbers) -> str:
    """How far the motion at each sensor's changes exceeds chance."""
    sensors = [s for s in found.sensors if s.agreement][:ROWS_MAX]
    figure, axes = new_figure(0.6 + 0.19 * max(len(sensors), 4))
    ax = axes[0, 0]
    excess = [s.agreement.excess for s in sensors if s.agreement]
    ax.barh(range(len(sensors)), excess, height=0.7, color=[RED if e < 2 else TEAL for e in excess])
    ax.axvline(2, color=MUTED, lw=0.8, ls=":")
    _name_rows(ax, [s.name for s in sensors])
    ax.set_xlabel("standard deviations above chance")
    return to_svg(figure, "Motion seen when each sensor changes")


@styled
def motion_maps(found: Numbers) -> str:
    """Where cameras see motion, one map for each shape of picture, and how much over time."""
    where: dict[tuple[int, ...], list[Any]] = {}
    for motion in found.motions:
        if motion and len(motion.t_s):
            where.setdefault(motion.cells.shape[1:], []).append(motion.cells.mean(axis=0))
    ratios = (*[1] * len(where), 2)
    figure, axes = new_figure(2.3, 1, len(ratios), gridspec_kw={"width_ratios": ratios})
    *maps, when = axes[0]
    for ax, alike in zip(maps, where.values(), strict=True):
        ax.imshow(np.mean(alike, axis=0), cmap="viridis", interpolation="nearest")
        ax.set_axis_off()
        ax.set_title("where")
    starts = np.concatenate([[0.0], np.cumsum(found.duration_s)])
    for start, motion in zip(starts, found.motions, strict=False):
        if motion and len(motion.t_s):
            pieces = max(1, len(motion.t_s) // 200)
            t = [x.mean() for x in np.array_split(motion.t_s, len(motion.t_s) // pieces)]
            e = [x.mean() for x in np.array_split(motion.energy, len(motion.t_s) // pieces)]
            when.plot((start + np.array(t)) / 60, e, color=BLUE, lw=1)
    when.set(xlabel="minutes", ylabel="grey levels", xlim=(0, starts[-1] / 60))
    when.set_title("when")
    return to_svg(figure, "Motion that the camera sees")


@styled
def label_bars(found: Numbers) -> str:
    """Seconds of each class of each track."""
    tracks = {t: c for t, c in found.labels.items() if c}
    heights = [min(len(c), 25) for c in tracks.values()]
    figure, axes = new_figure(
        0.5 * len(tracks) + 0.19 * sum(heights), len(tracks), gridspec_kw={"height_ratios": heights}
    )
    for ax, (track, classes) in zip(axes[:, 0], tracks.items(), strict=True):
        shown = list(classes.items())[:25]
        ax.barh(range(len(shown)), [s / 60 for _, (_, s) in shown], height=0.7, color=BLUE)
        _name_rows(ax, [f"{name} ({count})" for name, (count, _) in shown])
        ax.set_title(track)
    axes[-1, 0].set_xlabel("minutes (number of stretches in brackets)")
    return to_svg(figure, "Labels")


def _name_rows(ax: Any, names: Sequence[str]) -> None:
    short = [name if len(name) < 34 else name[:32] + "\u2026" for name in names]
    ax.set_yticks(range(len(names)), short, fontsize=7)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")


def _tiles(quality: Quality) -> list[tuple[str, str]]:
    found = quality.numbers
    sure = sum(finding.sure for finding in quality.findings)
    return [
        (f"{found.hours:.1f} h", f"in {len(found.recordings)} recordings"),
        (str(len(found.sensors)), "sensors"),
        (percent(found.film), "of the time on film"),
        (percent(found.in_view), "of the time with somebody in view"),
        (str(sure), "faults to look at"),
    ]
