"""`detach live` against a real broker: states, last will, restarts, refused logins."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from detach.edge.live.discovery import Topics
from detach.edge.live.mqtt import Link
from detach.edge.live.sinks import HomeAssistant
from detach.errors import MachineError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .live_home import (  # type: ignore[import-not-found]
    CLASSES,
    FakeClock,
    Mosquitto,
    configured,
    go_on,
    home,
    home_manifest,
    mosquitto,
    password_file,
    wait_for,
    watcher,
)

CONFIG = """
schema: 1
name: kitchen
mqtt: {{host: 127.0.0.1, port: {port}}}
publish: {{}}
sensors:
  fridge: {{topic: zigbee2mqtt/fridge door, field: contact, active: false}}
  tap: {{topic: homeassistant/binary_sensor/tap/state}}
"""
Z2M, STATESTREAM = "zigbee2mqtt/fridge door", "homeassistant/binary_sensor/tap/state"
STATE, AVAILABILITY = "detach/kitchen/state", "detach/kitchen/availability"
CLOSED, OPEN = '{"contact": true, "linkquality": 90}', '{"contact": false, "linkquality": 90}'


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as found:
        yield found


class Running:
    """A live instance whose time the test moves, at a real broker."""

    def __init__(self, folder: Path, port: int, text: str = CONFIG) -> None:
        config = configured(folder, text.format(port=port))
        self.live, self.clock, self.sink, self.engine = home(config)
        self.said: list[str] = []
        assert config.mqtt is not None
        assert config.publish is not None
        topics = Topics(config.name, config.publish)
        listened = (*self.live.sensors.topics, topics.birth)
        self.link = Link(
            config.mqtt, config.name, listened, will=topics.availability, say=self.said.append
        )
        self.home = HomeAssistant(self.link, config.name, home_manifest(), config.publish)
        self.live.add_sinks([self.home])
        self.link.listen(self.home)
        self.link.listen(self.live)
        self.link.start()

    def messages(self, count: int) -> None:
        wait_for(lambda: self.live.intake.counts["messages"] >= count, f"message {count}")
        self.live.step()

    def go_on(self, until_s: float) -> None:
        go_on(self.live, self.clock, until_s)


@pytest.fixture
def running(tmp_path: Path, broker: Mosquitto) -> Iterator[Running]:
    found = Running(tmp_path, broker.port)
    yield found
    found.link.close()


def test_messages_become_decisions_and_decisions_states(
    broker: Mosquitto, running: Running
) -> None:
    with watcher(broker.port, "detach/#", "homeassistant/+/detach_kitchen/#") as other:
        wait_for(lambda: other.last(AVAILABILITY) == b"online", "availability")
        assert json.loads(other.last(STATE) or b"")["activity"] is None
        other.send(Z2M, CLOSED)
        other.send(STATESTREAM, "off")
        running.messages(2)
        running.go_on(6.0)
        assert running.live.state == "idle"
        wait_for(lambda: b'"idle"' in (other.last(STATE) or b""), "idle")
        other.send(Z2M, OPEN)
        running.messages(3)
        running.go_on(10.0)
        assert running.live.state == "fridge"
        wait_for(lambda: b'"activity": "fridge"' in (other.last(STATE) or b""), "fridge")
        body = json.loads(other.last(STATE) or b"")
        assert body["on"] == {"idle": "OFF", "fridge": "ON", "tap": "OFF"}
        numbers = [o.number for o in running.sink.outcomes]
        assert numbers == list(range(len(numbers)))
        described = {t for t, _, _ in other.seen if t.endswith("/config")}
        assert len(described) == len(CLASSES) + 1  # idle has none; activity and live_sensors have
        assert all(len(payload) <= 4096 for _, payload, _ in other.seen)


def test_the_state_is_retained_and_comes_again_after_a_restart_of_the_broker(
    broker: Mosquitto, running: Running
) -> None:
    with watcher(broker.port) as other:
        other.send(Z2M, OPEN, retain=True)
        other.send(STATESTREAM, "off", retain=True)
        running.messages(2)
        running.go_on(6.0)
        assert running.live.state == "fridge"
        wait_for(lambda: b'"activity": "fridge"' in (other.last(STATE) or b""), "fridge")
    published = running.link.counts["published"]
    broker.stop()
    wait_for(lambda: not running.link.up, "the broker to be away")
    running.go_on(12.0)
    assert running.sink.outcomes[-1].state is None
    assert running.link.counts["published"] == published
    assert {o.reason for o in running.sink.outcomes[-4:]} == {"offline"}
    broker.start()
    wait_for(lambda: running.link.up, "the broker to be back", 6.0)
    with watcher(broker.port) as other:
        wait_for(lambda: other.last(STATE) is not None, "the state")
        assert json.loads(other.last(STATE) or b"")["activity"] is None
        other.send(Z2M, CLOSED)
        other.send(STATESTREAM, "on")
        running.messages(4)
        running.go_on(17.0)
        assert running.live.state == "tap"
        wait_for(lambda: b'"activity": "tap"' in (other.last(STATE) or b""), "tap")


def test_home_assistants_birth_brings_descriptions_and_state_again(
    broker: Mosquitto, running: Running
) -> None:
    with watcher(broker.port, "homeassistant/sensor/#", "detach/#") as other:
        wait_for(lambda: len(other.seen) >= 4, "what is retained")
        before = len(other.seen)
        other.send("homeassistant/status", "online")
        wait_for(lambda: len(other.seen) >= before + 4, "descriptions again")
        assert not other.seen[-1][2]  # not retained: sent just now
    assert running.link.up


def test_a_refused_login_is_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = password_file(tmp_path, "detach", "right one")
    text = CONFIG.replace(
        "port: {port}", "port: {port}, username: detach, password_env: HOME_PASSWORD"
    )
    with mosquitto(tmp_path, "allow_anonymous false", f"password_file {users}") as broker:
        config = configured(tmp_path, text.format(port=broker.port))
        assert config.mqtt is not None
        said: list[str] = []
        monkeypatch.setenv("HOME_PASSWORD", "wrong one")
        link = Link(config.mqtt, "kitchen", ("a",), will=None, say=said.append)
        live, *_ = home(config, clock=FakeClock())
        link.listen(live)
        with pytest.raises(MachineError, match="refuses the login") as refusal:
            link.start()
        assert link.counts["refused"] >= 1
        assert link.counts["connected"] == 0
        assert not link.counts["not_accepted"]  # it was answered
        live.step()
        assert not link.up
        assert not live.online
        assert "wrong one" not in "".join([*said, str(refusal.value), repr(config)])
        monkeypatch.setenv("HOME_PASSWORD", "right one")
        link = Link(config.mqtt, "kitchen", ("a",), will=None, say=said.append)
        link.start()
        wait_for(lambda: link.up, "the connection")
        link.close()


def test_after_kill_9_the_broker_says_offline(tmp_path: Path, broker: Mosquitto) -> None:
    bundle = write_tiny(tmp_path / "tiny.detach")
    config = tmp_path / "home.yaml"
    sensors = "".join(f"  sensor{i}: {{topic: t/{i}}}\n" for i in range(3))
    config.write_text(
        f"schema: 1\nname: kitchen\nmqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
        f"publish: {{}}\nsensors:\n{sensors}"
    )
    program = (
        "import sys; from pathlib import Path; from detach.edge.live.start import run_live\n"
        f"run_live(Path({str(bundle)!r}), Path({str(config)!r}), write=print, say=print)"
    )
    with watcher(broker.port, "detach/#") as other:
        process = subprocess.Popen(  # noqa: S603 -- our own program
            [sys.executable, "-c", program], stdout=subprocess.DEVNULL
        )
        try:
            wait_for(lambda: other.last(AVAILABILITY) == b"online", "online")
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            wait_for(lambda: other.last(AVAILABILITY) == b"offline", "the last will", 5.0)
        finally:
            process.kill()
            process.wait()
    with watcher(broker.port, "detach/#") as late:
        wait_for(lambda: late.last(AVAILABILITY) == b"offline", "the retained will", 5.0)


def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    config = configured(tmp_path, CONFIG.format(port=broker.port))
    assert config.mqtt is not None
    said: list[str] = []
    link = Link(config.mqtt, "kitchen", (), will=None, say=said.append)
    thread = threading.active_count()
    link.start()
    try:
        assert not link.up
        assert "trying again" in said[0]
        broker.start()
        wait_for(lambda: link.up, "the connection", 6.0)
    finally:
        link.close()
        broker.stop()
    assert threading.active_count() == thread


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of localhost, signed by itself, and its key."""
    made = folder / "cert.pem", folder / "key.pem"
    tool = shutil.which("openssl")
    if tool is None:
        if os.environ.get("DETACH_CI") == "1":
            pytest.fail("openssl is not installed")
        pytest.skip("openssl is not installed")
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run([tool, *words.split(), *names, *files], check=True, capture_output=True)  # noqa: S603
    return made


@pytest.mark.filterwarnings(  # paho leaves a socket to the collector when the handshake fails
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_tls_is_spoken_and_checked(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    stranger, _ = certificate(tmp_path / "other")
    lines = ("allow_anonymous true", f"certfile {cert}", f"keyfile {key}")
    with mosquitto(tmp_path, *lines) as broker:
        text = CONFIG.replace("port: {port}", "port: {port}, tls: {{ca: {ca}}}")
        for ca, good in ((cert, True), (stranger, False)):
            config = configured(tmp_path, text.format(port=broker.port, ca=ca))
            assert config.mqtt is not None
            said: list[str] = []
            link = Link(config.mqtt, "kitchen", (), will=None, say=said.append)
            link.start()
            assert link.up == good
            assert good or "certificate verify failed" in said[0]
            link.close()
