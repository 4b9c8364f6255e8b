"""How figures look: one palette, safe for colour-blind readers, that follows the page's theme."""

import functools
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib import image
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

P = ParamSpec("P")
Drawn = TypeVar("Drawn")

# Colours that stand for variables of the page, so that figures turn dark with it.
INK, MUTED, GRID, SURFACE = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", SURFACE: "var(--card)"}

BLUE, ORANGE, TEAL, MAGENTA, RED = "#3478c6", "#de852a", "#2a9a83", "#b8528f", "#cf5f4c"
GREY = "#8b97a5"
SERIES = (
    BLUE,
    ORANGE,
    TEAL,
    MAGENTA,
    "#c2a526",
    "#56aed4",
    "#cf5f4c",
    "#7b69c6",
    "#7d983a",
    "#98755a",
)
METHOD_COLOURS = {
    "detach": BLUE,
    "infonce": ORANGE,
    "global": TEAL,
    "supervised": MAGENTA,
    "imu2clip": SERIES[4],
    "primus": SERIES[5],
    "comodo": SERIES[7],
    "cav-mae": SERIES[9],
}

POINTS_AN_INCH = 72
"""Units of an SVG's view."""
WIDTH_IN = 7.5
"""Full width of the page's column; one point is then one point."""

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "detach",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold two $
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def method_colour(name: str, position: int = 0) -> str:
    """Colour of a method, wherever it appears; references are grey."""
    stem = name.partition(",")[0]
    if stem != name:  # several ways to run one method need several colours
        return SERIES[position % len(SERIES)]
    return METHOD_COLOURS.get(stem, GREY)


def styled(draw: Callable[P, Drawn]) -> Callable[P, Drawn]:
    """Draws under the house's settings, whatever the caller's matplotlib is set to."""

    @functools.wraps(draw)
    def under_style(*args: P.args, **kwargs: P.kwargs) -> Drawn:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return under_style


def new_figure(height_in: float, rows: int = 1, columns: int = 1, **options: Any) -> Any:
    """A figure of the page's width with ``rows`` x ``columns`` axes [rows, columns]."""
    figure = Figure(figsize=(WIDTH_IN, height_in))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def in_view(
    figure: Figure, axes: NDArray[Any], points: Sequence[NDArray[Any]], dpi: int
) -> list[NDArray[np.float64]]:
    """Where ``points`` [n, 2] of each column stand in the SVG that `to_svg` will make.

    One array for each of the ``axes`` [rows, columns], row by row, x to the right and y down.
    """
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    high = figure.get_figheight() * POINTS_AN_INCH
    found = []
    for row in axes:
        for ax, own in zip(row, points, strict=True):
            at = ax.transData.transform(own) * POINTS_AN_INCH / dpi
            found.append(np.stack([at[:, 0], high - at[:, 1]], axis=1))
    return found


def to_svg(figure: Figure, label: str, dpi: int = 150) -> str:
    """The figure as inline SVG whose text is text and whose ink follows the theme."""
    _plain_logarithms(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font: ([^;\"]*?)(\d[\d.]*px)[^;\"]*", r"font: \1\2 var(--sans)", svg)
    svg = re.sub(r' id="(?:figure|axes|patch|text|line2d|matplotlib|xtick|ytick)[^"]*"', "", svg)
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


class _Plain(LogFormatter):
    """Labels where matplotlib would, but 0.1 or 100 instead of mathematics, which is off."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _plain_logarithms(figure: Figure) -> None:
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        if isinstance(axis.get_major_formatter(), LogFormatter):
            axis.set_major_formatter(_Plain())
        if isinstance(axis.get_minor_formatter(), LogFormatter):
            axis.set_minor_formatter(_Plain())


def jpeg(picture: NDArray[np.uint8], quality: int = 78) -> bytes:
    """A picture [H, W, 3] as JPEG."""
    buffer = io.BytesIO()
    image.imsave(buffer, picture, format="jpeg", pil_kwargs={"quality": quality})
    return buffer.getvalue()
