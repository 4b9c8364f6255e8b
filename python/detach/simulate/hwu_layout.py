"""Writes simulated recordings in the layout of HWU-USP: one folder a stream, 11 sensors, sequences.

Of a home without cupboards the likest sensors stand in for them; each recording becomes a sequence
of one class. Proves the importer `data.importers.hwu_usp`, and trains nothing worth publishing.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.importers.hwu_usp import CLASSES, HZ, SENSORS
from detach.data.recording import Recording, read_dataset
from detach.data.store import new_folder

STAND_INS = ("drawer1_any", "drawer2_open", "drawer3_open", "fridge_open", "dishwasher_open",
             "drawer2_closed", "drawer3_closed", "fridge_closed", "dishwasher_closed",
             "fridge_half")  # fmt: skip
POWER_W = 60.0


def write_hwu_usp(
    source: Path,
    out: Path,
    *,
    header: bool = True,
    unit_s: float = 1e-3,
    extra_s: Sequence[float] = (0.0,),
) -> dict[str, str]:
    """Writes every recording of a simulated data set as a sequence like tea/tea_s01.

    Args:
        source: Data set of the home ``opportunity``.
        out: Root to make; must not exist or be empty.
        header: Whether CSV files name their columns; otherwise column_names.txt does.
        unit_s: What a time stamp counts.
        extra_s: Seconds by which the sensors go on after the video, one a recording, in turn.

    Returns:
        The recording each sequence is made of.
    """
    made = {}
    with new_folder(out) as part:
        if not header:
            (part / "column_names.txt").write_text("\n".join(("timestamp", *SENSORS)) + "\n")
        for i, recording in enumerate(read_dataset(source).recordings()):
            label = CLASSES[i % len(CLASSES)]
            name = f"{label}_s{1 + i // len(CLASSES):02d}"
            for stream in ("smart_home", "rgb_blurred"):
                (part / stream / label).mkdir(parents=True, exist_ok=True)
            film = recording.folder / recording.video().file
            target = part / "rgb_blurred" / label / f"{name}{film.suffix}"
            shutil.copyfile(film, target)
            lines = _lines(recording, extra_s[i % len(extra_s)], unit_s, header=header)
            (part / "smart_home" / label / f"{name}.csv").write_text("\n".join(lines) + "\n")
            made[name] = recording.name
    return made


def _lines(recording: Recording, extra_s: float, unit_s: float, *, header: bool) -> list[str]:
    at = np.arange(int((recording.duration_s + extra_s) * HZ)) / HZ
    columns = [_held(recording, name, at) for name in STAND_INS]
    power = POWER_W * (columns[0] > 0)
    rows = zip(at / unit_s, *columns, power, strict=True)
    body = [",".join(f"{x:.10g}" for x in row) for row in rows]
    return [",".join(("timestamp", *SENSORS)), *body] if header else body


def _held(recording: Recording, name: str, at: NDArray[np.float64]) -> NDArray[np.float64]:
    track = next((t for t in recording.sensors if t.name == name), None)
    if track is None:
        return np.zeros(len(at))
    t_s, values = recording.read_sensor(track)
    index = np.searchsorted(t_s, at, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0), 0], 0.0)
