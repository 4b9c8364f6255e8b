"""Clocks of many short recordings of one room, from what moves where when a switch turns.

A sequence of 45 s has a dozen switchings, too few to find its lag by itself (`detach sync` wants
minutes). But in all sequences the same cupboard moves in the same patches of the picture, so all
are laid over one another: what the picture does around each switching, averaged over the others, is
a template, and a sequence's lag is where its own switchings fit it best. That leaves one shift
common to all, which opening and closing fix: what follows an opening precedes a closing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.data.quality_camera import Motion

Floats = NDArray[np.float64]

HZ = 20.0
"""Of the grid that motion is brought to."""
WITHIN_S = 4.0
"""Lags up to this are looked for."""
AROUND_S = 2.5
"""Of the template, before and after a switching."""
SLOW_S = 20.0
"""What lasts longer is light, not motion."""
COARSE = 2
"""So many cells a side make a patch."""
ROUNDS = 8
CLEAR = 1.15
"""The best fit must exceed any other by so much, more than `APART_S` away."""
APART_S = 1.0
FEWEST = 2
"""Switchings of a sequence whose lag is looked for."""


@dataclass(frozen=True)
class Switchings:
    """What one sequence offers: film, and when each switch turned on and off."""

    motion: Motion
    turns: dict[tuple[str, bool], Floats]
    """(sensor, on): times in seconds by the sensors' clock."""


@dataclass(frozen=True)
class Fitted:
    """The lag of one sequence: what is at t by the sensors' clock is seen at t + lag."""

    lag_s: float
    clear: float
    """How far the best fit exceeds any other; below `CLEAR` the lag is not to be trusted."""
    turns: int

    @property
    def sure(self) -> bool:
        """Whether the lag is to be trusted."""
        return self.turns >= FEWEST and self.clear >= CLEAR


def fit_lags(sequences: Sequence[Switchings]) -> list[Fitted]:
    """The lag of every sequence, in their order; 0 and not sure where too little happens."""
    names = sorted({turn for s in sequences for turn in s.turns})
    around = [_around(s, names) for s in sequences]
    count = [sum(len(t) for t in s.turns.values()) for s in sequences]
    order = [i for i in np.argsort(count)[::-1].tolist() if count[i] >= FEWEST]
    lag = np.zeros(len(sequences))
    clear = np.zeros(len(sequences))
    placed: list[int] = []
    for i in order:  # one after the other, most switchings first
        if placed:
            lag[i], clear[i] = _best(around[i], _template(around, lag, placed))
        placed.append(i)
    for _ in range(ROUNDS):
        before = lag.copy()
        for i in order:
            others = [j for j in order if j != i]
            lag[i], clear[i] = _best(around[i], _template(around, lag, others))
        if np.abs(lag - before).max(initial=0.0) < 0.5 / HZ:
            break
    common = _common_shift(_template(around, lag, order), names) if order else 0.0
    return [
        Fitted(float(lag[i] + common) if count[i] >= FEWEST else 0.0, float(clear[i]), count[i])
        for i in range(len(sequences))
    ]


def _around(sequence: Switchings, names: Sequence[tuple[str, bool]]) -> NDArray[np.float32]:
    """Motion around every switching, summed [names, samples, patches]."""
    grid_s, seen = _on_grid(sequence.motion)
    reach = round((WITHIN_S + AROUND_S) * HZ)
    padded = np.pad(seen, ((reach, reach), (0, 0)))
    made = np.zeros((len(names), 2 * reach + 1, seen.shape[1]), dtype=np.float32)
    for k, name in enumerate(names):
        for t_s in sequence.turns.get(name, np.zeros(0)):
            middle = round((float(t_s) - grid_s[0]) * HZ)
            if 0 <= middle < len(seen):
                made[k] += padded[middle : middle + 2 * reach + 1]
    return made


def _on_grid(motion: Motion) -> tuple[Floats, NDArray[np.float32]]:
    """Times, and motion in each patch above its slow mean, standardised."""
    rows, columns = (n // COARSE * COARSE for n in motion.cells.shape[1:])
    cells = motion.cells[:, :rows, :columns]
    patches = cells.reshape(len(cells), rows // COARSE, COARSE, columns // COARSE, COARSE)
    x = np.log1p(patches.mean(axis=(2, 4)).reshape(len(cells), -1))
    step_s = float(np.median(np.diff(motion.t_s)))
    grid_s = np.arange(motion.t_s[0], motion.t_s[-1], 1 / HZ)
    # A difference of two pictures stands for the time between them.
    y = np.stack([np.interp(grid_s, motion.t_s - step_s / 2, v) for v in x.T], axis=1)
    width = min(len(y) // 2 * 2 - 1, round(SLOW_S * HZ) | 1)
    kernel = np.ones(width) / width
    slow = np.stack([np.convolve(np.pad(v, width // 2, "edge"), kernel, "valid") for v in y.T], 1)
    y = y - slow
    return grid_s, np.asarray(y / np.maximum(y.std(axis=0), 1e-3), dtype=np.float32)


def _template(
    around: Sequence[NDArray[np.float32]], lag: Floats, among: Sequence[int]
) -> NDArray[np.float32]:
    """Motion around a switching, lags taken out, over ``among`` [names, samples, patches]."""
    half, reach = round(AROUND_S * HZ), round((WITHIN_S + AROUND_S) * HZ)
    total = np.zeros((around[0].shape[0], 2 * half + 1, around[0].shape[2]), dtype=np.float32)
    for i in among:
        first = reach - half + round(float(lag[i]) * HZ)
        total += around[i][:, first : first + 2 * half + 1]
    return np.maximum(total, 0.0)


def _best(mine: NDArray[np.float32], template: NDArray[np.float32]) -> tuple[float, float]:
    """The lag where a sequence fits best, and how far that exceeds any other."""
    width = template.shape[1]
    fits = np.array(
        [
            float(np.vdot(template, mine[:, first : first + width]))
            for first in range(mine.shape[1] - width + 1)
        ]
    )
    best = int(fits.argmax())
    if fits[best] <= 0:
        return 0.0, 0.0
    shift = 0.0
    if 0 < best < len(fits) - 1:  # the top of a parabola
        a, b, c = fits[best - 1 : best + 2]
        shift = 0.5 * (a - c) / min(a - 2 * b + c, -1e-9)
    away = np.abs(np.arange(len(fits)) - best) > APART_S * HZ
    rival = max(float(fits[away].max(initial=0.0)), 1e-9)
    return (best + shift) / HZ - WITHIN_S, float(fits[best] / rival)


def _common_shift(template: NDArray[np.float32], names: Sequence[tuple[str, bool]]) -> float:
    """The middle between when things move after opening and before closing, in seconds."""
    middles, weights = [], []
    for sensor in {name for name, _ in names}:
        pair = [template[k] for k, (name, _) in enumerate(names) if name == sensor]
        if len(pair) == 2 and all(p.any() for p in pair):
            both = [_centre(p) for p in pair]
            middles.append(sum(both) / 2)
            weights.append(min(float(p.sum()) for p in pair))
    return float(np.average(middles, weights=weights)) if middles else 0.0


def _centre(profile: NDArray[np.float32]) -> float:
    """When the patches that move most move, in seconds from the switching."""
    energy = np.square(profile)
    hot = energy.sum(axis=0) >= np.quantile(energy.sum(axis=0), 0.9)
    power = energy[:, hot].sum(axis=1)
    power = np.maximum(power - np.median(power), 0.0)
    t_s = (np.arange(len(power)) - len(power) // 2) / HZ
    return float(np.average(t_s, weights=power)) if power.any() else 0.0
