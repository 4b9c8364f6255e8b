"""Points of a map that show their window: film strips on one sheet, and where each point stands."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from detach.data.windows import Windows
from detach.report.style import jpeg
from detach.scores import Ints

MOST = 800
"""Points with a strip: more would not fit on the page."""
FRAMES = 4
HEIGHT_PX = 36
COLUMNS = 4
QUALITY = 58
PIECE = 64


@dataclass(frozen=True)
class Strips:
    """Film strips of some points of a map."""

    point: Ints
    """[m], which points of the map"""
    words: tuple[str, ...]
    """[m], what is known of each"""
    strips: NDArray[np.uint8]
    """[m, h, w, 3]"""

    def thinned(self) -> "Strips":
        """A third of them, for pages that come out too large."""
        return Strips(self.point[::3], self.words[::3], self.strips[::3])


def strips_of(windows: Windows, index: Ints, words: Sequence[str]) -> Strips:
    """Small strips of windows ``index`` [n], of at most 800 of them, evenly chosen."""
    point = np.unique(np.linspace(0, len(index) - 1, min(MOST, len(index))).round().astype(int))
    pieces = [
        _strips(windows.frames(index[point[i : i + PIECE]])) for i in range(0, len(point), PIECE)
    ]
    return Strips(point, tuple(words[i] for i in point), np.concatenate(pieces))


def page_data(strips: Strips, panels: Sequence[NDArray[np.float64]]) -> str:
    """What the page's script needs, as JSON that may stand in a script element.

    Args:
        strips: Of some points.
        panels: Where all points stand in the figure, [n, 2] of each panel, in units of its view.
    """
    height, width = strips.strips.shape[1:3]
    data = {
        "sheet": "data:image/jpeg;base64,"
        + base64.b64encode(jpeg(_sheet(strips), QUALITY)).decode(),
        "columns": COLUMNS,
        "width": width,
        "height": height,
        "words": strips.words,
        "panels": [panel[strips.point].round(1).tolist() for panel in panels],
    }
    return json.dumps(data).replace("<", "\\u003c")


def script() -> str:
    """The page's own script."""
    return resources.files("detach.report").joinpath("hover.js").read_text(encoding="utf-8")


def _strips(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Four frames side by side, [n, h, 4 w, 3], of [n, F, H, W, 3]."""
    count, length, height, width = frames.shape[:4]
    pick = np.linspace(0, length - 1, FRAMES).round().astype(int)
    factor = max(1, height // HEIGHT_PX)
    h, w = height // factor, width // factor
    small = frames[:, pick, : h * factor, : w * factor]
    parts = small.reshape(count, FRAMES, h, factor, w, factor, 3)
    mean = parts.mean(axis=(3, 5), dtype=np.float32).astype(np.uint8)
    mean[:, 1:, :, 0] = 0  # a line between frames
    return np.asarray(mean.transpose(0, 2, 1, 3, 4).reshape(count, h, FRAMES * w, 3))


def _sheet(strips: Strips) -> NDArray[np.uint8]:
    """All strips on one picture, four to a row."""
    count, height, width = strips.strips.shape[:3]
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, height, width, 3), dtype=np.uint8)
    sheet[:count] = strips.strips
    grid = sheet.reshape(rows, COLUMNS, height, width, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(rows * height, COLUMNS * width, 3))
