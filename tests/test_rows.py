"""The list of rows: what each changes, which tables name it, what it shares with the method."""

from pathlib import Path

import pytest

from detach.config import override, preset
from detach.reproduce.figures import FIGURES
from detach.reproduce.homes import HOMES
from detach.reproduce.jobs import make_jobs
from detach.reproduce.paper import ARXIV, CAMERA_READY
from detach.reproduce.questions import QUESTIONS
from detach.reproduce.queue import budget_s
from detach.reproduce.rows import LEAD, ROWS, TABLES, configured, wanted


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_configuration_of_its_own(name: str) -> None:
    base = preset("recommended")
    config = configured(name, base, 3)
    assert config.seed == 3
    changed = override(config, {"seed": 0}) != base
    assert changed == (name != LEAD)
    others = [configured(other, base, 3) for other in ROWS if other != name]
    assert config not in others


def test_tables_name_rows_that_exist_and_their_numbers_rows_of_theirs() -> None:
    assert set(wanted(tuple(TABLES))) <= set(ROWS)
    for number, name in (*ARXIV, *CAMERA_READY):
        assert name in TABLES[number].rows
    for number in range(1, 7):
        assert all((number, name) in ARXIV for name in TABLES[number].rows)
    assert ARXIV[1, "cav-mae"] == ((0.56, 0.58), (0.70, 0.55))
    assert ARXIV[3, "infonce"] == ((0.59, 0.73), (0.49, 0.62))
    assert CAMERA_READY[1, LEAD].opportunity.map == 0.87


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("45", 45), ("1.5 m", 90)]
)
def test_budgets_are_read(text: str, seconds: float) -> None:
    assert budget_s(text) == seconds


def test_rows_that_differ_in_stage_2_alone_share_stage_1(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, {"x": tmp_path}, tuple(ROWS), 2, preset("recommended"))
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
    sharing = {job.row for job in jobs if job.lead is not None}
    assert {"infonce", "no-spatial-weight", "hcl", "stage1", "weight-learns"} <= sharing
    apart = {LEAD, "global", "primus", "odc", "no-refinement", "confident-100", "light", "shuffled"}
    assert not sharing & apart
    one = next(job for job in jobs if job.row == "hcl" and job.seed == 1)
    assert one.lead == tmp_path / "runs" / "x" / LEAD / "seed1"


def test_rows_that_take_long_have_fewer_seeds(tmp_path: Path) -> None:
    rows = ("detach", "resnet18", "resnet50-112")
    jobs = make_jobs(tmp_path, {"x": tmp_path}, rows, 3, preset("recommended"))
    assert [(j.row, j.seed) for j in jobs if j.row != "detach"] == [
        ("resnet18", 0), ("resnet50-112", 0),
    ]  # fmt: skip
    assert sum(job.row == "detach" for job in jobs) == 3


def test_every_try_is_a_row_in_a_home() -> None:
    for question in QUESTIONS.values():
        assert {t.row for t in question.tries} <= set(ROWS)
        assert {t.home for t in question.tries} <= set(HOMES)
    assert not set(QUESTIONS) & set(FIGURES)
