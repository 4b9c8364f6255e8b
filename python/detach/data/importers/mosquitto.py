"""A log of mosquitto_sub: lines with a time, a topic and a payload, as Zigbee2MQTT publishes them.

Each line is one of

- ``mosquitto_sub -F %J -t 'zigbee2mqtt/#'``: JSON with tst, topic, payload and retain,
- ``mosquitto_sub -F '%U %t %p' ...``: Unix seconds, topic, payload,
- ``mosquitto_sub -F '%I %t %p' ...``: ISO 8601 with its offset, topic, payload,
- plain ``mosquitto_sub -v``, which has no time, where the payload holds Zigbee2MQTT's
  ``last_seen``.

Each known field of a payload is a sensor, ``device.field``. ``contact`` is true when closed, the
opposite of what a switch on means everywhere else: its polarity is -1. Retained messages tell an
old state and are left out. A topic may hold blanks only where the payload is JSON.
"""

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detach.data.importers.lines import read_lines
from detach.data.importers.log import Change, Log, Options, number_of
from detach.errors import DataError

FIELDS: dict[str, tuple[str, str, int]] = {
    "contact": ("switch", "", -1),
    "occupancy": ("motion", "", 1),
    "presence": ("motion", "", 1),
    "motion": ("motion", "", 1),
    "moving": ("motion", "", 1),
    "vibration": ("motion", "", 1),
    "water_leak": ("switch", "", 1),
    "state": ("switch", "", 1),
    "state_left": ("switch", "", 1),
    "state_right": ("switch", "", 1),
    "power": ("power", "W", 1),
    "current": ("power", "A", 1),
    "illuminance": ("light", "lx", 1),
    "illuminance_lux": ("light", "lx", 1),
    "noise": ("sound", "dB", 1),
    "x_axis": ("acceleration", "", 1),
    "y_axis": ("acceleration", "", 1),
    "z_axis": ("acceleration", "", 1),
    "strength": ("other", "", 1),
    "angle": ("other", "deg", 1),
    "temperature": ("other", "C", 1),
    "humidity": ("other", "%", 1),
    "pressure": ("other", "hPa", 1),
    "distance": ("other", "m", 1),
}
"""Fields of Zigbee2MQTT: kind, unit, polarity. Others, such as battery, are not taken."""
NO_TIME = (
    "no time stands before the topic; log with mosquitto_sub -F %J, or -F '%U %t %p', or let "
    "Zigbee2MQTT add last_seen to its payloads"
)
TIME_S = (6.3e8, 4.2e9)


def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
    """Changes of a log, or of all ``*.log``, ``*.txt`` and ``*.json*`` in a folder.

    Raises:
        DataError: Lines without a time, or of another form.
    """
    del options
    for path, line, text in read_lines(source, log, ("*.log", "*.txt", "*.json", "*.jsonl")):
        try:
            t_s, topic, payload, retained = _parts(text.strip())
        except ValueError as error:
            log.drop(str(error), path, line)
            continue
        if retained:
            log.drop("retained message: the state at some time before", path, line)
            continue
        if t_s is None:
            raise DataError.at(path, line, NO_TIME)
        changes, why = _changes(topic, payload, log)
        if not changes:
            log.drop(why, path, line)
            continue
        log.used += 1
        for sensor, value in changes:
            yield t_s, sensor, value


def _parts(text: str) -> tuple[float | None, str, Any, bool]:
    """Time or None, topic, payload and whether it is retained, of one line.

    Raises:
        ValueError: In words, what it is not.
    """
    if text.startswith("{"):
        whole = _json(text)
        if not isinstance(whole, dict) or not isinstance(whole.get("topic"), str):
            raise ValueError("not JSON with a topic")
        payload = whole.get("payload")
        payload = _json(payload) if isinstance(payload, str) else payload
        t_s = _time(str(whole.get("tst", "")))
        return t_s, whole["topic"], payload, bool(whole.get("retain"))
    first, _, rest = text.partition(" ")
    t_s = _time(first)
    if t_s is None:
        rest = text
    at = rest.find(" {")
    topic, said = (rest[:at], rest[at:]) if at > 0 else (rest.partition(" ")[::2])
    if not topic or not said.strip():
        raise ValueError("not time, topic, payload")
    payload = _json(said.strip())
    if t_s is None and isinstance(payload, dict) and "last_seen" in payload:
        t_s = _time(str(payload["last_seen"]))
    return t_s, topic, payload, False


def _json(text: str) -> Any:
    """What JSON says, or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith("{"):
            raise ValueError("payload of JSON that is cut short or damaged") from None
        return text


def _time(text: str) -> float | None:
    """Unix seconds, from those, from milliseconds, or from ISO 8601 with an offset."""
    try:
        number = float(text)
    except ValueError:
        return _iso(text)
    number = number / 1000 if number > 1e11 else number
    return number if TIME_S[0] < number < TIME_S[1] else None


def _iso(text: str) -> float | None:
    text = re.sub(r"Z(?=[+-]\d\d)", "", text)  # mosquitto_sub 2.0 writes ..Z+0100
    if len(text) > 5 and text[-5] in "+-" and text[-3] != ":":
        text = f"{text[:-2]}:{text[-2:]}"
    whole, point, rest = text.replace("Z", "+00:00").partition(".")
    if point:  # Python 3.10 reads three or six digits
        cut = min((rest.index(sign) for sign in "+-" if sign in rest), default=len(rest))
        whole += "." + rest[: min(cut, 6)].ljust(6, "0") + rest[cut:]
    try:
        moment = datetime.fromisoformat(whole)
        return moment.astimezone(timezone.utc).timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):  # an offset may lead out of the years 1 to 9999
        return None


def _changes(topic: str, payload: Any, log: Log) -> tuple[list[tuple[str, float]], str]:
    """Sensors and values of one message; or none, and why."""
    device = topic.partition("/")[2] or topic
    parts = device.split("/")
    if parts[0] == "bridge" or parts[-1] in {"set", "get", "config"}:
        return [], "message of the bridge, or to a device"
    if parts[-1] in {"availability", "LWT"}:
        state = payload.get("state") if isinstance(payload, dict) else payload
        if str(state).lower() != "offline":
            return [], "message that a device is online"
        stem = "/".join(parts[:-1]) + "."
        own = [n for f in FIELDS if (n := log.name(stem + f))]
        return [
            (name, math.nan) for name in own
        ], "message that a device of no known sensor is offline"
    if not isinstance(payload, dict):
        payload = (
            {"state": payload}
            if number_of(str(payload)) in {0.0, 1.0} and not str(payload).isdigit()
            else {}
        )
    found = []
    for field, said in payload.items():
        if field in FIELDS and isinstance(said, str | int | float | None):
            value = number_of(str(said))
            binary = FIELDS[field][0] in {"switch", "motion"}
            if value is not None and (not binary or value in {0.0, 1.0} or math.isnan(value)):
                found.append((_sensor(device, field, log), value))
    return found, "message without a field that is known"


def _sensor(device: str, field: str, log: Log) -> str:
    key = f"{device}.{field}"
    kind, unit, polarity = FIELDS[field]
    guess = f"field {field}" + (", true is closed" if polarity < 0 else "")
    return log.name(key) or log.sensor(
        key, kind=kind, guess=guess, unit=unit, polarity=polarity, place=device
    )
