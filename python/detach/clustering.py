"""Online clustering of sensor features (stage 1), after ODC: a memory bank and its centroids.

N windows of the pretraining part, K clusters, d feature width. The bank holds one unit vector a
window; centroids are means of bank rows. Of several processes each has its share of the bank, and
all have the same labels and centroids.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from detach import equations
from detach.config import SpatialStageConfig
from detach.distributed import ALONE, Bank, World
from detach.optimizers import full_precision


@dataclass
class OnlineClustering:
    """The state of clustering: the bank, and tensors of which all processes have the same."""

    memory_bank: Bank
    label: Tensor
    """Pseudo-label of each window, [N], int64."""
    centroids: Tensor
    """[K, d], means of bank rows."""
    confident: Tensor
    """[N], bool: near enough to its centroid to teach the video."""
    previous: Tensor
    """Labels at the end of the last epoch, [N]."""

    @classmethod
    def start(
        cls, features: Tensor, clusters: int, seed: int, world: World = ALONE
    ) -> "OnlineClustering":
        """k-means++ with several starts on unit features [n, d], this process's of all N.

        Raises:
            ValueError: More clusters than windows.
        """
        bank = Bank(features, world)
        if clusters > bank.count:
            raise ValueError(
                f"clusters must be at most the number of windows, {bank.count}, got {clusters}"
            )
        everything = torch.arange(bank.count)
        label = bank.clustered(everything, lambda rows: _kmeans(rows, clusters, seed))
        centroids = torch.zeros(clusters, features.shape[1])
        state = cls(bank, label, centroids, label >= 0, label.clone())
        state.update_centroids()
        return state

    @property
    def sizes(self) -> Tensor:
        """Windows in each cluster, [K]."""
        return torch.bincount(self.label, minlength=len(self.centroids))

    def logits(self, features: Tensor, temperature: float) -> Tensor:
        """Cosine to the centroids over ``temperature``, [n, K]; gradient to ``features`` only."""
        kind = torch.promote_types(features.dtype, torch.float32)
        with full_precision(features.device):
            towards = F.normalize(features.to(kind), dim=1)
            return towards @ self._directions.to(features.device).T / temperature

    @property
    def _directions(self) -> Tensor:
        return F.normalize(self.centroids, dim=1)

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
        self.memory_bank.move(index, features, momentum)
        if assign:
            self.label[index] = self.memory_bank.nearest(index, self._directions)

    def update_centroids(self) -> None:
        """Means of bank rows; an empty cluster keeps its centroid."""
        total, size = self.memory_bank.sums(self.label, len(self.centroids)), self.sizes
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
        orphans = torch.isin(self.label, small).nonzero().squeeze(1)
        self.label[orphans] = large[self.memory_bank.nearest(orphans, self._directions[large])]
        for cluster in small.tolist():
            largest = int(self.sizes.argmax())
            members = (self.label == largest).nonzero().squeeze(1)
            half = self.memory_bank.clustered(members, lambda rows: _halve(rows, seed))
            self.label[members[half == 1]] = cluster
            self.update_centroids()
        return len(small)

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
        distances = self.memory_bank.distances(self.centroids, self.label)
        self.confident = equations.confident(distances, self.label, config.confident_q)
        changed = float((self.label != self.previous).float().mean())
        self.previous = self.label.clone()
        return changed, refilled

    def state_dict(self) -> dict[str, Tensor]:
        """Everything but the bank, which is a part of a checkpoint by itself, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "memory_bank"}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        for name in self.state_dict():
            setattr(self, name, state[name].clone())


def _kmeans(rows: Tensor, clusters: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans  # noqa: PLC0415  (a second of import)

    found = KMeans(clusters, n_init=5, random_state=seed).fit_predict(rows.numpy())
    return torch.from_numpy(found).long()


def _halve(rows: Tensor, seed: int) -> Tensor:
    """1 for the rows of [n, d] that go to a new cluster."""
    if (rows - rows[0]).abs().max() < 1e-6:  # all alike, as quiet windows may be
        return torch.arange(len(rows)) % 2
    return _kmeans(rows, 2, seed)
