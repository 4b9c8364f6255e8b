"""One SPHERE sequence as one recording: video, sensors, labels and what was decided about it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.data import sphere_cameras as cameras
from detach.data import sphere_files as files
from detach.data import sphere_picture as picture
from detach.data.recording import (
    PRESENCE_TRACK,
    LabelTrack,
    Recording,
    SensorTrack,
    new_recording,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.errors import MachineError

ACTIVITY8 = {
    "walk": ("a_walk", "a_loadwalk", "a_jump"),
    "stairs": ("a_ascend", "a_descend"),
    "stand": ("p_stand",),
    "sit": ("p_sit",),
    "lie": ("p_lie",),
    "bent_kneel_squat": ("p_bent", "p_kneel", "p_squat"),
    "turn": ("t_turn",),
    "transition": (
        *("t_bend", "t_straighten", "t_kneel_stand", "t_stand_kneel"),
        *("t_lie_sit", "t_sit_lie", "t_sit_stand", "t_stand_sit"),
    ),
}
"""The 8 merged activities. Jumping, all but absent, counts as moving about."""
WRIST_HZ = 20.0
WRIST_UNSURE_G = 0.1
"""Below this |mean y| the way the wrist unit is worn is a guess."""
PICTURES = "drawn from bounding boxes on photographs of the empty rooms, not photographed"

LabelRow = tuple[float, float, str, float]


@dataclass(frozen=True)
class Plan:
    """What every recording of one import is made with; small enough to send to a process."""

    out: Path
    sensors: tuple[str, ...]
    fps: float
    exchanged: Mapping[str, bool]
    flipped: Mapping[str, bool]
    photographs: Mapping[str, picture.Image]
    model: cameras.CameraModel


def wrist_turn(wrist: NDArray[np.float64]) -> dict[str, Any]:
    """Which way round the wrist unit is worn: half a turn about z changes the sign of x and y.

    The mean of y is positive in most runs; that is taken as the right way round.

    Args:
        wrist: Samples [n, 4]: time in seconds, x, y, z in g.
    """
    y = wrist[:, 2][np.isfinite(wrist[:, 2])]
    mean = float(y.mean()) if len(y) else 0.0
    return {
        "flipped": mean < 0,
        "samples": len(y),
        "mean_y_g": round(mean, 4),
        "unsure": len(y) > 0 and abs(mean) < WRIST_UNSURE_G,
        "decided_by": "sign of mean y" if len(y) else "nothing to decide: no samples",
    }


def import_one(entry: files.Entry, plan: Plan) -> tuple[str, str]:
    """Makes one recording; returns its name and a remark worth a line, or ''.

    Raises:
        MachineError: The disk is full or refuses.
    """
    measured = files.read_measured(entry)
    exchange = _exchange(entry, measured, plan)
    if exchange.exchanged:
        kitchen, living = (measured.boxes[c] for c in (cameras.KITCHEN, cameras.LIVING))
        swapped = {**measured.boxes, cameras.KITCHEN: living, cameras.LIVING: kitchen}
        measured = replace(measured, boxes=swapped)
    try:
        with new_recording(plan.out, entry.name) as folder:
            recording = _fill(folder, entry, measured, plan, exchange)
            write_recording(recording)
    except OSError as error:
        raise MachineError(f"{plan.out}: cannot be written: {error.strerror or error}") from error
    return entry.name, _remark(entry, recording.notes)


def _exchange(entry: files.Entry, measured: files.Measured, plan: Plan) -> cameras.Exchange:
    decided = cameras.decide_exchange(measured, plan.model.without(entry.name))
    if entry.name in plan.exchanged:
        return replace(decided, exchanged=plan.exchanged[entry.name], decided_by="option")
    return decided


def _fill(
    folder: Path,
    entry: files.Entry,
    measured: files.Measured,
    plan: Plan,
    exchange: cameras.Exchange,
) -> Recording:
    wrist = wrist_turn(measured.wrist)
    if entry.name in plan.flipped:
        wrist.update(flipped=plan.flipped[entry.name], unsure=False, decided_by="option")
    video = picture.write_video(
        folder / "video.mp4", measured.boxes, plan.photographs, measured.duration_s, plan.fps
    )
    return Recording(
        folder=folder,
        name=entry.name,
        subject=f"participant{int(entry.folder.name)}" if entry.labelled else "unknown",
        run=entry.name,
        duration_s=measured.duration_s,
        videos=(video,),
        sensors=_write_sensors(folder, measured, plan.sensors, wrist["flipped"]),
        labels=_write_labels(folder, entry, measured),
        notes={
            "pictures": PICTURES,
            "cameras": exchange.note(),
            "wrist": wrist,
            "counts": {name: n for name, n in sorted(measured.counts.items()) if n},
        },
    )


def _write_sensors(
    folder: Path, measured: files.Measured, chosen: Sequence[str], flipped: bool
) -> tuple[SensorTrack, ...]:
    tracks = []
    for room in files.ROOMS if "pir" in chosen else ():
        track = SensorTrack(name=f"pir_{room}", kind="motion", unit="0/1", hz=None, place=room)
        write_sensor(folder, track, *_switching(measured.motion[room]))
        tracks.append(track)
    if "wrist" in chosen:
        track = SensorTrack(
            name="wrist",
            kind="acceleration",
            unit="g",
            hz=WRIST_HZ,
            axes=("x", "y", "z"),
            place="wrist",
        )
        turn = np.array([-1.0, -1.0, 1.0]) if flipped else np.ones(3)
        write_sensor(folder, track, measured.wrist[:, 0], measured.wrist[:, 1:] * turn)
        tracks.append(track)
    return tuple(tracks)


def _switching(on: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Merged stretches [n, 2] as changes: times and values, the first at 0 s."""
    times = on.reshape(-1)
    values = np.resize([1.0, 0.0], len(times))
    if not len(times) or times[0] > 0:
        times, values = np.append(0.0, times), np.append(0.0, values)
    return times, values


def _write_labels(
    folder: Path, entry: files.Entry, measured: files.Measured
) -> tuple[LabelTrack, ...]:
    seen = picture.presence(measured.boxes, measured.duration_s)
    tracks: dict[LabelTrack, Sequence[tuple[Any, ...]]] = {
        LabelTrack(name=PRESENCE_TRACK, source="boxes of any camera"): [
            (start, end, "person") for start, end in seen
        ]
    }
    if entry.labelled:
        by = LabelTrack(name="activity8", source="annotators, activity20 merged")
        tracks[by], fine = _activities(entry, measured.duration_s)
        tracks[LabelTrack(name="activity20", source="annotators, mean of each second")] = fine
        rooms = _rooms(entry, measured.duration_s)
        tracks[LabelTrack(name="room", source="annotators, weight is their share")] = rooms
    for track, rows in tracks.items():
        write_labels(folder, track, rows)
    return tuple(tracks)


def _activities(entry: files.Entry, duration_s: float) -> tuple[list[LabelRow], list[LabelRow]]:
    """Rows of the 8 and of the 20 activities; seconds that nobody annotated have none."""
    merged_rows, rows = [], []
    for start, stop, *listed in files.read_targets(entry).tolist():
        if start >= duration_s or not np.isfinite(listed).all():
            continue
        share = dict(zip(files.ACTIVITIES, listed, strict=True))
        end = min(stop, duration_s)
        rows += [(start, end, name, p) for name, p in share.items() if p > 0]
        for name, parts in ACTIVITY8.items():
            weight = sum(share[part] for part in parts)
            if weight > 0:
                merged_rows.append((start, end, name, weight))
    return merged_rows, rows


def _rooms(entry: files.Entry, duration_s: float) -> list[LabelRow]:
    """Stretches between the boundaries of all annotators; weight = share who say that room."""
    paths = sorted(entry.folder.glob("location_*.csv"))
    said = [files.read_stretches(path, files.ROOMS) for path in paths]
    edges = sorted({min(max(t, 0.0), duration_s) for rows in said for r in rows for t in r[:2]})
    listed = []
    for start, end in pairwise(edges):
        middle = (start + end) / 2
        votes = Counter(n for rows in said for n in {n for s, e, n in rows if s <= middle < e})
        listed += [(start, end, name, n / len(said)) for name, n in sorted(votes.items())]
    return listed


def _remark(entry: files.Entry, notes: Mapping[str, Any]) -> str:
    """A line for each labelled run and for each doubtful decision."""
    eye, wrist = notes["cameras"], notes["wrist"]
    if not (entry.labelled or eye["unsure"]):
        return ""
    how = "exchanged" if eye["exchanged"] else "as named"
    sure = max(eye["probability"], 1 - eye["probability"])
    turned = "turned" if wrist["flipped"] else "as is"
    doubt = " UNSURE" if eye["unsure"] else ""
    return f"{entry.name}: kitchen and living room {how} ({sure:.1%}{doubt}), wrist {turned}"
