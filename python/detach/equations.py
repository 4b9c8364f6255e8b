"""The equations of DETACH (arXiv 2512.20409), one plain function each, in the paper's order.

This is the judge: every kernel is tested against these functions in float64. Nothing here is meant
to be fast. Shapes: N windows, K clusters, d feature width, T samples, C sensor channels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Gate = Literal["spatial", "none"]
Temporal = Literal["intra", "cross", "none"]


def activation_percentile(
    x: Tensor,
    q: float = 0.99,
    dim: int = -1,
    absolute: bool = False,
) -> Tensor:
    """Section 3.1: how strongly each channel was active; the q-quantile over ``dim``.

    Linear interpolation between order statistics, as numpy's default; NaN propagates.
    """
    x = x.abs() if absolute else x
    length = x.shape[dim]
    rank = q * (length - 1)
    low = int(rank)
    weight = rank - low
    ordered = x.movedim(dim, -1).sort(dim=-1).values  # NaN sorts last
    below, above = ordered[..., low], ordered[..., min(low + 1, length - 1)]
    between = torch.where(
        below.isfinite() & above.isfinite(),
        below + weight * (above - below),
        torch.where(below == above, below, (1.0 - weight) * below + weight * above),
    )
    result = between if weight > 0 else below
    return torch.where(x.isnan().any(dim=dim), torch.full_like(result, torch.nan), result)


def confident(distance: Tensor, label: Tensor, q: float = 0.75) -> Tensor:
    """Section 3.1: whether each window is confident, [N]; at q = 1 all are.

    True where the ``distance`` [N] to the own centroid is in the cluster's lower share ``q``.
    """
    marked = torch.zeros_like(label, dtype=torch.bool)
    for cluster in label.unique():
        own = label == cluster
        marked[own] = distance[own] <= torch.quantile(distance[own].double(), q)
    return marked


def cluster_loss(logits: Tensor, label: Tensor, cluster_size: Tensor) -> Tensor:
    """Eq. 1: cross-entropy of ``logits`` [N, K] on pseudo-labels, weighted by size^-1/2.

    Weights have mean 1 over the clusters that are not empty; as printed, without that scale, the
    loss shrinks with the data set (a cluster of 600 windows weighs 0.04). Divides by N; 0 if none.
    """
    kind = torch.promote_types(logits.dtype, torch.float32)  # a size may be beyond float16
    weight = cluster_size.clamp(min=1).to(kind).rsqrt()
    occupied = cluster_size > 0
    weight = weight / weight[occupied].mean()
    picked = logits.log_softmax(dim=1).gather(1, label[:, None]).squeeze(1)
    return -(weight[label] * picked).sum() / max(len(label), 1)


def video_spatial_loss(logits: Tensor, label: Tensor, confident: Tensor) -> Tensor:
    """Eq. 2: cross-entropy of the video's ``logits`` [N, K] on confident windows; 0 if none."""
    return _mean_cross_entropy(logits, label, confident)


def refine_loss(sensor_logits: Tensor, video_logits: Tensor, ambiguous: Tensor) -> Tensor:
    """Eq. 3: the sensor learns the video's hard decision on ambiguous windows; 0 if none."""
    return _mean_cross_entropy(sensor_logits, video_logits.argmax(dim=1), ambiguous)


def sensor_loss(
    cluster: Tensor, refine: Tensor, *, alpha: float = 1.0, beta: float = 1.5
) -> Tensor:
    """Eq. 4: what the sensor's spatial encoder minimises."""
    return alpha * cluster + beta * refine


def video_embedding(spatial: Tensor, temporal: Tensor, *, normalize: bool = True) -> Tensor:
    """Eq. 5: z_video [N, 2d]; ``normalize`` gives each half and then the whole length 1."""
    return _join(spatial, temporal, normalize=normalize)


def sensor_embedding(spatial: Tensor, temporal: Tensor, *, normalize: bool = True) -> Tensor:
    """Eq. 6: z_sensor [N, 2d], in the same way."""
    return _join(spatial, temporal, normalize=normalize)


def spatial_similarity(video: Tensor, sensor: Tensor) -> Tensor:
    """Eq. 7: two windows are as similar as the surer modality says, [N, N] in [0, 1]."""
    return torch.maximum(_cosine(video, video).relu(), _cosine(sensor, sensor).relu())


def spatial_weight(similarity: Tensor, *, lambda_hard: float = 3.0) -> Tensor:
    """Eq. 8: from 1 (another place) to ``lambda_hard`` (the same place), [N, N]."""
    return 1.0 + (lambda_hard - 1.0) * similarity


def temporal_similarity(video: Tensor, sensor: Tensor) -> Tensor:
    """Eq. 9: mean cosine of the momentum features within the modalities, [N, N]."""
    return 0.5 * (_cosine(video, video) + _cosine(sensor, sensor))


def temporal_similarity_cross(video: Tensor, sensor: Tensor) -> Tensor:
    """The camera-ready's form: video i against sensor j, [N, N], not symmetric."""
    return _cosine(video, sensor)


def temporal_weight(
    similarity: Tensor, spatial: Tensor, *, gate: Gate = "spatial", power: int = 1
) -> Tensor:
    """Eq. 10: from 1 (another motion) to 0 (the same motion: likely a false negative), [N, N].

    As printed (gate "none", power 2) motion alone decides. The camera-ready and the authors' code
    gate by place: 1 - S ReLU(T), so that a like motion at another place stays a negative.
    """
    damping = similarity.relu() ** power
    return 1.0 - (spatial * damping if gate == "spatial" else damping)


def pair_weight(spatial_weight: Tensor, temporal_weight: Tensor) -> Tensor:
    """Eq. 11: W [N, N] >= 0 with a zero diagonal."""
    weight = (spatial_weight * temporal_weight).clamp(min=0.0)
    return weight.masked_fill(torch.eye(len(weight), dtype=torch.bool, device=weight.device), 0.0)


def directional_loss(logits: Tensor, weight: Tensor) -> Tensor:
    """Eq. 12: per-window loss [N] of one direction. W_ii is 0, the positive itself counts 1."""
    positive = logits.diagonal()
    counted = (weight != 0) | torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    shift = logits.detach().masked_fill(~counted, -torch.inf).amax(dim=1, keepdim=True)
    negatives = (weight * (logits - shift).masked_fill(~counted, 0.0).exp()).sum(dim=1)
    shift = shift.squeeze(1)
    return shift + (negatives + (positive - shift).exp()).log() - positive


def contrast_loss(
    video: Tensor,
    sensor: Tensor,
    weight: Tensor,
    *,
    temperature: float = 0.10,
    transpose: bool = True,
) -> Tensor:
    """Eq. 13: mean of both directions; a pair keeps its weight, so sensor to video takes W^T.

    ``transpose=False`` is the authors' way, which is the same as long as W is symmetric.
    """
    logits = video @ sensor.T / temperature
    back = weight.T if transpose else weight
    return 0.5 * (directional_loss(logits, weight) + directional_loss(logits.T, back)).mean()


def negative_weight(
    video_spatial: Tensor,
    sensor_spatial: Tensor,
    video_momentum: Tensor | None,
    sensor_momentum: Tensor | None,
    *,
    lambda_hard: float = 3.0,
    gate: Gate = "spatial",
    power: int = 1,
    temporal: Temporal = "intra",
) -> Tensor:
    """W [N, N] from features, put together; arguments as in `weighted_contrastive_loss`.

    Momentum features [N, d] may be None where ``temporal`` is "none".
    """
    similar_place = spatial_similarity(video_spatial, sensor_spatial)
    place = spatial_weight(similar_place, lambda_hard=lambda_hard)
    if temporal == "none" or video_momentum is None or sensor_momentum is None:
        return pair_weight(place, torch.ones_like(place))
    similarity = temporal_similarity if temporal == "intra" else temporal_similarity_cross
    similar_motion = similarity(video_momentum, sensor_momentum)
    motion = temporal_weight(similar_motion, similar_place, gate=gate, power=power)
    return pair_weight(place, motion)


def weighted_contrastive_loss(
    video_spatial: Tensor,
    video_temporal: Tensor,
    sensor_spatial: Tensor,
    sensor_temporal: Tensor,
    video_momentum: Tensor,
    sensor_momentum: Tensor,
    *,
    temperature: float = 0.10,
    lambda_hard: float = 3.0,
    gate: Gate = "spatial",
    power: int = 1,
    temporal: Temporal = "intra",
    transpose: bool = True,
    normalize: bool = True,
    detach_weight: bool = True,
) -> Tensor:
    """The equations from spatial similarity to the mean of both directions, put together.

    Args:
        video_spatial: Frozen place features, [N, d].
        video_temporal: Trained motion features, [N, d].
        sensor_spatial: The same for the sensors.
        sensor_temporal: The same for the sensors.
        video_momentum: Motion features of the momentum encoder, [N, d].
        sensor_momentum: The same for the sensors.
        temperature: tau_contrast, > 0.
        lambda_hard: Weight of the hardest negative, >= 1.
        gate: Whether damping needs the same place.
        power: 1, or 2 as printed.
        temporal: Similarity of motion within modalities, across them, or no damping.
        transpose: Whether the second direction takes the transposed weight.
        normalize: Each half, then the whole, to length 1. Weight features always are.
        detach_weight: Whether W is a constant to the gradient.

    Returns:
        Scalar.
    """
    weight = negative_weight(
        video_spatial,
        sensor_spatial,
        video_momentum,
        sensor_momentum,
        lambda_hard=lambda_hard,
        gate=gate,
        power=power,
        temporal=temporal,
    )
    return contrast_loss(
        video_embedding(video_spatial, video_temporal, normalize=normalize),
        sensor_embedding(sensor_spatial, sensor_temporal, normalize=normalize),
        weight.detach() if detach_weight else weight,
        temperature=temperature,
        transpose=transpose,
    )


def _mean_cross_entropy(logits: Tensor, label: Tensor, chosen: Tensor) -> Tensor:
    per_window = F.cross_entropy(logits, label, reduction="none")
    return (per_window * chosen).sum() / chosen.sum().clamp(min=1)


def _join(spatial: Tensor, temporal: Tensor, *, normalize: bool) -> Tensor:
    if not normalize:
        return torch.cat([spatial, temporal], dim=1)
    halves = [F.normalize(spatial, dim=1), F.normalize(temporal, dim=1)]
    return F.normalize(torch.cat(halves, dim=1), dim=1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
