"""AdamW, its schedule and mixed precision, as one thing with one state."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from detach.config import RunConfig

LEAST_SCALE = 1.0
"""Of the loss in float16: below this it is not for their size that gradients are not finite."""


class Settings(Protocol):
    """What a stage says about its optimizer."""

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""


class Stepper:
    """One optimisation step: backward, unscale, AdamW, schedule; or none of it."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        settings: Settings,
        steps: int,
        config: RunConfig,
        device: torch.device,
        *,
        buffers: Iterable[Tensor] = (),
        reduce: Callable[[Sequence[nn.Parameter]], None] | None = None,
    ) -> None:
        """``buffers`` are what `take_back` restores; ``reduce`` sums gradients over processes."""
        self._parameters = [p for p in parameters if p.requires_grad]
        self._buffers = list(buffers)
        self._before: list[Tensor] = []
        self._reduce = reduce
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        cosine = getattr(settings, "schedule", "cosine") == "cosine"
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, _Warm(steps) if cosine else _constant
        )
        self._device, self._precision = device, config.precision
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """One forward pass, in its precision; `take_back` undoes what it does to buffers."""
        self._before = [x.clone() for x in self._buffers]
        if self._precision == "float32":
            yield
            return
        with torch.autocast(self._device.type, getattr(torch, self._precision)):
            yield

    @torch.no_grad()
    def take_back(self) -> None:
        """Running statistics are again as they were before the forward pass."""
        for buffer, old in zip(self._buffers, self._before, strict=True):
            buffer.copy_(old)

    def step(self, loss: Tensor) -> bool:
        """Goes one step down.

        Returns:
            False where a gradient is not finite: then nothing was changed. Where gradients are
            scaled, the scaler halves its scale first, and False comes once that is below
            `LEAST_SCALE`.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self._reduce is not None:
            self._reduce(self._parameters)
        if not self.scaler.is_enabled() and not _finite(self._parameters):
            return False
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() < scale:  # it took no step
            return self.scaler.get_scale() >= LEAST_SCALE
        self.schedule.step()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Of optimizer, schedule and scaler."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.scaler.load_state_dict(state["scaler"])


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Where autocast would spoil the result: a cosine in bfloat16, over 0.1, is off by 0.03."""
    return torch.autocast(device.type, enabled=False)


def _finite(parameters: Sequence[nn.Parameter]) -> bool:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return not gradients or bool(torch.nn.utils.get_total_norm(gradients, math.inf).isfinite())


class _Warm:
    """Five per cent of the steps up, then half a cosine down to nothing."""

    def __init__(self, steps: int) -> None:
        self.steps, self.rise = steps, max(1, steps // 20)

    def __call__(self, step: int) -> float:
        if step < self.rise:
            return (step + 1) / self.rise
        share = min(1.0, (step - self.rise) / max(1, self.steps - self.rise))
        return 0.5 * (1 + math.cos(math.pi * share))


def _constant(_: int) -> float:
    return 1.0
