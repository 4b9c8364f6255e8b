"""Fifty equal runs give the same bits: operators, forward and backward, and steps of training."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from detach import ops

SEED = int(os.environ.get("DETACH_SEED", "8"))
RUNS = 50


def drawn(*shape: int, more: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(SEED + more))


def features() -> list[Tensor]:
    """Of some hundred windows."""
    n = 90 + SEED % 40
    widths = (5, 24, 5, 24, 17, 17)
    return [drawn(n, width, more=k) for k, width in enumerate(widths)]


def loss() -> list[Tensor]:
    parts = [x.requires_grad_(k < 4) for k, x in enumerate(features())]
    value = ops.weighted_contrastive_loss(*parts)
    value.backward()
    return [value.detach(), *(x.grad for x in parts if x.grad is not None)]


def percentile() -> list[Tensor]:
    x = drawn(60, 61, 3).requires_grad_()
    value = ops.activation_percentile(x, 0.9, dim=1)
    value.square().sum().backward()
    assert x.grad is not None
    return [value.detach(), x.grad]


def training() -> list[Tensor]:
    """Weights after three steps of two small encoders on the loss."""
    spatial, _, _, _, video, sensor = features()
    torch.manual_seed(SEED)
    nets = [nn.Sequential(nn.Linear(17, 32), nn.BatchNorm1d(32), nn.GELU()) for _ in range(2)]
    weights = [w for net in nets for w in net.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        a, b = nets[0](video), nets[1](sensor)
        ops.weighted_contrastive_loss(spatial, a, spatial, b, video, sensor).backward()
        optimizer.step()
    return [w.detach() for w in weights]


WORK: dict[str, Callable[[], list[Tensor]]] = {
    work.__name__: work for work in (loss, percentile, training)
}


@pytest.mark.parametrize("name", WORK)
def test_fifty_equal_runs(name: str) -> None:
    first = WORK[name]()
    assert len(first) > 1
    for k in range(1, RUNS):
        assert all(map(torch.equal, WORK[name](), first)), f"run {k + 1} of {RUNS} differs"
