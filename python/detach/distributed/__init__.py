"""One run by several processes: `torchrun --nproc-per-node N -m detach train ...`.

Each batch is cut into nearly equal shares of windows, in the order one process would have it, and
every process computes its share of one loss: losses, and after them gradients, are *summed* over
processes and equal those of one process on the whole batch. The memory bank is cut likewise. A
world of one does nothing of this.
"""

from detach.distributed.bank import Bank
from detach.distributed.batch_norm import share_batch_norms
from detach.distributed.contrast import contrastive_loss, gather_features
from detach.distributed.world import ALONE, World, joined

__all__ = [
    "ALONE",
    "Bank",
    "World",
    "contrastive_loss",
    "gather_features",
    "joined",
    "share_batch_norms",
]
