"""What `benchmarks/gpu_operators.py` checks on a GPU, as far as a CPU can tell."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detach import kernels
from detach.bench import eager, timing

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no compiled module")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    monkeypatch.setitem(sys.modules, "detach.bench", sys.modules["detach.bench"])  # it puts its own
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return importlib.import_module("gpu_parts")


@pytest.mark.parametrize("faithful", [True, False])
def test_a_replay_that_writes_nothing_is_found(
    parts: Any, monkeypatch: pytest.MonkeyPatch, faithful: bool
) -> None:
    f = eager.features(8, 4, torch.device("cpu"))

    def captured(body: Callable[[], object]) -> Callable[[], None]:
        body()
        written = [leaf.grad for leaf in f.learning if leaf.grad is not None]
        loss = parts_of_call[-1]
        kept = [x.clone() for x in (loss, *written)]

        def replay() -> None:
            for to, x in zip((loss, *written), kept, strict=True):
                to.detach().copy_(x)

        return replay if faithful else lambda: None

    parts_of_call: list[torch.Tensor] = []
    call = parts.differentiated(parts.ours, f)

    def watched() -> torch.Tensor:
        parts_of_call.append(call())
        return parts_of_call[-1]

    monkeypatch.setattr(timing, "captured", captured)
    assert parts.replays(watched, f) is faithful
