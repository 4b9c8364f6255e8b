"""What a stranger's bytes are read by: each target answers any, or refuses in words.

`fuzz.py` feeds them; what was ever found stands under found/TARGET and is tried by test_fuzz.py.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from detach import recipes
from detach.data.recording import read_dataset, read_recording
from detach.data.tables import read_intervals, read_times
from detach.edge.bundle import MANIFEST_FILE, open_bundle
from detach.edge.live.config import SensorSource, read_config
from detach.edge.live.lines import parse_line
from detach.edge.live.payloads import PayloadError, is_online, read_payload
from detach.edge.manifest import parse
from detach.edge.onnx_walk import facts_of
from detach.edge.stored_zip import read_member
from detach.errors import DetachError

ROOT = Path(__file__).parents[1]
SAMPLE, BUNDLE = ROOT / "models/sample", ROOT / "models/home.detach"
LONGEST = 2000
"""Characters of a message."""

Target = Callable[[bytes], None]
Work = tempfile.TemporaryDirectory(prefix="detach-fuzz-")
WORK = Path(Work.name)

SOURCES = [
    SensorSource(topic="door"),
    SensorSource(topic="door", field="contact", invert=True),
    SensorSource(topic="motion", field="a.b", active=("x", "none"), mode="pulse"),
    SensorSource(topic="shaker", fields={"x": "x", "y": "y.z"}, stamp="last_seen", clock="offset"),
]
LIVE = """schema: 1
name: kitchen
mqtt: {host: 192.168.1.10, username: detach, password_env: HOME_PASSWORD, tls: {ca: ca.crt}}
sensors:
  fridge: {topic: zigbee2mqtt/fridge door, field: contact, active: off}
  shaker: {topic: shaker, fields: {x: x_axis}, stamp: last_seen, clock: offset}
decide: {windows: 3}
publish: {every_s: 60}
camera: {source: "rtsp://10.0.0.2/film"}
page: {listen: 127.0.0.1}
"""


def answered(read: Callable[[], object], refusals: type[Exception] = DetachError) -> None:
    """Reads; a refusal must be one short line."""
    said = "well"
    try:
        read()
    except refusals as error:
        said = str(error)
    assert said
    assert "\n" not in said, said
    assert len(said) <= LONGEST, said


def written(data: bytes, name: str) -> Path:
    path = WORK / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def manifest(data: bytes) -> None:
    answered(lambda: parse(data, "home.detach: manifest.json"))


def bundle(data: bytes) -> None:
    answered(lambda: open_bundle(written(data, "home.detach")))


def graph(data: bytes) -> None:
    answered(lambda: facts_of(data), ValueError)


def recording(data: bytes) -> None:
    for folder, file in (("recording", "recording.json"), ("dataset", "dataset.json")):
        path = written(data, f"{folder}/{file}")
        read = read_recording if folder == "recording" else read_dataset
        answered(lambda path=path, read=read: read(path.parent))  # type: ignore[misc]


def sensor(data: bytes) -> None:
    path = written(data, "sensor.csv")
    columns = data.partition(b"\n")[0].decode(errors="replace").strip().split(",")
    answered(lambda: read_times(path, columns))
    answered(lambda: read_intervals(path))


def payload(data: bytes) -> None:
    binary = data[:1] < b"@"
    for source in SOURCES:
        answered(lambda source=source: read_payload(data, source, binary=binary), PayloadError)  # type: ignore[misc]
    answered(lambda: is_online(data), PayloadError)
    parse_line(data, ("fridge door", "door"))


def yaml(data: bytes) -> None:
    path = written(data, "any.yaml")
    answered(lambda: recipes.read(path))
    answered(lambda: read_config(path))


TARGETS: dict[str, Target] = {
    f.__name__: f for f in (manifest, bundle, graph, recording, sensor, payload, yaml)
}


def seeds(name: str) -> list[bytes]:
    """Intact ones, or parts of them, to begin with."""
    return list(SEEDS[name]())


def manifests() -> Iterator[bytes]:
    with BUNDLE.open("rb") as file:
        yield read_member(file, open_bundle(BUNDLE).members[MANIFEST_FILE])


def bundles() -> Iterator[bytes]:
    whole = BUNDLE.read_bytes()
    yield from (whole[:4096], whole[-4096:])


def graphs() -> Iterator[bytes]:
    yield open_bundle(BUNDLE).graph("sensor", "fp32")[:8192]


def recordings() -> Iterator[bytes]:
    yield (SAMPLE / "dataset.json").read_bytes()
    yield (SAMPLE / "run01/recording.json").read_bytes()


def sensors() -> Iterator[bytes]:
    for path in sorted((SAMPLE / "run01").rglob("*.csv"))[::8]:
        yield path.read_bytes()[:400]
    yield b't_s,x,y\n0.0,1,\n0.1,,-inf\n0.2,nan,"2"\n'


def payloads() -> Iterator[bytes]:
    yield from (b"on", b"21.5", b'{"contact": true, "last_seen": "2026-01-31T12:00:00Z"}')
    yield b"0 fridge door OFF"
    yield json.dumps({"topic": "door", "payload": {"x": [1, 2], "y": {"z": [3, 4]}}}).encode()


def yamls() -> Iterator[bytes]:
    yield LIVE.encode()
    yield (ROOT / "models/small.yaml").read_bytes()


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "manifest": manifests,
    "bundle": bundles,
    "graph": graphs,
    "recording": recordings,
    "sensor": sensors,
    "payload": payloads,
    "yaml": yamls,
}
