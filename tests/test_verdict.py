"""What is said under a table: the best baseline, and directions beside the authors'."""

import math
from dataclasses import replace

import pytest

from detach.reproduce.lines import Line
from detach.reproduce.paper import ARXIV, Pair
from detach.reproduce.rows import LEAD
from detach.reproduce.verdict import differs, verdict
from detach.table import Cell, Difference, Row

OPPORTUNITY = "simulated opportunity (default, seed 11)"
HWU = "simulated-hwu-default-seed-11"


def line(name: str, f1: float, less: float | None = None, *, table: int = 1) -> Line:
    """A row of F1 ``f1``, and the method ``less`` it, give or take 0.01."""
    row = Row(name, "method", 3, {"f1": Cell(f1, 0.0, math.nan, math.nan)})
    pair = Difference(LEAD, name, less, less - 0.01, less + 0.01) if less is not None else None
    return Line(name, row, pair, ARXIV.get((table, name)), None)


def said(*rows: Line, data: str = OPPORTUNITY, table: int = 1) -> str:
    return verdict([line(LEAD, 0.6, table=table), *rows], data)


def test_the_best_baseline_is_the_one_of_highest_f1() -> None:
    rivals = (line("imu2clip", 0.4, 0.2), line("global", 0.65, -0.05), line("comodo", 0.5, 0.1))
    assert said(*rivals).startswith(
        "Best baseline: global alignment, encoders of our size; DETACH less it: "
        "-0.050 [-0.060, -0.040]."
    )
    close = said(line("global", 0.6, 0.005))
    assert close.endswith("DETACH less it: +0.005 [-0.005, +0.015], not told apart.")


def test_rows_that_are_no_baselines_or_were_not_run_are_no_rivals() -> None:
    ablation = line("no-spatial-weight", 0.7, -0.1, table=2)
    assert "Best baseline" not in said(ablation)
    assert said(replace(line("global", 0.9), ours=None)) == ""
    assert said(line("global", 0.9)) == ""  # too short a test part for a difference


@pytest.mark.parametrize(
    ("less", "way"),
    [(0.03, "as theirs"), (-0.03, "the other way than theirs"), (0.009, "not told apart")],
)
def test_a_direction_is_theirs_the_other_or_not_told(less: float, way: str) -> None:
    told = said(line("no-spatial-weight", 0.5, less, table=2), table=2)
    assert told == f"w/o W spatial: {way} ({less:+.3f}; theirs +0.17 on Opportunity++)."


def test_one_seed_is_said_where_an_interval_seems_to_tell() -> None:
    """Its interval is over test windows and lacks the luck of a training run."""
    one = Difference(LEAD, "infonce", 0.03, 0.02, 0.04, seeds=1)
    assert differs(one) == "+0.030 [+0.020, +0.040], one seed"
    assert differs(replace(one, seeds=2)) == "+0.030 [+0.020, +0.040]"
    assert differs(replace(one, low=-0.01)).endswith("], not told apart")
    row = replace(line("no-spatial-weight", 0.5, 0.03, table=2), less=one)
    assert "as theirs, by one seed (+0.030" in said(row, table=2)


def test_a_direction_against_the_method_is_one_too() -> None:
    """Of no row do they report more than of the method: here one is made up."""
    made_up = ARXIV[2, "no-spatial-weight"]._replace(opportunity=Pair(0.75, 0.8))
    better = replace(line("no-spatial-weight", 0.5, -0.03), reported=made_up)
    assert "as theirs (-0.030; theirs -0.02" in said(better, table=2)


def test_homes_are_compared_with_the_data_they_are_like() -> None:
    row = line("no-spatial-weight", 0.5, 0.03, table=2)
    assert said(row, data="opportunity++", table=2).endswith("theirs +0.17 on Opportunity++).")
    for name in (HWU, "hwu-usp", "simulated hwu (default, seed 3)-2"):
        assert said(row, data=name, table=2).endswith("theirs +0.06 on HWU-USP).")


def test_an_equal_number_of_theirs_is_no_direction() -> None:
    row = line("light", 0.5, 0.03, table=6)
    assert said(row, data=HWU, table=6) == (
        "A. light (CNN + GRU): no direction of theirs (+0.030; theirs +0.00 on HWU-USP)."
    )
    assert "as theirs (" in said(row, data=OPPORTUNITY, table=6)


def test_other_data_are_compared_with_both() -> None:
    row = line("no-spatial-weight", 0.5, 0.03, table=2)
    assert said(row, data="sphere", table=2) == (
        "w/o W spatial: as theirs (+0.030; theirs +0.17 on Opportunity++, +0.06 on HWU-USP)."
    )
    apart = said(line("light", 0.5, -0.03, table=6), data="sphere", table=6)
    assert "the other way than theirs on Opportunity++, no direction of theirs on HWU-USP" in apart


def test_without_numbers_of_theirs_or_a_method_nothing_is_said() -> None:
    assert said(line("hcl", 0.5, 0.1)) == ""
    assert said(replace(line("no-momentum", 0.5, table=4), less=None), table=4) == ""
    assert verdict([line("no-momentum", 0.5, 0.1, table=4)], OPPORTUNITY) == ""
    unreported = [replace(line(LEAD, 0.6), reported=None), line("no-momentum", 0.5, 0.1, table=4)]
    assert verdict(unreported, OPPORTUNITY) == ""
