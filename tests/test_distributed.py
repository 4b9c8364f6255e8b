"""Several processes train as one does: losses, gradients, statistics, whole runs, refusals."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from detach.config import PRESETS
from detach.distributed import ALONE
from detach.distributed.ring import visits
from detach.share import Share

from .world_jobs import SMALL  # type: ignore[import-not-found]
from .worlds import Nursery, free_port  # type: ignore[import-not-found]

pytestmark = pytest.mark.timeout(900)  # what all tests share takes minutes on a busy machine
LIMIT = {"float64": 1e-12, "float32": 2e-6}
long = pytest.mark.skipif("DETACH_LONG" not in os.environ, reason="DETACH_LONG asks for it")


@pytest.fixture(scope="module")
def two(nursery: Nursery, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What two processes found, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    jobs = [["losses"], ["norms"], ["banks"]]
    jobs += [["astray", str(tiny_dataset), how] for how in ("options", "rows", "weights", "nan")]
    jobs += [["training", str(tiny_dataset)]]
    return nursery.run(2, folder, *jobs), folder


SHORT: dict[str, dict[str, Any]] = {
    name: {"preset": name, "ring": k % 2 == 0, "stage1": {"epochs": 4}, "stage2": {"epochs": 6}}
    for k, name in enumerate(PRESETS)
}
"""Two steps an epoch: 20 in all."""


def short_runs(data: Path) -> list[list[str]]:
    return [["training", str(data), json.dumps(SHORT[name]), name] for name in SHORT]


@pytest.fixture(scope="module")
def one(nursery: Nursery, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short runs by one process."""
    folder = tmp_path_factory.mktemp("one")
    nursery.run(1, folder, *short_runs(tiny_dataset))
    return folder


@pytest.fixture(scope="module")
def four(
    nursery: Nursery, tiny_dataset: Path, one: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """One world of four for all that is asked of it; ``one`` has prepared the pictures."""
    assert one.is_dir()
    folder = tmp_path_factory.mktemp("four")
    jobs = [["losses"], ["norms"], ["banks"], *short_runs(tiny_dataset)]
    return nursery.run(4, folder, *jobs), folder


@pytest.mark.parametrize("world", ["two", "four"])
def test_loss_and_gradient_are_those_of_one_process(
    world: str, request: pytest.FixtureRequest
) -> None:
    members = request.getfixturevalue(world)[0]["losses"]
    assert {key.split()[1] for key in members[0]} >= set(PRESETS)
    for cases in members:
        for key, errors in cases.items():
            assert max(errors) <= LIMIT[key.split()[2]], key


@pytest.mark.parametrize("world", ["two", "four"])
def test_batch_norm_sees_the_whole_batch(world: str, request: pytest.FixtureRequest) -> None:
    for cases in request.getfixturevalue(world)[0]["norms"]:
        assert sorted(cases) == ["2", "3", "4", "5"]
        assert max(x for errors in cases.values() for x in errors) <= 1e-11


@pytest.mark.parametrize("world", ["two", "four"])
def test_a_bank_that_is_cut_is_a_bank(world: str, request: pytest.FixtureRequest) -> None:
    for errors in request.getfixturevalue(world)[0]["banks"]:
        assert max(errors.values()) <= 1e-6, errors
        assert errors["labels"] == errors["refilled"] == errors["small"] == 0.0


def assert_same_run(a: Path, b: Path) -> None:
    ours, theirs = (load_file(x / "run/model.safetensors") for x in (a, b))
    for name, x in ours.items():
        torch.testing.assert_close(x, theirs[name], rtol=0.0, atol=1e-10, msg=name)
    one, other = (load_file(x / "clustering.safetensors") for x in (a, b))
    for name in ("label", "confident", "previous"):
        assert torch.equal(one[name], other[name]), name
    torch.testing.assert_close(one["centroids"], other["centroids"], rtol=0.0, atol=1e-10)
    rows = [
        [json.loads(x) for x in (folder / "run/metrics.jsonl").read_text().splitlines()]
        for folder in (a, b)
    ]
    for row, like in zip(*rows, strict=True):
        assert row.get("clusters_size") == like.get("clusters_size")
        assert row.get("losses", {}) == pytest.approx(like.get("losses", {}), abs=1e-9)


def test_a_run_is_that_of_one_process(
    two: Any, nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    nursery.run(1, tmp_path, ["training", str(tiny_dataset)])
    assert_same_run(tmp_path, two[1])


@pytest.mark.parametrize("name", SHORT)
def test_four_processes_train_every_preset_as_one(one: Path, four: Any, name: str) -> None:
    """Both stages, and 20 steps; the ring for every other preset, and DETACH_LONG for the rest."""
    assert_same_run(one / name, four[1] / name)
    rows = [json.loads(x) for x in (one / name / "run/metrics.jsonl").read_text().splitlines()]
    assert sum(row["step"] for row in rows if "losses" in row) >= 20


CHANGES: dict[str, dict[str, Any]] = {
    **{f"{name}, gathered": {"preset": name} for name in PRESETS},
    **{f"{name}, ring": {"preset": name, "ring": True} for name in PRESETS},
    "overlap left out": {"stage2": {"mask_overlap": True}},
    "hard negatives": {"stage2": {"negatives": "hcl"}},
    "literal": {"stage2": {"temporal": "cross", "transpose": False}},
    "random labels": {"stage1": {"pseudo_labels": "random"}},
}


@long
@pytest.mark.parametrize("name", CHANGES)
def test_every_form_trains_as_one_process(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path, name: str
) -> None:
    changes = json.dumps(CHANGES[name])
    for size in (1, 4):
        nursery.run(size, tmp_path / str(size), ["training", str(tiny_dataset), changes])
    assert_same_run(tmp_path / "1", tmp_path / "4")


def test_shares_are_nearly_equal_and_cover_the_batch() -> None:
    for whole in range(1, 40):
        for processes in range(1, 9):
            shares = [Share.of(whole, r, processes) for r in range(processes)]
            assert [i for s in shares for i in range(s.start, s.stop)] == list(range(whole))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("processes", range(2, 10))
def test_a_ring_visits_each_pair_of_windows_once(processes: int) -> None:
    count = 4 * processes + 3
    shares = [Share.of(count, r, processes) for r in range(processes)]
    met = []
    for rank, share in enumerate(shares):
        own = list(range(share.start, share.stop))
        met += [{i, j} for i in own for j in own if i < j]
        for visit in visits(rank, processes, count):
            other = shares[visit.ahead]
            theirs = list(range(other.start, other.stop))[visit.theirs]
            met += [{i, j} for i in own[visit.own] for j in theirs]
    pairs = {frozenset(pair) for pair in met}
    assert len(met) == len(pairs) == count * (count - 1) // 2


def test_a_world_of_one_changes_nothing() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    assert ALONE.gather(x) is x
    assert ALONE.sum_numbers([1.5]) == [1.5]
    assert ALONE.texts("a") == ["a"]
    assert ALONE.lead(lambda: 7) == 7


REFUSED: dict[str, tuple[str, str]] = {
    "options": ("UsageError", "process 1 of 2 has stage2.temperature '0.2', process 0 has '0.1'"),
    "rows": ("ValueError", "process 0 of 2 has 3 windows of a batch of 8, its share is 4"),
    "weights": ("MachineError", "weights of process 1 are not those of process 0"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_differs_is_named_on_all(how: str, two: Any) -> None:
    kind, said = REFUSED[how]
    for found in two[0][f"astray-{how}"]:
        assert found["error"] == kind
        assert said in found["said"]


def test_one_that_does_not_answer_is_named(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    worlds = {}
    for how in ("dies", "hangs"):
        job = ["astray", str(tiny_dataset), how]
        worlds[how] = nursery.start(2, tmp_path, job, DETACH_TIMEOUT_S="2")
    for how, pids in worlds.items():
        nursery.wait(pids[0])
        os.kill(pids[1], 9)
        found = json.loads((tmp_path / f"astray-{how}.0.json").read_text())
        assert found["error"] == "MachineError"
        assert f", pid {pids[1]}) did not answer" in found["said"]
        assert "process 1 of 2" in found["said"]
        assert "--resume" in found["said"]


def test_a_batch_that_is_no_number_on_one_process_is_left_out_on_all(two: Any) -> None:
    assert [found["error"] for found in two[0]["astray-nan"]] == [None, None]
    run = two[1] / "nan"
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    skipped = [row for row in rows if "nan" in str(row.get("skipped"))]
    assert [(row["stage"], row["epoch"], row["step"]) for row in skipped] == [("stage1", 1, 2)]
    weights = load_file(run / "model.safetensors")
    assert all(bool(x.isfinite().all()) for x in weights.values() if x.is_floating_point())


def flags(folder: Path, **changes: Any) -> list[str]:
    """Words of a short run, whose second stage may be long."""
    recipe = folder / "recipe.yaml"
    stages = {"stage1": {**SMALL["stage1"], "epochs": 2}, "stage2": {**SMALL["stage2"], **changes}}
    recipe.write_text(yaml.safe_dump({**SMALL, **stages}))
    return ["--config", str(recipe), "--out", str(folder / "run")]


def test_a_signal_saves_and_only_as_many_processes_go_on(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    words = ["detach", "train", str(tiny_dataset), *flags(tmp_path, epochs=10)]
    pids = nursery.start(2, tmp_path, words)
    metrics = tmp_path / "run/metrics.jsonl"
    while not (metrics.is_file() and "stage2" in metrics.read_text()):
        time.sleep(0.05)
    for pid in pids:  # as torchrun does
        os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    assert [nursery.wait(pid) for pid in pids] == [130, 130]
    assert time.monotonic() - began < 10.0
    assert (tmp_path / "log.txt").read_text().count("--resume goes on") == 1
    (alone,) = nursery.start(1, tmp_path, [*words, "--resume"])
    assert nursery.wait(alone) == 2
    said = (tmp_path / "log.txt").read_text()
    assert "was written by 2 processes" in said
    assert "start 2 with torchrun, not 1, or train into a new folder" in said
    pids = nursery.start(2, tmp_path, [*words, "--resume"])
    assert [nursery.wait(pid) for pid in pids] == [0, 0]
    epochs = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [e["epoch"] for e in epochs if e["stage"] == "stage2" and "losses" in e] == [
        *range(1, 11)
    ]
    assert (tmp_path / "log.txt").read_text().count("run is finished") == 1


def test_a_folder_that_another_run_holds_is_refused_once(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    held = os.open(tmp_path / "run", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        pids = nursery.start(2, tmp_path, ["detach", "train", str(tiny_dataset), *flags(tmp_path)])
        assert [nursery.wait(pid) for pid in pids] == [2, 2]
    finally:
        os.close(held)
    said = (tmp_path / "log.txt").read_text()
    assert said.count("another process is training into it") == 1


def test_rivals_train_in_one_process(nursery: Nursery, tiny_dataset: Path, tmp_path: Path) -> None:
    words = ["detach", "train", str(tiny_dataset), *flags(tmp_path), "--method", "imu2clip"]
    assert [nursery.wait(pid) for pid in nursery.start(2, tmp_path, words)] == [2, 2]
    said = (tmp_path / "log.txt").read_text()
    assert said.count("method imu2clip trains in one process; start it without torchrun") == 1


def test_torchrun_trains(tiny_dataset: Path, tmp_path: Path) -> None:
    words = [*flags(tmp_path), "--method", "supervised"]
    words += ["--supervised.epochs", "1", "--supervised.least-steps", "1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--master-addr", "127.0.0.1"]
    command = [*launcher, "--master-port", free_port(), "--nproc-per-node", "2", "-m", "detach"]
    done = subprocess.run(  # noqa: S603 -- our own program
        [*command, "train", str(tiny_dataset), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is finished") == 1
    assert json.loads((tmp_path / "run/env.json").read_text())["processes"] == 2


LEAVES = """
import sys
from pathlib import Path
import torch
from detach.distributed import joined

weight = torch.nn.Parameter(torch.ones(3))
with joined("cpu") as world:
    weight.sum().backward()
    torch.optim.AdamW([weight]).step()  # imports much of torch
    world.sum_gradients([weight])
names = [p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")]
sys.exit(", ".join(n for n in names if "gloo" in n) or None)
"""


def test_nobody_leaves_threads_behind() -> None:
    """What gloo's threads still hold would abort the process while the interpreter goes."""
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(  # noqa: S603 -- our own program
            [sys.executable, "-c", LEAVES],
            env={**env, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
