"""Raw values of sensors onto one grid: held, joined by lines or missing, as `policies` has it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.config import SensorConfig
from detach.data.policies import Policy, policy_of, take_out_steps
from detach.data.recording import Recording, SensorTrack
from detach.errors import DataError

SAME_TIME_S = 1e-6
"""A value so little after a grid point counts as at it."""

Samples = NDArray[np.float32]


def read_grid(
    recording: Recording,
    tracks: Sequence[SensorTrack],
    grid_s: NDArray[Any],
    config: SensorConfig,
    counts: Counter[str] | None = None,
) -> Samples:
    """Raw samples [T, C] of ``tracks`` at the times ``grid_s`` [T]; missing is NaN.

    A sensor that the recording lacks is missing throughout. ``counts`` is told what the policies
    did: samples held and masked, each axis by itself, and clocks that were set.
    """
    own = {track.name: track for track in recording.sensors}
    counts = Counter() if counts is None else counts
    parts = [
        _read_track(recording, own[track.name], grid_s, config, counts)
        if track.name in own
        else np.full((len(grid_s), len(track.axes)), np.nan, dtype=np.float32)
        for track in tracks
    ]
    return np.concatenate(parts, axis=1)


def hold(t_s: NDArray[Any], values: NDArray[Any], grid_s: NDArray[Any]) -> Samples:
    """Event values [n, A] on a grid: each holds until the next; before the first is missing."""
    at = np.searchsorted(t_s, grid_s + SAME_TIME_S, side="right") - 1
    samples = np.full((len(grid_s), values.shape[1]), np.nan, dtype=np.float32)
    samples[at >= 0] = values[at[at >= 0]]
    return samples


def older(t_s: NDArray[Any], grid_s: NDArray[Any], gap_s: float) -> NDArray[np.bool_]:
    """Where on a grid [T] the newest of the times [n] is more than ``gap_s`` ago."""
    at = np.searchsorted(t_s, grid_s + SAME_TIME_S, side="right") - 1
    found = at >= 0
    found[found] = grid_s[found] - t_s[at[found]] > gap_s + SAME_TIME_S
    return np.asarray(found)


def interpolate(
    t_s: NDArray[Any], values: NDArray[Any], grid_s: NDArray[Any], max_gap_s: float, edge_s: float
) -> Samples:
    """Sampled values [n, A] on a grid, linearly; missing where a gap is above ``max_gap_s``.

    Args:
        t_s: Times [n], not falling.
        values: [n, A]; NaN is no sample.
        grid_s: Times [T] wanted.
        max_gap_s: Neighbours further apart are not joined.
        edge_s: How far the first and the last value reach outwards.
    """
    samples = np.full((len(grid_s), values.shape[1]), np.nan, dtype=np.float32)
    for axis in range(values.shape[1]):
        good = np.isfinite(values[:, axis])
        t, x = t_s[good], values[good, axis]
        if not t.size:
            continue
        after = np.searchsorted(t, grid_s, side="left")
        left, right = np.clip(after - 1, 0, t.size - 1), np.clip(after, 0, t.size - 1)
        known = (t[right] - t[left] <= max_gap_s) | (np.abs(t[right] - grid_s) < 1e-6)
        known &= (grid_s >= t[0] - edge_s) & (grid_s <= t[-1] + edge_s)
        samples[known, axis] = np.interp(grid_s[known], t, x)
    return samples


def _read_track(
    recording: Recording,
    track: SensorTrack,
    grid_s: NDArray[Any],
    config: SensorConfig,
    counts: Counter[str],
) -> Samples:
    policy = policy_of(track, config)
    t_s, values = _read_values(recording, track, policy, counts)
    if track.hz is None and policy.silence is None:
        return hold(t_s, values, grid_s)
    gap_s = policy.gap_s(track.hz)
    if policy.silence == "hold" or track.hz is None:
        samples, old = _hold_known(t_s, values, grid_s, gap_s, sampled=track.hz is not None)
        if policy.silence == "hold":
            counts[f"samples held: {track.name}"] += int(old.sum())
            return samples
        samples[old] = np.nan
    else:
        samples = interpolate(t_s, values, grid_s, gap_s, max(1 / track.hz, 1 / config.rate_hz))
        samples = np.round(samples) if track.binary else samples
    if policy.silence is not None:
        counts[f"samples masked: {track.name}"] += int(np.isnan(samples).sum())
    return samples


def _hold_known(
    t_s: NDArray[Any], values: NDArray[Any], grid_s: NDArray[Any], gap_s: float, *, sampled: bool
) -> tuple[Samples, NDArray[np.bool_]]:
    """`hold` axis by axis [T, A], NaN no value where ``sampled``; which are over ``gap_s`` old."""
    columns, old = [], []
    for x in values.T:
        good = np.isfinite(x) if sampled else np.ones(len(x), dtype=bool)
        columns.append(hold(t_s[good], x[good, None], grid_s)[:, 0])
        old.append(older(t_s[good], grid_s, gap_s))
    samples = np.stack(columns, axis=1)
    return samples, np.stack(old, axis=1) & ~np.isnan(samples)


def _read_values(
    recording: Recording, track: SensorTrack, policy: Policy, counts: Counter[str]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Times [n] that do not fall and values [n, A] of one sensor, polarity applied."""
    if policy.resync_s is None or track.hz is None:
        t_s, values = recording.read_sensor(track)
    else:
        t_s, values = recording.read_sensor(track, may_fall=True)
        t_s, often, by_s = take_out_steps(t_s, track.hz, policy.resync_s)
        counts[f"clocks set: {track.name}"] += often
        counts[f"milliseconds of clocks set: {track.name}"] += round(1000 * by_s)
    values = np.where(np.isfinite(values), values, np.float32(np.nan))
    if track.binary:
        wrong = np.flatnonzero(~np.isin(values, (0, 1)).all(axis=1) & ~np.isnan(values).any(axis=1))
        if wrong.size:
            raise DataError.at(
                recording.folder / track.file,
                int(wrong[0]) + 2,
                f"a {track.kind} is 0 or 1, found {values[wrong[0]].tolist()}; "
                "give another kind in recording.json if it is not a switch",
            )
        return t_s, values if track.polarity > 0 else 1 - values
    return t_s, values * np.float32(track.polarity)
