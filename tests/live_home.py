"""A home for tests: a clock that nobody waits for, a broker, a bundle that is quickly asked."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detach.edge.live.config import LiveConfig, read_config
from detach.edge.live.loop import Live
from detach.edge.live.outcomes import Outcome
from detach.edge.manifest import Channel, Manifest, Window

from .edge_bundles import info_of, tiny_graphs, tiny_manifest  # type: ignore[import-not-found]

CLASSES = ("idle", "fridge", "tap")
RATE_HZ = 16.0


class FakeClock:
    """Stands until it is told to go on."""

    def __init__(self, wall_s: float = 1.7e9) -> None:
        self.now_s, self.ahead = 0.0, wall_s
        self.waits = 0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s + self.ahead

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.waits += 1
        if not event.is_set():
            self.now_s += max(seconds, 1e-3)


class SensorEngine:
    """The class of the sensor that is on most; fridge and tap are the first two channels."""

    name = "test"

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.work: Callable[[], None] = lambda: None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        self.work()
        if self.fails is not None:
            raise self.fails
        on = inputs["samples"][0].mean(axis=0)[: len(CLASSES) - 1]
        logits = np.concatenate([[2.0], 8 * on]).astype(np.float32)
        return {"logits": logits[None]}

    def close(self) -> None:
        pass


class Collected:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def take(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def idle(self, now_s: float) -> None:
        pass

    def close(self) -> None:
        pass


def home_manifest(sensors: Mapping[str, float | None] | None = None, **changes: Any) -> Manifest:
    """Sensors with their rates, None for switches; fridge and tap unless others are named."""
    channels = tuple(
        Channel(
            name=name,
            sensor=name,
            axis="value",
            kind="switch" if hz is None else "power",
            unit="",
            hz=hz,
            mean=0.0,
            std=1.0,
            max_gap_s=1.0,
        )
        for name, hz in (sensors or {"fridge": None, "tap": None}).items()
    )
    graphs = tiny_graphs(outputs=("logits",))
    infos = {"sensor.fp32": info_of("sensor", "fp32", graphs["sensor"].SerializeToString())}
    about: dict[str, Any] = {
        "classes": CLASSES,
        "places": 0,
        "channels": channels,
        "window": Window(seconds=2.0, hop_s=1.0, rate_hz=RATE_HZ, samples=round(2 * RATE_HZ)),
    }
    made: Manifest = tiny_manifest(infos, **(about | changes))
    return made


def configured(tmp_path: Path, text: str) -> LiveConfig:
    path = tmp_path / "live.yaml"
    path.write_text(text)
    return read_config(path)


def home(
    config: LiveConfig, manifest: Manifest | None = None, clock: FakeClock | None = None
) -> tuple[Live, FakeClock, Collected, SensorEngine]:
    clock, engine, sink = clock or FakeClock(), SensorEngine(), Collected()
    live = Live(
        manifest or home_manifest(), engine, config, clock=clock, sinks=[sink], say=lambda _: None
    )
    return live, clock, sink, engine


def go_on(live: Live, clock: FakeClock, until_s: float, every_s: float = 0.05) -> None:
    """Time passes in small steps, as the loop would be woken."""
    while clock.now_s < until_s - 1e-9:
        clock.now_s = min(until_s, clock.now_s + every_s)
        live.step()


class Mosquitto:
    """Debian's broker on a free port."""

    def __init__(self, folder: Path, lines: tuple[str, ...] = ("allow_anonymous true",)) -> None:
        self.program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(self.program).is_file():
            if os.environ.get("DETACH_CI") == "1":
                pytest.fail("mosquitto is not installed; apt-get install mosquitto")
            pytest.skip("mosquitto is not installed")
        self.folder, self.lines, self.port = folder, lines, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        own = ["user root"] if os.geteuid() == 0 else []  # otherwise it cannot read the folder
        text = "\n".join([*own, f"listener {self.port} 127.0.0.1", *self.lines, ""])
        (self.folder / "mosquitto.conf").write_text(text)
        command = [self.program, "-c", str(self.folder / "mosquitto.conf")]
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
        wait_for(self._answers, "the broker")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextlib.contextmanager
def mosquitto(folder: Path, *lines: str) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, lines or ("allow_anonymous true",))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def password_file(folder: Path, user: str, password: str) -> Path:
    path = folder / "users"
    tool = shutil.which("mosquitto_passwd") or "mosquitto_passwd"
    path.write_text("")
    path.chmod(0o600)
    subprocess.run([tool, "-b", str(path), user, password], check=True, capture_output=True)  # noqa: S603
    return path


class Watcher:
    """Another client of the broker: what it saw, and what it sends."""

    def __init__(self, port: int, *topics: str, **login: str) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.seen: list[tuple[str, bytes, bool]] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        if login:
            self._client.username_pw_set(**login)
        self._client.on_message = lambda _c, _d, m: self.seen.append(
            (m.topic, bytes(m.payload), m.retain)
        )
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_connect = lambda c, *_: c.subscribe([(t, 1) for t in topics or ("#",)])
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def send(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def post(self, topic: str, payload: bytes) -> None:
        """Without waiting."""
        self._client.publish(topic, payload)

    def last(self, topic: str) -> bytes | None:
        return next((payload for t, payload, _ in reversed(self.seen) if t == topic), None)

    def up(self) -> bool:
        return bool(self._client.is_connected())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def watcher(port: int, *topics: str, **login: str) -> Iterator[Watcher]:
    client = Watcher(port, *topics, **login)
    try:
        yield client
    finally:
        client.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(found: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Real time: only for things outside this process or its threads."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.01)
