"""The operators for torch: checks, registration, gradients, and which kernel runs.

Each operator is one entry of `torch.library`, so that autograd, `torch.compile` and `opcheck` know
it. Fallback chain: CUDA kernel, CPU kernel, plain torch; `DETACH_BACKEND=cuda|cpu|torch|reference`
forces one.
"""

from detach.ops.contrast import ContrastStats, weighted_contrastive_loss
from detach.ops.dispatch import BACKENDS, backend
from detach.ops.info_nce import weighted_info_nce
from detach.ops.percentile import activation_percentile

__all__ = [
    "BACKENDS",
    "ContrastStats",
    "activation_percentile",
    "backend",
    "weighted_contrastive_loss",
    "weighted_info_nce",
]
