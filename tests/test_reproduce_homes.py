"""Homes that `detach reproduce` simulates for the open questions: planned first, made once."""

import fcntl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from detach.reproduce import Options, questions, reproduce
from detach.simulate import record


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
    questions._make(tmp_path / "homes/two", "two", 30.0, said.append, 2)
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
        asked = (folder, "head", 30.0, said.append, 1)
        waiting = threading.Thread(target=questions._make, args=asked)
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
