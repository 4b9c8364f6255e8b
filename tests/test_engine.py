"""Engines: what goes in and comes out, which one is chosen and what is said of it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import load_from_string
from safetensors.numpy import save

from detach.edge.bundle import GOLDEN_FILE, Bundle, open_bundle
from detach.edge.engine import open_engines
from detach.edge.golden import disagreement
from detach.edge.graph_input import checked
from detach.edge.onnxruntime_engine import OnnxRuntimeEngine
from detach.errors import DataError, MachineError, UsageError

from .edge_bundles import (  # type: ignore[import-not-found]
    CHANNELS,
    SAMPLES,
    golden_of,
    tiny_graphs,
    tiny_members,
    write_tiny,
)

GRAPHS = ("sensor", "video_spatial", "video_temporal")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bundle") / "tiny.detach"
    return open_bundle(write_tiny(path, video=True, precisions=("fp32", "fp16")))


@pytest.fixture(autouse=True)
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without; `test_tensorrt.py` has one."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)


def windows(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    return {"samples": rng.normal(size=(count, SAMPLES, CHANNELS)).astype(np.float32)}


def test_the_golden_windows_come_out_and_a_batch_is_its_windows(bundle: Bundle) -> None:
    engines = open_engines(bundle, graphs=GRAPHS, say=lambda _: None)
    golden = bundle.golden()
    found = engines["video_temporal"].run({"frames": golden["frames"]})
    np.testing.assert_allclose(found["temporal"], golden["temporal"], atol=1e-6)
    for count in (1, 2, 5, 16):
        batch = windows(count)
        together = engines["sensor"].run(batch)
        for i in range(count):
            alone = engines["sensor"].run({"samples": batch["samples"][i : i + 1]})
            for name, value in alone.items():
                np.testing.assert_allclose(together[name][i : i + 1], value, atol=1e-6)
    for engine in engines.values():
        engine.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: {"sample": x}, r"sensor: inputs must be \['samples'\], found \['sample'\]"),
        (lambda x: {"samples": x, "flow": x}, r"found \['flow', 'samples'\]"),
        (lambda x: {"samples": x[:, :, :2]}, r"must be \[N, 8, 3\] with N >= 1, found \[2, 8, 2\]"),
        (lambda x: {"samples": x[:, :7]}, r"found \[2, 7, 3\]"),
        (lambda x: {"samples": x[0]}, r"found \[8, 3\]"),
        (lambda x: {"samples": x[:0]}, r"found \[0, 8, 3\]"),
        (lambda x: {"samples": x.max()}, r"found \[\]"),
        (lambda x: {"samples": np.where(x == x.max(), np.nan, x)}, "must be finite, found NaN"),
        (lambda x: {"samples": np.where(x == x.max(), -np.inf, x)}, "must be finite"),
        (lambda x: {"samples": x.astype(np.float64) * 1e300}, "must be finite"),
        (lambda x: {"samples": x.astype(str)}, "must hold real numbers, found <U"),
        (lambda x: {"samples": x.astype(object)}, "must hold real numbers, found object"),
        (lambda x: {"samples": x + 1j}, "must hold real numbers, found complex"),
    ],
)
def test_inputs_of_another_kind_are_refused(bundle: Bundle, change: Any, said: str) -> None:
    engine = OnnxRuntimeEngine(bundle, "sensor", "fp32", 1)
    with pytest.raises(DataError, match=said) as caught:
        engine.run(change(windows(2)["samples"]))
    assert caught.value.exit_code == 3
    assert engine.run(windows(2))["logits"].shape == (2, 5)


def test_the_memory_layout_and_the_number_type_do_not_matter(bundle: Bundle) -> None:
    engine = OnnxRuntimeEngine(bundle, "sensor", "fp32", 1)
    x = windows(3)["samples"]
    expected = engine.run({"samples": x})["logits"]
    for other in (np.asfortranarray(x), x.astype(np.float64), np.repeat(x, 2, axis=0)[::2]):
        np.testing.assert_array_equal(engine.run({"samples": other})["logits"], expected)


def test_inputs_must_be_equally_many() -> None:
    two = {"frames": np.zeros((2, 3)), "flow": np.zeros((3, 3))}
    with pytest.raises(DataError, match=r"equally many windows, found \{'frames': 2, 'flow': 3\}"):
        checked("video_temporal", two, {"frames": (None, 3), "flow": (None, 3)})


def test_the_choice_and_its_reason_are_said(bundle: Bundle) -> None:
    said: list[str] = []
    engines = open_engines(bundle, graphs=GRAPHS, say=said.append)
    assert said[0].startswith("sensor: ONNX Runtime ")
    assert said[0].endswith("(CPU, 1 thread, fp32), since the sensor graph is fastest on a CPU")
    for line, graph in zip(said[1:], GRAPHS[1:], strict=True):
        assert line.startswith(f"{graph}: ONNX Runtime ")
        assert "; TensorRT is not installed (" in line
    assert engines["sensor"].name in said[0]


def test_what_is_asked_for_is_taken(bundle: Bundle) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"backend": "onnxruntime", "precision": "fp16", "threads": 2}
    open_engines(bundle, say=said.append, **options)
    assert "(CPU, 2 threads, fp16), as --backend onnxruntime asks" in said[0]
    open_engines(bundle, precision="int8", say=said.append)
    assert "fp32" in said[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "cuda"}, "backend must be one of auto, tensorrt, onnxruntime, got 'cuda'"),
        ({"graphs": ("audio",)}, "no graph 'audio'; it has sensor, video_spatial, video_temporal"),
        ({"precision": "fp8"}, "sensor is not there in 'fp8'; it is in fp32, fp16"),
        ({"precision": "int8", "graphs": GRAPHS}, "video_spatial is not there in 'int8'"),
        ({"threads": 0}, "threads must be 1 to 1024, got 0"),
    ],
)
def test_options_that_do_not_exist(bundle: Bundle, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_engines(bundle, say=lambda _: None, **options)


def test_nothing_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="no engine can run it: TensorRT is not installed"):
        open_engines(bundle, backend="tensorrt", say=lambda _: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match="pip install onnxruntime; TensorRT is not") as caught:
        open_engines(bundle, say=lambda _: None)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("output", ["logits", "places", "embedding"])
def test_an_engine_that_computes_something_else_is_not_used(tmp_path: Path, output: str) -> None:
    golden = golden_of(tiny_graphs())
    golden[output] = golden[output].copy()
    golden[output][2] *= np.float32(-1)
    path = write_tiny(tmp_path / "a.detach", members={GOLDEN_FILE: save(golden)})
    said = f"does not repeat the golden windows: {output} is "
    with pytest.raises(DataError, match=said) as caught:
        open_engines(open_bundle(path), say=lambda _: None)
    assert caught.value.exit_code == 3
    whole = open_bundle(write_tiny(tmp_path / "b.detach"))
    assert open_engines(whole, say=lambda _: None)


def test_a_graph_that_the_engine_refuses(tmp_path: Path) -> None:
    graphs = tiny_graphs()
    spoiled = load_from_string(tiny_members(graphs)[1]["sensor.fp32.onnx"])
    spoiled.graph.node[0].op_type = "NoSuchOperator"
    member = {"sensor.fp32.onnx": spoiled.SerializeToString()}
    bundle = open_bundle(write_tiny(tmp_path / "a.detach", members=member))
    with pytest.raises(DataError, match="refuses sensor: .*NoSuchOperator"):
        open_engines(bundle, backend="onnxruntime", say=lambda _: None)


def test_what_counts_as_the_same() -> None:
    truth = {"x": np.array([[3.0, 4.0], [0.0, 10.0]], np.float32)}
    near = {"x": truth["x"] + np.float32(0.005)}
    assert disagreement(near, truth, "fp32") == ""
    assert "x is 0.0" in disagreement({"x": truth["x"] + np.float32(0.02)}, truth, "fp32")
    assert disagreement({"x": truth["x"] + np.float32(0.02)}, truth, "fp16") == ""
    assert "x is not finite" in disagreement({"x": truth["x"] * np.nan}, truth, "int8")
    assert "x must be (2, 2), found None" in disagreement({}, truth, "int8")
    small = {"x": np.array([[1e-3, 0.0]], np.float32)}
    turned = {"x": small["x"][:, ::-1].copy()}
    assert "x has a cosine of 0.0000" in disagreement(turned, small, "int8")


def test_importing_the_engines_loads_nothing_heavy() -> None:
    modules = "bundle, engine, engine_cache, manifest, tensorrt_build, tensorrt_prepare"
    heavy = ("torch", "sklearn", "scipy", "cv2", "onnx", "onnxruntime", "tensorrt", "yaml")
    program = f"import sys\nfrom detach.edge import {modules}\n"
    program += f"print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
