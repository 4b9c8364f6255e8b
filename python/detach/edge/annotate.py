"""A video that shows what was recognised: the picture, the answer, and a lane for each sensor."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data import video
from detach.edge.decide import UNKNOWN, Decision
from detach.edge.manifest import Manifest
from detach.edge.source import Source
from detach.edge.stream import SensorWindow

WIDTH, BANNER, LANE, NAMES = 640, 64, 12, 150
"""Pixels: of the picture, of the strip with the answer, of a lane, of the names beside lanes."""
LETTER_PX = 5
"""About the width of a letter of those names."""
SPAN_S = 30.0
"""How much of the past the lanes show."""
MOST_LANES = 30
FPS = 10.0
INK, PAPER, GOOD, DOUBT, NOW = (
    (235, 235, 235),
    (28, 26, 24),
    (120, 200, 90),
    (130, 130, 130),
    (70, 170, 250),
)
"""Colours as red, green and blue."""

Picture = NDArray[np.uint8]
Found = Sequence[tuple[SensorWindow, Decision]]


def annotated(source: Source, manifest: Manifest, found: Found) -> Iterator[Picture]:
    """Pictures [H, W, 3] at `FPS`, from the start of the source to its end.

    Each shows the latest answer there was at that time: that of the last window that had ended.
    """
    lanes = _busiest(found)
    film = _Film(source)
    levels = np.stack([window.activation for window, _ in found])[:, lanes]
    scale = np.maximum(np.abs(levels).max(axis=0), 1e-6)
    names = [_shortened(manifest.channels[i].name) for i in lanes]
    ends = np.array([decision.end_s for _, decision in found])
    for i in range(int(source.duration_s * FPS)):
        t_s = i / FPS
        latest = int(np.searchsorted(ends, t_s, side="right")) - 1
        page = np.concatenate(
            [
                film.at(t_s),
                _banner(found[latest][1] if latest >= 0 else None, t_s),
                _lanes(names, levels / scale, ends, manifest.window.hop_s, t_s),
            ]
        )
        yield page[: page.shape[0] // 2 * 2]


class _Film:
    """The picture on screen at a time, scaled to `WIDTH`; nothing where there is no video."""

    def __init__(self, source: Source) -> None:
        self._frames: Iterator[tuple[float, Picture]] = iter(())
        self._latest: Picture = np.zeros((0, WIDTH, 3), np.uint8)
        self._next: tuple[float, Picture] | None = None
        self._track = track = source.video_track
        if track is not None and source.video_file is not None:
            height = max(2, round(WIDTH * track.height_px / track.width_px / 2) * 2)
            config = VideoConfig(size_px=min(1024, round((WIDTH * height) ** 0.5)))
            self._frames = video.decode(source.video_file, track, config)
            self._latest = np.full((height, WIDTH, 3), PAPER, np.uint8)
            self._next = next(self._frames, None)

    def at(self, t_s: float) -> Picture:
        while self._next is not None and self._track and self._track.at(self._next[0]) <= t_s:
            height = self._latest.shape[0]
            self._latest = video.resized(self._next[1], (height, WIDTH))
            self._next = next(self._frames, None)
        return self._latest


def _busiest(found: Found) -> list[int]:
    """Channels whose activation changes most, in the bundle's order."""
    levels = np.stack([window.activation for window, _ in found])
    order = np.argsort(-levels.std(axis=0), kind="stable")[:MOST_LANES]
    return sorted(order.tolist())


def _shortened(name: str) -> str:
    """A name without its middle, where it has more letters: ends tell axes and doors apart."""
    letters = (NAMES - 6) // LETTER_PX
    half = (letters - 2) // 2
    return name if len(name) <= letters else f"{name[:half]}..{name[-half:]}"


def _banner(decision: Decision | None, t_s: float) -> Picture:
    strip: Picture = np.full((BANNER, WIDTH, 3), PAPER, np.uint8)
    video.put_text(strip, f"{t_s:6.1f} s", (10, 40), 0.5, INK)
    if decision is None:
        return strip
    sure = decision.label not in {None, UNKNOWN}
    place = "" if decision.place is None else f"place {decision.place}"
    video.put_text(strip, decision.label or place, (110, 30), 0.8, GOOD if sure else DOUBT)
    if decision.confidence is not None:
        width = round(decision.confidence * (WIDTH - 250))
        strip[44:52, 110 : 110 + width] = GOOD if sure else DOUBT
        video.put_text(strip, f"{decision.confidence:.0%}  {place}", (WIDTH - 130, 52), 0.45, INK)
    return strip


def _lanes(
    names: Sequence[str],
    levels: NDArray[Any],
    ends_s: NDArray[np.float64],
    hop_s: float,
    t_s: float,
) -> Picture:
    """The last `SPAN_S` of each channel's activation, now at the right edge."""
    page: Picture = np.full((len(names) * LANE, WIDTH, 3), PAPER, np.uint8)
    room = WIDTH - NAMES - 4
    moments = t_s - SPAN_S * (1 - (np.arange(room) + 0.5) / room)
    of = np.searchsorted(ends_s - hop_s, moments, side="right") - 1
    known = (of >= 0) & (moments <= ends_s[np.maximum(of, 0)])
    known &= ends_s[np.maximum(of, 0)] <= t_s
    for lane, name in enumerate(names):
        top = lane * LANE
        share = np.where(known, np.abs(levels[np.maximum(of, 0), lane]), 0)
        colour = np.asarray(PAPER) + share[:, None] * (np.asarray(NOW) - np.asarray(PAPER))
        page[top + 1 : top + LANE - 1, NAMES : NAMES + room] = colour.astype(np.uint8)
        video.put_text(page, name, (6, top + LANE - 3), 0.32, INK)
    return page
