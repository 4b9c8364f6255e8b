"""Homes that differ in one thing, simulated for the open questions, and the runs on them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detach.config import RunConfig
from detach.data.recording import read_dataset, read_recording
from detach.data.store import only_one
from detach.errors import UsageError
from detach.reproduce.costs import TimeIsUpError, within
from detach.reproduce.jobs import Job, make_jobs
from detach.reproduce.queue import Queue
from detach.reproduce.rows import LEAD

SEED = 11
MINUTES_A_RUN = 8.0
USUAL = "usual"
HOMES: Mapping[str, Mapping[str, Any]] = {
    USUAL: {},
    "extra": {"extra": ("sound", "light", "power")},
    "two": {"people": 2},
    "three": {"people": 3},
    "head": {"camera": "head"},
}
"""How they differ, as options of the simulator."""


@dataclass(frozen=True)
class Homes:
    """The homes in an output folder, each ``minutes`` long."""

    out: Path
    minutes: float
    workers: int
    queue: Queue
    """Whose time is left, and who speaks."""

    def jobs(
        self, rows: Mapping[str, Sequence[str]], seeds: int, base: RunConfig, *, simulate: bool
    ) -> list[Job]:
        """Runs of ``rows``, by home; makes the homes that are not there, or leaves them out.

        Raises:
            UsageError: A home that is there has another length, or there is no time to make one.
            MachineError: A home is to be made, and MuJoCo or OpenGL is missing.
        """
        jobs, late = [], []
        for home, names in rows.items():
            folder = self.out / "homes" / home
            if (folder / "dataset.json").is_file():
                self._check(folder)
            elif not simulate:
                self.queue.say(f"the home {home!r} is to be simulated first, {self._length} of it")
                continue
            elif not self._made(folder, home):
                late.append(home)
                continue
            all_names = tuple(dict.fromkeys([*(row for row in names if row == LEAD), *names]))
            jobs += make_jobs(self.out, {data_name(home): folder}, all_names, seeds, base)
        if late:
            self._say_late(late, any_there=bool(jobs))
        return sorted(jobs, key=lambda job: job.seed)  # all first seeds first

    @property
    def _length(self) -> str:
        return f"{self.minutes:g} minutes"

    def _check(self, folder: Path) -> None:
        """That a home which is there is as long as the others will be."""
        names = [name for part in read_dataset(folder).splits.values() for name in part]
        seconds = sum(read_recording(folder / name).duration_s for name in names)
        if not math.isclose(seconds, 60 * self.minutes, rel_tol=0.01):
            raise UsageError(
                f"{folder} is {seconds / 60:.4g} minutes long, and --home-minutes is "
                f"{self.minutes:g}; give its length, name another folder with --out, or remove it"
            )

    def _made(self, folder: Path, home: str) -> bool:
        """Whether there was time to simulate a home, here or in another process."""
        if self.queue.left_s <= 0:
            return False
        try:
            with within(self.queue.left_s):
                self._make(folder, home)
        except TimeIsUpError:
            return False
        return True

    def _make(self, folder: Path, home: str) -> None:
        """Simulates a home, unless another process is at it or was."""
        from detach.simulate.record import Options, simulate  # noqa: PLC0415  (needs mujoco)

        say = self.queue.say
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{home}.lock")
        with only_one(lock, lambda: say(f"{home} is being simulated by another process; waiting")):
            if (folder / "dataset.json").is_file():
                return
            say(f"simulating the home {home!r}, {self._length}")
            runs = max(6, round(self.minutes / MINUTES_A_RUN))
            options = Options(minutes=self.minutes, seed=SEED, runs=runs, **HOMES[home])
            simulate(folder, options, say, self.workers)

    def _say_late(self, late: Sequence[str], *, any_there: bool) -> None:
        text = f"there was no time to simulate {', '.join(late)}; homes begun are begun anew"
        if not any_there:
            raise UsageError(f"{text}: give a longer --budget, or --home-minutes fewer")
        self.queue.say(f"{text} by the same command")


def data_name(home: str) -> str:
    """Of a home, in paths and tables."""
    return f"home-{home}"
