"""A recording that is being made: files that only grow, and that a power cut leaves readable.

While it is made it lies in ``.NAME.recording``, where no reader looks: ``journal.json`` (what
recording.json will say), a CSV for each sensor, ``alive.csv`` with a time every few seconds, and
with a camera the film as `detach.edge.live.filming` keeps it.
Rows are appended in order of time and forced to disk every `SYNC_S`. `Journal.finish` writes
recording.json and renames the folder. After a power cut or ``kill -9`` `recover` does the same with
what is there: a row cut short at the end of a file goes, the rest is a recording of the length
that was reached. At most the last `HOLD_S` + `SYNC_S` are lost.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from detach.data.recording import (
    DATASET_FILE,
    SCHEMA,
    Dataset,
    Recording,
    SensorTrack,
    read_dataset,
    read_recording,
    write_dataset,
    write_recording,
)
from detach.data.store import read_json, write_json
from detach.data.tables import read_times
from detach.edge.live.filming import INDEX, PART, Film, finished
from detach.errors import DataError, DetachError, MachineError

HOLD_S = 2.0
"""Rows wait so long for earlier ones."""
SYNC_S = 5.0
MOST_WAITING = 100_000
JOURNAL, ALIVE = "journal.json", "alive.csv"
SUFFIX = ".recording"


class Journal:
    """One recording in the making.

    Args:
        out: The data set's folder.
        name: Of the recording.
        tracks: Its sensors.
        start_utc_s: Its zero, in seconds of Unix.
        subject: Whose home it is.
        fps: Pictures a second, where there is a camera.

    Raises:
        MachineError: The folder cannot be written.
    """

    def __init__(
        self,
        out: Path,
        name: str,
        tracks: Sequence[SensorTrack],
        start_utc_s: float,
        subject: str = "home",
        fps: float | None = None,
    ) -> None:
        self.film: Film | None = None
        self._ended: Path | MachineError | None = None
        self._out, self._folder = out, out / f".{name}{SUFFIX}"
        self._tracks = {track.name: track for track in tracks}
        self._waiting: dict[tuple[str, float], dict[str, float]] = {}
        self._last_s = dict.fromkeys(self._tracks, 0.0)
        self._synced_s = 0.0
        self.counts: Counter[str] = Counter()
        about = {
            "schema": SCHEMA,
            "name": name,
            "subject": subject,
            "start_utc": datetime.fromtimestamp(start_utc_s, timezone.utc).isoformat(),
            "sensors": [asdict(track) for track in tracks],
            "fps": fps,
        }
        self._files: dict[str, BinaryIO] = {}
        try:
            self._begin(about)
        except OSError as error:
            raise MachineError(f"{self._folder}: {error.strerror or error}") from error

    def _begin(self, about: Mapping[str, Any]) -> None:
        self._out.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir()
        with contextlib.ExitStack() as held:  # whoever tries again and again leaves no heap
            held.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._lock = held.enter_context(_lock(self._folder))
            (self._folder / "sensors").mkdir()
            self._alive = held.enter_context(_headed(self._folder / ALIVE, ()))
            for name, track in self._tracks.items():
                file = _headed(self._folder / track.file, track.axes)
                self._files[name] = held.enter_context(file)
            if about["fps"] is not None:
                self.film = Film(self._folder, about["fps"])
            for folder in (self._folder / "sensors", self._folder, self._out):
                _sync_names(folder)
            write_json(self._folder / JOURNAL, about)  # last: now there is something to recover
            held.pop_all()

    def push(self, sensor: str, axis: str, t_s: float, value: float) -> None:
        """A raw value; NaN is an unknown state. Earlier than what is written: counted, dropped."""
        if self._ended is not None:
            self.counts["lost"] += 1
            return
        if t_s < self._last_s[sensor]:
            self.counts["late"] += 1
            return
        self._waiting.setdefault((sensor, t_s), {})[axis] = value
        if len(self._waiting) > MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
            self.counts["lost"] += 1

    def until(self, now_s: float) -> None:
        """Writes what is older than `HOLD_S`, and now and then forces it to disk.

        Raises:
            OSError: The disk is full or gone; the rows of this call are lost and counted, and what
                is on disk stays in order.
            MachineError: Pictures cannot be encoded.
        """
        try:
            self._write(now_s - HOLD_S)
        finally:
            if self.film is not None:
                self.film.until(now_s)
        if now_s - self._synced_s >= SYNC_S:
            self._synced_s = now_s
            _put(self._alive, f"{now_s:.4f}\n".encode())
            for file in (*self._files.values(), self._alive):
                os.fsync(file.fileno())

    def finish(self, end_s: float) -> Path:
        """Makes a recording of it, and returns its folder; asked again it gives the same answer.

        Raises:
            MachineError: It cannot be written; `recover` can do it later.
        """
        if self._ended is None:
            try:
                self._ended = self._finish(end_s)
            except OSError as error:
                self._ended = MachineError(f"{self._folder}: {error.strerror or error}")
            except DetachError as error:
                self._ended = MachineError(str(error))
        if isinstance(self._ended, MachineError):
            raise self._ended
        return self._ended

    def _finish(self, end_s: float) -> Path:
        try:
            self._write(float("inf"))
            self._end_film()
            _put(self._alive, f"{end_s:.4f}\n".encode())
        finally:
            self.film = None
            for file in (*self._files.values(), self._alive):
                with contextlib.suppress(OSError):
                    os.fsync(file.fileno())
                file.close()
            self._lock.close()
        return _finalised(self._folder, {"counters": dict(self.counts)})

    def _end_film(self) -> None:
        """Its last part; what is there already is a film without it, too."""
        if self.film is not None:
            with contextlib.suppress(OSError, MachineError):
                self.film.write()
            self.counts += self.film.counts

    def _write(self, until_s: float) -> None:
        due = sorted(key for key in self._waiting if key[1] <= until_s)
        rows: dict[str, list[str]] = {}
        for sensor, t_s in due:
            values = self._waiting.pop((sensor, t_s))
            cells = (values.get(axis) for axis in self._tracks[sensor].axes)
            rows.setdefault(sensor, []).append(f"{t_s:.4f},{','.join(map(_cell, cells))}\n")
            self._last_s[sensor] = t_s
        failed: OSError | None = None
        for sensor, lines in rows.items():
            try:
                self._append(self._files[sensor], lines)
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def _append(self, file: BinaryIO, lines: list[str]) -> None:
        try:
            _put(file, "".join(lines).encode())
        except OSError:
            self.counts["lost"] += len(lines)
            raise
        self.counts["rows"] += len(lines)


def recover(out: Path) -> list[Path]:
    """Makes recordings of what was left behind; folders that are still written to are left alone.

    Raises:
        MachineError: The disk refuses.
    """
    found = []
    for folder in sorted(out.glob(f".*{SUFFIX}")):
        try:
            lock = _lock(folder)
        except OSError:
            continue
        with lock:
            if not (folder / JOURNAL).is_file():  # it had not begun
                shutil.rmtree(folder)
                continue
            for file in [*folder.glob("sensors/*.csv"), folder / ALIVE]:
                _cut_half_row(file)
            found.append(_finalised(folder, {"recovered": True}))
    for left in out.glob(f"[!.]*/{JOURNAL}"):  # renamed, but not yet listed
        _list(left.parent)
    return found


def _finalised(folder: Path, notes: Mapping[str, Any]) -> Path:
    about = read_json(folder / JOURNAL, SCHEMA, "a recording in the making has one")
    tracks = tuple(SensorTrack(**{**t, "axes": tuple(t["axes"])}) for t in about["sensors"])
    film = finished(folder, float(about["fps"])) if (folder / INDEX).is_file() else None
    last_s = [float(x) for x in read_times(folder / ALIVE, ("t_s",))[-1:, 0]]
    for track in tracks:
        rows = read_times(folder / track.file, ("t_s", *track.axes))
        last_s += [float(x) for x in rows[-1:, 0]]
    if film is not None:
        last_s.append(film.start_s + film.frames / film.fps)
    name = str(about["name"])
    recording = Recording(
        folder=folder,
        name=name,
        subject=str(about["subject"]),
        run=name,
        duration_s=max([*last_s, 1.0]),
        start_utc=str(about["start_utc"]),
        videos=() if film is None else (film,),
        sensors=tracks,
        notes=dict(notes),
    )
    write_recording(recording)
    target = folder.with_name(name)
    try:
        folder.rename(target)
    except OSError as error:
        raise MachineError(f"{target}: {error.strerror or error}") from error
    _list(target)
    return target


def _list(recording: Path) -> None:
    """Adds it to dataset.json, where no label is needed, and clears up."""
    read_recording(recording)  # it is one, or this says why not
    out, name = recording.parent, recording.name
    if (out / DATASET_FILE).is_file():
        dataset = read_dataset(out)
    else:
        dataset = Dataset(folder=out, name=out.resolve().name, classes={}, splits={})
    named = [n for n in dataset.splits.get("pretrain", ()) if n != name]
    splits = {**dataset.splits, "pretrain": (*named, name)}
    write_dataset(replace(dataset, splits=splits))
    for needless in (ALIVE, INDEX, PART, "lock", JOURNAL):
        (recording / needless).unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """A file that is on disk can be lost as long as its name is not."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _headed(path: Path, axes: Sequence[str]) -> BinaryIO:
    """A file for rows, begun with their header."""
    file = path.open("ab", buffering=0)
    try:
        _put(file, f"{','.join(('t_s', *axes))}\n".encode())
        os.fsync(file.fileno())
    except OSError:
        file.close()
        raise
    return file


def _put(file: BinaryIO, raw: bytes) -> None:
    """All of it, or none."""
    size = file.seek(0, os.SEEK_END)
    try:
        if file.write(raw) != len(raw):
            raise OSError(28, "the disk is full")  # noqa: TRY301 -- as a write would
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def _cell(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.7g}"  # noqa: PLR0124 -- NaN


def _cut_half_row(path: Path) -> None:
    """Rows end with a line break; zeros that a file system left after a power cut go too."""
    raw = path.read_bytes().rstrip(b"\0")
    end = raw.rfind(b"\n") + 1
    if end == 0:
        raise DataError(f"{path}: not even its header was written; remove {path.parent.parent}")
    with path.open("r+b") as file:
        file.truncate(end)


def _lock(folder: Path) -> BinaryIO:
    file = (folder / "lock").open("wb", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(json.dumps({"pid": os.getpid()}).encode())
    except OSError:
        file.close()
        raise
    return file
