"""Where outcomes go: JSON lines, and the broker in the form that Home Assistant discovers."""

import contextlib
import json
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from detach.edge.live.config import LARGEST_PAYLOAD, Publishing
from detach.edge.live.discovery import ONLINE, Topics, as_sent, discovery, slugs, state_body
from detach.edge.live.outcomes import Outcome
from detach.edge.manifest import Manifest
from detach.errors import DataError

MOST_LINES = 1000
"""That may wait for whoever reads them."""
LAST_LINES_S = 2.0
"""So long the end waits for them."""


class JsonLines:
    """Each outcome as one line, written in a thread of its own: the loop waits for no reader.

    One that is too slow does not get the oldest, and that is said and counted.

    Args:
        write: Takes a line; may raise OSError, and may take its time.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self.lost = 0
        self._write, self._failed = write, list[Exception]()
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        self._thread = threading.Thread(target=self._work, name="lines out", daemon=True)
        self._thread.start()

    def take(self, outcome: Outcome) -> None:
        """To be written soon.

        Raises:
            OSError: An earlier one could not be written, or the oldest is left out.
        """
        lost = self._put(json.dumps(outcome.as_json(), ensure_ascii=False))
        self.idle(0.0)
        if lost:
            raise OSError(f"whoever reads the lines is too slow; {self.lost} are left out so far")

    def idle(self, now_s: float) -> None:  # noqa: ARG002 -- as of every sink
        """Says what went wrong in the meantime; raises as `take`."""
        if self._failed:
            raise self._failed.pop()

    def close(self) -> None:
        """Waits a little for the last ones."""
        self._put(None)
        self._thread.join(LAST_LINES_S)
        self.idle(0.0)

    def _put(self, line: str | None) -> int:
        """How many had to go for it."""
        lost = 0
        if self._lines.full():
            with contextlib.suppress(queue.Empty):  # written just now
                self._lines.get_nowait()
                lost = 1
        self._lines.put_nowait(line)
        self.lost += lost
        return lost

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line)
            except Exception as error:  # noqa: BLE001 -- the loop hears of it
                self._failed[:] = [error]


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

    Raises:
        DataError: What is to be published is too long to be sent.
    """

    def __init__(self, link: Publishes, name: str, manifest: Manifest, config: Publishing) -> None:
        self.topics = Topics(name, config)
        self._link, self._config, self._classes = link, config, manifest.classes
        self._entities = discovery(name, manifest, config)
        _check_state(self._classes)
        self._lock = threading.RLock()
        self._body = state_body(self._classes, None)
        self._next_s = 0.0
        self._due = False

    def offer(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Home Assistant's birth message, and descriptions that lie at the broker, among others."""
        if retained and payload and self._is_left_over(topic):
            self._link.publish(topic, "", retain=True)
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

    def _is_left_over(self, topic: str) -> bool:
        """Whether it describes an entity that an earlier bundle had; one without text goes."""
        told = {own for own, _ in self._entities}
        return topic not in told and self.topics.is_description(topic)

    def _announce(self) -> None:
        with self._lock:
            for topic, body in self._entities:
                self._link.publish(topic, as_sent(body), retain=True)
            self._publish_state()
            self._link.publish(self.topics.availability, ONLINE, retain=True)

    def _publish_state(self) -> None:
        self._link.publish(self.topics.state, as_sent(self._body), retain=True)


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


LONGEST_EXTRA = {
    "end": 9999999999.999, "reason": "silent_sensor",
    "confidence": 0.1234, "place": 9999, "live_percent": 100,
}  # fmt: skip
"""What `_extra` says at the most."""


def _check_state(classes: tuple[str, ...]) -> None:
    """That the longest state can be sent."""
    longest = max(slugs(classes), key=lambda name: len(as_sent(name).encode()), default=None)
    size = len(as_sent(state_body(classes, longest, LONGEST_EXTRA)).encode())
    if size > LARGEST_PAYLOAD:
        raise DataError(
            f"publish: with the bundle's {len(classes)} classes a state has up to {size} bytes, "
            f"more than the {LARGEST_PAYLOAD} that a message may have; give the classes shorter "
            "names, or make the bundle with fewer of them"
        )
