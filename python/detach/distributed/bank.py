"""The memory bank of stage 1, cut by window: each process keeps the rows of its share.

N windows, d feature width, K clusters. A row is 4 d bytes that only its owner reads and writes.
What all must know goes round: labels (8 bytes a window), sums of rows [K, d], distances (4 bytes a
window). In a world of one nothing goes round, and the same lines run.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detach.distributed.world import World

Cluster = Callable[[Tensor], Tensor]
"""Labels [n] of rows [n, d]."""


class Bank:
    """Unit features of N windows, [n, d] of them here; all processes call the same methods."""

    def __init__(self, features: Tensor, world: World) -> None:
        """``features`` [n, d]: those of this process's share of the windows.

        Raises:
            ValueError: A process has another number of windows than its share.
        """
        self.world = world
        self.count = world.count_rows(len(features))
        self.share = world.share(self.count)
        self.rows = _unit(features)

    def move(self, index: Tensor, features: Tensor, momentum: float) -> None:
        """Moves rows ``index`` [n], of any process, towards ``features`` [n, d]."""
        here, at = self._here(index)
        mixed = (1 - momentum) * self.rows[at] + momentum * _unit(features[here])
        self.rows[at] = F.normalize(mixed, dim=1)

    def nearest(self, index: Tensor, directions: Tensor) -> Tensor:
        """Which of the unit ``directions`` [m, d] each row of ``index`` is nearest to, [n]."""
        here, at = self._here(index)
        found = torch.zeros_like(index)
        found[here] = (F.normalize(self.rows[at], dim=1) @ directions.T).argmax(dim=1)
        return self.world.total(found)

    def sums(self, label: Tensor, clusters: int) -> Tensor:
        """Sums of the rows of each cluster, [K, d], for labels [N]."""
        own = self.rows.new_zeros(clusters, self.rows.shape[1])
        return self.world.total(own.index_add_(0, label[self.share.rows], self.rows))

    def distances(self, centroids: Tensor, label: Tensor) -> Tensor:
        """Euclidean distance of each row to the centroid of its label, [N]."""
        apart = self.rows - centroids[label[self.share.rows]]
        found = self.rows.new_zeros(self.count)
        found[self.share.rows] = apart.square().sum(dim=1).sqrt()
        return self.world.total(found)

    def clustered(self, index: Tensor, cluster: Cluster) -> Tensor:
        """What ``cluster`` says of the rows ``index`` [n], which must rise; the first is asked.

        So a cluster is cut alike on all, whatever their processors and libraries.
        """
        _, at = self._here(index)
        shares = self.world.shares(self.count)
        sizes = [int(((index >= s.start) & (index < s.stop)).sum()) for s in shares]
        whole = self.world.bring(self.rows[at], sizes)
        found = self.world.lead(lambda: cluster(whole))
        return self.world.total(torch.zeros_like(index) if found is None else found)

    def state_dict(self) -> dict[str, Tensor]:
        """All rows [N, d] in the first process, which writes them; nothing elsewhere."""
        whole = self.world.bring(self.rows, [len(s) for s in self.world.shares(self.count)])
        return {"rows": whole} if self.world.first else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes this process's rows of what `state_dict` gave.

        Raises:
            ValueError: It is the bank of other windows.
        """
        whole = state["rows"]
        if len(whole) != self.count:
            raise ValueError(f"the bank has {len(whole)} windows, expected {self.count}")
        self.rows = whole[self.share.rows].clone()

    def _here(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Which of ``index`` this process has, bool [n], and where."""
        here = (index >= self.share.start) & (index < self.share.stop)
        return here, index[here] - self.share.start


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.detach().float().cpu(), dim=1)
