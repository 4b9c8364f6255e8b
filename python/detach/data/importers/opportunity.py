"""Opportunity++: the recordings of OPPORTUNITY with video, which the paper was tested on.

``<root>/data/<RUN>/`` holds ``<RUN>_sensors_data.txt`` (250 blank-separated columns, NaN where
missing), ``<RUN>_side.avi`` and one ``<RUN>_side.<track>.srt`` a label track; ``column_names.txt``
stands in the root or in ``data``. Video and sensors have clocks of their own, which the labels on
both tie together (`cue_sync`). A recording keeps the video's clock.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.decoding import probe_apart
from detach.data.importers import opportunity_columns as columns
from detach.data.importers.cue_sync import Clock, Mark, fit_clock, runs_of
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
CUE = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3}) --> (\d+):(\d\d):(\d\d)[,.](\d{1,3})")
TEXT = re.compile(r"\s*(\d{1,6})\s*-\s*(.+)")
PAPER_WINDOWS = 5324
SHORT_S = 5.0
"""By which a film or the sensors may end before the last subtitle and pass for whole."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Rows:
    """One sensor file."""

    t_s: NDArray[np.float64]
    """[n]"""
    values: Mapping[int, NDArray[np.float64]]
    """Of each column that was asked for, [n]."""
    short: int
    """Rows with fewer than 250 columns, filled up with nothing."""


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
    sensors = columns.sources(columns.read_names(names) if names else None, channels)
    if len(folders) < ALL_RUNS:
        say(f"{len(folders)} of {ALL_RUNS} runs are there")
    with new_folder(out) as part:
        notes = {}
        for folder in folders:
            notes[folder.name] = _import_run(folder, part, sensors)
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


def read_cues(path: Path) -> list[Mark]:
    """Cues of a subtitle file whose text starts with a code.

    Raises:
        DataError: A cue whose times or text are of another form.
    """
    marks: list[Mark] = []
    times: tuple[float, float] | None = None
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        found = CUE.search(line)
        if found:
            times = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
            continue
        if "-->" in line:
            raise DataError.at(path, number, f"not HH:MM:SS,mmm --> HH:MM:SS,mmm: {line.strip()!r}")
        said = TEXT.match(line)
        if times is not None and line.strip():
            if said is None:
                raise DataError.at(path, number, f"not `CODE - NAME`: {line.strip()!r}")
            if times[1] <= times[0]:
                raise DataError.at(path, number, "a cue that ends before it starts")
            marks.append(Mark(*times, int(said[1])))
            times = None
    return marks


def read_rows(path: Path, wanted: Sequence[int]) -> Rows:
    """Some columns of a sensor file, counted from 1.

    Raises:
        DataError: A value that is no number, a clock that does not rise, or too few rows.
    """
    chosen = sorted({columns.MILLISEC, *wanted})
    table: list[list[float]] = []
    short = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            cells = line.split()
            if not cells:
                continue
            short += len(cells) < columns.COLUMNS
            try:
                table.append([float(cells[c - 1]) if c <= len(cells) else np.nan for c in chosen])
            except ValueError as error:
                raise DataError.at(path, number, f"not a number: {error}") from error
    if len(table) < 2:
        raise DataError(f"{path}: must hold rows of {columns.COLUMNS} columns, found {len(table)}")
    values = np.array(table)
    t_s = values[:, chosen.index(columns.MILLISEC)] / 1000.0
    bad = np.flatnonzero(~(np.diff(t_s) > 0))
    if len(bad):
        raise DataError.at(path, int(bad[0]) + 2, "MILLISEC must rise from row to row")
    return Rows(t_s, {c: values[:, i] for i, c in enumerate(chosen)}, short)


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


def _import_run(folder: Path, part: Path, sensors: Sequence[columns.Source]) -> str:
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
    wanted = [c for s in sensors for c in s.columns]
    rows = read_rows(files["sensors"], [*wanted, columns.MID_LEVEL, columns.LOCOMOTION])
    cues = read_cues(files["cues"])
    runs = runs_of(rows.t_s, _codes(rows, columns.MID_LEVEL), 1.0 / columns.HZ)
    clock = fit_clock(cues, runs, name)
    with new_recording(part, name) as new:
        track = _video(files["video"], new)
        length = track.frames / track.fps
        t_s = clock.video_s(rows.t_s)
        inside = (t_s >= 0) & (t_s <= length)
        if not inside.any():
            raise DataError(f"{folder}: no sensor row falls into the video of {length:.1f} s")
        tracks = [_sensor(new, s, t_s, rows, inside, clock) for s in sensors]
        labels = _labels(new, cues, rows, t_s, length)
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
    return clock.as_text() + short + _cut_off(cues, {"film": length, "sensors": float(t_s[-1])})


def _cut_off(cues: Sequence[Mark], ends_s: Mapping[str, float]) -> str:
    """What ends long before the last subtitle, on the video's clock: a download that broke off."""
    last_s = max(cue.end_s for cue in cues)
    early = {what: last_s - end_s for what, end_s in ends_s.items() if last_s - end_s > SHORT_S}
    said = (f"; the {what} end{'s' if what == 'film' else ''} {gap_s:.0f} s before the last "
            "subtitle: is the download whole?" for what, gap_s in early.items())  # fmt: skip
    return "".join(said)


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


def _video(path: Path, new: Path) -> VideoTrack:
    (claim,) = probe_apart([path])
    shutil.copyfile(path, new / "video.avi")
    return VideoTrack(
        name="side",
        file="video.avi",
        fps=claim.fps,
        frames=claim.frames,
        width_px=claim.width_px,
        height_px=claim.height_px,
    )


def _labels(
    new: Path, cues: Sequence[Mark], rows: Rows, t_s: NDArray[np.float64], length: float
) -> tuple[LabelTrack, ...]:
    """Actions and their places from the cues; locomotion from the rows, on the video's clock."""
    gestures = [(m.start_s, min(m.end_s, length), columns.CODES.get(m.code, f"code {m.code}"))
                for m in cues if m.start_s < length]  # fmt: skip
    actions = [row for row in gestures if row[2] in columns.ACTIONS]
    places = [(a, b, name.split(" ", 1)[1]) for a, b, name in actions]
    moves = [
        (max(m.start_s, 0.0), min(m.end_s, length), columns.LOCOMOTIONS[m.code])
        for m in runs_of(t_s, _codes(rows, columns.LOCOMOTION), 1.0 / columns.HZ)
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


def _seconds(cells: Sequence[str]) -> float:
    hours, minutes, seconds, rest = cells
    return 3600.0 * int(hours) + 60.0 * int(minutes) + int(seconds) + int(rest.ljust(3, "0")) / 1000
