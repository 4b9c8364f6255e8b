"""`detach sync`: how late the camera's clock is against the sensors', and how fast that grows.

An event at the sensors' time t is seen at t + lag(t), lag(t) = offset + drift t. First the activity
of every sensor is correlated with the motion in every patch of the picture; fourth powers of the
correlations are added up, so that the few pairs that belong together outweigh the many that do
not. How high such a sum gets by chance is read off the same curve at lags that cannot be meant.
Then linear filters learn from all other pieces of the recording how motion follows what sensors
feel, and the lag of each piece is where its motion fits best (generalised least squares over
patches); a robust line through the lags of the pieces gives the drift.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detach.data.quality_camera import LONGEST_S
from detach.data.recording import Recording
from detach.data.sync_fit import PIECES_MIN, Line, peak, refine
from detach.data.sync_signals import HZ, Floats, Signals, read_signals
from detach.errors import DataError

WITHIN_S = 10.0
"""Lags up to this are looked for, unless the recording is too short."""
CHANCES, ABOVE = 20, 2.0
"""A peak stands out when it is so many times as high as any of so many stretches of chance."""


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How late the camera's clock is against the sensors'."""

    source: str
    """What was compared."""
    clear: bool
    """Whether a peak stands out; where not, the other numbers mean nothing."""
    p: float
    """Chance of a peak as high among lags that cannot be meant."""
    chances: int
    """How many stretches of such lags there were."""
    offset_s: float
    """Lag at the start of the recording; positive when the film shows things later."""
    drift_ppm: float
    """By how many millionths it grows."""
    offset_interval_s: tuple[float, float]
    """95 %, from resampling pieces of the recording."""
    drift_interval_ppm: tuple[float, float]
    duration_s: float
    curve_s: Floats
    """Lags tried [n]."""
    curve: Floats
    """How well they fit [n]; 1 is the best."""
    chance: float
    """The best fit among lags that cannot be meant, on the same scale."""
    piece_s: Floats
    """Middle of each piece [m]."""
    piece_lag_s: Floats
    """Its lag [m]."""

    @property
    def drift_known(self) -> bool:
        """Whether there were enough pieces to tell a drift."""
        return len(self.piece_s) >= PIECES_MIN

    @property
    def end_lag_s(self) -> float:
        """Lag at the end of the recording."""
        return self.offset_s + 1e-6 * self.drift_ppm * self.duration_s

    @property
    def in_step(self) -> bool:
        """Whether no lag and no drift is as good an explanation."""
        (low, high), (slow, fast) = self.offset_interval_s, self.drift_interval_ppm
        return low <= 0 <= high and slow <= 0 <= fast


def measure_lag(recording: Recording, within_s: float | None = None) -> Lag:
    """The lag between motion that the first camera sees and activity that sensors feel.

    Args:
        recording: With a video and sensors, a minute and more; 20 minutes tell a drift of 10 ppm.
        within_s: Lags up to this are looked for; None is what `range_of` gives.

    Raises:
        DataError: No video, no sensor that changes, or too short.
    """
    within_s = range_of(recording, within_s)
    signals = read_signals(recording)
    length_s = len(signals.grid_s) / HZ
    whole = _whole_curve(signals)
    return judge(
        "motion and activity",
        whole,
        1 / HZ,
        within_s=within_s,
        duration_s=length_s,
        refine=lambda coarse_s: refine(signals, coarse_s),
    )


def range_of(recording: Recording, within_s: float | None) -> float:
    """Up to which lag a recording can tell a peak from chance, or ``within_s`` if it can.

    Raises:
        DataError: It is too short for ``within_s``.
    """
    # Signals are cut to multiples of 12 s; two stretches around the peak are not chance.
    most_s = min(recording.duration_s, LONGEST_S) // 12 * 12 / (2 * CHANCES + 5)
    if within_s is None:
        return min(WITHIN_S, most_s)
    if within_s > most_s:
        raise DataError(
            f"{recording.folder}: its {recording.duration_s:.0f} s can tell lags up to "
            f"{most_s:.1f} s from chance, not {within_s:g} s; use a longer one or --within-s"
        )
    return within_s


def judge(
    source: str,
    whole: Floats,
    step_s: float,
    *,
    within_s: float,
    duration_s: float,
    refine: Callable[[float], Line],
) -> Lag:
    """Whether a peak stands out of a curve, and what line lies under it.

    Args:
        source: What was compared.
        whole: Fit at every circular lag of the recording [T].
        step_s: Between two lags.
        within_s: Lags up to this may be meant; those beyond twice that are chance.
        duration_s: Of the recording.
        refine: Makes a line of the lag at the peak; called only where one stands out.
    """
    reach = round(within_s / step_s)
    curve = np.concatenate([whole[-reach:], whole[: reach + 1]])
    # A margin between: the rhythm of events reaches further than the peak.
    far = whole[2 * reach : len(whole) - 2 * reach]
    heights = [float(x.max()) for x in np.array_split(far, max(1, len(far) // (2 * reach)))]
    best, chance = max(float(curve.max()), 1e-12), max(heights)
    clear = len(heights) >= CHANCES and best >= ABOVE * chance
    p = (1 + sum(h >= best for h in heights)) / (1 + len(heights))
    found = Line((peak(curve)[0] - reach) * step_s, 0.0, np.zeros(0), np.zeros(0), np.zeros((1, 2)))
    if clear:
        found = refine(found.offset_s)
    low, high = np.percentile(found.spread, (2.5, 97.5), axis=0)
    return Lag(
        source=source,
        clear=clear,
        p=p,
        chances=len(heights),
        offset_s=found.offset_s,
        drift_ppm=1e6 * found.drift,
        offset_interval_s=(found.offset_s + float(low[0]), found.offset_s + float(high[0])),
        drift_interval_ppm=(
            1e6 * (found.drift + float(low[1])),
            1e6 * (found.drift + float(high[1])),
        ),
        duration_s=duration_s,
        curve_s=step_s * np.arange(-reach, reach + 1, dtype=np.float64),
        curve=curve / best,
        chance=chance / best,
        piece_s=found.piece_s,
        piece_lag_s=found.lag_s,
    )


def _whole_curve(signals: Signals) -> Floats:
    """Fit at every circular lag of the whole recording [T], in samples of the grid."""
    seen = signals.seen(0.0, 0.0)
    length, total = len(seen), np.zeros(len(seen))
    size = np.maximum(np.linalg.norm(seen, axis=0), 1e-6)
    for start in range(0, seen.shape[1], 64):
        patch = slice(start, start + 64)
        seen_f = np.fft.rfft((seen[:, patch] / size[patch]).T)
        for row in signals.activity:
            felt_f = np.conj(np.fft.rfft(row / max(float(np.linalg.norm(row)), 1e-6)))
            r = np.fft.irfft(seen_f * felt_f, length)
            total += (np.maximum(r, 0.0) ** 4).sum(axis=0)
    return total
