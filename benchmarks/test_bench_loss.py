"""The contrastive loss under pytest-benchmark: `pytest benchmarks --benchmark-enable`."""

import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from detach.bench.options import Options
from detach.bench.variants import Variant, bound, variants

OPTIONS = Options(part="loss")
ON_GPU = OPTIONS.on.type == "cuda"
FOUND, _ = variants(OPTIONS)


@pytest.mark.filterwarnings("ignore")  # of torch.compile about itself
@pytest.mark.benchmark(timer=time.perf_counter if ON_GPU else time.process_time)
@pytest.mark.parametrize("n", [256, 1024])
@pytest.mark.parametrize("variant", FOUND, ids=[v.name for v in FOUND])
def test_forward_and_backward(benchmark: BenchmarkFixture, variant: Variant, n: int) -> None:
    call = bound(variant, n, OPTIONS)

    def body() -> None:
        call()
        if ON_GPU:
            torch.cuda.synchronize()

    torch.set_num_threads(1)
    body()
    benchmark.group = f"{variant.group}, N = {n}"
    benchmark(body)
    assert call().isfinite()
