"""Whether exported graphs compute what torch computes; a bundle that does not is not written."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from detach.edge.manifest import Precision
from detach.errors import MachineError
from detach.export.graphs import Graph

BATCHES = (16, 5, 2, 1)
REFERENCE_WINDOWS = 4
ABSOLUTE = 1e-5
"""|dz| for z of Eq. 5 and 6, of length 1, and for all else of values up to 1; otherwise of the
largest. Logits are a head's rows times z, and rows are as long as the labels made them: they may
be off by what this much in z makes of them, and must name the same class."""
LEAST_COSINE = {"fp16": 0.9999, "int8": 0.999}
"""In the worst window."""
CLOSE = 1e-4
"""Two classes nearer than this, of the largest value, may change places."""
CLASSES = ("logits", "places")

Arrays = dict[str, NDArray[np.float32]]
Feed = Mapping[str, Tensor]
Inputs = Callable[[NDArray[np.int64]], Feed]


@dataclass
class Difference:
    """Between torch and a runtime, over all windows so far."""

    scale: float = 1.0
    """The largest value of torch, or what is given first."""
    largest: float = 0.0
    cosine: float = 1.0
    """The smallest of any window."""
    other: int = 0
    """Windows with another top class."""
    clearly_other: int = 0
    """Of these, the ones torch was sure about."""
    windows: int = 0

    def add(self, truth: NDArray[np.float32], found: NDArray[np.float32]) -> None:
        """More windows, [n, D] each."""
        with np.errstate(invalid="ignore"):
            error = float(np.abs(truth.astype(np.float64) - found).max())
        self.largest = max(self.largest, error if np.isfinite(error) else np.inf)
        self.scale = max(self.scale, float(np.abs(truth).max()))
        lengths = np.linalg.norm(truth, axis=1) * np.linalg.norm(found, axis=1)
        cosine = (truth * found).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
        self.cosine = min(self.cosine, float(cosine.min(initial=1.0)))
        wrong = truth.argmax(axis=1) != found.argmax(axis=1)
        top = np.sort(truth, axis=1)[:, -2:]
        sure = (top[:, -1] - top[:, 0]) > CLOSE * self.scale
        self.other += int(wrong.sum())
        self.clearly_other += int((wrong & sure).sum())
        self.windows += len(truth)


def check(
    name: str,
    graph: Graph,
    models: Mapping[Precision, ModelProto],
    inputs: Inputs,
    index: NDArray[np.int64],
) -> dict[str, float]:
    """Compares all precisions of a graph with torch, batch by batch.

    Args:
        name: Of the graph, for the record and for errors.
        graph: What torch runs, in eval mode.
        models: ONNX models by precision; fp32 is among them.
        inputs: Gives the inputs of some windows.
        index: Windows to try.

    Returns:
        The record: for every precision and output the largest difference, and what else is judged.

    Raises:
        MachineError: An output is further from torch than it may be; says which and how far.
    """
    sessions = {precision: open_session(model) for precision, model in models.items()}
    gains = graph.gains()
    found = {(p, o): Difference(max(1.0, gains.get(o, 1.0))) for p in models for o in graph.outputs}
    for start in range(0, len(index), BATCHES[0]):
        feed = inputs(index[start : start + BATCHES[0]])
        truth = run_torch(graph, feed)
        for precision, session in sessions.items():
            for size in BATCHES if precision == "fp32" else BATCHES[:1]:
                for piece, got in _in_batches(session, feed, size):
                    for output, value in got.items():
                        found[precision, output].add(truth[output][piece], value)
    record: dict[str, float] = {}
    for (precision, output), difference in found.items():
        _judge(f"{name} in {precision}: {output}", precision, output, difference)
        record |= _record(f"{name}.{precision}.{output}", precision, output, difference)
    few = inputs(index[:: max(1, len(index) // REFERENCE_WINDOWS)][:REFERENCE_WINDOWS])
    for precision in [p for p in models if p != "int8"]:
        record |= _check_reference(name, graph, precision, models[precision], few)
    return record


def run_torch(graph: Graph, feed: Feed) -> Arrays:
    """What torch computes, by output."""
    with torch.no_grad():
        made = graph(*(feed[name] for name in graph.inputs))
    return {o: value.float().numpy() for o, value in zip(graph.outputs, made, strict=True)}


def open_session(model: ModelProto, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _in_batches(
    session: onnxruntime.InferenceSession, feed: Feed, size: int
) -> Iterator[tuple[slice, Arrays]]:
    names = [output.name for output in session.get_outputs()]
    count = len(next(iter(feed.values())))
    for start in range(0, count, size):
        piece = slice(start, min(start + size, count))
        part = {name: np.ascontiguousarray(value[piece].numpy()) for name, value in feed.items()}
        yield piece, dict(zip(names, session.run(names, part), strict=True))


def _check_reference(
    name: str, graph: Graph, precision: Precision, model: ModelProto, feed: Feed
) -> dict[str, float]:
    """The definition of the operators, as a third opinion.

    Unlike ONNX Runtime on a CPU it computes float16 in float16.
    """
    truth = run_torch(graph, feed)
    made = ReferenceEvaluator(model).run(None, {k: v.numpy() for k, v in feed.items()})
    key = "reference" if precision == "fp32" else f"reference_{precision}"
    record: dict[str, float] = {}
    for output, value in zip(graph.outputs, made, strict=True):
        difference = Difference(max(1.0, graph.gains().get(output, 1.0)))
        difference.add(truth[output], np.asarray(value))
        _judge(f"{name} in {precision} by onnx.reference: {output}", precision, output, difference)
        record |= _record(f"{name}.{key}.{output}", precision, output, difference)
    return record


def _judge(where: str, precision: str, output: str, d: Difference) -> None:
    if precision == "fp32":
        allowed = ABSOLUTE * d.scale
        if not d.largest <= allowed:
            raise MachineError(
                f"{where} is up to {d.largest:.2g} from what torch computes, {allowed:.2g} is "
                f"allowed, over {d.windows} windows; no bundle was written"
            )
        if output in CLASSES and d.clearly_other:
            raise MachineError(
                f"{where} names another class than torch in {d.clearly_other} of {d.windows} "
                "windows; no bundle was written"
            )
    elif not (d.cosine >= LEAST_COSINE[precision] and np.isfinite(d.largest)):
        raise MachineError(
            f"{where} has a cosine of {d.cosine:.6f} to what torch computes, "
            f"{LEAST_COSINE[precision]} is the least allowed, and is up to {d.largest:.2g} away, "
            f"over {d.windows} windows; leave {precision} out; no bundle was written"
        )


def _record(key: str, precision: str, output: str, d: Difference) -> dict[str, float]:
    record = {f"{key}.max_abs": d.largest}
    if precision != "fp32":
        record[f"{key}.cosine"] = d.cosine
    if output in CLASSES:
        record[f"{key}.top1_agreement"] = 1.0 - d.other / d.windows
    return record
