"""Where outcomes go: JSON lines, and the broker in the form that Home Assistant discovers."""

import json
import threading
from collections.abc import Callable
from typing import Any, Protocol

from detach.edge.live.config import Publishing
from detach.edge.live.discovery import ONLINE, Topics, discovery, state_body
from detach.edge.live.outcomes import Outcome
from detach.edge.manifest import Manifest


class JsonLines:
    """Each outcome as one line.

    Args:
        write: Takes a line; may raise OSError.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def take(self, outcome: Outcome) -> None:
        """Writes it."""
        self._write(json.dumps(outcome.as_json(), ensure_ascii=False))

    def idle(self, now_s: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Publishes(Protocol):
    """A connection that sends."""

    up: bool

    def publish(self, topic: str, payload: str, *, retain: bool) -> bool:
        """Whether it was sent."""
        ...


class HomeAssistant:
    """State at the broker: retained, repeated, told again on reconnecting, silent in between.

    It listens to the connection too: on each one, and when Home Assistant has started, it
    describes its entities again. What was known before an outage is not known after it.

    Args:
        link: The connection.
        name: Of the instance.
        manifest: Of the bundle.
        config: How to publish.
    """

    def __init__(self, link: Publishes, name: str, manifest: Manifest, config: Publishing) -> None:
        self.topics = Topics(name, config)
        self._link, self._config, self._classes = link, config, manifest.classes
        self._entities = discovery(name, manifest, config)
        self._lock = threading.RLock()
        self._body = state_body(self._classes, None)
        self._next_s = 0.0
        self._due = False

    def offer(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Home Assistant's birth message, among others."""
        if topic == self.topics.birth and payload == b"online" and not retained:
            self._announce()

    def connected(self, *, up: bool) -> None:
        """From the connection's thread."""
        with self._lock:
            if not up:
                self._body = state_body(self._classes, None)
                return
        self._announce()

    def take(self, outcome: Outcome) -> None:
        """Publishes a change at once."""
        with self._lock:
            state = outcome.state if self._link.up else None
            self._body = state_body(self._classes, state, _extra(outcome))
            self._due |= outcome.changed

    def idle(self, now_s: float) -> None:
        """Publishes what is due."""
        with self._lock:
            if (self._due or now_s >= self._next_s) and self._link.up:
                self._due, self._next_s = False, now_s + self._config.every_s
                self._publish_state()

    def close(self) -> None:
        """The connection says the rest."""

    def _announce(self) -> None:
        with self._lock:
            for topic, body in self._entities:
                self._link.publish(topic, json.dumps(body, ensure_ascii=False), retain=True)
            self._publish_state()
            self._link.publish(self.topics.availability, ONLINE, retain=True)

    def _publish_state(self) -> None:
        body = json.dumps(self._body, ensure_ascii=False)
        self._link.publish(self.topics.state, body, retain=True)


def _extra(outcome: Outcome) -> dict[str, Any]:
    decision = outcome.decision
    extra: dict[str, Any] = {"end": round(outcome.utc_s, 3), "reason": outcome.reason}
    if decision is None:
        return extra | {"confidence": None, "place": None, "live_percent": None}
    return extra | {
        "confidence": None if decision.confidence is None else round(decision.confidence, 4),
        "place": decision.place,
        "live_percent": round(100 * decision.live_share),
    }
