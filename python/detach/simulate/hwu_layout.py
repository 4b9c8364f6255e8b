"""Writes simulated recordings in the layout of HWU-USP: one folder a stream, 11 sensors, sequences.

Sensors run on a clock of their own, by an offset and a drift that are planted. Of a home without
cupboards the likest sensors stand in; that proves the importer and trains nothing.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.importers.hwu_usp import CLASSES
from detach.data.importers.hwu_usp_ambient import HZ, SENSORS, SEQUENCE
from detach.data.recording import Recording, read_dataset
from detach.data.store import new_folder

STAND_INS = ("drawer1_any", "drawer2_open", "drawer3_open", "fridge_open", "dishwasher_open",
             "drawer2_closed", "drawer3_closed", "fridge_closed", "dishwasher_closed",
             "fridge_half")  # fmt: skip
POWER_W = 60.0
Clock = tuple[float, float]
"""Offset in s and drift in ppm: video = sensors (1 + drift) + offset."""


def write_hwu_usp(
    source: Path,
    out: Path,
    *,
    header: bool = True,
    unit_s: float = 1e-3,
    extra_s: Sequence[float] = (0.0,),
    offset_s: Sequence[float] = (0.0,),
    drift_ppm: Sequence[float] = (0.0,),
) -> dict[str, Clock]:
    """Writes every recording of a simulated data set as a sequence like tea/tea_s01.

    Args:
        source: Data set of the home ``hwu``, whose sequences keep their names, or of another.
        out: Root to make; must not exist or be empty.
        header: Whether CSV files name their columns; otherwise column_names.txt does.
        unit_s: What a time stamp counts.
        extra_s: Seconds by which the sensors go on after the video, one a recording, in turn.
        offset_s: video = sensors (1 + drift) + offset, one a subject, in turn.
        drift_ppm: The same for the drift.

    Returns:
        Offset and drift planted in every sequence.
    """
    made = {}
    with new_folder(out) as part:
        if not header:
            (part / "column_names.txt").write_text("\n".join(("timestamp", *SENSORS)) + "\n")
        for i, recording in enumerate(read_dataset(source).recordings()):
            name = recording.name
            if not SEQUENCE.fullmatch(name):
                name = f"{CLASSES[i % len(CLASSES)]}_s{1 + i // len(CLASSES):02d}"
            label = name.partition("_")[0]
            for stream in ("smart_home", "rgb_blurred"):
                (part / stream / label).mkdir(parents=True, exist_ok=True)
            film = recording.folder / recording.video().file
            shutil.copyfile(film, part / "rgb_blurred" / label / f"{name}{film.suffix}")
            who = int(name.rpartition("_s")[2]) - 1  # whose sequences are of one session
            clock = offset_s[who % len(offset_s)], drift_ppm[who % len(drift_ppm)]
            lines = _lines(recording, clock, extra_s[i % len(extra_s)], unit_s, header=header)
            (part / "smart_home" / label / f"{name}.csv").write_text("\n".join(lines) + "\n")
            made[name] = clock
    return made


def _lines(
    recording: Recording, clock: Clock, extra_s: float, unit_s: float, *, header: bool
) -> list[str]:
    offset_s, drift = clock[0], 1.0 + 1e-6 * clock[1]
    count = int(((recording.duration_s - offset_s) / drift + extra_s) * HZ)
    stamp_s = np.arange(count) / HZ
    # On the video's clock, whose first picture is at 0 as published.
    at = stamp_s * drift + offset_s + recording.video().start_s
    columns = [_held(recording, name, at) for name in _names(recording)]
    if len(columns) < len(SENSORS):
        columns.append(np.where(columns[0] > 0, POWER_W, 0.0))
    body = [",".join(f"{x:.10g}" for x in row) for row in zip(stamp_s / unit_s, *columns,
            strict=True)]  # fmt: skip
    return [",".join(("timestamp", *SENSORS)), *body] if header else body


def _names(recording: Recording) -> Sequence[str]:
    known = {track.name for track in recording.sensors}
    return SENSORS if known >= set(SENSORS) else STAND_INS


def _held(recording: Recording, name: str, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a sensor shows at each moment, 0 before it first spoke."""
    track = next((t for t in recording.sensors if t.name == name), None)
    if track is None:
        return np.zeros(len(at))
    t_s, values = recording.read_sensor(track)
    index = np.searchsorted(t_s, at + 1e-6, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0), 0], 0.0)
