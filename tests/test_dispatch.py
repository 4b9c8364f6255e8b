"""Which backend a GPU gets from a module that was built for some of them."""

from types import SimpleNamespace

import pytest
import torch

from detach import doctor, kernels, ops
from detach.ops import dispatch

RELEASED = "80-real 86-real 90-real 100-real 120"


@pytest.mark.skipif(not kernels.available(), reason="no compiled module")
@pytest.mark.parametrize(
    ("built", "capability", "served"),
    [
        (RELEASED, (7, 5), False),
        (RELEASED, (8, 0), True),
        (RELEASED, (8, 9), True),
        (RELEASED, (9, 0), True),
        (RELEASED, (11, 0), False),
        (RELEASED, (12, 1), True),
        (RELEASED, (13, 0), True),
        ("86-real", (8, 0), False),
        ("90-real", (10, 0), False),
        ("80-virtual", (10, 3), True),
        ("90a", (9, 0), True),
        ("90a", (10, 0), False),
        ("native", (10, 0), True),
    ],
)
def test_kernels_run_only_where_they_were_built_for(
    monkeypatch: pytest.MonkeyPatch, built: str, capability: tuple[int, int], served: bool
) -> None:
    module = SimpleNamespace(cuda_built=True, cuda_architectures=built)
    monkeypatch.delenv("DETACH_BACKEND", raising=False)
    monkeypatch.setattr(dispatch, "_C", module)
    monkeypatch.setattr(dispatch, "_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    chosen, why = ops.backend(torch.device("cuda"))
    assert chosen == ("cuda" if served else "torch")
    if not served:
        text = f"{capability[0]}.{capability[1]}"
        assert why == f"no cuda kernel for capability {text}: built for {built}"
        monkeypatch.setenv("DETACH_BACKEND", "cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert any(not good and why in line for good, line in doctor._operators())
