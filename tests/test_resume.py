"""Ended by `kill -9` at random or chosen moments, a run ends as one that was left alone."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from detach.checkpoint import kept, load_checkpoint, older, readable
from detach.errors import DataError

from .worlds import Nursery, runs  # type: ignore[import-not-found]

SEED = int(os.environ.get("DETACH_SEED", "8"))
KILLS = 50 if "DETACH_LONG" in os.environ else 10
TRIES = 5
"""A kill that comes when the run is done is drawn again, so many times at most."""


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


def plan() -> list[str]:
    """Where each kill is aimed at: in order of a run, so that one run may live through all."""
    aimed = KILLS // 5
    early = ["re-clustering", "anywhere"] * aimed
    return early + ["switch"] * aimed + ["anywhere"] * (KILLS - 3 * aimed)


class Killer:
    """Starts one run after the other until each has been through enough."""

    def __init__(self, nursery: Nursery, job: list[str], folder: Path) -> None:
        self.nursery, self.job, self.straight = nursery, job, folder / "straight"
        (self.lines,) = nursery.run(1, self.straight, job)[f"killable-{job[2]}"]
        run = self.straight / "run"
        took_s = (run / "model.safetensors").stat().st_mtime
        took_s -= (run / "config.yaml").stat().st_mtime
        self.step_s = took_s / (4 * int(job[2]))
        self.rng = random.Random(SEED)  # noqa: S311
        self.folders = [folder / "killed0"]

    def kill(self, aim: str) -> bool:
        """Whether the kill came before the run's end; if not, the next one meets a new run."""
        folder, draw = self.folders[-1], self.rng
        before = newest(folder)
        if aim != "anywhere":
            line = draw.randint(1, self.lines[aim])
            (pid,) = self.nursery.start(1, folder, [*self.job, aim, str(line)])
        else:
            (pid,) = self.nursery.start(1, folder, self.job)
            if draw.random() < 0.8:  # otherwise it may not come so far
                while newest(folder) == before and runs(pid):
                    time.sleep(0.005)
            time.sleep(draw.uniform(0.0, 2.0) * self.step_s)
            os.kill(pid, signal.SIGKILL)
        if status := self.nursery.wait(pid):
            assert status == -signal.SIGKILL, (folder / "log.txt").read_text()
            return True
        self.folders.append(folder.with_name(f"killed{len(self.folders)}"))
        return False

    def check_left(self) -> None:
        """No checkpoint that cannot be read, at most one orphan."""
        folder = self.folders[-1]
        for path in (folder / "run/checkpoints").glob("*.safetensors"):
            load_checkpoint(path, {})
        left = [p.name for p in folder.rglob(".*") if p.name.endswith(".part")]
        assert len(left) <= 1, left

    def check_end(self, folder: Path) -> None:
        """What a finished run holds is what the one that was left alone holds."""
        model = "run/model.safetensors"
        assert (folder / model).read_bytes() == (self.straight / model).read_bytes()
        straight, resumed = sums(self.straight), sums(folder)
        assert {epoch.split()[0] for epoch in straight} == {"stage1", "stage2"}
        assert all(len(values) == 1 for values in resumed.values())
        assert all(straight[epoch] == values for epoch, values in resumed.items())
        assert log(folder) == log(self.straight)


@pytest.mark.timeout(900)
def test_kills_at_random_moments_change_nothing(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    killer = Killer(nursery, ["killable", str(tiny_dataset), str(KILLS // 2 + 1)], tmp_path)
    assert min(killer.lines.values()) > 50
    killed = 0
    for aim in plan():
        tried = next((n for n in range(TRIES) if killer.kill(aim)), None)
        assert tried is not None, f"{TRIES} kills at {aim} came too late"
        killer.check_left()
        killed += 1
    assert killed == KILLS
    nursery.run(1, killer.folders[-1], killer.job)
    for folder in killer.folders:
        killer.check_end(folder)


def test_damaged_checkpoints_are_passed_over(
    nursery: Nursery, tiny_dataset: Path, tmp_path: Path
) -> None:
    job = ["killable", str(tiny_dataset), "4"]
    (pid,) = nursery.start(1, tmp_path, job)
    last = tmp_path / "run/checkpoints/last.safetensors"
    while not older(last, 3).is_file() and runs(pid):
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    nursery.wait(pid)
    *newer, oldest = kept(last)
    whole = {path: path.read_bytes() for path in newer}
    assert len(newer) >= 2
    for path, raw in whole.items():
        path.unlink()  # the one before may be the same file yet
        path.write_bytes(raw[:-9])
        with pytest.raises(DataError):
            load_checkpoint(path, {})
    said: list[str] = []
    assert readable(last, said.append) == oldest
    nursery.run(1, tmp_path, job)
    assert (tmp_path / "run/model.safetensors").is_file()
    assert len(kept(last)) == 4
