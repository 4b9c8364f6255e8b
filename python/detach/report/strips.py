"""Sample windows as film strips: pictures, sensor traces under them, what was said and what is."""

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.report.style import SERIES, jpeg
from detach.results import Task
from detach.scores import Floats, Ints

FRAMES_SHOWN = 6
LANES_SHOWN = 6
LANE_PX, WIDTH_PX, NAME_PX = 26, 720, 168
NAMES = f"{100 * NAME_PX / WIDTH_PX:.2f}%"
"""Of the width: the film starts where the traces do."""
LETTER_PX = 7.5
"""At most so wide on average; names that have no room lose their middle."""


@dataclass(frozen=True)
class Sample:
    """One window to be shown."""

    frames: NDArray[np.uint8]
    """[F, H, W, 3]"""
    samples: NDArray[np.float32]
    """[T, C], normalised"""
    usual: NDArray[np.float32]
    """How much each channel moves in most windows, [C]: its noise, see `usual_motion`."""
    channels: tuple[str, ...]
    binary: tuple[bool, ...]
    truth: str
    said: str
    confidence: float
    recording: str
    start_s: float
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the answer is the label."""
        return self.truth == self.said


def choose(task: Task, probability: Floats, count: int = 8) -> Ints:
    """Positions of test items worth showing: sure right answers of many classes, sure mistakes.

    A quarter are mistakes where there are that many; no class is shown twice among the right ones
    before every class was shown. The same for the same answers.
    """
    said, sure = probability.argmax(axis=1), probability.max(axis=1)
    wrong = np.flatnonzero(said != task.truth)
    mistakes = wrong[np.argsort(-sure[wrong], kind="stable")]
    mistakes = _one_each(mistakes, task.truth)[: count // 4]
    hits = np.flatnonzero(said == task.truth)
    # Near the upper quartile: the very surest windows are all alike.
    typical = np.quantile(sure[hits], 0.75) if len(hits) else 0.0
    hits = hits[np.argsort(np.abs(sure[hits] - typical), kind="stable")]
    chosen = _one_each(hits, task.truth)[: count - len(mistakes)]
    return np.concatenate([chosen, mistakes]).astype(np.int64)


def film(sample: Sample, most: int = FRAMES_SHOWN) -> str:
    """At most so many frames side by side as one picture for an ``img`` element."""
    frames = sample.frames
    fitting = int(np.clip(8 * frames.shape[1] // frames.shape[2], 2, min(most, len(frames))))
    pick = np.linspace(0, len(frames) - 1, fitting).round().astype(int)
    shown = [np.pad(frames[i], ((0, 0), (0, 2), (0, 0)), constant_values=0) for i in pick]
    strip = np.concatenate(shown, axis=1)[:, :-2]
    scale = max(1, round(120 / strip.shape[0]))
    large = strip.repeat(scale, axis=0).repeat(scale, axis=1)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(large, 70)).decode()


def traces(sample: Sample, width_px: int = WIDTH_PX, name_px: int = NAME_PX) -> str:
    """Lanes of the liveliest channels as SVG: filled where a switch is on, lines elsewhere.

    ``name_px`` of its ``width_px`` are for names.
    """
    order = lively(sample.samples, sample.usual)
    lanes = [_lane(sample, int(c), row, (name_px, width_px)) for row, c in enumerate(order)]
    height = LANE_PX * max(len(order), 1) + 16
    seconds = f"{sample.seconds:g} s"
    axis = (
        f'<text class="t" x="{name_px}" y="{height - 3}">0</text>'
        f'<text class="t" x="{width_px}" y="{height - 3}" text-anchor="end">{seconds}</text>'
    )
    if not len(order):
        axis = f'<text class="t" x="{name_px}" y="17">no sensor moved more than usual</text>'
    return (
        f'<svg viewBox="0 0 {width_px} {height}" role="img" aria-label="sensor traces">'
        f"{''.join(lanes)}{axis}</svg>"
    )


def usual_motion(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over windows [N, T, C] of the standard deviation within each, [C]."""
    return np.asarray(np.median(samples.std(axis=1), axis=0), dtype=np.float32)


def lively(samples: NDArray[np.float32], usual: NDArray[np.float32]) -> Ints:
    """Channels [<= 6] that move most in a window [T, C] beside what is usual, in their order."""
    spread = samples.std(axis=0)
    move = spread / np.maximum(usual, 0.05)
    best = np.argsort(-move, kind="stable")[:LANES_SHOWN]
    return np.sort(best[(spread[best] > 1e-3) & (move[best] > 1.5)]).astype(np.int64)


def _lane(sample: Sample, channel: int, row: int, ends_px: tuple[int, int]) -> str:
    start, end = ends_px
    x = np.linspace(start, end, len(sample.samples))
    top, height = row * LANE_PX + 4.0, LANE_PX - 8.0
    value = sample.samples[:, channel]
    low, high = 0.0, 1.0
    if not sample.binary[channel]:
        middle, half = (value.max() + value.min()) / 2, (value.max() - value.min()) / 2
        half = max(float(half), 6 * float(sample.usual[channel]), 1e-3)  # noise stays small
        low, high = float(middle) - half, float(middle) + half
    y = top + height * (1 - (value - low) / max(high - low, 1e-6))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    colour = SERIES[channel % len(SERIES)]
    base = top + height
    name = _escape(sample.channels[channel])
    short = _escape(_shortened(sample.channels[channel], int(start / LETTER_PX)))
    name = f'<text class="n" x="0" y="{base - 3:.1f}">{short}<title>{name}</title></text>'
    rule = f'<line class="r" x1="{start}" x2="{end}" y1="{base:.1f}" y2="{base:.1f}"/>'
    if sample.binary[channel]:
        shape = (
            f'<polygon points="{start},{base:.1f} {points} {end},{base:.1f}" '
            f'fill="{colour}" fill-opacity=".7"/>'
        )
    else:
        shape = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
    return name + rule + shape


def _one_each(order: Ints, truth: Ints) -> Ints:
    """``order`` with the first of every class ahead of second ones, and so on."""
    seen: dict[int, int] = {}
    turn = []
    for i in order.tolist():
        turn.append(seen.get(int(truth[i]), 0))
        seen[int(truth[i])] = turn[-1] + 1
    return order[np.argsort(turn, kind="stable")] if turn else order


def _shortened(name: str, letters: int) -> str:
    """A name without its middle, where it has more letters: ends tell axes and doors apart."""
    half = (letters - 1) // 2
    return name if len(name) <= letters else f"{name[:half]}\u2026{name[-half:]}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
