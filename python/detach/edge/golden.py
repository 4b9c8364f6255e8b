"""The golden windows of a bundle: what every engine must repeat before it is used."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detach.edge.bundle import Bundle
from detach.edge.graph_input import Tensors
from detach.edge.manifest import golden_name
from detach.errors import DataError, UsageError

LARGEST_ERROR = {"fp32": 1e-3, "fp16": 1e-2, "int8": 0.25}
"""How far an output may be from torch's in float32, as a share of its largest value or of 1."""
LEAST_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "int8": 0.95}
"""Between any row of an output and torch's."""
PREFERRED = {"onnxruntime": ("fp32", "fp16", "int8"), "tensorrt": ("fp16", "fp32", "int8")}
"""Precisions in the order they are taken where none is asked for: CPUs have no fast fp16."""


class Runs(Protocol):
    """What a test needs of an engine."""

    name: str

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Outputs [N, D] by name of inputs [N, ...] by name."""
        ...


def self_test(bundle: Bundle, graph: str, golden: Tensors) -> Callable[[Runs, str], None]:
    """A test of an engine in some precision: it must repeat the golden windows.

    Raises:
        UsageError: The bundle has no such graph.
    """
    if not bundle.manifest.precisions(graph):
        there = sorted({key.partition(".")[0] for key in bundle.manifest.graphs})
        raise UsageError(f"{bundle.path} has no graph {graph!r}; it has {', '.join(there)}")
    inputs, outputs = bundle.manifest.shapes(graph)
    feed = {name: golden[golden_name(graph, name)] for name in inputs}
    expected = {name: golden[golden_name(graph, name)] for name in outputs}

    def test(engine: Runs, precision: str) -> None:
        if problem := disagreement(engine.run(feed), expected, precision):
            raise DataError(f"{engine.name} does not repeat the golden windows: {problem}")

    return test


def choose_precision(bundle: Bundle, graph: str, backend: str, wanted: str | None) -> str:
    """In which precision an engine runs a graph.

    Raises:
        UsageError: The bundle does not have what is wanted.
    """
    there = bundle.manifest.precisions(graph)
    if wanted in there:
        return str(wanted)
    some = any(key.endswith(".int8") for key in bundle.manifest.graphs)
    if wanted is None or (wanted == "int8" and (some or graph == "sensor")):
        return next(p for p in PREFERRED[backend] if p in there)
    raise UsageError(
        f"{bundle.path}: {graph} is not there in {wanted!r}; it is in {', '.join(there)}"
    )


def disagreement(found: Tensors, expected: Tensors, precision: str) -> str:
    """What is wrong with an engine's outputs, or nothing.

    Args:
        found: Outputs [N, D] by name.
        expected: What torch gave.
        precision: Of the graph; decides what is tolerated.
    """
    for name, truth in expected.items():
        value = found.get(name)
        if value is None or value.shape != truth.shape:
            shape = None if value is None else value.shape
            return f"{name} must be {truth.shape}, found {shape}"
        if not np.isfinite(value).all():
            return f"{name} is not finite"
        error = float(np.abs(value - truth).max() / max(1.0, float(np.abs(truth).max())))
        if error > LARGEST_ERROR[precision]:
            return f"{name} is {error:.2g} off, {LARGEST_ERROR[precision]:g} is tolerated"
        lengths = np.linalg.norm(value, axis=1) * np.linalg.norm(truth, axis=1)
        cosines = (value * truth).sum(axis=1) / np.maximum(lengths, 1e-12)
        least = float(cosines[lengths > 1e-6].min(initial=1.0))
        if least < LEAST_COSINE[precision]:
            return f"{name} has a cosine of {least:.6f}, {LEAST_COSINE[precision]} is the least"
    return ""
