"""`detach reproduce`: its queue, its budget, and what it keeps."""

import fcntl
import json
import math
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detach.cli import main
from detach.config import RunConfig
from detach.course import Course
from detach.errors import DivergedError, MachineError, UsageError
from detach.reproduce import queue as queueing
from detach.reproduce import reproduce
from detach.reproduce.costs import Costs, TimeIsUpError, stage_seconds, timed, within
from detach.reproduce.jobs import Job
from detach.reproduce.rows import LEAD

from .reproduced import options, quiet  # type: ignore[import-not-found]

# Time may be up while a library opens a file, which is closed when it is forgotten.
INTERRUPTED = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


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

    def one(_: queueing.Queue, job: Job, __: object) -> None:
        ran.append(job.row)
        shutil.copytree(finished / "runs/tiny" / job.row / "seed0", job.folder)

    def estimate(_: queueing.Queue, job: Job) -> float:
        return 1e9 if job.row == "no-spatial-weight" and not ran else 1.0

    monkeypatch.setattr(queueing.Queue, "_one", one)
    monkeypatch.setattr(queueing.Queue, "estimate", estimate)
    reproduce(options(tmp_path / "out", homely, recipe, tables=(2,), budget="1h"), quiet)
    assert ran == ["no-temporal-weight", "no-spatial-weight"]
    assert not list(tmp_path.rglob("*.lock"))


def test_a_probe_leaves_out_the_epoch_that_sets_things_up(tmp_path: Path) -> None:
    """Of two batches it would be most of the time, and count for every epoch of a run."""
    ends_s = {"stage1": (20.0, 21.0), "stage2": (26.0, 29.0)}
    rows = [
        {"stage": stage, "losses": {}, "elapsed_s": at}
        for stage, both in ends_s.items()
        for at in both
    ]
    warning = {"stage": "stage2", "epoch": 1, "warning": "no line of an epoch"}
    lines = [json.dumps(row) for row in (*rows[:2], warning, *rows[2:])]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"cut']))
    assert stage_seconds(tmp_path) == {"stage1": 10.5, "stage2": 4.0}
    assert stage_seconds(tmp_path, warm=True) == {"stage1": 1.0, "stage2": 3.0}


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


@INTERRUPTED
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


@INTERRUPTED
def test_a_budget_for_nothing_is_refused(homely: Path, recipe: str, tmp_path: Path) -> None:
    asked = options(tmp_path / "out", homely, recipe, tables=(2,), budget="0.01s")
    with pytest.raises(UsageError, match="a budget of 0.01 s is too small"):
        reproduce(asked, quiet)


@INTERRUPTED
def test_measuring_keeps_the_budget_too(
    homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Costs, "probe", lambda *_: time.sleep(30))
    asked = options(tmp_path / "out", homely, recipe, tables=(2,), budget="2s")
    began = time.monotonic()
    with pytest.raises(UsageError, match="too small to measure a single row in"):
        reproduce(asked, quiet)
    assert time.monotonic() - began < 25


@INTERRUPTED
def test_a_budget_is_kept_by_the_clock(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows of which the first never ends, though it was thought to take a second."""
    out, budget_s = tmp_path / "out", 12.0
    shutil.copytree(finished, out)
    asked = options(out, homely, recipe, tables=(4,))
    writing_s = timed(lambda: reproduce(replace(asked, write_only=True), quiet))

    def never_ends(_: Course, __: float) -> None:
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(Course, "_between_steps", never_ends)
    monkeypatch.setattr(Costs, "known", lambda *_: True)
    monkeypatch.setattr(Costs, "estimate", lambda *_, **__: 1.0)
    said: list[str] = []
    asked = replace(asked, budget=f"{budget_s:g}s")
    took_s = timed(lambda: reproduce(asked, said.append))
    most_s = 0.85 * budget_s + 3 * writing_s + 5.0  # as slow as this machine is
    assert 0.85 * budget_s <= took_s < most_s
    rows = ("no-momentum", "constant-momentum", "weight-learns")
    assert "3 runs are left, about 3 s; the same command goes on:" in said
    assert [line for line in said if line.endswith("seed 0") and line.startswith("  tiny")] == [
        f"  tiny {row} seed 0" for row in rows
    ]
    text = (out / "tables.md").read_text()
    assert "| DETACH | 1 |" in text
    assert text.count("| 0 | not run |") == 3


@pytest.fixture
def timed_by_hand(finished: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[float]]:
    """What was measured and run, and the seconds left: a probe takes 1, a row half of one."""
    did: list[str] = []
    left_s = [6.5]

    def probe(costs: Costs, data: str, config: RunConfig, *_: object) -> None:
        did.append(f"measure {config.method}")
        left_s[0] -= 1.0
        costs.note(data, config, {})  # which is taken for a second

    def one(_: queueing.Queue, job: Job, __: object) -> None:
        did.append(f"run {job.row}")
        left_s[0] -= 0.5
        shutil.copytree(finished / f"runs/tiny/{LEAD}/seed0", job.folder)

    monkeypatch.setattr(Costs, "probe", probe)
    monkeypatch.setattr(queueing.Queue, "_one", one)
    monkeypatch.setattr(queueing.Queue, "_material", lambda *_: None)
    monkeypatch.setattr(queueing.Queue, "left_s", property(lambda _: left_s[0]))
    return did, left_s


@pytest.mark.parametrize(
    ("budget", "order"),
    [
        ("1m", "detach! detach imu2clip! imu2clip primus! primus comodo! comodo"),
        ("7s", "detach! detach infonce imu2clip! imu2clip primus! primus comodo!"),
    ],
    ids=["in turn", "what is known first"],
)
def test_a_kind_of_row_is_measured_when_its_turn_comes(
    timed_by_hand: tuple[list[str], list[float]],
    homely: Path,
    recipe: str,
    tmp_path: Path,
    budget: str,
    order: str,
) -> None:
    """Eight kinds would take longer to measure than there is time, or than a fifth of it."""
    said: list[str] = []
    reproduce(options(tmp_path, homely, recipe, tables=(1,), budget=budget), said.append)
    assert timed_by_hand[0] == [
        f"measure {name[:-1]}" if name.endswith("!") else f"run {name}" for name in order.split()
    ]
    assert any("runs are left" in line and "not measured" in line for line in said)


def test_measuring_leaves_time_for_what_is_known(
    timed_by_hand: tuple[list[str], list[float]],
    homely: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the method's kind only what trains no stage 2 is short enough."""
    did, left_s = timed_by_hand
    left_s[0] = 4.5

    def estimate(queue: queueing.Queue, job: Job) -> float:
        known = queue.costs.known(job.name, job.config)
        return math.nan if not known else 3.0 if job.row == "odc" else 99.0

    monkeypatch.setattr(queueing.Queue, "estimate", estimate)
    asked = options(tmp_path, homely, recipe, tables=(1, 8), rows=("imu2clip", "odc"), budget="1m")
    reproduce(asked, quiet)
    assert did == ["measure detach", "run odc", "measure imu2clip"]


def test_a_plan_measures_every_kind_of_row(
    timed_by_hand: tuple[list[str], list[float]], homely: Path, recipe: str, tmp_path: Path
) -> None:
    did, left_s = timed_by_hand
    left_s[0] = math.inf
    said: list[str] = []
    asked = options(tmp_path, homely, recipe, tables=(1,), plan_only=True)
    reproduce(asked, said.append)
    assert len(did) > 7
    assert len({*did}) == 7  # the methods, infonce measured as the method itself
    assert not any("not measured" in line for line in said)


@INTERRUPTED
def test_a_probe_that_takes_too_long_leaves_time_for_other_rows(
    timed_by_hand: tuple[list[str], list[float]],
    homely: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    did, left_s = timed_by_hand
    left_s[0] = 2.5
    quick = Costs.probe

    def probe(costs: Costs, data: str, config: RunConfig, *rest: object) -> None:
        if config.method == LEAD:
            time.sleep(30)
        quick(costs, data, config, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Costs, "probe", probe)
    said: list[str] = []
    asked = options(tmp_path, homely, recipe, tables=(1,), rows=("imu2clip", "infonce"))
    reproduce(replace(asked, budget="3s"), said.append)
    assert did == ["measure imu2clip", "run imu2clip"]
    assert said.count(f"not measured in time: {LEAD} on tiny") == 1
    assert "2 runs are left, not measured; the same command goes on:" in said


def test_a_row_that_waits_for_one_too_long_is_no_shorter(
    homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Costs, "known", lambda *_: True)
    monkeypatch.setattr(Costs, "estimate", lambda *_, shared: 1.0 if shared else 999.0)
    asked = options(tmp_path, homely, recipe, tables=(4,), budget="1m")
    with pytest.raises(UsageError, match="the shortest row left, .* takes about 999 s"):
        reproduce(asked, quiet)


def test_rows_can_be_chosen(homely: Path, recipe: str, tmp_path: Path) -> None:
    said: list[str] = []
    asked = options(tmp_path, homely, recipe, tables=(3,), rows=("infonce",), plan_only=True)
    reproduce(asked, said.append)
    assert "2 runs: 0 finished, 2 to do" in said
    with pytest.raises(UsageError, match="odc is no row of the tables .* no-refinement-infonce$"):
        reproduce(replace(asked, rows=("infonce", "odc")), quiet)
    with pytest.raises(UsageError, match="rows cannot be chosen for figure 14"):
        reproduce(replace(asked, figures=(14,)), quiet)


def test_the_plan_is_shown_without_training(homely: Path, recipe: str, tmp_path: Path) -> None:
    said: list[str] = []
    asked = options(tmp_path, homely, recipe, tables=(2,), seeds=2, plan_only=True)
    assert reproduce(asked, said.append) is None
    assert "6 runs: 0 finished, 6 to do" in said
    assert any("no-spatial-weight" in line and "about" in line for line in said)
    assert not (tmp_path / "runs").exists()


def test_time_that_is_up_leaves_gradients_on() -> None:
    """It may come while torch.no_grad() has turned them off and is not yet left to turn them on."""

    def end() -> None:
        torch.set_grad_enabled(False)
        raise TimeIsUpError

    with pytest.raises(TimeIsUpError), within(60.0):
        end()
    assert torch.is_grad_enabled()
