"""The books of one run: where it is, what it has logged, when it saves, how it is interrupted.

Order and augmentation are functions of (seed, stage, epoch, step), so that a run which resumes sees
what it would have seen.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from detach.checkpoint import (
    Stateful,
    digest,
    load_checkpoint,
    read_place,
    readable,
    save_checkpoint,
    states,
    write_whole,
)
from detach.distributed import ALONE, Bank, World
from detach.errors import DivergedError, MachineError, UsageError
from detach.model import METRICS_FILE
from detach.pace import Pace, minutes
from detach.share import Share

STAGES = (
    *("stage1", "stage2", "global", "supervised"),
    *("imu2clip", "primus", "cav-mae", "teacher", "student"),
)
"""In the order in which a run may go through them; random numbers go by place."""
OWN_SETTINGS = ("stage1", "stage2", "supervised")
SAVE_EVERY_S = 120.0
COMPARE_EVERY = 100
"""Steps after which several processes compare their weights."""
PATIENCE_S = 8.0
"""How long the step at hand may take once the run is to end."""
MOST_SKIPPED = 3
"""Batches in a row that may give no finite loss and gradient."""

Batch = TypeVar("Batch")


def batches_in(count: int, batch_size: int) -> int:
    """How many batches an epoch of ``count`` windows has.

    None is of a single window, which has no negative and no batch statistics: then fewer are
    larger.
    """
    return max(1, min(math.ceil(count / batch_size), count // 2))


class Course:
    """One run, stage by stage, epoch by epoch, step by step."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        resume: bool,
        say: Callable[[str], None],
        world: World = ALONE,
        keep: int = 2,
    ) -> None:
        self.folder = folder
        self.keep = keep
        """Checkpoints that stay."""
        self.world = world
        self.seed = seed
        self.say = say
        self.extra: dict[str, Any] = {}
        """Small facts a stage wants back after resuming; JSON-able."""
        self.epoch = 0
        self.step = 0
        self.share = Share(0, 0, 0)
        """This process's windows of the batch at hand."""
        self._stage = ""
        self._parts: Mapping[str, Stateful] = {}
        self._sums: dict[str, float] = {}
        self._windows = 0
        if resume and not self.last.is_file():
            say(f"{folder}: nothing was saved before it ended, so it begins anew")
            resume = False
        self._from = self.last
        if resume:
            self._from = readable(self.last, say)
        self._resume = read_place(self._from, world.size) if resume else None
        self._stop: int | None = None
        self._ends = self._due = False
        self._lines = 0
        self._clock = Pace()
        if world.first:
            folder.mkdir(parents=True, exist_ok=True)
        if world.first and not resume:
            (folder / METRICS_FILE).unlink(missing_ok=True)

    @staticmethod
    def checkpoint(folder: Path) -> Path:
        """Where the newest checkpoint of a run folder is."""
        return folder / "checkpoints" / "last.safetensors"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoint(self.folder)

    @property
    def progress(self) -> float:
        """Share of the stage's epochs that are done, this one included."""
        return (self.epoch + 1) / self._clock.total

    @property
    def resumed_at(self) -> str | None:
        """The stage that is taken up, before it is."""
        return self._resume

    def done(self, stage: str) -> bool:
        """Whether the run that is resumed had left ``stage`` behind."""
        at = self._resume
        return at is not None and STAGES.index(at) > STAGES.index(stage)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step at hand, saved; a second one at once.

        So does a step that takes more than `PATIENCE_S`; then the last checkpoint stands.
        """
        before: list[Any] = []  # who had the alarm: a caller may count the time of the whole run

        def give_up(_: int, __: FrameType | None) -> None:
            raise KeyboardInterrupt

        def note(number: int, _: FrameType | None) -> None:
            if self._stop is not None and self.world.alone:
                raise KeyboardInterrupt
            self._stop = number
            before.append(signal.signal(signal.SIGALRM, give_up))
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)

        try:
            old = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever started us handles signals
            old = {}
        try:
            yield
        finally:
            if before:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
                signal.signal(signal.SIGALRM, before[0])
            for number, handler in old.items():
                signal.signal(number, handler)

    def epochs(self, stage: str, total: int, parts: Mapping[str, Stateful]) -> Iterator[int]:
        """Epochs of a stage that are still to do; each must end with `close_epoch`."""
        self._stage, self._parts, self.step, self.epoch = stage, parts, 0, 0
        self._sums, self._windows, self.extra = {}, 0, {}
        self._clock.start_stage(total)
        if self._resume == stage:
            self._take_up(load_checkpoint(self._from, parts))
            self._resume = None
        while self.epoch < total:
            self._clock.start_epoch(self.epoch)
            yield self.epoch
            self.epoch, self.step, self._sums, self._windows = self.epoch + 1, 0, {}, 0
            self.save()

    def steps(
        self, count: int, batch_size: int, load: Callable[[NDArray[np.int64]], Batch]
    ) -> Iterator[tuple[NDArray[np.int64], Batch]]:
        """Shuffled batches of nearly equal size of ``count`` windows, the next one loading ahead.

        Yields:
            Positions [n] in 0..count-1 of a whole batch, and what ``load`` made of those that are
            this process's `share`.

        Raises:
            UsageError: More processes than windows in a batch.
        """
        order = self._random().permutation(count)
        pieces = np.array_split(order, batches_in(count, batch_size))
        if len(pieces[-1]) < self.world.size:
            raise self.world.once(
                UsageError(
                    f"{self._stage}: a batch of {len(pieces[-1])} windows is too small for "
                    f"{self.world.size} processes; raise {self._stage}.batch_size or start fewer"
                )
            )

        def own(i: int) -> NDArray[np.int64]:
            return pieces[i][self.world.share(len(pieces[i])).rows]

        with ThreadPoolExecutor(1) as ahead:
            coming: Future[Batch] | None = None
            while self.step < len(pieces):
                piece = pieces[self.step]
                self.share = self.world.share(len(piece))
                waited = time.perf_counter()
                batch = coming.result() if coming else load(own(self.step))
                self._clock.data_s += time.perf_counter() - waited
                more = self.step + 1 < len(pieces)
                coming = ahead.submit(load, own(self.step + 1)) if more else None
                yield piece, batch
                self.step += 1
                self._windows += len(piece)
                self._clock.windows += len(piece)
                self._between_steps(self.step / len(pieces))

    def generator(self) -> torch.Generator:
        """Random numbers that belong to this very step."""
        words = self._random(self.step + 1).integers(0, 2**62)
        return torch.Generator().manual_seed(int(words))

    def add(self, taken: bool = True, **shares: torch.Tensor | float) -> bool:
        """Adds losses of one step to the epoch's means.

        Args:
            taken: Whether the optimizer went its step: its gradients were finite.
            shares: This process's; they are summed over processes.

        Returns:
            Whether the batch counts; one that is not finite is left out and counted.

        Raises:
            DivergedError: `MOST_SKIPPED` batches in a row do not. The last checkpoint stands.
        """
        own = [float(x.detach()) if isinstance(x, torch.Tensor) else x for x in shares.values()]
        due = self.world.first and time.perf_counter() - self._clock.saved > SAVE_EVERY_S
        *whole, stop, save = self.world.sum_numbers([*own, self._stop is not None, due])
        self._ends, self._due = stop > 0, save > 0
        wrong = {n: x for n, x in zip(shares, whole, strict=True) if not math.isfinite(x)}
        if wrong or not taken:
            self._skip(wrong or {"the gradient": math.nan})
            return False
        self.extra.pop("in_a_row", None)
        for name, value in zip(shares, whole, strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._sums["steps"] = self._sums.get("steps", 0.0) + 1
        return True

    def _skip(self, wrong: Mapping[str, float]) -> None:
        """Counts a batch that taught nothing."""
        what = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        row = {"stage": self._stage, "epoch": self.epoch + 1, "step": self.step + 1}
        self._write({**row, "skipped": what})
        self.extra["skipped"] = self.extra.get("skipped", 0) + 1
        self.extra["in_a_row"] = self.extra.get("in_a_row", 0) + 1
        if self.extra["in_a_row"] >= MOST_SKIPPED:
            option = self._stage if self._stage in OWN_SETTINGS else "stage2"
            raise self.world.once(
                DivergedError(
                    f"{self._stage}, epoch {self.epoch + 1}, step {self.step + 1}: {what}, for the "
                    f"third batch in a row. Lower {option}.learning_rate, or look for values that "
                    f"are no numbers with detach inspect; the last good state is {self.last}"
                )
            )

    def close_epoch(self, **facts: Any) -> None:
        """Writes the epoch's line to metrics.jsonl and shows it."""
        steps = self._sums.get("steps", 1.0)
        losses = {k: v / steps for k, v in self._sums.items() if k != "steps"}
        row = {
            "stage": self._stage,
            "epoch": self.epoch + 1,
            "step": self.step,
            "losses": losses,
            **facts,
            **({"skipped": self.extra["skipped"]} if self.extra.get("skipped") else {}),
            **self._clock.rates(),
        }
        self._write(row)
        self._compare()
        self._clock.say(self._line(1.0, facts), self.say, force=True)

    def warn(self, found: Iterable[tuple[str, str]]) -> None:
        """Known failure signatures, in words with their remedies; each is said once a run."""
        for sign, text in found:
            if sign not in self.extra.setdefault("warned", []):
                self.extra["warned"].append(sign)
                self._write({"stage": self._stage, "epoch": self.epoch + 1, "warning": text})
                self._clock.say(f"warning: {text}", self.say, force=True)

    def save(self) -> None:
        """Writes the newest checkpoint; all processes call it, each has rows of the bank."""
        facts = {
            "stage": self._stage,
            "epoch": self.epoch,
            "step": self.step,
            "sums": self._sums,
            "windows": self._windows,
            "extra": self.extra,
            "lines": self._lines,
            "elapsed_s": self._clock.elapsed_s,
            "processes": self.world.size,
        }
        state = states(self._parts)
        if self.world.first:
            save_checkpoint(self.last, state, facts, self.keep)
        self._clock.saved = time.perf_counter()

    def _compare(self) -> None:
        """That all processes have the same weights; one with bad memory would spoil all of them.

        Raises:
            MachineError: One has others.
        """
        if self.world.alone:
            return
        alike = {n: part for n, part in self._parts.items() if not isinstance(part, Bank)}
        found = self.world.texts(digest(states(alike)))
        unlike = [str(r) for r, text in enumerate(found) if text != found[0]]
        if unlike:
            raise self.world.once(
                MachineError(
                    f"{self._stage}, epoch {self.epoch + 1}, step {self.step + 1}: weights of "
                    f"process {', '.join(unlike)} are not those of process 0. Its memory or GPU "
                    f"may be faulty, or its software another; go on from {self.last} with --resume"
                )
            )

    def _take_up(self, facts: Mapping[str, Any]) -> None:
        self.epoch, self.step = int(facts["epoch"]), int(facts["step"])
        self._sums, self._windows = dict(facts["sums"]), int(facts["windows"])
        self.extra, self._lines = dict(facts["extra"]), int(facts["lines"])
        self._clock.before_s = float(facts["elapsed_s"])
        path = self.folder / METRICS_FILE
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        kept = text.splitlines()[: self._lines]
        if not self.world.first:
            return
        write_whole(path, "".join(f"{line}\n" for line in kept).encode())
        self.say(f"resumed at {self._stage}, epoch {self.epoch + 1}, step {self.step + 1}")

    def _random(self, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, STAGES.index(self._stage), self.epoch, *more])

    def _between_steps(self, share: float) -> None:
        if self._ends or (self.world.alone and self._stop is not None):
            self._end()
        if (self.step + 1) % COMPARE_EVERY == 0:
            self._compare()
        if self._due:
            self.save()
        self._clock.say(self._line(share, {}), self.say, force=False)

    def _end(self) -> None:
        """Saves and stops; nothing interrupts that."""
        with suppress(ValueError):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        self.save()
        raise KeyboardInterrupt

    def _line(self, share: float, facts: Mapping[str, Any]) -> str:
        steps = self._sums.get("steps", 1.0)
        parts = [f"{self._stage} epoch {self.epoch + 1}/{self._clock.total}"]
        parts += [f"{k} {v / steps:.3f}" for k, v in self._sums.items() if k != "steps"]
        if "change_rate" in facts:
            parts.append(f"labels changed {100 * facts['change_rate']:.1f} %")
        rate, left_s = self._clock.recent(self.epoch + share)
        parts += [f"{rate:.0f} windows/s", f"{minutes(left_s)} left"]
        return "  ".join(parts)

    def _write(self, row: Mapping[str, Any]) -> None:
        self._lines += 1
        if not self.world.first:
            return
        path = self.folder / METRICS_FILE
        line = json.dumps(row) + "\n"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise MachineError(
                f"{path}: {len(line)} bytes could not be written: {error.strerror or error}; what "
                "is saved stands, go on with --resume"
            ) from error
