"""What Home Assistant is told so that it finds the entities by itself (MQTT discovery)."""

import json
import re
from collections.abc import Mapping
from typing import Any

from detach import __version__
from detach.edge.live.config import LARGEST_PAYLOAD, Publishing
from detach.edge.manifest import Manifest

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

    def config(self, component: str, entity: str) -> str:
        """Where an entity is described."""
        return f"{self._discovery}/{component}/{self.device}/{entity}/config"


def slugs(classes: tuple[str, ...]) -> dict[str, str]:
    """Names of classes as they stand in topics and ids; those that would be equal are numbered."""
    found: dict[str, str] = {}
    for name in classes:
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
    """
    topics = Topics(name, config)
    common = _common(name, topics, manifest, config)
    entities = [("sensor", "activity", _activity(topics, manifest.classes))]
    for label, slug in slugs(manifest.classes).items():
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
            _limited(body | {"unique_id": f"{topics.device}_{entity}"} | common),
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


def _activity(topics: Topics, classes: tuple[str, ...]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": "Activity",
        "icon": "mdi:home-search",
        "value_template": "{{ value_json.activity }}",
        "json_attributes_topic": topics.state,
    }
    return body | {"device_class": "enum", "options": list(classes)} if classes else body


def _diagnostic(name: str, entry: str, icon: str) -> dict[str, Any]:
    return {
        "name": name,
        "icon": icon,
        "value_template": f"{{{{ value_json.{entry} }}}}",
        "entity_category": "diagnostic",
    }


def _limited(body: dict[str, Any]) -> dict[str, Any]:
    """Without the list of options where it makes the description too long."""
    if len(json.dumps(body)) <= LARGEST_PAYLOAD:
        return body
    return {k: v for k, v in body.items() if k not in {"options", "device_class"}}
