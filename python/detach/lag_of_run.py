"""The lag between camera and sensors from a trained run: which shift makes its embeddings agree.

T sensor windows, one every `STEP_S`; n video windows, one every `HOP_S`; d feature width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detach import equations
from detach.data import sensors
from detach.data.frames import open_frames
from detach.data.recording import Recording
from detach.data.sync import Lag, judge, range_of
from detach.data.sync_fit import PIECES_MIN, RESAMPLES, Floats, Line, line, peak
from detach.errors import DataError
from detach.model import Detach, Global, Run, batches, load_run

STEP_S, HOP_S = 0.125, 0.5
PIECE_S, NEAR_S = 60.0, 1.5

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class _Views:
    """Embeddings of one recording, less their mean and of length 1."""

    felt: Rows
    """Of sensor windows [T, d]; window i begins at i steps."""
    step_s: float
    seen: Rows
    """Of video windows [n, d]."""
    start_s: Floats
    """When each video window begins, by the camera's clock [n]."""


def lag_of_run(
    folder: Path,
    recording: Recording,
    within_s: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Lag:
    """The lag at which sensor windows agree best with video windows, by a trained run.

    Encoders that were trained on films with a lag expect that lag: trust them where they were
    trained on others, or where motion says nothing.

    Args:
        folder: A finished run of a method with both encoders.
        recording: With the sensors and a camera like those that the run knows.
        within_s: Lags up to this are looked for; None is what `range_of` gives.
        progress: Told in words what is being done.

    Raises:
        DataError: The run is not finished or does not fit the recording; it is too short.
    """
    run = load_run(folder)
    if not isinstance(run.model, Detach | Global) or run.config.encoders.flow:
        raise DataError(f"{folder}: a run with video encoders and without optical flow is needed")
    within_s = range_of(recording, within_s)
    (progress or (lambda _: None))(f"embedding {recording.name}")
    with torch.no_grad():
        views = _embed(run, run.model, recording, progress)
    likeness = views.seen @ views.felt.T
    return judge(
        "trained encoders",
        _shifted(likeness, views).mean(axis=0, dtype=np.float64),
        views.step_s,
        within_s=within_s,
        duration_s=recording.duration_s,
        refine=lambda coarse_s: _line(likeness, views, coarse_s),
    )


def _shifted(likeness: Rows, views: _Views) -> Rows:
    """Likeness of each video window to the sensors at every circular lag [n, T]."""
    at = np.round(views.start_s / views.step_s).astype(np.int64)[:, None]
    length = likeness.shape[1]
    return np.take_along_axis(likeness, (at - np.arange(length)) % length, axis=1)


def _line(likeness: Rows, views: _Views, coarse_s: float) -> Line:
    near, middle = round(NEAR_S / views.step_s), round(coarse_s / views.step_s)
    around = np.arange(middle - near, middle + near + 1) % likeness.shape[1]
    curves = _shifted(likeness, views)[:, around].astype(np.float64)
    count = max(1, int(np.ptp(views.start_s) // PIECE_S))
    pieces = np.array_split(np.arange(len(curves)), count)
    sums = np.stack([curves[piece].sum(axis=0) for piece in pieces])
    found = [peak(row) for row in sums]
    lags = (np.array([at for at, _ in found]) - near + middle) * views.step_s
    weight = np.maximum([bend for _, bend in found], 1e-9)
    centres = np.array([views.start_s[piece].mean() for piece in pieces])

    def fit(index: NDArray[np.int64]) -> tuple[float, float]:
        centre_s = (peak(sums[index].sum(axis=0))[0] - near + middle) * views.step_s
        if count < PIECES_MIN:
            return centre_s, 0.0
        slope = line(centres[index], lags[index], weight[index])[1]
        return centre_s - slope * float(centres.mean()), slope

    offset_s, drift = fit(np.arange(count))
    rng = np.random.default_rng(0)
    drawn = [fit(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    return Line(offset_s, drift, centres, lags, np.array(drawn) - (offset_s, drift))


def _embed(
    run: Run,
    model: Detach | Global,
    recording: Recording,
    progress: Callable[[str], None] | None,
) -> _Views:
    felt, step_s = _embed_sensors(run, model, recording)
    config, seconds = run.config.video, run.config.windows.seconds
    (film,) = open_frames([recording], config, dataset=recording.folder.parent, progress=progress)
    first_s, last_s = float(film.t_s[0]), min(float(film.t_s[-1]), recording.duration_s)
    start_s = np.arange(max(0.0, first_s), last_s - seconds, HOP_S)
    moments = (np.arange(config.frames) + 0.5) * seconds / config.frames
    shown, _ = film.on_screen(start_s[:, None] + moments, 1 / recording.video(config.camera).fps)
    parts = []
    for piece in batches(np.arange(len(start_s)), 64):
        frames = torch.from_numpy(np.asarray(film.pictures[shown[piece]]))
        parts.append(equations.video_embedding(*model.encode_video(frames, None)))
    return _Views(felt, step_s, _centred(torch.cat(parts)), start_s)


def _embed_sensors(run: Run, model: Detach | Global, recording: Recording) -> tuple[Rows, float]:
    """Embeddings of sensor windows [T, d], and the step between them in seconds."""
    config, rate_hz = run.config.sensors, run.config.sensors.rate_hz
    tracks = sensors.common_sensors([recording], config.include)
    channels = {channel.name: channel for channel in sensors.channels_of(tracks)}
    if missing := [name for name in run.stats.names if name not in channels]:
        raise DataError(
            f"{recording.folder}: the run knows a channel {missing[0]!r} that is not there"
        )
    order = [list(channels).index(name) for name in run.stats.names]
    grid_s = np.arange(int(recording.duration_s * rate_hz)) / rate_hz
    grid = sensors.read_grid(recording, tracks, grid_s, config)[:, order]
    length, step = round(run.config.windows.seconds * rate_hz), max(1, round(STEP_S * rate_hz))
    starts = np.arange(0, len(grid) - length + 1, step)
    parts = []
    for piece in batches(starts, 512):
        raw = grid[piece[:, None] + np.arange(length)]
        known = [channels[name] for name in run.stats.names]
        samples, _ = sensors.prepare(raw, known, run.stats, config)
        parts.append(equations.sensor_embedding(*model.encode_sensors(torch.from_numpy(samples))))
    return _centred(torch.cat(parts)), step / rate_hz


def _centred(rows: torch.Tensor) -> Rows:
    rows = rows.float() - rows.float().mean(dim=0)
    return torch.nn.functional.normalize(rows, dim=1).numpy()
