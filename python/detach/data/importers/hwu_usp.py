"""HWU-USP: daily activities in a robot's test flat, a video and eleven ambient sensors a sequence.

One folder a stream, inside it ``<class>/<class>_sNN.<ext>``: ambient streams are CSV, with a header
that names the sensors (``Ktch_B4_Cupboard`` ...) or, in an older release, with numbers alone, whose
names then stand in ``column_names.txt``. Each sequence carries one label. Streams are said to begin
together, and what they differ in length is told; `motion_sync` can measure it instead.
"""

import dataclasses
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detach.data.decoding import probe_apart
from detach.data.importers.motion_sync import WITHIN_S, Switchings, fit_lags, residuals
from detach.data.importers.own_count import count_windows
from detach.data.importers.target import at_least_one, check_target
from detach.data.quality_camera import see_motion
from detach.data.recording import (
    Dataset,
    LabelTrack,
    Recording,
    SensorTrack,
    VideoTrack,
    new_recording,
    read_dataset,
    read_recording,
    write_dataset,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.data.store import new_folder
from detach.errors import DataError

HZ = 50.0
CLASSES = ("cereals", "tea", "sandwich", "dishes", "tidy")
"""Those of the paper; the data set has nine."""
SENSORS = (
    *("Ktch_B1_Drawer", "Ktch_B2_Cupboard", "Ktch_B3_Cupboard", "Ktch_B4_Cupboard"),
    *("Ktch_Motion_1", "Ktch_Motion_2"),
    *("Ktch_T1_Cupboard", "Ktch_T2_Cupboard", "Ktch_T3_Cupboard", "Ktch_T4_Cupboard"),
    "TP_L_Power",
)
PAPER = ("Ktch_B4_Cupboard", "Ktch_Motion_1", "Ktch_Motion_2",
         "Ktch_T1_Cupboard", "Ktch_T2_Cupboard", "Ktch_T3_Cupboard")  # fmt: skip
"""Columns 4 to 9 of the file, counted from 0: the paper's 4 switches and 2 motion sensors."""
SEQUENCE = re.compile(r"([a-z]+)_s(\d+)")
SUFFIXES = (".avi", ".mp4", ".mkv", ".mov")
UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)
"""A time stamp may count seconds, or thousandths, millionths, billionths of one."""
PAPER_WINDOWS = 3485
LONGER_S = 1.0
"""Streams of a sequence that differ by more are told."""
Say = Callable[[str], None]
Channels = Literal["paper", "all"]


@dataclass(frozen=True)
class Files:
    """Files of one sequence."""

    name: str
    label: str
    subject: str
    ambient: Path
    film: Path


def import_hwu_usp(
    source: Path,
    out: Path,
    *,
    channels: Channels = "paper",
    sync: bool = False,
    limit: int | None = None,
    progress: Say | None = None,
) -> Dataset:
    """Makes a data set of the paper's five activities, parted by subject.

    Args:
        source: Its root.
        out: The data set to make; must not exist or be empty.
        channels: The six sensors of the paper, or all eleven.
        sync: Tell how late each subject's films are, by what moves when cupboards do, and put it
            right.
        limit: Import only so many sequences.
        progress: Called with a line of text now and then.

    Raises:
        DataError: No sequence with both streams is there, or a file is damaged.
    """
    say = progress or (lambda _: None)
    check_target(source, out)
    limit = at_least_one(limit)
    names = _names(source)
    found = _sequences(source, names is not None, say)[:limit]
    with new_folder(out) as part:
        for sequence in found:
            for note in _import(sequence, part, names, channels, whole=sync):
                say(f"{sequence.name}: {note}")
        if sync:
            for note in _set_clocks([part / sequence.name for sequence in found], found, names):
                say(note)
        say(_describe(part, found, channels))
    dataset = read_dataset(out)
    windows, _ = count_windows(dataset, "activity")
    say(
        f"{len(found)} sequences of {len({s.subject for s in found})} subjects, {windows} windows "
        f"of 2 s every 1 s; the paper has {PAPER_WINDOWS} of 80 sequences"
    )
    return dataset


def read_ambient(
    path: Path, names: Sequence[str] | None
) -> tuple[NDArray[np.float64], Mapping[str, NDArray[np.float64]]]:
    """Times in seconds from the first row [n], and every sensor [n].

    Raises:
        DataError: A header without the sensors, a row of another length, a value that is no number.
    """
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    if not lines:
        raise DataError(f"{path}: is empty")
    head = [cell.strip() for cell in lines[0].split(",")]
    first = 1
    if not any(re.search("[A-Za-z]{3}", cell) for cell in head):
        if names is None:
            raise DataError.at(path, 1, "names no columns, and there is no column_names.txt")
        head, first = list(names), 0
    rows = [_row(path, i + 1, lines[i], len(head)) for i in range(first, len(lines)) if lines[i]]
    if len(rows) < 2:
        raise DataError(f"{path}: must hold at least 2 rows, found {len(rows)}")
    table = np.array(rows)
    columns = {name: table[:, i] for i, name in enumerate(head)}
    stamp = columns.pop("timestamp", None)
    lacking = [name for name in PAPER if name not in columns]
    if lacking:
        raise DataError.at(path, 1, f"column {lacking[0]} is not there; found {', '.join(head)}")
    return _times(path, stamp, len(table)), columns


def _row(path: Path, number: int, line: str, width: int) -> list[float]:
    cells = line.split(",")
    if len(cells) != width:
        raise DataError.at(path, number, f"{width} columns expected, found {len(cells)}")
    try:
        return [float(cell) if cell.strip() else np.nan for cell in cells]
    except ValueError as error:
        raise DataError.at(path, number, f"not a number: {error}") from error


def _times(path: Path, stamp: NDArray[np.float64] | None, count: int) -> NDArray[np.float64]:
    """From the stamps where their unit gives about 50 Hz, otherwise from the count of rows."""
    even = np.arange(count) / HZ
    if stamp is None or not np.isfinite(stamp).all():
        return even
    step = float(np.median(np.diff(stamp)))
    for unit in UNITS_S:
        if 0.5 / HZ < step * unit < 2.0 / HZ:
            found = (stamp - stamp[0]) * unit
            if not (np.diff(found) > 0).all():
                bad = int(np.flatnonzero(~(np.diff(found) > 0))[0])
                raise DataError.at(path, bad + 3, "timestamp must rise from row to row")
            return np.asarray(found)
    return even


def _names(source: Path) -> tuple[str, ...] | None:
    path = source / "column_names.txt"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    return tuple(re.findall(r"timestamp|Ktch_\w+|TP_\w+", text)) or None


def _sequences(source: Path, named: bool, say: Say) -> list[Files]:
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; give the root of HWU-USP")
    ambient = {p.stem: p for p in sorted(source.rglob("*_s*.csv")) if _is_ambient(p, named)}
    films = {p.stem: p for p in sorted(source.rglob("*_s*")) if p.suffix.lower() in SUFFIXES}
    found, single = [], []
    for name, path in ambient.items():
        match = SEQUENCE.fullmatch(name)
        if match is None or match[1] not in CLASSES:
            continue
        if name in films:
            found.append(Files(name, match[1], f"s{int(match[2]):02d}", path, films[name]))
        else:
            single.append(name)
    if single:
        say(f"{len(single)} sequences have no video and are left out, first {single[0]}")
    known = (SEQUENCE.fullmatch(name) for name in films if name not in ambient)
    blind = [m.string for m in known if m and m[1] in CLASSES]
    if blind:
        say(f"{len(blind)} videos have no ambient CSV that can be read, first {blind[0]}")
    if not found:
        raise DataError(
            f"{source}: no sequence like tea/tea_s01 with both an ambient CSV and a video; found "
            f"{len(ambient)} ambient files and {len(films)} videos"
        )
    return sorted(found, key=lambda s: s.name)


def _is_ambient(path: Path, named: bool) -> bool:
    """Other streams are CSV too: ambient ones name kitchen sensors, or have eleven columns."""
    if SEQUENCE.fullmatch(path.stem) is None:
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.readline()
    return "Ktch_" in head or (named and len(head.split(",")) in {len(SENSORS), len(SENSORS) + 1})


def _import(
    sequence: Files, part: Path, names: Sequence[str] | None, channels: Channels, *, whole: bool
) -> list[str]:
    """Writes one recording, whole or as far as both streams go; returns what is odd about it."""
    t_s, values = read_ambient(sequence.ambient, names)
    wanted = PAPER if channels == "paper" else tuple(n for n in SENSORS if n in values)
    (claim,) = probe_apart([sequence.film])
    with new_recording(part, sequence.name) as new:
        film = new / f"video{sequence.film.suffix.lower()}"
        shutil.copyfile(sequence.film, film)
        filmed_s, felt_s = claim.frames / claim.fps, float(t_s[-1]) + 1 / HZ
        length = felt_s if whole else min(filmed_s, felt_s)
        kept = t_s <= length
        tracks = []
        for name in wanted:
            track = _track(name)
            known = kept & np.isfinite(values[name])
            write_sensor(new, track, t_s[known], values[name][known])
            tracks.append(track)
        label = LabelTrack(name="activity", source="one label a sequence")
        write_labels(new, label, [(0.0, length, sequence.label)])
        write_recording(
            Recording(
                folder=new,
                name=sequence.name,
                subject=sequence.subject,
                run=sequence.name,
                duration_s=length,
                videos=(
                    VideoTrack(
                        name="robot",
                        file=film.name,
                        fps=claim.fps,
                        frames=claim.frames,
                        width_px=claim.width_px,
                        height_px=claim.height_px,
                    ),
                ),
                sensors=tuple(tracks),
                labels=(label,),
                notes={"video_s": round(filmed_s, 3), "ambient_s": round(felt_s, 3)},
            )
        )
    apart = abs(filmed_s - felt_s)
    if apart <= LONGER_S + (WITHIN_S if whole else 0.0):
        return []
    then = "is the download whole?" if whole else "both are taken to begin at 0"
    return [f"video lasts {filmed_s:.1f} s, sensors {felt_s:.1f} s; {then}"]


def _set_clocks(
    folders: Sequence[Path], found: Sequence[Files], names: Sequence[str] | None
) -> list[str]:
    """Measures how late the films of each subject are, and writes it; says what was found."""
    recordings = [read_recording(folder) for folder in folders]
    pairs = zip(recordings, found, strict=True)
    turned = [_switchings(recording, files, names) for recording, files in pairs]
    lags = fit_lags(turned)
    own_s, whole_s = residuals(turned, lags)
    for recording, off_s in zip(recordings, own_s, strict=True):
        lag = lags[recording.subject]
        if lag.sure:
            track = dataclasses.replace(recording.videos[0], start_s=round(-lag.lag_s, 4))
            clock = {"offset_s": round(lag.lag_s, 4), "clear": round(lag.clear, 2)}
            if math.isfinite(off_s):  # nothing need turn in a sequence
                clock["residual_s"] = round(off_s, 4)
            notes = {**recording.notes, "clock": clock}
            write_recording(dataclasses.replace(recording, videos=(track,), notes=notes))
    return [
        f"{name}: films {lag.lag_s:+.2f} s late, {lag.clear:.1f} times likelier than any other, "
        f"residual {1000 * whole_s[name]:.0f} ms of {lag.turns} switchings"
        if lag.sure
        else f"{name}: how late films are cannot be told; taken to be 0"
        for name, lag in sorted(lags.items())
    ]


def _switchings(recording: Recording, files: Files, names: Sequence[str] | None) -> Switchings:
    """Of all contacts, whichever are imported."""
    motion = see_motion(recording, step_s=0.0)
    if motion is None:
        raise DataError(f"{recording.folder}: has no video")
    t_s, values = read_ambient(files.ambient, names)
    steps = {n: np.diff(np.nan_to_num(v)) for n, v in values.items() if _track(n).kind == "switch"}
    on_s = {n: t_s[1:][step > 0] for n, step in steps.items()}
    return Switchings(
        recording.subject, motion, on_s, {n: t_s[1:][step < 0] for n, step in steps.items()}
    )


def _track(name: str) -> SensorTrack:
    motion, power = "Motion" in name, "Power" in name
    kind = "motion" if motion else "power" if power else "switch"
    place = None if power else name.removeprefix("Ktch_").replace("_", " ")
    return SensorTrack(name=name, kind=kind, unit="W" if power else "0/1", hz=HZ, place=place)


def _describe(folder: Path, found: Sequence[Files], channels: str) -> str:
    """Writes dataset.json; returns how many subjects each part has.

    It notes no number of places: that depends on the channels one trains on.
    """
    subjects = part_subjects(sorted({s.subject for s in found}))
    write_dataset(
        Dataset(
            folder=folder,
            name="hwu-usp",
            classes={"activity": CLASSES},
            splits={k: tuple(s.name for s in found if s.subject in v) for k, v in subjects.items()},
            notes={"channels": channels},
        )
    )
    counts = {k: len(v) for k, v in subjects.items()}
    said = "subjects: {pretrain} pretrain and train, {val} validate, {test} test".format(**counts)
    if counts["test"]:
        return said
    return f"{said}; one subject leaves none to test, so train with split.by=random-window"


def part_subjects(subjects: Sequence[str]) -> dict[str, Sequence[str]]:
    """The last quarter test, an eighth before them choose, as in the simulated kitchen.

    Of two subjects one trains and one tests; of one all that is left is to train.
    """
    test = max(1, round(0.25 * len(subjects))) if len(subjects) > 1 else 0
    val = max(1, round(0.125 * len(subjects))) if len(subjects) > 2 else 0
    first, last = len(subjects) - test - val, len(subjects) - test
    train = subjects[:first]
    return {"pretrain": train, "train": train, "val": subjects[first:last], "test": subjects[last:]}
