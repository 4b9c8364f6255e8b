"""The same graph in half precision; float32 at its border."""

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

HALF, FULL = TensorProto.FLOAT16, TensorProto.FLOAT

_SENSITIVE = frozenset(
    ("ReduceL2", "Clip", "Div", "Exp", "LogSoftmax", "Softmax", "LayerNormalization")
)
"""In half precision a norm's 1e-12 becomes 0, and an exponent loses three digits."""
_LEARNED = frozenset(("Conv", "Gemm", "GRU"))


def to_half(model: ModelProto) -> ModelProto:
    """A copy that computes in float16 where that is harmless; inputs and outputs stay float32.

    In float32 stay: normalising and softmax, what lies between two of these or between one and an
    output, and everything before the first layer with learned weights, where large values are
    subtracted from each other. Precision is in the graph, since TensorRT 11 has no flag for it.
    """
    result = ModelProto()
    result.CopyFrom(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    graph = result.graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input)}
    kinds |= {v.name: v.type.tensor_type.elem_type for v in graph.output}
    kinds |= {t.name: t.data_type for t in graph.initializer}
    floats = {name for name, kind in kinds.items() if kind == FULL}
    _Halving(graph, floats, _full_nodes(graph, floats)).apply()
    del graph.value_info[:]
    onnx.checker.check_model(result, full_check=True)
    return result


class _Halving:
    """Goes through the nodes in order, casting what comes in another precision."""

    def __init__(self, graph: GraphProto, floats: set[str], full: set[int]) -> None:
        self.graph, self.floats, self.full = graph, floats, full
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.now = dict.fromkeys(floats, FULL)
        self.copies: dict[tuple[str, int], str] = {}
        self.nodes: list[NodeProto] = []

    def apply(self) -> None:
        ends = {value.name for value in self.graph.output}
        for i, node in enumerate(list(self.graph.node)):
            wanted = FULL if i in self.full else HALF
            for at, name in enumerate(node.input):
                if name in self.floats:
                    node.input[at] = self._as(name, wanted)
            self.nodes.append(node)
            for at, name in enumerate(node.output):
                if name in ends and wanted == HALF:
                    node.output[at] = f"{name}.half"
                    self.nodes.append(_cast(f"{name}.half", name, FULL))
                    self.copies[name, HALF] = f"{name}.half"
                elif name in self.floats:
                    self.now[name] = wanted
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        for tensor in [t for t in self.graph.initializer if t.name not in used]:
            self.graph.initializer.remove(tensor)

    def _as(self, name: str, wanted: int) -> str:
        if self.now[name] == wanted:
            return name
        if (name, wanted) not in self.copies:
            copy = f"{name}.{'half' if wanted == HALF else 'full'}"
            self.copies[name, wanted] = copy
            if name in self.weights:
                half = numpy_helper.to_array(self.weights[name]).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(half, copy))
            else:
                self.nodes.append(_cast(name, copy, wanted))
        return self.copies[name, wanted]


def _full_nodes(graph: GraphProto, floats: set[str]) -> set[int]:
    """Indices of the nodes that stay in float32."""
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name in floats}
    large = {name for name, w in weights.items() if np.abs(w).max(initial=0.0) > 65504}
    nodes = list(graph.node)
    full = {i for i, n in enumerate(nodes) if n.op_type in _SENSITIVE or large & set(n.input)}
    full |= _before_learned(graph, floats - set(weights))
    return _between(graph, floats - set(weights), full)


def _before_learned(graph: GraphProto, floats: set[str]) -> set[int]:
    early, found = {value.name for value in graph.input}, set()
    for i, node in enumerate(graph.node):
        inputs = [name for name in node.input if name in floats]
        if node.op_type not in _LEARNED and inputs and early.issuperset(inputs):
            early.update(node.output)
            found.add(i)
    return found


def _between(graph: GraphProto, floats: set[str], full: set[int]) -> set[int]:
    """Adds nodes whose every neighbour is in float32 already, until there is none."""
    nodes, full = list(graph.node), set(full)
    maker = {name: i for i, node in enumerate(nodes) for name in node.output}
    users: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.input:
            users.setdefault(name, []).append(i)
    # From the end, so that a chain towards an output is taken in one pass; again until it stands.
    while True:
        added = {
            i
            for i, node in enumerate(nodes)
            if i not in full
            and node.op_type != "GRU"
            and all(maker.get(name) in full for name in node.input if name in floats)
            and all(user in full for name in node.output for user in users.get(name, []))
        }
        if not added:
            return full
        full |= added


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast {target}", to=kind)
