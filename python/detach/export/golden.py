"""Inputs that resemble what graphs see and come from nobody's home."""

import numpy as np
from numpy.typing import NDArray

SEED = 20512
BLOCKS = 6
"""Patches along a side of a drawn picture."""


def draw(name: str, shape: tuple[int, ...], binary: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The input ``name`` of a graph, always the same for one shape.

    Args:
        name: ``samples`` [N, T, C], ``pictures`` [N, H, W, 3], ``frames`` [N, F, H, W, 3] or
            ``flow`` [N, F-1, H, W, 2].
        shape: Its shape.
        binary: Which of the C channels are 0 or 1.
    """
    rng = np.random.default_rng(SEED)
    if name == "samples":
        return _samples(rng, shape, binary)
    if name == "pictures":
        return _pictures(rng, shape)
    if name == "frames":
        first = _pictures(rng, (shape[0], *shape[2:]))
        moved = [np.roll(first, step, axis=2) for step in range(shape[1])]
        return np.stack(moved, axis=1)
    return (0.01 * rng.standard_normal(shape)).astype(np.float32)


def _samples(
    rng: np.random.Generator, shape: tuple[int, ...], binary: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Slow waves with noise, and switches that turn once."""
    windows, length, width = shape
    t = np.arange(length)[None, :, None] / length
    speed, phase = rng.uniform(1, 8, (windows, 1, width)), rng.uniform(0, 6.3, (windows, 1, width))
    waves = np.sin(speed * 2 * np.pi * t + phase) + 0.1 * rng.standard_normal(shape)
    switches = t > rng.uniform(-0.5, 1.5, (windows, 1, width))
    return np.where(binary, switches, waves).astype(np.float32)


def _pictures(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Coloured patches in [0, 1]."""
    windows, height, width, colours = shape
    patches = rng.uniform(0.1, 0.9, (windows, BLOCKS, BLOCKS, colours))
    rows = np.arange(height) * BLOCKS // height
    columns = np.arange(width) * BLOCKS // width
    return patches[:, rows][:, :, columns].astype(np.float32)
