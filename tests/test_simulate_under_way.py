"""What an interrupted simulation had finished is kept, and only the same command takes it up."""

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from detach.data import recording as data
from detach.data.recording import RECORDING_FILE
from detach.errors import MachineError, UsageError
from detach.simulate import record
from detach.simulate.record import Options, simulate
from detach.simulate.under_way import PLAN_FILE, finished, part_of, under_way

SMALL = Options(minutes=0.2, runs=3, seed=5, size=(32, 32), fps=5.0)
PLAN = {"seed": 1}


class StoppedError(Exception):
    """What interrupts."""


def finish(part: Path, name: str) -> None:
    (part / name).mkdir()
    (part / name / RECORDING_FILE).write_text("{}")


def begin(out: Path, *names: str, plan: dict[str, Any] | None = None) -> set[str]:
    """Finishes runs, is stopped in the middle of another; returns what was there before."""
    there: set[str] = set()
    with contextlib.suppress(StoppedError), under_way(out, plan or PLAN) as part:
        there |= finished(part)
        for name in names:
            finish(part, name)
        (part / ".run09.part").mkdir()
        raise StoppedError
    assert not out.exists()
    return there


def test_what_is_finished_stays_for_the_same_plan(tmp_path: Path) -> None:
    out = tmp_path / "some" / "home"
    assert begin(out, "run01") == set()
    assert begin(out, "run02") == {"run01"}
    with under_way(out, PLAN) as part:
        assert sorted(path.name for path in part.iterdir()) == [PLAN_FILE, "run01", "run02"]
    assert sorted(path.name for path in out.iterdir()) == ["run01", "run02"]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("plan", [{"seed": 2}, {"seed": 1, "more": None}])
def test_another_plan_begins_anew(tmp_path: Path, plan: dict[str, Any]) -> None:
    out = tmp_path / "home"
    begin(out, "run01")
    assert begin(out, "run05", plan=plan) == set()
    assert finished(part_of(out)) == {"run05"}


@pytest.mark.parametrize("text", ["", "[]", '{"seed"', "\x00"])
def test_a_damaged_plan_begins_anew(tmp_path: Path, text: str) -> None:
    out = tmp_path / "home"
    begin(out, "run01")
    (part_of(out) / PLAN_FILE).write_text(text)
    assert begin(out) == set()
    assert list(tmp_path.iterdir()) == []


def test_another_version_of_the_simulator_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "home"
    begin(out, "run01")
    monkeypatch.setattr("detach.simulate.under_way._digest", lambda: "another")
    assert begin(out) == set()


def test_links_are_taken_away_and_not_followed(tmp_path: Path) -> None:
    out, own = tmp_path / "home", tmp_path / "own"
    own.mkdir()
    (own / "kept.txt").write_text("kept")
    part_of(out).mkdir()
    (part_of(out) / "link").symlink_to(own)
    with under_way(out, PLAN):
        pass
    assert (own / "kept.txt").read_text() == "kept"
    assert list(out.iterdir()) == []


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    out = tmp_path / "home"
    with under_way(out, PLAN) as part:
        finish(part, "run01")
        with pytest.raises(UsageError, match="another process is simulating it"):
            begin(out)
    assert finished(out) == {"run01"}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a home."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_home_that_was_interrupted_is_the_same(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("mujoco")

    def stop(line: str) -> None:
        if line.startswith("run"):
            raise KeyboardInterrupt

    out = tmp_path / "home"
    with pytest.raises(KeyboardInterrupt):
        simulate(out, SMALL, stop, workers)
    there = finished(part_of(out))
    assert there
    assert not out.exists()
    written = {name: (part_of(out) / name / RECORDING_FILE).stat() for name in there}
    said: list[str] = []
    simulate(out, SMALL, said.append, workers)
    assert said[0] == f"{len(there)} of 3 runs are there from before; going on"
    assert all((out / n / RECORDING_FILE).stat().st_ino == s.st_ino for n, s in written.items())
    whole = tmp_path / "whole"
    simulate(whole, SMALL)
    assert contents(out) == contents(whole)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "whole"}


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco")
    write = data.write_sensor

    def full(folder: Path, *rest: Any) -> None:
        if "run02" in folder.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(record, "write_sensor", full)
        with pytest.raises(
            MachineError, match=r"disk is full; .*; 1 of 3 runs are kept, the same command"
        ):
            simulate(tmp_path / "home", SMALL)
    plan = json.loads((part_of(tmp_path / "home") / PLAN_FILE).read_text())
    assert plan["options"]["seed"] == SMALL.seed
    made = simulate(tmp_path / "home", SMALL)
    assert [one.name for one in made.recordings()] == ["run01", "run02", "run03"]
