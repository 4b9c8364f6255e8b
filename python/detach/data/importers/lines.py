"""Lines of text files, one after the other, with their number."""

from collections.abc import Iterator
from pathlib import Path

from detach.data.importers.log import Log
from detach.errors import DataError

SNIFFED = 200
"""If none of so many lines at the beginning is of the format, the file is of another."""


def read_lines(
    source: Path, log: Log, patterns: tuple[str, ...]
) -> Iterator[tuple[Path, int, str]]:
    """File, line counted from 1, and text of each line that is not blank; counts it as a row.

    Args:
        source: A file, or a folder whose files that match one of ``patterns`` are taken by name.
        log: Counts rows and how much has been read.
        patterns: Of file names.

    Raises:
        DataError: No file, one that is not text, or whose first 200 lines are of another format.
    """
    files = files_of(source, patterns)
    total, before = sum(path.stat().st_size for path in files) or 1, 0
    for path in files:
        rows, strange = log.rows, _strange(log)
        with path.open("rb") as file:
            for line, raw in enumerate(file, start=1):
                before += len(raw)
                text = _text(raw, path, line)
                if not text.strip():
                    continue
                log.rows += 1
                log.share = before / total
                yield path, line, text
                if log.rows - rows == SNIFFED and _strange(log) - strange >= SNIFFED:
                    raise _other(path, log)
        if log.rows > rows and _strange(log) - strange == log.rows - rows:
            raise _other(path, log)


def files_of(source: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The file itself, or what matches in a folder, by name.

    Raises:
        DataError: Nothing matches.
    """
    if source.is_file():
        return [source]
    found = {p for pattern in patterns for p in source.glob(pattern) if p.is_file()}
    if not found:
        raise DataError(f"{source}: no file is called {' or '.join(patterns)} in this folder")
    return sorted(found)


def _text(raw: bytes, path: Path, line: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if "\0" in text:
        raise DataError.at(path, line, "not text: it holds zero bytes. Is it another format?")
    return text


def _strange(log: Log) -> int:
    """Rows that are not of the format: the reasons that begin with "not"."""
    return sum(count for why, count in log.dropped.items() if why.startswith("not "))


def _other(path: Path, log: Log) -> DataError:
    why, count = max(log.dropped.items(), key=lambda item: item[0].startswith("not ") * item[1])
    return DataError(
        f"{log.first[why].replace(path.name, str(path))}: {why}, and so in all of the first "
        f"{count} lines; the file is of another format"
    )
