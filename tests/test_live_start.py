"""`detach live` as a whole process: lines in, lines out; what it opens, and whom it tells."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detach.data import video
from detach.edge.live.config import read_config
from detach.edge.live.metrics import prometheus
from detach.edge.live.service import notify
from detach.edge.live.start import LiveOptions, run_live
from detach.edge.manifest import Channel
from detach.errors import DataError, UsageError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .live_home import wait_for  # type: ignore[import-not-found]

CONFIG = """
schema: 1
name: kitchen
lines: true
sensors:
  sensor0: {topic: zigbee2mqtt/door one, field: contact}
  sensor1: {topic: t/1}
  sensor2: {topic: t/2}
"""
PROGRAM = """
import sys
from pathlib import Path
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], str) and args[0].startswith("/dev/"):
        opened.append(args[0])
    if event in ("socket.connect", "socket.bind"):
        opened.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        opened.append(str(args[0]))
sys.addaudithook(hook)
from detach.edge.live.start import LiveOptions, run_live
options = LiveOptions(metrics=Path(sys.argv[3]) if len(sys.argv) > 3 else None)
write = lambda line: print(line, flush=True)
run_live(Path(sys.argv[1]), Path(sys.argv[2]), options=options, write=write,
         say=lambda text: print(text, file=sys.stderr, flush=True))
heavy = {"torch", "sklearn", "cv2", "matplotlib"} & set(sys.modules)
print("opened", sorted(set(opened) - {"/dev/null"}), sorted(heavy), file=sys.stderr)
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    config = tmp_path / "live.yaml"
    config.write_text(CONFIG)
    bundle: Path = write_tiny(tmp_path / "tiny.detach", video=True)
    return bundle, config


def started(*words: Path, **more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 -- our own program
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **more},
    )


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def test_lines_become_decisions_and_nothing_else_is_opened(
    files: tuple[Path, Path], tmp_path: Path, told: socket.socket
) -> None:
    metrics = tmp_path / "detach.prom"
    process = started(*files, metrics, NOTIFY_SOCKET=str(tmp_path / "notify"))
    assert process.stdin is not None
    assert told.recv(100) == b"READY=1"
    began = time.monotonic()
    while time.monotonic() - began < 4.5:
        lines = b'1 zigbee2mqtt/door one {"contact": true}\n2 t/1 0.5\n'
        process.stdin.write(lines + b'{"topic": "t/2", "payload": 3}\nnonsense\n')
        process.stdin.flush()
        time.sleep(0.2)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said.decode()
    found = [json.loads(line) for line in out.splitlines()]
    assert [body["number"] for body in found] == list(range(len(found)))
    assert found[-1]["outcome"] in {"decision", "abstention"}
    assert found[-1]["live_share"] == 1.0
    assert abs(found[-1]["end"] - time.time()) < 20
    assert found[-1]["lag_s"] < 1.0
    assert told.recv(100) == b"WATCHDOG=1"
    last = said.decode().splitlines()[-1]
    # The metrics file alone: no camera though the bundle knows pictures, and no connection.
    part = metrics.with_name(f".detach.prom.{process.pid}.part")
    assert last == f"opened ['{part}'] []"
    text = metrics.read_text()
    assert 'detach_payload_unknown_topic_total{instance_name="kitchen"}' in text
    assert "# TYPE detach_lag_p95_s gauge" in text


def test_a_signal_ends_it_in_good_order(
    files: tuple[Path, Path], tmp_path: Path, told: socket.socket
) -> None:
    process = started(*files, NOTIFY_SOCKET=str(tmp_path / "notify"))
    assert told.recv(100) == b"READY=1"
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: process.poll() is not None, "the end", 10)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    while told.recv(100) != b"STOPPING=1":  # or time runs out
        pass


def test_a_camera_adds_what_it_sees(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, config = files
    monkeypatch.setattr(sys.modules[write_tiny.__module__], "SIZE_PX", (16, 16))
    bundle = write_tiny(tmp_path / "seeing.detach", video=True)
    film = tmp_path / "film.mp4"
    video.write(film, (np.full((64, 64, 3), i % 200, np.uint8) for i in range(200)), 20.0)
    config.write_text(f"{CONFIG}camera: {{source: {film}, fps: 20}}\n")
    process = started(bundle, config)
    assert process.stdin is not None
    began = time.monotonic()
    while time.monotonic() - began < 9:
        process.stdin.write(b'1 zigbee2mqtt/door one {"contact": true}\n2 t/1 0.5\n3 t/2 1\n')
        process.stdin.flush()
        time.sleep(0.2)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said.decode()
    found = [json.loads(line) for line in out.splitlines()]
    assert any("agreement" in body for body in found), (found, said)


def test_files_that_do_not_fit_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, config = files
    config.write_text(CONFIG.replace("sensor", "thing").replace("things:", "sensors:"))
    with pytest.raises(DataError, match="none of its sensors"):
        run_live(bundle, config, write=print, say=print)
    blind = write_tiny(tmp_path / "blind.detach")
    config.write_text(f"{CONFIG}camera: {{source: /dev/video0}}\n")
    with pytest.raises(DataError, match="no video graphs"):
        run_live(blind, config, write=print, say=print)


def test_without_a_configuration_it_says_what_one_needs(tmp_path: Path) -> None:
    channels = tuple(
        Channel(
            name=f"{sensor}.{axis}", sensor=sensor, axis=axis, kind=kind, unit=unit, hz=hz,
            mean=0.0, std=1.0, max_gap_s=1.0,
        )
        for sensor, axis, kind, unit, hz in (
            ("hall: door", "value", "switch", "", None),
            ("fridge", "x", "acceleration", "mg", 30.0),
            ("fridge", "y", "acceleration", "mg", 30.0),
        )
    )  # fmt: skip
    bundle = write_tiny(tmp_path / "tiny.detach", channels=channels)
    with pytest.raises(UsageError, match="give a configuration") as error:
        run_live(bundle, None, write=print, say=print)
    text = str(error.value).partition("topics:\n")[2]
    assert text.endswith("{x: x, y: y}}  # acceleration in mg, 30 a second")
    (tmp_path / "live.yaml").write_text(f"schema: 1\nname: k\nlines: true\n{text}\n")
    assert set(read_config(tmp_path / "live.yaml").sensors) == {"hall: door", "fridge"}
    options = LiveOptions(replay=tmp_path)
    with pytest.raises(UsageError, match="not both"):
        run_live(bundle, tmp_path / "live.yaml", options=options, write=print, say=print)
    options = LiveOptions(port=8080)
    with pytest.raises(UsageError, match="write page.port into .*live.yaml instead"):
        run_live(bundle, tmp_path / "live.yaml", options=options, write=print, say=print)


def test_nobody_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    assert not notify("READY=1")


def test_metrics_are_text_that_prometheus_reads() -> None:
    text = prometheus({"online": True, "decisions": 3, "lag_p95_s": 0.25}, "home")
    assert text.splitlines() == [
        "# TYPE detach_online gauge",
        'detach_online{instance_name="home"} 1',
        "# TYPE detach_decisions_total counter",
        'detach_decisions_total{instance_name="home"} 3',
        "# TYPE detach_lag_p95_s gauge",
        'detach_lag_p95_s{instance_name="home"} 0.25',
    ]
