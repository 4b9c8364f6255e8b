"""Homes that `detach reproduce` simulates for the open questions: planned first, made once."""

import csv
import fcntl
import json
import math
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from detach.errors import DataError, UsageError
from detach.reproduce import Options, reproduce
from detach.reproduce.homes import Homes
from detach.reproduce.queue import Queue
from detach.reproduce.rows import LEAD
from detach.simulate import record

from .reproduced import options, quiet  # type: ignore[import-not-found]


def homes(out: Path, said: list[str], *, workers: int = 1) -> Homes:
    return Homes(out, 30.0, workers, Queue(out, math.inf, said.append), lambda *_: [])


def test_homes_are_planned_before_they_are_made(recipe: str, tmp_path: Path) -> None:
    said: list[str] = []
    asked = Options(out=tmp_path, config=recipe, figures=(15,), plan_only=True, home_minutes=5)
    assert reproduce(asked, said.append) is None
    assert any("'head' is to be simulated first, 5 minutes" in line for line in said)
    assert list(tmp_path.iterdir()) == []


def test_a_home_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []

    def simulate(folder: Path, options: record.Options, say: Any, workers: int) -> None:
        say("run01: 60 of 300 s")
        made.append((folder.name, options.people, options.minutes, options.runs, workers))

    monkeypatch.setattr(record, "simulate", simulate)
    said: list[str] = []
    homes(tmp_path, said, workers=2)._make(tmp_path / "homes/two", "two")
    assert made == [("two", 2, 30.0, 6, 2)]
    assert said == ["simulating the home 'two', 30 minutes", "run01: 60 of 300 s"]


def test_two_processes_make_a_home_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it was made by the other")

    monkeypatch.setattr(record, "simulate", refuse)
    folder, said = tmp_path / "homes/head", list[str]()
    folder.parent.mkdir()
    with folder.with_name(".head.lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=homes(tmp_path, said)._make, args=(folder, "head"))
        waiting.start()
        ends = time.monotonic() + 20
        while not said and time.monotonic() < ends:
            time.sleep(0.01)
        folder.mkdir()
        (folder / "dataset.json").write_text("{}")
        assert waiting.is_alive()
    waiting.join(20)
    assert not waiting.is_alive()
    assert said == ["head is being simulated by another process; waiting"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "simulate", lambda *_: time.sleep(30))


@pytest.mark.usefixtures("slow")
def test_homes_that_no_time_is_left_for_are_named(tmp_path: Path, recipe: str) -> None:
    asked = Options(out=tmp_path, config=recipe, figures=(15,), budget="1s", home_minutes=5)
    began = time.monotonic()
    with pytest.raises(UsageError, match="no time to simulate usual, head; .*longer --budget"):
        reproduce(asked, quiet)
    assert time.monotonic() - began < 20


@pytest.mark.usefixtures("slow")
def test_tables_are_written_though_there_is_no_time_for_homes(
    finished: Path, homely: Path, tmp_path: Path, recipe: str
) -> None:
    out, said = tmp_path / "out", list[str]()
    shutil.copytree(finished, out)
    asked = options(out, homely, recipe, tables=(2,), figures=(15,), budget="3s")
    assert reproduce(asked, said.append)
    assert any("no time to simulate usual, head" in line for line in said)
    assert "| DETACH | 1 |" in (out / "tables.md").read_text()


@pytest.fixture
def two_homes(finished: Path, homely: Path, tmp_path: Path) -> Path:
    """Homes of Fig. 15, whose runs to train on teach without labels too, as simulated ones do."""
    out = tmp_path / "out"
    for home in ("usual", "head"):
        folder = out / "homes" / home
        shutil.copytree(homely, folder)
        path = folder / "dataset.json"
        body = json.loads(path.read_text())
        body["splits"]["pretrain"] = [*body["splits"]["pretrain"], *body["splits"]["train"]]
        path.write_text(json.dumps(body))
        for row in (LEAD, "global"):
            shutil.copytree(finished / f"runs/tiny/{row}", out / f"runs/home-{home}/{row}")
            for config in (out / f"runs/home-{home}/{row}").glob("*/config.yaml"):
                kept = yaml.safe_load(config.read_text())
                kept["about"] |= {"data": str(folder)}
                del kept["about"]["data_digest"]  # as of a run of before they were kept
                config.write_text(yaml.safe_dump(kept))
    return out


LENGTH = 4 * 40 / 60
"""Of the homes, minutes."""


def test_homes_that_are_there_are_taken_again_and_again(two_homes: Path, recipe: str) -> None:
    asked = Options(out=two_homes, config=recipe, figures=(15,), home_minutes=LENGTH, seeds=1)
    for _ in range(2):
        said: list[str] = []
        reproduce(replace(asked, write_only=True), said.append)
        assert not any("to be simulated" in line or "no time" in line for line in said)
        rows = list(csv.DictReader((two_homes / "questions.csv").read_text().splitlines()))
        assert [r["seeds"] for r in rows if r["row"] == LEAD] == ["1", "1"]


def test_homes_of_another_length_are_not_taken(two_homes: Path, recipe: str) -> None:
    asked = Options(out=two_homes, config=recipe, figures=(15,), home_minutes=9, plan_only=True)
    with pytest.raises(UsageError, match=r"usual is 2.667 minutes long, and --home-minutes is 9;"):
        reproduce(asked, quiet)


def test_a_damaged_home_does_not_hold_up_the_other(two_homes: Path, recipe: str) -> None:
    next((two_homes / "homes/usual").glob("r*/recording.json")).write_text("{")
    asked = Options(out=two_homes, config=recipe, figures=(15,), home_minutes=LENGTH, seeds=1)
    with pytest.raises(DataError, match="homes/usual/.*recording.json"):
        reproduce(replace(asked, write_only=True), quiet)
    assert "Figure 15" in (two_homes / "index.html").read_text()
