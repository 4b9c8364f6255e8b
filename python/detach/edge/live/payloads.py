"""What a message says of a sensor: Zigbee2MQTT's JSON, Home Assistant's states, plain values.

A payload that cannot be read is refused for a named reason and counted; nothing is guessed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from detach.edge.checked_json import decode
from detach.edge.live.config import LARGEST_PAYLOAD, SensorSource

ON = {"on", "true", "1", "open", "opened", "detected", "occupied", "active", "yes", "home"}
OFF = {"off", "false", "0", "closed", "close", "clear", "inactive", "no", "not_home"}
NOTHING = {"unavailable", "unknown", "none", "null", ""}
ONLINE = {"online", "true", "available", "on", "connected"}
LARGEST = 1e9
REASONS = ("too_large", "not_text", "not_json", "no_field", "wrong_type", "out_of_range")
UNFORESEEN = "unforeseen"
"""Counted for a payload that could not even be refused."""
MILLISECONDS = 1e11
"""A time of Unix beyond this counts milliseconds."""


class PayloadError(ValueError):
    """A payload that is refused; ``reason`` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Reading:
    """What one message says."""

    values: Mapping[str, tuple[float, ...]] | None
    """By axis; several are equally spaced samples, the last of them measured at the stamp. None:
    the sensor says that it does not know."""
    stamp_s: float | None = None
    """The sender's time, in seconds of Unix."""


def read_payload(payload: bytes, source: SensorSource, *, binary: bool) -> Reading:
    """Values and time in a message.

    Args:
        payload: As it came.
        source: How its sender writes.
        binary: Whether its values are 0 and 1.

    Raises:
        PayloadError: It cannot be read.
    """
    if len(payload) > LARGEST_PAYLOAD:
        raise PayloadError("too_large")
    if source.field is None and not source.fields and source.stamp is None:
        found = _plain(_text(payload), source, binary)
        return Reading(None if found is None else {"value": (found,)})
    body = _body(payload)
    stamp_s = _time(_entry(body, source.stamp)) if source.stamp is not None else None
    names = source.fields or {"value": source.field or "value"}
    values: dict[str, tuple[float, ...]] = {}
    for axis, name in names.items():
        several = _values(_entry(body, name), source, binary)
        if several is None:
            return Reading(None, stamp_s)
        values[axis] = several
    if len({len(several) for several in values.values()}) > 1:
        raise PayloadError("wrong_type")
    return Reading(values, stamp_s)


def is_online(payload: bytes) -> bool:
    """What an availability topic says: a word, or JSON with ``state``.

    Raises:
        PayloadError: Neither.
    """
    if len(payload) > LARGEST_PAYLOAD:
        raise PayloadError("too_large")
    text = _text(payload).strip()
    if text.startswith("{"):
        text = str(_entry(_body(payload), "state"))
    return text.lower() in ONLINE


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise PayloadError("not_text") from None


def _body(payload: bytes) -> dict[str, Any]:
    try:
        body = decode(payload)
    except ValueError:
        raise PayloadError("not_json") from None
    if not isinstance(body, dict):
        raise PayloadError("wrong_type")
    return body


def _entry(body: dict[str, Any], name: str) -> Any:
    if name in body:
        return body[name]
    found: Any = body
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            raise PayloadError("no_field")
        found = found[part]
    return found


def _values(found: Any, source: SensorSource, binary: bool) -> tuple[float, ...] | None:
    if isinstance(found, list) and found:
        several = [_plain(_word(item), source, binary) for item in found]
        known = [x for x in several if x is not None]
        if len(known) != len(several):
            raise PayloadError("wrong_type")
        return tuple(known)
    one = _plain(_word(found), source, binary)
    return None if one is None else (one,)


def _word(found: Any) -> str:
    if found is None:
        return ""
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, (str, int, float)):
        return str(found)
    raise PayloadError("wrong_type")


def _plain(text: str, source: SensorSource, binary: bool) -> float | None:
    """One value; None where the sensor says that there is none."""
    word = text.strip().lower()
    if word in NOTHING and word not in source.active:
        return None
    value = _switched(word, source) if binary else _number(word)
    if not source.invert:
        return value
    return 1.0 - value if binary else -value


def _switched(word: str, source: SensorSource) -> float:
    whole = word[:-2] if word.endswith(".0") else word
    if source.active:
        if whole in {active.lower() for active in source.active}:
            return 1.0
        if source.mode != "level" or whole in ON | OFF:
            return 0.0
    elif whole in ON | OFF:
        return float(whole in ON)
    raise PayloadError("wrong_type")


def _number(word: str) -> float:
    if word in ON | OFF and not word.isdigit():
        return float(word in ON)
    try:
        value = float(word)
    except ValueError:
        raise PayloadError("wrong_type") from None
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise PayloadError("out_of_range")
    return value


def _time(found: Any) -> float | None:
    """Seconds of Unix; None where it is no time that can be read."""
    if isinstance(found, bool) or not isinstance(found, (str, int, float)):
        return None
    try:
        seconds = float(found) if isinstance(found, (int, float)) else _moment(found)
    except (ValueError, OverflowError):  # JSON's whole numbers have no end
        return None
    if not math.isfinite(seconds) or abs(seconds) > 1e15:
        return None
    return seconds / 1000 if abs(seconds) > MILLISECONDS else seconds


def _moment(text: str) -> float:
    moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
