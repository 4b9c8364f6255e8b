"""Messages as lines on standard input, as `mosquitto_sub` writes them.

Two forms are read: ``mosquitto_sub -F '%U %t %p'`` (a time, the topic, the payload) and
``-F %J`` (JSON with topic and payload, and retain). The time is not read: arrival counts.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from detach.edge.checked_json import decode
from detach.edge.live.config import LARGEST_PAYLOAD

LONGEST_LINE = 2 * LARGEST_PAYLOAD
CHUNK = 65536
Offer = Callable[..., None]


def parse_line(line: bytes, topics: tuple[str, ...]) -> tuple[str, bytes, bool] | None:
    """Topic, payload, and whether the broker retained it; None where the line is neither form.

    Args:
        line: Without its end.
        topics: Those known, longest first, since they may hold spaces.
    """
    if line.startswith(b"{"):
        return _from_json(line)
    _, _, rest = line.partition(b" ")
    for topic in topics:
        raw = topic.encode() + b" "
        if rest.startswith(raw):
            return topic, rest[len(raw) :], False
    return None


def read_lines(number: int) -> Iterator[bytes]:
    """Lines without their ends; of one that is too long, so much that it is refused.

    Args:
        number: A file descriptor. Python's own buffer is not used: a thread that waits in it keeps
            the program from ending.
    """
    begun, cut = b"", False
    while more := os.read(number, CHUNK):
        *whole, begun = (begun + more).split(b"\n")
        for line in whole:
            if not cut:
                yield line.rstrip(b"\r")[:LONGEST_LINE]
            cut = False
        if len(begun) > LONGEST_LINE:
            if not cut:
                yield begun[:LONGEST_LINE]
            begun, cut = b"", True
    if begun and not cut:
        yield begun


def start_lines(
    number: int,
    topics: tuple[str, ...],
    offer: Offer,
    ended: Callable[[], None],
) -> threading.Thread:
    """A thread that offers every line of a file descriptor; ``ended`` is called after the last."""
    ordered = tuple(sorted(topics, key=len, reverse=True))

    def work() -> None:
        try:
            for line in read_lines(number):
                found = parse_line(line, ordered)
                topic, payload, retained = found or ("", line, False)
                offer(topic, payload, retained=retained)
        finally:
            ended()

    thread = threading.Thread(target=work, name="lines", daemon=True)
    thread.start()
    return thread


def _from_json(line: bytes) -> tuple[str, bytes, bool] | None:
    try:
        body: Any = decode(line)
        topic, payload = body.get("topic"), body.get("payload")
        raw = (payload if isinstance(payload, str) else json.dumps(payload)).encode()
    except (ValueError, RecursionError):  # also half a character, which no bytes stand for
        return None
    return (topic, raw, body.get("retain") == 1) if isinstance(topic, str) else None
