"""How long a row will take, from finished ones or a probe of two batches; and a limit of time."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import numpy as np
import torch

from detach.config import RunConfig
from detach.data.store import write_whole
from detach.model import METRICS_FILE
from detach.signals import handled
from detach.train import Material, train

COSTS_FILE = "costs.json"
Rates = dict[str, float]
"""Seconds an epoch of each stage."""
WHOLE = "supervised"
"""The stage, and method, of which it is seconds of all epochs."""
LEAST_S = 1.0
AGAIN_S = 3.0
"""Until time is up once more, where that was not heard."""


class Costs:
    """Seconds an epoch for every kind of run on every data set; kept beside the runs."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / COSTS_FILE
        self._known: dict[str, Rates] = {}
        self._read()

    def _read(self) -> None:
        """Takes over what this or another process has written."""
        # None yet, or half of one: it is measured again.
        with suppress(OSError, ValueError, TypeError):
            self._known |= json.loads(self._path.read_text(encoding="utf-8"))

    def estimate(self, data: str, config: RunConfig, *, shared: bool) -> float:
        """Seconds for a run; ``shared`` leaves out stage 1. NaN where nothing was measured."""
        rates = self._known.get(kind_of(data, config))
        if rates is None:
            return float("nan")
        epochs = _epochs(config)
        left_out = {"stage1"} if shared else set()
        total = sum(n * rates.get(k, 0.0) for k, n in epochs.items() if k not in left_out)
        return max(LEAST_S, total + rates.get("after", 0.0))

    def after(self, data: str, config: RunConfig) -> float:
        """Seconds for testing a run that is trained; NaN where nothing was measured."""
        rates = self._known.get(kind_of(data, config), {})
        return max(LEAST_S, rates["after"]) if "after" in rates else float("nan")

    def known(self, data: str, config: RunConfig) -> bool:
        """Whether this kind of run was measured, by another process too."""
        if kind_of(data, config) not in self._known:
            self._read()
        return kind_of(data, config) in self._known

    def probe(self, data: str, config: RunConfig, material: Material) -> None:
        """Trains two epochs of every stage on two batches, and scales the second to all windows."""
        index = material.parts["pretrain"]
        size = max(config.stage1.batch_size, config.stage2.batch_size)
        few = index[: max(2 * size, 64)]
        small = replace(material, parts={**material.parts, "pretrain": few})
        with TemporaryDirectory(prefix="detach-", ignore_cleanup_errors=True) as folder:
            run = train(small, Path(folder) / "run", _shortest(config), say=lambda _: None)
            rates = stage_seconds(run, warm=True)
        scale = len(index) / max(len(few), 1)
        if config.method == WHOLE:
            scale = config.supervised.passes(max(len(material.parts["train"]), 1))
        self.note(data, config, {k: v * scale for k, v in rates.items()})

    def note(self, data: str, config: RunConfig, rates: Mapping[str, float]) -> None:
        """Keeps what was measured, over what was known."""
        self._read()
        self._known[kind_of(data, config)] = {
            **self._known.get(kind_of(data, config), {}), **rates
        }  # fmt: skip
        write_whole(self._path, json.dumps(self._known, indent=1, sort_keys=True).encode())


def stage_seconds(run: Path, *, warm: bool = False) -> Rates:
    """Seconds an epoch of each stage, from a run's log; ``warm`` leaves the first of each out.

    Of supervised training, whose epochs are as many as its labels are few, seconds of all.
    """
    ends: dict[str, list[float]] = {}
    before = 0.0
    for row in _rows(run):
        ends.setdefault(row["stage"], [before]).append(before := float(row["elapsed_s"]))
    rates: Rates = {}
    for stage, at_s in ends.items():
        counted = at_s[1:] if warm and len(at_s) > 2 else at_s
        rates[stage] = (counted[-1] - counted[0]) / (1 if stage == WHOLE else len(counted) - 1)
    return rates


def timed(work: Callable[[], object]) -> float:
    """Seconds ``work`` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class TimeIsUpError(BaseException):
    """Raised wherever the program is; no handler of errors may take it for one."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what is inside when time is up; what it saved last stands."""
    if math.isinf(seconds):
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeIsUpError

    grad = torch.is_grad_enabled()
    with handled(signal.SIGALRM, stop) as heard:
        if not heard:  # the estimate alone must do
            yield
            return
        # Python drops what is raised in a callback of its garbage collector: it is said again.
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), AGAIN_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            torch.set_grad_enabled(grad)  # no_grad that ends while it begins leaves them off


def _rows(run: Path) -> list[dict[str, Any]]:
    path = run / METRICS_FILE
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "losses" in row:
            rows.append(row)
    return rows


def _epochs(config: RunConfig) -> dict[str, int]:
    """Epochs of each stage a run may go through."""
    first, second = config.stage1.epochs, config.stage2.epochs
    if config.method in {"detach", "infonce"}:
        ends = config.stage1.warmup_epochs + config.stage1.joint_epochs
        return {"stage1": first if config.stage1.refine else min(first, ends), "stage2": second}
    if config.method == "supervised":
        return {WHOLE: 1}
    if config.method == "comodo":
        teacher = config.comodo.teacher_epochs
        return {"teacher": first if teacher is None else teacher, "student": second}
    return {config.method: first + second}


def _shortest(config: RunConfig) -> RunConfig:
    """Two epochs of each stage, as the first sets things up; in stage 1 both with video."""
    last = min(config.stage2.epochs, 2)
    return replace(
        config,
        stage1=replace(config.stage1, epochs=2, warmup_epochs=0, joint_epochs=2),
        stage2=replace(config.stage2, epochs=last),
        supervised=replace(config.supervised, epochs=2, least_steps=1),
    )


def kind_of(data: str, config: RunConfig) -> str:
    """What the time of an epoch depends on, near enough."""
    own = {
        "imu2clip": config.imu2clip,
        "primus": config.primus,
        "comodo": config.comodo,
        "cav-mae": config.cav_mae,
        "supervised": (config.supervised, config.split.labels),
    }.get(config.method)
    method = "detach" if config.method == "infonce" else config.method
    size = (config.stage1.batch_size, config.stage2.batch_size, config.threads, config.device)
    # Only what a stranger could read: no hash.
    parts = (data, method, config.encoders, config.video.size_px, config.video.frames, size, own)
    return " | ".join(str(part) for part in parts)


def mean(values: list[float]) -> float:
    """Of numbers; NaN of none."""
    return float(np.mean(values)) if values else float("nan")
