"""Messages on their way from the threads that receive them to the one that decides."""

import threading
from collections import Counter, deque
from dataclasses import dataclass

from detach.edge.live.config import LARGEST_PAYLOAD


@dataclass(frozen=True)
class Message:
    """What a source delivered."""

    topic: str
    payload: bytes
    arrival_s: float
    """Monotonic."""
    retained: bool = False
    """Kept by the broker: a state, and not the moment of an event."""


@dataclass(frozen=True)
class Connected:
    """A source is there from now on, or no longer."""

    up: bool
    arrival_s: float


class Intake:
    """A queue that never makes its senders wait: when it is full, the oldest message goes.

    Args:
        most: Messages that may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[Message | Connected] = deque()
        self._lock = threading.Lock()
        self.arrived = threading.Event()
        self.counts: Counter[str] = Counter()
        self.longest = 0
        """Most that ever waited."""

    def offer(self, item: Message | Connected) -> None:
        """From any thread. Payloads over the limit are not kept."""
        if isinstance(item, Message) and len(item.payload) > LARGEST_PAYLOAD:
            self.counts["too_large"] += 1
            return
        with self._lock:
            if isinstance(item, Message):
                self.counts["messages"] += 1
            self._waiting.append(item)
            if len(self._waiting) > self._most:
                self._drop_oldest()
            self.longest = max(self.longest, len(self._waiting))
        self.arrived.set()

    def take(self) -> list[Message | Connected]:
        """All that wait, in order."""
        self.arrived.clear()
        with self._lock:
            found, self._waiting = list(self._waiting), deque()
        return found

    def _drop_oldest(self) -> None:
        # Messages only: that a source went away must not be forgotten.
        for i, item in enumerate(self._waiting):
            if isinstance(item, Message):
                del self._waiting[i]
                self.counts["dropped"] += 1
                return
