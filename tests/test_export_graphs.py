"""What the exported graphs hold, and how single operators are written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from detach import ops
from detach.config import SensorConfig
from detach.data.sensors import Channel, ChannelStats, prepare
from detach.errors import MachineError
from detach.export import onnx_graph, parity, translate
from detach.export.graphs import Graph, sample_matrix

from .export_runs import VARIANTS, Exported, exported  # type: ignore[import-not-found]

SENSOR_NODES = 90
QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


def all_graphs(made: Exported) -> list[tuple[str, onnx.ModelProto]]:
    keys = made.bundle.manifest.graphs
    return [(key, made.graph(*key.split("."))) for key in keys]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_graph_is_what_every_runtime_accepts(tiny_dataset: Path, variant: str) -> None:
    for key, model in all_graphs(exported(tiny_dataset, variant)):
        onnx_graph.check_graph(model)
        assert model.opset_import[0].version == 18, key
        assert model.ir_version <= 10, key
        assert not onnx_graph.has_external_data(model), key
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.elem_type == TensorProto.FLOAT, key
            assert value.type.tensor_type.shape.dim[0].dim_param == "N", key
        if key.startswith("sensor"):
            found = onnx_graph.operators(model)
            assert sum(found.values()) <= SENSOR_NODES + found["Cast"], key
            assert found["GRU"] == (1 if variant in {"global", "supervised"} else 2), key


def test_nothing_tells_where_a_graph_was_made(tiny_dataset: Path) -> None:
    for key, model in all_graphs(exported(tiny_dataset, "recommended")):
        content = model.SerializeToString()
        for trace in (b".py", str(Path(onnx.__file__).parent).encode(), str(Path.home()).encode()):
            assert trace not in content, (key, trace)


def spoiled(made: Exported, change: Any) -> onnx.ModelProto:
    model: onnx.ModelProto = made.graph("sensor")
    change(model)
    return model


def one_window(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def any_length(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "T"


def foreign(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "Softplus"


def newer(model: onnx.ModelProto) -> None:
    model.ir_version = 11


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (one_window, r"samples of shape \(1, 64, 6\), expected \[N, fixed"),
        (any_length, r"samples of shape \(None, None, 6\)"),
        (foreign, "operators Softplus"),
        (newer, "IR version 11"),
        (other_opset, "operator sets {'': 19}"),
    ],
)
def test_what_some_runtime_refuses_is_found(tiny_dataset: Path, change: Any, says: str) -> None:
    with pytest.raises(MachineError, match=says):
        onnx_graph.check_graph(spoiled(exported(tiny_dataset, "supervised"), change))


def test_weights_outside_the_file_are_found(tiny_dataset: Path, tmp_path: Path) -> None:
    model = exported(tiny_dataset, "supervised").graph("sensor")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    with pytest.raises((MachineError, onnx.checker.ValidationError)):
        onnx_graph.check_graph(model)
    assert onnx_graph.has_external_data(model)


def computed(value: Any) -> Any:
    """Outside of an exporter, operators are computed by ONNX Runtime as they are called."""
    return value.value


class Quantile(Graph):
    inputs, outputs = ("samples",), ("active",)

    def __init__(self, q: float) -> None:
        super().__init__()
        self.q = q

    def forward(self, samples: Tensor) -> tuple[Tensor, ...]:
        return (ops.activation_percentile(samples, self.q, dim=1, absolute=True),)


def test_an_example_of_one_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 windows, got 1"):
        onnx_graph.export_graph(Quantile(0.99), {"samples": torch.rand(1, 20, 3)})


def test_our_operator_is_exported_as_topk() -> None:
    model = onnx_graph.export_graph(Quantile(0.99).eval(), {"samples": torch.rand(2, 20, 3)})
    assert onnx_graph.operators(model) == {"Abs": 1, "TopK": 1, "Mul": 1, "ReduceSum": 1}
    samples = np.random.default_rng(0).normal(size=(5, 20, 3)).astype(np.float32)
    (found,) = parity.open_session(model).run(None, {"samples": samples})
    np.testing.assert_allclose(found, np.quantile(np.abs(samples), 0.99, axis=1), atol=1e-6)


@pytest.mark.parametrize("q", QUANTILES)
@pytest.mark.parametrize("absolute", [True, False])
def test_the_percentile_is_numpys(q: float, absolute: bool) -> None:
    rng = np.random.default_rng(0)
    for length in range(20, 129):
        x = rng.normal(size=(2, length, 3)).astype(np.float32)
        largest, weights = translate.percentile_weights(length, q)
        ordered = np.sort(np.abs(x) if absolute else x, axis=1)
        picked = ordered[:, ::-1] if largest else ordered
        found = np.tensordot(picked[:, : len(weights)], weights, axes=(1, 0))
        expected = np.quantile(np.abs(x) if absolute else x, q, axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=str(length))
        assert len(weights) <= length // 2 + 2


@pytest.mark.parametrize("q", QUANTILES)
@pytest.mark.parametrize("length", [20, 60, 101, 128])
def test_the_percentile_as_onnx_runtime_computes_it(q: float, length: int) -> None:
    x = np.random.default_rng(length).normal(size=(3, length, 4)).astype(np.float32)
    found = computed(translate.percentile(x, q, 1, True))
    np.testing.assert_allclose(found, np.quantile(np.abs(x), q, axis=1), atol=1e-6)


@given(length=st.integers(1, 90), steps=st.integers(1, 40))
def test_the_averaging_matrix_is_adaptive_pooling(length: int, steps: int) -> None:
    x = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(length))
    expected = nn.functional.adaptive_avg_pool1d(x, steps)
    found = x @ torch.from_numpy(translate.averaging(length, steps))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_group_norm_as_layer_norm() -> None:
    x = 3 + 2 * torch.randn(4, 8, 10, generator=torch.Generator().manual_seed(0))
    norm = nn.GroupNorm(2, 8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        expected = norm(x).numpy()
        weights = norm.weight.numpy(), norm.bias.numpy()
    found = computed(translate.group_norm(x.numpy(), 2, *weights, eps=1e-5))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("bidirectional", [True, False])
@torch.no_grad()
def test_the_whole_gru_is_torchs_and_onnxs(bidirectional: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.GRU(3, 5, batch_first=True, bidirectional=bidirectional)
    parts = [p.numpy() for p in theirs.parameters()]
    x = torch.randn(2, 7, 3)
    every, last = theirs(x)
    for found, expected in zip(translate.WholeGRU(theirs)(x), (every, last), strict=True):
        torch.testing.assert_close(found, expected)
    in_onnx = translate.gru(x.numpy(), parts, bidirectional)
    np.testing.assert_allclose(computed(in_onnx[0]), every.numpy(), atol=1e-6)
    np.testing.assert_allclose(computed(in_onnx[1]), last.numpy(), atol=1e-6)


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"batch_first": False}, {"bias": False}])
def test_another_gru_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="GRU must have one layer"):
        translate.WholeGRU(nn.GRU(3, 5, **({"batch_first": True} | options)))


@pytest.mark.parametrize("length", [20, 60, 128])
@pytest.mark.parametrize(
    "changes", [{"lowpass": True}, {"length": 50}, {"lowpass": True, "length": 128}]
)
def test_the_sample_matrix_is_what_detach_data_does(length: int, changes: dict[str, Any]) -> None:
    config = SensorConfig(zscore="plain", **changes)
    matrix = sample_matrix(length, config)
    if matrix is None:
        assert changes == {"length": length}
        return
    samples = np.random.default_rng(0).normal(size=(3, length, 4)).astype(np.float32)
    channel = Channel(name="", kind="other", unit="", binary=False, place=None)
    stats = ChannelStats(names=("",) * 4, mean=(0.0,) * 4, std=(1.0,) * 4)
    expected, _ = prepare(samples.copy(), [channel] * 4, stats, config)
    np.testing.assert_allclose(matrix @ samples, expected, atol=2e-6)


def test_no_matrix_where_nothing_is_filtered_or_resized() -> None:
    assert sample_matrix(128, SensorConfig()) is None
    assert sample_matrix(128, replace(SensorConfig(), length=128)) is None


def expanding(operand: list[int]) -> onnx.ModelProto:
    """y = x * expand(row), where x has the shape ``operand``."""
    nodes = [
        helper.make_node("Expand", ["row", "shape"], ["wide"]),
        helper.make_node("Mul", ["x", "wide"], ["y"]),
    ]
    border = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", operand), ("row", [1, 3]), ("y", [4, 3]), ("wide", [4, 3]))
    ]
    shape = numpy_helper.from_array(np.array([4, 3]), "shape")
    graph = helper.make_graph(nodes, "g", border[:2], border[2:3], [shape], value_info=border[3:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


@pytest.mark.parametrize(("operand", "kept"), [([4, 3], 0), ([1, 3], 1)])
def test_only_an_expansion_that_broadcasting_repeats_is_dropped(
    operand: list[int], kept: int
) -> None:
    model = expanding(operand)
    onnx_graph.drop_expansions(model.graph)
    assert onnx_graph.operators(model)["Expand"] == kept
