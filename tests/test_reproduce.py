"""`detach reproduce`: its rows, its queue and budget, its tables, its figures."""

import csv
import fcntl
import importlib.util
import json
import math
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detach.cli import main
from detach.config import preset
from detach.course import Course
from detach.data.recording import read_dataset
from detach.errors import DataError, DivergedError, MachineError, UsageError
from detach.evaluate import evaluate
from detach.reproduce import Options, questions, reproduce
from detach.reproduce import queue as queueing
from detach.reproduce.costs import Costs
from detach.reproduce.figures import FIGURES
from detach.reproduce.questions import Question, Try
from detach.reproduce.queue import make_jobs
from detach.reproduce.rows import LEAD, TABLES
from detach.results import read_results

RECIPE = """
split: {by: dataset}
video: {size_px: 32, frames: 6}
encoders: {width: 16, video_scale: 0.125, sensor_scale: 0.125, motion_size_px: 16}
stage1: {epochs: 3, warmup_epochs: 1, joint_epochs: 1, batch_size: 32, clusters: 4,
         learning_rate: 0.001, video_gate: 0.0}
stage2: {epochs: 2, batch_size: 32, learning_rate: 0.001}
supervised: {epochs: 2, batch_size: 32}
comodo: {hidden: 32, output: 16}
cav_mae: {depth: 1}
"""
SEED_0 = ("detach", "infonce", "no-spatial-weight")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="module")
def homely(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with its doors as a track of places."""
    folder = tmp_path_factory.mktemp("homely") / "data"
    shutil.copytree(tiny_dataset, folder)
    for path in (folder / "dataset.json", *folder.glob("r*/recording.json")):
        path.write_text(path.read_text().replace('"door"', '"place"'))
    for path in folder.glob("r*/labels/door.csv"):
        path.rename(path.with_name("place.csv"))
    return folder


def options(out: Path, data: Path, recipe: str, **changes: object) -> Options:
    usual = Options(out=out, data=(data,), config=recipe, seeds=1)
    return replace(usual, **changes)  # type: ignore[arg-type]


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def finished(homely: Path, recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables 2 and 7, and the figures that need the method and one rival."""
    out = tmp_path_factory.mktemp("finished")
    asked = options(out, homely, recipe, tables=(2, 7), figures=(4, 5, 6, 8, 10))
    reproduce(asked, quiet)
    return out


def test_a_row_that_differs_in_its_test_alone_takes_the_weights(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    jobs = make_jobs(out, {"tiny": homely}, ("noise-100",), 1, preset("recommended"))
    assert jobs[0].twin == out / "runs/tiny/detach/seed0"
    monkeypatch.setattr(queueing, "train", None)  # would be called in vain
    words = ["--data", str(homely), "--config", recipe, "--seeds", "1", "--out", str(out)]
    monkeypatch.setitem(TABLES, 10, replace(TABLES[10], ours=("noise-100", "dropout-30")))
    assert main(["reproduce", *words, "--table", "10"]) == 0
    runs = out / "runs/tiny"
    for name in ("noise-100", "dropout-30"):
        a, b = (runs / x / "seed0/model.safetensors" for x in ("detach", name))
        assert a.read_bytes() == b.read_bytes()
    rows = csv.DictReader((out / "tables.csv").read_text().splitlines())
    f1 = {r["row"]: r["value"] for r in rows if r["metric"] == "f1"}
    assert f1["noise-100"] != json.loads((runs / "detach/seed0/results.json").read_text())
    assert all(0 <= float(value) <= 1 for value in f1.values())


def test_a_table_stands_beside_theirs(finished: Path) -> None:
    text = (finished / "tables.md").read_text()
    assert "## Table 2. Spatial and temporal weight, tiny" in text
    line = next(x for x in text.splitlines() if x.startswith("| w/o W spatial"))
    assert line.endswith("| 0.56 / 0.71 | 0.65 / 0.61 |")
    lead = next(x for x in text.splitlines() if x.startswith("| DETACH |"))
    assert "0.73 / 0.83 → 0.73 / 0.87" in lead
    assert "95 % intervals" in text or "no intervals" in text
    rows = list(csv.DictReader((finished / "tables.csv").read_text().splitlines()))
    found = {(r["row"], r["metric"]): r for r in rows}
    assert float(found["detach", "f1"]["value"]) > 0
    assert found["no-temporal-weight", "map"]["theirs_hwu_arxiv"] == "0.61"
    assert "3 switch, 1 acceleration" in text
    assert "| windows | " in text
    assert "5324" in text


def test_one_page_holds_tables_and_figures(finished: Path) -> None:
    page = (finished / "index.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    for number in (4, 5, 6, 8, 10):
        assert f"Figure {number}." in page
    assert page.count("<svg") == 5
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


def test_two_processes_share_the_rows(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds one row: here the others are run, then that one is waited for."""
    row = "no-spatial-weight"
    taken = tmp_path / "runs/tiny" / row / ".seed0.lock"
    taken.parent.mkdir(parents=True)
    pauses = []
    with taken.open("wb") as elsewhere:
        fcntl.flock(elsewhere, fcntl.LOCK_EX)

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:  # the other is done
                shutil.copytree(finished / f"runs/tiny/{row}/seed0", taken.with_name("seed0"))
                elsewhere.close()

        monkeypatch.setattr("detach.reproduce.queue.time.sleep", pause)
        said: list[str] = []
        reproduce(options(tmp_path, homely, recipe, tables=(2, 7)), said.append)
    assert len(pauses) == 2
    assert sum("another process; waiting" in line for line in said) == 1
    assert not any(line.startswith("[") and row in line for line in said)
    assert (tmp_path / "tables.csv").read_text() == (finished / "tables.csv").read_text()


def test_a_row_that_seemed_too_long_comes_again(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    for row in ("no-spatial-weight", "no-temporal-weight"):
        shutil.rmtree(tmp_path / "out/runs/tiny" / row)
    ran: list[str] = []

    def one(_: queueing.Queue, job: queueing.Job) -> None:
        ran.append(job.row)
        shutil.copytree(finished / "runs/tiny" / job.row / "seed0", job.folder)

    def estimate(_: queueing.Queue, job: queueing.Job) -> float:
        return 1e9 if job.row == "no-spatial-weight" and not ran else 1.0

    monkeypatch.setattr(queueing.Queue, "_one", one)
    monkeypatch.setattr(queueing.Queue, "estimate", estimate)
    reproduce(options(tmp_path / "out", homely, recipe, tables=(2,), budget="1h"), quiet)
    assert ran == ["no-temporal-weight", "no-spatial-weight"]
    assert not list(tmp_path.rglob("*.lock"))


def test_rows_that_were_not_run_say_so(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    said: list[str] = []
    monkeypatch.setattr(queueing.Queue, "left_s", property(lambda _: 0.5))
    asked = options(tmp_path / "out", homely, recipe, tables=(4,), budget="2m")
    with pytest.raises(UsageError, match="is too small: the shortest row left, no-momentum"):
        reproduce(asked, said.append)
    text = (tmp_path / "out/tables.md").read_text()
    assert "| w/o momentum encoder | 0 | not run |" in text
    assert "| DETACH | 1 |" in text


def test_time_that_is_up_ends_a_row_and_the_next_command_goes_on(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    slow = Course._between_steps

    def dawdle(self: Course, share: float) -> None:
        time.sleep(3.0 if self.epoch == 1 else 0.0)
        slow(self, share)

    said: list[str] = []
    asked = options(out, homely, recipe, tables=(4,))
    with monkeypatch.context() as patch:
        patch.setattr(Course, "_between_steps", dawdle)
        patch.setattr(queueing.Queue, "left_s", property(lambda _: 2.0))
        patch.setattr(queueing.Queue, "estimate", lambda *_: 1.0)
        reproduce(replace(asked, budget="1m"), said.append)
    assert any("runs are left" in line for line in said)
    run = out / "runs/tiny/no-momentum/seed0"
    assert not (run / "model.safetensors").is_file()
    reproduce(asked, said.append)
    assert (run / "results.json").is_file()
    assert any("resumed at" in line or "begins anew" in line for line in said)


def test_ctrl_c_keeps_what_is_finished(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    shutil.copytree(finished, tmp_path / "out")
    monkeypatch.setattr(queueing, "train", stop)
    words = ["--out", str(tmp_path / "out"), "--data", str(homely), "--config", recipe]
    assert main(["reproduce", *words, "--table", "2", "4", "--seeds", "1"]) == 130
    text = (tmp_path / "out/tables.md").read_text()
    assert "| w/o momentum encoder | 0 | not run |" in text
    assert "| w/o W spatial | 1 |" in text


def test_a_full_disk_keeps_what_is_finished(
    finished: Path,
    homely: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MachineError("model.safetensors: 9 bytes could not be written: the disk is full")

    shutil.copytree(finished, tmp_path / "out")
    monkeypatch.setattr(queueing, "train", full)
    words = ["--out", str(tmp_path / "out"), "--data", str(homely), "--config", recipe]
    assert main(["reproduce", *words, "--table", "2", "4", "--seeds", "1"]) == 4
    assert "the disk is full" in capsys.readouterr().err
    text = (tmp_path / "out/tables.md").read_text()
    assert "| w/o momentum encoder | 0 | not run |" in text
    assert "| w/o W spatial | 1 |" in text


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("test", "mAP leaves out open left (no test item)"),
        ("train", "test windows of classes absent from train"),
    ],
)
def test_a_class_absent_from_a_part_is_named(
    finished: Path, homely: Path, tmp_path: Path, part: str, said: str
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(homely, data)
    shutil.copytree(finished, out)
    for name in read_dataset(data).splits[part]:
        path = data / name / "labels/activity.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "open left" not in line))
    run = out / "runs/tiny/detach/seed0"
    (run / "results.json").unlink()
    table = evaluate([run], data)
    told = f"{table} {read_results(run).counts}"
    assert said in told


def test_a_row_that_diverges_is_told_and_the_others_go_on(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise DivergedError("stage2: contrast is nan")

    shutil.copytree(finished, tmp_path / "out")
    monkeypatch.setattr(queueing, "train", diverge)
    reproduce(options(tmp_path / "out", homely, recipe, tables=(4,)), quiet)
    text = (tmp_path / "out/tables.md").read_text()
    assert "cannot be trained: stage2: contrast is nan" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tables": (99,)}, "there is no table 99; there are 1 "),
        ({"figures": (1,)}, "there is no figure 1; there are 4 "),
        ({"budget": "soon"}, "budget must be like 90s"),
        ({"budget": "0s"}, "budget must be like 90s"),
        ({"seeds": 0}, "seeds must be at least 1"),
    ],
)
def test_what_is_not_there_is_refused(
    homely: Path, recipe: str, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        reproduce(options(tmp_path / "out", homely, recipe, **changes), quiet)
    assert not (tmp_path / "out").exists()


def test_a_budget_for_nothing_is_refused(homely: Path, recipe: str, tmp_path: Path) -> None:
    asked = options(tmp_path / "out", homely, recipe, tables=(2,), budget="0.01s")
    with pytest.raises(UsageError, match="a budget of 0.01 s is too small"):
        reproduce(asked, quiet)


def test_measuring_keeps_the_budget_too(
    homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Costs, "probe", lambda *_: time.sleep(30))
    asked = options(tmp_path / "out", homely, recipe, tables=(2,), budget="2s")
    began = time.monotonic()
    with pytest.raises(UsageError, match="too small to measure a single row in"):
        reproduce(asked, quiet)
    assert time.monotonic() - began < 25


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


def test_rows_can_be_chosen(homely: Path, recipe: str, tmp_path: Path) -> None:
    said: list[str] = []
    asked = options(tmp_path, homely, recipe, tables=(3,), rows=("infonce",), plan_only=True)
    reproduce(asked, said.append)
    assert "2 runs: 0 finished, 2 to do" in said
    with pytest.raises(UsageError, match="odc is no row of the tables .* no-refinement-infonce$"):
        reproduce(replace(asked, rows=("infonce", "odc")), quiet)


def test_the_plan_is_shown_without_training(homely: Path, recipe: str, tmp_path: Path) -> None:
    said: list[str] = []
    asked = options(tmp_path, homely, recipe, tables=(2,), seeds=2, plan_only=True)
    assert reproduce(asked, said.append) is None
    assert "6 runs: 0 finished, 6 to do" in said
    assert any("no-spatial-weight" in line and "about" in line for line in said)
    assert not (tmp_path / "runs").exists()


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
def test_a_gpu_is_fed_one_run_after_the_other(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "gpu_evidence.py"
    spec = importlib.util.spec_from_file_location("gpu_evidence", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "TABLES", (4,))
    monkeypatch.setattr(script, "FIRST", (LEAD,))
    words = ["x", str(tmp_path), "--data", str(homely), "--config", recipe, "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--minutes", "0.001"])
    assert script.main() == 0
    assert not (tmp_path / "tables.md").exists()
    monkeypatch.setattr(sys, "argv", [*words, "--minutes", "20"])
    assert script.main() == 0
    assert "| DETACH | 1 |" in (tmp_path / "tables.md").read_text()
    assert finished.is_dir()


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
    said: list[str] = []
    asked = Options(out=out, config=recipe, seeds=1, figures=(14,))
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


def test_homes_are_planned_before_they_are_made(recipe: str, tmp_path: Path) -> None:
    said: list[str] = []
    asked = Options(out=tmp_path, config=recipe, figures=(15,), plan_only=True, home_minutes=5)
    assert reproduce(asked, said.append) is None
    assert any("'head' is to be simulated first, 5 minutes" in line for line in said)
    assert list(tmp_path.iterdir()) == []
