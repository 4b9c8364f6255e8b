"""What Home Assistant is told, against what it documents."""

import json
import re

import pytest

from detach.edge.live.config import Publishing
from detach.edge.live.discovery import Topics, discovery, slugs, state_body

from .live_home import CLASSES, home_manifest  # type: ignore[import-not-found]

TEXT, WHOLE = str, int
COMMON = {
    "name": TEXT,
    "unique_id": TEXT,
    "state_topic": TEXT,
    "value_template": TEXT,
    "availability_topic": TEXT,
    "payload_available": TEXT,
    "payload_not_available": TEXT,
    "expire_after": WHOLE,
    "json_attributes_topic": TEXT,
    "icon": TEXT,
    "entity_category": TEXT,
    "device": dict,
    "origin": dict,
}
"""Variables that Home Assistant documents for both components, with their types."""
DOCUMENTED = {
    "sensor": COMMON | {"device_class": TEXT, "options": list, "unit_of_measurement": TEXT},
    "binary_sensor": COMMON | {"payload_on": TEXT, "payload_off": TEXT},
}
DEVICE = {"identifiers", "name", "manufacturer", "model", "sw_version"}
NODE = re.compile(r"homeassistant/(sensor|binary_sensor)/([a-zA-Z0-9_-]+)/([a-zA-Z0-9_-]+)/config")


@pytest.mark.parametrize("classes", [CLASSES, ("Tür auf", "Tür zu", "ß", "1" * 60), ()])
def test_descriptions_are_as_documented(classes: tuple[str, ...]) -> None:
    config = Publishing()
    manifest = home_manifest(classes=classes, places=4)
    found = discovery("kitchen", manifest, config)
    ids = [body["unique_id"] for _, body in found]
    assert len(set(ids)) == len(ids) == len({topic for topic, _ in found})
    for topic, body in found:
        assert len(json.dumps(body)) <= 4096
        match = NODE.fullmatch(topic)
        assert match is not None
        component = match[1]
        for key, value in body.items():
            assert isinstance(value, DOCUMENTED[component][key]), key
        assert {"state_topic", "unique_id", "device", "origin"} <= set(body)
        assert set(body["device"]) <= DEVICE
        assert body["device"]["identifiers"] == ["detach_kitchen"]
        assert body["origin"]["name"] == "detach"
        assert body["expire_after"] > config.every_s
        assert not re.search("[#+]", body["state_topic"])
        if body.get("device_class") == "enum":  # needs options, and has neither unit nor class
            assert body["options"] == list(classes)
            assert "unit_of_measurement" not in body


def test_ids_are_the_same_after_a_restart_and_differ_between_instances() -> None:
    manifest = home_manifest()
    ids = [
        [body["unique_id"] for _, body in discovery(name, manifest, Publishing())]
        for name in ("kitchen", "kitchen", "hall")
    ]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])
    assert ids[0] == [
        "detach_kitchen_activity",
        "detach_kitchen_fridge",
        "detach_kitchen_tap",
        "detach_kitchen_live_sensors",
    ]


def test_slugs_are_plain_and_differ() -> None:
    assert slugs(("Open Fridge", "open-fridge", "ß", "activity")) == {
        "Open Fridge": "open_fridge",
        "open-fridge": "open_fridge_2",
        "ß": "class",
        "activity": "activity_2",
    }


def test_templates_find_what_the_state_holds() -> None:
    jinja2 = pytest.importorskip("jinja2")
    manifest = home_manifest()
    for state, expected in (("tap", "ON"), ("fridge", "OFF"), (None, "None")):
        body = state_body(CLASSES, state, {"live_percent": 50})
        for topic, entity in discovery("kitchen", manifest, Publishing()):
            template = jinja2.Environment(autoescape=True).from_string(entity["value_template"])
            shown = template.render(value_json=json.loads(json.dumps(body)))
            if topic.endswith("/tap/config"):
                assert shown == expected
            if topic.endswith("/activity/config"):
                assert shown == (state or "None")


def test_topics_hold_the_name() -> None:
    topics = Topics("kitchen", Publishing(prefix="p", discovery="ha"))
    assert topics.state == "p/kitchen/state"
    assert topics.birth == "ha/status"
