"""Embeddings in one piece, as all rivals have them; N windows, w numbers."""

import torch.nn.functional as F
from torch import Tensor


def halves(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """The embedding [N, w] and the second half it has not, [N, 0]."""
    return embedding, embedding[:, :0]


def description(embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The embedding [N, w], as it is and at length 1, and nothing more [N, 0]."""
    return embedding, F.normalize(embedding, dim=1), embedding[:, :0]
