"""How four operators of our networks are written in ONNX, where the exporter's own way is longer.

The functions are called with values of the graph being made, and the operator's own arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxscript import opset18 as op
from torch import Tensor, nn

from detach import ops as ops  # registers the operator that is translated


def percentile(x: Any, q: float, dim: int, absolute: bool) -> Any:
    """`detach.ops.activation_percentile`: as many of the largest or smallest as reach the rank.

    TensorRT takes a TopK of up to 3840.
    """
    largest, weights = percentile_weights(int(x.shape[dim]), q)
    shape = [len(weights) if axis == dim else 1 for axis in range(len(x.shape))]
    x = op.Abs(x) if absolute else x
    count = _ints(len(weights))
    values, _ = op.TopK(x, count, axis=dim, largest=int(largest))
    weighted = op.Mul(values, _constant(weights.reshape(shape)))
    return op.ReduceSum(weighted, _ints(dim), keepdims=0)


def percentile_weights(length: int, q: float) -> tuple[bool, NDArray[np.float32]]:
    """Whether to count from the largest, and what each value in order weighs in the quantile."""
    rank = q * (length - 1)
    low = min(int(rank), length - 1)
    share = rank - low if low + 1 < length else 0.0
    ascending = np.zeros(length)
    ascending[low] = 1.0 - share
    if share > 0:
        ascending[low + 1] = share
    used = np.flatnonzero(ascending)
    from_top, from_bottom = length - int(used[0]), int(used[-1]) + 1
    largest = from_top < from_bottom
    weights = ascending[::-1][:from_top] if largest else ascending[:from_bottom]
    return largest, weights.astype(np.float32)


def average_to(x: Any, output_size: Sequence[int]) -> Any:
    """``F.adaptive_avg_pool1d`` of [N, C, L]: a product with a constant matrix [L, steps]."""
    return op.MatMul(x, _constant(averaging(int(x.shape[2]), int(output_size[0]))))


def averaging(length: int, steps: int) -> NDArray[np.float32]:
    """The matrix of adaptive average pooling, [length, steps]."""
    matrix = np.zeros((length, steps), np.float32)
    for i in range(steps):
        start, end = i * length // steps, -(-(i + 1) * length // steps)
        matrix[start:end, i] = 1.0 / (end - start)
    return matrix


def group_norm(
    x: Any,
    groups: int,
    weight: Any,
    bias: Any,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,  # noqa: ARG001
) -> Any:
    """``F.group_norm`` of [N, C, L]: one LayerNormalization over each group.

    ONNX's own GroupNormalization of opset 18 scales by group and is deprecated. A
    LayerNormalization computes in float32 wherever it runs in half precision.
    """
    channels, length = int(x.shape[1]), int(x.shape[2])
    ones = np.ones(channels // groups * length, np.float32)
    rows = op.Reshape(x, _ints(0, groups, -1))
    rows, _, _ = op.LayerNormalization(rows, _constant(ones), axis=-1, epsilon=eps)
    normed = op.Reshape(rows, _ints(0, channels, length))
    column = _ints(channels, 1)
    return op.Add(op.Mul(normed, op.Reshape(weight, column)), op.Reshape(bias, column))


class WholeGRU(nn.Module):
    """An ``nn.GRU`` of one layer, batch first, as one operator that knows the shape of its result.

    The exporter finds the shapes of torch's own by running it step by step, several times over,
    which takes most of the time of an export.
    """

    def __init__(self, whole: nn.GRU) -> None:
        super().__init__()
        if whole.num_layers != 1 or not whole.batch_first or not whole.bias:
            raise ValueError(f"GRU must have one layer, batch first, with biases, got {whole}")
        self.bidirectional = whole.bidirectional
        self.parts = nn.ParameterList(whole.parameters())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, T, inputs] -> every state [N, T, hidden] and the last [1, N, hidden]."""
        every, last = whole_gru(x, list(self.parts), self.bidirectional)
        return every, last

    @classmethod
    def put_into(cls, module: nn.Module) -> None:
        """Replaces every GRU within ``module``."""
        for name, child in module.named_children():
            if isinstance(child, nn.GRU):
                setattr(module, name, cls(child))
            else:
                cls.put_into(child)


@torch.library.custom_op("detach_export::gru", mutates_args=())
def whole_gru(x: Tensor, parts: list[Tensor], bidirectional: bool) -> tuple[Tensor, Tensor]:
    """What `WholeGRU` computes."""
    start = x.new_zeros(2 if bidirectional else 1, len(x), parts[1].shape[1])
    every, last = torch.gru(x, start, parts, True, 1, 0.0, False, bidirectional, True)
    return every.clone(), last.clone()


@whole_gru.register_fake
def _(x: Tensor, parts: list[Tensor], bidirectional: bool) -> tuple[Tensor, Tensor]:
    directions, hidden = 2 if bidirectional else 1, parts[1].shape[1]
    every = x.new_empty(x.shape[0], x.shape[1], directions * hidden)
    return every, x.new_empty(directions, x.shape[0], hidden)


def gru(x: Any, parameters: Sequence[Any], bidirectional: bool) -> tuple[Any, Any]:
    """`whole_gru`: ONNX's GRU starts from zero when it is told nothing."""
    hidden = int(parameters[1].shape[1])
    each = [parameters[i : i + 4] for i in range(0, len(parameters), 4)]
    kernel = _stack([_gates(p[0], hidden) for p in each])
    recurrent = _stack([_gates(p[1], hidden) for p in each])
    bias = _stack([op.Concat(_gates(p[2], hidden), _gates(p[3], hidden), axis=0) for p in each])
    every, last = op.GRU(
        op.Transpose(x, perm=[1, 0, 2]),
        kernel,
        recurrent,
        bias,
        direction="bidirectional" if bidirectional else "forward",
        hidden_size=hidden,
        linear_before_reset=1,
    )
    by_window = op.Transpose(every, perm=[2, 0, 1, 3])  # [N, T, directions, hidden]
    width = hidden * len(each)
    return op.Reshape(by_window, _ints(0, int(x.shape[1]), width)), last


def _gates(parameter: Any, hidden: int) -> Any:
    """Torch keeps reset, update, new; ONNX update, reset, hidden."""
    order = (hidden, 0, 2 * hidden)
    axis = _ints(0)
    parts = [
        op.Slice(
            parameter,
            _ints(first),
            _ints(first + hidden),
            axis,
        )
        for first in order
    ]
    return op.Concat(*parts, axis=0)


def _stack(parts: Sequence[Any]) -> Any:
    axis = _ints(0)
    return op.Concat(*(op.Unsqueeze(part, axis) for part in parts), axis=0)


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def _constant(values: NDArray[np.float32]) -> Any:
    return op.Constant(value=onnx.numpy_helper.from_array(values.astype(np.float32)))


TABLE: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.detach.activation_percentile.default: percentile,
    torch.ops.aten.adaptive_avg_pool1d.default: average_to,
    torch.ops.aten.group_norm.default: group_norm,
    torch.ops.detach_export.gru.default: gru,
}
"""For `torch.onnx.export`'s ``custom_translation_table``."""
