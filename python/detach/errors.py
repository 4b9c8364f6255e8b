"""Errors a user can do something about, and the exit code each ends the command with.

A message says what is wrong and where (argument, or file and line), what was expected, what was
found, and what to do. No traceback is shown for these.
"""

import re
from pathlib import Path

NO_MEMORY = re.compile("out of memory|allocate memory|not enough memory")
"""As torch says it of CPUs and GPUs; an illegal access is another matter."""
EXIT_OK = 0
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class DetachError(Exception):
    """Base of all errors shown to a user as one message."""

    exit_code = 1
    said = True
    """Whether this process shows it; not where another one of the same run does."""


def elsewhere(error: DetachError) -> DetachError:
    """The same error where another process shows it."""
    error.said = False
    return error


class UsageError(DetachError):
    """An option or a recipe is wrong."""

    exit_code = EXIT_USAGE


class DataError(DetachError):
    """A recording, a data set, a run folder or a bundle is damaged or not what it should be."""

    exit_code = 3

    @classmethod
    def at(cls, path: Path, line: int, problem: str) -> "DataError":
        """An error at one line of a text file, lines counted from 1."""
        return cls(f"{path}:{line}: {problem}")


class MachineError(DetachError):
    """The machine lacks something: a package, a GPU, disk space, a permission."""

    exit_code = 4


def no_memory(error: Exception) -> MachineError | None:
    """What to do where memory does not suffice, on a GPU too; None where that is not it."""
    if not isinstance(error, MemoryError) and NO_MEMORY.search(str(error)) is None:
        return None
    reason = str(error).partition("\n")[0] or "no reason given"
    return MachineError(
        f"memory does not suffice ({reason}); use smaller batches, pictures or windows"
    )


class DivergedError(DetachError):
    """Training cannot go on: the loss or the weights are no longer finite."""

    exit_code = 5
