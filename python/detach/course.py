"""The books of one run: where it is, what it has logged, when it saves, how it is interrupted.

Order and augmentation are functions of (seed, stage, epoch, step), so that a run which resumes sees
what it would have seen.
"""

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from detach.checkpoint import Stateful, load_checkpoint, save_checkpoint, write_whole
from detach.errors import DivergedError, MachineError
from detach.model import METRICS_FILE

STAGES = (
    *("stage1", "stage2", "global", "supervised"),
    *("imu2clip", "primus", "cav-mae", "teacher", "student"),
)
"""In the order in which a run may go through them; random numbers go by place."""
OWN_SETTINGS = ("stage1", "stage2", "supervised")
SAVE_EVERY_S = 120.0
SAY_EVERY_S = 10.0

Batch = TypeVar("Batch")


class Course:
    """One run, stage by stage, epoch by epoch, step by step."""

    def __init__(
        self, folder: Path, seed: int, *, resume: bool, say: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.say = say
        self.extra: dict[str, Any] = {}
        """Small facts a stage wants back after resuming; JSON-able."""
        self.epoch = 0
        self.step = 0
        self._stage = ""
        self._parts: Mapping[str, Stateful] = {}
        self._sums: dict[str, float] = {}
        self._windows = 0
        if resume and not self.last.is_file():
            say(f"{folder}: nothing was saved before it ended, so it begins anew")
            resume = False
        self._resume = _read_place(self.last) if resume else None
        self._stop: int | None = None
        self._lines = 0
        self._clock = _Clock()
        folder.mkdir(parents=True, exist_ok=True)
        if not resume:
            (folder / METRICS_FILE).unlink(missing_ok=True)

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def progress(self) -> float:
        """Share of the stage's epochs that are done, this one included."""
        return (self.epoch + 1) / self._clock.total

    def done(self, stage: str) -> bool:
        """Whether the run that is resumed had left ``stage`` behind."""
        at = self._resume
        return at is not None and STAGES.index(at) > STAGES.index(stage)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step at hand, saved; a second one at once."""

        def note(number: int, _: FrameType | None) -> None:
            if self._stop is not None:
                raise KeyboardInterrupt
            self._stop = number

        try:
            old = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever started us handles signals
            old = {}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def epochs(self, stage: str, total: int, parts: Mapping[str, Stateful]) -> Iterator[int]:
        """Epochs of a stage that are still to do; each must end with `close_epoch`."""
        self._stage, self._parts, self.step, self.epoch = stage, parts, 0, 0
        self._sums, self._windows, self.extra = {}, 0, {}
        self._clock.start_stage(total)
        if self._resume == stage:
            self._take_up(load_checkpoint(self.last, parts))
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
            Positions [n] in 0..count-1, and what ``load`` made of them.
        """
        order = self._random().permutation(count)
        pieces = np.array_split(order, max(1, math.ceil(count / batch_size)))
        with ThreadPoolExecutor(1) as ahead:
            coming: Future[Batch] | None = None
            while self.step < len(pieces):
                piece = pieces[self.step]
                waited = time.perf_counter()
                batch = coming.result() if coming else load(piece)
                self._clock.data_s += time.perf_counter() - waited
                more = self.step + 1 < len(pieces)
                coming = ahead.submit(load, pieces[self.step + 1]) if more else None
                yield piece, batch
                self.step += 1
                self._windows += len(piece)
                self._clock.windows += len(piece)
                self._between_steps(self.step / len(pieces))

    def generator(self) -> torch.Generator:
        """Random numbers that belong to this very step."""
        words = self._random(self.step + 1).integers(0, 2**62)
        return torch.Generator().manual_seed(int(words))

    def add(self, **values: torch.Tensor | float) -> None:
        """Adds losses of one step to the epoch's means.

        Raises:
            DivergedError: A value is not finite. The last checkpoint stands.
        """
        for name, value in values.items():
            number = float(value.detach()) if isinstance(value, torch.Tensor) else value
            if not math.isfinite(number):
                option = self._stage if self._stage in OWN_SETTINGS else "stage2"
                raise DivergedError(
                    f"{self._stage}, epoch {self.epoch + 1}, step {self.step + 1}: {name} is "
                    f"{number}. Lower {option}.learning_rate; the last good state is {self.last}"
                )
            self._sums[name] = self._sums.get(name, 0.0) + number
        self._sums["steps"] = self._sums.get("steps", 0.0) + 1

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
            **self._clock.rates(),
        }
        self._write(row)
        self._clock.say(self._line(1.0, facts), self.say, force=True)

    def warn(self, sign: str, text: str) -> None:
        """A known failure signature, in words with its remedy; said once a run."""
        if sign not in self.extra.setdefault("warned", []):
            self.extra["warned"].append(sign)
            self._write({"stage": self._stage, "epoch": self.epoch + 1, "warning": text})
            self._clock.say(f"warning: {text}", self.say, force=True)

    def save(self) -> None:
        """Writes the newest checkpoint."""
        facts = {
            "stage": self._stage,
            "epoch": self.epoch,
            "step": self.step,
            "sums": self._sums,
            "windows": self._windows,
            "extra": self.extra,
            "lines": self._lines,
            "elapsed_s": self._clock.elapsed_s,
        }
        save_checkpoint(self.last, self._parts, facts)
        self._clock.saved = time.perf_counter()

    def _take_up(self, facts: Mapping[str, Any]) -> None:
        self.epoch, self.step = int(facts["epoch"]), int(facts["step"])
        self._sums, self._windows = dict(facts["sums"]), int(facts["windows"])
        self.extra, self._lines = dict(facts["extra"]), int(facts["lines"])
        self._clock.before_s = float(facts["elapsed_s"])
        path = self.folder / METRICS_FILE
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        kept = text.splitlines()[: self._lines]
        write_whole(path, "".join(f"{line}\n" for line in kept).encode())
        self.say(f"resumed at {self._stage}, epoch {self.epoch + 1}, step {self.step + 1}")

    def _random(self, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, STAGES.index(self._stage), self.epoch, *more])

    def _between_steps(self, share: float) -> None:
        if self._stop is not None:
            self.save()
            raise KeyboardInterrupt
        if time.perf_counter() - self._clock.saved > SAVE_EVERY_S:
            self.save()
        self._clock.say(self._line(share, {}), self.say, force=False)

    def _line(self, share: float, facts: Mapping[str, Any]) -> str:
        steps = self._sums.get("steps", 1.0)
        parts = [f"{self._stage} epoch {self.epoch + 1}/{self._clock.total}"]
        parts += [f"{k} {v / steps:.3f}" for k, v in self._sums.items() if k != "steps"]
        if "change_rate" in facts:
            parts.append(f"labels changed {100 * facts['change_rate']:.1f} %")
        parts.append(f"{self._clock.rates()['windows_per_s']:.0f} windows/s")
        parts.append(f"{_minutes(self._clock.left_s(self.epoch + share))} left")
        return "  ".join(parts)

    def _write(self, row: Mapping[str, Any]) -> None:
        path = self.folder / METRICS_FILE
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise MachineError(
                f"{path}: cannot be written: {error.strerror or error}; what is saved stands, go "
                "on with --resume"
            ) from error
        self._lines += 1


class _Clock:
    """Rates, time left, and when to speak: in place on a terminal, every 10 s otherwise."""

    def __init__(self) -> None:
        self.before_s = 0.0
        self.born = self.saved = self.spoke = time.perf_counter()
        self.live = sys.stdout.isatty()
        self.start_stage(1)

    def start_stage(self, total: int) -> None:
        self.total, self.windows, self.data_s = total, 0, 0.0
        self.first: int | None = None
        self.began = time.perf_counter()

    def start_epoch(self, epoch: int) -> None:
        if self.first is None:
            self.first = epoch
            self.began = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        return self.before_s + time.perf_counter() - self.born

    def rates(self) -> dict[str, float]:
        spent = max(time.perf_counter() - self.began, 1e-9)
        return {
            "windows_per_s": round(self.windows / spent, 1),
            "data_share": round(self.data_s / spent, 4),
            "elapsed_s": round(self.elapsed_s, 2),
        }

    def left_s(self, epochs: float) -> float:
        done = epochs - (self.first or 0)
        spent = time.perf_counter() - self.began
        return spent / done * (self.total - epochs) if done > 0 else math.nan

    def say(self, line: str, say: Callable[[str], None], *, force: bool) -> None:
        now = time.perf_counter()
        if self.live:
            if force or now - self.spoke > 0.2:
                end = "\n" if force and line.startswith("warning") else ""
                sys.stdout.write(f"\r\x1b[2K{line}{end}")
                sys.stdout.flush()
                self.spoke = now
        elif now - self.spoke > SAY_EVERY_S or line.startswith("warning"):
            say(line)
            self.spoke = now


def _minutes(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _read_place(path: Path) -> str:
    """The stage a checkpoint was written in."""
    return str(load_checkpoint(path, {})["stage"])
