"""Figures of the paper that look at pairs, pictures and labels, each from plain arrays to SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from numpy.typing import NDArray

from detach.report.style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    RED,
    SURFACE,
    new_figure,
    styled,
    to_svg,
)

HEAT_FROM = 0.8
"""Share of a map that is left without heat."""
KIND_COLOURS = {"easy": GREY, "hard": RED, "false": BLUE}
KIND_NAMES = {
    "easy": "easy: another place and action",
    "hard": "hard: same place, another action",
    "false": "false: same place and action",
}


@styled
def weight_cdfs(panels: Sequence[tuple[str, Mapping[str, NDArray[np.float64]]]]) -> str:
    """Share of negatives with at most each weight, by kind, a panel an epoch (Fig. 4).

    Args:
        panels: (title, weights by kind: easy, hard, false).
    """
    figure, axes = new_figure(2.6, 1, len(panels), sharey=True)
    low = min(float(v.min()) for _, kinds in panels for v in kinds.values() if len(v))
    high = max(float(v.max()) for _, kinds in panels for v in kinds.values() if len(v))
    room = 0.04 * max(high - low, 0.1)
    for ax, (title, kinds) in zip(axes[0], panels, strict=True):
        ax.axvline(1.0, color=MUTED, lw=0.8, ls=(0, (4, 3)))
        for kind, weights in kinds.items():
            if len(weights) == 0:
                continue
            x = np.sort(weights)
            some = np.unique(np.linspace(0, len(x) - 1, min(len(x), 400)).astype(int))
            ax.plot(x[some], (some + 1) / len(x), color=KIND_COLOURS[kind], lw=1.7,
                    label=KIND_NAMES[kind])  # fmt: skip
        ax.set(xlim=(low - room, high + room), ylim=(0, 1.02), xlabel="weight W")
        ax.set_title(title)
    axes[0, 0].set_ylabel("share of pairs")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8,
                  labelcolor=MUTED, handlelength=1.5)  # fmt: skip
    return to_svg(figure, "Distribution of weights of easy, hard and false negatives")


@styled
def class_separation(
    rows: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]],
) -> str:
    """Weights of hard and false negatives by class: medians, quartiles, 5 and 95 % (Fig. 5).

    Args:
        rows: (class, weights of hard negatives, weights of false ones), in the order shown; of
            six, a line parts the first three from the last.
    """
    figure, axes = new_figure(0.9 + 0.46 * len(rows))
    ax = axes[0, 0]
    for i, (_, hard, false) in enumerate(rows):
        for weights, colour, up in ((hard, RED, -0.15), (false, BLUE, 0.15)):
            if len(weights) == 0:
                continue
            q = np.quantile(weights, [0.05, 0.25, 0.5, 0.75, 0.95])
            ax.plot(q[[0, 4]], [i + up] * 2, color=colour, lw=1.2, alpha=0.5)
            ax.plot(q[[1, 3]], [i + up] * 2, color=colour, lw=5, alpha=0.75, solid_capstyle="butt")
            ax.plot(q[2], i + up, marker="o", ms=5, color=SURFACE, mec=colour, mew=1.6)
    for kind, colour in (("hard", RED), ("false", BLUE)):
        ax.plot([], [], color=colour, lw=5, alpha=0.75, label=KIND_NAMES[kind])
    ax.axvline(1.0, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    ax.set_yticks(range(len(rows)), [name for name, _, _ in rows], color=INK)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="weight W")
    if len(rows) == 6:
        ax.axhline(2.5, color=MUTED, lw=0.8)
    ax.grid(visible=False)
    ax.grid(visible=True, axis="x")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, labelcolor=MUTED,
              handlelength=1.5, borderaxespad=0.2)  # fmt: skip
    return to_svg(figure, "Weights of hard and false negatives by class")


@styled
def phase_space(
    query: str, kinds: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> str:
    """Spatial against temporal similarity to one window (Fig. 6).

    Args:
        query: What happens in that window.
        kinds: (spatial, temporal similarity) of its easy, hard and false negatives.
    """
    figure, axes = new_figure(3.6)
    ax = axes[0, 0]
    for kind, (x, y) in kinds.items():
        ax.scatter(x, y, s=22, color=KIND_COLOURS[kind], alpha=0.65, lw=0, label=KIND_NAMES[kind])
    ax.axhline(0, color=MUTED, lw=0.8)
    ax.set(xlim=(-0.03, 1.03), xlabel="spatial similarity", ylabel="temporal similarity")
    ax.set_title(f"negatives of one window of {query}")
    ax.grid(visible=True, axis="both")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, labelcolor=MUTED,
              handletextpad=0.3)  # fmt: skip
    return to_svg(figure, f"Spatial and temporal similarity to a window of {query}")


@styled
def activation_maps(
    rows: Sequence[tuple[str, NDArray[np.uint8], Mapping[str, NDArray[np.float64]]]],
) -> str:
    """Where encoders look over the frames of some windows (Fig. 8).

    Args:
        rows: (title, frames [F, H, W, 3], maps [F, h, w] of each encoder).
    """
    ramp = colormaps["inferno"]
    names = ["frame", *rows[0][2]]
    shown = len(rows[0][1])
    height, width = rows[0][1].shape[1:3]
    figure, axes = new_figure(
        0.7 + len(rows) * (0.32 + len(names) * 7.0 / (shown + 0.7) * height / width),
        len(rows) * len(names),
        shown,
        gridspec_kw={"hspace": 0.02, "wspace": 0.02},
    )
    for r, (title, frames, maps) in enumerate(rows):
        for line, name in enumerate(names):
            row = axes[r * len(names) + line]
            for ax, picture in zip(row, frames, strict=True):
                shade = picture if name == "frame" else _greyed(picture)
                ax.imshow(shade, interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                ax.spines[:].set_visible(False)
                ax.grid(visible=False)
            if name != "frame":
                _heat(row, maps[name], (height, width), ramp)
            row[0].set_ylabel(name, color=MUTED, fontsize=7.5, rotation=0, ha="right", va="center")
        axes[r * len(names), 0].set_title(title)
    key = ScalarMappable(Normalize(0, 1), ramp)
    bar = figure.colorbar(key, ax=axes, location="bottom", shrink=0.3, aspect=25, pad=0.01)
    bar.set_ticks([0, 1], labels=[f"{100 * HEAT_FROM:g} % lie below", "highest of its row"])
    bar.outline.set_visible(False)
    return to_svg(figure, "Activation maps over the frames of windows", dpi=110)


def _greyed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without colours and pale, so that those of the heat alone are seen."""
    grey = 96 + 0.6 * picture.mean(axis=2, keepdims=True)
    return np.repeat(grey, 3, axis=2).astype(np.uint8)


def _heat(row: Any, maps: NDArray[np.float64], size: tuple[int, int], ramp: Colormap) -> None:
    """Overlays what is high of maps [F, h, w], scaled together."""
    low, high = np.quantile(maps, [HEAT_FROM, 0.995])
    share = np.clip((maps - low) / max(float(high - low), 1e-12), 0, 1)
    for ax, part in zip(row, share, strict=True):
        layer = ramp(part)
        layer[..., 3] = np.clip(4 * part, 0, 0.85)
        extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
        ax.imshow(layer, extent=extent, interpolation="bilinear")
