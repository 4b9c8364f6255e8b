"""The check that guards every bundle must be able to fail."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from detach.errors import MachineError
from detach.export import parity
from detach.export.graphs import SensorGraph, VideoSpatialGraph
from detach.export.pack import check_golden
from detach.model import Detach, Supervised
from detach.probe import load_head

from .export_runs import Exported, exported  # type: ignore[import-not-found]

INDEX = np.arange(20)


def scaled(model: onnx.ModelProto, operator: str, factor: float) -> onnx.ModelProto:
    """A copy whose last ``operator`` has its weights multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name = [node for node in copy.graph.node if node.op_type == operator][-1].input[1]
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(
        numpy_helper.from_array(np.float32(factor) * numpy_helper.to_array(tensor), name)
    )
    return copy


def supervised(made: Exported) -> tuple[SensorGraph, parity.Inputs]:
    assert isinstance(made.run.model, Supervised)
    x = torch.randn(len(INDEX), 64, 6, generator=torch.Generator().manual_seed(0))
    return SensorGraph(made.run.model, ("logits",)).eval(), lambda index: {"samples": x[index]}


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (1.01, r"sensor in fp32: logits is up to .* from what torch computes, .* over \d+ windows"),
        (float("nan"), "sensor in fp32: logits is up to inf"),
        (float("inf"), "sensor in fp32: logits is up to inf"),
    ],
)
def test_wrong_weights_are_found(tiny_dataset: Path, factor: float, says: str) -> None:
    made = exported(tiny_dataset, "supervised")
    graph, inputs = supervised(made)
    right = made.graph("sensor")
    record = parity.check("sensor", graph, {"fp32": right}, inputs, INDEX)
    assert record["sensor.fp32.logits.top1_agreement"] == 1.0
    wrong = scaled(right, "Gemm", factor)
    with np.errstate(invalid="ignore"), pytest.raises(MachineError, match=says):
        parity.check("sensor", graph, {"fp32": wrong}, inputs, INDEX)


def test_a_bad_half_is_found(tiny_dataset: Path) -> None:
    made = exported(tiny_dataset, "supervised")
    graph, inputs = supervised(made)
    right = made.graph("sensor")
    models = {"fp32": right, "fp16": scaled(right, "Gemm", -1.0)}
    with pytest.raises(MachineError, match=r"sensor in fp16: logits has a cosine of .*leave fp16"):
        parity.check("sensor", graph, models, inputs, INDEX)  # type: ignore[arg-type]


def test_another_top_class_is_found() -> None:
    difference = parity.Difference()
    truth = np.array([[0.0, 1.0], [0.5, 0.5 + 1e-6]], np.float32)
    difference.add(truth, truth[:, ::-1])
    assert (difference.other, difference.clearly_other) == (2, 1)  # the second was a tie
    difference.largest = 0.0
    with pytest.raises(MachineError, match="names another class than torch in 1 of 2"):
        parity._judge("sensor in fp32: logits", "fp32", "logits", difference)


def test_logits_may_err_as_far_as_the_head_reaches(tiny_dataset: Path) -> None:
    made = exported(tiny_dataset, "recommended")
    head = load_head(made.run.folder)
    assert head is not None
    graph = SensorGraph(made.run.model, ("logits", "embedding"), head=head)
    longest = float(np.linalg.norm(head.weight, axis=1).max())
    assert graph.gains() == pytest.approx({"logits": longest})
    assert isinstance(made.run.model, Detach)
    assert VideoSpatialGraph(made.run.model).gains() == {}


def test_golden_windows_that_no_engine_would_repeat_are_refused(tiny_dataset: Path) -> None:
    made = exported(tiny_dataset, "supervised")
    golden, right = made.bundle.golden(), made.graph("sensor")
    check_golden({"sensor": {"fp32": right}}, golden)
    with pytest.raises(MachineError, match="sensor in fp32 does not repeat the golden windows"):
        check_golden({"sensor": {"fp32": scaled(right, "Gemm", 1.1)}}, golden)
