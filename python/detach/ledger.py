"""benchmarks/results.csv: every published number, what it was measured on, and by which code."""

import csv
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

from detach.errors import DataError, MachineError
from detach.table import Row, Table

COLUMNS = (
    "date", "commit", "device", "what", "data", "items", "provider", "seeds",
    "metric", "value", "sd", "low", "high",
)  # fmt: skip


def append(path: Path, table: Table, device: str) -> int:
    """Adds one line for every number of ``table`` to the CSV file ``path``, making it if needed.

    Returns:
        How many lines were added.

    Raises:
        MachineError: The file cannot be written.
    """
    return append_lines(path, _rows(table), device)


def append_lines(path: Path, lines: Iterable[Mapping[str, object]], device: str) -> int:
    """Adds ``lines``, by column, to the CSV file ``path``; columns that are absent stay empty.

    Returns:
        How many lines were added.

    Raises:
        DataError: The file has other columns.
        MachineError: The file cannot be written.
    """
    stamp = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "device": device,
    }
    rows = [{**stamp, **line} for line in lines]
    try:
        begun = _begun(path)
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if not begun:
                writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror}") from error
    return len(rows)


def _begun(path: Path) -> bool:
    """Whether there are lines of ours, whole ones.

    Raises:
        DataError: There is something else.
    """
    if not path.is_file() or not path.stat().st_size:
        return False
    text = path.read_bytes()
    head, _, _ = text[:1000].partition(b"\n")
    if head.decode(errors="replace") != (columns := ",".join(COLUMNS)):
        raise DataError(
            f"{path}:1: the columns must be {columns}, found {head[:80].decode(errors='replace')}; "
            "name another file"
        )
    if not text.endswith(b"\n"):
        raise DataError(f"{path}: its last line is cut off; mend or remove that line")
    return True


def machine() -> str:
    """What stands in the column ``device`` where nothing is timed."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def commit() -> str:
    """The commit of the source tree this runs from; empty where it is installed without one."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(  # noqa: S603 -- a fixed command
            command, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _rows(table: Table) -> Iterator[dict[str, object]]:
    for group in table.groups:
        shared = {"data": group.dataset, "items": group.items}
        what = f"{group.track}, {group.protocol}"
        for row in group.rows:
            yield from _cells(row, {"what": what, **shared})
        for pair in group.differences:
            yield {
                "what": what, **shared, "provider": f"{pair.a} - {pair.b}", "seeds": "",
                "metric": "weighted_f1", "value": _short(pair.value), "sd": "",
                "low": _short(pair.low), "high": _short(pair.high),
            }  # fmt: skip
    for pool in table.retrieval:
        shared = {"what": "retrieval", "data": pool.dataset, "items": pool.windows}
        for row in pool.rows:
            yield from _cells(row, shared)


def _cells(row: Row, shared: dict[str, object]) -> Iterator[dict[str, object]]:
    for metric, cell in row.cells.items():
        yield {
            **shared, "provider": row.name, "seeds": row.seeds or "", "metric": metric,
            "value": _short(cell.mean), "sd": _short(cell.sd),
            "low": _short(cell.low), "high": _short(cell.high),
        }  # fmt: skip


def rounded(numbers: Mapping[str, float]) -> dict[str, object]:
    """Numbers by column as the ledger writes them; NaN is an empty cell."""
    return {name: _short(value) for name, value in numbers.items()}


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
