"""What an entity of Home Assistant is to us: by its domain, device class, unit and name."""

from collections.abc import Callable
from typing import Any

from detach.data.importers.log import Log

DOMAINS = ("binary_sensor", "sensor", "switch", "light", "fan", "input_boolean", "cover")
MOTION = frozenset({"motion", "occupancy", "moving", "presence", "vibration"})
NUMBERS = {
    "power": "power",
    "apparent_power": "power",
    "current": "power",
    "illuminance": "light",
    "sound_pressure": "sound",
}
UNITS = {"W": "power", "kW": "power", "VA": "power", "A": "power", "lx": "light", "dB": "sound"}
TELL_NOTHING = frozenset(
    {"battery", "battery_charging", "signal_strength", "timestamp", "date", "duration", "voltage",
     "connectivity", "update", "problem", "data_size", "data_rate", "monetary", "frequency", "enum",
     "atmospheric_pressure", "energy"}
)  # fmt: skip
WORDS = ("motion", "occupancy", "presence", "pir", "vibration")
ASKED = 8
"""From so many rows of an entity its attributes are looked up, until a device class is found."""
NO_SENSOR = "of a domain that is no sensor ({0})"
NOTHING = "of a device class that says nothing of what people do ({0})"


class Entities:
    """Decides once for each entity whether it is a sensor, and tells the log what it is.

    Args:
        log: Told what the sensors are, and how that was guessed.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.settled: dict[str, str | None] = {}
        """Name of the sensor by entity; None where it is not wanted."""
        self.why: dict[str, str] = {}
        """Why an entity is not wanted."""
        self._asked: dict[str, int] = {}

    def name(self, entity: str, attributes: Callable[[], dict[str, Any]]) -> str | None:
        """The sensor's name, or None when the entity is not wanted.

        Args:
            entity: Such as binary_sensor.fridge, not yet settled.
            attributes: Looks up what the row says of it.
        """
        domain = entity.partition(".")[0]
        if domain not in DOMAINS:
            self._refuse(entity, NO_SENSOR.format(domain))
            return None
        found = attributes()
        device_class = str(found.get("device_class") or "")
        if device_class in TELL_NOTHING:
            self._refuse(entity, NOTHING.format(device_class))
            return None
        asked = self._asked[entity] = self._asked.get(entity, 0) + 1
        name = self.log.name(entity)
        if name is None or device_class:
            name = self._tell(entity, domain, device_class, found)
        if device_class or asked >= ASKED:
            self.settled[entity] = name
        return name

    def _refuse(self, entity: str, why: str) -> None:
        self.settled[entity] = None
        self.why[entity] = why

    def _tell(self, entity: str, domain: str, device_class: str, found: dict[str, Any]) -> str:
        unit = str(found.get("unit_of_measurement") or "")
        kind, guess = kind_of(entity, domain, device_class, unit)
        return self.log.sensor(
            entity,
            kind=kind,
            guess=guess,
            unit="on/off" if kind in {"switch", "motion"} else unit,
            place=str(found["friendly_name"]) if found.get("friendly_name") else None,
        )


def kind_of(entity: str, domain: str, device_class: str, unit: str) -> tuple[str, str]:
    """Kind of sensor and how it was decided. On is open, or detected, for every device class."""
    if domain != "sensor":
        if device_class:
            kind = "motion" if domain == "binary_sensor" and device_class in MOTION else "switch"
            return kind, f"device class {device_class}"
        word = next((w for w in WORDS if w in entity.lower()), None)
        if domain == "binary_sensor" and word:
            return "motion", f"no device class, {word!r} in its name"
        return "switch", f"domain {domain}, no device class"
    if device_class in NUMBERS:
        return NUMBERS[device_class], f"device class {device_class}"
    if unit in UNITS:
        return UNITS[unit], f"unit {unit}"
    return "other", f"device class {device_class}" if device_class else "a number of no known class"
