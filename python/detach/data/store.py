"""Files that are whole or not there: JSON with a schema number, and cached arrays of pictures.

Everything is written under a hidden name first and renamed when whole.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.errors import DataError, MachineError, UsageError

SAMPLE_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
FULL = {errno.ENOSPC, errno.EDQUOT}
"""Of errors of a disk without room."""


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all.

    Raises:
        MachineError: The disk is full or refuses; nothing is left behind.
    """
    write_whole(path, (json.dumps(body, indent=1) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data`` so that a power cut leaves the old file or the new one.

    What was written is read again before it takes the old one's place. Of several processes that
    write one file the last one's stands.

    Raises:
        MachineError: The disk is full or the folder cannot be written; the old file is intact.
        UsageError: ``path`` has no name, as `.`.
    """
    part = _named(path).with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _check_written(part, data)
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        full = error.errno in FULL
        reason = "the disk is full" if full else error.strerror
        raise MachineError(
            f"{path}: {len(data)} bytes could not be written: {reason}; what was there is intact"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _check_written(path: Path, data: bytes) -> None:
    with path.open("rb") as file:
        for start in range(0, len(data) + 1, CHUNK_BYTES):
            if file.read(CHUNK_BYTES) != data[start : start + CHUNK_BYTES]:
                raise OSError(errno.EIO, "what is read is not what was written")


def read_json(path: Path, schema: int, expected: str) -> dict[str, Any]:
    """Reads a JSON object whose entry ``schema`` is the one given.

    Raises:
        DataError: Not there (``expected`` says what should be), not JSON, or another schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path} is not there: {expected}. Check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise DataError(f"{path}: not JSON that can be read: {error}") from error
    found = raw.get("schema") if isinstance(raw, dict) else None
    if found != schema:
        raise DataError(
            f"{path}: schema must be {schema}, found {repr(found)[:80]}; make it again with this "
            "version"
        )
    return dict(raw)


def _named(path: Path) -> Path:
    if not path.name:
        raise UsageError(f"{str(path)!r} names no file or folder of its own; give a name")
    return path


@contextlib.contextmanager
def only_one(path: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Until no other process holds ``path``, a folder or a lock file; it goes with the process."""
    made = 0 if path.is_dir() else os.O_CREAT
    held = os.open(path, os.O_RDONLY | made, 0o644)
    try:
        with contextlib.suppress(OSError):  # not every network file system has locks
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill; it replaces ``folder`` when the block ends well, or goes.

    Raises:
        MachineError: The disk is full.
    """
    part = _named(folder).with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        if error.errno in FULL:
            raise MachineError(
                f"{folder}: could not be written: the disk is full; nothing half-written is left"
            ) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fingerprint(path: Path, *made_by: object) -> str:
    """A key of a file and of what is made from it: size, time, samples of content, ``made_by``."""
    stat = path.stat()
    digest = hashlib.sha256(repr((stat.st_size, stat.st_mtime_ns, made_by)).encode())
    with path.open("rb") as file:
        for start in (0, stat.st_size // 2, max(0, stat.st_size - SAMPLE_BYTES)):
            file.seek(start)
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def cache_folders(dataset: Path, chosen: Path | None) -> tuple[Path, ...]:
    """Where caches of a data set may lie: the ``chosen`` folder, or beside it, or the user's."""
    if chosen is not None:
        return (chosen,)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(dataset.resolve()).encode()).hexdigest()[:12]
    return dataset / ".cache", user / "detach" / f"{dataset.resolve().name}-{name}"


def writable_folder(folders: Iterable[Path]) -> Path:
    """The first of ``folders`` that can be made and written to.

    Raises:
        MachineError: None can.
    """
    problems = []
    for folder in folders:
        probe = folder / f".write.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            problems.append(f"{folder} ({error.strerror or error})")
        else:
            return folder
    raise MachineError(
        f"no folder for prepared pictures can be written: {', '.join(problems)}; "
        "set XDG_CACHE_HOME to one that can"
    )


def write_array(path: Path, rows: Iterable[NDArray[Any]], expected: int) -> int:
    """Streams equal ``rows`` into a .npy file of shape [n, *row]; returns n.

    Plain writes, not a memory map: on a full disk a map ends the process without a word.

    Args:
        path: The file; it appears when all rows are in it.
        rows: Arrays of one shape and type, at least one.
        expected: How many rows there will be, for the message when there is no room.

    Raises:
        MachineError: The disk is full or refuses; nothing is left behind.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    done, size = 0, 0
    try:
        with part.open("wb") as file:
            for done, row in enumerate(rows, start=1):
                if done == 1:
                    size = row.nbytes
                    _write_header(file, row, expected)
                file.write(np.ascontiguousarray(row).data)
            file.seek(0)
            _write_header(file, row, done)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise MachineError(
            f"{path}: writing {size * expected / 1e6:.1f} MB failed: {error.strerror or error}; "
            "free some space or choose another cache folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return done


def _write_header(file: Any, row: NDArray[Any], count: int) -> None:
    """NumPy pads its headers so that the first axis may grow in place."""
    described = np.lib.format.header_data_from_array_1_0(row)
    described["shape"] = (count, *row.shape)
    np.lib.format.write_array_header_1_0(file, described)
