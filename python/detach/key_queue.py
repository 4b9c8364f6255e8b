"""Features of windows seen lately: first in, first out. The memory of PRIMUS and of COMODO."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detach.optimizers import full_precision


class KeyQueue:
    """The last ``size`` keys pushed, [Q, D], and whose they are; all tensors, for checkpoints."""

    def __init__(self, size: int, width: int) -> None:
        self.keys = torch.zeros(size, width)
        self.window = torch.full((size,), -1)
        """Window each key belongs to, [Q]; -1 where nothing was pushed yet."""
        self._next = 0

    @classmethod
    def sized(
        cls,
        asked: int | None,
        most: int,
        windows: int,
        width: int,
        *,
        option: str,
        share: float = 0.5,
    ) -> "KeyQueue":
        """A queue of ``asked`` keys; None takes a share of the ``windows``, at most ``most``.

        Raises:
            ValueError: More keys than windows: each would be there several times, and stale.
        """
        if asked is not None and asked > windows:
            raise ValueError(
                f"{option} must be at most the number of windows trained on, {windows}, got "
                f"{asked}: a longer queue holds stale copies of the same windows"
            )
        return cls(asked or max(2, min(most, int(windows * share))), width)

    @property
    def filled(self) -> Tensor:
        """Keys that were pushed, [q, D]."""
        return self.keys[self.window >= 0]

    def push(self, keys: Tensor, window: Tensor) -> None:
        """Remembers keys [n, D] of windows [n] and forgets the oldest."""
        size = len(self.keys)
        keys, window = keys[-size:], window[-size:]
        at = (self._next + torch.arange(len(keys))) % size
        self.keys[at] = keys.detach().to(self.keys)
        self.window[at] = window.to(self.window)
        self._next = (self._next + len(keys)) % size

    def nearest(self, query: Tensor, window: Tensor) -> Tensor | None:
        """Which key [n] is nearest by cosine to each query [n, d] in its first d columns.

        Keys of the query's own window [n] are left out: a stale copy of oneself is no neighbour.
        None while some query has no other.
        """
        width = query.shape[1]
        keys = F.normalize(self.keys[:, :width], dim=1).to(query)
        with full_precision(query.device):
            near = F.normalize(query, dim=1) @ keys.T
        barred = self.barred(window.to(query.device))
        if bool(barred.all(dim=1).any()):
            return None
        return near.masked_fill(barred, -torch.inf).argmax(dim=1).cpu()

    def barred(self, window: Tensor) -> Tensor:
        """Keys [n, Q] that are empty or belong to the very window [n]."""
        own = self.window.to(window.device)
        return (own[None] < 0) | (own[None] == window[:, None])

    def state_dict(self) -> dict[str, Any]:
        """Everything, by name."""
        return {"keys": self.keys, "window": self.window, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.keys, self.window = state["keys"].clone(), state["window"].clone()
        self._next = int(state["next"])
