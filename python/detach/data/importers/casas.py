"""CASAS smart homes: a line a change, ``2010-11-04 05:40:51.303739 M004 ON [Activity begin]``.

Separators are tabs or blanks, in any number. M is a motion sensor, D a door, T a temperature, L and
LS light, P power, I an item; other letters are taken by their values. Files as published hold slips
of the pen (``ON0``, ``ON"``, ``ONM026``), which are put right and counted, and activities that end
before they begin, or never, which are left out and counted. Times are local.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from detach.data.importers.clock import LocalClock
from detach.data.importers.lines import read_lines
from detach.data.importers.log import Change, Log, Options, Stretch, number_of

KINDS = {
    "M": "motion", "MA": "motion", "D": "switch", "I": "switch", "F": "switch",
    "T": "other", "L": "switch", "LS": "light", "P": "power", "E": "other", "BATP": "other",
    "BATV": "other", "AD": "other",
}  # fmt: skip
SLIP = re.compile(r"(ON|OFF|OPEN|CLOSED?)[^A-Z].*|(ON|OFF|OPEN|CLOSED?)(?=M\d).*")
MARK = re.compile(r"^(.*?)[\s=\"_]*(beg[a-z]*|start|end)[\s\"]*$", re.IGNORECASE)
TRACK = "activity"


def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
    """Changes of a CASAS file, or of all ``data`` and ``*.txt`` in a folder.

    Raises:
        DataError: Nothing in the source is of this form.
    """
    clock, log.utc = LocalClock(options.zone), options.zone is not None
    begun: dict[str, float] = {}
    for path, line, text in read_lines(source, log, ("data", "*.txt", "*.csv")):
        parts = text.replace(",", " ").split(maxsplit=4)
        try:
            local = datetime.fromisoformat(f"{parts[0]} {_six(parts[1])}")
            sensor, word = parts[2], parts[3]
        except (IndexError, ValueError):
            log.drop("not date, time, sensor, value", path, line)
            continue
        t_s, doubt = clock.seconds(local)
        if doubt:
            log.note(f"local time: {doubt}", path, line)
        marked = len(parts) > 4 and _label(parts[4], t_s, begun, log, path, line)
        value = _value(word, log, path, line)
        if value is None:
            log.drop("value is neither a number nor on or off", path, line)
            continue
        log.used += 1
        if len(parts) > 4 and not marked:
            log.note("activity that cannot be read, or ends before it begins", path, line)
        yield t_s, log.name(sensor) or _sensor(sensor, word, value, log), value
    if begun:
        log.noted["activity that never ends, left out"] += len(begun)


def _six(clock: str) -> str:
    """A time of day whose fraction has six digits, which is all that Python 3.10 reads."""
    whole, point, fraction = clock.partition(".")
    return whole + point + fraction[:6].ljust(6, "0") if point else whole


def _sensor(sensor: str, word: str, value: float, log: Log) -> str:
    letters = re.match(r"[A-Za-z]*", sensor)
    prefix = letters.group().upper() if letters else ""
    kind, why = KINDS.get(prefix), f"CASAS names these {prefix}.."
    binary = value in {0.0, 1.0} and not word[:1].isdigit()
    if kind is None or (kind in {"motion", "switch"}) != binary:
        kind, why = ("switch" if binary else "other"), "of its first value"
    return log.sensor(sensor, kind=kind, guess=why, unit="C" if prefix == "T" else "")


def _value(word: str, log: Log, path: Path, line: int) -> float | None:
    value = number_of(word)
    if value is None and (slip := SLIP.fullmatch(word.upper().strip("'\""))):
        value = number_of(slip[1] or slip[2])
        log.note("slip of the pen in a value", path, line)
    elif value is None and (value := number_of(word.strip("'\"`"))) is not None:
        log.note("slip of the pen in a value", path, line)
    return value


def _label(text: str, t_s: float, begun: dict[str, float], log: Log, path: Path, line: int) -> bool:
    """Takes up ``Sleeping begin`` or ``end``; whether it made sense."""
    found = MARK.match(text.strip())
    if not found or not found[1].strip(' ="'):
        return False
    name, mark = found[1].strip(' ="'), found[2].lower()
    if mark == "end":
        start_s = begun.pop(name, None)
        if start_s is None or t_s < start_s:
            return False
        log.stretches.append(Stretch(start_s, t_s, TRACK, name))
        return True
    if name in begun:
        log.note(
            "activity that begins again before it ended; the first part is left out", path, line
        )
    begun[name] = t_s
    return True
