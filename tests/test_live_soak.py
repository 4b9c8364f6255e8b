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
HOURS = float(os.environ.get("DETACH_SOAK_HOURS", "2"))
WARM_UP = 0.2
PATIENCE_S = 300 + 60 * HOURS
ALONE = "DETACH_SOAK_ALONE"

pytestmark = pytest.mark.timeout(PATIENCE_S)


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
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        request.node.nodeid,
    ]
    done = subprocess.run(  # noqa: S603 -- this very test
        command,
        cwd=request.config.rootpath,
        env={**os.environ, ALONE: "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S - 20,
    )
    print(next((line for line in done.stdout.splitlines() if line.startswith("{")), ""))  # noqa: T201
    assert done.returncode == 0, done.stdout[-3000:]
    if " skipped" in done.stdout.splitlines()[-1]:
        pytest.skip("skipped in its own process, too")
    request.node.obj = lambda **_: None  # it has passed


@pytest.mark.slow
def test_a_day_of_events(tmp_path: Path) -> None:
    names = ["fridge", "tap", *(f"door{i}" for i in range(SENSORS - 2))]
    sensors = "".join(f"  {name}: {{topic: home/{name}}}\n" for name in names)
    rng = np.random.default_rng(0)
    at = np.sort(rng.uniform(5, DAY_S, MESSAGES)).tolist()
    sent = [
        (t, f"home/{names[k % SENSORS]}", b"on" if rng.random() < 0.5 else b"off")
        for k, t in enumerate(at)
    ]
    soak(tmp_path, dict.fromkeys(names), sensors, sent)


@pytest.mark.slow
def test_hours_of_a_message_a_second_with_samples(tmp_path: Path) -> None:
    """Four channels at 30 Hz in one message; DETACH_SOAK_HOURS=24 is a whole day."""
    sensors = "".join(f"  {name}: {{topic: home, field: {name}, hz: 30}}\n" for name in "abcd")
    values = {name: [round(0.01 * i, 3) for i in range(30)] for name in "abcd"}
    payload = json.dumps(values).encode()
    sent = [(float(second), "home", payload) for second in range(1, round(HOURS * 3600) + 1)]
    live = soak(tmp_path, dict.fromkeys("abcd", 30.0), sensors, sent)
    assert sum(live.stream.counters.values()) == 0


def soak(
    folder: Path,
    channels: dict[str, float | None],
    sensors: str,
    sent: list[tuple[float, str, bytes]],
) -> Live:
    """Sends it all through a real broker; nothing may grow, and nothing be missed."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    manifest, clock, sink = home_manifest(channels), FakeClock(), Counting()
    with mosquitto(folder) as broker:
        config = configured(
            folder,
            f"schema: 1\nmqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
            f"publish: {{every_s: 600}}\nsensors:\n{sensors}",
        )
        assert config.mqtt is not None
        assert config.publish is not None
        live = Live(manifest, SensorEngine(), config, clock=clock, sinks=[sink], say=print)
        topics = Topics(config.name, config.publish)
        will = topics.availability
        link = Link(config.mqtt, config.name, live.sensors.topics, will=will, say=print)
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
        started, used = time.monotonic(), time.process_time()
        growth, things = replayed(live, clock, sender, sent)
        took_s, used_s = time.monotonic() - started, time.process_time() - used
        sender.disconnect()
        sender.loop_stop()
        link.close()
    print(  # noqa: T201 -- the figures of the soak; `pytest -s` shows them
        json.dumps(
            {
                "messages": len(sent),
                "windows": sink.next,
                "missed": sink.missed,
                "seconds": round(took_s, 1),
                "processor_s": round(used_s, 1),
                "growth_mib": round(growth, 3),
                "descriptors_and_threads": sorted(things),
            }
        )
    )
    assert growth <= 1.0
    assert len(things) == 1
    assert sink.missed == 0
    assert sink.next >= sent[-1][0] - 10
    assert live.tally.counts["skip"] == 0
    assert live.intake.counts["dropped"] == 0
    assert used_s < 120  # of the processor: how busy the machine is otherwise is not ours
    return live


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
        while live.step() == 0.0:
            pass
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
