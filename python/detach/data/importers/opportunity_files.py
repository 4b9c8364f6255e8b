"""Files of one run of Opportunity++: subtitles of the film, and rows of sensors and labels."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.importers import opportunity_columns as columns
from detach.data.importers.cue_sync import Mark
from detach.errors import DataError

TIMES = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})\s*-->\s*(\d+):(\d\d):(\d\d)[,.](\d{1,3})")
TEXT = re.compile(r"\s*(\d{1,6})\s*-\s*(.+)")
UNMARKED = {"null", "none"}
"""Texts of cues that say that nothing is done, as code 0 does."""


@dataclass(frozen=True)
class Rows:
    """One sensor file."""

    t_s: NDArray[np.float64]
    """[n]"""
    values: Mapping[int, NDArray[np.float64]]
    """Of each column that was asked for, [n]."""
    short: int
    """Rows with fewer than 250 columns, filled up with nothing."""


def read_cues(path: Path) -> list[Mark]:
    """Cues of a subtitle file whose text starts with a code.

    Those without text, of code 0, or without length mark nothing and are left out.

    Raises:
        DataError: A cue whose times or text are of another form; or none.
    """
    marks: list[Mark] = []
    times: tuple[float, float] | None = None
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        found = TIMES.search(line)
        if found:
            times = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
            continue
        if "-->" in line:
            raise DataError.at(path, number, f"not HH:MM:SS,mmm --> HH:MM:SS,mmm: {line.strip()!r}")
        if times is not None:
            marks += _marked(path, number, times, line.strip())
            times = None
    if not marks:
        raise DataError(f"{path}: holds no cue like `406516 - Open Door 1`; is the download whole?")
    return marks


def read_rows(path: Path, wanted: Sequence[int], clock: int = columns.MILLISEC) -> Rows:
    """Some columns of a sensor file, counted from 1.

    Args:
        path: The file.
        wanted: Which columns.
        clock: The one that counts milliseconds.

    Raises:
        DataError: A value that is no number, a clock that does not rise, rows of another length, or
            too few.
    """
    chosen = sorted({clock, *wanted})
    lengths: list[int] = []
    numbered = list(_cells(path, chosen, lengths))
    if len(numbered) < 2:
        raise DataError(
            f"{path}: must hold rows of {columns.COLUMNS} columns, found {len(numbered)}"
        )
    if (usual := sorted(lengths)[len(lengths) // 2]) < columns.COLUMNS:
        raise DataError(f"{path}: {_other_length(usual)} in most rows")
    values = np.array([row for _, row in numbered])
    t_s = values[:, chosen.index(clock)] / 1000.0
    bad = np.flatnonzero(~(np.diff(t_s) > 0))
    if len(bad):
        line = numbered[int(bad[0]) + 1][0]
        raise DataError.at(path, line, "MILLISEC must rise from row to row")
    short = sum(n < columns.COLUMNS for n in lengths)
    return Rows(t_s, {c: values[:, i] for i, c in enumerate(chosen)}, short)


def _cells(
    path: Path, chosen: Sequence[int], lengths: list[int]
) -> Iterator[tuple[int, list[float]]]:
    """Lines and what stands in chosen columns; ``lengths`` takes how many columns there are."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            cells = line.split()
            if not cells:
                continue
            if len(cells) > columns.COLUMNS:
                raise DataError.at(path, number, _other_length(len(cells)))
            lengths.append(len(cells))
            if len(cells) < columns.COLUMNS and not line.endswith("\n"):
                return  # the download broke off within the row, maybe within a number
            try:
                row = [float(cells[c - 1]) if c <= len(cells) else np.nan for c in chosen]
            except ValueError as error:
                raise DataError.at(path, number, f"not a number: {error}") from error
            yield number, row


def _marked(path: Path, number: int, times: tuple[float, float], said: str) -> list[Mark]:
    """The cue of these times and text, or nothing."""
    if not said or said.isdigit() or said.lower() in UNMARKED:  # digits: the next cue's number
        return []
    match = TEXT.match(said)
    if match is None:
        raise DataError.at(path, number, f"not `CODE - NAME`: {said!r}")
    if times[1] < times[0]:
        raise DataError.at(path, number, "a cue that ends before it starts")
    code = int(match[1])
    return [Mark(*times, code)] if code and times[1] > times[0] else []


def _other_length(found: int) -> str:
    return f"{columns.COLUMNS} columns expected, found {found}"


def _seconds(cells: Sequence[str]) -> float:
    hours, minutes, seconds, rest = cells
    return 3600.0 * int(hours) + 60.0 * int(minutes) + int(seconds) + int(rest.ljust(3, "0")) / 1000
