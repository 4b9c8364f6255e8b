"""live.yaml: where values come from, how decisions are made, and where they go."""

import dataclasses
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from detach.data.labels import NOTHING
from detach.data.recording import SENSOR_KINDS
from detach.edge.live.yaml_fields import limited, read_yaml
from detach.errors import DataError, MachineError

IDLE = ("idle", NOTHING)
"""Classes that are no event, and have no entity, unless live.yaml says otherwise."""
LARGEST_PAYLOAD = 4096
"""Bytes of a message, in and out."""
SHORTEST_TOKEN = 16
PATTERN = re.compile("[#+\0]")
"""What stands in no topic of one thing."""
WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")

Holder = TypeVar("Holder", "Tls", "Broker", "Page")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """How the broker is known; without ``ca`` by the authorities of the system."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Broker:
    """An MQTT broker. The password stands in the environment or in a file, never here."""

    host: str
    port: int = limited(1, 65535, 1883)
    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    tls: Tls | None = None
    plain_text: bool = False
    """Speak without TLS to an address that is not of this house."""
    keepalive_s: int = limited(5, 600, 15)
    forget_after_s: float = limited(0, 86400, 60.0)
    """After a longer outage, states that nothing confirms are unknown."""

    def __post_init__(self) -> None:
        if self.password_env and self.password_file:
            raise ValueError("give password_env or password_file, not both")
        if (self.password_env or self.password_file) and not self.username:
            raise ValueError("a password needs a username")
        try:
            self.host.encode("idna")
        except UnicodeError as error:
            raise ValueError(f"host {self.host!r} can be no name of a machine: {error}") from error
        if self.tls is None and not self.plain_text and _is_public(self.host):
            raise ValueError(
                f"host {self.host} is not of this house, and without tls everybody on the way "
                "reads along; add tls, or plain_text: true"
            )

    def password(self) -> str | None:
        """From the environment or the file; never printed.

        Raises:
            MachineError: It is not there.
        """
        return _secret("mqtt.password", self.password_env, self.password_file)


@dataclass(frozen=True, kw_only=True)
class SensorSource:
    """Where the values of one sensor come from."""

    topic: str
    field: str | None = None
    """Entry of a JSON payload, ``a.b`` for one in another; without it the payload is the value."""
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The same for every axis of a sensor with several."""
    active: tuple[str, ...] = ()
    """Payloads that count as 1, where it is not the usual on, true, open ..."""
    invert: bool = False
    """1 counts as 0 and the reverse; other values change their sign."""
    mode: Literal["level", "pulse", "press"] = "level"
    """pulse: only that it went on is information; it falls back after ``hold_s``. press: every
    message that is active is such an event, as of buttons, which never say off."""
    hold_s: float | None = limited(0.05, 86400, None)
    """On lasts so long at most; for sensors that send no off. 1 s for pulses."""
    assume: float | None = limited(-1e9, 1e9, None)
    """Value until the first message, where the broker has no retained one."""
    stamp: str | None = None
    """Entry of the payload with the time of measurement: ISO 8601, or seconds or ms of Unix."""
    clock: Literal["arrival", "offset", "same"] = "arrival"
    """Whose time counts: that of arrival, the stamp less an offset that is estimated, or the stamp
    as it is, because the sender's clock is this machine's."""
    latency_s: float = limited(0, 5, 0.0)
    """Between event and arrival."""
    availability: str | None = None
    """Topic that says online or offline."""
    silent_after_s: float | None = limited(1, 7 * 86400, None)
    """Unknown when nothing came for so long; only for sensors that report regularly."""
    reports: Literal["samples", "changes"] | None = None
    """As in the bundle unless given."""
    hz: float | None = limited(1e-3, 1000, None)
    kind: str | None = None
    """For `detach record`: one of `detach.data.recording.SENSOR_KINDS`."""
    unit: str = ""
    place: str | None = None

    def __post_init__(self) -> None:
        if self.field and self.fields:
            raise ValueError("give field or fields, not both")
        if self.kind is not None and self.kind not in SENSOR_KINDS:
            raise ValueError(f"kind must be one of {', '.join(SENSOR_KINDS)}, found {self.kind!r}")
        if self.clock != "arrival" and self.stamp is None:
            raise ValueError(f"clock: {self.clock} needs the name of the entry with the stamp")
        for topic in (self.topic, self.availability):
            if topic is not None and PATTERN.search(topic):
                raise ValueError(f"topic must be that of one sensor, found the pattern {topic!r}")

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of its values."""
        return tuple(self.fields) or ("value",)


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """When windows are cut, and when a decision counts."""

    lateness_s: float = limited(0, 10, 0.3)
    """Windows wait so long for values that are late."""
    windows: int = limited(1, 60, 2)
    """A new answer needs so many windows in a row, or ``mean_probability`` over as many."""
    mean_probability: float = limited(0, 1, 0.8)
    confidence: float | None = limited(0, 1, None)
    """Instead of the bundle's threshold."""
    live_share: float | None = limited(0, 1, None)
    """Instead of the bundle's: share of the channels that must be observed."""
    behind: int = limited(1, 3600, 2)
    """When so many windows wait, all but the newest are skipped and counted."""


@dataclass(frozen=True, kw_only=True)
class Publishing:
    """The sink at the broker, in the form that Home Assistant discovers."""

    prefix: str = "detach"
    discovery: str = "homeassistant"
    """Home Assistant's discovery prefix."""
    every_s: float = limited(1, 3600, 30.0)
    """The state is repeated so often; Home Assistant forgets it after four times as long."""
    idle: tuple[str, ...] = IDLE
    """Classes without an entity of their own."""

    def __post_init__(self) -> None:
        for name, topic in (("prefix", self.prefix), ("discovery", self.discovery)):
            if PATTERN.search(topic):
                raise ValueError(f"{name} must begin topics, without # and +, found {topic!r}")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What `detach record` makes."""

    minutes: float = limited(0.1, 7 * 1440, 60.0)
    """Of each recording; then the next begins."""
    subject: str = "home"
    picture_px: int = limited(64, 1024, 320)
    """Pictures get about as many pixels as a square of this side, in the camera's aspect."""


@dataclass(frozen=True, kw_only=True)
class CameraSource:
    """One camera: ``/dev/videoN``, an ``rtsp://`` address, or a file."""

    source: str = ""
    fps: float = limited(1, 60, 10.0)
    address_env: str | None = None
    """Take the address from the environment instead, since it may hold a password."""
    silent_after_s: float = limited(2, 600, 20.0)
    restarts_a_minute: int = limited(1, 60, 5)

    def __post_init__(self) -> None:
        if bool(self.source) == bool(self.address_env):
            raise ValueError("give source or address_env")
        if "@" in self.source:
            raise ValueError("an address with a password belongs into the environment: address_env")


@dataclass(frozen=True, kw_only=True)
class Page:
    """The live page, for a browser. Without ``listen`` only this machine's own can see it."""

    listen: str = "127.0.0.1"
    """Address of this machine to be reached at, 0.0.0.0 for all; others than its own need a
    token."""
    port: int = limited(1, 65535, 8471)
    hosts: tuple[str, ...] = ()
    """Names under which browsers reach it, beside addresses and localhost; others are refused."""
    token_env: str | None = None
    token_file: Path | None = None
    """Whoever knows what stands there is let in; at least `SHORTEST_TOKEN` letters."""
    camera: bool = False
    """Whether the camera's picture is shown, as small as the model sees it."""
    certificate: Path | None = None
    key: Path | None = None
    """Speak TLS; without, everybody on the way reads along."""

    def __post_init__(self) -> None:
        try:
            address = ipaddress.ip_address(self.listen)
        except ValueError:
            raise ValueError(f"listen must be an address, found {self.listen!r}") from None
        if self.token_env and self.token_file:
            raise ValueError("give token_env or token_file, not both")
        if not address.is_loopback and not (self.token_env or self.token_file):
            raise ValueError(
                f"listen {self.listen} can be reached by others; give token_file or token_env"
            )
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")

    def token(self) -> str | None:
        """From the environment or the file; never printed.

        Raises:
            MachineError: It is not there, or too short.
        """
        found = _secret("page.token", self.token_env, self.token_file)
        if found is not None and len(found) < SHORTEST_TOKEN:
            raise MachineError(
                f"page: the token has {len(found)} letters; at least {SHORTEST_TOKEN} are needed"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """The whole of live.yaml."""

    schema: int = limited(1, 1)
    name: str = "home"
    """Of this instance: part of the topics and of the entities' ids, so do not change it."""
    mqtt: Broker | None = None
    lines: bool = False
    """Read standard input: ``UNIXTIME TOPIC PAYLOAD``, or JSON with topic and payload."""
    sensors: Mapping[str, SensorSource]
    """By the bundle's names."""
    decide: Deciding = Deciding()
    publish: Publishing | None = None
    record: Recording = Recording()
    camera: CameraSource | None = None
    page: Page | None = None
    intake: int = limited(10, 1_000_000, 10_000)
    """Messages that may wait; then the oldest are dropped and counted."""

    def __post_init__(self) -> None:
        if not WORD.fullmatch(self.name):
            raise ValueError(f"name must be letters, digits, - and _, found {self.name!r}")
        if not self.sensors:
            raise ValueError("sensors must not be empty")
        if self.mqtt is None and not self.lines:
            raise ValueError("no source: give mqtt, or lines: true")
        if self.publish is not None and self.mqtt is None:
            raise ValueError("publish needs mqtt")


def read_config(path: Path) -> LiveConfig:
    """Reads live.yaml. Relative paths in it are seen from its folder.

    Raises:
        DataError: See `detach.edge.live.yaml_fields.read_yaml`.
    """
    config, folder = read_yaml(LiveConfig, path), path.resolve().parent
    if config.page is not None:
        page = _seen_from(folder, config.page, "token_file", "certificate", "key")
        config = dataclasses.replace(config, page=page)
    if config.mqtt is None:
        return config
    broker = _seen_from(folder, config.mqtt, "password_file")
    if broker.tls is not None:
        tls = _seen_from(folder, broker.tls, "ca", "certificate", "key")
        broker = dataclasses.replace(broker, tls=tls)
    return dataclasses.replace(config, mqtt=broker)


def _seen_from(folder: Path, holder: Holder, *names: str) -> Holder:
    found = {name: getattr(holder, name) for name in names}
    return dataclasses.replace(holder, **{n: p and folder / p for n, p in found.items()})


def check_sensors(config: LiveConfig, known: Mapping[str, set[str]], where: Path) -> None:
    """Whether the sensors are those of a bundle.

    Args:
        config: The configuration.
        known: Axes by sensor of the bundle.
        where: The file, for errors.

    Raises:
        DataError: None of them is, or one has other axes.
    """
    if not set(known) & set(config.sensors):
        raise DataError(
            f"{where}: none of its sensors ({', '.join(list(config.sensors)[:8])}) is one of the "
            f"bundle's: {', '.join(list(known)[:8])}"
        )
    for name, source in config.sensors.items():
        if name in known and (missing := known[name] - set(source.axes)):
            raise DataError(
                f"{where}: sensors.{name}: the bundle has the axes {', '.join(sorted(known[name]))}"
                f", but {sorted(missing)[0]!r} is not under fields"
            )


def _secret(field: str, env: str | None, file: Path | None) -> str | None:
    if env is not None:
        found = os.environ.get(env)
        if found is None:
            raise MachineError(f"{field}_env: {env} is not set")
        return found
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MachineError(f"{field}_file: {file}: {error}") from error


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False  # a name; looked at when it is known where it leads
