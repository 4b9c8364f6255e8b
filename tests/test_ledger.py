"""The ledger: every number of a table becomes a line that says where it comes from."""

import csv
import re
from pathlib import Path

import pytest

from detach import ledger
from detach.errors import DataError, MachineError
from detach.table import Cell, Difference, Group, Pool, Row, Table

NAN = float("nan")
ROWS = (
    Row("detach", "method", 3, {"weighted_f1": Cell(0.91, 0.01, 0.9, 0.92)}),
    Row("majority class", "reference", 0, {"weighted_f1": Cell(0.01, NAN, 0.0, 0.02)}),
)
TABLE = Table(
    (
        Group(
            "home", "action", "split", "windows", ("a", "b"), (), 592, 16, "blocks of 60 s", ROWS,
            (Difference("detach", "majority class", 0.9, 0.88, 0.91),), (),
        ),
    ),
    (Pool("home", 592, (Row("detach", "method", 3, {"R@1": Cell(0.1, 0.0, NAN, NAN)}),)),),
)  # fmt: skip


def test_lines_are_added_under_one_header(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    assert ledger.append(path, TABLE, "x86_64, 2 cores") == 4
    assert ledger.append(path, TABLE, "x86_64, 2 cores") == 4
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    first, _, difference, found = rows[:4]
    assert (first["provider"], first["value"], first["low"], first["seeds"]) == (
        "detach", "0.9100", "0.9000", "3",
    )  # fmt: skip
    assert rows[1]["sd"] == rows[1]["seeds"] == ""
    assert (difference["provider"], difference["value"]) == ("detach - majority class", "0.9000")
    assert (found["what"], found["metric"], found["low"]) == ("retrieval", "R@1", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", first["date"])
    assert re.fullmatch(r"[0-9a-f]{7,}|", first["commit"])


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be written"):
        ledger.append(tmp_path, TABLE, "cpu")


@pytest.mark.parametrize(
    ("text", "said"),
    [("figure,row\n12,x\n", "columns must be date,commit,.*found figure,row"), (None, "cut off")],
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(text or ",".join(ledger.COLUMNS) + "\n2026-01-01,half")
    before = path.read_bytes()
    with pytest.raises(DataError, match=said):
        ledger.append_lines(path, (), "")
    assert path.read_bytes() == before
