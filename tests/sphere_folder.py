"""A small folder in the layout of the SPHERE Challenge, with its traps planted.

One person walks between a kitchen and a living room whose cameras see the floor under different
angles. Everything is made up; nothing of the data set is in it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detach.data import sphere_files as files
from detach.data.sphere import import_sphere
from detach.errors import DetachError

CLOCK_TEXT = "2015-11-03T10:00:00Z"
"""Stands in one meta.json: an absolute time that must not reach a recording."""
TURN_S, ANNOTATED_FROM_S, DISAGREE_S = 12.0, 5, 1.0


@dataclass(frozen=True)
class Plot:
    """What happens in one sequence and how its files were mixed up."""

    seed: int
    duration_s: float
    exchanged: bool = False
    turned: bool = False
    boxes: bool = True
    motion: bool = True


RUNS = {
    "00001": Plot(1, 60.4),
    "00007": Plot(2, 60.0, exchanged=True, turned=True),
}
SEQUENCES = {
    "00011": Plot(11, 14.0),
    "00012": Plot(11, 14.0, exchanged=True),
    "00013": Plot(13, 10.0, boxes=False),
    "00014": Plot(11, 14.0, turned=True),
    "00015": Plot(15, 12.0, exchanged=True, motion=False),
    "00016": Plot(16, 12.0),
}
"""12 and 14 are twins of 11 with one trap each; 15 is betrayed by its boxes alone."""


def write_sphere_folder(root: Path) -> Path:
    """Writes public_data and supplementary below ``root``; returns ``root``."""
    for name, plot in RUNS.items():
        folder = root / "public_data" / "train" / name
        write_sequence(folder, plot)
        write_annotations(folder, plot)
    for name, plot in SEQUENCES.items():
        write_sequence(root / "public_data" / "test" / name, plot)
    (root / "supplementary").mkdir(parents=True, exist_ok=True)
    for place, camera in enumerate(files.CAMERAS):
        picture = np.full((480, 640, 3), 200 - 30 * place, dtype=np.uint8)
        cv2.imwrite(str(root / "supplementary" / f"{camera}.png"), picture)
    return root


def write_sequence(folder: Path, plot: Plot) -> None:
    """Writes the files that every sequence has."""
    folder.mkdir(parents=True)
    meta = {"annotators": [1, 2], "start": 0, "end": plot.duration_s, "recorded": CLOCK_TEXT}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="ascii")
    rng = np.random.default_rng(plot.seed)
    boxes = person_boxes(rng, plot)
    if plot.exchanged:
        boxes = {**boxes, "kitchen": boxes["living_room"], "living_room": boxes["kitchen"]}
    for camera, rows in boxes.items():
        write_rows(folder / f"video_{camera}.csv", files.BOX_HEADER, rows)
    write_stretches(folder / "pir.csv", motion_events(plot) if plot.motion else [])
    wrist = wrist_rows(rng, plot)
    write_rows(folder / "acceleration.csv", files.WRIST_HEADER, wrist)


def in_kitchen(t_s: float) -> bool:
    """The script: living room first, then turn about."""
    return int(t_s / TURN_S) % 2 == 1


def person_boxes(rng: np.random.Generator, plot: Plot) -> dict[str, list[list[float]]]:
    """Boxes at 32 Hz; the kitchen's camera hangs lower than the living room's."""
    boxes: dict[str, list[list[float]]] = {camera: [] for camera in files.CAMERAS}
    phase = rng.uniform(0, 6)
    for t in np.arange(0.02, plot.duration_s, 0.031) if plot.boxes else ():
        kitchen = in_kitchen(t)
        bottom = 170 + 40 * np.sin(0.8 * t + phase)
        left = (120 if kitchen else 150) + 60 * np.sin(0.5 * t + 2 * phase)
        distance = (4200 - 12 * bottom) if kitchen else (5600 - 12 * bottom)
        width, height = 40.0, 110.0
        rows = boxes["kitchen" if kitchen else "living_room"]
        centre = (left + width / 2, bottom - height / 2)
        rows.append(
            [t, *centre, left + width, bottom, left, bottom - height, 0, 0, distance, *[0.0] * 6]
        )
    return boxes


def motion_events(plot: Plot) -> list[tuple[float, float, str]]:
    """The sensor of the right room now and then, and one pair of nested events."""
    events = []
    for start in np.arange(3.0, plot.duration_s - 4, TURN_S / 2):
        room = "kitchen" if in_kitchen(start) else "living"
        end = min(start + 4, (int(start / TURN_S) + 1) * TURN_S - 1.1)
        events.append((start, end, room))
    first = events[0]
    return [*events, (first[0] + 0.5, first[0] + 1.0, first[2]), (1.0, 2.0, "study")]


def wrist_rows(rng: np.random.Generator, plot: Plot) -> list[list[float]]:
    """Acceleration at 20 Hz with gravity mostly along y; turned, x and y change sign."""
    t = np.arange(0.01, plot.duration_s, 0.05)
    sign = -1.0 if plot.turned else 1.0
    values = np.array([-0.3, 0.6, 0.4]) + 0.1 * rng.standard_normal((len(t), 3))
    values = np.round(values, 3) * [sign, sign, 1.0]
    return [[a, *row, -80.0, -81.0, -82.0, float("nan")] for a, row in zip(t, values, strict=True)]


def write_annotations(folder: Path, plot: Plot) -> None:
    """Targets from `ANNOTATED_FROM_S` on, and two annotators who change rooms 1 s apart."""
    lines = [",".join(("start", "end", *files.ACTIVITIES))]
    for second in range(int(np.ceil(plot.duration_s))):
        shares = dict.fromkeys(files.ACTIVITIES, "0.0" if second >= ANNOTATED_FROM_S else "")
        if second >= ANNOTATED_FROM_S:
            shares |= {"a_walk": "0.5", "a_loadwalk": "0.25", "t_turn": "0.25"}
        lines.append(f"{second}.0,{second + 1}.0,{','.join(shares.values())}")
    (folder / "targets.csv").write_text("\n".join(lines) + "\n", encoding="ascii")
    for annotator in range(2):
        turn = TURN_S + annotator * DISAGREE_S
        rooms = [(1.0, turn, "living"), (turn, 2 * TURN_S, "kitchen")]
        write_stretches(folder / f"location_{annotator}.csv", rooms)


def write_stretches(path: Path, rows: Sequence[tuple[float, float, str]]) -> None:
    """Writes start, end, name, index."""
    lines = [f"{s:.3f},{e:.3f},{name},{files.ROOMS.index(name)}" for s, e, name in rows]
    path.write_text("\n".join([",".join(files.STRETCH_HEADER), *lines]) + "\n", encoding="ascii")


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Writes numbers; NaN as an empty cell, as the data set does."""
    lines = [",".join("" if x != x else f"{x:.6g}" for x in row) for row in rows]  # noqa: PLR0124
    path.write_text("\n".join([",".join(header), *lines]) + "\n", encoding="ascii")


def edit_rows(path: Path, changes: Mapping[int, str | None]) -> None:
    """Replaces lines of a file, counted from 1; None leaves the line out."""
    lines = path.read_text(encoding="ascii").splitlines()
    edited = [changes.get(number, line) for number, line in enumerate(lines, start=1)]
    path.write_text("\n".join(line for line in edited if line is not None) + "\n", "ascii")


def decoded(path: Path) -> NDArray[np.uint8]:
    """All frames of a small video [F, H, W, 3]."""
    reader = cv2.VideoCapture(str(path))
    frames = []
    while (grabbed := reader.read())[0]:
        frames.append(grabbed[1])
    reader.release()
    return np.asarray(frames, dtype=np.uint8)


def refuse(error: type[DetachError], match: str, source: Path, out: Path) -> None:
    """The import ends with one message and leaves nothing in the folder of ``out``."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(error, match=match):
        import_sphere(source, out, workers=1)
    assert sorted(out.parent.iterdir()) == before
