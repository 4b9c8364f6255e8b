"""What every importer asks of its source, its target and its limit before it reads."""

from pathlib import Path

from detach.errors import DataError, UsageError


def check_target(source: Path, out: Path) -> None:
    """That an import may be written to ``out``: nothing is overwritten, nor written into a source.

    Raises:
        DataError: ``source`` is not there, ``out`` holds something, or lies in it.
    """
    if not source.exists():
        raise DataError(f"{source} is not there; give the file or folder to import")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: already there; give a new folder, nothing is overwritten")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out}: lies inside the source, into which nothing is written")


def at_least_one(limit: int | None) -> int | None:
    """A limit of recordings, if there is one.

    Raises:
        UsageError: Less than 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    return limit
