"""One clock for two streams that carry the same labels: subtitles of a video, codes of sensor rows.

Nobody writes down by how much the clocks differ, but the same gestures are marked on both. Cues and
runs of equal labels are matched by code and order of time, and a line through the matches gives
offset and drift, robustly, for annotators differ by a few hundred milliseconds and some marks are
missing on one side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.errors import DataError

WIDEST_S = 120.0
"""Offsets looked for, either way."""
NEAR_S = (2.0, 1.0, 0.6)
"""How far a match may be off the line, round by round."""
LEAST_MATCHES = 4
LEAST_SHARE = 0.5
"""Of the shorter list, that must be matched."""
STEEPEST_PPM = 1000.0
"""A clock that drifts by more is none."""
SHORTEST_SPAN_S = 300.0
"""Matches closer together than this tell an offset but no drift."""


@dataclass(frozen=True)
class Mark:
    """A stretch with one label."""

    start_s: float
    end_s: float
    code: int


@dataclass(frozen=True)
class Clock:
    """video_s = sensor_s (1 + drift) + offset, and how well it fits."""

    offset_s: float
    drift_ppm: float
    residual_s: float
    """Median distance of matched starts and ends from the line."""
    matched: int
    cues: int
    runs: int

    def video_s(self, sensor_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times of the sensors [n] on the video's clock."""
        return np.asarray(sensor_s * (1.0 + 1e-6 * self.drift_ppm) + self.offset_s)

    def as_text(self) -> str:
        """In words, for whoever imports."""
        return (
            f"video is {self.offset_s:+.3f} s against sensors, drift {self.drift_ppm:+.0f} ppm, "
            f"residual {1000 * self.residual_s:.0f} ms from {self.matched} of {self.cues} cues and "
            f"{self.runs} labelled stretches"
        )


def fit_clock(cues: Sequence[Mark], runs: Sequence[Mark], where: str) -> Clock:
    """Offset and drift between cues on the video's clock and runs on the sensors'.

    Args:
        cues: Of the video.
        runs: Of the sensors.
        where: What is synchronised, for messages.

    Raises:
        DataError: Fewer than four marks match, or less than half of the shorter list.
    """
    offset = _coarse(cues, runs, where)
    slope, found = 0.0, np.zeros((0, 2))
    for near in NEAR_S:
        found = _matches(cues, runs, offset, slope, near)
        if len(found) < 2 * LEAST_MATCHES:
            break
        offset, slope = _line(found[:, 1], found[:, 0])
    fewest = max(LEAST_MATCHES, LEAST_SHARE * min(len(cues), len(runs)))
    if len(found) < 2 * fewest:
        raise DataError(
            f"{where}: the cues of the video do not match the labels of the sensors: "
            f"{len(found) // 2} of {len(cues)} cues and {len(runs)} labelled stretches go together "
            f"at {offset:+.1f} s, at least {fewest:.0f} must; are both files of the same run?"
        )
    apart = found[:, 0] - (found[:, 1] * (1 + slope) + offset)
    residual = float(np.median(np.abs(apart)))
    return Clock(offset, 1e6 * slope, residual, len(found) // 2, len(cues), len(runs))


def runs_of(t_s: NDArray[np.float64], code: NDArray[np.int64], period_s: float) -> list[Mark]:
    """Stretches of equal label, other than 0, of rows at ``t_s`` [n]."""
    if len(code) == 0:
        return []
    edge = np.flatnonzero(np.diff(code)) + 1
    starts, ends = np.concatenate([[0], edge]), np.concatenate([edge, [len(code)]])
    return [
        Mark(float(t_s[a]), float(t_s[b - 1] + period_s), int(code[a]))
        for a, b in zip(starts, ends, strict=True)
        if code[a]
    ]


def _coarse(cues: Sequence[Mark], runs: Sequence[Mark], where: str) -> float:
    """The offset that most pairs of equal code agree on, to about a second."""
    apart = np.array([c.start_s - r.start_s for c in cues for r in runs if c.code == r.code])
    apart = np.sort(apart[np.abs(apart) <= WIDEST_S])
    if len(apart) == 0:
        raise DataError(
            f"{where}: none of {len(cues)} cues has the code of one of {len(runs)} labelled "
            f"stretches within {WIDEST_S:g} s; are both files of the same run?"
        )
    last = np.searchsorted(apart, apart + 1.0, side="right")
    best = int(np.argmax(last - np.arange(len(apart))))
    return float(np.median(apart[best : last[best]]))


def _matches(
    cues: Sequence[Mark], runs: Sequence[Mark], offset: float, slope: float, near: float
) -> NDArray[np.float64]:
    """(video, sensor) times of starts and ends of marks that go together, each used once."""
    free = set(range(len(runs)))
    pairs = []
    for cue in cues:
        guess = (cue.start_s - offset) / (1.0 + slope)
        own = [i for i in free if runs[i].code == cue.code]
        if not own:
            continue
        best = min(own, key=lambda i: abs(runs[i].start_s - guess))
        if abs(runs[best].start_s - guess) <= near:
            free.discard(best)
            pairs += [(cue.start_s, runs[best].start_s), (cue.end_s, runs[best].end_s)]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _line(sensor_s: NDArray[np.float64], video_s: NDArray[np.float64]) -> tuple[float, float]:
    """Offset and slope less 1, least squares of which outliers weigh less and less (Huber)."""
    apart = video_s - sensor_s
    if np.ptp(sensor_s) < SHORTEST_SPAN_S:
        return float(np.median(apart)), 0.0
    middle = sensor_s.mean()
    design = np.stack([np.ones_like(sensor_s), sensor_s - middle], axis=1)
    weight = np.ones_like(apart)
    found: NDArray[np.floating] = np.zeros(2)
    for _ in range(20):
        found = np.linalg.lstsq(design * weight[:, None], apart * weight, rcond=None)[0]
        error = np.abs(apart - design @ found)
        scale = max(float(np.median(error)) * 1.48, 1e-3)
        weight = np.sqrt(np.minimum(1.0, 1.35 * scale / np.maximum(error, 1e-12)))
    slope = float(np.clip(found[1], -1e-6 * STEEPEST_PPM, 1e-6 * STEEPEST_PPM))
    return float(found[0] - slope * middle), slope
