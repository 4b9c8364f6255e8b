"""Each command of the two pages on live use, run as it stands but for host's port and paths."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from detach.edge.live.config import read_config
from detach.edge.live.record import tracks_of
from detach.edge.manifest import Channel

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .live_home import (  # type: ignore[import-not-found]
    Mosquitto,
    mosquitto,
    password_file,
    wait_for,
    watcher,
)

ROOT = Path(__file__).parents[1]
PAGE, PRIVACY = ROOT / "docs/home-assistant.md", ROOT / "docs/what-leaves-the-device.md"
UNIT = ROOT / "packaging/detach-live.service"
SENSORS = ("fridge_door", "kitchen_motion", "kettle_plug")
LOGIN = {"username": "detach", "password": "the password"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    channels = tuple(
        Channel(
            name=name, sensor=name, axis="value", kind=kind, unit="", hz=None,
            mean=0.0, std=1.0, max_gap_s=1.0,
        )
        for name, kind in zip(SENSORS, ("switch", "motion", "power"), strict=True)
    )  # fmt: skip
    write_tiny(tmp_path / "home.detach", channels=channels)
    return tmp_path


@pytest.fixture
def broker(folder: Path) -> Iterator[Mosquitto]:
    users = password_file(folder, "detach", "the password")
    with mosquitto(folder, "allow_anonymous false", f"password_file {users}") as found:
        first, second = (b for b in blocks(PAGE, "yaml") if b.startswith("schema"))
        for name, text in (("live.yaml", first), ("record.yaml", second)):
            (folder / name).write_text(text.replace("1883", str(found.port)))
        run(blocks(PAGE, "sh")[0], folder, found)
        yield found


def run(command: str, folder: Path, broker: Mosquitto) -> str:
    done = subprocess.run(  # noqa: S603 -- a line of our page
        ["/bin/sh", "-c", command.replace("1883", str(broker.port))],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in {0, 27}, done.stderr  # 27: mosquitto_sub waited long enough
    return done.stdout


def started(command: str, folder: Path) -> subprocess.Popen[str]:
    words = shlex.split(command)
    assert words[0] == "detach"
    return subprocess.Popen(  # noqa: S603 -- a line of our page
        [sys.executable, "-m", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "python"))},
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    return out, said


def test_the_page_from_topics_to_states(folder: Path, broker: Mosquitto) -> None:
    commands = blocks(PAGE, "sh")
    (live,) = [c for c in commands if c.startswith("detach live")]
    listen, look = (c for c in commands if c.startswith("mosquitto_sub"))
    with watcher(broker.port, **LOGIN) as house:
        house.send("zigbee2mqtt/fridge door", b'{"contact": true}', retain=True)
        assert "zigbee2mqtt/fridge door" in run(listen, folder, broker)
        process = started(live, folder)
        try:
            wait_for(lambda: house.last("detach/kitchen/availability") == b"online", "online", 60)
            house.send("zigbee2mqtt/kitchen motion", b'{"occupancy": true}')
            house.send("homeassistant/sensor/kettle_power/state", b"1.5")
            shown = run(look, folder, broker)
            assert "detach/kitchen/availability online" in shown
            assert "detach/kitchen/state" in shown

            def answered() -> bool:
                body = json.loads(house.last("detach/kitchen/state") or b"{}")
                return bool(body.get("live_percent") == 100)

            wait_for(answered, "three live sensors", 20)
            sent = run(blocks(PRIVACY, "sh")[0], folder, broker)
        finally:
            out, _ = ended(process)
        wait_for(lambda: house.last("detach/kitchen/availability") == b"offline", "offline")
    topics = {line.split(" ", 1)[0] for line in sent.splitlines() if line.startswith("detach/")}
    assert topics == {"detach/kitchen/state", "detach/kitchen/availability"}
    others = {t for t, _, _ in house.seen if t.startswith("homeassistant/") and "state" not in t}
    assert all(re.fullmatch(r"homeassistant/\w+/detach_kitchen/\w+/config", t) for t in others)
    assert {"decision", "abstention"} >= {json.loads(x)["outcome"] for x in out.splitlines()}
    entity = re.search(r"entity_id: (\S+)", PAGE.read_text())
    assert entity is not None
    assert "cook" in entity[1]


def test_the_page_records(folder: Path, broker: Mosquitto) -> None:
    (command,) = [c for c in blocks(PAGE, "sh") if c.startswith("detach record")]
    process = started(command, folder)
    try:
        with watcher(broker.port, **LOGIN) as house:
            wait_for(lambda: list((folder / "DATA").glob(".*/journal.json")), "the recorder", 60)

            def written() -> bool:
                house.send("zigbee2mqtt/fridge door", b'{"contact": false}')
                rows = (folder / "DATA").glob(".*/sensors/fridge_door.csv")
                return any(len(path.read_bytes()) > 20 for path in rows)

            wait_for(written, "rows")
    finally:
        ended(process)
    assert list((folder / "DATA").glob("kitchen-*/recording.json"))


def test_the_yaml_of_the_page_is_read(folder: Path) -> None:
    first, second = (b for b in blocks(PAGE, "yaml") if b.startswith("schema"))
    (folder / "live.yaml").write_text(first)
    assert set(read_config(folder / "live.yaml").sensors) == set(SENSORS)
    (folder / "live.yaml").write_text(second)
    assert len(tracks_of(read_config(folder / "live.yaml"))) == 2


def test_the_unit_shuts_the_program_in() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names are exact
    parser.read(UNIT)
    service = parser["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 10
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateDevices", "DynamicUser"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["IPAddressDeny"] == "any"
    words = shlex.split(service["ExecStart"])
    assert words[1:4] == ["live", "/etc/detach/home.detach", "--config"]
    if shutil.which("systemd-analyze") is None:
        return
    text = UNIT.read_text().replace("/usr/local/lib/detach/bin/detach", "/bin/true")
    copy = Path(os.environ.get("TMPDIR", "/tmp")) / f"detach-{os.getpid()}.service"  # noqa: S108
    try:
        copy.write_text(text)
        done = subprocess.run(  # noqa: S603 -- our own file
            ["systemd-analyze", "verify", str(copy)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Unknown" not in done.stderr
        assert done.returncode == 0, done.stderr
    finally:
        copy.unlink(missing_ok=True)
