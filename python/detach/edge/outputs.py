"""Files that a command writes: examined before the work, and whole or not there after it."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from detach.data.store import FULL
from detach.errors import MachineError, UsageError


def check_writable(path: Path) -> None:
    """That a file can be written, in a folder that is there or can be made.

    Raises:
        UsageError: It is a folder or a device, or a file stands where its folder is to be.
        MachineError: No right to write, or a disk that takes nothing.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is a folder or a device; name a file to write")
    there = next(p for p in path.absolute().parents if p.exists())
    if not there.is_dir():
        raise UsageError(f"{path}: {there} is a file; name another folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise MachineError(
            f"{path} cannot be written: {there}: {reason}; name another folder"
        ) from error


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """That all outputs can be written, and overwrite neither an input nor one another.

    Args:
        outputs: Files to write.
        inputs: Files that are read, and folders into which nothing is written.

    Raises:
        UsageError: One is an input or lies in one, or is no file, or two are the same.
        MachineError: One cannot be written.
    """
    for path in outputs:
        check_writable(path)
        real = path.resolve()
        for source in map(Path.resolve, inputs):
            if real == source:
                raise UsageError(f"{path} is what is read; name another file to write")
            if real.is_relative_to(source):
                raise UsageError(
                    f"{path} lies in {source}, which is read; name a file that does not"
                )
    for one, other in combinations(outputs, 2):
        if one.resolve() == other.resolve():
            raise UsageError(f"{other} is named for two outputs; give each a file of its own")


@contextlib.contextmanager
def line_file(path: Path) -> Iterator[Callable[[str], object]]:
    """What takes the lines of a text file, which appears when the block ends well.

    Raises:
        MachineError: The disk is full; what was there is intact.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="") as file:
            yield lambda line: file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise MachineError(
            f"{path}: could not be written: the disk is full; what was there is intact"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
