"""Half precision and 8-bit integers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from detach.export import onnx_graph, parity
from detach.export.eight_bits import quantized, to_int8
from detach.export.graphs import VideoTemporalGraph
from detach.export.precision import to_half
from detach.export.windows import read_material
from detach.model import Detach

from .export_runs import VARIANTS, exported  # type: ignore[import-not-found]

SMALLEST_HALF = 6e-8


def feed_of(model: onnx.ModelProto, n: int, value: float | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {v.name: (n, *onnx_graph.shape_of(v)[1:]) for v in model.graph.input}
    return {
        name: rng.random(shape, np.float32) if value is None else np.full(shape, value, np.float32)  # type: ignore[arg-type]
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_dead_house_gives_finite_answers_in_half_precision(
    tiny_dataset: Path, variant: str, value: float
) -> None:
    made = exported(tiny_dataset, variant)
    for name in {key.partition(".")[0] for key in made.bundle.manifest.graphs}:
        model = made.graph(name, "fp16")
        full = parity.open_session(made.graph(name)).run(None, feed_of(model, 3, value))
        half = parity.open_session(model).run(None, feed_of(model, 3, value))
        for a, b in zip(full, half, strict=True):
            assert np.isfinite(b).all()
            np.testing.assert_allclose(a, b, atol=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_constant_is_lost_in_half_precision(tiny_dataset: Path, variant: str) -> None:
    """1e-12, below which a norm counts as zero, would become 0 and 0 / 0 follow."""
    made = exported(tiny_dataset, variant)
    for name in {key.partition(".")[0] for key in made.bundle.manifest.graphs}:
        model = made.graph(name, "fp16")
        tensors = {t.name: t for t in model.graph.initializer}
        for node in model.graph.node:
            constants = [tensors[i] for i in node.input if i in tensors]
            halves = [t for t in constants if t.data_type == TensorProto.FLOAT16]
            if node.op_type in {"Clip", "ReduceL2", "LayerNormalization", "Div"}:
                assert not halves, node
            assert all(np.isfinite(numpy_helper.to_array(t)).all() for t in halves)
            if node.op_type in {"GRU", "Conv"}:
                assert len(halves) == len(
                    [t for t in constants if t.data_type != TensorProto.INT64]
                )


def test_a_naive_conversion_would_lose_the_guard() -> None:
    assert np.float16(1e-12) == 0


def test_half_precision_is_nearly_half_the_size(tiny_dataset: Path) -> None:
    made = exported(tiny_dataset, "recommended")
    infos = made.bundle.manifest.graphs
    assert infos["sensor.fp16"].bytes < 0.75 * infos["sensor.fp32"].bytes  # tiny: names weigh


def test_a_weight_beyond_half_precision_stays_whole(tiny_dataset: Path) -> None:
    model = exported(tiny_dataset, "supervised").graph("sensor")
    (name,) = [n.input[1] for n in model.graph.node if n.op_type == "Gemm"][-1:]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(1e6 * numpy_helper.to_array(tensor), name))
    found = parity.open_session(to_half(model)).run(None, feed_of(model, 2))[0]
    assert np.isfinite(found).all()
    expected = parity.open_session(model).run(None, feed_of(model, 2))[0]
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=1e3)


@pytest.mark.parametrize("name", ["video_spatial", "video_temporal"])
def test_later_convolutions_are_in_8_bits_and_symmetric(tiny_dataset: Path, name: str) -> None:
    made = exported(tiny_dataset, "recommended")
    model = made.graph(name, "int8")
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    eight = [
        all(i in makers and makers[i].op_type == "DequantizeLinear" for i in node.input[:2])
        for node in convolutions
    ]
    assert eight == sorted(eight)
    assert eight[-1]
    said = [line for line in made.said if line.startswith(f"{name}: 8 bits: ")]
    assert f"the first {eight.count(False)} of {len(eight)} convolutions stay" in said[0]
    per_channel = 0
    for node in model.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            assert tensors[node.input[2]].dtype == np.int8
            assert not tensors[node.input[2]].any()
            per_channel += tensors[node.input[1]].size > 1
    assert per_channel > 0
    record = made.bundle.manifest.parity
    assert (
        record[next(k for k in record if k.startswith(f"{name}.int8") and "cosine" in k)] >= 0.999
    )


def test_what_8_bits_would_spoil_is_left_as_it_is(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(tiny_dataset, "recommended")
    assert isinstance(made.run.model, Detach)
    graph = VideoTemporalGraph(made.run.model).eval()
    material = read_material(made.run, None, video=True, say=lambda _: None)
    index = np.arange(24)
    feeds = [
        {k: v.numpy() for k, v in material.inputs("video_temporal", index[i : i + 1]).items()}
        for i in range(len(index))
    ]

    def asked() -> tuple[onnx.ModelProto | None, str]:
        full = made.graph("video_temporal")
        return quantized(graph, full, feeds, lambda i: material.inputs("video_temporal", i), index)

    assert asked()[0] is not None
    monkeypatch.setitem(parity.LEAST_COSINE, "int8", 1.01)
    model, said = asked()
    assert model is None
    assert said.startswith("not in 8 bits: with any convolution in them the cosine in the worst")


def test_what_is_kept_whole_is_whole(tiny_dataset: Path) -> None:
    full = exported(tiny_dataset, "recommended").graph("video_temporal")
    convolutions = [node.name for node in full.graph.node if node.op_type == "Conv"]
    nodes = [n.op_type for n in to_int8(full, [feed_of(full, 1)], convolutions).graph.node]
    assert nodes == [n.op_type for n in full.graph.node]


def test_the_sensor_graph_is_never_in_8_bits(tiny_dataset: Path) -> None:
    assert "sensor.int8" not in exported(tiny_dataset, "recommended").bundle.manifest.graphs
