"""What an ONNX file says of itself, read without the onnx package: a walk over its messages.

Protocol Buffers are (tag, value) pairs; only the few tags below are looked into, the weights are
stepped over. A graph that would make a runtime open other files is refused here, before any
runtime sees it: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VARINT, FIXED64, MESSAGE, FIXED32 = 0, 1, 2, 5
FLOAT = 1
"""TensorProto.DataType."""
EXTERNAL = 1
"""TensorProto.DataLocation."""

MOST_FIELDS = 1_000_000
DEEPEST = 8
"""Graphs within attributes of graphs."""

Field = tuple[int, int | memoryview]
"""Its number, and a number or the bytes of a message or text."""


@dataclass(frozen=True, kw_only=True)
class OnnxFacts:
    """What the reader of a bundle compares with its manifest."""

    ir_version: int
    opset: int
    nodes: int
    """Of the outermost graph."""
    inputs: Mapping[str, tuple[int | None, ...]]
    """float32 tensors; None stands for an axis of any length."""
    outputs: Mapping[str, tuple[int | None, ...]]
    operators: frozenset[str]


def facts_of(model: bytes) -> OnnxFacts:
    """Walks an ONNX file.

    Raises:
        ValueError: Damaged; or it needs other files, operators or functions of its own, or inputs
            and outputs other than float32. Says which.
    """
    return _Walk().model(memoryview(model))


class _Walk:
    def __init__(self) -> None:
        self.fields_left = MOST_FIELDS
        self.operators: set[str] = set()

    def model(self, data: memoryview) -> OnnxFacts:
        ir_version, opsets, graphs = 0, dict[str, int](), list[memoryview]()
        for number, value in self.fields(data):
            if number == 1:
                ir_version = _number(value)
            elif number == 7:
                graphs.append(_bytes(value))
            elif number == 8:
                domain, version = self.opset(_bytes(value))
                opsets[domain] = version
            elif number in {20, 25}:
                raise ValueError("it carries training information or functions of its own")
        if len(graphs) != 1 or "" not in opsets:
            raise ValueError(
                f"an ONNX file has one graph and one opset, found {len(graphs)} graphs"
            )
        nodes, inputs, outputs = self.graph(graphs[0], 0)
        return OnnxFacts(
            ir_version=ir_version,
            opset=opsets[""],
            nodes=nodes,
            inputs=dict(map(self.tensor_type, inputs)),
            outputs=dict(map(self.tensor_type, outputs)),
            operators=frozenset(self.operators),
        )

    def graph(self, data: memoryview, depth: int) -> tuple[int, list[memoryview], list[memoryview]]:
        """Number of nodes, inputs and outputs; the weights are checked on the way."""
        if depth > DEEPEST:
            raise ValueError(f"graphs lie more than {DEEPEST} deep within each other")
        nodes, inputs, outputs = 0, list[memoryview](), list[memoryview]()
        for number, value in self.fields(data):
            if number == 1:
                nodes += 1
                self.node(_bytes(value), depth)
            elif number == 5:
                self.weights(_bytes(value))
            elif number == 11:
                inputs.append(_bytes(value))
            elif number == 12:
                outputs.append(_bytes(value))
            elif number == 15:
                self.sparse(_bytes(value))
        return nodes, inputs, outputs

    def node(self, data: memoryview, depth: int) -> None:
        for number, value in self.fields(data):
            if number == 4:
                self.operators.add(_text(value))
            elif number == 5:
                self.attribute(_bytes(value), depth)
            elif number == 7 and _text(value) not in {"", "ai.onnx"}:
                raise ValueError(f"it uses operators of {_text(value)[:80]!r}, not of ONNX itself")

    def attribute(self, data: memoryview, depth: int) -> None:
        for number, value in self.fields(data):
            if number in {5, 10}:
                self.weights(_bytes(value))
            elif number in {6, 11}:
                self.graph(_bytes(value), depth + 1)
            elif number in {22, 23}:
                self.sparse(_bytes(value))

    def sparse(self, data: memoryview) -> None:
        for number, value in self.fields(data):
            if number in {1, 2}:
                self.weights(_bytes(value))

    def weights(self, data: memoryview) -> None:
        for number, value in self.fields(data):
            if number == 13 or (number == 14 and value == EXTERNAL):
                raise ValueError(
                    "its weights lie in another file (external data); they must be inside"
                )

    def opset(self, data: memoryview) -> tuple[str, int]:
        domain, version = "", 0
        for number, value in self.fields(data):
            if number == 1:
                domain = _text(value)
            elif number == 2:
                version = _number(value)
        return "" if domain == "ai.onnx" else domain, version

    def tensor_type(self, data: memoryview) -> tuple[str, tuple[int | None, ...]]:
        """Name and shape of a ValueInfoProto, which must be a tensor of float32."""
        name, shape, kind = "", tuple[int | None, ...](), 0
        for number, value in self.fields(data):
            if number == 1:
                name = _text(value)
            elif number == 2:
                for which, tensor in self.fields(_bytes(value)):
                    if which == 1:
                        kind, shape = self.shape(_bytes(tensor))
        if kind != FLOAT:
            raise ValueError(f"{name[:80]!r} is not a tensor of float32")
        return name, shape

    def shape(self, data: memoryview) -> tuple[int, tuple[int | None, ...]]:
        kind, axes = 0, list[int | None]()
        for number, value in self.fields(data):
            if number == 1:
                kind = _number(value)
            elif number == 2:
                for which, axis in self.fields(_bytes(value)):
                    if which == 1:
                        sizes = dict(self.fields(_bytes(axis)))
                        axes.append(_number(sizes[1]) if 1 in sizes else None)
        return kind, tuple(axes)

    def fields(self, data: memoryview) -> Iterator[Field]:
        at = 0
        while at < len(data):
            self.fields_left -= 1
            if self.fields_left < 0:
                raise ValueError(f"it has more than {MOST_FIELDS} fields")
            tag, at = _varint(data, at)
            kind, size = tag & 7, 0
            if kind == VARINT:
                value, at = _varint(data, at)
                yield tag >> 3, value
                continue
            if kind == MESSAGE:
                size, at = _varint(data, at)
            elif kind in {FIXED32, FIXED64}:
                size = 4 if kind == FIXED32 else 8
            else:
                raise ValueError(f"no ONNX file: a field of kind {kind}")
            if size > len(data) - at:
                raise ValueError("cut short")
            yield tag >> 3, data[at : at + size]
            at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, least first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no ONNX file: a number of more than 64 bits")


def _number(value: int | memoryview) -> int:
    if isinstance(value, int):
        return value
    raise ValueError("no ONNX file: a message where a number must be")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no ONNX file: a number where a message must be")  # noqa: TRY004 -- damage
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode(errors="replace")
