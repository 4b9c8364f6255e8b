"""manifest.json: what a bundle says of itself, and the rules that hold between its parts.

N windows, T samples on the grid, C channels, L classes, K places, F frames, H W and h w pixels.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from detach.config import Method, Preset
from detach.data.recording import SENSOR_KINDS
from detach.edge.checked_json import decode, read
from detach.errors import DataError

SCHEMA = 2

GraphName = Literal["sensor", "video_spatial", "video_temporal"]
Precision = Literal["fp32", "fp16", "int8"]
Shape = tuple[int | None, ...]
"""Of a graph's input or output; the first entry is null and stands for N."""

GRAPHS: dict[str, tuple[str, ...]] = {
    "sensor": ("fp32", "fp16"),
    "video_spatial": ("fp32", "fp16", "int8"),
    "video_temporal": ("fp32", "fp16", "int8"),
}
"""All graphs there can be, with the precisions each may have. The sensor graph has no int8."""
OPSETS = range(13, 21)
"""What TensorRT 10.3 reads; 18 is what is written."""
IR_VERSIONS = range(7, 11)
"""What ONNX Runtime 1.19 reads."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """How the stream is cut."""

    seconds: float
    hop_s: float
    rate_hz: float
    samples: int
    """T, points of the grid in a window, before the graph resizes them."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One column of the samples: an axis of a sensor."""

    name: str
    """``sensor`` or ``sensor.axis``."""
    sensor: str
    axis: str
    kind: str
    unit: str
    hz: float | None
    """Nominal rate; None is a sensor that reports changes."""
    mean: float
    std: float
    max_gap_s: float
    policy: Literal["hold", "mask", "drop"] | None = None
    """See `detach.config.SensorConfig.policy`; None, absent in the file, is the usual."""
    resync_s: float | None = None
    """A clock that steps back, or forward by more, was set; None, absent too, believes it."""

    @property
    def binary(self) -> bool:
        """Whether its values are 0 and 1."""
        return self.kind in {"switch", "motion"}


@dataclass(frozen=True, kw_only=True)
class Normalise:
    """As `detach.config.SensorConfig` has it."""

    zscore: Literal["plain", "keep-zero", "binary-unscaled"]
    std_floor: float
    clip: float


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a confidence was chosen on: labelled windows that the head was not fitted to."""

    least_right: float
    """Share of the answers that had to be right."""
    right: float
    """Share that is; classes that are no event, as "nothing", are no answers."""
    found: float
    """Share of the windows in which something goes on that are answered, rightly."""
    windows: int
    recordings: int


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Below either, the answer is "unknown"."""

    confidence: float
    live_share: float
    basis: Basis | None
    """Of ``confidence``; None where it was chosen on nothing."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Optical flow as it was in training."""

    algorithm: str
    preset: str
    step: float
    """Pixels of one step of the stored flow."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """How pictures become the video graphs' inputs."""

    size_px: tuple[int, int]
    """H and W."""
    fit: Literal["keep", "crop"]
    frames: int
    average: Literal["pixels", "features"]
    motion_px: tuple[int, int]
    """h and w of the shrunk frames."""
    flow: Flow | None
    opencv: str


@dataclass(frozen=True, kw_only=True)
class Versions:
    """What exported the bundle."""

    detach: str
    torch: str
    onnx: str
    onnxruntime: str
    onnxscript: str


@dataclass(frozen=True, kw_only=True)
class GraphInfo:
    """One ONNX file. `detach.edge.bundle.write_bundle` fills in ``sha256`` and ``bytes``."""

    file: str
    precision: Precision
    sha256: str
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    opset: int
    ir_version: int
    nodes: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole of manifest.json. ``graphs`` is keyed by `graph_key`."""

    schema: int = SCHEMA
    model: str
    """sha256 of RUN/model.safetensors."""
    created_utc: str
    licence: str
    dataset: str
    method: Method
    preset: Preset
    versions: Versions
    window: Window
    channels: tuple[Channel, ...]
    normalise: Normalise
    classes: tuple[str, ...]
    """Empty without a head."""
    track: str | None
    places: int
    """K, or 0."""
    thresholds: Thresholds
    video: Video | None
    graphs: Mapping[str, GraphInfo]
    golden_sha256: str
    parity: Mapping[str, float]
    """What the export's own check found."""

    def precisions(self, name: str) -> tuple[str, ...]:
        """In which precisions the bundle has a graph; none when it lacks it."""
        return tuple(p for p in GRAPHS.get(name, ()) if graph_key(name, p) in self.graphs)

    def shapes(self, name: str) -> tuple[Mapping[str, Shape], Mapping[str, Shape]]:
        """Inputs and outputs of a graph that the bundle has; all its precisions agree."""
        info = self.graphs[graph_key(name, self.precisions(name)[0])]
        return info.inputs, info.outputs


def graph_key(name: str, precision: str) -> str:
    """Key of a graph in `Manifest.graphs`."""
    return f"{name}.{precision}"


def graph_file(name: str, precision: str) -> str:
    """Its member of the bundle."""
    return f"{name}.{precision}.onnx"


def golden_name(graph: str, tensor: str) -> str:
    """What an input or output of a graph is called among the golden windows."""
    return "frames_spatial" if (graph, tensor) == ("video_spatial", "frames") else tensor


def parse(raw: bytes, where: str) -> Manifest:
    """Reads manifest.json.

    Args:
        raw: The file.
        where: What to call it in errors.

    Raises:
        DataError: Another schema, or a field that is missing, unknown, of the wrong type, out of
            its range, or at odds with another one.
    """
    try:
        body = decode(raw)
        _check_schema(body)
        manifest = read(Manifest, body)
        _check(manifest)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    return manifest


def dump(manifest: Manifest) -> bytes:
    """What `parse` reads."""
    body = asdict(manifest)
    for channel in body["channels"]:
        for field in ("policy", "resync_s"):
            if channel[field] is None:  # versions that know no policies read it too
                del channel[field]
    return (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()


Rule = tuple[bool, str, object, str]
"""Whether it holds, the field, what was found and what must be."""


def _check_schema(body: object) -> None:
    found = body.get("schema") if isinstance(body, dict) else None
    if found != SCHEMA or isinstance(found, bool):
        raise ValueError(
            f"schema must be {SCHEMA}, found {repr(found)[:80]}; export the run again, or use "
            "the version of detach that wrote it"
        )


def _check(m: Manifest) -> None:
    for rules in (_about, _window, _channels, _policies, _classes, _video, _graphs):
        for good, field, found, must in rules(m):
            if not good:
                raise ValueError(f"{field} must be {must}, found {repr(found)[:120]}")


def _about(m: Manifest) -> Iterator[Rule]:
    yield _is_sha256(m.model), "model", m.model, "a sha256"
    yield _is_sha256(m.golden_sha256), "golden_sha256", m.golden_sha256, "a sha256"
    utc = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", m.created_utc)
    yield utc is not None, "created_utc", m.created_utc, "a time like 2026-01-31T12:00:00Z"
    yield bool(m.licence), "licence", m.licence, "not empty"
    limits = {f"thresholds.{name}": value for name, value in asdict(m.thresholds).items()}
    basis = limits.pop("thresholds.basis") or {}
    for count in ("windows", "recordings"):
        found = basis.pop(count, 1)
        yield found >= 1, f"thresholds.basis.{count}", found, ">= 1"
    limits |= {f"thresholds.basis.{name}": value for name, value in basis.items()}
    for field, share in limits.items():
        yield 0 <= share <= 1, field, share, "in [0, 1]"
    yield m.normalise.std_floor > 0, "normalise.std_floor", m.normalise.std_floor, "> 0"
    yield m.normalise.clip > 0, "normalise.clip", m.normalise.clip, "> 0"


def _window(m: Manifest) -> Iterator[Rule]:
    w = m.window
    yield 0.1 <= w.seconds <= 600, "window.seconds", w.seconds, "in [0.1, 600]"
    yield 0.05 <= w.hop_s <= w.seconds, "window.hop_s", w.hop_s, f"in [0.05, {w.seconds}]"
    yield 0 < w.rate_hz <= 10_000, "window.rate_hz", w.rate_hz, "in (0, 10000]"
    samples = max(2, round(w.seconds * w.rate_hz))
    yield w.samples == samples, "window.samples", w.samples, f"seconds x rate_hz = {samples}"


def _channels(m: Manifest) -> Iterator[Rule]:
    names = [c.name for c in m.channels]
    yield bool(names), "channels", names, "at least one"
    yield len(set(names)) == len(names), "channels", names, "named differently"
    for i, c in enumerate(m.channels):
        at = f"channels[{i}]"
        named = c.name in {c.sensor, f"{c.sensor}.{c.axis}"}
        yield named and bool(c.sensor), f"{at}.name", c.name, f"{c.sensor!r} or with its axis"
        yield _is_file_name(c.sensor), f"{at}.sensor", c.sensor, "without / and \\, nor . in front"
        yield c.kind in SENSOR_KINDS, f"{at}.kind", c.kind, f"one of {', '.join(SENSOR_KINDS)}"
        yield c.hz is None or 1e-6 < c.hz <= 1e6, f"{at}.hz", c.hz, "null or in (1e-6, 1e6]"
        yield c.std >= 0, f"{at}.std", c.std, ">= 0"
        yield c.max_gap_s >= 0, f"{at}.max_gap_s", c.max_gap_s, ">= 0"


def _policies(m: Manifest) -> Iterator[Rule]:
    first: dict[str, Channel] = {}
    for i, c in enumerate(m.channels):
        at, other = f"channels[{i}]", first.setdefault(c.sensor, c)
        step = c.resync_s is None or (c.hz is not None and c.resync_s >= 0)
        yield step, f"{at}.resync_s", c.resync_s, ">= 0, or null where hz is null"
        yield c.policy == other.policy, f"{at}.policy", c.policy, f"{other.policy} as {other.name}"


def _classes(m: Manifest) -> Iterator[Rule]:
    yield len(m.classes) != 1, "classes", m.classes, "none or at least 2"
    yield len(set(m.classes)) == len(m.classes), "classes", m.classes, "named differently"
    yield all(m.classes), "classes", m.classes, "without an empty name"
    yield not m.classes or m.track is not None, "track", m.track, "named where there are classes"
    yield m.places >= 0, "places", m.places, ">= 0"


def _video(m: Manifest) -> Iterator[Rule]:
    v = m.video
    names = {key.partition(".")[0] for key in m.graphs} - {"sensor"}
    yield (v is not None) == bool(names), "video", v, "there if and only if a video graph is"
    if v is None:
        return
    for field, sides in (("size_px", v.size_px), ("motion_px", v.motion_px)):
        yield all(8 <= n <= 4096 for n in sides), f"video.{field}", sides, "8 to 4096 pixels"
    yield 3 <= v.frames <= 256, "video.frames", v.frames, "in [3, 256]"
    if v.flow is not None:
        yield v.flow.step > 0, "video.flow.step", v.flow.step, "> 0"


def _graphs(m: Manifest) -> Iterator[Rule]:
    yield bool(m.precisions("sensor")), "graphs", list(m.graphs), "at least a sensor graph"
    for key, info in m.graphs.items():
        name, _, precision = key.partition(".")
        known = precision in GRAPHS.get(name, ())
        yield known and info.precision == precision, f"graphs.{key}", info.precision, "a known one"
        yield info.file == graph_file(name, precision), f"graphs.{key}.file", info.file, "its key's"
        yield _is_sha256(info.sha256), f"graphs.{key}.sha256", info.sha256, "a sha256"
        yield info.opset in OPSETS, f"graphs.{key}.opset", info.opset, _span(OPSETS)
        ir_version = info.ir_version
        yield ir_version in IR_VERSIONS, f"graphs.{key}.ir_version", ir_version, _span(IR_VERSIONS)
        yield info.nodes > 0, f"graphs.{key}.nodes", info.nodes, "> 0"
        yield info.bytes > 0, f"graphs.{key}.bytes", info.bytes, "> 0"
        yield from _tensors(m, name, f"graphs.{key}", info)


def _tensors(m: Manifest, name: str, at: str, info: GraphInfo) -> Iterator[Rule]:
    expected = _inputs(m, name)
    yield info.inputs == expected, f"{at}.inputs", info.inputs, str(expected)
    alike = (info.inputs, info.outputs) == m.shapes(name)
    yield alike, f"{at}.outputs", info.outputs, "those of the other precisions"
    yield bool(info.outputs), f"{at}.outputs", info.outputs, "at least one"
    widths = _output_widths(m, name)
    for output, shape in info.outputs.items():
        yield output in widths, f"{at}.outputs", output, f"one of {', '.join(widths)}"
        width = widths[output]
        good = len(shape) == 2 and shape[0] is None and shape[1] is not None and shape[1] > 0
        yield good and width in {None, shape[1]}, f"{at}.outputs.{output}", shape, f"[N, {width}]"
    if name == "sensor":
        named = ("logits" in info.outputs) == bool(m.classes)
        yield named, f"{at}.outputs", list(info.outputs), "with logits if and only if classes are"


def _inputs(m: Manifest, name: str) -> Mapping[str, Shape]:
    if name == "sensor" or m.video is None:
        return {"samples": (None, m.window.samples, len(m.channels))}
    v = m.video
    if name == "video_spatial" and v.average == "pixels":
        return {"pictures": (None, *v.size_px, 3)}
    if name == "video_spatial":
        return {"frames": (None, v.frames, *v.size_px, 3)}
    frames: dict[str, Shape] = {"frames": (None, v.frames, *v.motion_px, 3)}
    flow: dict[str, Shape] = {"flow": (None, v.frames - 1, *v.motion_px, 2)}
    return frames | flow if v.flow is not None else frames


def _output_widths(m: Manifest, name: str) -> dict[str, int | None]:
    """How wide the outputs of a graph are; None where only the graph knows."""
    if name == "sensor":
        return {"logits": len(m.classes) or None, "places": m.places, "embedding": None}
    return {"spatial": None} if name == "video_spatial" else {"temporal": None}


def _is_file_name(sensor: str) -> bool:
    """Sensors are read from SENSOR.csv, which must lie in the folder that the user named."""
    return re.search(r"^\.|[/\\\0]", sensor) is None


def _is_sha256(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def _span(numbers: range) -> str:
    return f"{numbers[0]} to {numbers[-1]}"
