"""A hundred random faults: no crash, no event while the broker is away, right again soon after."""

import contextlib
import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from detach.edge.live.config import Broker, LiveConfig, SensorSource
from detach.edge.live.loop import Live
from detach.edge.live.outcomes import Outcome
from detach.errors import MachineError

from .live_home import (  # type: ignore[import-not-found]
    Collected,
    FakeClock,
    SensorEngine,
    go_on,
    home,
)

FAULTS = 100
SOON_S = 2.0 + 3.0 + 0.5
"""A window that begins when all is well, two more hops until it counts, lateness."""
CONFIG = LiveConfig(
    schema=1,
    mqtt=Broker(host="127.0.0.1"),
    sensors={
        "fridge": SensorSource(topic="fridge", field="contact", active=("false",)),
        "tap": SensorSource(topic="tap", availability="tap/availability"),
    },
)


class FullNowAndThen(Collected):  # type: ignore[misc] # its base is not typed here
    full = False

    def take(self, outcome: Outcome) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().take(outcome)


class House:
    """Two sensors whose states a broker retains."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.live: Live
        self.clock: FakeClock
        self.engine: SensorEngine
        self.live, self.clock, self.sink, self.engine = home(CONFIG)
        self.disk = FullNowAndThen()
        self.live.add_sinks([self.disk])
        self.on = "idle"
        self.online = False

    def says(self, *, retained: bool = False) -> None:
        if self.online:
            closed = json.dumps({"contact": self.on != "fridge"}).encode()
            self.live.offer("fridge", closed, retained=retained)
            self.live.offer("tap", b"on" if self.on == "tap" else b"off", retained=retained)

    def connect(self, *, up: bool) -> None:
        self.online = up
        self.live.connected(up=up)
        self.says(retained=True)

    def changes(self) -> None:
        self.on = str(self.rng.choice(["idle", "fridge", "tap"]))
        self.says()

    def passes(self, seconds: float) -> None:
        go_on(self.live, self.clock, self.clock.now_s + seconds, 0.1)


def broker_away(house: House) -> None:
    house.connect(up=False)
    house.passes(house.rng.uniform(0.2, 30))
    house.changes()
    house.passes(house.rng.uniform(0.2, 30))
    assert house.sink.outcomes[-1].state is None or house.live._next == 0
    house.connect(up=True)


def broker_blinks(house: House) -> None:
    house.connect(up=False)
    house.connect(up=True)


def sensor_offline(house: House) -> None:
    house.live.offer("tap/availability", b"offline")
    house.passes(house.rng.uniform(1, 20))
    house.live.offer("tap/availability", b'{"state":"online"}')
    house.says()


def rubbish(house: House) -> None:
    for _ in range(200):
        raw = house.rng.bytes(int(house.rng.integers(0, 6000)))
        house.live.offer(str(house.rng.choice(["fridge", "tap", "other"])), raw)
    house.live.offer("fridge", b"x" * 1_000_000)
    house.passes(1.0)
    house.says()


def sensor_unavailable(house: House) -> None:
    house.live.offer("tap", b"unavailable")
    house.live.offer("fridge", b'{"contact": null}')
    house.passes(house.rng.uniform(1, 20))
    house.says()


def clock_set(house: House) -> None:
    house.clock.ahead += float(house.rng.choice([3600, -3600, 1e6, -0.7]))
    house.passes(2.0)


def engine_gone(house: House) -> None:
    house.engine.fails = MachineError("gone")
    house.passes(house.rng.uniform(1, 10))
    house.engine.fails = None


def disk_full(house: House) -> None:
    house.disk.full = True
    house.passes(house.rng.uniform(1, 10))
    house.disk.full = False


def machine_stalls(house: House) -> None:
    house.clock.now_s += house.rng.uniform(3, 60)
    house.live.step()


CAUSES: list[Callable[[House], None]] = [
    *(broker_away, broker_blinks, sensor_offline, rubbish, sensor_unavailable),
    *(clock_set, engine_gone, disk_full, machine_stalls),
]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_hundred_faults(seed: int) -> None:
    house = House(seed)
    house.passes(3.0)
    house.connect(up=True)
    away: list[tuple[float, float]] = []
    for _ in range(FAULTS):
        house.changes()
        house.passes(SOON_S)
        assert house.live.state == house.on
        began_s, cause = house.clock.now_s, CAUSES[int(house.rng.integers(len(CAUSES)))]
        cause(house)
        if cause is broker_away:
            away.append((began_s, house.clock.now_s))
        house.passes(SOON_S)
        assert house.live.state == house.on, cause
    found = [n for o in house.sink.outcomes for n in range(o.number, o.number + o.count)]
    assert found == list(range(len(found)))
    assert house.live.counts["outages"] >= len(away) > 3
    origin_s = house.live.origin_s
    for outcome in house.sink.outcomes:
        if outcome.changed and outcome.state is not None:
            at_s = origin_s + outcome.end_s + outcome.lag_s
            assert not any(start + 1e-6 < at_s < end for start, end in away), outcome
    assert house.live.intake.longest <= CONFIG.intake


def test_a_message_at_every_border_is_survived() -> None:
    live, clock, sink, _ = home(dataclasses.replace(CONFIG, mqtt=None, lines=True))
    for k in range(200):
        clock.now_s = k * 0.0625  # on grid points
        with contextlib.suppress(OSError):
            live.offer("tap", b"on" if k % 3 else b"off")
        live.step()
    assert [o.number for o in sink.outcomes] == list(range(len(sink.outcomes)))
    assert live.stream.counters["invalid"] == 0
