"""A second broker, amqtt, in this process: what is spoken to Mosquitto is no dialect of its own."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .live_home import free_port, wait_for, watcher  # type: ignore[import-not-found]
from .test_live_mqtt import (  # type: ignore[import-not-found]
    AVAILABILITY,
    CLOSED,
    OPEN,
    STATE,
    STATESTREAM,
    Z2M,
    Running,
)

broker_module = pytest.importorskip("amqtt.broker", reason="amqtt is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # amqtt's own


class Amqtt:
    """A broker in a thread."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
        self._broker = self._run(self._made(config))
        self._run(self._broker.start())

    async def _made(self, config: dict[str, object]) -> Any:
        return broker_module.Broker(config)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def stop(self) -> None:
        with contextlib.suppress(Exception):
            self._run(self._broker.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def broker() -> Iterator[tuple[Amqtt, int]]:
    port = free_port()
    found = Amqtt(port)
    yield found, port
    found.stop()


def test_states_go_in_and_out(tmp_path: Path, broker: tuple[Amqtt, int]) -> None:
    _, port = broker
    with watcher(port, "detach/#", "homeassistant/#") as house:
        house.send(Z2M, CLOSED, retain=True)
        running = Running(tmp_path, port)
        try:
            wait_for(lambda: house.last(AVAILABILITY) == b"online", "online")
            running.messages(1)  # what was retained
            house.send(STATESTREAM, "off")
            running.messages(2)
            house.send(Z2M, OPEN)
            running.messages(3)
            running.go_on(running.clock.now_s + 6.0)
            assert running.live.state == "fridge"

            def told() -> bool:
                return bool(json.loads(house.last(STATE) or b"{}").get("activity") == "fridge")

            wait_for(told, "the state")
            entities = {topic for topic, _, _ in house.seen if topic.endswith("/config")}
            assert len(entities) == 4
        finally:
            running.link.close()
        wait_for(lambda: house.last(AVAILABILITY) == b"offline", "offline")


def test_a_connection_that_breaks_is_told_by_the_last_will(
    tmp_path: Path, broker: tuple[Amqtt, int]
) -> None:
    _, port = broker
    with watcher(port, "detach/#") as house:
        running = Running(tmp_path, port)
        try:
            wait_for(lambda: house.last(AVAILABILITY) == b"online", "online")
            running.link._client.loop_stop()
            running.link._client.socket().shutdown(2)
            running.link._client.socket().close()
            wait_for(lambda: house.last(AVAILABILITY) == b"offline", "the last will")
        finally:
            running.link._client.loop_stop()
