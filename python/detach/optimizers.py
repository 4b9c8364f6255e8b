"""AdamW, its schedule and mixed precision, as one thing with one state."""

import contextlib
import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from detach.config import RunConfig


class Settings(Protocol):
    """What a stage says about its optimizer."""

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""


class Stepper:
    """One optimisation step: backward, unscale, AdamW, schedule."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        settings: Settings,
        steps: int,
        config: RunConfig,
        device: torch.device,
    ) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        cosine = getattr(settings, "schedule", "cosine") == "cosine"
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, _Warm(steps) if cosine else _constant
        )
        self._device, self._precision = device, config.precision
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision forward passes run in."""
        if self._precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, getattr(torch, self._precision))

    def step(self, loss: Tensor) -> None:
        """Goes one step down."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()

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
