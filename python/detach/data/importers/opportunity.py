"""Opportunity++: the recordings of OPPORTUNITY with video, which the paper was tested on.

``<root>/data/<RUN>/`` holds ``<RUN>_sensors_data.txt`` (250 blank-separated columns, NaN where
missing), ``<RUN>_side.avi`` and one ``<RUN>_side.<track>.srt`` a label track; ``column_names.txt``
stands in the root or in ``data``. Video and sensors have clocks of their own, which the labels on
both tie together (`cue_sync`). A recording keeps the video's clock.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.importers import opportunity_columns as columns
from detach.data.importers.copied_film import copy_film
from detach.data.importers.cue_sync import Clock, Mark, fit_clock, runs_of
from detach.data.importers.opportunity_files import Rows, read_cues, read_rows
from detach.data.importers.own_count import count_windows
from detach.data.importers.target import at_least_one, check_target
from detach.data.recording import (
    Dataset,
    LabelTrack,
    Recording,
    SensorTrack,
    VideoTrack,
    new_recording,
    read_dataset,
    write_dataset,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.data.store import new_folder
from detach.errors import DataError

RUN = re.compile(r"S([1-4])-(ADL[1-5]|Drill)")
ALL_RUNS = 24
SPLITS = {"ADL1": "train", "ADL2": "train", "ADL3": "train", "Drill": "train",
          "ADL4": "val", "ADL5": "test"}  # fmt: skip
PAPER_WINDOWS = 5324
SHORT_S = 5.0
"""By which film, sensors and subtitles may begin or end apart and pass for whole."""
LONGER = 1.1
"""A film that lasts so many times as long as all else has another rate than it says."""
FILM_FPS = 10.0
Say = Callable[[str], None]


def import_opportunity(
    source: Path,
    out: Path,
    *,
    channels: columns.Channels = "ambient37",
    limit: int | None = None,
    progress: Say | None = None,
) -> Dataset:
    """Makes a data set of Opportunity++, split by run: ADL1-3 and Drill, ADL4, ADL5.

    Args:
        source: Its root.
        out: The data set to make; must not exist or be empty.
        channels: All 8 ambient accelerometers, or the 7 of the paper's Table 7.
        limit: Import only so many runs.
        progress: Called with a line of text now and then.

    Raises:
        DataError: No run is there, one lacks a file, a file is damaged, or its cues do not match
            its labels.
    """
    say = progress or (lambda _: None)
    check_target(source, out)
    limit = at_least_one(limit)
    folders = _runs(source)[:limit]
    names = next((p for p in (source / "column_names.txt", source / "data/column_names.txt")
                  if p.is_file()), None)  # fmt: skip
    if names is None:
        say("column_names.txt is not there: columns are taken to be where they usually are")
    map_ = columns.read_map(names, channels)
    if len(folders) < ALL_RUNS:
        say(f"{len(folders)} of {ALL_RUNS} runs are there")
    with new_folder(out) as part:
        notes = {}
        for folder in folders:
            notes[folder.name] = _import_run(folder, part, map_)
            say(f"{folder.name}: {notes[folder.name]}")
        _describe(part, [f.name for f in folders], channels)
    dataset = read_dataset(out)
    seconds = sum(r.duration_s for r in dataset.recordings())
    total, labelled = count_windows(dataset, "action")
    say(
        f"{len(folders)} runs, {seconds / 60:.0f} min: {total} windows of 2 s every 1 s, "
        f"{labelled} of them with one of the {len(columns.ACTIONS)} labels; the paper has "
        f"{PAPER_WINDOWS}"
    )
    return dataset


def _runs(source: Path) -> list[Path]:
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; give the root of Opportunity++")
    data = source / "data" if (source / "data").is_dir() else source
    found = [p for p in sorted(data.iterdir()) if p.is_dir() and RUN.fullmatch(p.name)]
    if not found:
        raise DataError(
            f"{source}: no folder like data/S1-ADL1 there; Opportunity++ has {ALL_RUNS} of them"
        )
    return found


def _import_run(folder: Path, part: Path, map_: columns.Map) -> str:
    """Writes one recording; returns what is worth knowing of its clocks."""
    name = folder.name
    files = {
        "sensors": folder / f"{name}_sensors_data.txt",
        "video": folder / f"{name}_side.avi",
        "cues": folder / f"{name}_side.ml_both_arms.srt",
    }
    lacking = [path.name for path in files.values() if not path.is_file()]
    if lacking:
        raise DataError(
            f"{folder}: {', '.join(lacking)} missing; a run has sensors, video and subtitles. Is "
            "the download whole?"
        )
    rows = read_rows(files["sensors"], map_.wanted, map_.clock)
    cues = read_cues(files["cues"])
    runs = runs_of(rows.t_s, _codes(rows, map_.gesture), 1.0 / columns.HZ)
    clock = fit_clock(cues, runs, name)
    with new_recording(part, name) as new:
        track = copy_film(files["video"], new, "side")
        length = track.frames / track.fps
        t_s = clock.video_s(rows.t_s)
        inside = (t_s >= 0) & (t_s <= length)
        if not inside.any():
            raise DataError(f"{folder}: no sensor row falls into the video of {length:.1f} s")
        tracks = [_sensor(new, s, t_s, rows, inside, clock) for s in map_.sensors]
        moves = runs_of(t_s, _codes(rows, map_.locomotion), 1.0 / columns.HZ)
        labels = _labels(new, cues, moves, length)
        match = RUN.fullmatch(name)
        facts = {
            "clock": {k: round(v, 4) for k, v in asdict(clock).items()},
            "rows": len(rows.t_s),
            "short rows": rows.short,
        }
        write_recording(
            Recording(
                folder=new,
                name=name,
                subject=f"S{match[1]}" if match else name,
                run=name,
                duration_s=length,
                videos=(track,),
                sensors=tuple(tracks),
                labels=labels,
                notes=facts,
            )
        )
    short = f", {rows.short} short rows" if rows.short else ""
    seen = _on_film(runs, clock)
    return clock.as_text() + short + "".join(f"; {x}" for x in _doubts(cues, seen, t_s, track))


def _on_film(runs: Sequence[Mark], clock: Clock) -> list[Mark]:
    """The same marks on the video's clock."""
    starts, ends = (clock.video_s(np.array(x)) for x in zip(*[(m.start_s, m.end_s) for m in runs],
                    strict=True))  # fmt: skip
    return [Mark(float(a), float(b), m.code) for a, b, m in zip(starts, ends, runs, strict=True)]


def _doubts(
    cues: Sequence[Mark], seen: Sequence[Mark], t_s: NDArray[np.float64], film: VideoTrack
) -> list[str]:
    """What begins late or ends early, on the video's clock: a download that broke off, a rate."""
    said, fps = [], f"{film.fps:g} frames a second, {FILM_FPS:g} are usual"
    length = film.frames / film.fps
    first_s, last_s = min(m.start_s for m in cues), max(m.end_s for m in cues)
    marked_s = min(seen[-1].end_s, length)
    if (gap_s := last_s - length) > SHORT_S:
        said.append(f"the film ends {gap_s:.0f} s before the last subtitle ({fps}): is it whole?")
    if length > LONGER * max(last_s, float(t_s[-1])) + SHORT_S:
        said.append(f"the film lasts {length:.0f} s, all else {max(last_s, float(t_s[-1])):.0f} s: "
                    f"is its rate right ({fps})?")  # fmt: skip
    if (gap_s := last_s - float(t_s[-1])) > SHORT_S:
        said.append(f"the sensors end {gap_s:.0f} s before the last subtitle: are they whole?")
    if (gap_s := float(t_s[0]) - first_s) > SHORT_S:
        said.append(f"the sensors begin {gap_s:.0f} s after the first subtitle: are they whole?")
    if (gap_s := marked_s - last_s) > SHORT_S:
        said.append(f"labels of the sensors go on for {gap_s:.0f} s after the last subtitle: are "
                    "subtitles whole?")  # fmt: skip
    return said


def _sensor(
    new: Path,
    source: columns.Source,
    t_s: NDArray[np.float64],
    rows: Rows,
    inside: NDArray[np.bool_],
    clock: Clock,
) -> SensorTrack:
    track = SensorTrack(
        name=source.name,
        kind=source.kind,
        unit=source.unit,
        hz=columns.HZ / (1.0 + 1e-6 * clock.drift_ppm),
        axes=source.axes,
        place=source.place,
    )
    values = np.stack([rows.values[c] for c in source.columns], axis=1)
    known = inside & np.isfinite(values).any(axis=1)
    write_sensor(new, track, t_s[known], values[known])
    return track


def _labels(
    new: Path, cues: Sequence[Mark], moved: Sequence[Mark], length: float
) -> tuple[LabelTrack, ...]:
    """Actions and their places from the cues; locomotion from the rows, on the video's clock."""
    gestures = [(m.start_s, min(m.end_s, length), columns.CODES.get(m.code, f"code {m.code}"))
                for m in cues if m.start_s < length]  # fmt: skip
    actions = [row for row in gestures if row[2] in columns.ACTIONS]
    places = [(a, b, name.split(" ", 1)[1]) for a, b, name in actions]
    moves = [
        (max(m.start_s, 0.0), min(m.end_s, length), columns.LOCOMOTIONS[m.code])
        for m in moved
        if m.code in columns.LOCOMOTIONS and m.end_s > 0 and m.start_s < length
    ]
    made = []
    for name, found, origin in (
        ("action", actions, "subtitles"),
        ("place", places, "subtitles"),
        ("gesture", gestures, "subtitles"),
        ("locomotion", moves, "column 244"),
    ):
        track = LabelTrack(name=name, source=f"Opportunity++ {origin}")
        write_labels(new, track, found)
        made.append(track)
    return tuple(made)


def _describe(part: Path, names: Sequence[str], channels: str) -> None:
    splits: dict[str, list[str]] = {"pretrain": [], "train": [], "val": [], "test": []}
    for name in names:
        match = RUN.fullmatch(name)
        splits[SPLITS[match[2]] if match else "train"].append(name)
    splits["pretrain"] = list(splits["train"])
    objects = tuple(dict.fromkeys(name.split(" ", 1)[1] for name in columns.ACTIONS))
    write_dataset(
        Dataset(
            folder=part,
            name="opportunity++",
            classes={
                "action": columns.ACTIONS,
                "place": objects,
                "gesture": tuple(columns.CODES.values()),
                "locomotion": tuple(columns.LOCOMOTIONS.values()),
            },
            splits={k: tuple(v) for k, v in splits.items()},
            notes={"channels": channels, "places": len(objects)},
        )
    )


def _codes(rows: Rows, column: int) -> NDArray[np.int64]:
    return np.nan_to_num(rows.values[column], nan=0.0).astype(np.int64)
