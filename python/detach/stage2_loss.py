"""The loss of stage 2 as configured: the fused operator, or a variant with W written out.

N windows of a batch, d feature width. The variants are for ablations: they keep W, [N, N].
"""

from typing import Literal, NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from detach import equations, ops
from detach.config import TemporalStageConfig
from detach.optimizers import full_precision

CONTROLS = ("constant", "emphasised", "eased")
"""Weights that stand in for W, brought to the mean of W over the negatives of a batch."""
DEBIAS, HARDNESS = 0.1, 1.0
"""tau+ and beta of the authors of the debiased loss and of HCL."""


class Features(NamedTuple):
    """Of the windows of a batch, [N, d] each."""

    video_spatial: Tensor
    video_temporal: Tensor
    sensor_spatial: Tensor
    sensor_temporal: Tensor


class Overlap(NamedTuple):
    """Which windows share time."""

    recording: Tensor
    """[N], int64"""
    start_s: Tensor
    """[N]"""
    seconds: float

    def mask(self) -> Tensor:
        """Bool [N, N], True for pairs that overlap."""
        same = self.recording[:, None] == self.recording[None]
        return same & ((self.start_s[:, None] - self.start_s[None]).abs() < self.seconds)


class LossOptions(TypedDict):
    """Keyword arguments of `ops.weighted_contrastive_loss`."""

    temperature: float
    lambda_hard: float
    gate: Literal["spatial", "none"]
    power: int
    temporal: Literal["intra", "cross", "none"]


def loss_options(stage: TemporalStageConfig, *, plain: bool) -> LossOptions:
    """Arguments of the loss; ``plain`` makes it InfoNCE."""
    return {
        "temperature": stage.temperature,
        "lambda_hard": 1.0 if plain else stage.lambda_hard,
        "gate": stage.gate,
        "power": stage.power,
        "temporal": "none" if plain else stage.temporal,
    }


def is_operator(stage: TemporalStageConfig, *, plain: bool) -> bool:
    """Whether the loss is that of `ops.weighted_contrastive_loss`, which forms no N x N array."""
    weighted = plain or (stage.negatives == "weighted" and stage.detach_weight)
    crossed = not plain and stage.temporal == "cross" and not stage.transpose
    return weighted and stage.logits == "whole" and not crossed


def stage2_loss(
    features: Features,
    slow: tuple[Tensor, Tensor],
    stage: TemporalStageConfig,
    *,
    plain: bool,
    overlap: Overlap,
) -> Tensor:
    """The loss of one batch.

    Args:
        features: Place features, frozen, and motion features, trained.
        slow: Motion features of the momentum encoders, video and sensors, [N, d].
        stage: Which loss, and how.
        plain: InfoNCE, whatever ``stage`` says of weights.
        overlap: Where the windows are in time.
    """
    options = loss_options(stage, plain=plain)
    if is_operator(stage, plain=plain):
        mask = overlap if stage.mask_overlap else None
        return ops.weighted_contrastive_loss(*features, *slow, **options, mask=mask)
    with full_precision(features.video_temporal.device):
        return _written_out(features, slow, stage, options, plain=plain, overlap=overlap)


def _written_out(
    features: Features,
    slow: tuple[Tensor, Tensor],
    stage: TemporalStageConfig,
    options: LossOptions,
    *,
    plain: bool,
    overlap: Overlap,
) -> Tensor:
    video, sensor = _embeddings(features, stage)
    mask = overlap.mask() if stage.mask_overlap else None
    kind = "weighted" if plain else stage.negatives
    weight = None if kind in {"hcl", "debiased"} else _weight(features, slow, stage, options)
    if weight is not None and kind in CONTROLS:
        counted = ~torch.eye(len(weight), dtype=torch.bool, device=weight.device)
        counted = counted if mask is None else counted & ~mask
        own = _control(kind, features, options).detach().fill_diagonal_(0.0)  # as of W, Eq. 11
        weight = own * (weight * counted).sum() / (own * counted).sum().clamp(min=1e-6)
    if weight is not None and not stage.transpose:  # both ways see W as it is
        logits = video @ sensor.T / stage.temperature
        shown = weight if mask is None else weight.masked_fill(mask, 0.0)
        ways = (equations.directional_loss(x, shown) for x in (logits, logits.T))
        return 0.5 * torch.stack([way.mean() for way in ways]).sum()
    return ops.weighted_info_nce(
        video,
        sensor,
        weight,
        temperature=stage.temperature,
        debias=DEBIAS if weight is None else 0.0,
        hardness=HARDNESS if kind == "hcl" else 0.0,
        mask=mask,
        symmetric=True,
    )


def _embeddings(features: Features, stage: TemporalStageConfig) -> tuple[Tensor, Tensor]:
    """Eq. 5 and 6, or their temporal halves alone; of length 1."""
    video, sensor = features.video_temporal.float(), features.sensor_temporal.float()
    if stage.logits == "temporal":
        return F.normalize(video, dim=1), F.normalize(sensor, dim=1)
    return (
        equations.video_embedding(features.video_spatial.float(), video),
        equations.sensor_embedding(features.sensor_spatial.float(), sensor),
    )


def _control(kind: str, features: Features, options: LossOptions) -> Tensor:
    """1; Eq. 8, which emphasises hard negatives; or its inverse, which eases them; [N, N]."""
    places = features.video_spatial.float(), features.sensor_spatial.float()
    similar = equations.spatial_similarity(*places)
    hard = equations.spatial_weight(similar, lambda_hard=options["lambda_hard"])
    return {"constant": torch.ones_like(hard), "emphasised": hard, "eased": 1 / hard}[kind]


def _weight(
    features: Features,
    slow: tuple[Tensor, Tensor],
    stage: TemporalStageConfig,
    options: LossOptions,
) -> Tensor:
    seen = slow if stage.detach_weight else (features.video_temporal, features.sensor_temporal)
    weight = equations.negative_weight(
        features.video_spatial.float(),
        features.sensor_spatial.float(),
        *(x.float() for x in seen),
        lambda_hard=options["lambda_hard"],
        gate=options["gate"],
        power=options["power"],
        temporal=options["temporal"],
    )
    return weight.detach() if stage.detach_weight else weight
