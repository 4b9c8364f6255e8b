"""Imports the SPHERE Challenge 2016: real people in a real house, without their pictures.

Each sequence becomes one recording: a video drawn from the boxes of three cameras on photographs of
the empty rooms, nine motion sensors, a wrist accelerometer and, for labelled runs, activities and
rooms. Three traps of the published files are silent and are handled here without labels: the boxes
of kitchen and living room may be exchanged (sphere_cameras.py), the wrist unit is worn two ways
(sphere_recording.py), and the runs follow a script, so that nothing may tell a model how long a
run has been going on.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detach.data import sphere_cameras as cameras
from detach.data import sphere_files as files
from detach.data.importers.target import check_target
from detach.data.processes import in_processes
from detach.data.recording import (
    RECORDING_FILE,
    Dataset,
    read_dataset,
    read_recording,
    write_dataset,
    write_json,
)
from detach.data.sphere_archive import unpacked
from detach.data.sphere_notes import summarised
from detach.data.sphere_picture import load_photographs
from detach.data.sphere_recording import ACTIVITY8, Plan, import_one
from detach.errors import DetachError, MachineError

SENSORS = ("pir", "wrist")
VALIDATION, TEST = ("run00007",), ("run00008", "run00009", "run00010")
"""Labelled runs that are not here train."""
FPS = (1.0, 30.0)
BYTES_PER_SECOND = 16_000
"""Of recording on disk, generously, to ask for room before starting."""
SAY_EVERY_S = 10.0
STATE_FILE = "import.json"
Say = Callable[[str], None]


def import_sphere(
    source: Path,
    out: Path,
    *,
    sensors: tuple[str, ...] = SENSORS,
    fps: float = 10.0,
    cameras_exchanged: Mapping[str, bool] | None = None,
    wrist_flipped: Mapping[str, bool] | None = None,
    limit: int | None = None,
    progress: Say | None = None,
    workers: int = 2,
) -> Dataset:
    """Makes a data set from the SPHERE folder or archive.

    Recordings are called run00001 (labelled) and seq00011 (not). An import that was interrupted
    goes on where it stopped; one that failed leaves nothing behind.

    Args:
        source: The folder that holds public_data, public_data itself, or a .tar.xz, .tar, .zip.
        out: The data set to make; must not exist or be empty.
        sensors: Which to take: "pir" (9 motion sensors), "wrist" (acceleration in g).
        fps: Frames per second of the drawn video.
        cameras_exchanged: By recording, whether the box files of kitchen and living room are
            exchanged; overrides what would be decided.
        wrist_flipped: By recording, whether x and y of the wrist change sign; overrides likewise.
        limit: At most this many sequences, labelled runs first.
        progress: Called with a line of text now and then.
        workers: Processes. With more than one, a script needs the usual ``__main__`` guard.

    Raises:
        ValueError: An argument is out of range or names a recording that is not there.
        DataError: Source damaged or not SPHERE; ``out`` is not empty, or lies in the source.
        MachineError: No room, no permission, a process ended.
    """
    _check_arguments(sensors, fps, limit, workers)
    say = progress or (lambda _line: None)
    source, out = Path(source), Path(out)
    check_target(source, out)
    _make_parent(out)
    with unpacked(source, out) as folder:
        found = files.find_sequences(folder)
        exchanged, flipped = dict(cameras_exchanged or {}), dict(wrist_flipped or {})
        _check_names("cameras_exchanged", exchanged, found.entries)
        _check_names("wrist_flipped", flipped, found.entries)
        entries = found.entries[:limit]
        photographs = load_photographs(found.photographs)
        _check_room(out, entries)
        made_with = {
            "source": [str(source.resolve()), source.stat().st_mtime_ns, len(found.entries)],
            "options": [
                [*sensors],
                fps,
                [*map(list, exchanged.items())],
                [*map(list, flipped.items())],
            ],
        }
        model = _learn(found.entries, say)
        with _staged(out, made_with) as part:
            plan = Plan(part, sensors, fps, exchanged, flipped, photographs, model)
            _import_all(entries, plan, workers, say)
            _finish(entries, plan, say)
    return read_dataset(out)


def _learn(entries: Sequence[files.Entry], say: Say) -> cameras.CameraModel:
    runs = {e.name: files.read_measured(e) for e in entries if e.labelled}
    model = cameras.learn_cameras(runs)
    if model.learned:
        say(f"cameras: learned where people stand from {', '.join(model.references)}")
    else:
        say("cameras: no labelled runs to learn from; only motion sensors tell them apart")
    return model


def _import_all(entries: Sequence[files.Entry], plan: Plan, workers: int, say: Say) -> None:
    """Imports every sequence that is not there yet, with a line about every ten seconds."""
    waiting = [e for e in entries if not (plan.out / e.name / RECORDING_FILE).is_file()]
    if len(waiting) < len(entries):
        say(f"{len(entries) - len(waiting)} of {len(entries)} recordings kept from before")
    lengths = {e.name: files.read_duration(e) for e in waiting}
    done_s, total_s = 0.0, sum(lengths.values())
    say(f"{len(waiting)} sequences to import, {total_s / 3600:.1f} hours")
    begun = said = time.monotonic()
    for done, (name, line) in enumerate(_in_processes(waiting, plan, workers), start=1):
        done_s += lengths[name]
        if line:
            say(line)
        if time.monotonic() - said > SAY_EVERY_S or done == len(waiting):
            said = time.monotonic()
            left_s = (said - begun) * (total_s - done_s) / done_s
            say(f"{done} of {len(waiting)} sequences, {done_s / total_s:.0%}, {left_s:.0f} s left")


def _in_processes(
    entries: Sequence[files.Entry], plan: Plan, workers: int
) -> Iterator[tuple[str, str]]:
    """Name and remark of each recording as it gets done.

    Raises:
        MachineError: A process was ended from outside.
    """
    if workers == 1 or len(entries) < 2:
        yield from (import_one(entry, plan) for entry in entries)
        return
    calls = [(entry, plan) for entry in entries]
    for _, result in in_processes(import_one, calls, workers, finish=True):
        yield result


@contextmanager
def _staged(out: Path, made_with: Mapping[str, Any]) -> Iterator[Path]:
    """A hidden folder beside ``out`` that takes its name at the end.

    It stays when the import is interrupted and is taken up by the next with the same options; it
    goes when the import fails.

    Raises:
        DetachError: What the import raised.
        MachineError: The disk is full or refuses.
    """
    part = out.with_name(f".{out.name}.part")
    try:
        _take_up(part, made_with)
        yield part
        (part / STATE_FILE).unlink()
        if out.is_dir():
            out.rmdir()
        part.replace(out)
    except DetachError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise MachineError(f"{out}: cannot be written: {error.strerror or error}") from error


def _take_up(part: Path, made_with: Mapping[str, Any]) -> None:
    state = part / STATE_FILE
    try:
        same = json.loads(state.read_text(encoding="utf-8")) == made_with
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write_json(state, made_with)


def _finish(entries: Sequence[files.Entry], plan: Plan, say: Say) -> None:
    """Writes dataset.json from the recordings and says what was decided."""
    names = {entry.name for entry in entries}
    for folder in [p for p in plan.out.iterdir() if p.is_dir() and p.name not in names]:
        shutil.rmtree(folder)  # of an earlier, interrupted import with a larger limit
    recordings = [read_recording(plan.out / entry.name) for entry in entries]
    labelled = [entry.name for entry in entries if entry.labelled]
    train = tuple(name for name in labelled if name not in VALIDATION + TEST)
    notes = summarised(recordings, plan.model)
    write_dataset(
        Dataset(
            folder=plan.out,
            name="sphere",
            classes={
                "activity8": tuple(ACTIVITY8),
                "activity20": files.ACTIVITIES,
                "room": files.ROOMS,
            },
            splits={
                "pretrain": train + tuple(e.name for e in entries if not e.labelled),
                "train": train,
                "val": tuple(name for name in labelled if name in VALIDATION),
                "test": tuple(name for name in labelled if name in TEST),
            },
            notes=notes,
        )
    )
    for what in ("cameras", "wrist", "windows"):
        say(f"{what}: {', '.join(f'{n} {name}' for name, n in notes[what]['counts'].items())}")


def _check_arguments(sensors: tuple[str, ...], fps: float, limit: int | None, workers: int) -> None:
    if not sensors or not set(sensors) <= set(SENSORS) or len(set(sensors)) < len(sensors):
        raise ValueError(f"sensors must be one or both of {SENSORS}, got {sensors!r}")
    if not FPS[0] <= fps <= FPS[1]:
        raise ValueError(f"fps must be between {FPS[0]} and {FPS[1]}, got {fps!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 or None, got {limit!r}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers!r}")


def _check_names(argument: str, given: Mapping[str, bool], entries: Sequence[files.Entry]) -> None:
    unknown = sorted(set(given) - {entry.name for entry in entries})
    if unknown:
        raise ValueError(
            f"{argument} names {unknown[0]!r}, which is not a sequence here; names are like "
            f"{entries[0].name!r} and {entries[-1].name!r}"
        )


def _make_parent(out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{out.parent}: cannot be made: {error.strerror or error}") from error


def _check_room(out: Path, entries: Sequence[files.Entry]) -> None:
    needed = BYTES_PER_SECOND * sum(files.read_duration(entry) for entry in entries)
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise MachineError(
            f"{out.parent}: {needed / 1e6:.0f} MB needed for {len(entries)} sequences, "
            f"{free / 1e6:.0f} MB free; free some space, or give another folder"
        )
