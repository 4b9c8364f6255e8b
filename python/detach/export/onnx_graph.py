"""From torch to ONNX: a graph exported, made smaller, checked for what all runtimes must accept."""

import contextlib
import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import onnxslim
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from torch import Tensor

from detach.errors import MachineError
from detach.export.graphs import Graph
from detach.export.translate import TABLE, WholeGRU

OPSET = 18
"""The newest that TensorRT 10.3 reads whole; 17 brought LayerNormalization."""
IR_VERSION = 10
"""The newest that ONNX Runtime 1.19 reads."""
BATCH = "N"

ALLOWED = frozenset(
    (
        "Abs",
        "Add",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "DequantizeLinear",
        "Div",
        "Exp",
        "GRU",
        "Gather",
        "Gemm",
        "LayerNormalization",
        "LogSoftmax",
        "MatMul",
        "MaxPool",
        "Mul",
        "QuantizeLinear",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "Squeeze",
        "Sub",
        "TopK",
        "Transpose",
        "Unsqueeze",
    )
)
"""All operators a graph may hold: each is read by TensorRT 8.6 to 11, and by ONNX Runtime 1.19."""

_ELEMENTWISE = {"Add", "Sub", "Mul", "Div"}


def export_graph(graph: Graph, example: Mapping[str, Tensor]) -> ModelProto:
    """The ONNX model of ``graph``: inputs and outputs by name, any number of windows.

    Args:
        graph: In eval mode.
        example: Its inputs, of at least 2 windows: of 1 the exporter makes a constant.

    Raises:
        ValueError: The example has 1 window.
        MachineError: The exporter fails, or what came out is not what every runtime accepts.
    """
    inputs = tuple(example[name] for name in graph.inputs)
    if len(inputs[0]) < 2:
        raise ValueError(f"example must hold at least 2 windows, got {len(inputs[0])}")
    batch = torch.export.Dim(BATCH, min=1, max=65536)
    whole = copy.deepcopy(graph)
    WholeGRU.put_into(whole)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            whole,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            custom_translation_table=TABLE,
            verbose=False,
        )
    if program is None:
        raise MachineError(f"torch {torch.__version__}: torch.onnx.export returned nothing")
    return finish(program.model_proto)


def finish(model: ModelProto) -> ModelProto:
    """Smaller, without traces of where it was made, and checked."""
    drop_expansions(model.graph)
    model = onnxslim.slim(model)
    drop_unused_outputs(model.graph)
    _strip(model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    check_graph(model)
    return model


def check_graph(model: ModelProto) -> None:
    """What every runtime must be able to accept.

    Raises:
        MachineError: An operator, a version or a shape that one of them would refuse, or read
            wrongly without a word. The installed exporter made it.
    """
    onnx.checker.check_model(model, full_check=True)
    versions = {opset.domain: opset.version for opset in model.opset_import}
    problems = [
        (versions != {"": OPSET}, f"operator sets {versions}, expected {OPSET} alone"),
        (model.ir_version > IR_VERSION, f"IR version {model.ir_version}, above {IR_VERSION}"),
        (bool(model.functions), "local functions"),
        (has_external_data(model), "weights outside the file"),
    ]
    unknown = sorted(set(operators(model)) - ALLOWED)
    problems.append((bool(unknown), f"operators {', '.join(unknown)}"))
    for value in (*model.graph.input, *model.graph.output):
        shape = shape_of(value)
        good = len(shape) > 1 and shape[0] is None and all(size for size in shape[1:])
        problems.append((not good, f"{value.name} of shape {shape}, expected [N, fixed ...]"))
    if found := [text for wrong, text in problems if wrong]:
        made_by = f"torch {torch.__version__}, onnx {onnx.__version__}"
        raise MachineError(f"the graph that {made_by} made has {'; '.join(found)}")


def operators(model: ModelProto) -> Counter[str]:
    """How often each operator stands in a graph."""
    return Counter(node.op_type for node in model.graph.node)


def shape_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Shape of an input or output; None stands for a size that is open."""
    sizes = value.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes)


def has_external_data(model: ModelProto) -> bool:
    """Whether a weight lies in another file."""
    return any(t.data_location == TensorProto.EXTERNAL for t in model.graph.initializer)


def drop_expansions(graph: GraphProto) -> None:
    """Removes Expand before arithmetic, which broadcasts by itself.

    Only where the other operand has all the axes, so that the result keeps its shape:
    ``F.normalize`` is x / norm.expand_as(x).
    """
    shapes = {v.name: shape_of(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    for node in [n for n in graph.node if n.op_type == "Expand"]:
        target = shapes.get(node.output[0])
        users = [n for n in graph.node if node.output[0] in n.input]
        others = [name for n in users for name in n.input if name != node.output[0]]
        fits = target is not None and all(shapes.get(name) == target for name in others)
        if fits and all(n.op_type in _ELEMENTWISE for n in users):
            for user in users:
                _rename_inputs(user, node.output[0], node.input[0])
            graph.node.remove(node)


def drop_unused_outputs(graph: GraphProto) -> None:
    """Removes what operators offer beside their result and nobody reads, such as a mean."""
    used = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
    for node in graph.node:
        while node.op_type in {"LayerNormalization", "GRU"} and node.output[-1] not in used:
            node.output.pop()


def _rename_inputs(node: NodeProto, old: str, new: str) -> None:
    for i, name in enumerate(node.input):
        if name == old:
            node.input[i] = new


def _strip(model: ModelProto) -> None:
    """Stack traces and paths of the machine that exported do not belong into a bundle."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.value_info[:], graph.metadata_props[:]
    parts: tuple[Any, ...] = (*graph.node, *graph.input, *graph.output, *graph.initializer)
    for part in parts:
        part.doc_string = ""
        del part.metadata_props[:]
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_param = BATCH


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of its own insides; its failure is one message."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # torchvision is absent
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec", FutureWarning)
        # Two inputs have the same number of windows, which is what one name for both says.
        warnings.filterwarnings("ignore", f"# The axis name: {BATCH} will not be used", UserWarning)
        try:
            yield
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error).split())[-300:]
            raise MachineError(
                f"torch {torch.__version__} cannot export this network: {reason}"
            ) from error
        finally:
            logger.setLevel(level)
