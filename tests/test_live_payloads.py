"""What messages say of sensors, and what is refused, under which name."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detach.edge.live import sensors as sensors_module
from detach.edge.live.config import SensorSource
from detach.edge.live.lines import parse_line, read_lines, start_lines
from detach.edge.live.messages import Message
from detach.edge.live.payloads import REASONS, PayloadError, is_online, read_payload
from detach.edge.live.sensors import SensorKind, Sensors

Z2M_CONTACT = SensorSource(topic="t", field="contact", active=("false",))
Z2M_MOTION = SensorSource(topic="t", field="occupancy", mode="pulse")
Z2M_BUTTON = SensorSource(topic="t", field="action", active=("vibration",), mode="press")
STATE = SensorSource(topic="t")
POWER = SensorSource(topic="t", field="power")
NESTED = SensorSource(topic="t", field="ENERGY.Power", stamp="Time")
AXES = SensorSource(topic="t", fields={"x": "x_axis", "y": "y_axis"})
SWITCH, EVENT = SensorKind(binary=True, hz=None), SensorKind(binary=False, hz=None)


@pytest.mark.parametrize(
    ("source", "binary", "payload", "expected"),
    [
        (Z2M_CONTACT, True, b'{"contact":true,"battery":100}', 0.0),
        (Z2M_CONTACT, True, b'{"contact":false}', 1.0),
        (Z2M_CONTACT, True, b'{"contact":null}', None),
        (Z2M_BUTTON, True, b'{"action":"vibration"}', 1.0),
        (Z2M_BUTTON, True, b'{"action":"tilt"}', 0.0),
        (STATE, True, b"on", 1.0),
        (STATE, True, b" Off\n", 0.0),
        (STATE, True, b"unavailable", None),
        (STATE, True, b"unknown", None),
        (STATE, True, b"", None),
        (STATE, True, b"1.0", 1.0),
        (SensorSource(topic="t", invert=True), True, b"on", 0.0),
        (SensorSource(topic="t", invert=True), False, b"2.5", -2.5),
        (POWER, False, b'{"power":12.5}', 12.5),
        (POWER, False, b'{"power":"12.5"}', 12.5),
        (STATE, False, b"21.5", 21.5),
    ],
)
def test_payloads_of_the_usual_senders(
    source: SensorSource, binary: bool, payload: bytes, expected: float | None
) -> None:
    reading = read_payload(payload, source, binary=binary)
    assert reading.values == (None if expected is None else {"value": (expected,)})


def test_axes_stamps_and_batches() -> None:
    assert read_payload(b'{"x_axis":1,"y_axis":-2}', AXES, binary=False).values == {
        "x": (1.0,),
        "y": (-2.0,),
    }
    batch = b'{"x_axis":[1,2,3],"y_axis":[4,5,6]}'
    assert read_payload(batch, AXES, binary=False).values == {"x": (1, 2, 3), "y": (4, 5, 6)}
    body = b'{"Time":"2026-01-31T12:00:00+01:00","ENERGY":{"Power":7}}'
    reading = read_payload(body, NESTED, binary=False)
    assert reading.values == {"value": (7.0,)}
    assert reading.stamp_s == 1769857200.0
    in_ms = read_payload(b'{"Time":1769857200000,"ENERGY":{"Power":7}}', NESTED, binary=False)
    assert in_ms.stamp_s == 1769857200.0


@pytest.mark.parametrize("stamp", ['"noon"', "1" + 400 * "0", "-1" + 400 * "0", "1e300", "true"])
def test_a_stamp_that_is_no_time_is_none(stamp: str) -> None:
    body = f'{{"Time":{stamp},"ENERGY":{{"Power":7}}}}'.encode()
    reading = read_payload(body, NESTED, binary=False)
    assert reading.values == {"value": (7.0,)}
    assert reading.stamp_s is None


@pytest.mark.parametrize(
    ("source", "binary", "payload", "reason"),
    [
        (STATE, True, b"x" * 1_000_000, "too_large"),
        (STATE, True, b"\xff\xfe", "not_text"),
        (POWER, False, b"12.5", "wrong_type"),
        (POWER, False, b'{"power":12.5', "not_json"),
        (POWER, False, b'{"power":NaN}', "not_json"),
        (POWER, False, b'{"power":1,"power":2}', "not_json"),
        (POWER, False, b'{"voltage":230}', "no_field"),
        (POWER, False, b'{"power":{"now":1}}', "wrong_type"),
        (POWER, False, b'{"power":"much"}', "wrong_type"),
        (POWER, False, b'{"power":1e12}', "out_of_range"),
        (STATE, False, b"inf", "out_of_range"),
        (STATE, True, b"ajar", "wrong_type"),
        (STATE, True, b"2", "wrong_type"),
        (Z2M_CONTACT, True, b'{"contact":"perhaps"}', "wrong_type"),
        (AXES, False, b'{"x_axis":[1,2],"y_axis":3}', "wrong_type"),
        (AXES, False, b"[" * 3000, "not_json"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    source: SensorSource, binary: bool, payload: bytes, reason: str
) -> None:
    with pytest.raises(PayloadError) as refusal:
        read_payload(payload, source, binary=binary)
    assert refusal.value.reason == reason
    assert reason in REASONS


@given(
    payload=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)),
    source=st.sampled_from([Z2M_CONTACT, Z2M_MOTION, STATE, POWER, NESTED, AXES]),
    binary=st.booleans(),
)
def test_any_bytes_are_read_or_refused(payload: bytes, source: SensorSource, binary: bool) -> None:
    try:
        reading = read_payload(payload, source, binary=binary)
    except PayloadError as refusal:
        assert refusal.reason in REASONS  # noqa: PT017 -- either way is right
    else:
        for several in (reading.values or {}).values():
            assert all(math.isfinite(x) for x in several)
            assert not binary or set(several) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("payload", "online"),
    [(b"online", True), (b"offline", False), (b'{"state":"online"}', True)],
)
def test_availability(payload: bytes, online: bool) -> None:
    assert is_online(payload) == online


class Taken:
    def __init__(self) -> None:
        self.values: list[tuple[str, float, float]] = []

    def push(self, sensor: str, axis: str, t_s: list[float], values: list[float]) -> None:
        assert axis
        self.values += [(sensor, t, x) for t, x in zip(t_s, values, strict=True)]

    def of(self, sensor: str = "s") -> list[tuple[float, float | None]]:
        found = [(t, x) for name, t, x in self.values if name == sensor]
        return [(t, None if math.isnan(x) else x) for t, x in found]


def sensors(
    kinds: Mapping[str, SensorKind] | None = None, **sources: SensorSource
) -> tuple[Sensors, Taken]:
    taken = Taken()
    of = kinds or dict.fromkeys(sources, SWITCH)
    return Sensors(sources, of, taken, origin_s=100.0), taken


def send(
    to: Sensors, at_s: float, payload: str, topic: str = "t", *, retained: bool = False
) -> None:
    to.until(100.0 + at_s)
    to.take(Message(topic, payload.encode(), 100.0 + at_s, retained), 0.0)


def test_a_pulse_is_its_rising_edge_and_falls_by_itself() -> None:
    found, taken = sensors(s=Z2M_MOTION)
    send(found, 1.0, '{"occupancy":true}', retained=True)  # a state, no event
    send(found, 2.0, '{"occupancy":true,"illuminance":3}')  # still the same
    send(found, 10.0, '{"occupancy":false}')
    send(found, 20.0, '{"occupancy":true}')
    send(found, 20.5, '{"occupancy":true}')
    send(found, 90.0, '{"occupancy":false}')
    assert taken.of() == [(1.0, 0.0), (20.0, 1.0), (21.0, 0.0)]


def test_every_press_is_an_event() -> None:
    found, taken = sensors(s=Z2M_BUTTON)
    for at_s in (1.0, 5.0, 5.5):
        send(found, at_s, '{"action":"vibration"}')
    send(found, 9.0, '{"action":"tilt"}')
    assert taken.of() == [(1.0, 1.0), (2.0, 0.0), (5.0, 1.0), (5.5, 1.0), (6.5, 0.0)]


def test_what_holds_for_a_time_goes_off() -> None:
    found, taken = sensors(s=SensorSource(topic="t", hold_s=5.0))
    send(found, 1.0, "on")
    send(found, 4.0, "on")
    found.until(120.0)
    assert taken.of() == [(1.0, 1.0), (4.0, 1.0), (9.0, 0.0)]


def test_availability_and_silence_make_a_sensor_unknown() -> None:
    found, taken = sensors(
        s=SensorSource(topic="t", availability="t/availability"),
        quiet=SensorSource(topic="q", silent_after_s=10.0),
    )
    send(found, 1.0, "on")
    send(found, 2.0, "off", "q")
    send(found, 3.0, "offline", "t/availability")
    send(found, 4.0, "online", "t/availability")
    found.until(120.0)
    assert taken.of() == [(1.0, 1.0), (3.0, None)]
    assert taken.of("quiet") == [(2.0, 0.0), (12.0, None)]
    assert found.counts["silent"] == 1


def test_an_assumed_state_holds_until_the_first_message() -> None:
    found, taken = sensors(s=SensorSource(topic="t", assume=0.0))
    found.connected(100.0)
    send(found, 3.0, "on")
    assert taken.of() == [(0.0, 0.0), (3.0, 1.0)]


def test_samples_of_a_batch_are_spaced_and_retained_ones_are_stale() -> None:
    found, taken = sensors({"s": SensorKind(binary=False, hz=4.0)}, s=POWER)
    send(found, 1.0, '{"power":[1,2,3,4]}')
    send(found, 2.0, '{"power":9}', retained=True)
    assert taken.of() == [(0.25, 1.0), (0.5, 2.0), (0.75, 3.0), (1.0, 4.0)]
    assert found.counts["stale"] == 1


def test_one_message_may_speak_of_two_sensors_and_none_of_others() -> None:
    found, taken = sensors(
        {"a": SWITCH, "b": EVENT},
        a=SensorSource(topic="t", field="state"),
        b=SensorSource(topic="t", field="power"),
        c=SensorSource(topic="c"),
    )
    send(found, 1.0, '{"state":"ON","power":30}')
    send(found, 1.0, "on", "c")
    send(found, 1.0, '{"state":"ON"}')
    assert taken.values == [("a", 1.0, 1.0), ("b", 1.0, 30.0), ("a", 1.0, 1.0)]
    assert found.counts == {"unknown_topic": 1, "no_field": 1}


def test_a_message_that_nobody_foresaw_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> NoReturn:
        raise OverflowError("int too large to convert to float")

    found, taken = sensors(s=SensorSource(topic="t", availability="t/availability"))
    monkeypatch.setattr(sensors_module, "read_payload", fails)
    monkeypatch.setattr(sensors_module, "is_online", fails)
    send(found, 1.0, "on")
    send(found, 2.0, "offline", "t/availability")
    assert found.counts == {"unforeseen": 2}
    assert not taken.values


def outage(to: Sensors, from_s: float, until_s: float) -> None:
    to.until(100.0 + from_s)
    to.disconnected(100.0 + from_s)
    to.connected(100.0 + until_s)


def test_a_short_outage_confirms_what_it_alone_made_unknown() -> None:
    found, taken = sensors(
        known=SensorSource(topic="known"),
        away=SensorSource(topic="away", availability="away/availability"),
        unsure=SensorSource(topic="unsure"),
        quiet=SensorSource(topic="quiet", silent_after_s=10.0),
    )
    found.connected(100.0)
    for name in ("known", "away", "unsure", "quiet"):
        send(found, 1.0, "on", name)
    send(found, 5.0, "offline", "away/availability")
    send(found, 5.0, "unavailable", "unsure")
    outage(found, 20.0, 21.0)
    outage(found, 21.5, 22.0)  # once more before that was over
    found.until(150.0)
    assert taken.of("known") == [(1.0, 1.0), (20.0, None), (23.0, 1.0)]
    assert taken.of("away") == taken.of("unsure") == [(1.0, 1.0), (5.0, None)]
    assert taken.of("quiet") == [(1.0, 1.0), (11.0, None)]
    assert [name for name, _ in found.known()] == ["known"]
    outage(found, 60.0, 130.0)  # too long
    outage(found, 131.0, 132.0)
    found.until(240.0)
    assert not found.known()


def test_what_a_sensor_says_after_an_outage_is_not_confirmed_away() -> None:
    found, taken = sensors(
        away=SensorSource(topic="away", availability="away/availability"),
        unsure=SensorSource(topic="unsure"),
    )
    found.connected(100.0)
    for name in ("away", "unsure"):
        send(found, 1.0, "on", name)
    outage(found, 20.0, 21.0)
    send(found, 21.1, "offline", "away/availability", retained=True)
    send(found, 21.1, "unavailable", "unsure", retained=True)
    found.until(150.0)
    assert taken.of("away") == taken.of("unsure") == [(1.0, 1.0), (20.0, None)]
    assert not found.known()


def test_silence_counts_from_when_a_state_was_assumed_or_confirmed() -> None:
    found, taken = sensors(
        assumed=SensorSource(topic="assumed", assume=0.0, silent_after_s=10.0),
        spoke=SensorSource(topic="spoke", silent_after_s=10.0),
    )
    found.connected(100.0)
    send(found, 15.0, "on", "spoke")
    outage(found, 20.0, 28.0)
    found.until(150.0)
    assert taken.of("assumed") == [(0.0, 0.0), (10.0, None)]
    assert taken.of("spoke") == [(15.0, 1.0), (20.0, None), (29.0, 1.0), (39.0, None)]


TOPICS = ("zigbee2mqtt/fridge door", "zigbee2mqtt/fridge")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"1700000000.123 zigbee2mqtt/fridge door on", (TOPICS[0], b"on", False)),
        (b'17 zigbee2mqtt/fridge {"a": 1}', (TOPICS[1], b'{"a": 1}', False)),
        (b"17 other/topic on", None),
        (b"", None),
        (b'{"topic":"a","payload":{"x":1},"retain":1}', ("a", b'{"x": 1}', True)),
        (b'{"topic":"a","payload":"on","retain":0}', ("a", b"on", False)),
        (b'{"payload":"on"}', None),
        (b'{"topic"', None),
        (b'{"topic":"a","payload":"\\ud800"}', None),
        (b'{"topic":"a","payload":' + 2000 * b"[" + 2000 * b"]" + b"}", None),
        (b"\xff\xff", None),
    ],
)
def test_lines(line: bytes, expected: tuple[str, bytes, bool] | None) -> None:
    assert parse_line(line, TOPICS) == expected


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"a\r\n" + b"x" * 1_000_000 + b"\nb\n\nc")
    with (tmp_path / "lines").open("rb") as file:
        found = list(read_lines(file.fileno()))
    assert [len(line) for line in found] == [1, 8192, 1, 0, 1]
    assert found[0] + found[2] + found[4] == b"abc"


def test_all_lines_are_read_and_the_end_is_told_whatever_is_in_them() -> None:
    offered: list[tuple[str, bytes]] = []
    ended: list[bool] = []
    reads, writes = os.pipe()
    os.write(writes, b'{"topic":"a","payload":"\\ud800"}\n1 a on\n')
    os.close(writes)
    start_lines(
        reads, ("a",), lambda t, x, **_: offered.append((t, x)), lambda: ended.append(True)
    ).join(10)
    os.close(reads)
    assert offered == [("", b'{"topic":"a","payload":"\\ud800"}'), ("a", b"on")]
    assert ended == [True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_lines_that_can_no_longer_be_read_have_ended() -> None:
    ended: list[bool] = []
    reads, writes = os.pipe()
    os.close(writes)
    os.close(reads)
    start_lines(reads, (), lambda *_, **__: None, lambda: ended.append(True)).join(10)
    assert ended == [True]
