"""One clock for everything that runs live, and when the values of a source were measured."""

import math
import threading
import time
from collections import deque
from typing import Literal, Protocol

BUCKET_S, BUCKETS = 5.0, 12
"""Smallest delays are kept for each 5 s, over a minute."""
FEW = 8
"""A fit needs so many of them,"""
STRAIGHT_S = 0.006
"""and that in the mean they lie so near above the line."""
MOST_SKEW = 1e-3
JUMP_S = 5.0
"""A stamp that implies another delay than the usual by more is not believed,"""
AGREED = 3
"""unless so many in a row agree: then that clock was set."""
STEP_S = 0.5
"""A wall clock that moved by more against the monotonic one was set."""


class Clock(Protocol):
    """Time, and waiting for it. Tests bring their own, which does not wait."""

    def monotonic(self) -> float:
        """Seconds that never fall."""
        ...

    def wall(self) -> float:
        """Seconds of Unix, which may be set."""
        ...

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Returns when the event is set, or after so many seconds."""
        ...


class SystemClock:
    """The machine's."""

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds of Unix."""
        return time.time()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Sleeps."""
        event.wait(seconds)


class WallClock:
    """How far the wall clock is ahead of the monotonic one, and how often it was set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = clock.wall() - clock.monotonic()
        self.steps = 0

    def ahead_s(self) -> float:
        """Wall less monotonic, now."""
        ahead_s = self._clock.wall() - self._clock.monotonic()
        if abs(ahead_s - self._ahead_s) > STEP_S:
            self.steps += 1
        self._ahead_s = ahead_s
        return ahead_s


class SourceClock:
    """When a source's values were measured, on the monotonic clock.

    A message takes some time, so that arrival less stamp is offset plus delay. The smallest of each
    5 s of the last minute are nearly without; the line below them gives offset and skew. Stamps
    that do not fit are not believed until three in a row agree.

    Args:
        mode: See `detach.edge.live.config.SensorSource.clock`.
        latency_s: Between event and arrival.
        resync_s: With ``offset``, a stamp that steps back, or lies by more seconds in the future,
            is believed at once, since no message is that fast: that clock was set. None waits for
            three.
    """

    def __init__(
        self,
        mode: Literal["arrival", "offset", "same"] = "arrival",
        latency_s: float = 0.0,
        resync_s: float | None = None,
    ) -> None:
        self._mode, self._latency_s, self._resync_s = mode, latency_s, resync_s
        self._least: deque[tuple[float, float]] = deque(maxlen=BUCKETS)
        self._line = (0.0, 0.0)
        self._odd: list[float] = []
        self._stamp_s = -math.inf
        self.refused = 0
        """Stamps that were not believed."""
        self.resets = 0
        """How often the sender's clock was set,"""
        self.reset_s = 0.0
        """and by how much in all."""

    def measured(self, arrival_s: float, stamp_s: float | None, ahead_s: float) -> float:
        """Monotonic time of measurement, never after arrival.

        Args:
            arrival_s: Monotonic.
            stamp_s: The sender's time in seconds of Unix; None where there is none.
            ahead_s: This machine's wall clock less its monotonic one.
        """
        if self._mode == "arrival" or stamp_s is None:
            return arrival_s - self._latency_s
        if self._mode == "same":
            offset_s = -ahead_s
            if abs(arrival_s - stamp_s - offset_s) > JUMP_S:
                self.refused += 1
                return arrival_s - self._latency_s
        elif not self._learn(arrival_s, stamp_s):
            return arrival_s - self._latency_s
        else:
            offset_s = self._offset(arrival_s)
        return min(stamp_s + offset_s, arrival_s) - self._latency_s

    def _offset(self, at_s: float) -> float:
        base, slope = self._line
        return base + slope * at_s

    def _learn(self, arrival_s: float, stamp_s: float) -> bool:
        delay_s = arrival_s - stamp_s
        if self._was_set(arrival_s, stamp_s):
            self._reset(abs(delay_s - self._offset(arrival_s)))
        self._stamp_s = stamp_s
        if self._least and abs(delay_s - self._offset(arrival_s)) > JUMP_S:
            self.refused += 1
            if self._odd and abs(delay_s - self._odd[-1]) > 1.0:
                self._odd.clear()
            self._odd.append(delay_s)
            if len(self._odd) < AGREED:
                return False
            self._reset(abs(delay_s - self._offset(arrival_s)))
        self._odd.clear()
        bucket = arrival_s // BUCKET_S
        if self._least and self._least[-1][0] // BUCKET_S == bucket:
            if delay_s < self._least[-1][1]:
                self._least[-1] = (arrival_s, delay_s)
            elif delay_s >= self._offset(arrival_s):
                return True  # nothing new
        else:
            self._least.append((arrival_s, delay_s))
        self._fit(arrival_s)
        return True

    def _was_set(self, arrival_s: float, stamp_s: float) -> bool:
        if self._resync_s is None or not self._least:
            return False
        early_s = self._offset(arrival_s) - (arrival_s - stamp_s)
        return stamp_s < self._stamp_s or early_s > self._resync_s

    def _reset(self, by_s: float) -> None:
        self._least.clear()
        self.resets += 1
        self.reset_s += by_s

    def _fit(self, now_s: float) -> None:
        while self._least[0][0] < now_s - (BUCKETS + 1) * BUCKET_S:
            self._least.popleft()
        edge = _lower_edge(list(self._least)) if len(self._least) >= FEW else None
        if edge is not None:
            base, slope = edge
            above = sum(least - base - slope * at for at, least in self._least) / len(self._least)
            if above < STRAIGHT_S and abs(slope) < MOST_SKEW:
                self._line = edge
                return
        self._line = min(least for _, least in self._least), 0.0


def _lower_edge(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Base and slope of the line below all points that is nearest to them in the sum.

    Delays only ever add, so that the truth lies at the lower hull: its edge below the mean of x.
    """
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2], hull[-1]
            if (y1 - y0) * (x - x0) < (y - y0) * (x1 - x0):
                break
            hull.pop()
        hull.append((x, y))
    middle = sum(x for x, _ in points) / len(points)
    right = next(i for i, (x, _) in enumerate(hull) if i and (x >= middle or i == len(hull) - 1))
    (x0, y0), (x1, y1) = hull[right - 1], hull[right]
    slope = (y1 - y0) / (x1 - x0)
    return y0 - slope * x0, slope
