"""Ambient sensors of one sequence of HWU-USP: a CSV file of eleven columns, and maybe a clock."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.errors import DataError

HZ = 50.0
SENSORS = (
    *("Ktch_B1_Drawer", "Ktch_B2_Cupboard", "Ktch_B3_Cupboard", "Ktch_B4_Cupboard"),
    *("Ktch_Motion_1", "Ktch_Motion_2"),
    *("Ktch_T1_Cupboard", "Ktch_T2_Cupboard", "Ktch_T3_Cupboard", "Ktch_T4_Cupboard"),
    "TP_L_Power",
)
PAPER = ("Ktch_B4_Cupboard", "Ktch_Motion_1", "Ktch_Motion_2",
         "Ktch_T1_Cupboard", "Ktch_T2_Cupboard", "Ktch_T3_Cupboard")  # fmt: skip
"""Columns 4 to 9 of the file, counted from 0: the paper's 4 switches and 2 motion sensors."""
STAMP = "timestamp"
SEQUENCE = re.compile(r"([a-z]+)_s(\d+)")
UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)
"""A time stamp may count seconds, or thousandths, millionths, billionths of one."""
FASTEST_HZ, SLOWEST_HZ = 2 * HZ, HZ / 2
"""Stamps that rise otherwise are in no unit we know."""
UNKNOWN = (
    f"{STAMP} does not rise by about 1/{HZ:g} s a row in any unit of "
    f"{', '.join(f'{u:g}' for u in UNITS_S)} s; rows are taken to follow one another at {HZ:g} Hz"
)


@dataclass(frozen=True)
class Ambient:
    """What the sensors of one sequence said."""

    t_s: NDArray[np.float64]
    """From the first row [n]."""
    values: Mapping[str, NDArray[np.float64]]
    """Of every sensor [n], NaN where it said nothing."""
    doubt: str
    """Why stamps were not used, or nothing."""


def read_names(source: Path) -> tuple[str, ...] | None:
    """Columns of files without a header, from column_names.txt; None without it."""
    path = source / "column_names.txt"
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return tuple(re.findall(r"timestamp|Ktch_\w+|TP_\w+", text)) or None


def is_ambient(path: Path, named: bool) -> bool:
    """Other streams are CSV too: ambient ones name kitchen sensors, or have eleven columns."""
    if SEQUENCE.fullmatch(path.stem) is None:
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.readline()
    return "Ktch_" in head or (named and len(head.split(",")) in {len(SENSORS), len(SENSORS) + 1})


def read_ambient(path: Path, names: Sequence[str] | None) -> Ambient:
    """All rows of one file.

    Args:
        path: The file.
        names: Of its columns, where it has no header.

    Raises:
        DataError: A header without the sensors, a row of another length, a value that is no number,
            or stamps that do not rise.
    """
    head, numbers, table = _table(path, names)
    values = {name: table[:, i] for i, name in enumerate(head)}
    stamp = next((values.pop(name) for name in head if name.lower() == STAMP), None)
    lacking = [name for name in PAPER if name not in values]
    if lacking:
        raise DataError.at(path, 1, f"column {lacking[0]} is not there; found {', '.join(head)}")
    even_s = np.arange(len(table)) / HZ
    if stamp is None:
        return Ambient(even_s, values, "")
    found_s = _seconds(stamp)
    if found_s is None:
        return Ambient(even_s, values, UNKNOWN)
    bad = np.flatnonzero(~(np.diff(found_s) > 0))
    if len(bad):
        raise DataError.at(path, numbers[int(bad[0]) + 1], f"{STAMP} must rise from row to row")
    return Ambient(found_s, values, "")


def _table(
    path: Path, names: Sequence[str] | None
) -> tuple[Sequence[str], list[int], NDArray[np.float64]]:
    """Names of the columns, and numbers of the lines and values of all rows."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    if not lines:
        raise DataError(f"{path}: is empty")
    head: Sequence[str] = [cell.strip() for cell in lines[0].split(",")]
    named = any(re.search("[A-Za-z]{3}", cell) for cell in head)
    if not named and names is None:
        raise DataError.at(path, 1, "names no columns, and there is no column_names.txt")
    head = head if named or names is None else names
    numbers = [i for i, line in enumerate(lines, start=1) if line.strip()][1 if named else 0 :]
    if len(numbers) < 2:
        raise DataError(f"{path}: must hold at least 2 rows, found {len(numbers)}")
    return head, numbers, np.array([_row(path, i, lines[i - 1], len(head)) for i in numbers])


def _row(path: Path, number: int, line: str, width: int) -> list[float]:
    cells = line.split(",")
    if len(cells) != width:
        raise DataError.at(path, number, f"{width} columns expected, found {len(cells)}")
    try:
        return [float(cell) if cell.strip() else np.nan for cell in cells]
    except ValueError as error:
        raise DataError.at(path, number, f"not a number: {error}") from error


def _seconds(stamp: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Stamps [n] from the first row, those that are missing put between; None in no known unit."""
    known = np.flatnonzero(np.isfinite(stamp))
    if len(known) < 2:
        return None
    step = float(np.median(np.diff(stamp[known]) / np.diff(known)))
    unit = next((u for u in UNITS_S if 1 / FASTEST_HZ <= step * u <= 1 / SLOWEST_HZ), None)
    if unit is None:
        return None
    rows = np.arange(len(stamp))
    whole = np.interp(rows, known, stamp[known])
    before, after = rows < known[0], rows > known[-1]
    whole[before] += step * (rows[before] - known[0])
    whole[after] += step * (rows[after] - known[-1])
    return np.asarray((whole - whole[0]) * unit)
