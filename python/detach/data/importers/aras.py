"""ARAS: two houses of two people, a file a day, ``DAY_1.txt``, with a line a second.

A line is 22 integers: 20 sensors, 0 or 1, and what each of the two people does, 1 to 27. Which of
the houses it is, and so what the columns are, stands only in the name of the folder (House A, House
B). The files have no date: day 1 is called 2000-01-01. Times are local.
Names of sensors and activities are those of the data set's own read-me.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from detach.data.importers.clock import seconds_of
from detach.data.importers.lines import files_of, read_lines
from detach.data.importers.log import Change, Log, Options, Stretch
from detach.errors import DataError

DAY_ONE = datetime(2000, 1, 1)  # noqa: DTZ001  local time
DAY_S = 86_400
FILES = ("DAY_*.txt", "day_*.txt", "DAY_*.csv")
HOUSES = {
    "a": (
        "photocell wardrobe", "photocell convertible couch", "infrared TV receiver", "force couch",
        "force couch", "distance chair", "distance chair", "photocell fridge",
        "photocell kitchen drawer", "photocell wardrobe", "photocell bathroom cabinet",
        "contact house door", "contact bathroom door", "contact shower cabinet door", "sonar hall",
        "sonar kitchen", "distance tap", "distance water closet", "temperature kitchen",
        "force bed",
    ),
    "b": (
        "contact kitchen cupboard", "contact kitchen cupboard", "contact house door",
        "contact wardrobe door", "contact wardrobe door", "contact shower cabinet door",
        "distance tap", "force chair", "force chair", "force chair", "photocell fridge",
        "photocell kitchen drawer", "pressure couch", "pressure couch", "pressure bed",
        "pressure bed", "pressure armchair", "sonar bathroom door", "sonar kitchen",
        "sonar closet",
    ),
}  # fmt: skip
"""What the 20 columns are: how it is sensed, and where."""
ACTIVITIES = (
    "other", "going out", "preparing breakfast", "having breakfast", "preparing lunch",
    "having lunch", "preparing dinner", "having dinner", "washing dishes", "having snack",
    "sleeping", "watching TV", "studying", "having shower", "toileting", "napping",
    "using internet", "reading book", "laundry", "shaving", "brushing teeth",
    "talking on the phone", "listening to music", "cleaning", "having conversation",
    "having guest", "changing clothes",
)  # fmt: skip
PEOPLE = ("resident1", "resident2")
MOVES = ("sonar", "distance")


def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
    """Changes of all days in a folder, or of one.

    Raises:
        DataError: No such files, or lines that are not 22 integers.
    """
    log.utc = options.zone is not None
    files = sorted(files_of(source, FILES), key=_day)
    sensors = [_sensor(column, source.resolve(), log) for column in range(20)]
    for number, path in enumerate(files):
        begun_s = seconds_of(DAY_ONE + timedelta(days=_day(path) - 1), options.zone)
        state: list[int] = []
        going: list[tuple[int, float]] = []
        t_s = begun_s
        for _, line, text in read_lines(path, log, ()):
            log.share = (number + min(1.0, line / DAY_S)) / len(files)
            row = _row(text)
            if row is None or line > DAY_S:
                why = "not 22 integers, of which 20 are 0 or 1 and two 1 to 27"
                log.drop(why if row is None else "more lines than seconds in a day", path, line)
                continue
            log.used += 1
            t_s = begun_s + line - 1
            for column, value in enumerate(row[:20]):
                if not state or value != state[column]:
                    yield t_s, sensors[column], float(value)
            state = row[:20]
            going = _labels(going, row[20:], t_s, log)
        _end(going, t_s + 1, log)
        if state:  # so that the recording lasts as long as the file
            yield t_s, sensors[0], float(state[0])


def _row(text: str) -> list[int] | None:
    try:
        row = [int(cell) for cell in text.replace(",", " ").split()]
    except ValueError:
        return None
    fits = len(row) == 22 and all(v in {0, 1} for v in row[:20])
    return row if fits and all(1 <= v <= len(ACTIVITIES) for v in row[20:]) else None


def _labels(
    going: list[tuple[int, float]], said: list[int], t_s: float, log: Log
) -> list[tuple[int, float]]:
    """What each person does and since when; what ended is told."""
    if not going:
        return [(number, t_s) for number in said]
    now = []
    for person, ((before, since_s), number) in enumerate(zip(going, said, strict=True)):
        if number != before:
            log.stretches.append(Stretch(since_s, t_s, PEOPLE[person], ACTIVITIES[before - 1]))
        now.append((number, since_s if number == before else t_s))
    return now


def _end(going: list[tuple[int, float]], t_s: float, log: Log) -> None:
    for person, (number, since_s) in enumerate(going):
        log.stretches.append(Stretch(since_s, t_s, PEOPLE[person], ACTIVITIES[number - 1]))


def _sensor(column: int, path: Path, log: Log) -> str:
    """Tells the sensor of a column, by the house that the path names."""
    names = re.findall(r"house[ _-]*([ab])\b", path.as_posix().lower())
    if not names:
        guess = "the path does not say which house; House A or House B expected in it"
        return log.sensor(f"sensor {column + 1:02}", kind="switch", guess=guess)
    title = HOUSES[names[-1]][column]
    how, _, where = title.partition(" ")
    kind = "motion" if how in MOVES else "switch"
    return log.sensor(
        f"sensor {column + 1:02}",
        kind=kind,
        guess=f"{how} sensors of house {names[-1].upper()}",
        place=where,
        title=f"{column + 1:02} {title}",
    )


def _day(path: Path) -> int:
    """Number of a day in the name of its file.

    Raises:
        DataError: There is none.
    """
    found = re.search(r"(\d{1,4})", path.stem)
    if not found or int(found[1]) < 1:
        raise DataError(f"{path}: the name must be DAY_1.txt and so on, for the day")
    return int(found[1])
