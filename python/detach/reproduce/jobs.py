"""The runs behind every table: one row, one seed, one data set each; and what became of them."""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from detach.config import RunConfig
from detach.errors import DataError, DetachError
from detach.model import MODEL_FILE
from detach.reproduce.rows import LEAD, ROWS, configured
from detach.results import RESULTS_FILE

SHARED = ("seed", "windows", "sensors", "video", "split", "encoders", "stage1", "augment")
"""Options that stage 1 depends on."""
OF_MACHINE = ("threads", "device", "precision", "checkpoints")
"""Options that a run may differ in and still be the same row."""


@dataclass(frozen=True)
class Job:
    """One row, one seed, one data set."""

    row: str
    seed: int
    data: Path
    name: str
    """Of the data set."""
    config: RunConfig
    folder: Path
    method: RunConfig
    """The configuration of the method itself, on the same recipe and seed."""

    @property
    def done(self) -> bool:
        """Trained and evaluated."""
        return (self.folder / RESULTS_FILE).is_file() and self.trained

    @property
    def trained(self) -> bool:
        """Whether its weights are there."""
        return (self.folder / MODEL_FILE).is_file()

    @property
    def twin(self) -> Path | None:
        """The run of the method that this one is, but for what is done to the test part."""
        same = replace(self.config, tested=self.method.tested) == self.method
        own = self.folder.parents[1] / LEAD / self.folder.name
        return own if same and self.row != LEAD else None

    @property
    def source(self) -> Path | None:
        """The run that must be there before this one."""
        return self.twin or self.lead

    @property
    def lead(self) -> Path | None:
        """The run of the method whose stage 1 is this one's too."""
        if self.row == LEAD or self.config.method not in {"detach", "infonce"}:
            return None
        like = all(getattr(self.method, name) == getattr(self.config, name) for name in SHARED)
        return self.folder.parents[1] / LEAD / self.folder.name if like else None


@dataclass
class Outcome:
    """What became of a queue."""

    ran: list[Job] = field(default_factory=list)
    left: list[Job] = field(default_factory=list)
    """Not begun, or not finished, for want of time."""
    errors: dict[tuple[str, str], DetachError] = field(default_factory=dict)
    """(data set, row): why it cannot be trained."""
    damaged: dict[Path, DataError] = field(default_factory=dict)
    """Run folders that cannot be read, or not gone on with, and what to do."""

    @property
    def failed(self) -> dict[tuple[str, str], str]:
        """Why rows that have no numbers have none."""
        folders = {(f.parents[1].name, f.parent.name): e for f, e in self.damaged.items()}
        return {which: str(error) for which, error in (folders | self.errors).items()}

    def over(self, job: Job) -> bool:
        """Whether there is nothing to be tried any more."""
        return job.done or job.folder in self.damaged or (job.name, job.row) in self.errors


def make_jobs(
    out: Path, data: Mapping[str, Path], rows: Sequence[str], seeds: int, base: RunConfig
) -> list[Job]:
    """All runs: the first seed of every row before any second one."""
    return [
        Job(
            row,
            seed,
            folder,
            name,
            configured(row, base, seed),
            out / "runs" / name / row / f"seed{seed}",
            configured(LEAD, base, seed),
        )
        for seed in range(seeds)
        for name, folder in data.items()
        for row in rows
        if seed < (ROWS[row].seeds or seeds)
    ]


@contextmanager
def held(job: Job) -> Iterator[bool]:
    """Whether this process may run a job; the lock goes with the process, however that ends."""
    path = job.folder.with_name(f".{job.folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # not every network file system has locks
            pass
        try:
            yield True
        finally:
            if job.done:  # whoever has it open still will see that too
                path.unlink(missing_ok=True)
