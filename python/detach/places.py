"""How many places a home has, where nobody says: the partition that halves agree on best.

After stability-based validation (Ben-Hur et al., PSB 2002; Lange et al., Neural Computation 2004).
For each K, two random halves of the windows are clustered, all windows are labelled by both, and
the adjusted Rand index says how much of that agrees. N windows, d feature width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from detach.config import EncoderConfig
from detach.encoders import SensorSpatialEncoder

MOST = 16
"""Places looked for at most."""
DRAWS = 6
WINDOWS = 2000
"""Of which as many are looked at."""
STARTS = 2

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stability:
    """Of partitions into ``clusters`` parts."""

    clusters: int
    mean: float
    """Adjusted Rand index of two halves: 1 is the same partition, 0 is chance."""
    low: float
    high: float
    """Of all draws."""


@torch.no_grad()
def activity(samples: NDArray[np.float32], config: EncoderConfig, seed: int) -> NDArray[np.float32]:
    """What stage 1 starts its clustering from: unit features [N, d] of samples [N, T, C]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = SensorSpatialEncoder(samples.shape[2], config).eval()
    pieces = torch.from_numpy(samples).split(512)
    return F.normalize(torch.cat([encoder(piece) for piece in pieces]), dim=1).numpy()


def stability(features: NDArray[np.float32], seed: int, most: int = MOST) -> list[Stability]:
    """The curve over K = 2 to ``most``, or to what a quarter of the windows [N, d] allows.

    It ends with as many kinds as there are: of fewer any two halves make the same partition,
    whatever K is asked for.
    """
    rng = np.random.default_rng(seed)
    x = features[np.sort(rng.permutation(len(features))[:WINDOWS])]
    halves = [rng.permutation(len(x))[: 2 * (len(x) // 2)].reshape(2, -1) for _ in range(DRAWS)]
    kinds = min(_kinds(x[part]) for half in halves for part in half)
    found = []
    for clusters in range(2, min(most, len(x) // 4, kinds) + 1):
        agreed = [_agreement(x, half, clusters, seed) for half in halves]
        low, high = float(np.min(agreed)), float(np.max(agreed))
        found.append(Stability(clusters, float(np.mean(agreed)), low, high))
    return found


def choose(curve: Sequence[Stability]) -> int:
    """The most stable K; of equals the largest.

    Raises:
        ValueError: There is nothing to choose from.
    """
    if not curve:
        raise ValueError(
            "the curve must hold one K at least; at least 8 windows are needed, and not all alike"
        )
    return max(curve, key=lambda point: (round(point.mean, 6), point.clusters)).clusters


def adjusted_rand(a: Ints, b: Ints) -> float:
    """Agreement of two partitions [n] beyond chance (Hubert and Arabie, 1985)."""
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1)
    both, rows, columns = (_pairs(x) for x in (table, table.sum(axis=1), table.sum(axis=0)))
    chance = rows * columns / max(_pairs(np.array([len(a)])), 1.0)
    most = (rows + columns) / 2
    return float((both - chance) / (most - chance)) if most != chance else 1.0


def _pairs(counts: NDArray[np.float64]) -> float:
    return float((counts * (counts - 1) / 2).sum())


def _kinds(x: NDArray[np.float32]) -> int:
    """How many windows [n, d] differ by more than rounding."""
    return len(np.unique(np.round(x, 5), axis=0))


def _agreement(x: NDArray[np.float32], halves: Ints, clusters: int, seed: int) -> float:
    from sklearn.cluster import KMeans  # noqa: PLC0415  (a second of import)

    said = [
        KMeans(clusters, n_init=STARTS, random_state=seed).fit(x[half]).predict(x)
        for half in halves
    ]
    return adjusted_rand(said[0].astype(np.int64), said[1].astype(np.int64))
