"""Local times of a log to seconds, through the two hours a year that are not there or are twice."""

from datetime import datetime, timedelta, timezone, tzinfo

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  local times have no zone
EARLIEST_S = datetime(1990, 1, 1, tzinfo=timezone.utc).timestamp()
LATEST_S = datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp()
BACK_S = 60.0
"""A log that goes back by more within the hour that is there twice has reached its second turn."""


class LocalClock:
    """Turns naive local times, given in the order of the log, into seconds since 1970.

    Without a zone the seconds are those of the local time itself. In the hour that a change of
    clocks repeats, a time is the first of the two until the log goes back; in the hour that is
    skipped, the clock was late in changing and the time is moved on by an hour.

    Args:
        zone: Of the log, or None.
    """

    def __init__(self, zone: tzinfo | None) -> None:
        self.zone = zone
        self.last_s = float("-inf")
        self._offsets: dict[tuple[int, int, int, int, int], tuple[float, float]] = {}

    def seconds(self, local: datetime) -> tuple[float, str | None]:
        """Seconds, and what had to be decided: "hour twice", "hour skipped" or None."""
        plain_s = (local - EPOCH).total_seconds()
        if self.zone is None:
            self.last_s = plain_s
            return plain_s, None
        first, second = self._both(local)
        t_s, doubt = plain_s - first, None
        if first != second:
            doubt = "hour twice" if first > second else "hour skipped"
            if (
                first > second
                and t_s < self.last_s - BACK_S
                and plain_s - second <= self.last_s + 3600
            ):
                t_s = plain_s - second
        self.last_s = t_s
        return t_s, doubt

    def end(self, local: datetime, start_s: float) -> float:
        """Seconds of the end of a stretch: the first that is not before its start."""
        plain_s = (local - EPOCH).total_seconds()
        if self.zone is None:
            return plain_s
        first, second = self._both(local)
        return plain_s - first if plain_s - first >= start_s else plain_s - second

    def _both(self, local: datetime) -> tuple[float, float]:
        """Offsets from UTC in seconds, before and after a change of clocks if one is near."""
        quarter = (local.year, local.month, local.day, local.hour, local.minute // 15)
        known = self._offsets.get(quarter)
        if known is None:
            zoned = local.replace(tzinfo=self.zone)
            pair = [zoned.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
            known = (pair[0].total_seconds(), pair[1].total_seconds())
            self._offsets = {quarter: known}
        return known


def local_of(t_s: float, zone: tzinfo | None) -> datetime:
    """The local time, naive, of seconds."""
    if zone is None:
        return EPOCH + timedelta(seconds=t_s)
    return datetime.fromtimestamp(t_s, zone).replace(tzinfo=None)


def seconds_of(local: datetime, zone: tzinfo | None) -> float:
    """The seconds of a naive local time, the first where there are two."""
    if zone is None:
        return (local - EPOCH).total_seconds()
    return local.replace(tzinfo=zone).timestamp()
