"""Homes that differ in one thing, simulated for the open questions, and the runs on them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detach.data.recording import DATASET_FILE, read_dataset
from detach.data.store import only_one
from detach.errors import DetachError, UsageError
from detach.reproduce.costs import TimeIsUpError, within
from detach.reproduce.jobs import Job
from detach.reproduce.queue import Queue

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


class Homes:
    """The homes in an output folder, and the runs on them."""

    def __init__(
        self,
        out: Path,
        minutes: float,
        workers: int,
        queue: Queue,
        runs: Callable[[str, Path], list[Job]],
    ) -> None:
        """``queue`` knows what time is left; ``runs`` are those on a home in a folder."""
        self.bad: list[DetachError] = []
        """Why homes that are there cannot be taken."""
        self.late: list[str] = []
        """Homes that there was no time to make."""
        self._out, self._minutes, self._workers = out, minutes, workers
        self._queue, self._runs = queue, runs

    def take(self, names: Sequence[str]) -> tuple[list[Job], list[str]]:
        """Runs on those of the homes ``names`` that are there, and the names of the others."""
        jobs, missing = [], []
        for home in names:
            if not (self._folder(home) / DATASET_FILE).is_file():
                missing.append(home)
                continue
            try:
                self._check(self._folder(home))
            except DetachError as error:
                self.bad.append(error)
            else:
                jobs += self._runs(home, self._folder(home))
        return _in_order(jobs), missing

    def make(self, missing: Sequence[str]) -> list[Job]:
        """Runs on homes that are made for them, as far as there is time.

        Raises:
            MachineError: MuJoCo or OpenGL is missing.
        """
        jobs = []
        for home in missing:
            if self._made(home):
                jobs += self._runs(home, self._folder(home))
            else:
                self.late.append(home)
        return _in_order(jobs)

    def say_missing(self, missing: Sequence[str]) -> None:
        """What a plan says of homes that are still to be made."""
        for home in missing:
            self._queue.say(f"the home {home!r} is to be simulated first, {self._length} of it")

    @property
    def too_late(self) -> str:
        """Which homes there was no time for, and what to do; nothing where there was."""
        if not self.late:
            return ""
        names = ", ".join(self.late)
        return f"there was no time to simulate {names}; give a longer --budget or fewer minutes"

    def _folder(self, home: str) -> Path:
        return self._out / "homes" / home

    @property
    def _length(self) -> str:
        return f"{self._minutes:g} minutes"

    def _check(self, folder: Path) -> None:
        """That a home which is there is as long as the others will be."""
        seconds = sum(recording.duration_s for recording in read_dataset(folder).recordings())
        if not math.isclose(seconds, 60 * self._minutes, rel_tol=0.01):
            raise UsageError(
                f"{folder} is {seconds / 60:.4g} minutes long, and --home-minutes is "
                f"{self._minutes:g}; give its length, name another folder with --out, or remove it"
            )

    def _made(self, home: str) -> bool:
        """Whether there was time to simulate a home, here or in another process."""
        if self._queue.left_s <= 0:
            return False
        try:
            with within(self._queue.left_s):
                self._make(self._folder(home), home)
        except TimeIsUpError:
            return False
        return True

    def _make(self, folder: Path, home: str) -> None:
        """Simulates a home, unless another process is at it or was."""
        from detach.simulate.record import Options, simulate  # noqa: PLC0415  (needs mujoco)

        say = self._queue.say
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{home}.lock")
        with only_one(lock, lambda: say(f"{home} is being simulated by another process; waiting")):
            if (folder / DATASET_FILE).is_file():
                return
            say(f"simulating the home {home!r}, {self._length}")
            runs = max(6, round(self._minutes / MINUTES_A_RUN))
            options = Options(minutes=self._minutes, seed=SEED, runs=runs, **HOMES[home])
            simulate(folder, options, say, self._workers)


def _in_order(jobs: Sequence[Job]) -> list[Job]:
    """All first seeds first."""
    return sorted(jobs, key=lambda job: job.seed)


def data_name(home: str) -> str:
    """Of a home, in paths and tables."""
    return f"home-{home}"
