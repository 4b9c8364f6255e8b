"""What Home Assistant is told so that it finds the entities by itself (MQTT discovery)."""

import json
import re
from collections.abc import Mapping
from typing import Any

from detach import __version__
from detach.edge.decide import UNKNOWN
from detach.edge.live.config import LARGEST_PAYLOAD, Publishing
from detach.edge.manifest import Manifest
from detach.errors import DataError

ONLINE, OFFLINE = "online", "offline"
RESERVED = ("activity", "place", "live_sensors")
"""Names of entities that are no class."""
EXPIRES = 4
"""Times ``every_s`` without a state, and an entity is unavailable."""


class Topics:
    """Topics and names of one instance.

    Args:
        name: Of the instance.
        config: Prefixes.
    """

    def __init__(self, name: str, config: Publishing) -> None:
        self.device = f"detach_{name}"
        self.state = f"{config.prefix}/{name}/state"
        self.availability = f"{config.prefix}/{name}/availability"
        self.birth = f"{config.discovery}/status"
        """Home Assistant says online there when it has started."""
        self._discovery = config.discovery
        self.descriptions = self.config("+", "+")
        """All that this device has at the broker, those of an earlier bundle too."""

    def config(self, component: str, entity: str) -> str:
        """Where an entity is described."""
        return f"{self._discovery}/{component}/{self.device}/{entity}/config"

    def is_description(self, topic: str) -> bool:
        """Whether one of this device's entities is described there."""
        pattern = re.escape(self.descriptions).replace(r"\+", "[^/]+")
        return re.fullmatch(pattern, topic) is not None


def slugs(classes: tuple[str, ...]) -> dict[str, str]:
    """Names of classes as they stand in topics and ids; those that would be equal are numbered.

    `UNKNOWN`, which bundles with names have, has none: it is no activity, but null.
    """
    found: dict[str, str] = {}
    for name in classes:
        if name == UNKNOWN:
            continue
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"
        slug, n = plain, 2
        while slug in {*found.values(), *RESERVED}:
            slug, n = f"{plain}_{n}", n + 1
        found[name] = slug
    return found


def discovery(
    name: str, manifest: Manifest, config: Publishing
) -> list[tuple[str, dict[str, Any]]]:
    """Topic and description of every entity: the activity, one for each class, and diagnostics.

    Args:
        name: Of the instance.
        manifest: Of the bundle.
        config: How it is published.

    Raises:
        DataError: A description is too long to be sent.
    """
    topics = Topics(name, config)
    common = _common(name, topics, manifest, config)
    told = slugs(manifest.classes)
    entities = [("sensor", "activity", _activity(topics, list(told)))]
    for label, slug in told.items():
        if label not in config.idle:
            template = f"{{{{ value_json['on']['{slug}'] }}}}"
            entities.append(("binary_sensor", slug, {"name": label, "value_template": template}))
    if manifest.places:
        entities.append(("sensor", "place", _diagnostic("Place", "place", "mdi:floor-plan")))
    share = _diagnostic("Live sensors", "live_percent", "mdi:access-point-check")
    entities.append(
        ("sensor", "live_sensors", share | {"unit_of_measurement": "%"}),
    )
    return [
        (
            topics.config(component, entity),
            _limited(entity, body | {"unique_id": f"{topics.device}_{entity}"} | common),
        )
        for component, entity, body in entities
    ]


def state_body(
    classes: tuple[str, ...], state: str | None, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The payload of the state topic; what is not known is null, and unknown in Home Assistant."""
    on = {
        slug: None if state is None else ("ON" if label == state else "OFF")
        for label, slug in slugs(classes).items()
    }
    return {"activity": state, "on": on, **(extra or {})}


def as_sent(body: Any) -> str:
    """The text of a message."""
    return json.dumps(body, ensure_ascii=False)


def _common(name: str, topics: Topics, manifest: Manifest, config: Publishing) -> dict[str, Any]:
    return {
        "state_topic": topics.state,
        "availability_topic": topics.availability,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "expire_after": round(EXPIRES * config.every_s),
        "device": {
            "identifiers": [topics.device],
            "name": f"detach {name}",
            "manufacturer": "detach",
            "model": manifest.dataset or "bundle",
            "sw_version": manifest.model[:12],
        },
        "origin": {"name": "detach", "sw_version": __version__},
    }


def _activity(topics: Topics, classes: list[str]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": "Activity",
        "icon": "mdi:home-search",
        "value_template": "{{ value_json.activity }}",
        "json_attributes_topic": topics.state,
    }
    return body | {"device_class": "enum", "options": classes} if classes else body


def _diagnostic(name: str, entry: str, icon: str) -> dict[str, Any]:
    return {
        "name": name,
        "icon": icon,
        "value_template": f"{{{{ value_json.{entry} }}}}",
        "entity_category": "diagnostic",
    }


def _limited(entity: str, body: dict[str, Any]) -> dict[str, Any]:
    """Without the list of options where it makes the description too long."""
    if len(as_sent(body).encode()) <= LARGEST_PAYLOAD:
        return body
    shorter = {k: v for k, v in body.items() if k not in {"options", "device_class"}}
    if (size := len(as_sent(shorter).encode())) > LARGEST_PAYLOAD:
        raise DataError(
            f"publish: the description of {entity[:40]} for Home Assistant has {size} bytes, more "
            f"than the {LARGEST_PAYLOAD} that a message may have; give the class a shorter name, "
            "or publish.prefix"
        )
    return shorter
