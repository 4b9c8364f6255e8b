"""A day in less than two minutes through a real broker: nothing grows, nothing is missed."""

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.edge.live.config import LiveConfig
from detach.edge.live.discovery import Topics
from detach.edge.live.loop import Live
from detach.edge.live.mqtt import Link
from detach.edge.live.sinks import HomeAssistant

from .live_home import (  # type: ignore[import-not-found]
    FakeClock,
    SensorEngine,
    configured,
    home_manifest,
    mosquitto,
    wait_for,
)

DAY_S, MESSAGES, SENSORS = 86400.0, 20_000, 20
WARM_UP = 0.2
ALONE = "DETACH_SOAK_ALONE"


class Counting:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self.next, self.missed = 0, 0

    def take(self, outcome: object) -> None:
        number, count = outcome.number, outcome.count  # type: ignore[attr-defined]
        self.missed += number != self.next
        self.next = number + count

    def idle(self, now_s: float) -> None:
        pass

    def close(self) -> None:
        pass


def memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def held() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


@pytest.fixture(autouse=True)
def in_a_process_of_its_own(request: pytest.FixtureRequest) -> None:
    """What other tests leave behind moves the memory of their process by megabytes."""
    if os.environ.get(ALONE) == "1":
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid]
    done = subprocess.run(  # noqa: S603 -- this very test
        command,
        cwd=request.config.rootpath,
        env={**os.environ, ALONE: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    if " skipped" in done.stdout.splitlines()[-1]:
        pytest.skip("skipped in its own process, too")
    request.node.obj = lambda **_: None  # it has passed


@pytest.mark.slow
def test_a_day_of_events(tmp_path: Path) -> None:
    names = ["fridge", "tap", *(f"door{i}" for i in range(SENSORS - 2))]
    sensors = "".join(f"  {name}: {{topic: home/{name}}}\n" for name in names)
    with mosquitto(tmp_path) as broker:
        config = configured(
            tmp_path,
            f"schema: 1\nmqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
            f"publish: {{every_s: 600}}\nsensors:\n{sensors}",
        )
        rng = np.random.default_rng(0)
        at = np.sort(rng.uniform(5, DAY_S, MESSAGES)).tolist()
        sent = [
            (t, f"home/{names[k % SENSORS]}", b"on" if rng.random() < 0.5 else b"off")
            for k, t in enumerate(at)
        ]
        run_a_day(config, names, sent)


def run_a_day(config: LiveConfig, names: list[str], sent: list[tuple[float, str, bytes]]) -> None:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    assert config.mqtt is not None
    assert config.publish is not None
    manifest = home_manifest(dict.fromkeys(names))
    clock, sink = FakeClock(), Counting()
    live = Live(manifest, SensorEngine(), config, clock=clock, sinks=[sink], say=print)
    topics = Topics(config.name, config.publish)
    link = Link(config.mqtt, config.name, live.sensors.topics, will=topics.availability, say=print)
    home = HomeAssistant(link, config.name, manifest, config.publish)
    live.add_sinks([home])
    link.listen(home)
    link.listen(live)
    link.start()
    sender = Client(CallbackAPIVersion.VERSION2)
    sender.connect(config.mqtt.host, config.mqtt.port)
    sender.loop_start()
    wait_for(lambda: link.up and sender.is_connected(), "both connections")
    live.step()
    started = time.monotonic()
    growth, things = replayed(live, clock, sender, sent)
    took_s = time.monotonic() - started
    sender.disconnect()
    sender.loop_stop()
    link.close()
    print(json.dumps({"seconds": round(took_s, 1), "growth_mib": round(growth, 3)}))  # noqa: T201
    assert growth <= 1.0
    assert len(things) == 1
    assert sink.missed == 0
    assert sink.next >= DAY_S - 10
    assert live.tally.counts["skip"] == 0
    assert live.intake.counts["dropped"] == 0
    assert took_s < 120


def replayed(
    live: Live, clock: FakeClock, sender: Any, sent: list[tuple[float, str, bytes]]
) -> tuple[float, set[tuple[int, int]]]:
    """Growth of memory in MiB after warming up; numbers of descriptors and threads."""
    measured: list[float] = []
    things: set[tuple[int, int]] = set()
    for k, (at_s, topic, payload) in enumerate(sent, start=1):
        while clock.now_s < at_s:
            clock.now_s = min(at_s, clock.now_s + max(live.step(), 0.01))
        sender.publish(topic, payload)
        until(lambda k=k: live.intake.counts["messages"] >= k)  # type: ignore[misc] # bound now
        live.step()
        if k % 500 == 0:
            gc.collect()
            measured.append(memory_mib())
            things.add(held())
    return measured[-1] - measured[round(WARM_UP * len(measured))], things


def until(found: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end
        time.sleep(0)


def test_two_hours_of_a_message_a_second_with_samples(tmp_path: Path) -> None:
    """Continuous channels come as one message a second; nothing is missed, nothing grows."""
    config = configured(
        tmp_path,
        "schema: 1\nlines: true\nsensors:\n"
        + "".join(f"  {name}: {{topic: {name}, field: v, hz: 30}}\n" for name in "abcd"),
    )
    clock, sink = FakeClock(), Counting()
    manifest = home_manifest(dict.fromkeys("abcd", 30.0))
    live = Live(manifest, SensorEngine(), config, clock=clock, sinks=[sink], say=print)
    payload = json.dumps({"v": [round(0.01 * i, 3) for i in range(30)]}).encode()
    measured = []
    for second in range(1, 7201):
        clock.now_s = float(second)
        for name in "abcd":
            live.offer(name, payload)
        while live.step() == 0.0:
            pass
        if second % 600 == 0:
            gc.collect()
            measured.append(memory_mib())
    assert sink.missed == 0
    assert sink.next >= 7190
    assert live.tally.counts["skip"] == 0
    assert sum(live.stream.counters.values()) == 0
    assert measured[-1] - measured[2] <= 1.0
