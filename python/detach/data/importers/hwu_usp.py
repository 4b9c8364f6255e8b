"""HWU-USP: daily activities in a robot's test flat, a video and eleven ambient sensors a sequence.

One folder a stream, inside it ``<class>/<class>_sNN.<ext>``: ambient streams are CSV, with a header
that names the sensors (``Ktch_B4_Cupboard`` ...) or, in an older release, with numbers alone, whose
names then stand in ``column_names.txt``. Each sequence carries one label. Streams are said to begin
together, and what they differ in length is told; `motion_sync` can measure it instead.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from detach.data.importers.copied_film import copy_film
from detach.data.importers.hwu_usp_ambient import (
    HZ,
    PAPER,
    SENSORS,
    SEQUENCE,
    is_ambient,
    read_ambient,
    read_names,
)
from detach.data.importers.motion_sync import WITHIN_S, Switchings, fit_lags, residuals
from detach.data.importers.own_count import count_windows
from detach.data.importers.target import at_least_one, check_target
from detach.data.quality_camera import see_motion
from detach.data.recording import (
    Dataset,
    LabelTrack,
    Recording,
    SensorTrack,
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

CLASSES = ("cereals", "tea", "sandwich", "dishes", "tidy")
"""Those of the paper; the data set has nine."""
SUFFIXES = (".avi", ".mp4", ".mkv", ".mov")
PAPER_WINDOWS = 3485
FEWEST_PICTURES = 3
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
    names = read_names(source)
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


def _sequences(source: Path, named: bool, say: Say) -> list[Files]:
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; give the root of HWU-USP")
    ambient = _one_each([p for p in sorted(source.rglob("*_s*.csv")) if is_ambient(p, named)], "")
    streams = [p for p in sorted(source.rglob("*_s*")) if p.suffix.lower() in SUFFIXES]
    films = _one_each(streams, "rgb")
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


def _one_each(paths: Sequence[Path], stream: str) -> dict[str, Path]:
    """Files by the name of their sequence; of several those of the stream, if it has a name."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    chosen = {}
    for name, all_of in found.items():
        own = [p for p in all_of if stream and any(stream in x.lower() for x in p.parts[:-1])]
        same = own or all_of
        if len(same) > 1:
            raise DataError(f"{same[0]} and {same[1]} are both of sequence {name}; leave out one")
        chosen[name] = same[0]
    return chosen


def _import(
    sequence: Files, part: Path, names: Sequence[str] | None, channels: Channels, *, whole: bool
) -> list[str]:
    """Writes one recording, whole or as far as both streams go; returns what is odd about it."""
    ambient = read_ambient(sequence.ambient, names)
    t_s, values = ambient.t_s, ambient.values
    wanted = PAPER if channels == "paper" else tuple(n for n in SENSORS if n in values)
    with new_recording(part, sequence.name) as new:
        film = copy_film(sequence.film, new, "robot")
        filmed_s, felt_s = film.frames / film.fps, float(t_s[-1]) + 1 / HZ
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
                videos=(film,),
                sensors=tuple(tracks),
                labels=(label,),
                notes={"video_s": round(filmed_s, 3), "ambient_s": round(felt_s, 3)},
            )
        )
    said = [ambient.doubt] if ambient.doubt else []
    if abs(filmed_s - felt_s) > LONGER_S + (WITHIN_S if whole else 0.0):
        then = "is the download whole?" if whole else "both are taken to begin at 0"
        said.append(f"video lasts {filmed_s:.1f} s, sensors {felt_s:.1f} s; {then}")
    return said


def _set_clocks(
    folders: Sequence[Path], found: Sequence[Files], names: Sequence[str] | None
) -> list[str]:
    """Measures how late the films of each subject are, and writes it; says what was found."""
    recordings = [read_recording(folder) for folder in folders]
    pairs = zip(recordings, found, strict=True)
    turned = [_switchings(recording, files, names) for recording, files in pairs]
    lags = fit_lags([t for t in turned if t])
    own_s, whole_s = residuals([t for t in turned if t], lags)
    left = iter(own_s)
    for recording, sequence in zip(recordings, turned, strict=True):
        off_s = next(left) if sequence else math.nan
        lag = lags.get(recording.subject)
        if lag and lag.sure:
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


def _switchings(
    recording: Recording, files: Files, names: Sequence[str] | None
) -> Switchings | None:
    """Of all contacts, whichever are imported; None where the film is too short to show motion."""
    motion = see_motion(recording, step_s=0.0)
    if motion is None or len(motion.t_s) < FEWEST_PICTURES:
        return None
    ambient = read_ambient(files.ambient, names)
    on_s, off_s = {}, {}
    for name in SENSORS:
        if _track(name).kind == "switch" and name in ambient.values:
            known = np.isfinite(ambient.values[name])
            t_s, step = ambient.t_s[known], np.diff(ambient.values[name][known])
            on_s[name], off_s[name] = t_s[1:][step > 0], t_s[1:][step < 0]
    return Switchings(recording.subject, motion, on_s, off_s)


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
