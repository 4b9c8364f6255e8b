"""The connection to the broker lives on: full disks, failing listeners, ports of something else."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detach.edge.live import mqtt
from detach.edge.live.config import Broker
from detach.edge.live.mqtt import Link

from .live_home import (  # type: ignore[import-not-found]
    Mosquitto,
    mosquitto,
    wait_for,
    watcher,
)

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path) as found:
        yield found


class Heard:
    """Notes all it is told, and may fail on it."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.fails: Exception | None = None

    def offer(self, topic: str, payload: bytes, *, retained: bool = False) -> None:  # noqa: ARG002
        self._note(topic, payload)

    def connected(self, *, up: bool) -> None:
        self._note(up)

    def _note(self, *what: object) -> None:
        self.told += what
        if self.fails is not None:
            raise self.fails


@contextmanager
def linked(
    port: int, *listeners: Heard, say: Callable[[str], None], host: str = "127.0.0.1"
) -> Iterator[Link]:
    link = Link(Broker(host=host, port=port), "kitchen", ("a",), will=None, say=say)
    for listener in listeners:
        link.listen(listener)
    try:
        link.start()
        yield link
    finally:
        link.close()


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Something that is no broker: its port, and what each connection sent."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.settimeout(5)
                    got.append(peer.recv(1000))
                    peer.sendall(answer)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield server.getsockname()[1], got
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_listener_hears_its_own_topics(broker: Mosquitto) -> None:
    everything, one, none = Heard(), Heard(), Heard()
    at = Broker(host="127.0.0.1", port=broker.port)
    link = Link(at, "kitchen", ("a", "b"), will=None, say=lambda _: None)
    link.listen(everything)
    link.listen(one, ("b",))
    link.listen(none, ())
    try:
        link.start()
        for topic in ("a", "b"):
            link.publish(topic, "1", retain=False)
        wait_for(lambda: len(everything.told) == 5, "both messages")
    finally:
        link.close()
    assert everything.told[:5] == [True, "a", b"1", "b", b"1"]
    assert one.told[:3] == [True, "b", b"1"]
    assert none.told[:1] == [True]
    assert "a" not in one.told
    assert not {"a", "b"} & set(none.told)


def test_who_cannot_be_told_is_no_end_of_the_connection(broker: Mosquitto) -> None:
    heard, full = Heard(), threading.Event()
    told_when_said: list[object] = []

    def say(_text: str) -> None:
        told_when_said.append(heard.told[-1] if heard.told else None)
        if full.is_set():
            raise OSError(28, "No space left on device")

    with linked(broker.port, heard, say=say) as link:
        assert link.up
        full.set()
        broker.stop()
        wait_for(lambda: not link.up, "the broker to be away")
        wait_for(lambda: len(told_when_said) > 1, "that to be said")
        assert told_when_said[1] is False  # whoever listens knows before anybody is told
        broker.start()
        wait_for(lambda: link.up, "the broker to be back", 10.0)
        wait_for(lambda: heard.told == [True, False, True], "all that is heard")


def test_a_listener_that_fails_keeps_nothing_from_the_others(broker: Mosquitto) -> None:
    failing, good, said = Heard(), Heard(), list[str]()
    failing.fails = ValueError("no such thing")
    with linked(broker.port, failing, good, say=said.append) as link:
        with watcher(broker.port) as other:
            other.send("a", "1")
            other.send("a", "2")
            wait_for(lambda: len(good.told) == 5, "two messages")
        assert good.told == failing.told == [True, "a", b"1", "a", b"2"]
        assert link.counts["failed"] == 3
        assert sum("no such thing" in text for text in said) == 1
        assert link.up


def test_a_failure_in_pahos_thread_is_a_new_connection(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "SLOWEST_S", 0.1)
    heard, said = Heard(), list[str]()
    with linked(broker.port, heard, say=said.append) as link:
        taken = link._client.on_message

        def fail(*_: object) -> None:
            link._client.on_message = taken
            raise RuntimeError("nobody expected this")

        link._client.on_message = fail
        with watcher(broker.port) as other:
            other.send("a", "1")
            wait_for(lambda: heard.told == [True, False, True], "the new connection")
            other.send("a", "2")
            wait_for(lambda: heard.told[-1] == b"2", "a message")
        assert any("nobody expected this" in text for text in said)
        assert link.counts["failed"] == 1


@pytest.mark.parametrize("answer", [BAD_REQUEST, b"", b"\x15\x03\x03\x00\x02\x02\x46"])
def test_what_is_no_broker_is_said_once_and_counted(answer: bytes) -> None:
    said: list[str] = []
    with answering(answer) as (port, got), linked(port, say=said.append) as link:
        wait_for(lambda: len(got) >= 2, "another attempt")
        wait_for(lambda: link.counts["not_accepted"] >= 2, "it to be counted")
        assert len(said) == 1
        assert f"127.0.0.1:{port} closed the connection before accepting us" in said[0]
        assert "does it want tls?" in said[0]
    assert len(said) == 1


def test_a_name_that_leads_outside_later_gets_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("hunter2")
    said: list[str] = []
    with answering(BAD_REQUEST) as (port, got):
        broker = Broker(
            host="localhost", port=port, username="u", password_file=tmp_path / "password"
        )
        link = Link(broker, "kitchen", (), will=None, say=said.append)
        monkeypatch.setattr(mqtt, "_addresses", lambda _: [])  # not known at the start
        attempts: list[str] = []

        def away(_: socket.socket) -> tuple[str, int]:
            attempts.append("one")
            return "93.184.216.34", port

        monkeypatch.setattr(socket.socket, "getpeername", away)
        try:
            link.start()
            wait_for(lambda: len(attempts) >= 2, "another attempt")
        finally:
            link.close()
        monkeypatch.undo()
        assert not b"".join(got)
    assert len(said) == 1
    assert f"no broker at localhost:{port} yet (93.184.216.34, not of this house" in said[0]
