"""From a coarse lag to a line: lags of pieces of a recording, and how sure all of it is.

S sensors, T samples of the grid, P patches of the picture, m pieces, V features of sensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detach.data.sync_signals import HZ, Rows, Signals
from detach.data.sync_signals import Floats as Floats  # offered here too

PIECE_S, PIECES_MIN, PIECES_MAX = 30.0, 6, 60
NEAR = round(HZ)
"""Samples of the grid to either side that a piece may be off."""
REACH, STRIDE, RIDGE = 8, 2, 1e-3
"""Of a filter: how many samples to either side it sees, every how many it looks, and what keeps it
from overfitting."""
SENSORS = 16
"""That shape a filter: those that fit best."""
SHRINK = 3e-4
"""Towards a multiple of one, of the covariance of what filters leave over."""
TOP = 0.5
"""Frequencies up to this share of the camera's rate are compared."""
FOLDS, ROUNDS, RESAMPLES = 5, 6, 200
SETTLED = 1e-6
"""A change of drift that makes no further round."""
TOUGH = 2.5
"""Pieces further from the line than this, in robust deviations, lose weight."""


@dataclass(frozen=True)
class Line:
    """lag(t) = offset + drift t, t by the sensors' clock."""

    offset_s: float
    drift: float
    piece_s: Floats
    """Middle of each piece of the recording [m]."""
    lag_s: Floats
    """Its lag [m]."""
    spread: Floats
    """How far offset and drift are off when pieces are drawn anew [RESAMPLES, 2]."""


def refine(signals: Signals, offset_s: float) -> Line:
    """The line that starts from a coarse offset."""
    pieces = cut(len(signals.grid_s))
    t_s = np.array([signals.grid_s[piece].mean() for piece in pieces])
    drift = 0.0
    fits, lags, weight = np.zeros((0, 0, 0, 0), np.float32), t_s, t_s
    for _ in range(ROUNDS):
        fits = near_fits(signals.activity, signals.seen(offset_s, drift), pieces)
        offset_s += centre(fits.sum(axis=0))
        lags, weight, slope = np.zeros(len(pieces)), np.ones(len(pieces)), 0.0
        if len(pieces) >= PIECES_MIN:
            seen = signals.seen(offset_s, drift, fine=True)
            lags, weight = piece_lags(signals, seen, fits.sum(axis=0), pieces)
            slope = line(t_s, lags, weight)[1]
        # The filter has the mean lag in it, so that only the slope of its line is news.
        lags = lags - np.average(lags, weights=weight) + offset_s + drift * t_s
        offset_s -= slope * float(t_s.mean())
        drift = (1 + drift) * (1 + slope) - 1
        if abs(slope) < SETTLED:
            break
    return Line(offset_s, drift, t_s, lags, resampled(fits, t_s, lags, weight))


def cut(length: int) -> list[slice]:
    """Equal pieces of about `PIECE_S`."""
    count = int(np.clip(length / HZ // PIECE_S, 1, PIECES_MAX))
    edges = np.linspace(0, length, count + 1).astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(edges)]


def near_fits(activity: Rows, seen: Rows, pieces: Sequence[slice]) -> NDArray[np.float32]:
    """What each piece adds to the correlations at lags near zero [m, S, 2 NEAR + 1, P]."""
    felt = activity / np.maximum(np.linalg.norm(activity, axis=1, keepdims=True), 1e-6)
    looks = seen / np.maximum(np.linalg.norm(seen, axis=0), 1e-6)
    return np.stack([_correlate(felt[:, piece], looks[piece]) for piece in pieces])


def centre(fits: NDArray[np.float32]) -> float:
    """The lag at which correlations [S, 2 NEAR + 1, P] peak, in seconds."""
    square = np.square(np.maximum(fits, 0.0))
    fourth = np.einsum("slp,slp->l", square, square, dtype=np.float64)
    return (peak(fourth)[0] - NEAR) / HZ


def piece_lags(
    signals: Signals, seen: Rows, fits: NDArray[np.float32], pieces: Sequence[slice]
) -> tuple[Floats, Floats]:
    """Lag of each piece [m] less their mean, and the weight it deserves [m].

    A ridge regression from the shape of all pieces but a fold predicts the motion in that fold;
    with S the covariance of what it leaves over, the lag of a piece maximises the sum over time of
    seen(t + lag)' S^-1 predicted(t). What moves in many patches at once, such as light and people,
    is taken off by S; the more and the smaller the patches, the better.
    """
    near = np.maximum(fits[:, NEAR - 2 : NEAR + 3].mean(axis=1), 0.0)
    sensors = np.argsort(-near.max(axis=1), kind="stable")[:SENSORS]
    x = signals.shape[np.isin(signals.shape_of, sensors)]
    predicted = _cross_fitted(x, seen, pieces)
    own, sharp = _matched(predicted, seen, pieces, signals.picture_hz)
    return own - np.average(own, weights=sharp), sharp


def _matched(
    predicted: Rows, seen: Rows, pieces: Sequence[slice], picture_hz: float
) -> tuple[Floats, Floats]:
    """Where predicted and seen motion [T, P] fit best in each piece [m], and how sharply [m].

    The covariance is that of other pieces too: a piece's own would hold its lag for noise.
    """
    rest, width = seen - predicted, seen.shape[1]
    cov = np.zeros((FOLDS, width, width))
    for i, piece in enumerate(pieces):
        cov[i % FOLDS] += rest[piece].T @ rest[piece]
    found = np.zeros((len(pieces), 2))
    for fold in range(FOLDS):
        other = cov.sum(axis=0) - cov[fold]
        other += SHRINK * np.trace(other) / width * np.eye(width)
        aim = np.linalg.inv(other / np.trace(other)).astype(np.float32)
        for i in range(fold, len(pieces), FOLDS):
            piece = pieces[i]
            found[i] = peak(_match(predicted[piece] @ aim, seen[piece], TOP * picture_hz))
    at, sharp = found.T
    return (at - NEAR) / HZ, np.maximum(sharp, 1e-9)


def line(t_s: Floats, lag_s: Floats, weight: Floats) -> tuple[float, float]:
    """Value at 0 and slope of a line through lags [m], whatever a few of them say."""
    weight = np.minimum(weight, 3 * np.median(weight))  # no piece outweighs all others
    w = weight.copy()
    value = slope = 0.0
    for _ in range(5):
        middle = np.average(t_s, weights=w)
        spread = np.sum(w * (t_s - middle) ** 2)
        slope = float(np.sum(w * (t_s - middle) * lag_s) / max(spread, 1e-12))
        value = float(np.average(lag_s, weights=w) - slope * middle)
        off = np.abs(lag_s - value - slope * t_s)
        limit = TOUGH * max(1.4826 * float(np.median(off)), 1e-4)
        w = weight / np.maximum(1.0, off / limit) ** 2
    return value, slope


def resampled(
    fits: NDArray[np.float32], t_s: Floats, lag_s: Floats, weight: Floats, seed: int = 0
) -> Floats:
    """How far offset and drift are off when pieces are drawn with replacement [RESAMPLES, 2]."""
    rng = np.random.default_rng(seed)
    count, flat = len(t_s), fits.reshape(len(fits), -1)
    middle, whole = float(t_s.mean()), centre(fits.sum(axis=0))
    slope = line(t_s, lag_s, weight)[1]
    found = np.zeros((RESAMPLES, 2))
    for row in found:
        drawn = rng.integers(0, count, count)
        if count >= PIECES_MIN:
            row[1] = line(t_s[drawn], lag_s[drawn], weight[drawn])[1] - slope
        times = np.bincount(drawn, minlength=count).astype(np.float32)
        row[0] = centre((times @ flat).reshape(fits.shape[1:])) - whole - row[1] * middle
    return found


def peak(curve: Floats) -> tuple[float, float]:
    """Where a curve is highest, to a fraction of a sample, and how sharply it bends there."""
    k = int(np.argmax(curve))
    if not 0 < k < len(curve) - 1:
        return float(k), 0.0
    bend = float(2 * curve[k] - curve[k - 1] - curve[k + 1])
    return k + 0.5 * float(curve[k + 1] - curve[k - 1]) / max(bend, 1e-12), bend


def _correlate(felt: Rows, seen: Rows) -> NDArray[np.float32]:
    """Sums over time of felt[s, t] seen[t + lag, p] as [S, 2 NEAR + 1, P]."""
    size = 1 << (len(seen) + 2 * NEAR - 1).bit_length()
    felt_f, seen_f = np.fft.rfft(felt, size, axis=1), np.fft.rfft(seen, size, axis=0)
    found = [np.fft.irfft(np.conj(row)[:, None] * seen_f, size, axis=0) for row in felt_f]
    near = [np.concatenate([x[-NEAR:], x[: NEAR + 1]]) for x in found]
    return np.asarray(near, dtype=np.float32)


def _match(aimed: Rows, seen: Rows, top_hz: float) -> Floats:
    """Sum over patches and time of aimed[t] seen[t + lag] at lags near zero [2 NEAR + 1].

    Above ``top_hz`` there is only what drawing lines between pictures has added.
    """
    size = 1 << (len(seen) + 2 * NEAR - 1).bit_length()
    product = np.conj(np.fft.rfft(aimed, size, axis=0)) * np.fft.rfft(seen, size, axis=0)
    keep = np.clip((top_hz - np.fft.rfftfreq(size, 1 / HZ)) / 1.0 + 0.5, 0.0, 1.0)
    found = np.fft.irfft(product.sum(axis=1) * keep, size)
    return np.concatenate([found[-NEAR:], found[: NEAR + 1]])


def _cross_fitted(x: Rows, y: Rows, pieces: Sequence[slice]) -> Rows:
    """What a filter of ``x`` [V, T] says of ``y`` [T, P], learned in other pieces [T, P]."""
    x, width = np.pad(x, ((0, 0), (REACH, REACH))), len(x) * (2 * REACH // STRIDE + 1)
    gram, cross = np.zeros((FOLDS, width, width)), np.zeros((FOLDS, width, y.shape[1]))
    for i, piece in enumerate(pieces):
        delayed = _delayed(x, piece)
        gram[i % FOLDS] += delayed.T @ delayed
        cross[i % FOLDS] += delayed.T @ y[piece]
    ridge = RIDGE * np.trace(gram.sum(axis=0)) / width * np.eye(width)
    predicted = np.zeros_like(y)
    for fold in range(FOLDS):
        g, c = gram.sum(axis=0) - gram[fold], cross.sum(axis=0) - cross[fold]
        weight = np.linalg.solve(g + ridge, c).astype(np.float32)
        for piece in pieces[fold::FOLDS]:
            predicted[piece] = _delayed(x, piece) @ weight
    return predicted


def _delayed(x: Rows, piece: slice) -> Rows:
    """Rows [V, REACH + T + REACH] around each sample of a piece [t, V x delays]."""
    own = x[:, piece.start : piece.stop + 2 * REACH]
    around = np.lib.stride_tricks.sliding_window_view(own, 2 * REACH + 1, axis=1)[..., ::STRIDE]
    return np.ascontiguousarray(around.transpose(1, 0, 2)).reshape(around.shape[1], -1)
