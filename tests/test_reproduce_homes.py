"""Homes that `detach reproduce` simulates for the open questions: planned first, made once."""

import fcntl
import math
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from detach.errors import UsageError
from detach.reproduce import Options, reproduce
from detach.reproduce.homes import Homes
from detach.reproduce.queue import Queue
from detach.simulate import record


def homes(out: Path, said: list[str], *, minutes: float = 30.0, workers: int = 1) -> Homes:
    return Homes(out, minutes, workers, Queue(out, math.inf, said.append))


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


def test_homes_that_no_time_is_left_for_are_named(
    tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "simulate", lambda *_: time.sleep(30))
    asked = Options(out=tmp_path, config=recipe, figures=(15,), budget="1s", home_minutes=5)
    began = time.monotonic()
    with pytest.raises(UsageError, match="no time to simulate usual, head; .*longer --budget"):
        reproduce(asked, lambda _: None)
    assert time.monotonic() - began < 20


def test_homes_of_another_length_are_not_taken(homely: Path, recipe: str, tmp_path: Path) -> None:
    shutil.copytree(homely, tmp_path / "homes/usual")
    asked = Options(out=tmp_path, config=recipe, figures=(14,), home_minutes=9, plan_only=True)
    with pytest.raises(UsageError, match=r"usual is 4 minutes long, and --home-minutes is 9; give"):
        reproduce(asked, lambda _: None)
