"""Event houses of van Kasteren and of Tapia (MIT): ``25-Feb-2008 00:20:14 <tab> end <tab> number``.

A folder holds one house: ``*-ss.txt`` with a line a stretch in which a sensor was on, ``*-as.txt``
with activities in the same form, and maps of numbers to names (``sensorMap*``: number,name,room;
``actionMap*``: number,name). The original ``*SenseData.txt`` and ``*ActData.txt`` are read too.
Stretches of one sensor or activity that overlap or are there twice become one, and are counted.
Times are local.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from detach.data.importers.clock import LocalClock
from detach.data.importers.lines import read_lines
from detach.data.importers.log import Change, Log, Options, Stretch
from detach.errors import DataError

SENSORS, ACTIVITIES = ("*-ss.txt", "*SenseData*.txt"), ("*-as.txt", "*ActData*.txt")
MAPS = {"sensors": "*ensorMap*", "activities": "*ctionMap*"}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
TIME = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d{1,2}):(\d\d):(\d\d)")
MOTION = re.compile(r"\b(pir|motion|movement)\b", re.IGNORECASE)
TRACK = "activity"
SHORTEST_S = 1.0
"""The logs count whole seconds: what is on and off in the same second was on for part of one."""

Row = tuple[Path, int, float, float, str]
"""File, line, start, end, and number or name."""


def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
    """Changes of one house.

    Raises:
        DataError: The folder holds none or several houses, or files of another form.
    """
    house = source if source.is_dir() else source.parent
    rows = _rows(_only(house, SENSORS), options, log)
    log.utc = options.zone is not None
    names = _map(house, MAPS["sensors"])
    told = ((p, i, a, b, log.name(n) or _sensor(n, names, log, p, i)) for p, i, a, b, n in rows)
    for sensor, start_s, end_s in _joined(told, "sensor", log):
        yield start_s, sensor, 1.0
        yield end_s, sensor, 0.0
    known = _map(house, MAPS["activities"])
    for pattern in ACTIVITIES:
        for path in sorted(house.glob(pattern)):
            rows = _rows(path, options, log)
            told = ((p, i, a, b, known.get(n, (f"activity {n}",))[0]) for p, i, a, b, n in rows)
            for activity, start_s, end_s in _joined(told, "activity", log):
                log.stretches.append(Stretch(start_s, end_s, TRACK, activity))


def _joined(rows: Iterator[Row], what: str, log: Log) -> Iterator[tuple[str, float, float]]:
    """Name, start and end of each stretch, after those of one name that overlap were joined."""
    waiting: dict[str, tuple[float, float]] = {}
    for path, line, start_s, end_s, name in rows:
        log.used += 1
        first_s, last_s = waiting.get(name, (start_s, start_s))
        if name in waiting and (start_s, end_s) == (first_s, last_s):
            log.note("stretch that is there twice", path, line)
            continue
        if name in waiting and start_s <= last_s and end_s >= first_s:
            log.note(f"stretch that overlaps the one before of its {what}, joined", path, line)
            waiting[name] = (min(first_s, start_s), max(last_s, end_s))
            continue
        if name in waiting:
            yield name, first_s, last_s
        waiting[name] = (start_s, end_s)
    for name, (first_s, last_s) in waiting.items():
        yield name, first_s, last_s


def _rows(path: Path, options: Options, log: Log) -> Iterator[Row]:
    """Stretches of a file as file, line, start, end and number."""
    clock = LocalClock(options.zone)
    for file, line, text in read_lines(path, log, ()):
        times = TIME.findall(text)
        number = text.split()[-1] if text.split() else ""
        try:
            first, last = (_local(*found) for found in times)
        except ValueError:
            log.drop("not start, end, number", file, line)
            continue
        if not number.isdigit():
            log.drop("not start, end, number", file, line)
            continue
        start_s, doubt = clock.seconds(first)
        end_s = clock.end(last, start_s)
        if doubt:
            log.note(f"local time: {doubt}", file, line)
        if end_s < start_s:
            log.drop("stretch that ends before it starts", file, line)
            continue
        yield file, line, start_s, max(end_s, start_s + SHORTEST_S), number


def _local(day: str, month: str, year: str, hour: str, minute: str, second: str) -> datetime:
    return datetime(  # noqa: DTZ001  local time
        int(year), 1 + MONTHS.index(month.lower()), int(day), int(hour), int(minute), int(second)
    )


def _sensor(number: str, names: dict[str, tuple[str, str]], log: Log, path: Path, line: int) -> str:
    name, place = names.get(number, (f"sensor {number}", ""))
    if number not in names:
        log.note("sensor whose number is not in the map", path, line)
    kind = "motion" if MOTION.search(name) else "switch"
    guess = "a word for motion in its name" if kind == "motion" else "these houses log on and off"
    return log.sensor(number, kind=kind, guess=guess, place=place or None, title=name)


def _map(house: Path, pattern: str) -> dict[str, tuple[str, str]]:
    """Number to name and room; a map that is missing names nothing."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(house.glob(pattern)):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            number, _, rest = text.strip().partition(",")
            name, _, place = rest.partition(",")
            if number.isdigit() and name.strip():
                found[number] = (re.sub(r"-house[A-Z]$", "", name.strip()), place.strip(" ,\t"))
    return found


def _only(house: Path, patterns: tuple[str, ...]) -> Path:
    found = sorted({path for pattern in patterns for path in house.glob(pattern)})
    if len(found) == 1:
        return found[0]
    inside = sorted({p.parent.name for pattern in patterns for p in house.glob(f"*/{pattern}")})
    hint = f"; give one of its folders {', '.join(inside)}" if inside else ""
    raise DataError(f"{house}: one file {' or '.join(patterns)} expected, found {len(found)}{hint}")
