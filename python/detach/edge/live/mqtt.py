"""One connection to the broker, for what comes and what goes. The only importer of paho."""

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from detach.edge.live.config import LARGEST_PAYLOAD, Broker, Tls
from detach.edge.live.discovery import OFFLINE
from detach.errors import MachineError

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

SLOWEST_S = 4
"""Between two attempts: whoever comes back must be found within 5 s."""
FIRST_S = 5.0


class Listens(Protocol):
    """Who is told what happens. All from the connection's own thread."""

    def offer(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """A message came."""
        ...

    def connected(self, *, up: bool) -> None:
        """The broker accepted us, or is away."""
        ...


class Link:
    """Connects, and goes on trying, whatever fails. A refused login is no connection.

    Args:
        broker: Where.
        name: Of the instance; two of one name would throw each other out.
        topics: What to listen to.
        will: Topic that the broker sets to offline when we are gone.
        say: Is told what a person should know.
    """

    def __init__(
        self,
        broker: Broker,
        name: str,
        topics: tuple[str, ...],
        *,
        will: str | None,
        say: Callable[[str], None],
    ) -> None:
        self.up = False
        self.counts: Counter[str] = Counter()
        self._broker, self._topics, self._will, self._say = broker, topics, will, say
        self._listeners: list[tuple[Listens, Container[str] | None]] = []
        self._first, self._refusal, self._said = threading.Event(), "", ""
        self._where = f"{broker.host}:{broker.port}"
        self._answered, self._barred = False, ""
        self._closed = threading.Event()
        self._client = _client(broker, name, self._on_failure)
        if will is not None:
            self._client.will_set(will, OFFLINE, qos=1, retain=True)
        self._client.on_socket_open = self._on_socket_open
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def listen(self, listener: Listens, topics: Container[str] | None = None) -> None:
        """Before `start`; ``topics`` are those it is offered messages of, None all."""
        self._listeners.append((listener, topics))

    def start(self) -> None:
        """Begins to connect. A broker that is not there is waited for, one that refuses is not.

        Raises:
            MachineError: The login is refused, or the address is not of this house and without TLS.
        """
        if why := _outside(self._broker, _addresses(self._broker)):
            raise MachineError(f"mqtt.host: {self._broker.host} is {why}")
        self._client.connect_async(self._broker.host, self._broker.port, self._broker.keepalive_s)
        self._client.loop_start()
        self._first.wait(FIRST_S)
        if self._refusal:
            self.close()
            raise MachineError(
                f"the broker at {self._where} refuses the login: {self._refusal}. Check "
                "mqtt.username and the password, and that the broker's rules let this user in"
            )

    def publish(self, topic: str, payload: str, *, retain: bool) -> bool:
        """Sends, or does not: while the broker is away nothing is kept for later.

        Returns:
            Whether it was sent.
        """
        raw = payload.encode()
        if not self.up or len(raw) > LARGEST_PAYLOAD:
            self.counts["unsent"] += 1
            return False
        sent = self._client.publish(topic, raw, qos=0, retain=retain)
        self.counts["published"] += sent.rc == 0
        return bool(sent.rc == 0)

    def close(self) -> None:
        """Says that we are offline, and goes."""
        if self.up and self._will is not None:
            with contextlib.suppress(RuntimeError, ValueError):
                self._client.publish(self._will, OFFLINE, qos=1, retain=True).wait_for_publish(2.0)
        self._closed.set()
        self._client.disconnect()
        self._client.loop_stop()
        self.up = False

    def _on_socket_open(self, _client: "Client", _data: Any, opened: Any) -> None:
        """Before anything is sent: where a name leads may have changed since the start."""
        self._answered = False
        self._barred = _outside(self._broker, [opened.getpeername()[0]])
        if self._barred:
            opened.close()
            raise OSError(self._barred)

    def _on_connect(self, client: "Client", _data: Any, _flags: Any, code: Any, _p: Any) -> None:
        self._answered = True
        if code.is_failure:
            self.counts["refused"] += 1
            self._refusal = self._refusal if self._first.is_set() else str(code)
            self._once(f"the broker refuses the login: {code}")
            self._first.set()
            return
        self._said = ""
        self.counts["connected"] += 1
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])
        self.up = True
        self._speak(f"connected to the broker at {self._where}")
        self._tell(lambda listener: listener.connected(up=True))
        self._first.set()

    def _on_connect_fail(self, _client: "Client", _data: Any) -> None:
        why, self._barred = self._barred or _why(self._broker), ""
        self._once(f"no broker at {self._where} yet ({why}); trying again")
        self._first.set()

    def _on_disconnect(self, _c: "Client", _data: Any, _flags: Any, code: Any, _p: Any) -> None:
        if self.up:
            self._down()
            self._once(f"the broker is away: {code}")
        elif not (self._answered or self._closed.is_set()):
            self.counts["not_accepted"] += 1
            self._once(
                f"{self._where} closed the connection before accepting us ({code}): is it MQTT, "
                "does it want tls? Trying again"
            )
            self._first.set()

    def _on_failure(self, error: Exception) -> bool:
        """What nobody expected in the connection's thread. Whether it ends."""
        self.counts["failed"] += 1
        if self.up:
            self._down()
        self._once(f"the connection to {self._where} failed: {error!r}; trying again")
        self._first.set()
        return self._closed.wait(SLOWEST_S)

    def _on_subscribe(self, _c: "Client", _data: Any, _id: int, codes: Any, _p: Any) -> None:
        refused = sum(code.is_failure for code in codes)
        if refused:
            self._speak(
                f"the broker lets us listen to {len(codes) - refused} of {len(codes)} topics"
            )

    def _on_message(self, _client: "Client", _data: Any, message: "MQTTMessage") -> None:
        topic, payload = message.topic, bytes(message.payload)
        self._tell(lambda listener: listener.offer(topic, payload, retained=message.retain), topic)

    def _down(self) -> None:
        self.up = False
        self._tell(lambda listener: listener.connected(up=False))

    def _tell(self, action: Callable[[Listens], None], topic: str | None = None) -> None:
        """Every listener, of a topic those that want it, even if one of them fails."""
        for listener, topics in self._listeners:
            if topic is not None and topics is not None and topic not in topics:
                continue
            try:
                action(listener)
            except Exception as error:  # noqa: BLE001 -- the connection must live on
                self.counts["failed"] += 1
                self._once(f"failed on what the broker at {self._where} sent: {error!r}; going on")

    def _once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._speak(text)

    def _speak(self, text: str) -> None:
        with contextlib.suppress(Exception):  # a full disk behind it is no end of the connection
            self._say(text)


def _client(broker: Broker, name: str, failed: Callable[[Exception], bool]) -> "Client":
    """Paho's client; its thread begins anew after a failure, until ``failed`` says that it ends."""
    try:
        from paho.mqtt.client import Client, MQTTv311  # noqa: PLC0415 -- of the extra `edge`
        from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode  # noqa: PLC0415
    except ImportError as error:
        raise MachineError(
            f"MQTT needs paho-mqtt 2, which cannot be imported ({error}): "
            "pip install 'detach[edge]'"
        ) from error

    class Steady(Client):
        def loop_forever(
            self, timeout: float = 1.0, retry_first_connection: bool = False
        ) -> MQTTErrorCode:
            while True:
                try:
                    return super().loop_forever(timeout, retry_first_connection)
                except Exception as error:  # noqa: BLE001 -- without it nothing is heard again
                    if failed(error):
                        return MQTTErrorCode.MQTT_ERR_UNKNOWN
                    self.connect_async(broker.host, broker.port, broker.keepalive_s)

    client = Steady(CallbackAPIVersion.VERSION2, client_id=f"detach-{name}", protocol=MQTTv311)
    client.reconnect_delay_set(1, SLOWEST_S)
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password())
    if broker.tls is not None:
        client.tls_set_context(_context(broker.tls))
    return client


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ValueError) as error:
        raise MachineError(f"mqtt.tls: {error}") from error
    return context


def _why(broker: Broker) -> str:
    """Why a connection fails; paho does not say."""
    try:
        address = broker.host, broker.port
        with socket.create_connection(address, timeout=FIRST_S / 2) as plain:
            if broker.tls is None:
                return "it does not answer"
            with _context(broker.tls).wrap_socket(plain, server_hostname=broker.host):
                return "it does not answer"
    except (OSError, MachineError) as error:
        return str(error)


def _addresses(broker: Broker) -> list[str]:
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(broker.host, broker.port)]
    except OSError:
        return []  # not known yet


def _outside(broker: Broker, addresses: Iterable[str]) -> str:
    """Which of them may not be spoken to in plain text, and why; empty where all may."""
    if broker.tls is not None or broker.plain_text:
        return ""
    away = [address for address in addresses if ip_address(address.partition("%")[0]).is_global]
    if not away:
        return ""
    return (
        f"{away[0]}, not of this house, and without tls everybody on the way reads along; "
        "add tls, or plain_text: true"
    )
