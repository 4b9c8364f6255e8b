"""The weighted contrastive loss for torch, Eq. 7 to 13: what it means, and checks."""

from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from detach.equations import Gate, Temporal
from detach.ops import contrast_cuda, contrast_operator, contrast_reference
from detach.ops.contrast_call import (
    GATES,
    REDUCTIONS,
    TEMPORALS,
    Call,
    computed_in,
    reduced,
    saved_pairs,
)
from detach.ops.contrast_checks import (
    check_options,
    check_words,
    checked_features,
    checked_mask,
    checked_rows,
)
from detach.ops.dispatch import BACKENDS, chosen, transformed

Memory = Literal["auto", "saved", "recompute"]
Reduction = Literal["mean", "sum", "none"]
Mask = Tensor | tuple[Tensor, Tensor, float]

SAVED_LIMIT_BYTES = 1 << 30
"""Up to here ``memory="auto"`` keeps a number a pair for the gradient: N = 16384 in float32."""


class ContrastStats(NamedTuple):
    """What the loss is made of; float64 [2, n], video to sensor first. No gradients."""

    loss: Tensor
    """Each window's own losses."""
    log_denominator: Tensor
    """log(exp(s_ii) + sum_j W_ij exp(s_ij))."""
    mean_weight: Tensor
    """Mean W_ij over the negatives that are not left out; 0 where there is none."""


@overload
def weighted_contrastive_loss(
    video_spatial: Tensor,
    video_temporal: Tensor,
    sensor_spatial: Tensor,
    sensor_temporal: Tensor,
    video_momentum: Tensor | None = ...,
    sensor_momentum: Tensor | None = ...,
    *,
    temperature: float = ...,
    lambda_hard: float = ...,
    gate: Gate = ...,
    power: int = ...,
    temporal: Temporal = ...,
    normalize: bool = ...,
    rows: tuple[int, int] | None = ...,
    mask: Mask | None = ...,
    memory: Memory = ...,
    reduction: Reduction = ...,
    return_stats: Literal[False] = ...,
) -> Tensor: ...
@overload
def weighted_contrastive_loss(
    video_spatial: Tensor,
    video_temporal: Tensor,
    sensor_spatial: Tensor,
    sensor_temporal: Tensor,
    video_momentum: Tensor | None = ...,
    sensor_momentum: Tensor | None = ...,
    *,
    temperature: float = ...,
    lambda_hard: float = ...,
    gate: Gate = ...,
    power: int = ...,
    temporal: Temporal = ...,
    normalize: bool = ...,
    rows: tuple[int, int] | None = ...,
    mask: Mask | None = ...,
    memory: Memory = ...,
    reduction: Reduction = ...,
    return_stats: Literal[True],
) -> tuple[Tensor, ContrastStats]: ...
def weighted_contrastive_loss(
    video_spatial: Tensor,
    video_temporal: Tensor,
    sensor_spatial: Tensor,
    sensor_temporal: Tensor,
    video_momentum: Tensor | None = None,
    sensor_momentum: Tensor | None = None,
    *,
    temperature: float = 0.10,
    lambda_hard: float = 3.0,
    gate: Gate = "spatial",
    power: int = 1,
    temporal: Temporal = "intra",
    normalize: bool = True,
    rows: tuple[int, int] | None = None,
    mask: Mask | None = None,
    memory: Memory = "auto",
    reduction: Reduction = "mean",
    return_stats: bool = False,
) -> Tensor | tuple[Tensor, ContrastStats]:
    """Eq. 7 to 13: aligns two modalities whose negatives are weighted by place and motion.

    Equal to :func:`detach.equations.weighted_contrastive_loss`, without an N x N array of weights.
    With z = [spatial, temporal] and s_ij = z_video,i z_sensor,j / temperature, window i has the
    losses log(exp(s_ii) + sum_j W_ij exp(s_ij)) - s_ii and, with W_ji exp(s_ji), the one of the
    other direction. W is a constant to the gradient, which flows only to those of the first four
    tensors that require it: frozen ones cost nothing. Differentiable any number of times, from the
    second on through the equations, which also serve `torch.func` and forward mode. Kernels are
    deterministic, whatever the number of threads. Autocast does not lower its precision. On a CPU
    half types are computed in float32, on a GPU their products are taken as they are and summed in
    float32; the gradient comes in the features' type. On a GPU float64 runs in plain torch.

    Args:
        video_spatial: Place features of N >= 1 windows, [N, ds]; all tensors share device and
            dtype: float32, float64, float16 or bfloat16. Under autocast halves become float32.
        video_temporal: Motion features, [N, dt].
        sensor_spatial: The same for the sensors, [N, ds].
        sensor_temporal: The same for the sensors, [N, dt].
        video_momentum: Motion features of the momentum encoder, [N, dm]; may be None where
            ``temporal`` is "none".
        sensor_momentum: The same for the sensors, [N, dm].
        temperature: tau_contrast, > 0.
        lambda_hard: Weight of the hardest negative, >= 1.
        gate: "spatial": a like motion is damped at the same place only; "none": anywhere (Eq. 10
            as printed).
        power: Of the temporal similarity: 1, or 2 as printed.
        temporal: Similarity of motion within modalities ("intra"), across them ("cross", where the
            other direction takes the transposed W), or "none".
        normalize: Each half, then the whole embedding, to length 1. Weight features always are.
        rows: (start, stop): only these windows' losses, against all N windows and with gradients
            to all. The mean over equal slices that cover the batch is the loss of the batch.
        mask: Pairs that are no negatives, in both directions: bool [N, N], True leaves out video i
            with sensor j; or (group int64 [N], position [N], reach): pairs of one group whose
            positions are nearer than reach, without an N x N array. A window whose negatives are
            all left out has loss 0.
        memory: "saved" keeps a number a pair for the gradient; "recompute" computes pairs again and
            needs, beyond O(N d), only sums over tiles of pairs: N^2 / 6 bytes on a CPU, twice that
            at low temperatures, and N^2 / 16 (half types) to N^2 / 8 on a GPU; "auto" saves up to
            `SAVED_LIMIT_BYTES`. Plain torch always recomputes.
        reduction: "mean" over windows of half the sum of both directions, "sum", or "none": [n].
        return_stats: Whether to return what the loss is made of, too.

    Returns:
        The loss, float64 for float64 and otherwise float32; with ``return_stats`` a pair of it and
        :class:`ContrastStats`.

    Raises:
        TypeError: A tensor has a dtype that is not taken, or another one than ``video_spatial``.
        ValueError: A shape, device, number, word or DETACH_BACKEND is out of range.
    """
    check_options(temperature, lambda_hard, power)
    check_words(gate, temporal, memory, reduction)
    parts = (video_spatial, video_temporal, sensor_spatial, sensor_temporal)
    features = checked_features((*parts, video_momentum, sensor_momentum), temporal)
    first = features[0]
    backend = chosen(first.device, first.dtype)
    if transformed(features):
        backend = "reference"
    left_out = checked_mask(mask, first)
    words = (GATES.index(gate), power, TEMPORALS.index(temporal), normalize)
    span = checked_rows(rows, first.shape[0])
    tf32 = backend == "cuda" and contrast_cuda.takes_tf32(first.dtype)
    ends = (REDUCTIONS.index(reduction), tf32, BACKENDS.index(backend))
    call = Call._make((*features, *left_out, temperature, lambda_hard, *words, *span, *ends))
    if backend == "reference":
        each, sums = contrast_reference.losses(call)
        result = reduced(each, call.reduction)
    else:
        save = _saves(call, memory)
        result, sums = contrast_operator.losses(call, save=save, stats=return_stats)
    return (result, ContrastStats(*sums.unbind(0))) if return_stats else result


def _saves(call: Call, memory: Memory) -> bool:
    if memory == "recompute" or not torch.is_grad_enabled():
        return False
    if not any(x.requires_grad for x in call.parts):
        return False
    dtype = call.video_spatial.dtype
    if BACKENDS[call.backend] != "cuda":
        dtype = computed_in(dtype)
    pairs = saved_pairs(call.video_spatial.shape[0], call.start, call.stop)
    return memory == "saved" or pairs * dtype.itemsize <= SAVED_LIMIT_BYTES
