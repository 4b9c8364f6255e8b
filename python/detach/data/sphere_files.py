"""The SPHERE Challenge as published: where its files are and what stands in them.

Nothing is decided here. Rows come out in order of time, in the units of the files, with a count of
everything that was left out; what cannot be read is named by file and line.
"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.tables import read_numbers
from detach.errors import DataError

CAMERAS = ("hallway", "kitchen", "living_room")
"""In the order of the data set's own list."""
ROOMS = ("bath", "bed1", "bed2", "hall", "kitchen", "living", "stairs", "study", "toilet")
ACTIVITIES = (
    *("a_ascend", "a_descend", "a_jump", "a_loadwalk", "a_walk"),
    *("p_bent", "p_kneel", "p_lie", "p_sit", "p_squat", "p_stand"),
    *("t_bend", "t_kneel_stand", "t_lie_sit", "t_sit_lie", "t_sit_stand"),
    *("t_stand_kneel", "t_stand_sit", "t_straighten", "t_turn"),
)

BOX_HEADER = (
    *("t", "centre_2d_x", "centre_2d_y", "bb_2d_br_x", "bb_2d_br_y", "bb_2d_tl_x", "bb_2d_tl_y"),
    *("centre_3d_x", "centre_3d_y", "centre_3d_z", "bb_3d_brb_x", "bb_3d_brb_y", "bb_3d_brb_z"),
    *("bb_3d_flt_x", "bb_3d_flt_y", "bb_3d_flt_z"),
)
BOX = ("t", "bb_2d_tl_x", "bb_2d_tl_y", "bb_2d_br_x", "bb_2d_br_y", "centre_2d_x", "centre_3d_z")
"""What is kept of a box: time, left, top, right, bottom, centre of mass (all on a 320 x 240 grid,
although the text of the data set says 640 x 480) and distance in mm."""
WRIST_HEADER = ("t", "x", "y", "z", "Kitchen_AP", "Lounge_AP", "Upstairs_AP", "Study_AP")
STRETCH_HEADER = ["start", "end", "name", "index"]
EARLY_S = 1.0
"""Rows this much out of order are put in order; more means that the clock was set."""


@dataclass(frozen=True)
class Entry:
    """One sequence and the name its recording will have."""

    name: str
    folder: Path
    labelled: bool


@dataclass(frozen=True)
class Sequences:
    """What a SPHERE folder holds: labelled runs first, and one photograph a camera."""

    entries: tuple[Entry, ...]
    photographs: dict[str, Path]


@dataclass(frozen=True)
class Measured:
    """What the sensors of one sequence saw; times in seconds from its start."""

    duration_s: float
    boxes: dict[str, NDArray[np.float64]]
    """Per camera [n, 7], columns as in `BOX`; several rows of one time are several people."""
    motion: dict[str, NDArray[np.float64]]
    """Per room [n, 2], start and end of motion, merged and in order."""
    wrist: NDArray[np.float64]
    """[n, 4]: time, x, y, z in g; NaN where the file has no number."""
    counts: Counter[str] = field(default_factory=Counter)


def find_sequences(source: Path) -> Sequences:
    """Finds public_data in, above or at ``source`` and lists its sequences.

    Raises:
        DataError: Not a SPHERE folder, or a file of a sequence or a photograph is missing.
    """
    data = next((p for p in _candidates(source) if (p / "train").is_dir()), None) or next(
        (p for p in _candidates(source) if (p / "test").is_dir()), None
    )
    if data is None:
        raise DataError(
            f"{source}: no SPHERE data here: expected a folder public_data with train/00001 and "
            "test/00011 in it. Give the folder that holds public_data, or the archive"
        )
    runs = [Entry(f"run{p.name}", p, True) for p in _numbered(data / "train")]
    others = [Entry(f"seq{p.name}", p, False) for p in _numbered(data / "test")]
    if not runs + others:
        raise DataError(f"{data}: train and test hold no numbered folders; is the copy whole?")
    photographs = {c: _photograph(data, c) for c in CAMERAS}
    for entry in runs + others:
        _check_whole(entry)
    return Sequences(tuple(runs + others), photographs)


def read_measured(entry: Entry) -> Measured:
    """Reads boxes, motion and wrist acceleration of one sequence.

    Raises:
        DataError: Text among the numbers, a clock that was set back, no usable duration.
    """
    counts: Counter[str] = Counter()
    duration_s = read_duration(entry)
    boxes = {c: _read_boxes(entry.folder / f"video_{c}.csv", duration_s, counts) for c in CAMERAS}
    motion = _read_motion(entry.folder / "pir.csv", duration_s, counts)
    wrist = _read_wrist(entry.folder / "acceleration.csv", duration_s, counts)
    return Measured(duration_s, boxes, motion, wrist, counts)


def read_duration(entry: Entry) -> float:
    """Length of a sequence in seconds, from its meta.json.

    Raises:
        DataError: The file gives no positive length.
    """
    path = entry.folder / "meta.json"
    try:
        end = float(json.loads(path.read_text(encoding="utf-8"))["end"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: an entry 'end' in seconds expected: {error}") from error
    if not 0 < end < 24 * 3600:
        raise DataError(f"{path}: 'end' must be between 0 s and one day, found {end!r}")
    return end


def read_targets(entry: Entry) -> NDArray[np.float64]:
    """Activity probabilities [n, 2 + 20]: start, end and one column for each of `ACTIVITIES`.

    Raises:
        DataError: Another header, text, or a row that ends before it starts.
    """
    path = entry.folder / "targets.csv"
    rows = read_numbers(path, ("start", "end", *ACTIVITIES))
    bad = ~(rows[:, 0] < rows[:, 1])
    if bad.any():
        raise DataError.at(path, int(np.argmax(bad)) + 2, "a row must start before it ends")
    return rows


def read_stretches(path: Path, names: Sequence[str]) -> list[tuple[float, float, str]]:
    """Rows start, end, name of a pir, location or annotations file, with only known ``names``.

    Raises:
        DataError: Another header, text instead of times, an unknown name.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    if not rows or rows[0] != STRETCH_HEADER:
        raise DataError.at(path, 1, f"header must be {','.join(STRETCH_HEADER)!r}")
    listed = []
    for line, row in enumerate(rows[1:], start=2):
        try:
            start, end, name = float(row[0]), float(row[1]), row[2]
        except (ValueError, IndexError) as error:
            raise DataError.at(path, line, f"start,end,name,index expected: {error}") from error
        if name not in names:
            raise DataError.at(path, line, f"{name!r} is not one of {', '.join(names)}")
        if not start <= end:
            raise DataError.at(path, line, f"ends at {end} s, before its start at {start} s")
        listed.append((start, end, name))
    return sorted(listed)


def merged(stretches: NDArray[np.float64], gap_s: float = 0.0) -> NDArray[np.float64]:
    """Joins stretches [n, 2] that overlap, nest, touch or are ``gap_s`` apart or less."""
    joined: list[list[float]] = []
    for start, end in stretches[np.argsort(stretches[:, 0], kind="stable")].tolist():
        if joined and start <= joined[-1][1] + gap_s:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return np.asarray(joined, dtype=np.float64).reshape(-1, 2)


def _candidates(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    below = sorted(p for p in source.iterdir() if p.is_dir() and not p.is_symlink())
    return [source, source / "public_data", *(p / "public_data" for p in below), *below]


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit())


def _photograph(data: Path, camera: str) -> Path:
    places = [p / "supplementary" / f"{camera}.png" for p in (data.parent, data)]
    for path in places:
        if path.is_file():
            return path
    raise DataError(
        f"{places[0]} is not there: the pictures are drawn on the photographs of the empty rooms "
        "in the folder 'supplementary' of the data set; unpack that part too"
    )


def _check_whole(entry: Entry) -> None:
    names = ["meta.json", "pir.csv", "acceleration.csv", *(f"video_{c}.csv" for c in CAMERAS)]
    for name in names + ["targets.csv"] * entry.labelled:
        if not (entry.folder / name).is_file():
            raise DataError(f"{entry.folder / name} is not there; is the copy whole?")


def _read_boxes(path: Path, duration_s: float, counts: Counter[str]) -> NDArray[np.float64]:
    rows = read_numbers(path, BOX_HEADER)[:, [BOX_HEADER.index(name) for name in BOX]]
    rows = _in_order(path, rows, duration_s, "boxes", counts)
    usable = np.isfinite(rows).all(axis=1)
    usable &= (rows[:, 3] > rows[:, 1]) & (rows[:, 4] > rows[:, 2])
    counts["boxes"] += int(usable.sum())
    counts["boxes_unusable"] += int((~usable).sum())
    return rows[usable]


def _read_wrist(path: Path, duration_s: float, counts: Counter[str]) -> NDArray[np.float64]:
    rows = read_numbers(path, WRIST_HEADER)[:, :4]
    rows = _in_order(path, rows, duration_s, "wrist", counts)
    again = np.diff(rows[:, 0], prepend=-np.inf) == 0
    counts["wrist_repeated"] += int(again.sum())
    rows = np.asarray(rows[~again], dtype=np.float64)
    counts["wrist_not_a_number"] += int((~np.isfinite(rows)).any(axis=1).sum())
    counts["wrist_samples"] += len(rows)
    return rows


def _read_motion(
    path: Path, duration_s: float, counts: Counter[str]
) -> dict[str, NDArray[np.float64]]:
    listed = read_stretches(path, ROOMS)
    inside = [
        (max(s, 0.0), min(e, duration_s), n) for s, e, n in listed if s < duration_s and e > 0
    ]
    counts["motion_outside"] += len(listed) - len(inside)
    motion = {}
    for room in ROOMS:
        own = [(start, end) for start, end, name in inside if name == room]
        motion[room] = merged(np.asarray(own, dtype=np.float64).reshape(-1, 2))
        counts["motion_overlapping"] += len(own) - len(motion[room])
    return motion


def _in_order(
    path: Path, rows: NDArray[np.float64], duration_s: float, what: str, counts: Counter[str]
) -> NDArray[np.float64]:
    """Rows by time, those outside the sequence left out; a clock that was set is refused."""
    t_s = rows[:, 0]
    if not np.isfinite(t_s).all():
        line = int(np.flatnonzero(~np.isfinite(t_s))[0]) + 2
        raise DataError.at(path, line, "the time is missing; every row needs a time in seconds")
    fall_s = np.maximum.accumulate(t_s) - t_s if len(t_s) else t_s
    if (fall_s > EARLY_S).any():
        i = int(np.argmax(fall_s > EARLY_S))
        raise DataError.at(
            path,
            i + 2,
            f"the clock runs backwards, by {fall_s[i]:.1f} s to {t_s[i]:.3f} s; up to {EARLY_S} s "
            "is put in order. Cut the sequence where the clock was set, or sort the file",
        )
    counts[f"{what}_out_of_order"] += int((fall_s > 0).sum())
    inside = (t_s >= 0) & (t_s <= duration_s)
    counts[f"{what}_outside"] += int((~inside).sum())
    rows = rows[inside]
    return rows[np.argsort(rows[:, 0], kind="stable")]
