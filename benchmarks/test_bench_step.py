"""A training step under pytest-benchmark: `pytest benchmarks --benchmark-enable`."""

import time
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from detach import recipes
from detach.bench.options import Options
from detach.bench.step import LOSSES, RECIPE, TrainingStep

DEVICE = Options(part="step").on
ON_GPU = DEVICE.type == "cuda"


@pytest.mark.benchmark(timer=time.perf_counter if ON_GPU else time.process_time, min_rounds=3)
@pytest.mark.parametrize("loss", LOSSES)
def test_step_of_stage_2(benchmark: BenchmarkFixture, loss: str) -> None:
    config = recipes.read(recipes.find(Path(RECIPE)))
    torch.set_num_threads(1)
    step = TrainingStep(config.stage2.batch_size, LOSSES[loss], config, DEVICE)
    benchmark(step)
    assert step().isfinite()
