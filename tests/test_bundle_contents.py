"""Members of a bundle that are whole by themselves and are not what a bundle is made of."""

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, load_from_string, numpy_helper
from safetensors.numpy import load, save

from detach.edge import manifest as manifests
from detach.edge import onnx_walk
from detach.edge.bundle import GOLDEN_FILE, open_bundle
from detach.edge.onnx_walk import facts_of
from detach.errors import DataError

from .edge_bundles import (  # type: ignore[import-not-found]
    tiny_graphs,
    tiny_manifest,
    tiny_members,
)
from .spoiled_bundles import (  # type: ignore[import-not-found]
    Change,
    members_in,
    nothing,
    put,
    refused,
    resealed,
    whole_bundle,
)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(whole_bundle(tmp_path_factory.mktemp("bundle")))


def test_resealing_alone_spoils_nothing(intact: Path, tmp_path: Path) -> None:
    assert open_bundle(put(tmp_path, resealed(intact, nothing))).manifest.classes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(schema=1), "schema must be 2, found 1; export the run again"),
        (lambda m: m.update(schema=True), "schema must be 2, found True"),
        (lambda m: m.pop("schema"), "schema must be 2, found None"),
        (lambda m: m["classes"].pop(), "graphs.sensor.fp32.outputs.logits must be [N, 4]"),
        (lambda m: m["classes"].append("idle"), "classes must be named differently"),
        (lambda m: m.update(classes=[]), "with logits if and only if classes are"),
        (lambda m: m.update(classes=["one"]), "classes must be none or at least 2"),
        (lambda m: m.update(track=None), "track must be named where there are classes"),
        (lambda m: m.update(places=7), "outputs.places must be [N, 7]"),
        (lambda m: m.update(places=0), "outputs.places must be [N, 0]"),
        (lambda m: m["channels"].pop(), "graphs.sensor.fp32.inputs must be"),
        (lambda m: m["channels"][0].update(name="other"), "channels[0].name must be 'sensor0'"),
        (
            lambda m: m["channels"][0].update(name="../pin", sensor="../pin"),
            "channels[0].sensor must be without / and \\, nor . in front, found '../pin'",
        ),
        (
            lambda m: m["channels"][0].update(name="a\\b", sensor="a\\b"),
            "channels[0].sensor must be",
        ),
        (lambda m: m["channels"][0].update(name=".x", sensor=".x"), "channels[0].sensor must be"),
        (lambda m: m["channels"][0].update(std=-1), "channels[0].std must be >= 0, found -1"),
        (lambda m: m["channels"][0].update(mean=float("nan")), "NaN is no number"),
        (lambda m: m["channels"][0].update(std=float("inf")), "Infinity is no number"),
        (lambda m: m["channels"][0].update(mean=1e300), "channels[0].mean must be a finite number"),
        (
            lambda m: m["channels"][0].update(kind="camera"),
            "channels[0].kind must be one of switch",
        ),
        (lambda m: m["channels"][1].update(hz=0), "channels[1].hz must be null or in"),
        (lambda m: m["channels"][1].update(max_gap_s=-1), "channels[1].max_gap_s must be >= 0"),
        (lambda m: m["window"].update(samples=9), "window.samples must be seconds x rate_hz = 8"),
        (lambda m: m["window"].update(hop_s=0), "window.hop_s must be in [0.05, 2.0]"),
        (
            lambda m: m["thresholds"].update(confidence=1.1),
            "thresholds.confidence must be in [0, 1]",
        ),
        (
            lambda m: m["thresholds"]["basis"].update(right=1.1),
            "thresholds.basis.right must be in [0, 1], found 1.1",
        ),
        (
            lambda m: m["thresholds"]["basis"].update(windows=0),
            "thresholds.basis.windows must be >= 1, found 0",
        ),
        (lambda m: m["normalise"].update(clip=0), "normalise.clip must be > 0"),
        (lambda m: m["normalise"].update(zscore="none"), "normalise.zscore must be one of plain, "),
        (lambda m: m.update(model="A" * 64), "model must be a sha256"),
        (lambda m: m.update(created_utc="yesterday"), "created_utc must be a time like"),
        (lambda m: m.update(licence=""), "licence must be not empty"),
        (lambda m: m.update(dataset="a\n\x1b[2J"), "dataset must be at most"),
        (lambda m: m.update(video=None), "video must be there if and only if a video graph is"),
        (lambda m: m["video"].update(frames=4), "graphs.video_temporal.fp32.inputs must be"),
        (lambda m: m["video"].update(size_px=[8]), "video.size_px must be a list of 2"),
        (lambda m: m["graphs"].pop("video_temporal.fp16"), "onnx' is not in the manifest"),
        (
            lambda m: m["graphs"]["sensor.fp32"].update(sha256="0" * 64),
            "is not what the manifest's",
        ),
        (lambda m: m["graphs"]["sensor.fp32"].update(bytes=1), "but 1 in the manifest"),
        (lambda m: m["graphs"]["sensor.fp32"].update(nodes=1), "its nodes are "),
        (lambda m: m["graphs"]["sensor.fp32"].update(opset=17), "its opset are 18, but 17"),
        (lambda m: m["graphs"]["sensor.fp32"].update(opset=23), "opset must be 13 to 20, found 23"),
        (lambda m: m["graphs"]["sensor.fp32"].update(ir_version=11), "ir_version must be 7 to 10"),
        (
            lambda m: m["graphs"]["sensor.fp32"].update(file="../x"),
            "graphs.sensor.fp32.file must be",
        ),
        (lambda m: m["graphs"].update({"sensor.int8": m["graphs"]["sensor.fp32"]}), "a known one"),
        (
            lambda m: m["graphs"].update({"x.y": m["graphs"]["sensor.fp32"]}),
            "graphs.x.y must be a kn",
        ),
        (lambda m: m.update(golden_sha256="0" * 64), "'golden.safetensors' is not what"),
        (lambda m: m.update(extra=1), "extra is no known field"),
        (lambda m: m["video"].update(flow={"algorithm": "dis"}), "video.flow.preset is missing"),
    ],
)
def test_a_manifest_at_odds(intact: Path, tmp_path: Path, change: Change, said: str) -> None:
    refused(intact, tmp_path, resealed(intact, change), said)


def spoiled_graph(change: Callable[[Any], object]) -> bytes:
    model = load_from_string(tiny_graphs()["sensor"].SerializeToString())
    change(model)
    return bytes(model.SerializeToString())


def make_external(tensor: Any) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def hide_external_in_a_branch(model: Any) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    make_external(tensor)
    output = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [2])
    branch = helper.make_graph([], "branch", [], [output], [tensor])
    node = helper.make_node("If", ["all"], ["z"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def hide_external_in_an_attribute(model: Any) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "hidden")
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["z"], value=tensor))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: make_external(m.graph.initializer[0]), "weights lie in another file"),
        (hide_external_in_a_branch, "weights lie in another file"),
        (hide_external_in_an_attribute, "weights lie in another file"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.evil"), "uses operators of 'com.evil'"),
        (lambda m: m.functions.add(name="f"), "functions of its own"),
        (lambda m: m.training_info.add(), "training information"),
        (lambda m: m.ClearField("graph"), "one graph and one opset"),
        (lambda m: m.ClearField("opset_import"), "one graph and one opset"),
        (lambda m: setattr(m, "ir_version", 9), "its ir_version are 9, but 10"),
        (lambda m: setattr(m.graph.input[0], "name", "data"), "its inputs are {'data'"),
        (
            lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.FLOAT16),
            "'logits' is not a tensor of float32",
        ),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1),
            "its inputs are {'samples': (1, 8, 3)}",
        ),
        (lambda m: m.graph.output.pop(), "its outputs are"),
    ],
)
def test_a_graph_that_is_something_else(
    intact: Path, tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    raw = resealed(intact, nothing, sensor__fp32__onnx=spoiled_graph(change))
    refused(intact, tmp_path, raw, said)


@pytest.mark.parametrize("raw", [b"", b"\xff" * 40, b"PK\3\4", b"\x08\x0a\x3a\xff\xff\xff\x7f"])
def test_what_is_no_graph(intact: Path, tmp_path: Path, raw: bytes) -> None:
    refused(intact, tmp_path, resealed(intact, nothing, sensor__fp32__onnx=raw), "")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_walk_ends_well_or_says_why(data: st.DataObject) -> None:
    raw = bytearray(tiny_graphs()["sensor"].SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        facts_of(bytes(raw))


def test_a_graph_of_a_million_empty_fields_is_not_walked_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_walk, "MOST_FIELDS", 1000)
    with pytest.raises(ValueError, match="more than 1000 fields"):
        facts_of(b"\x10\x01" * 2000)


def deep_graph(depth: int) -> bytes:
    field = b""
    for _ in range(depth):  # graph { node { attribute { g: ... } } }
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            field = tag + varint(len(field)) + field
    opset = b"\x42\x02\x10\x12"
    return opset + b"\x3a" + varint(len(field)) + field


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_graphs_within_graphs_end_somewhere() -> None:
    with pytest.raises(ValueError, match="8 deep"):
        facts_of(deep_graph(200))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g.pop("logits"), "must hold"),
        (lambda g: g.update(extra=np.zeros(2, np.float32)), "must hold"),
        (
            lambda g: g.update(samples=g["samples"][:3]),
            "'samples' must be float32 (4, 8, 3), found",
        ),
        (lambda g: g.update(samples=g["samples"].astype(np.float64)), "found float64"),
        (lambda g: g["samples"].__setitem__((0, 0, 0), np.nan), "'samples' must be finite"),
        (lambda g: g["logits"].__setitem__((3, 0), np.inf), "'logits' must be finite"),
    ],
)
def test_golden_windows_that_are_something_else(
    intact: Path, tmp_path: Path, change: Change, said: str
) -> None:
    golden = {name: value.copy() for name, value in load(members_in(intact)[GOLDEN_FILE]).items()}
    change(golden)
    refused(intact, tmp_path, resealed(intact, nothing, golden__safetensors=save(golden)), said)


@pytest.mark.parametrize(
    "raw", [b"", b"\xff" * 64, struct.pack("<Q", 1 << 62) + b"{}", struct.pack("<Q", 2) + b"{}"]
)
def test_golden_windows_that_are_no_safetensors(intact: Path, tmp_path: Path, raw: bytes) -> None:
    spoiled = resealed(intact, nothing, golden__safetensors=raw)
    refused(intact, tmp_path, spoiled, GOLDEN_FILE)


# The manifest by itself.


def paths_in(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every field of parsed JSON, at any depth."""
    if isinstance(value, dict):
        entries = list(value.items())
    else:
        entries = list(enumerate(value)) if isinstance(value, list) else []
    found = [(*before, key) for key, _ in entries]
    return found + [path for key, item in entries for path in paths_in(item, (*before, key))]


def whole_manifest() -> dict[str, Any]:
    infos, _ = tiny_members(tiny_graphs(video=True))
    body: dict[str, Any] = json.loads(manifests.dump(tiny_manifest(infos)))
    return body


PATHS = paths_in(whole_manifest())
FIELDS = [path for path in PATHS if isinstance(path[-1], str) and "inputs" not in path]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def at(body: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        body = body[key]
    return body


def test_the_manifest_of_the_tests_is_accepted() -> None:
    assert manifests.parse(json.dumps(whole_manifest()).encode(), "x").places == 3


@pytest.mark.parametrize("path", FIELDS, ids=lambda p: ".".join(map(str, p)))
def test_every_field_has_a_type_and_is_needed(path: tuple[Any, ...]) -> None:
    body = whole_manifest()
    at(body, path)[path[-1]] = [{"junk": [1]}]
    with pytest.raises(DataError, match=r"^here: ") as caught:
        manifests.parse(json.dumps(body).encode(), "here")
    assert str(path[-1]) in str(caught.value)
    if path[-2:-1] in {("parity",), ("graphs",), ("outputs",)}:
        return
    body = whole_manifest()
    del at(body, path)[path[-1]]
    with pytest.raises(DataError, match=str(path[-1])):
        manifests.parse(json.dumps(body).encode(), "here")


@settings(max_examples=200, deadline=None)
@given(path=st.sampled_from(PATHS), junk=JUNK)
def test_junk_in_any_field_is_refused_or_is_no_junk(path: tuple[Any, ...], junk: Any) -> None:
    body = whole_manifest()
    at(body, path)[path[-1]] = junk
    with contextlib.suppress(DataError):
        found = manifests.parse(json.dumps(body).encode(), "here")
        assert manifests.parse(manifests.dump(found), "here") == found


@settings(max_examples=100, deadline=None)
@given(
    raw=st.binary(max_size=200) | st.text().map(str.encode) | JUNK.map(json.dumps).map(str.encode)
)
def test_what_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(DataError):
        manifests.parse(raw, "here")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"schema": 1, "schema": 1}', "'schema' stands there twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff{}", "not UTF-8 at byte 0"),
        (b"{", "not JSON at line 1"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "4300"),
    ],
)
def test_json_with_tricks(raw: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        manifests.parse(raw, "here")
