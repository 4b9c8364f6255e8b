"""Changes on disk, sorted into periods such as days, so that a log of any order and length fits."""

from array import array
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.data.importers.clock import local_of, seconds_of

ROW = np.dtype([("t_s", "<f8"), ("value", "<f8"), ("sensor", "<i4")])
HELD = 200_000
"""Rows kept in memory, about 4 MB, before they are written."""


@dataclass
class Period:
    """A day, or some hours of one, and what happened in it."""

    start_s: float
    end_s: float
    path: Path
    first_s: float = float("inf")
    last_s: float = float("-inf")
    t_s: "array[float]" = field(default_factory=lambda: array("d"))
    value: "array[float]" = field(default_factory=lambda: array("d"))
    sensor: "array[int]" = field(default_factory=lambda: array("i"))

    def read(self) -> NDArray[Any]:
        """Its rows `ROW` in order of time; rows of one time keep their order."""
        rows = np.fromfile(self.path, dtype=ROW)
        return np.asarray(rows[np.argsort(rows["t_s"], kind="stable")])


class Spool:
    """Takes changes in any order and gives them back period by period."""

    def __init__(self, folder: Path, hours: float, zone: tzinfo | None) -> None:
        folder.mkdir(parents=True)
        self.folder, self.hours, self.zone = folder, hours, zone
        self.names: dict[str, int] = {}
        """Sensors in order of their first row."""
        self.rows = 0
        self.out_of_order = 0
        self.first: dict[int, tuple[float, float]] = {}
        """Time and value of the earliest change of each sensor."""
        self._periods: dict[float, Period] = {}
        self._now: Period | None = None
        self._held = 0
        self._last_s = float("-inf")

    def add(self, t_s: float, sensor: str, value: float) -> None:
        """Takes one change."""
        number = self.names.setdefault(sensor, len(self.names))
        now = self._now
        if now is None or not now.start_s <= t_s < now.end_s:
            now = self._now = self._period(t_s)
        now.t_s.append(t_s)
        now.value.append(value)
        now.sensor.append(number)
        now.first_s, now.last_s = min(now.first_s, t_s), max(now.last_s, t_s)
        if number not in self.first or t_s < self.first[number][0]:
            self.first[number] = (t_s, value)
        self.out_of_order += t_s < self._last_s
        self._last_s = t_s
        self.rows += 1
        self._held += 1
        if self._held >= HELD:
            self.flush()

    def flush(self) -> None:
        """Writes what is held."""
        for period in self._periods.values():
            if period.t_s:
                rows = np.empty(len(period.t_s), dtype=ROW)
                for column in ("t_s", "value", "sensor"):
                    rows[column] = getattr(period, column)
                    del getattr(period, column)[:]
                with period.path.open("ab") as file:
                    file.write(rows.tobytes())
        self._held = 0

    def periods(self) -> list[Period]:
        """All periods with a change, in order of time, their rows on disk."""
        self.flush()
        return [self._periods[start] for start in sorted(self._periods)]

    def _period(self, t_s: float) -> Period:
        start_s, end_s = bounds(t_s, self.hours, self.zone)
        if start_s not in self._periods:
            path = self.folder / f"{len(self._periods)}.rows"
            self._periods[start_s] = Period(start_s, end_s, path)
        return self._periods[start_s]


def bounds(t_s: float, hours: float, zone: tzinfo | None) -> tuple[float, float]:
    """Start and end in seconds of the period of ``hours`` from local midnight that holds a time.

    A day on which clocks change has one hour more or less; periods never cross midnight, but
    those of several days, which are counted from the beginning of our calendar.
    """
    midnight = local_of(t_s, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    days = max(1, int(hours // 24))
    first = midnight - timedelta(days=midnight.toordinal() % days)
    start_s = seconds_of(first, zone)
    end_s = seconds_of(first + timedelta(days=days), zone)
    if hours >= 24:
        return start_s, end_s
    part = int((t_s - start_s) // (3600 * hours))
    return start_s + 3600 * hours * part, min(start_s + 3600 * hours * (part + 1), end_s)
