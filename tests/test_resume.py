"""Ended by `kill -9` at random moments, a run that resumes ends as one that was left alone."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from detach.checkpoint import load_checkpoint, older
from detach.errors import DataError

from .worlds import Nursery, runs  # type: ignore[import-not-found]

SEED = int(os.environ.get("DETACH_SEED", "8"))
KILLS = 50 if "DETACH_LONG" in os.environ else 10


def sums(folder: Path) -> dict[str, set[str]]:
    """SHA-256 of weights, momentum copies, bank and optimizer after each epoch."""
    found: dict[str, set[str]] = {}
    for line in (folder / "sums.txt").read_text().splitlines():
        stage, epoch, value = line.split()
        found.setdefault(f"{stage} {epoch}", set()).add(value)
    return found


def log(folder: Path) -> list[str]:
    """Lines of the epochs, without what depends on the clock."""
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()
    return [line.partition(', "windows_per_s"')[0] for line in lines]


def newest(folder: Path) -> int:
    """When the newest checkpoint was written."""
    last = folder / "run/checkpoints/last.safetensors"
    return last.stat().st_mtime_ns if last.is_file() else 0


def test_kills_at_random_moments_change_nothing(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    job = ["killable", str(tiny_dataset), str(KILLS // 2 + 1)]
    nursery.run(1, tmp_path / "straight", job)
    run = tmp_path / "straight/run"
    took_s = (run / "model.safetensors").stat().st_mtime - (run / "config.yaml").stat().st_mtime
    steps = 4 * (KILLS // 2 + 1)
    rng, folder, killed = random.Random(SEED), tmp_path / "killed", 0  # noqa: S311
    while killed < KILLS:
        before = newest(folder)
        (pid,) = nursery.start(1, folder, job)
        if rng.random() < 0.8:  # otherwise it may not come so far
            while newest(folder) == before and runs(pid):
                time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 2.0) * took_s / steps)
        os.kill(pid, signal.SIGKILL)
        if nursery.wait(pid) == 0:  # it was done sooner
            break
        killed += 1
        for path in (folder / "run/checkpoints").glob("*.safetensors"):
            load_checkpoint(path, {})
        left = [p.name for p in folder.rglob(".*") if p.name.endswith(".part")]
        assert len(left) <= 1, left
    nursery.run(1, folder, job)
    assert killed >= KILLS // 2, f"only {killed} kills came in time"
    assert (folder / "run/model.safetensors").read_bytes() == (
        tmp_path / "straight/run/model.safetensors"
    ).read_bytes()
    straight, resumed = sums(tmp_path / "straight"), sums(folder)
    assert {epoch.split()[0] for epoch in straight} == {"stage1", "stage2"}
    assert all(len(values) == 1 for values in resumed.values())
    assert all(straight[epoch] == values for epoch, values in resumed.items())
    assert log(folder) == log(tmp_path / "straight")


def test_a_damaged_checkpoint_is_passed_over(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    job = ["killable", str(tiny_dataset), "4"]
    (pid,) = nursery.start(1, tmp_path, job)
    last = tmp_path / "run/checkpoints/last.safetensors"
    while not older(last).is_file():
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    nursery.wait(pid)
    whole = last.read_bytes()
    last.unlink()  # the one before may be the same file yet
    last.write_bytes(whole[:-9])
    with pytest.raises(DataError):
        load_checkpoint(last, {})
    nursery.run(1, tmp_path, job)
    assert (tmp_path / "run/model.safetensors").is_file()
