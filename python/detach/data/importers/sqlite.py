"""SQLite files of other programs, which may be running: read, and nothing written beside them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from detach.errors import DataError

HEADER = b"SQLite format 3\0"
COPY = 'copy it with `sqlite3 {0} ".backup copy.db"`, or take it from a backup, and import that'


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write; what goes wrong while it is used becomes a `DataError`.

    Where a journal of the running program lies beside the file (``-wal``), it is read too, without
    taking part in its locks' bookkeeping; otherwise the file is taken as one that does not change.

    Raises:
        DataError: Not SQLite, half of a file, locked, or damaged.
    """
    _check_file(path)
    live = _has(path, "-wal")
    how = "mode=ro&readonly_shm=1" if live else "mode=ro&immutable=1"
    before = path.stat()
    try:
        base = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{how}", uri=True)
        try:
            base.execute("PRAGMA query_only = 1")
            base.execute("PRAGMA cache_size = -16000")
            base.text_factory = _text
            base.execute("BEGIN")  # one moment of the database, however long this takes
            yield base
        finally:
            base.close()
    except sqlite3.Error as error:
        raise DataError(_explained(path, error)) from error
    after = path.stat()
    if not live and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise DataError(
            f"{path}: it was written to while it was read, so that rows may be missing; "
            + COPY.format(path.name)
        )


def columns_of(base: sqlite3.Connection) -> dict[str, set[str]]:
    """Names of all tables, and of the columns of each."""
    names = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: {row[1] for row in base.execute(f"PRAGMA table_info({quoted(name)})")}
        for name in names
    }


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _check_file(path: Path) -> None:
    """Refuses what is not SQLite, half a copy, and a file whose last change was not finished."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head.startswith(HEADER) or len(head) < 100:
        raise DataError(f"{path}: not an SQLite database; it starts with {head[:16]!r}")
    page = int.from_bytes(head[16:18], "big")
    wanted = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
    counted = head[24:28] == head[92:96]  # otherwise the number of pages is not kept
    size = path.stat().st_size
    if counted and size < wanted and not _has(path, "-wal"):
        raise DataError(
            f"{path}: half a database: {size} of {wanted} bytes are there; the copy was cut short. "
            "Copy it again"
        )
    if _has(path, "-journal"):
        raise DataError(
            f"{path}: {path.name}-journal lies beside it, so a change was under way when it was "
            "copied, or is now; " + COPY.format(path.name)
        )


def _has(path: Path, suffix: str) -> bool:
    beside = path.with_name(path.name + suffix)
    return beside.is_file() and beside.stat().st_size > 0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _explained(path: Path, error: sqlite3.Error) -> str:
    said = str(error)
    if "locked" in said or "busy" in said or "readonly" in said or "unable to open" in said:
        return (
            f"{path}: in use, and cannot be read beside the program that writes it ({said}); "
            + COPY.format(path.name)
        )
    return (
        f"{path}: damaged ({said}): half a copy, or a disk that failed. Copy it again, or save "
        f"what can be read with `sqlite3 {path.name} .recover | sqlite3 saved.db`"
    )
