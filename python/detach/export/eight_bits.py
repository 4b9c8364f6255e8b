"""Convolutions of a video graph in 8-bit integers, as many as leave its answers what they are.

Small changes of a picture vanish beside large ones, so that the first convolutions, which hold few
of the weights, cost the most. They stay in float32 until the graph answers as it should; where it
never does, there is no 8-bit graph, and that is said.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from detach.export import parity
from detach.export.graphs import Graph

PERCENTILE = 99.99
"""Share of a calibrated activation, in percent, that its 8-bit range covers."""
BATCH = 16

FloatArrays = dict[str, NDArray[np.float32]]


def quantized(
    graph: Graph,
    model: ModelProto,
    calibration: Sequence[FloatArrays],
    inputs: parity.Inputs,
    index: NDArray[np.int64],
) -> tuple[ModelProto | None, str]:
    """The graph with as many convolutions in 8 bits as `parity.LEAST_COSINE` allows, and in words.

    Args:
        graph: What torch runs, in eval mode.
        model: The same in float32.
        calibration: Inputs of real windows, which set the range of each activation.
        inputs: Gives the inputs of some windows.
        index: Windows to judge by.

    Returns:
        None and the reason where even the last convolution alone costs too much.
    """
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    least, best = parity.LEAST_COSINE["int8"], -1.0
    for first in range(len(convolutions)):
        made = to_int8(model, calibration, convolutions[:first])
        cosine = _worst_cosine(graph, made, inputs, index)
        if cosine >= least:
            kept = f"the first {first} of {len(convolutions)} convolutions stay in float32"
            return made, f"8 bits: {kept}, cosine {cosine:.4f} in the worst window"
        best = max(best, cosine)
    return None, (
        f"not in 8 bits: with any convolution in them the cosine in the worst window is {best:.4f} "
        f"at best, {least} is the least allowed"
    )


def to_int8(
    model: ModelProto, calibration: Sequence[FloatArrays], whole: Sequence[str] = ()
) -> ModelProto:
    """Convolutions in 8-bit integers, written as Q/DQ: symmetric, weights by channel.

    What a convolution gives stays as it is: with that rounded too, before it is averaged, the worst
    cosine of the video's place in the simulated home fell from 0.98 to 0.29.

    Args:
        model: In float32.
        calibration: Inputs of real windows.
        whole: Names of convolutions that stay in float32.
    """
    from onnxruntime.quantization import (  # noqa: PLC0415 -- slow to import, rarely wanted
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    copy = ModelProto()
    copy.CopyFrom(model)  # the quantizer moves the weights of what it is given into files
    with tempfile.TemporaryDirectory() as scratch, _silence():
        path = Path(scratch) / "int8.onnx"
        quantize_static(
            copy,
            str(path),
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=list(whole),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": True,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                "CalibPercentile": PERCENTILE,
            },
        )
        result = onnx.load(path)
    del result.metadata_props[:]
    return result


def _worst_cosine(
    graph: Graph, model: ModelProto, inputs: parity.Inputs, index: NDArray[np.int64]
) -> float:
    session, found = parity.open_session(model), parity.Difference()
    for start in range(0, len(index), BATCH):
        feed = inputs(index[start : start + BATCH])
        truth = parity.run_torch(graph, feed)
        made = session.run(list(graph.outputs), {k: v.numpy() for k, v in feed.items()})
        for name, value in zip(graph.outputs, made, strict=True):
            found.add(truth[name], value)
    return found.cosine


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The quantizer prints its progress, and advises to pre-process, which has been done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


class _Reader:
    """What onnxruntime's quantizer draws its inputs from."""

    def __init__(self, calibration: Sequence[FloatArrays]) -> None:
        self.rest: Iterator[FloatArrays] = iter(calibration)

    def get_next(self) -> FloatArrays | None:
        return next(self.rest, None)
