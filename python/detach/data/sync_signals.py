"""What sensors feel and what the camera sees, as signals that can be laid over one another.

S sensors, T samples of the grid, P patches of the picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.config import VideoConfig
from detach.data import quality_camera as camera
from detach.data.quality_numbers import changes_of
from detach.data.recording import Recording, SensorTrack
from detach.errors import DataError

HZ = 20.0
"""Of the grid. Cameras at home give 5 to 30 pictures a second."""
REST_S, SLOW_S = 4.0, 20.0
"""What lasts longer than this is rest: of a sampled sensor, and of light and habits."""
PULSE_S = 0.15
"""Half the width of the bell that stands for a change."""
SHORTEST_S = 60.0
SIZE = VideoConfig(size_px=128)
"""Of the pictures that are compared."""
FEWEST, MOST = 20, 40_000
"""Patches are told apart finely where there are so many samples of each, and no more than these in
all: 33 minutes, of which the coarse ones know enough."""

Floats = NDArray[np.float64]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Signals:
    """One recording; sensors on the grid of their own clock, the camera at its own stamps."""

    names: tuple[str, ...]
    """Of the sensors that changed."""
    grid_s: Floats
    """[T]"""
    activity: Rows
    """How much each sensor is moved, standardised [S, T]."""
    shape: Rows
    """More of how they are moved, several rows a sensor [V, T]: see `_shape`."""
    shape_of: NDArray[np.int64]
    """Whose each of these rows is, as a row of `activity` [V]."""
    picture_s: Floats
    """Middle between each picture and the one before [n], by the camera's clock."""
    motion: Rows
    """Motion in each patch, standardised [n, P]."""
    details: Rows
    """The same in patches half as wide, where there are enough samples to know them [n, D]."""

    @property
    def picture_hz(self) -> float:
        """Pictures a second, by the median step."""
        return float(1 / np.median(np.diff(self.picture_s)))

    def seen(self, offset_s: float, drift: float, *, fine: bool = False) -> Rows:
        """Motion on the grid [T, P or D] when the camera's clock is late by offset + drift t."""
        motion = self.details if fine else self.motion
        t_s = self.grid_s * (1 + drift) + offset_s
        at = np.clip(np.searchsorted(self.picture_s, t_s), 1, len(self.picture_s) - 1)
        left, right = self.picture_s[at - 1], self.picture_s[at]
        share = np.clip((t_s - left) / np.maximum(right - left, 1e-9), 0, 1)[:, None]
        mixed = (1 - share) * motion[at - 1] + share * motion[at]
        outside = (t_s < self.picture_s[0]) | (t_s > self.picture_s[-1])
        mixed[outside] = 0.0
        return np.asarray(mixed, dtype=np.float32)


def read_signals(recording: Recording) -> Signals:
    """The signals of a recording.

    Raises:
        DataError: It has no video, no sensor that changes, or too little of either.
    """
    motion = camera.see_motion(recording, step_s=0.0, size=SIZE)
    if motion is None:
        raise DataError(f"{recording.folder}: has no video, so there is nothing to compare with")
    length_s = min(recording.duration_s, camera.LONGEST_S)
    if min(length_s, len(motion.t_s) and float(np.ptp(motion.t_s))) < SHORTEST_S:
        raise DataError(
            f"{recording.folder}: sensors and film must both last {SHORTEST_S:.0f} s and more to "
            "tell their clocks; use a longer recording"
        )
    grid_s = np.arange(int(length_s * HZ) // 240 * 240) / HZ  # lengths that transform fast
    felt = {track: _shape(recording, track, grid_s) for track in recording.sensors}
    moved = [track for track, own in felt.items() if own]
    # A sensor of motion says since when, most of them late: what says when goes before.
    tracks = [track for track in moved if track.kind != "motion"] or moved
    names, rows = [track.name for track in tracks], [felt[track] for track in tracks]
    if not names:
        raise DataError(f"{recording.folder}: no sensor changes, so there is nothing to compare")
    step_s = np.diff(motion.t_s, prepend=motion.t_s[0] - np.median(np.diff(motion.t_s)))
    width = round(SLOW_S / float(np.median(step_s)))
    wide = _standardised(_halved(motion.cells), width)
    known = len(grid_s) / motion.cells[0].size >= FEWEST and len(grid_s) <= MOST
    return Signals(
        names=tuple(names),
        grid_s=grid_s,
        activity=np.stack([own[0] for own in rows]),
        shape=np.concatenate(rows),
        shape_of=np.repeat(np.arange(len(rows)), [len(own) for own in rows]),
        picture_s=motion.t_s - step_s / 2,
        motion=wide,
        details=_standardised(motion.cells, width) if known else wide,
    )


def _halved(cells: Rows) -> Rows:
    """Means of 2 x 2 cells of [n, rows, columns]."""
    rows, columns = (n // 2 for n in cells.shape[1:])
    cut = cells[:, : 2 * rows, : 2 * columns]
    return np.asarray(cut.reshape(len(cells), rows, 2, columns, 2).mean(axis=(2, 4)))


def _standardised(cells: Rows, width: int) -> Rows:
    """Logarithms less what is slow, each cell over its spread [n, cells]."""
    x = _above(np.log1p(cells.reshape(len(cells), -1)), width)
    return np.asarray(x / np.maximum(x.std(axis=0), 1e-3), dtype=np.float32)


def _shape(recording: Recording, track: SensorTrack, grid_s: Floats) -> list[Rows]:
    """How much a sensor is moved [T], and then more about that; nothing if it never is.

    Of one that reports changes: all of them, those to on, those to off, since a door moves after
    its contact opens and before it closes. Of a sampled one: how far it is from rest, how abruptly
    it goes, and the sum of both, which of an accelerometer is its speed, what a camera sees.
    """
    t_s, values = recording.read_sensor(track)
    if track.binary and track.polarity < 0:
        values = 1 - values
    known = np.isfinite(values).all(axis=1)
    t_s, values = t_s[known], values[known]
    if len(t_s) < 2:
        return []
    found = (_of_changes if track.hz is None else _of_samples)(track, t_s, values, grid_s)
    level = [_above(row[:, None], round(SLOW_S * HZ))[:, 0] for row in found]
    if level[0].std() < 1e-6:
        return []
    return [np.asarray(x / max(float(x.std()), 1e-6), dtype=np.float32) for x in level]


def _of_changes(track: SensorTrack, t_s: Floats, values: Rows, grid_s: Floats) -> list[Floats]:
    times = changes_of(track, t_s, values)
    before, after = (values[np.searchsorted(t_s, times) + k, 0] for k in (-1, 0))
    if track.kind == "motion":  # it stays on for as long as its maker likes
        return [_pulses(times[after > before], grid_s)]
    parts = (times, times[after > before], times[after < before])
    return [_pulses(part, grid_s) for part in parts]


def _pulses(times: Floats, grid_s: Floats) -> Floats:
    """A bell at each time, wherever between two samples of the grid it lies [T]."""
    step_s = 1 / HZ
    at = np.floor(times / step_s).astype(np.int64)[:, None] + np.arange(-3, 5)
    away = np.clip((at * step_s - times[:, None]) / PULSE_S, -1.0, 1.0)
    inside = (at >= 0) & (at < len(grid_s))
    pulse = np.zeros(len(grid_s))
    np.add.at(pulse, at[inside], (0.5 + 0.5 * np.cos(np.pi * away))[inside])
    return pulse


def _of_samples(track: SensorTrack, t_s: Floats, values: Rows, grid_s: Floats) -> list[Floats]:
    del track
    x = np.stack([np.interp(grid_s, t_s, v) for v in values.T.astype(np.float64)], axis=1)
    away = _above(x, round(REST_S * HZ))
    abrupt = np.diff(x, axis=0, prepend=x[:1])
    summed = _above(np.cumsum(away, axis=0), round(REST_S * HZ))
    return [_over_noise(np.linalg.norm(signal, axis=1)) for signal in (away, abrupt, summed)]


def _over_noise(x: Floats) -> Floats:
    """Logarithm of how far a size [T] exceeds twice its median."""
    noise = max(float(np.median(x)), 0.02 * float(x.max()), 1e-9)
    return np.asarray(np.log1p(np.maximum(0.0, x / noise - 2.0)))


def _above(x: NDArray[np.floating], width: int) -> NDArray[np.floating]:
    """``x`` [T, n] less its mean over ``width`` samples around each."""
    width = min(width, len(x) - 1) | 1
    padded = np.pad(x, ((width // 2 + 1, width // 2), (0, 0)), "edge")
    total = np.cumsum(padded, axis=0, dtype=np.float64)
    return np.asarray(x - (total[width:] - total[:-width]) / width)
