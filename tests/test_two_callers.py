"""Two Python threads call the operators a thousand times each, and get what one would."""

import os
import threading
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detach import ops

CALLS = 1000
SEED = int(os.environ.get("DETACH_SEED", "8"))


def features(n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(SEED + n)
    return [torch.randn(n, width, generator=generator) for width in (4, 16, 4, 16, 16, 16)]


def loss(n: int) -> list[Tensor]:
    """Loss and gradients of both temporal halves."""
    parts = [x.requires_grad_(i in (1, 3)) for i, x in enumerate(features(n))]
    value = ops.weighted_contrastive_loss(*parts)
    value.backward()
    return [value.detach(), *(x.grad for x in parts if x.grad is not None)]


def percentile(n: int) -> list[Tensor]:
    return [ops.activation_percentile(features(n)[1], 0.9, dim=1)]


WORK: dict[str, Callable[[int], list[Tensor]]] = {"loss": loss, "percentile": percentile}


@pytest.mark.parametrize("name", WORK)
def test_two_threads_get_what_one_gets(name: str) -> None:
    work, sizes = WORK[name], (9, 23)
    alone = [work(n) for n in sizes]
    differ = [0, 0]

    def call(k: int) -> None:
        for _ in range(CALLS):
            found = work(sizes[k])
            differ[k] += not all(map(torch.equal, found, alone[k]))

    callers = [threading.Thread(target=call, args=(k,)) for k in (0, 1)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert differ == [0, 0]


def test_python_goes_on_meanwhile() -> None:
    """A call of a second and more lets other threads run: it holds no lock of the interpreter."""
    parts = [torch.randn(4096, width) for width in (8, 256, 8, 256, 256, 256)]
    done = threading.Event()

    def call() -> None:
        ops.weighted_contrastive_loss(*parts)
        done.set()

    caller = threading.Thread(target=call)
    began = time.perf_counter()
    caller.start()
    turns = 0
    while not done.wait(0.001):
        turns += 1
    caller.join()
    took_s = time.perf_counter() - began
    assert turns >= 20 * took_s, f"{turns} turns in {took_s:.2f} s"
