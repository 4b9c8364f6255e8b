"""Knobs of the two stages, as frozen dataclasses. Standard library only."""

import math
from dataclasses import dataclass
from typing import Literal

from detach.ranges import check as _check


@dataclass(frozen=True, kw_only=True)
class SpatialStageConfig:
    """Stage 1: find places. Section 3.1 of the paper."""

    epochs: int = 25
    """Cap; it stops earlier when labels have settled."""
    warmup_epochs: int = 5
    """Clustering alone."""
    joint_epochs: int = 10
    """Clustering and the video encoder (T in the paper); refinement follows."""
    stop_change: float = 0.01
    """Stop when fewer pseudo-labels than this share change, twice in a row, after refinement has
    run for 3 epochs."""
    batch_size: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    clusters: int | None = None
    """K; None takes the number of distinct sensor places plus one for quiet windows."""
    places: Literal["given", "auto"] = "given"
    """``auto`` finds K instead: the partition that two halves of the windows agree on best."""
    head: Literal["centroids", "learnable"] = "centroids"
    cluster_temperature: float = 0.1
    """tau of the cosine classifier on centroids."""
    bank_momentum: float = 0.5
    """Share of the new feature in the memory bank."""
    centroid_every: int | None = None
    """Steps between centroid updates; None updates once an epoch."""
    small_cluster: float = 0.15
    """A cluster below this share of N / K (and at least 10) is refilled from the largest."""
    alpha: float = 1.0
    beta: float = 1.5
    """Eq. 4."""
    confident_q: float = 0.75
    """Quantile of the distance to the own centroid up to which a window is confident."""
    cluster_on: Literal["all", "confident"] = "all"
    """Which windows Eq. 1 sees once the video encoder has joined."""
    video_gate: float = 0.9
    """Softmax the video must reach to correct an ambiguous window; 0 lets all through."""
    freeze_video: bool = True
    """Whether the video encoder stands still during refinement."""
    refine: bool = True
    pseudo_labels: Literal["clustered", "random"] = "clustered"
    """``random``: a control, the first clustering's labels dealt out anew and never changed."""

    def __post_init__(self) -> None:
        _check_training(self)
        _check("epochs", self.epochs, self.epochs >= 1, ">= 1")
        _check("warmup_epochs", self.warmup_epochs, self.warmup_epochs >= 0, ">= 0")
        _check("joint_epochs", self.joint_epochs, self.joint_epochs >= 0, ">= 0")
        _check("clusters", self.clusters, self.clusters is None or self.clusters >= 2, ">= 2")
        free = self.places == "given" or self.clusters is None
        _check("clusters", self.clusters, free, "none where places are found (auto)")
        every = self.centroid_every
        _check("centroid_every", every, every is None or every >= 1, ">= 1")
        _check("bank_momentum", self.bank_momentum, 0 < self.bank_momentum <= 1, "in (0, 1]")
        temperature = self.cluster_temperature
        _check("cluster_temperature", temperature, temperature > 0, "> 0")
        _check("confident_q", self.confident_q, 0 < self.confident_q <= 1, "in (0, 1]")
        _check("video_gate", self.video_gate, 0 <= self.video_gate < 1, "in [0, 1)")
        _check("small_cluster", self.small_cluster, 0 <= self.small_cluster <= 0.5, "in [0, 0.5]")
        _check("stop_change", self.stop_change, 0 <= self.stop_change <= 1, "in [0, 1]")
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            _check(name, value, 0 <= value < math.inf, ">= 0")


@dataclass(frozen=True, kw_only=True)
class TemporalStageConfig:
    """Stage 2: align motion. Section 3.2 of the paper."""

    epochs: int = 50
    """0 leaves the stage out: the embedding then is its spatial half alone, as of plain ODC."""
    batch_size: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    temperature: float = 0.10
    """tau_contrast of Eq. 12."""
    lambda_hard: float = 3.0
    """Weight of the hardest negative in Eq. 8; 1 turns spatial weighting off."""
    gate: Literal["spatial", "none"] = "spatial"
    """Whether Eq. 10 damps only pairs that are also spatially similar."""
    power: Literal[1, 2] = 1
    temporal: Literal["intra", "cross", "none"] = "cross"
    """Temporal similarity within the modalities (Eq. 9), across them as in the camera-ready, or no
    damping. Before any training all motion is alike within a modality and unlike across them, so
    that ``intra`` begins with hard negatives weighted down."""
    transpose: bool = True
    """The sensor-to-video direction takes the transposed weight."""
    negatives: Literal["weighted", "constant", "emphasised", "eased", "hcl", "debiased"] = (
        "weighted"
    )
    """``weighted``: Eq. 12. ``constant``: every W is the batch's mean W. ``emphasised``: W is Eq. 8
    and ``eased`` its inverse, either brought to that mean, so that only where hard negatives stand
    differs. ``hcl``: weights from the logits themselves (Robinson et al. 2021); ``debiased``: none,
    less the expected share of positives (Chuang et al. 2020). Both with their authors' tau+ of 0.1,
    HCL with beta 1."""
    logits: Literal["whole", "temporal"] = "whole"
    """``temporal`` leaves the spatial halves out of Eq. 12; they still weight."""
    detach_weight: bool = True
    """Whether W is a constant to the gradient. If not, it sees the encoders that are trained, since
    through copies no gradient flows."""
    mask_overlap: bool = False
    """Windows that share time with a window are no negatives of it."""
    momentum: float = 0.999
    """Of the copies that W looks at; 0 without ramp looks at the encoders as they are."""
    momentum_ramp: bool = True
    """min(momentum, (1 + t) / (10 + t)) at step t; otherwise constant."""

    def __post_init__(self) -> None:
        _check_training(self)
        _check("epochs", self.epochs, self.epochs >= 0, ">= 0")
        _check("temperature", self.temperature, 1e-3 <= self.temperature <= 100, "in [0.001, 100]")
        _check("lambda_hard", self.lambda_hard, self.lambda_hard >= 1, ">= 1")
        _check("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")


def _check_training(stage: "SpatialStageConfig | TemporalStageConfig") -> None:
    _check("batch_size", stage.batch_size, stage.batch_size >= 2, ">= 2")
    rate, decay = stage.learning_rate, stage.weight_decay
    _check("learning_rate", rate, 0 < rate < math.inf, "> 0 and finite")
    _check("weight_decay", decay, 0 <= decay < math.inf, ">= 0 and finite")
