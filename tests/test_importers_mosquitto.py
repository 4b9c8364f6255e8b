"""Logs of mosquitto_sub in each of its forms."""

import math
from pathlib import Path

import pytest

from detach.data.importers.days import import_events
from detach.data.importers.log import Log, Options
from detach.data.importers.mosquitto import read
from detach.errors import DataError

from .event_logs import MOSQUITTO, START_S  # type: ignore[import-not-found]


def changes(text: str, folder: Path) -> tuple[list[tuple[float, str, float]], Log]:
    log, path = Log(), folder / "z.log"
    path.write_text(text)
    return list(read(path, Options(), log)), log


def test_each_known_field_is_a_sensor_and_the_rest_is_counted(tmp_path: Path) -> None:
    found, log = changes(MOSQUITTO, tmp_path)
    assert [(round(t - START_S, 3), s, v) for t, s, v in found if not math.isnan(v)] == [
        (0.5, "kitchen_fridge door.contact", 1),
        (10.5, "kitchen_fridge door.contact", 0),
        (20, "hall.occupancy", 1),
        (20, "hall.illuminance", 12),
        (22.924, "hall.illuminance", 14),
        (80, "plug.power", 12.5),
        (80, "plug.state", 1),
        (176.796, "hall.occupancy", 0),
    ]
    assert [s for _, s, v in found if math.isnan(v)] == ["hall.occupancy", "hall.illuminance"]
    assert log.dropped == {
        "retained message: the state at some time before": 1,
        "message of the bridge, or to a device": 2,
        "payload of JSON that is cut short or damaged": 1,
    }
    assert log.first["payload of JSON that is cut short or damaged"] == "z.log:11"


def test_a_contact_is_true_when_closed(tmp_path: Path) -> None:
    _, log = changes(MOSQUITTO, tmp_path)
    track = log.tracks["kitchen_fridge door.contact"]
    assert (track.kind, track.polarity) == ("switch", -1)
    assert log.guessed[track.name] == "field contact, true is closed"
    assert log.tracks["hall.occupancy"].polarity == 1


@pytest.mark.parametrize(
    "stamp",
    [
        "1767225600.000000000",
        "1767225600000",
        "2026-01-01T00:00:00Z",
        "2026-01-01T01:00:00+0100",
        "2026-01-01T01:00:00.5+01:00",
        "2025-12-31T19:00:00.123456789-0500",
        "2026-01-01T01:00:00.123456Z+0100",
    ],
)
def test_times_in_all_usual_forms(stamp: str, tmp_path: Path) -> None:
    found, _ = changes(f'{stamp} zigbee2mqtt/a {{"contact": true}}\n', tmp_path)
    assert found[0][0] == pytest.approx(START_S, abs=0.6)


@pytest.mark.parametrize(
    ("topic", "payload", "sensor", "value"),
    [
        ("stat/lamp/POWER", "ON", "lamp_POWER.state", 1),
        ("zigbee2mqtt/a b c", '{"power": 3}', "a b c.power", 3),
        ("zigbee2mqtt/a", '{"contact": null}', "a.contact", math.nan),
    ],
)
def test_payloads(topic: str, payload: str, sensor: str, value: float, tmp_path: Path) -> None:
    ((_, name, found),) = changes(f"1767225600 {topic} {payload}\n", tmp_path)[0]
    assert name == sensor
    assert found == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('1767225600 zigbee2mqtt/a {"linkquality": 3}', "message without a field that is known"),
        ('1767225600 zigbee2mqtt/a {"contact": "ajar"}', "message without a field that is known"),
        ('1767225600 zigbee2mqtt/a {"contact": [1]}', "message without a field that is known"),
        ("1767225600 zigbee2mqtt/a hello", "message without a field that is known"),
        ('{"payload": 3}', "not JSON with a topic"),
        ("1767225600", "not time, topic, payload"),
        ("1767225600 zigbee2mqtt/a/availability online", "message that a device is online"),
    ],
)  # fmt: skip
def test_what_says_nothing_is_left_out(line: str, why: str, tmp_path: Path) -> None:
    good = '1767225600 zigbee2mqtt/a {"contact": true}\n'
    found, log = changes(good + line + "\n", tmp_path)
    assert len(found) == 1
    assert log.dropped == {why: 1}


@pytest.mark.parametrize(
    "line",
    [
        'zigbee2mqtt/a {"contact":true}',
        'zigbee2mqtt/a {"contact":true,"last_seen":"0001-01-01T00:00:00+05:00"}',
        'zigbee2mqtt/a {"contact":true,"last_seen":"9999-12-31T23:00:00-05:00"}',
    ],
)
def test_a_log_without_times_says_how_to_log(line: str, tmp_path: Path) -> None:
    path = tmp_path / "z.log"
    path.write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"z.log:1: no time stands before the topic; log with"):
        import_events(read, path, tmp_path / "out")
