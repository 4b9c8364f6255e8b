"""From a log to a data set: changes are spooled, cut at midnight and at silences, and written."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detach.data.importers.clock import EARLIEST_S, LATEST_S
from detach.data.importers.film import stretches_of
from detach.data.importers.log import Change, Log, Options, Reader, matches
from detach.data.importers.pieces import Piece, cut, film_pieces
from detach.data.importers.spool import Spool
from detach.data.importers.target import check_target
from detach.data.importers.writing import Writer, stamp
from detach.data.recording import Dataset, read_dataset, read_recording, write_dataset
from detach.data.store import new_folder
from detach.errors import DataError, MachineError

SAY_EVERY_S = 5.0
SPOOL = ".spool"
Say = Callable[[str], None]


def import_events(
    read: Reader,
    source: Path,
    out: Path,
    options: Options | None = None,
    *,
    progress: Say | None = None,
) -> Dataset:
    """Makes a data set from a log of a home, whole or not at all.

    Args:
        read: The reader of the format.
        source: File or folder; nothing is written into it.
        out: The data set to make; must not exist or be empty.
        options: How the log becomes recordings.
        progress: Called with a line of text now and then.

    Raises:
        DataError: Source damaged, of another format or without a change; ``out`` is not empty.
        MachineError: No room, no permission.
    """
    options, say = options or Options(), progress or (lambda _line: None)
    source, out = Path(source), Path(out)
    check_target(source, out)
    log = Log()
    with _written(out) as part:
        spool = Spool(part / SPOOL, options.hours, options.zone)
        begun = time.monotonic()
        for change in _watched(read(source, options, log), log, say):
            _take(change, log, spool, options)
        say(f"100 % read: {log.rows} rows, {spool.rows} changes of {len(spool.names)} sensors")
        if not spool.rows:
            raise DataError(_nothing(source, log))
        writer = Writer(part, log, spool, options)
        names = [writer.write(piece) for piece in _told(_pieces(log, spool, options), say)]
        shutil.rmtree(part / SPOOL)
        writer.finish()
        if not any(names):
            raise DataError(_nothing(source, log))
        if log.segments and not writer.counts["written"]:
            raise DataError(_apart(source, log, spool))
        _finish(part, source, log, writer)
        for line in _summary(log, writer, time.monotonic() - begun):
            say(line)
    return read_dataset(out)


def _pieces(log: Log, spool: Spool, options: Options) -> Iterator[Piece]:
    if log.segments:
        return film_pieces(spool, stretches_of(log.segments, 3600 * options.hours))
    return cut(spool.periods(), 3600 * options.gap_hours)


def _take(change: Change, log: Log, spool: Spool, options: Options) -> None:
    t_s, sensor, value = change
    if options.include and not matches(sensor, options.include):
        log.noted["change of a sensor that was not asked for"] += 1
    elif not EARLIEST_S <= t_s < LATEST_S:
        log.noted["change before 1990 or after 2099"] += 1
    else:
        spool.add(t_s, sensor, value)


def _watched(changes: Iterator[Change], log: Log, say: Say) -> Iterator[Change]:
    """The same changes, with a line of progress every few seconds."""
    begun = said = time.monotonic()
    for count, change in enumerate(changes):
        yield change
        if count % 4096 == 4095 and time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            left_s = (said - begun) * (1 / max(log.share, 1e-3) - 1)
            say(f"{log.share:.0%} read, {log.rows} rows, about {left_s:.0f} s left")


def _told(pieces: Iterator[Piece], say: Say) -> Iterator[Piece]:
    said = time.monotonic()
    for count, piece in enumerate(pieces, start=1):
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            say(f"writing recording {count}")
        yield piece


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out`` that takes its name at the end.

    Raises:
        MachineError: The disk is full or refuses.
    """
    try:
        with new_folder(out) as part:
            yield part
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise MachineError(
            f"{out}: the import stopped: {error.strerror or error}{where}; nothing was kept. "
            "Check the free space and the rights"
        ) from error


def _finish(part: Path, source: Path, log: Log, writer: Writer) -> None:
    """Writes dataset.json: all recordings pretrain; labelled ones are parted in order of time."""
    names = tuple(sorted(writer.starts, key=lambda name: writer.starts[name]))
    for name in names:
        read_recording(part / name)
    labelled = tuple(n for n in names if n in writer.labelled)
    held = max(1, len(labelled) // 5) if len(labelled) >= 3 else 0
    first, last = len(labelled) - 2 * held, len(labelled) - held
    later = set(labelled[first:])
    notes: dict[str, Any] = {
        "source": source.name,
        "clock": "UTC" if log.utc else "local, zone not stated: times of day are right, UTC is not",
        "rows": {"read": log.rows, "used": log.used, "left out": dict(log.dropped)},
        "changes": dict(writer.counts),
        "put right": dict(log.noted),
        "first": log.first,
        "sensors": {name: log.guessed[name] for name in writer.sensors},
    }
    write_dataset(
        Dataset(
            folder=part,
            name=source.name,
            classes={track: tuple(found) for track, found in writer.classes.items()},
            splits={
                "pretrain": tuple(n for n in names if n not in later),
                "train": labelled[:first],
                "val": labelled[first:last],
                "test": labelled[last:],
            },
            notes=notes,
        )
    )


def _summary(log: Log, writer: Writer, took_s: float) -> Iterator[str]:
    labels = f", {len(log.stretches)} labels" if log.stretches else ""
    found = f"{len(writer.starts)} recordings of {len(writer.sensors)} sensors"
    yield f"{found}{labels} in {took_s:.0f} s"
    kinds = sorted({log.tracks[name].kind for name in writer.sensors})
    for kind in kinds:
        own = [n for n in writer.sensors if log.tracks[n].kind == kind]
        why = sorted({log.guessed[name] for name in own})
        yield f"{kind}: {len(own)} sensors, because {'; '.join(why[:4])}"
    for title, counts in (("left out", log.dropped), ("put right", log.noted)):
        for what, count in counts.most_common():
            where = f", first at {log.first[what]}" if what in log.first else ""
            yield f"{title}: {count} x {what}{where}"
    for what, count in writer.counts.items():
        if count and what not in {"written", "all"}:
            yield f"changes: {count} {what}"


def _nothing(source: Path, log: Log) -> str:
    most = log.dropped.most_common(4) + log.noted.most_common(2)
    counted = ", ".join(f"{n} x {why}" for why, n in most)
    return (
        f"{source}: not one recording came out of {log.rows} rows ({counted or 'none at all'}); "
        "check the format, and the patterns of sensors if some were given"
    )


def _apart(source: Path, log: Log, spool: Spool) -> str:
    """Says that film and sensors are of different times."""
    periods = spool.periods()
    ends = (log.segments[0].start_s, log.segments[-1].end_s, periods[0].first_s, periods[-1].last_s)
    film_from, film_to, from_, to = (stamp(t_s) for t_s in ends)
    return (
        f"{source}: no change of a sensor falls into the film, which runs from {film_from} to "
        f"{film_to}; the sensors run from {from_} to {to}. Is a clock wrong, or set to local time?"
    )
