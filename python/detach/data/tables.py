"""Text tables on disk: numbers with a time in front, and named intervals.

Both readers say which line is wrong. They know nothing of recordings.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from detach.errors import DataError


@dataclass(frozen=True)
class Intervals:
    """Labelled stretches of time, in order of their start."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    name: tuple[str, ...]
    weight: NDArray[np.float32]
    """Probability or confidence, 1 where the file gives none."""


def read_numbers(path: Path, columns: Sequence[str]) -> NDArray[np.float64]:
    """A CSV of numbers with exactly these ``columns``, as [n, columns]; an empty cell is NaN.

    Row i stands in line i + 2 of the file.

    Raises:
        DataError: Not text, another header, or a line that is not so many numbers.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    header, _, body = text.partition("\n")
    if header.strip().split(",") != list(columns):
        expected = ",".join(columns)
        _refuse(path, 1, f"header must be {expected!r}, found {header[:80]!r}")
    lines = body.rstrip().split("\n")
    if lines == [""]:
        return np.zeros((0, len(columns)))
    try:
        rows = np.loadtxt(_name_empty_cells(lines), delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        _blame_line(path, lines, len(columns), str(error))
    if rows.shape != (len(lines), len(columns)):  # blank lines are skipped, line numbers would slip
        _blame_line(path, lines, len(columns), "blank or uneven lines")
    return rows


def read_times(
    path: Path, columns: Sequence[str], *, may_fall: bool = False
) -> NDArray[np.float64]:
    """`read_numbers` whose first column is a time that is always there and never falls.

    With ``may_fall`` it may: for whoever puts a clock right that was set.

    Raises:
        DataError: Also a time that is missing, or a clock that runs backwards.
    """
    rows = read_numbers(path, columns)
    t_s = rows[:, 0]
    if not np.isfinite(t_s).all():
        line = int(np.flatnonzero(~np.isfinite(t_s))[0]) + 2
        _refuse(path, line, "the time is missing; every row needs a time in seconds")
    back = np.flatnonzero(np.diff(t_s) < 0)
    if back.size and not may_fall:
        i = int(back[0])
        _refuse(
            path,
            i + 3,
            f"the clock runs backwards, from {t_s[i]:.3f} s to {t_s[i + 1]:.3f} s; "
            "times must not fall. Sort the file, or cut it where the clock was set; the clock of a "
            "sampled sensor is put right by sensors.policy, NAME=resync",
        )
    return rows


def write_numbers(
    path: Path, columns: Sequence[str], t_s: NDArray[Any], values: NDArray[Any], digits: int
) -> None:
    """Writes times [n] (0.1 ms) and values [n, columns - 1]; NaN becomes an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="ascii") as file:
        file.write(",".join(columns) + "\n")
        for t, row in zip(t_s.tolist(), values.tolist(), strict=True):
            cells = ("" if x != x else f"{x:.{digits}g}" for x in row)  # noqa: PLR0124
            file.write(f"{t:.4f},{','.join(cells)}\n")


def read_intervals(path: Path) -> Intervals:
    """A label file: start_s,end_s,name and perhaps weight.

    Raises:
        DataError: Not text, another header, a row that is not so, or one that ends before it
            starts.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from error
    columns = rows[0] if rows else []
    if columns not in (["start_s", "end_s", "name"], ["start_s", "end_s", "name", "weight"]):
        found = ",".join(columns)[:80]
        _refuse(
            path, 1, f"header must be 'start_s,end_s,name' and maybe ',weight', found {found!r}"
        )
    parsed = [_interval(path, n, row, len(columns)) for n, row in enumerate(rows[1:], start=2)]
    parsed.sort(key=lambda row: row[0])
    table = np.asarray([(s, e, w) for s, e, _, w in parsed], dtype=np.float64).reshape(-1, 3)
    return Intervals(
        table[:, 0].copy(),
        table[:, 1].copy(),
        tuple(row[2] for row in parsed),
        table[:, 2].astype(np.float32),
    )


def write_intervals(
    path: Path, rows: Iterable[tuple[float, float, str] | Sequence[Any]], digits: int = 6
) -> None:
    """Writes rows (start_s, end_s, name[, weight]) in order of time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = sorted((tuple(row) for row in rows), key=lambda row: (row[0], row[1]))
    weighted = any(len(row) > 3 for row in listed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["start_s", "end_s", "name"] + ["weight"] * weighted)
        for start, end, name, *weight in listed:
            cells = [f"{w:.{digits}g}" for w in (weight or [1.0])] if weighted else []
            writer.writerow([f"{start:.4f}", f"{end:.4f}", name, *cells])


def _name_empty_cells(lines: list[str]) -> list[str]:
    """Empty cells as ``nan``, which the fast parser needs; most files have none."""
    return [
        ",".join(cell if cell.strip() else "nan" for cell in line.split(","))
        if ",," in line or ", " in line or line[:1] == "," or line[-1:] == ","
        else line
        for line in lines
    ]


def _refuse(path: Path, line: int, problem: str) -> NoReturn:
    raise DataError.at(path, line, problem)


def _blame_line(path: Path, lines: list[str], columns: int, problem: str) -> NoReturn:
    # Runs only when the fast parser has refused the file, to find the first line it may mean.
    for number, line in enumerate(lines, start=2):
        cells = line.split(",")
        if len(cells) != columns:
            _refuse(path, number, f"{columns} values expected, found {line[:60]!r}")
        for cell in cells:
            if cell.strip() and not _is_number(cell):
                _refuse(
                    path, number, f"{cell[:40]!r} is not a number; a missing value is an empty cell"
                )
    raise DataError(f"{path}: not a table of numbers: {problem}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _interval(
    path: Path, line: int, row: list[str], columns: int
) -> tuple[float, float, str, float]:
    if len(row) != columns:
        raise DataError.at(path, line, f"{columns} cells expected, found {','.join(row)[:60]!r}")
    try:
        start, end, weight = float(row[0]), float(row[1]), float(row[3]) if columns > 3 else 1.0
    except ValueError as error:
        raise DataError.at(path, line, f"start_s,end_s,name expected: {error}") from error
    if not (math.isfinite(start) and math.isfinite(end)):
        raise DataError.at(path, line, f"times must be finite, found {row[0]!r} to {row[1]!r}")
    if not start <= end:
        raise DataError.at(path, line, f"ends at {end} s, before its start at {start} s")
    if not 0 <= weight <= 1:
        raise DataError.at(path, line, f"weight must be in [0, 1], found {weight}")
    return start, end, row[2], weight
