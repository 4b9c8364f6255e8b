"""live.yaml: what is read, and what a wrong one says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detach.edge.live.config import LiveConfig, read_config
from detach.errors import DataError, MachineError

from .live_home import configured  # type: ignore[import-not-found]

GOOD = """
schema: 1
name: kitchen
mqtt:
  host: 192.168.1.10
  username: detach
  password_env: HOME_PASSWORD
  tls: {ca: ca.crt}
sensors:
  fridge: {topic: zigbee2mqtt/fridge door, field: contact, active: off}
  shaker:
    topic: shaker
    fields: {x: x_axis, y: y_axis}
    stamp: last_seen
    clock: offset
decide: {windows: 3}
publish: {every_s: 60}
"""


def test_texts_stay_as_they_are_written(tmp_path: Path) -> None:
    config = configured(tmp_path, GOOD)
    assert config.sensors["fridge"].active == ("off",)
    assert config.sensors["shaker"].axes == ("x", "y")
    assert config.decide.windows == 3
    assert config.decide.lateness_s == 0.3
    assert config.mqtt is not None
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca == tmp_path / "ca.crt"
    assert config.camera is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema: 1", "schema: 2", "live.yaml:2: schema: must be in [1, 1], found 2"),
        ("schema: 1", "", "live.yaml:3: schema: is missing"),
        ("host:", "hots:", "live.yaml:5: mqtt.hots: is no known field; perhaps you meant 'host'"),
        ("windows: 3", "windows: 0", "decide.windows: must be in [1, 60], found 0"),
        ("windows: 3", "windows: three", "live.yaml:16: decide.windows: must be a whole number"),
        ("windows: 3", "windows: [3]", "decide.windows: must be a whole number, found a list"),
        ("clock: offset", "clock: ofs", "perhaps you meant 'offset'"),
        ("stamp: last_seen", "", "sensors.shaker: clock: offset needs"),
        ("field: contact", "field: contact, fields: {x: a}", "give field or fields"),
        ("topic: shaker", "topic: 'shaker/#'", "found the pattern 'shaker/#'"),
        ("name: kitchen", "name: the/kitchen", "name must be letters"),
        ("name: kitchen", "name: kitchen\nname: hall", "live.yaml:4: name: stands there twice"),
        ("username: detach", "username: &a detach", "anchors and aliases"),
        ("tls: {ca: ca.crt}", "tls: [", "not YAML"),
        ("192.168.1.10\n", "8.8.8.8\n", None),
        ("  tls: {ca: ca.crt}\n", "", None),
        ("192.168.1.10", "broker..lan", "live.yaml:5: mqtt: host 'broker..lan' can be no name of"),
        ("every_s: 60", "prefix: home/+", "live.yaml:17: publish: prefix must begin topics"),
        ("every_s: 60", "discovery: 'ha/#'", "without # and +, found 'ha/#'"),
        ("every_s: 60", "every_s: .nan", "must be a number"),
        ("publish: {every_s: 60}", "publish: yes", "must be entries"),
        (GOOD, "schema: 1\nsensors: {a: {topic: a}}", "no source"),
        (GOOD, "schema: 1\nlines: true\nsensors: {}", "sensors must not be empty"),
        (GOOD, "[1, 2]", "must be entries"),
        (GOOD, "", "schema: is missing"),
        (GOOD, "a" * 2_000_000, "at most 1048576"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, old: str, new: str, says: str | None) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if says is None:
        assert configured(tmp_path, text)
        return
    with pytest.raises(DataError) as error:
        configured(tmp_path, text)
    assert says in str(error.value)
    assert str(tmp_path / "live.yaml") in str(error.value)


def test_an_address_of_others_needs_tls(tmp_path: Path) -> None:
    text = GOOD.replace("192.168.1.10", "8.8.8.8").replace("  tls: {ca: ca.crt}\n", "")
    with pytest.raises(DataError, match="not of this house"):
        configured(tmp_path, text)
    assert configured(tmp_path, text.replace("username", "plain_text: yes\n  username"))


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_config(tmp_path / "no.yaml")
    (tmp_path / "live.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_config(tmp_path / "live.yaml")
    (tmp_path / "live.yaml").write_text("[" * 500_000)
    with pytest.raises(DataError, match="nested deeper"):
        read_config(tmp_path / "live.yaml")


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        assert isinstance(configured(folder, text), LiveConfig)
    except DataError as error:
        assert "live.yaml" in str(error)  # noqa: PT017 -- either way is right


def test_passwords_come_from_outside_and_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = configured(tmp_path, GOOD).mqtt
    assert broker is not None
    monkeypatch.delenv("HOME_PASSWORD", raising=False)
    with pytest.raises(MachineError, match="HOME_PASSWORD is not set"):
        broker.password()
    monkeypatch.setenv("HOME_PASSWORD", "secret words")
    assert broker.password() == "secret words"
    assert "secret words" not in repr(broker)
    (tmp_path / "password").write_text("from a file\n")
    text = GOOD.replace("password_env: HOME_PASSWORD", "password_file: password")
    broker = configured(tmp_path, text).mqtt
    assert broker is not None
    assert broker.password() == "from a file"
