"""Sensors that err, made on purpose: false activations, noise, silence. For tests of robustness.

Works on normalised windows, so it suits every kind of sensor: a switch is 0 or 1 in it, or what its
normalisation makes of that, everything else about 0 with a spread of 1. N windows, T samples, C
channels.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from detach.data.windows import Windows

PULSE_S = (0.2, 1.0)
"""How long a false activation lasts."""
BURST = 3.0
"""Standard deviation of a false activation of a sensor that is no switch."""

Index = NDArray[np.int64]


def with_false_activations(windows: Windows, index: Index, per_min: float, seed: int) -> Windows:
    """Each sensor is active ``per_min`` times a minute though nothing happens, for 0.2 to 1 s.

    A switch is active where it is not as usual: one that says "closed" mostly stands at 1.

    Drawn along each recording, so that windows that share time share what is false in it. Only the
    windows ``index`` [n] are changed; the axes of a sensor are false together.
    """
    samples = windows.samples.copy()
    for number in np.unique(windows.recording[index]).tolist():
        mine = index[windows.recording[index] == number]
        t_s = _times(windows, mine)
        for s, channels in enumerate(_sensors(windows)):
            rng = np.random.default_rng([seed, number, s])
            false = _pulses(t_s, per_min, rng)
            for c in channels:
                value = _active(windows, c, rng, int(false.sum()))
                column = samples[mine, :, c]
                column[false] = value
                samples[mine, :, c] = column
    return dataclasses.replace(windows, samples=samples)


def with_noise(windows: Windows, index: Index, noise: float, dropout: float, seed: int) -> Windows:
    """The windows ``index`` [n] with noise on all that is no switch, and with silent sensors.

    Args:
        windows: All windows.
        index: Those that are changed.
        noise: Standard deviation, in those of each channel.
        dropout: Chance of each sensor to be silent, at its usual value, for a whole window.
        seed: Of the random numbers.
    """
    rng = np.random.default_rng([seed, 2])
    samples, shape = windows.samples.copy(), windows.samples[index].shape
    loud = np.array([not channel.binary for channel in windows.channels])
    changed = windows.samples[index] + noise * loud * rng.normal(size=shape)
    for channels in _sensors(windows):
        silent = rng.random(len(index)) < dropout
        for c in channels:
            changed[silent, :, c] = 0.0 if loud[c] else _positions(windows, c)[0]
    samples[index] = changed.astype(np.float32)
    return dataclasses.replace(windows, samples=samples)


def _times(windows: Windows, index: Index) -> NDArray[np.float64]:
    """When each sample is, [n, T]."""
    length = windows.samples.shape[1]
    within = (np.arange(length) + 0.5) / length * windows.seconds
    return np.asarray(windows.start_s[index][:, None] + within)


def _pulses(
    t_s: NDArray[np.float64], per_min: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which samples [n, T] of a recording lie in a false activation."""
    end_s = float(t_s.max()) + 1.0
    count = int(rng.poisson(per_min * end_s / 60))
    start = np.sort(rng.uniform(0.0, end_s, count))
    if not count:
        return np.zeros(t_s.shape, dtype=bool)
    end = np.maximum.accumulate(start + rng.uniform(*PULSE_S, count))
    last = np.searchsorted(start, t_s, side="right") - 1
    return np.asarray((last >= 0) & (t_s < end[np.maximum(last, 0)]))


def _active(
    windows: Windows, channel: int, rng: np.random.Generator, count: int
) -> NDArray[np.float64] | float:
    """What a channel shows in ``count`` samples while its sensor is active."""
    if windows.channels[channel].binary:
        return _positions(windows, channel)[1]
    return np.asarray(BURST * rng.normal(size=count))


def _positions(windows: Windows, channel: int) -> tuple[float, float]:
    """How a switch usually stands, and the other way."""
    values = windows.samples[:, :, channel]
    low, high = float(values.min()), float(values.max())
    return (high, low) if values.mean() > (low + high) / 2 else (low, high)


def _sensors(windows: Windows) -> list[list[int]]:
    """The channels of each sensor: its axes."""
    found: dict[str, list[int]] = {}
    for i, channel in enumerate(windows.channels):
        found.setdefault(channel.sensor or channel.name, []).append(i)
    return list(found.values())
