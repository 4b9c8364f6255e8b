"""Online clustering of sensor features (stage 1), after ODC: a memory bank and its centroids.

N windows of the pretraining part, K clusters, d feature width. The bank holds one unit vector and
one pseudo-label a window; centroids are means of bank rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from detach import equations
from detach.config import SpatialStageConfig


@dataclass
class OnlineClustering:
    """The state of clustering; all tensors, so that a checkpoint holds it whole."""

    memory_bank: Tensor
    """[N, d], rows of length 1."""
    label: Tensor
    """Pseudo-label of each window, [N], int64."""
    centroids: Tensor
    """[K, d], means of bank rows."""
    confident: Tensor
    """[N], bool: near enough to its centroid to teach the video."""
    previous: Tensor
    """Labels at the end of the last epoch, [N]."""

    @classmethod
    def start(cls, features: Tensor, clusters: int, seed: int) -> "OnlineClustering":
        """k-means++ with several starts on unit features [N, d].

        Raises:
            ValueError: More clusters than windows.
        """
        if clusters > len(features):
            raise ValueError(
                f"clusters must be at most the number of windows, {len(features)}, got {clusters}"
            )
        bank = F.normalize(features.detach().float().cpu(), dim=1)
        label = torch.from_numpy(_kmeans(bank.numpy(), clusters, seed))
        state = cls(bank, label, torch.zeros(clusters, bank.shape[1]), label >= 0, label.clone())
        state.update_centroids()
        return state

    @property
    def sizes(self) -> Tensor:
        """Windows in each cluster, [K]."""
        return torch.bincount(self.label, minlength=len(self.centroids))

    def logits(self, features: Tensor, temperature: float) -> Tensor:
        """Cosine to the centroids over ``temperature``, [n, K]; gradient to ``features`` only."""
        directions = F.normalize(self.centroids, dim=1).to(features.device)
        return F.normalize(features, dim=1) @ directions.T / temperature

    def shuffle(self, seed: int) -> None:
        """Deals the labels out anew: a control that has clusters of the same sizes and no sense."""
        order = torch.randperm(len(self.label), generator=torch.Generator().manual_seed(seed))
        self.label = self.label[order]
        self.previous = self.label.clone()
        self.update_centroids()

    def update(
        self, index: Tensor, features: Tensor, momentum: float, *, assign: bool = True
    ) -> None:
        """Moves bank rows ``index`` towards ``features`` [n, d] and assigns them anew."""
        fresh = F.normalize(features.detach().float().cpu(), dim=1)
        mixed = (1 - momentum) * self.memory_bank[index] + momentum * fresh
        self.memory_bank[index] = F.normalize(mixed, dim=1)
        if assign:
            self.label[index] = self.logits(self.memory_bank[index], 1.0).argmax(dim=1)

    def update_centroids(self) -> None:
        """Means of bank rows; an empty cluster keeps its centroid."""
        total = torch.zeros_like(self.centroids).index_add_(0, self.label, self.memory_bank)
        size = self.sizes
        self.centroids[size > 0] = (total / size.clamp(min=1)[:, None])[size > 0]

    def refill_small(self, least: int, seed: int) -> int:
        """Empties clusters below ``least`` into their neighbours, then splits the largest in two.

        Returns:
            How many clusters were refilled.
        """
        small = (self.sizes < least).nonzero().squeeze(1)
        if len(small) == 0 or len(small) == len(self.centroids):
            return 0
        large = (self.sizes >= least).nonzero().squeeze(1)
        orphans = torch.isin(self.label, small)
        scores = self.logits(self.memory_bank[orphans], 1.0)[:, large]
        self.label[orphans] = large[scores.argmax(dim=1)]
        for cluster in small.tolist():
            largest = int(self.sizes.argmax())
            members = (self.label == largest).nonzero().squeeze(1)
            self.label[members[self._halve(members, seed)]] = cluster
            self.update_centroids()
        return len(small)

    def _halve(self, members: Tensor, seed: int) -> Tensor:
        """Which of the windows ``members`` [n] go to the new cluster, bool [n]."""
        rows = self.memory_bank[members]
        if (rows - rows[0]).abs().max() < 1e-6:  # all alike, as quiet windows may be
            return torch.arange(len(members)) % 2 == 1
        return torch.from_numpy(_kmeans(rows.numpy(), 2, seed)) == 1

    def distances(self) -> Tensor:
        """Euclidean distance of each bank row to the centroid of its label, [N]."""
        apart = self.memory_bank - self.centroids[self.label]
        return apart.square().sum(dim=1).sqrt()

    def end_epoch(self, config: SpatialStageConfig, seed: int) -> tuple[float, int]:
        """Centroids, small clusters and confidence, once an epoch.

        Returns:
            Share of labels that changed since the last epoch, and clusters refilled.
        """
        self.update_centroids()
        clusters = len(self.centroids)
        least = max(10, int(config.small_cluster * len(self.label) / clusters))
        refilled = 0
        if config.pseudo_labels == "clustered":
            refilled = self.refill_small(min(least, len(self.label) // (2 * clusters)), seed)
        self.confident = equations.confident(self.distances(), self.label, config.confident_q)
        changed = float((self.label != self.previous).float().mean())
        self.previous = self.label.clone()
        return changed, refilled

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, by name."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value.clone())


def _kmeans(rows: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans  # noqa: PLC0415  (a second of import)

    found = KMeans(clusters, n_init=5, random_state=seed).fit_predict(rows)
    return np.asarray(found, dtype=np.int64)
