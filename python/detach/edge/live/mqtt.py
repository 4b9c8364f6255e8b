"""One connection to the broker, for what comes and what goes. The only importer of paho."""

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
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
    """Connects, and goes on trying. A refused login is no connection.

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
        self._listeners: list[Listens] = []
        self._first, self._refusal, self._said = threading.Event(), "", ""
        self._client = _client(broker, name)
        if will is not None:
            self._client.will_set(will, OFFLINE, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def listen(self, listener: Listens) -> None:
        """Before `start`."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begins to connect. A broker that is not there is waited for, one that refuses is not.

        Raises:
            MachineError: The login is refused, or the address is not of this house and without TLS.
        """
        _check_private(self._broker)
        self._client.connect_async(self._broker.host, self._broker.port, self._broker.keepalive_s)
        self._client.loop_start()
        self._first.wait(FIRST_S)
        if self._refusal:
            self.close()
            where = f"{self._broker.host}:{self._broker.port}"
            raise MachineError(
                f"the broker at {where} refuses the login: {self._refusal}. Check mqtt.username "
                "and the password, and that the broker's rules let this user in"
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
        self._client.disconnect()
        self._client.loop_stop()
        self.up = False

    def _on_connect(self, client: "Client", _data: Any, _flags: Any, code: Any, _p: Any) -> None:
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
        self._say(f"connected to the broker at {self._broker.host}:{self._broker.port}")
        self._tell(up=True)
        self._first.set()

    def _on_connect_fail(self, _client: "Client", _data: Any) -> None:
        where = f"{self._broker.host}:{self._broker.port}"
        self._once(f"no broker at {where} yet ({_why(self._broker)}); trying again")
        self._first.set()

    def _on_disconnect(self, _c: "Client", _data: Any, _flags: Any, code: Any, _p: Any) -> None:
        if self.up:
            self.up = False
            self._once(f"the broker is away: {code}")
            self._tell(up=False)

    def _on_subscribe(self, _c: "Client", _data: Any, _id: int, codes: Any, _p: Any) -> None:
        refused = sum(code.is_failure for code in codes)
        if refused:
            self._say(f"the broker lets us listen to {len(codes) - refused} of {len(codes)} topics")

    def _on_message(self, _client: "Client", _data: Any, message: "MQTTMessage") -> None:
        for listener in self._listeners:
            listener.offer(message.topic, bytes(message.payload), retained=message.retain)

    def _tell(self, *, up: bool) -> None:
        for listener in self._listeners:
            listener.connected(up=up)

    def _once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)


def _client(broker: Broker, name: str) -> "Client":
    try:
        from paho.mqtt.client import Client, MQTTv311  # noqa: PLC0415 -- of the extra `edge`
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415
    except ImportError as error:
        raise MachineError(
            f"MQTT needs paho-mqtt 2, which cannot be imported ({error}): "
            "pip install 'detach[edge]'"
        ) from error
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"detach-{name}", protocol=MQTTv311)
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
    except OSError as error:
        return str(error)


def _check_private(broker: Broker) -> None:
    if broker.tls is not None or broker.plain_text:
        return
    try:
        found = {info[4][0] for info in socket.getaddrinfo(broker.host, broker.port)}
    except OSError:
        return  # not known yet
    away = [address for address in found if ip_address(str(address).partition("%")[0]).is_global]
    if away:
        raise MachineError(
            f"mqtt.host: {broker.host} is {away[0]}, not of this house, and without tls everybody "
            "on the way reads along; add tls, or plain_text: true"
        )
