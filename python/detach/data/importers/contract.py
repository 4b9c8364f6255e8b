"""What is asked of a reader of logs, and the check that any reader must pass.

A reader is a generator ``read(source, options, log)``. It

1. yields `Change`s in any order, as it reads: what it holds in memory does not grow with the
   source;
2. tells each sensor to `Log.sensor` before its first change, with kind, polarity and why that kind;
   switch and motion sensors have the values 0 and 1, NaN is "not available";
3. counts each row in ``log.rows``, and then once more: in ``log.used`` when it gave a change or a
   label, or by `Log.drop` with a reason, file and line; what it puts right it says with `Log.note`;
4. writes nothing into the source, and refuses another format with a `DataError` that names the
   file, the line where there is one, what was expected, what was found and what to do;
5. keeps ``log.share``, how much has been read, rising from 0 to 1, for the line of progress.

`import_events` does the rest: cutting, sorting, removing what is there twice, writing whole or not
at all.
"""

import hashlib
import math
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.importers.days import import_events
from detach.data.importers.log import Change, Log, Options, Reader
from detach.data.recording import SENSOR_KINDS, Dataset, Recording
from detach.errors import DataError

HELD_MB = 24.0
"""What a reader may hold in memory at once, beside the labels."""
MANY = 20
"""So many problems with changes are enough to know."""


def check_importer(
    read: Reader,
    source: Path,
    out: Path,
    options: Options | None = None,
    *,
    held_mb: float = HELD_MB,
) -> list[str]:
    """Imports ``source`` into ``out``; says in words what the reader does not keep of its contract.

    Args:
        read: The reader.
        source: A log of its format with at least two changes.
        out: A new folder, which is left with the data set.
        options: How the log becomes recordings.
        held_mb: Memory that reading may take.
    """
    options, before, lines = options or Options(), _snapshot(source), list[str]()
    problems = _check_reading(read, source, options, held_mb)
    problems += _check_interrupted(read, source, out, options)
    dataset = import_events(read, source, out, options, progress=lines.append)
    problems += _check_dataset(dataset)
    if not lines or not all(line.strip() for line in lines):
        problems.append("no line of progress")
    if _snapshot(source) != before:
        problems.append("the source is not as it was before")
    return problems


def _check_reading(read: Reader, source: Path, options: Options, held_mb: float) -> list[str]:
    """What the reader yields and counts, without anything being written."""
    log, problems = Log(), list[str]()
    tracemalloc.start()
    try:
        changes = 0
        for problem in _check_changes(read(source, options, log), log):
            changes += 1
            problems += [problem] * bool(problem and len(problems) < MANY)
        peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    if peak_mb > held_mb:
        problems.append(f"{peak_mb:.0f} MB were held while reading, at most {held_mb:.0f} expected")
    problems += _check_counts(log)
    return problems if changes > 1 else [*problems, f"{changes} changes: too few to check anything"]


def _check_changes(changes: Iterator[Change], log: Log) -> Iterator[str]:
    """For each change what is wrong with it, or nothing."""
    share = 0.0
    for t_s, sensor, value in changes:
        track = log.tracks.get(sensor)
        if track is None:
            yield f"change of {sensor!r}, which was not told to the log"
        elif track.binary and value not in {0.0, 1.0} and not math.isnan(value):
            yield f"{track.kind} {sensor!r} has the value {value}"
        elif not math.isfinite(t_s):
            yield f"change of {sensor!r} at {t_s}"
        elif not share <= log.share <= 1:
            yield f"log.share went from {share} to {log.share}"
        else:
            yield ""
        share = log.share


def _check_counts(log: Log) -> list[str]:
    """Rows that add up, reasons with their place, sensors with kind, polarity and reason."""
    problems = []
    if log.rows != log.used + log.dropped.total():
        kept = f"{log.used} used and {log.dropped.total()} dropped"
        problems.append(f"{log.rows} rows were read, but {kept}")
    problems += [f"no file and line for {why!r}" for why in log.dropped if why not in log.first]
    for name, track in log.tracks.items():
        if track.kind not in SENSOR_KINDS:
            problems.append(f"{name!r} has the kind {track.kind!r}")
        if track.polarity not in {1, -1}:
            problems.append(f"{name!r} has the polarity {track.polarity}")
        if not log.guessed.get(name):
            problems.append(f"no word why {name!r} is a {track.kind}")
    return problems


def _check_interrupted(read: Reader, source: Path, out: Path, options: Options) -> list[str]:
    """An import that fails on the way leaves nothing."""

    def failing(source: Path, options: Options, log: Log) -> Iterator[Change]:
        for count, change in enumerate(read(source, options, log)):
            if count == 1:
                raise DataError("stopped on purpose")
            yield change

    beside = set(out.parent.iterdir())
    try:
        import_events(failing, source, out, options)
    except DataError as error:
        if str(error) != "stopped on purpose":
            return [f"an error while reading became another: {error}"]
    left = set(out.parent.iterdir()) - beside
    return [f"an import that failed left {path.name}" for path in sorted(left)]


def _check_dataset(dataset: Dataset) -> list[str]:
    """Recordings that can be read, whose changes rise, and counts that add up."""
    problems, written = list[str](), 0
    for recording in dataset.recordings():
        for track in recording.sensors:
            t_s, values = recording.read_sensor(track)
            problems += _check_sensor(recording, track.name, t_s, values[:, 0])
            written += len(t_s)
        for labels in recording.labels:
            found = recording.read_labels(labels.name)
            if len(found.end_s) and found.end_s.max() > recording.duration_s + 1e-3:
                problems.append(f"{recording.name}: a label of {labels.name} goes on after the end")
    counts = dict(dataset.notes["changes"])
    total, _ = counts.pop("all"), counts.pop("out_of_order")
    if total != sum(counts.values()):
        problems.append(f"{total} changes, but {counts}")
    if written < counts["written"]:
        problems.append(f"{counts['written']} changes were said to be written, {written} are there")
    return problems


def _check_sensor(
    recording: Recording, name: str, t_s: NDArray[np.float64], values: NDArray[np.float32]
) -> list[str]:
    if not len(t_s):
        return []
    problems = []
    if t_s[0] < 0 or t_s[-1] > recording.duration_s + 1e-3:
        problems.append(f"{recording.name}: {name} has a change outside the recording")
    same = (values[1:] == values[:-1]) & (t_s[1:] > t_s[:-1])
    if same.any():
        problems.append(f"{recording.name}: {name} has rows that change nothing")
    return problems


def _snapshot(source: Path) -> list[tuple[str, int, int, str]]:
    """All files of the source: name, size, time, content."""
    beside = source.parent.glob(source.name + "*")  # a journal of SQLite, say
    files = sorted(source.rglob("*") if source.is_dir() else beside)
    found = [(p, p.stat()) for p in files if p.is_file()]
    return [
        (p.as_posix(), s.st_size, s.st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest())
        for p, s in found
    ]
