"""What is to be trained, in which order, and for how long: the queue behind every table."""

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from detach.config import RunConfig
from detach.data.store import write_whole
from detach.errors import DataError, DetachError, DivergedError, UsageError, no_memory
from detach.evaluate import evaluate
from detach.model import (
    CONFIG_FILE,
    ENV_FILE,
    METRICS_FILE,
    MODEL_FILE,
    STATS_FILE,
    load_config,
    load_run,
    save_config,
)
from detach.reproduce.costs import (
    LEAST_S,
    Costs,
    TimeIsUpError,
    kind_of,
    stage_seconds,
    timed,
    within,
)
from detach.reproduce.jobs import OF_MACHINE, Job, Outcome, held
from detach.train import Material, load_material, train

Say = Callable[[str], None]
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
TO_WRITE = 0.15
"""Share of a budget kept for tables and pages, at most `TO_WRITE_S`."""
TO_WRITE_S = 45.0
TO_MEASURE = 0.2
"""Share of a budget that measuring may take while something known could be run instead."""
PROBE = 0.5
"""Share of the time left that a probe may take: the row itself takes longer than its probe."""
PAUSE_S = 3.0
"""Between two looks at what another process trains."""


def budget_s(text: str | None) -> float:
    """Seconds of ``20m``, ``90s``, ``2h`` or a plain number of seconds; infinite for None.

    Raises:
        UsageError: It is none of these.
    """
    if text is None:
        return math.inf
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"budget must be like 90s, 20m or 2h, got {text!r}")
    return float(match[1]) * UNITS_S[match[2]]


class Queue:
    """Runs jobs one after the other within a budget, so that it can be stopped at any time."""

    def __init__(self, out: Path, budget: float, say: Say, *, begin_all: bool = False) -> None:
        """``begin_all``: runs that are too long are begun too, to resume in the next budget."""
        self.costs = Costs(out)
        self.say, self._begin_all = say, begin_all
        self._budget = budget
        self._end = time.monotonic() + budget - min(TO_WRITE * budget, TO_WRITE_S)
        self._kept: dict[str, Material] = {}
        self._broken: dict[str, DataError] = {}
        """What cannot be cut into windows, and why."""
        self.odd: dict[tuple[str, str], DetachError] = {}
        """(data set, row) that could not be measured, and why: to be tried nevertheless."""
        self._slow: set[str] = set()
        """Kinds of runs whose probe took too long."""
        self._to_measure_s = TO_MEASURE * budget

    @property
    def left_s(self) -> float:
        """Of the budget, what writing needs left out; for ever without one."""
        return math.inf if math.isinf(self._budget) else self._end - time.monotonic()

    def estimate(self, job: Job) -> float:
        """Seconds; NaN where nothing like it was measured."""
        if job.twin is not None:
            return self.costs.after(job.name, job.config)
        return self.costs.estimate(job.name, job.config, shared=job.lead is not None)

    def measure(self, jobs: Sequence[Job], *, all_kinds: bool) -> None:
        """Probes kinds of runs of which nothing is known yet, while time lasts.

        ``all_kinds``: every one; otherwise until one is known, the others when their turn comes.
        """
        for job in jobs:
            if not job.done and self._unknown(job):
                self._measure(job, self.left_s)
            if not job.done and not all_kinds and self.costs.known(job.name, job.config):
                return

    def _unknown(self, job: Job) -> bool:
        """Whether this kind of run is to be measured."""
        if (job.name, job.row) in self.odd or self.costs.known(job.name, job.config):
            return False
        return kind_of(job.name, job.config) not in self._slow

    def _measure(self, job: Job, room_s: float) -> None:
        """Probes this kind of run, unless that takes more than ``room_s``."""
        before_s = self.left_s
        if room_s < LEAST_S:
            return
        self.say(f"measuring {job.row} on {job.name}")
        try:
            with within(room_s):
                material = self._material(job)
            with within(min(PROBE * self.left_s, room_s - self._since(before_s))):
                self.costs.probe(job.name, job.config, material)
        except TimeIsUpError:
            if room_s >= before_s:  # no other row would have been run instead
                self._slow.add(kind_of(job.name, job.config))
            self.say(f"not measured in time: {job.row} on {job.name}")
        except (DataError, DivergedError, UsageError) as error:
            self.odd[job.name, job.row] = error
        self._to_measure_s -= self._since(before_s)

    def _since(self, before_s: float) -> float:
        """Seconds since so many were left."""
        return 0.0 if math.isinf(before_s) else before_s - self.left_s

    def _room_s(self, free: Sequence[Job]) -> float:
        """Seconds that measuring may take now, so that one of what is known can still be run."""
        estimates = [self.estimate(job) for job in free]
        fitting = [seconds for seconds in estimates if seconds <= self.left_s]
        spare_s = self.left_s - min(fitting, default=0.0)
        return min(self._to_measure_s, spare_s) if fitting else spare_s

    def run(self, jobs: Sequence[Job], outcome: Outcome) -> None:
        """Trains and evaluates what is not there yet; the same command elsewhere shares the work.

        Raises:
            UsageError: The budget does not suffice to begin a single one of them.
            KeyboardInterrupt: Stopped; what is saved stands.
        """
        todo = [job for job in jobs if not job.done]
        asked, waits, begun = len(todo), False, bool(outcome.ran)
        while todo := [job for job in todo if not outcome.over(job)]:
            try:
                turn = self._turn(todo, f"[{asked - len(todo) + 1}/{asked}]", outcome)
            except TimeIsUpError:
                turn, begun = None, True
            if turn is None:  # estimates may fall while others run, so that none is given up before
                outcome.left += todo
                if not begun:
                    self._check_budget(todo)
                return
            begun = True
            if not turn:
                if not waits:
                    self.say("what is left to do is being trained by another process; waiting")
                time.sleep(PAUSE_S)
            waits = not turn

    def _turn(self, todo: Sequence[Job], number: str, outcome: Outcome) -> bool | None:
        """Whether a job was free to be run here; None where there is time for none.

        Raises:
            TimeIsUpError: In the middle of it.
        """
        free, found = _free(todo), None
        measures = not self._begin_all and not math.isinf(self.left_s)
        for sparing in (True, False):
            for job in free:
                if measures and self._unknown(job):
                    self._measure(job, self._room_s(free) if sparing else self.left_s)
                if self._fits(job):
                    if self._tried(job, number, outcome):
                        return True
                    found = False
        return found

    def _fits(self, job: Job) -> bool:
        if self._begin_all:
            return self.left_s > 0
        odd = (job.name, job.row) in self.odd or (
            job.twin is not None and math.isnan(self.estimate(job))  # a probe does not test
        )
        return odd or math.isinf(self.left_s) or self.estimate(job) <= self.left_s

    def _tried(self, job: Job, number: str, outcome: Outcome) -> bool:
        """Whether a job was free to be run here, whatever came of it.

        Raises:
            TimeIsUpError: In the middle of it.
        """
        with held(job) as mine:
            if not mine or job.done:
                return mine
            self.say(f"{number} {job.name}, {job.row}, seed {job.seed}")
            try:
                with within(self.left_s):
                    self._one(job, outcome)
                outcome.ran.append(job)
            except DamagedRunError as error:
                self.say(str(error))
                outcome.damaged[job.folder] = error
            except (DivergedError, UsageError, DataError) as error:
                self._give_up(job, error, outcome)
            except (MemoryError, RuntimeError) as error:
                if (lack := no_memory(error)) is None:
                    raise
                self._give_up(job, lack, outcome)
        return True

    def _give_up(self, job: Job, error: DetachError, outcome: Outcome) -> None:
        if str(error) not in outcome.failed.values():
            self.say(f"{job.row} cannot be trained: {error}")
        outcome.errors[job.name, job.row] = error

    def _check_budget(self, waiting: Sequence[Job]) -> None:
        """Says in an error why not a single job could be begun."""
        if math.isinf(self._budget) or self._begin_all:
            return
        known = [(self.estimate(job), job) for job in _free(waiting)]
        known = [pair for pair in known if not math.isnan(pair[0])]
        if not known:
            raise UsageError(
                f"a budget of {self._budget:g} s is too small to measure a single row in"
            )
        shortest, job = min(known, key=lambda pair: pair[0])
        raise UsageError(
            f"a budget of {self._budget:g} s is too small: the shortest row left, {job.row} on "
            f"{job.name}, takes about {shortest:.0f} s, and {max(self.left_s, 0):.0f} s are "
            "left to train in; give more"
        )

    def _one(self, job: Job, outcome: Outcome) -> None:
        """Trains and tests; where that was begun, goes on.

        Raises:
            DamagedRunError: The run folder, or the one it takes its weights from, is damaged.
            DetachError: This row cannot be trained on these data.
        """
        if not job.trained and job.twin is not None:
            with _blamed(job.twin):
                _copy(job.twin, job.folder, job.config)
        if not job.trained:
            self._train(job, outcome)
            self.costs.note(job.name, job.config, stage_seconds(job.folder))
        with _blamed(job.folder):
            load_run(job.folder)
        after = timed(lambda: evaluate([job.folder], job.data))
        self.costs.note(job.name, job.config, {"after": after})

    def _train(self, job: Job, outcome: Outcome) -> None:
        material, source = self._material(job), _stage1_of(job, outcome)
        if (job.folder / CONFIG_FILE).is_file():
            with _blamed(job.folder):
                config = _as_begun(job)
                train(material, job.folder, config, resume=True, stage1_from=source, say=self.say)
        else:
            train(material, job.folder, job.config, resume=False, stage1_from=source, say=self.say)

    def _material(self, job: Job) -> Material:
        """Windows as the job sees them; those of two kinds of job are kept."""
        c = job.config
        pictures = c.method != "supervised"
        parts = (job.data, c.windows, c.sensors, c.video, c.split, c.encoders.flow, pictures)
        key = repr(parts)
        if key not in self._kept:
            if key in self._broken:
                raise self._broken[key]
            while len(self._kept) > 1:
                del self._kept[next(iter(self._kept))]
            try:
                self._kept[key] = load_material(job.data, c, self.say)
            except DataError as error:
                self._broken[key] = error
                raise
        return self._kept[key]


def _free(todo: Sequence[Job]) -> list[Job]:
    """Those that wait for no other one."""
    folders = {job.folder for job in todo}
    return [job for job in todo if job.source not in folders]


class DamagedRunError(DataError):
    """A run folder cannot be read or gone on with; others can."""


@contextmanager
def _blamed(folder: Path) -> Iterator[None]:
    """What is wrong inside is wrong with a run folder.

    Raises:
        DamagedRunError: With what to do about it.
    """
    try:
        yield
    except DataError as error:
        raise DamagedRunError(
            f"{error}; remove {folder}, and the same command trains it again"
        ) from error


def _stage1_of(job: Job, outcome: Outcome) -> Path | None:
    """The method's own run, to take stage 1 from; not where it is not there, or damaged."""
    lead = job.lead
    if lead is None or lead in outcome.damaged or not (lead / MODEL_FILE).is_file():
        return None
    try:
        with _blamed(lead):
            load_run(lead)
    except DamagedRunError as error:
        outcome.damaged[lead] = error
        return None
    return lead


def _as_begun(job: Job) -> RunConfig:
    """With as many threads and so on as it was begun with, so that it stays one run."""
    begun, _ = load_config(job.folder)
    return replace(job.config, **{name: getattr(begun, name) for name in OF_MACHINE})


def _copy(twin: Path, folder: Path, config: RunConfig) -> None:
    """A run that differs in its test alone: the weights of another, under its own options.

    Raises:
        DataError: That one is not there.
    """
    if not (twin / MODEL_FILE).is_file():
        raise DataError(f"{twin} was not trained, and this row tests it")
    _, about = load_config(twin)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(folder, config, about)
    for name in (ENV_FILE, METRICS_FILE, STATS_FILE, MODEL_FILE):  # weights last: then it is whole
        if (twin / name).is_file():
            write_whole(folder / name, (twin / name).read_bytes())
