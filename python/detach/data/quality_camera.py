"""What the camera saw: how much of the time, and whether it moves where and when a sensor fires."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data.decoding import decode_apart
from detach.data.recording import PRESENCE_TRACK, Recording

SIZE = VideoConfig(size_px=64)
CELL_PX = 4
STEP_S = 0.2
"""Pictures closer together than this are skipped."""
LONGEST_S = 7200.0
"""Of each film no more is looked at."""
AROUND_S = 0.4
"""Motion within so much of a change of a sensor belongs to it."""
TURNS, NEAREST_S = 200, 6.0
"""How often changes are turned round in time to know chance, and by how much at least."""
FROZEN = 0.02
"""Grey levels by which two pictures of a camera that works differ at least, from noise alone."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Motion that one camera saw: times [n], and change in grey levels [n, rows, columns]."""

    t_s: Floats
    cells: NDArray[np.float32]

    @property
    def energy(self) -> NDArray[np.float32]:
        """Of the whole picture [n]."""
        return np.asarray(self.cells.mean(axis=(1, 2)))

    @functools.cached_property
    def around(self) -> NDArray[np.float32]:
        """Standardised motion of cells, averaged over `AROUND_S` before and after [n, cells]."""
        x = np.log1p(self.cells.reshape(len(self.t_s), -1))
        x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-3)
        total = np.cumsum(np.pad(x, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
        low = np.searchsorted(self.t_s, self.t_s - AROUND_S)
        high = np.searchsorted(self.t_s, self.t_s + AROUND_S, side="right")
        return np.asarray((total[high] - total[low]) / (high - low)[:, None], dtype=np.float32)

    @property
    def frozen(self) -> float:
        """Share of pictures that are the same as the one before."""
        return float((self.energy < FROZEN).mean()) if len(self.t_s) else 0.0


@dataclass(frozen=True)
class Agreement:
    """Whether the camera sees motion when a sensor changes."""

    changes: int
    excess: float
    """How far the motion in the cell that fits best exceeds chance, in standard deviations."""
    p: float
    """Chance of as much when the sensor's clock is turned round by any amount."""


def see_motion(
    recording: Recording, step_s: float = STEP_S, size: VideoConfig = SIZE
) -> Motion | None:
    """Motion in the first video of a recording; None without one.

    Args:
        recording: Whose.
        step_s: Pictures closer together than this are skipped; 0 takes all.
        size: Of the pictures compared, of which a cell is `CELL_PX` wide.

    Raises:
        DataError: The video is damaged.
    """
    if not recording.videos:
        return None
    track = recording.videos[0]
    times: list[float] = []
    cells: list[NDArray[np.float32]] = []
    before: NDArray[np.float32] | None = None
    for t_s, picture in decode_apart(recording.folder / track.file, track, size):
        if times and track.at(t_s) - times[-1] < step_s - 1e-3:
            continue
        if t_s > LONGEST_S:
            break
        grey = picture.mean(axis=2, dtype=np.float32)
        change = np.zeros_like(grey) if before is None else np.abs(grey - before)
        rows, columns = (n // CELL_PX for n in grey.shape)
        block = change[: rows * CELL_PX, : columns * CELL_PX]
        cells.append(block.reshape(rows, CELL_PX, columns, CELL_PX).mean(axis=(1, 3)))
        times.append(track.at(t_s))
        before = grey
    return Motion(np.asarray(times[1:]), np.asarray(cells[1:], dtype=np.float32))


def agreement(
    motions: Sequence[Motion | None], changes: Sequence[Floats], seed: int = 0
) -> Agreement | None:
    """How well changes of one sensor fit the motion seen, over recordings with a video.

    The mean motion of each cell around the changes is compared with what it is after they were
    turned round by a random time within each recording, which keeps their rhythm. Pictures of
    another shape have cells of their own, and the best of each shape count together.

    Args:
        motions: Of each recording.
        changes: Times of each recording's changes.
        seed: Of the turns.
    """
    rng = np.random.default_rng(seed)
    sums: dict[tuple[int, ...], Floats] = {}
    count = 0
    for motion, t_s in zip(motions, changes, strict=True):
        if motion is None or len(motion.t_s) < 3 * NEAREST_S / STEP_S:
            continue
        smooth, nearest = motion.around, int(NEAREST_S / STEP_S)
        at = np.searchsorted(motion.t_s, t_s)
        at = at[at < len(motion.t_s)]
        count += len(at)
        turns = np.concatenate([[0], rng.integers(nearest, len(smooth) - nearest, TURNS)])
        own = np.stack([smooth[(at + k) % len(smooth)].sum(axis=0) for k in turns])
        shape = motion.cells.shape[1:]
        sums[shape] = sums[shape] + own if shape in sums else own
    if not count:
        return None
    best = np.sum([total.max(axis=1) for total in sums.values()], axis=0) / count
    chance = best[1:]
    spread = max(float(chance.std()), 1e-9)
    p = float((1 + (chance >= best[0]).sum()) / (1 + len(chance)))
    return Agreement(count, float((best[0] - chance.mean()) / spread), p)


def seen_stretches(recording: Recording) -> Floats | None:
    """When somebody is in view [n, 2], merged, from the track of that name; None without it."""
    if PRESENCE_TRACK not in {track.name for track in recording.labels}:
        return None
    found = recording.read_labels(PRESENCE_TRACK)
    merged: list[list[float]] = []
    for start, end in zip(found.start_s.tolist(), found.end_s.tolist(), strict=True):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.asarray(merged).reshape(-1, 2)


def inside(t_s: Floats, stretches: Floats, slack_s: float = 1.0) -> NDArray[np.bool_]:
    """Whether each time [n] lies in a stretch [m, 2], or at most ``slack_s`` beside it."""
    if not len(stretches):
        return np.zeros(len(t_s), dtype=bool)
    at = np.searchsorted(stretches[:, 0] - slack_s, t_s, side="right") - 1
    return np.asarray((at >= 0) & (t_s <= stretches[np.maximum(at, 0), 1] + slack_s))
