"""`detach bench graph`: the sensor graph beside torch."""

from pathlib import Path

import pytest

from detach import bench as benchmarks
from detach import recipes
from detach.bench import graph
from detach.bench.options import Options
from detach.bench.table import Benchmark
from detach.errors import MachineError, UsageError
from detach.export import PACKAGES, onnx_graph
from detach.export.describe import window_samples
from detach.export.graphs import SensorGraph, sample_matrix
from detach.model import Detach, build


def silent(_: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def found() -> Benchmark:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "CHECKED", 16)
        patch.setattr(graph, "RECIPES", ("small",))
        return benchmarks.bench(Options(part="graph", seconds=0.0, repeats=20), silent)


def test_the_graph_is_small_enough(found: Benchmark) -> None:
    """Nodes and megabytes in float32 that an edge device is promised."""
    (block,) = found.blocks
    assert block.title == "recipe small, N = 1"
    nodes, _, sizes = block.notes[0].partition(" nodes, ")
    assert int(nodes) <= 90
    assert float(sizes.split(" MB")[0]) <= 2


@pytest.mark.slow
def test_the_graph_at_the_papers_size_is_small_enough() -> None:
    config = recipes.read(recipes.find(Path("paper")))
    model = build(config, graph.CHANNELS, graph.CLUSTERS, 0).eval()
    assert isinstance(model, Detach)
    matrix = sample_matrix(window_samples(config), config.sensors)
    sensor = SensorGraph(model, ("places", "embedding"), matrix=matrix).eval()
    made = onnx_graph.export_graph(sensor, {"samples": graph.windows(config, 3)})
    assert len(made.graph.node) <= 110
    assert made.ByteSize() <= 8e6


def test_slow_calls_are_counted(found: Benchmark) -> None:
    for block in found.blocks:
        assert [row.name for row in block.rows] == [graph.FULL, graph.HALF, graph.EAGER]
        for row in block.rows:
            assert row.seconds is not None
            assert row.late_s is not None
            assert min(row.seconds, row.late_s) > 0  # of two measurements: neither need be more
    assert graph._late([1.0] * 90 + [2.0] * 10) == 2.0
    assert graph._late([1.0] * 97 + [2.0] * 3) == 1.0
    assert "p95 ms" in str(found)
    assert {"ms", "times_detach", "p95_ms"} == {str(line["metric"]) for line in found.lines()}


def test_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("detach.bench.options.pick_device", lambda _: torch.device("cuda"))
    with pytest.raises(UsageError, match="runs on the CPU"):
        graph.run(Options(part="graph", device="cuda"), silent)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detach.export.find_spec", lambda _: None)
    with pytest.raises(MachineError, match=f"a graph needs {', '.join(PACKAGES)}"):
        benchmarks.bench(Options(part="graph"), silent)
