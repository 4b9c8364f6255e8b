"""`detach reproduce`: its rows, its tables, its figures."""

import csv
import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from detach.cli import main
from detach.config import preset
from detach.data.recording import read_dataset
from detach.errors import DataError, MachineError, UsageError
from detach.evaluate import evaluate
from detach.reproduce import (
    Options,
    overview,
    page,
    paper,
    published,
    questions,
    reproduce,
)
from detach.reproduce import queue as queueing
from detach.reproduce.figures import FIGURES, Picture
from detach.reproduce.jobs import make_jobs
from detach.reproduce.lines import Line
from detach.reproduce.paper import Reported
from detach.reproduce.questions import Question, Try
from detach.reproduce.rows import LEAD, TABLES
from detach.reproduce.tables import Filled
from detach.results import read_results
from detach.table import Difference

from .reproduced import options, quiet, say_made_of  # type: ignore[import-not-found]

SVG = "{http://www.w3.org/2000/svg}"
SEED_0 = ("detach", "infonce", "no-spatial-weight")


def test_a_row_that_differs_in_its_test_alone_takes_the_weights(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    jobs = make_jobs(out, {"tiny": homely}, ("noise-100",), 1, preset("recommended"))
    assert jobs[0].twin == out / "runs/tiny/detach/seed0"
    monkeypatch.setattr(queueing, "train", None)  # would be called in vain
    words = ["--data", str(homely), "--config", recipe, "--seeds", "1", "--out", str(out)]
    monkeypatch.setitem(TABLES, 10, replace(TABLES[10], ours=(LEAD, "noise-100", "dropout-30")))
    assert main(["reproduce", *words, "--table", "10"]) == 0
    runs = out / "runs/tiny"
    usual = read_results(runs / "detach/seed0").tasks[0]
    for name in ("noise-100", "dropout-30"):
        a, b = (runs / x / "seed0/model.safetensors" for x in ("detach", name))
        assert a.read_bytes() == b.read_bytes()
        task = read_results(runs / name / "seed0").tasks[0]
        assert np.array_equal(task.truth, usual.truth)
        said, as_usual = (t.answers[0].probability for t in (task, usual))
        assert np.abs(said - as_usual).max() > 0.1
    rows = csv.DictReader((out / "tables.csv").read_text().splitlines())
    f1 = {r["row"]: float(r["value"]) for r in rows if r["metric"] == "f1"}
    assert f1.keys() == {LEAD, "noise-100", "dropout-30"}
    assert f1["noise-100"] != f1[LEAD]
    assert all(0 <= value <= 1 for value in f1.values())


def test_a_table_stands_beside_theirs(finished: Path) -> None:
    text = (finished / "tables.md").read_text()
    assert "## Table 2. Spatial and temporal weight, tiny" in text
    line = next(x for x in text.splitlines() if x.startswith("| w/o W spatial"))
    assert line.endswith("| 0.56 / 0.71 | 0.65 / 0.61 |")
    lead = next(x for x in text.splitlines() if x.startswith("| DETACH |"))
    assert "0.73 / 0.83 → 0.73 / 0.87" in lead
    assert "no intervals: the test part is no longer than one of the blocks of 60 s" in text
    assert "95 % intervals" not in text  # 40 s of test data are one block
    rows = list(csv.DictReader((finished / "tables.csv").read_text().splitlines()))
    found = {(r["row"], r["metric"]): r for r in rows}
    assert float(found["detach", "f1"]["value"]) > 0
    assert found["no-temporal-weight", "map"]["theirs_hwu_arxiv"] == "0.61"
    assert "3 switch, 1 acceleration" in text
    assert "| windows | " in text
    assert "5324" in text


def line_of(
    name: str, value: float = 0.1, reported: Reported | None = None, seeds: int = 3
) -> Line:
    less = Difference(LEAD, name, value, value - 0.05, value + 0.05, seeds)
    return Line(name, None, less, reported, None)


def test_rows_at_a_glance_stand_above_the_tables(tmp_path: Path) -> None:
    lines = (
        Line(LEAD, None, None, paper.FULL, None),
        line_of("no-spatial-weight", -0.06, paper.ARXIV[2, "no-spatial-weight"]),
        line_of("no-temporal-weight", 0.01),
        line_of("supervised", 0.3, seeds=1),
    )
    filled = [Filled(2, "home", lines, None, "")]
    shown = page.write(tmp_path, filled, [], [], overview.overviews(filled)).read_text()
    assert shown.index("DETACH less every row") < shown.index("Table 2. Spatial")
    drawn = ET.parse(tmp_path / "figures/rows-home.svg").getroot()  # noqa: S314 -- our own
    words = [text.text for text in drawn.iter(f"{SVG}text")]
    order = ["supervised by the labels", "w/o W temporal", "w/o W spatial"]
    assert sorted((word for word in words if word in order), key=order.index) == order
    height = [float(text.get("y", 0)) for name in order for text in drawn.iter(f"{SVG}text")
              if text.text == name]  # fmt: skip
    assert height == sorted(height)  # the furthest behind on top
    assert "theirs, HWU-USP" in words
    assert "one seed" in words


def test_a_difference_of_theirs_is_taken_from_the_table_that_has_one() -> None:
    lead = Line(LEAD, None, None, paper.FULL, None)
    one = Filled(1, "d", (lead, line_of("infonce")), None, "")
    reported = paper.ARXIV[3, "infonce"]
    three = Filled(3, "d", (lead, line_of("infonce", reported=reported)), None, "")
    for tables in ((one, three), (three, one)):
        (gap,) = overview.gaps_of(tables)
        assert gap.name == "DETACH with InfoNCE"
        assert gap.theirs == pytest.approx((0.14, 0.22))
        assert overview.overviews(tables) == []  # of one row there is no picture


def test_one_page_holds_tables_and_figures(finished: Path) -> None:
    page = (finished / "index.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    for number in (4, 5, 6, 8, 10):
        assert f"Figure {number}." in page
    assert page.count("<svg") == 5
    files = sorted(path.name for path in (finished / "figures").iterdir())
    assert files == ["10-tiny.svg", "4-tiny.svg", "5-tiny.svg", "6-tiny.svg", "8-tiny.svg"]
    drawn = ET.parse(finished / "figures/4-tiny.svg").getroot()  # noqa: S314 -- our own
    assert drawn[0].get("fill") == "#ffffff"  # on white, whoever shows it
    assert "var(" not in (finished / "figures/4-tiny.svg").read_text()
    assert ">not run" not in page


def test_finished_rows_are_kept_and_the_tables_are_the_same(
    finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    before = (finished / "tables.md").read_text()
    shutil.copytree(finished, tmp_path / "out")
    said: list[str] = []
    began = time.monotonic()
    asked = options(tmp_path / "out", homely, recipe, tables=(2, 7))
    reproduce(asked, said.append)
    assert "3 runs: 3 finished, 0 to do" in said
    assert (tmp_path / "out/tables.md").read_text() == before
    assert time.monotonic() - began < 60


def test_the_same_command_elsewhere_gives_the_same_tables(
    finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    reproduce(options(tmp_path, homely, recipe, tables=(2, 7)), quiet)
    assert (tmp_path / "tables.md").read_text() == (finished / "tables.md").read_text()
    assert (tmp_path / "tables.csv").read_text() == (finished / "tables.csv").read_text()


def test_every_number_goes_into_the_ledger(
    finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", tmp_path / "results.csv"
    shutil.copytree(finished, out)
    reproduce(options(out, homely, recipe, tables=(2, 7), append=path), quiet)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["what"] for line in lines} == {"table 2, recipe tiny"}
    assert {line["data"] for line in lines} == {read_dataset(homely).name}
    found = {(line["provider"], line["metric"]): line for line in lines}
    for row in csv.DictReader((out / "tables.csv").read_text().splitlines()):
        line = found[row["title"], row["metric"]]
        assert [line[k] for k in ("seeds", "value", "low", "high")] == [
            row[k] for k in ("seeds", "value", "low", "high")
        ]
        less = found.get((f"DETACH - {row['title']}", row["metric"]), {"value": ""})
        assert less["value"] == row["less_value"]
    said: list[str] = []
    asked = options(out, homely, recipe, tables=(2,), append=tmp_path, seeds=2)
    with pytest.raises(MachineError, match="cannot be written"):
        reproduce(asked, said.append)
    assert not said


def test_curves_and_answers_go_into_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "labels-tiny.csv").write_text("method,labels,f1,low,high\ndetach,5,0.5,0.4,0.6\n")
    (line,) = published.of_labels(tmp_path, {"tiny": "a tiny home"}, "small")
    assert line["data"] == "a tiny home"
    assert (line["provider"], line["metric"], line["low"]) == (
        "detach", "f1 of 5 labels a class", "0.4",
    )  # fmt: skip
    ran: dict[str, object] = {
        "home": "head",
        "title": "on the head",
        "seeds": 3,
        "f1": "0.5",
        "low": "0.4",
    }
    rows: list[dict[str, object]] = [ran | {"high": "0.6", "map": "0.7"}, {"seeds": 0}]
    found = list(published.of_answers([(Picture(15, "", "", ""), rows)], "small"))
    assert [(x["what"], x["metric"], x["value"], x["seeds"]) for x in found] == [
        ("figure 15, recipe small", "f1", "0.5", 3),
        ("figure 15, recipe small", "map", "0.7", 3),
    ]


def test_runs_of_another_recipe_are_not_mixed_in(
    finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other.yaml"
    shutil.copytree(finished, out)
    other.write_text(Path(recipe).read_text() + "windows: {hop_s: 0.5}\n")
    before = (out / "tables.md").read_bytes()
    said = r"detach/seed0 was made by another recipe or version: windows.hop_s 1.0 instead of 0.5;"
    with pytest.raises(UsageError, match=said):
        reproduce(options(out, homely, str(other), tables=(2,)), quiet)
    assert (out / "tables.md").read_bytes() == before


@pytest.mark.parametrize(
    ("part", "said", "noted"),
    [
        ("test", "no test item", "mAP leaves out open left (no test item)"),
        (
            "train",
            "test windows of classes absent from train",
            "has nothing of open left: no probe can get 12 of 39 test windows right.",
        ),
    ],
)
def test_a_class_absent_from_a_part_is_named(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, part: str, said: str, noted: str
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(homely, data)
    shutil.copytree(finished, out)
    for name in read_dataset(data).splits[part]:
        path = data / name / "labels/activity.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "open left" not in line))
    say_made_of(out, homely, data)
    run = out / "runs/tiny/detach/seed0"
    (run / "results.json").unlink()
    table = evaluate([run], data)
    assert said in f"{table} {read_results(run).counts}"
    assert noted in str(table)
    reproduce(options(out, data, recipe, tables=(2,), write_only=True), quiet)
    for name in ("tables.md", "index.html"):
        assert noted in (out / name).read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tables": (99,)}, "there is no table 99; there are 1 "),
        ({"figures": (1,)}, "there is no figure 1; there are 4 "),
        ({"budget": "soon"}, "budget must be like 90s"),
        ({"budget": "0s"}, "budget must be like 90s"),
        ({"seeds": 0}, "seeds must be 1 to 1000, got 0"),
    ],
)
def test_what_is_not_there_is_refused(
    homely: Path, recipe: str, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        reproduce(options(tmp_path / "out", homely, recipe, **changes), quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("minutes", [math.nan, math.inf, -3.0, 0.0])
def test_homes_of_no_length_are_refused(tmp_path: Path, minutes: float) -> None:
    asked = Options(out=tmp_path / "out", figures=(14,), home_minutes=minutes)
    with pytest.raises(UsageError, match="home_minutes must be 1 to 10000, got"):
        reproduce(asked, quiet)
    assert list(tmp_path.iterdir()) == []


def test_data_without_labels_are_refused(data: Path, recipe: str, tmp_path: Path) -> None:
    path = data / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": {}}))
    with pytest.raises(DataError, match="names no label track"):
        reproduce(options(tmp_path / "out", data, recipe, tables=(2,)), quiet)


def test_figures_that_need_places_say_so_without(
    tiny_dataset: Path, recipe: str, tmp_path: Path
) -> None:
    reproduce(options(tmp_path, tiny_dataset, recipe, figures=(4, 10)), quiet)
    page = (tmp_path / "index.html").read_text()
    assert "no label track says where things happen" in page
    assert page.count("<svg") == 1


def test_pairs_are_sorted_by_what_labels_say(finished: Path) -> None:
    from detach.reproduce.pairs import pairs_of

    found = pairs_of(finished / "runs/tiny/detach/seed0")
    assert [p.epoch for p in found] == [0, 1, 2]
    kinds = found[-1].kinds()
    total = np.sum([mask.astype(int) for mask in kinds.values()], axis=0)
    n = len(found[-1].place)
    assert np.array_equal(np.diag(total), np.zeros(n))
    assert total.max() == 1
    assert all((p.weight >= 0).all() and p.weight.max() <= 3.0 + 1e-6 for p in found)
    assert np.abs(found[0].temporal - found[-1].temporal).max() > 1e-3
    np.testing.assert_allclose(found[0].spatial, found[-1].spatial)


@pytest.mark.slow
def test_few_labels_make_a_curve(homely: Path, recipe: str, tmp_path: Path) -> None:
    reproduce(options(tmp_path, homely, recipe, figures=(11,)), quiet)
    rows = list(csv.DictReader((tmp_path / "labels-tiny.csv").read_text().splitlines()))
    assert {r["method"] for r in rows} == {
        *(r for r in FIGURES[11].rows if not r.startswith("supervised-")), "raw statistics + probe"
    }  # fmt: skip
    assert {r["labels"] for r in rows} == {"1", "5", "20", "all"}
    assert "<svg" in (tmp_path / "index.html").read_text()


def test_a_question_is_answered_by_what_was_run(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = (Try("usual", LEAD), Try("fridge unseen", "unseen-fridge"))
    monkeypatch.setitem(questions.QUESTIONS, 14, Question("Places", tries))
    out = tmp_path / "out"
    shutil.copytree(homely, out / "homes/usual")
    shutil.copytree(finished / "runs/tiny/detach", out / "runs/home-usual/detach")
    say_made_of(out, homely, out / "homes/usual")
    said: list[str] = []
    asked = Options(out=out, config=recipe, seeds=1, figures=(14,), home_minutes=8 / 3)
    reproduce(asked, said.append)
    assert any("no class 'Fridge'" in line for line in said)
    rows = list(csv.DictReader((out / "questions.csv").read_text().splitlines()))
    assert [r["row"] for r in rows] == ["detach", "unseen-fridge"]
    assert 0 < float(rows[0]["f1"]) <= 1
    assert rows[0]["low"] == ""  # its test part is too short for an interval
    assert rows[1]["seeds"] == "0"
    assert "cannot be trained" in (out / "questions.md").read_text()
    page = (out / "index.html").read_text()
    assert "Figure 14. Places" in page
    assert "Not run: fridge unseen" in page
    assert not (out / "data").exists()
