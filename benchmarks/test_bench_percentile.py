"""The activation percentile under pytest-benchmark: `pytest benchmarks --benchmark-enable`."""

import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from detach.bench.options import Options
from detach.bench.percentile import LAYOUTS, LENGTHS, Way, ways, windows

OPTIONS = Options(part="percentile")
ON_GPU = OPTIONS.on.type == "cuda"
FOUND = ways(OPTIONS.on)


@pytest.mark.benchmark(timer=time.perf_counter if ON_GPU else time.process_time)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("way", FOUND, ids=[way.name for way in FOUND])
def test_percentile(benchmark: BenchmarkFixture, way: Way, length: int, layout: str) -> None:
    x = windows(256, length, layout, OPTIONS.on)

    def body() -> torch.Tensor:
        found = way.reduce(x, LAYOUTS[layout])
        if ON_GPU:
            torch.cuda.synchronize()
        return found

    torch.set_num_threads(1)
    body()
    benchmark.group = f"p99 of 256 windows, T = {length}, {layout}"
    benchmark(body)
    assert body().shape == (256, 34)
