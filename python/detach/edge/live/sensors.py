"""From messages to values of channels: levels, pulses, start states, and what is not known.

An event sensor holds its value until the next. It is unknown before its first message, while its
availability says offline, when it was silent for too long, and while the broker is away. What the
broker retained gives the state to start from, but never an event.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from detach.edge.live.clock import SourceClock
from detach.edge.live.config import SensorSource
from detach.edge.live.messages import Message
from detach.edge.live.payloads import (
    UNFORESEEN,
    PayloadError,
    Reading,
    is_online,
    read_payload,
)

T = TypeVar("T")

PULSE_S = 1.0
CONFIRM_S = 1.0
"""After an outage the broker has so long to send what it retained."""


class Takes(Protocol):
    """What values go to."""

    def push(self, sensor: str, axis: str, t_s: list[float], values: list[float]) -> None:
        """Raw values [n] at times [n] on the stream's clock; NaN is an unknown state."""
        ...


@dataclass(frozen=True, kw_only=True)
class SensorKind:
    """What is known of a sensor's values."""

    binary: bool
    hz: float | None
    """None: it reports changes."""
    holds: bool = False
    """Of a sampled one: whether values stand until the next, so that losing them must be said."""
    beats: bool = False
    """Whether a message without a change counts, since values are known for some time only."""
    resync_s: float | None = None
    """See `SourceClock`."""


@dataclass
class _Sensor:
    name: str
    source: SensorSource
    kind: SensorKind
    clock: SourceClock
    values: dict[str, float] = field(default_factory=dict)
    """Last known, by axis."""
    known: bool = False
    heard_s: float = -math.inf
    was_on: bool = False
    """Of a pulse: what it said last."""
    falls_s: float | None = None
    """When it goes off by itself."""
    cut: bool = False
    """Whether it is unknown for no other reason than that the broker went away."""
    confirm_s: float | None = None
    """When it is as it was before the outage, unless a message came."""


class Sensors:
    """All sensors of a configuration.

    Args:
        sources: By name.
        kinds: By name; sensors that are not here are left out.
        taker: Gets the values.
        origin_s: Monotonic time of the stream's zero.
        forget_after_s: See `detach.edge.live.config.Broker`.
    """

    def __init__(
        self,
        sources: Mapping[str, SensorSource],
        kinds: Mapping[str, SensorKind],
        taker: Takes,
        origin_s: float,
        forget_after_s: float = 60.0,
    ) -> None:
        self._taker, self._origin_s = taker, origin_s
        self._forget_after_s = forget_after_s
        self._sensors = [
            _Sensor(
                name,
                source,
                kinds[name],
                SourceClock(source.clock, source.latency_s, kinds[name].resync_s),
            )
            for name, source in sources.items()
            if name in kinds
        ]
        self._by_topic: dict[str, list[_Sensor]] = {}
        self._by_availability: dict[str, list[_Sensor]] = {}
        for sensor in self._sensors:
            self._by_topic.setdefault(sensor.source.topic, []).append(sensor)
            if sensor.source.availability is not None:
                self._by_availability.setdefault(sensor.source.availability, []).append(sensor)
        self._lost_s: float | None = None
        self.counts: Counter[str] = Counter()

    @property
    def topics(self) -> tuple[str, ...]:
        """All that must be listened to."""
        return tuple(dict.fromkeys([*self._by_topic, *self._by_availability]))

    @property
    def clocks(self) -> Mapping[str, SourceClock]:
        """By sensor."""
        return {sensor.name: sensor.clock for sensor in self._sensors}

    def known(self) -> list[tuple[str, Mapping[str, float]]]:
        """Sensors whose values are known, and these by axis."""
        return [(sensor.name, sensor.values) for sensor in self._sensors if sensor.known]

    def start(self, now_s: float) -> None:
        """Assumed states begin now."""
        for sensor in self._sensors:
            if sensor.source.assume is not None and not sensor.known:
                self._set(sensor, dict.fromkeys(sensor.source.axes, sensor.source.assume), now_s)
                sensor.heard_s = now_s

    def take(self, message: Message, ahead_s: float) -> None:
        """A message, which may speak of several sensors or of none."""
        for sensor in self._by_availability.get(message.topic, ()):
            self._take_availability(sensor, message)
        sensors = self._by_topic.get(message.topic, ())
        if not sensors and message.topic not in self._by_availability:
            self.counts["unknown_topic"] += 1
        for sensor in sensors:
            binary = sensor.kind.binary
            read = partial(read_payload, message.payload, sensor.source, binary=binary)
            if (reading := self._read(read)) is not None:
                self._take(sensor, reading, message, ahead_s)

    def until(self, now_s: float) -> None:
        """What happens without a message up to a moment: pulses end, silence is noticed."""
        for sensor in self._sensors:
            if sensor.falls_s is not None and sensor.falls_s <= now_s:
                self._set(sensor, dict.fromkeys(sensor.source.axes, 0.0), sensor.falls_s)
                sensor.falls_s = None
            if sensor.confirm_s is not None and sensor.confirm_s <= now_s:
                sensor.heard_s = sensor.confirm_s
                self._set(sensor, sensor.values, sensor.confirm_s)
                sensor.cut, sensor.confirm_s = False, None
            limit_s = sensor.source.silent_after_s
            if sensor.known and limit_s is not None and now_s - sensor.heard_s > limit_s:
                self._lose(sensor, sensor.heard_s + limit_s)
                self.counts["silent"] += 1

    def disconnected(self, at_s: float) -> None:
        """The broker is away: what happens now is not known."""
        self._lost_s = at_s if self._lost_s is None else self._lost_s
        for sensor in self._sensors:
            cut = sensor.known or sensor.cut
            self._lose(sensor, at_s)
            sensor.cut = cut

    def connected(self, at_s: float) -> None:
        """The broker is there, and will send what it retained."""
        short = self._lost_s is not None and at_s - self._lost_s <= self._forget_after_s
        self._lost_s = None
        for sensor in self._sensors:
            sensor.cut = sensor.cut and short
            if sensor.cut and sensor.kind.hz is None:
                sensor.confirm_s = at_s + CONFIRM_S
        if not short:
            self.start(at_s)

    def _take_availability(self, sensor: _Sensor, message: Message) -> None:
        if self._read(partial(is_online, message.payload)) is False:
            self.counts["offline"] += 1
            self._lose(sensor, message.arrival_s)

    def _read(self, read: Callable[[], T]) -> T | None:
        """None for what cannot be read, which is counted: no message ends the program."""
        try:
            return read()
        except PayloadError as error:
            self.counts[error.reason] += 1
        except Exception:  # noqa: BLE001 -- a sender's fault, whatever it is
            self.counts[UNFORESEEN] += 1
        return None

    def _take(self, sensor: _Sensor, reading: Reading, message: Message, ahead_s: float) -> None:
        stamp_s = None if message.retained else reading.stamp_s
        at_s = sensor.clock.measured(message.arrival_s, stamp_s, ahead_s)
        sensor.cut, sensor.confirm_s = False, None
        if reading.values is None:
            self.counts["unavailable"] += 1
            self._lose(sensor, at_s)
            return
        sensor.heard_s = message.arrival_s
        if sensor.kind.hz is not None:
            self._take_samples(sensor, reading.values, at_s, retained=message.retained)
        else:
            self._take_state(sensor, reading.values, at_s, retained=message.retained)

    def _take_samples(
        self,
        sensor: _Sensor,
        values: Mapping[str, tuple[float, ...]],
        at_s: float,
        *,
        retained: bool,
    ) -> None:
        if retained:  # measured some time ago
            self.counts["stale"] += 1
            return
        sensor.known = True
        last_s, step_s = at_s - self._origin_s, 1 / (sensor.kind.hz or 1.0)
        for axis, several in values.items():
            back = range(len(several) - 1, -1, -1)
            times = [round(last_s - k * step_s, 6) for k in back]
            self._taker.push(sensor.name, axis, times, list(several))

    def _take_state(
        self,
        sensor: _Sensor,
        values: Mapping[str, tuple[float, ...]],
        at_s: float,
        *,
        retained: bool,
    ) -> None:
        last = {axis: several[-1] for axis, several in values.items()}
        on = any(last.values())
        source = sensor.source
        if source.mode != "level":
            was_on, sensor.was_on = sensor.was_on, on
            on = on and not retained and (source.mode == "press" or not was_on)
            if not on and sensor.known:
                if sensor.kind.beats:
                    self._set(sensor, sensor.values, at_s)
                return  # it falls by itself
            last = dict.fromkeys(last, float(on))
        self._set(sensor, last, at_s)
        hold_s = source.hold_s or (None if source.mode == "level" else PULSE_S)
        sensor.falls_s = at_s + hold_s if on and hold_s is not None else None

    def _set(self, sensor: _Sensor, values: Mapping[str, float], at_s: float) -> None:
        sensor.values, sensor.known = dict(values), True
        for axis, value in values.items():
            self._push(sensor, axis, at_s, value)

    def _lose(self, sensor: _Sensor, at_s: float) -> None:
        if sensor.known and (sensor.kind.hz is None or sensor.kind.holds):
            for axis in sensor.source.axes:
                self._push(sensor, axis, at_s, math.nan)
        sensor.known, sensor.falls_s = False, None
        sensor.cut, sensor.confirm_s = False, None
        if sensor.source.mode != "level":
            sensor.values = dict.fromkeys(sensor.values, 0.0)

    def _push(self, sensor: _Sensor, axis: str, at_s: float, value: float) -> None:
        # Microseconds: a time of Unix in seconds is not exact to more.
        self._taker.push(sensor.name, axis, [round(at_s - self._origin_s, 6)], [value])
