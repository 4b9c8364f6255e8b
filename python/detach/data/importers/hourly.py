"""Hourly statistics in a history download: means, which must not be taken for changes."""

import math
from pathlib import Path

from detach.data.importers.log import number_of
from detach.errors import DataError

HOURLY_ROWS = 4
"""So many numbers of one sensor, each exactly an hour after the last and on the hour, are means."""


class Hourly:
    """Finds the older part of a history download that holds hourly means."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: dict[str, tuple[float, int]] = {}

    def check(self, entity: str, state: str, t_s: float, line: int) -> None:
        """Looks at one more row of an entity.

        Raises:
            DataError: It is the fourth number in a row that comes an hour after the one before.
        """
        before_s, count = self.last.get(entity, (math.nan, 1))
        follows = t_s % 3600 == 0 and t_s - before_s == 3600 and number_of(state) is not None
        count = count + 1 if follows else 1
        self.last[entity] = (t_s, count)
        if count >= HOURLY_ROWS and not state.isalpha():
            raise DataError.at(
                self.path,
                line,
                f"{entity} comes once an hour on the hour: these are hourly statistics, means that "
                "show no activity. Download at most the last 10 days, or import the database",
            )
