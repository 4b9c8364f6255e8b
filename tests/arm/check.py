"""On the emulated Arm: kernels and runtime against what expect.py worked out. No torch here."""

import importlib.util
import json
import os
import platform
from collections.abc import Mapping
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detach import kernels
from detach.cli import main
from detach.data import video
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.engine import open_engines
from detach.edge.film import FilmReader
from detach.edge.manifest import golden_name
from detach.edge.replay import Options, decisions
from detach.edge.source import open_source

_C = pytest.importorskip("detach._C")
EXPECTED: Mapping[str, NDArray[Any]] = dict(np.load(os.environ["DETACH_ARM_EXPECTED"]))
BUNDLE, RECORDING = map(Path, EXPECTED["paths"].tolist())
PARITY = 1e-6
"""Between the processors; of embeddings and places, which are of length 1, in norm."""
CASES = sorted({int(key.split("/")[1]) for key in EXPECTED if key.startswith("contrast/")})


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(BUNDLE)


def logit_parity() -> float:
    """A logit is a row of the head times the embedding, of which `PARITY` is asked.

    ONNX Runtime adds in another order on each processor, as do two of its releases on one. A
    probability then errs by half as much at most, since p (1 - p) is a quarter and two logits move.
    """
    return PARITY * float(EXPECTED["head/longest_row"])


def expected(prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): x for key, x in EXPECTED.items() if key.startswith(prefix)}


def off(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """Error in norm; absolute below 1e-2, as the tests of the kernels have it."""
    return float(np.linalg.norm(found - truth) / max(float(np.linalg.norm(truth)), 1e-2))


def test_this_is_arm_without_torch() -> None:
    assert platform.machine() == "aarch64"
    assert importlib.util.find_spec("torch") is None
    assert kernels.info()["extension"]
    assert kernels.info()["simd"] == _C.contrast_simd() == "neon"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", [np.float64, np.float32])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_loss_is_what_the_equations_say(case: int, precision: type, threads: int) -> None:
    truth = expected(f"contrast/{case}/")
    tolerance = min(PARITY, float(truth["tolerance"][int(precision is np.float32)]))
    for saved in (True, False):
        found = contrast(truth, precision, threads, saved=saved)
        for name, value in found.items():
            assert np.isfinite(value).all()
            assert off(value, truth[name]) <= tolerance, name


def contrast(
    case: Mapping[str, NDArray[Any]], precision: type, threads: int, *, saved: bool
) -> dict[str, NDArray[Any]]:
    """Loss and gradients of a case by the extension."""
    features: list[NDArray[Any]] = [
        np.ascontiguousarray(case[f"feature{k}"], precision) for k in range(6)
    ]
    n = len(features[0])
    stats = np.full((3, 2, n), -7.0)
    size = _C.contrast_batch_saved_size(n, 0, n)
    memory = np.full(size if saved else 0, np.nan, precision)
    kept = memory.ctypes.data if saved else 0
    masks = [case[k].ctypes.data if k in case else 0 for k in ("dense", "group", "position")]
    temperature, lambda_hard, gate, power, temporal, normalize = case["params"].tolist()
    common: tuple[Any, ...] = (
        tuple(x.ctypes.data for x in features),
        precision is np.float64,
        n,
        tuple(case["widths"].tolist()),
        (temperature, lambda_hard, int(gate), int(power), int(temporal), bool(normalize)),
        (*masks, float(case["reach"])),
        0,
        n,
    )
    _C.contrast_batch(*common, tuple(x.ctypes.data for x in stats), kept, threads)
    upstream = np.full(n, 0.5 / n)
    gradients = [np.zeros_like(x) for x in features[:4]]
    addresses = tuple(x.ctypes.data for x in gradients)
    _C.contrast_batch_gradient(
        *common, stats[1].ctypes.data, upstream.ctypes.data, kept, addresses, threads
    )
    named = dict(zip(("loss", "log_denominator", "mean_weight"), stats, strict=True))
    return named | {f"gradient{k}": x for k, x in enumerate(gradients)}


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int16])
@pytest.mark.parametrize(("length", "columns"), [(1, 3), (2, 40), (60, 34), (101, 7), (1000, 5)])
def test_the_percentile_is_that_of_quantile(kind: type, length: int, columns: int) -> None:
    rng = np.random.default_rng(length)
    x: NDArray[Any] = (100 * rng.normal(size=(3, length, columns))).astype(kind)
    tolerance = {"float16": 1e-3, "float64": 1e-14}.get(x.dtype.name, 3e-7)
    for q, axis, absolute, threads in product((0.0, 0.3, 0.99, 1.0), (1, 2), (False, True), (1, 2)):
        found = kernels.activation_percentile(x, q, axis, absolute=absolute, threads=threads)
        exact = x.astype(np.float64)
        truth = np.quantile(np.abs(exact) if absolute else exact, q, axis)
        np.testing.assert_allclose(found, truth, rtol=tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int16"])
def test_the_percentile_is_that_of_the_other_machine(kind: str) -> None:
    case = expected(f"percentile/{kind}/")
    found = kernels.activation_percentile(case["x"], float(case["q"]), 1, absolute=True)
    np.testing.assert_allclose(found, case["found"], rtol=PARITY, atol=0)


def test_the_percentile_of_nan_is_nan() -> None:
    x = np.random.default_rng(0).normal(size=(5, 60, 34)).astype(np.float32)
    x[1, 7, 3] = x[4, 59, 33] = np.nan
    for q in (0.5, 0.99):
        found = kernels.activation_percentile(x, q, 1)
        assert np.array_equal(np.isnan(found), np.isnan(x).any(axis=1))


def test_a_recording_is_recognised_as_on_the_other_machine(bundle: Bundle) -> None:
    truth, options = expected("run/"), Options(backend="onnxruntime")
    source = open_source(RECORDING, bundle.manifest)
    done = list(decisions(bundle, source, options, lambda _: None))
    assert len(done) == len(truth["label"]) > 50
    samples = np.stack([window.samples for window, _ in done])
    np.testing.assert_allclose(samples, truth["samples"], rtol=0, atol=1e-6)
    assert [str(decision.label) for _, decision in done] == truth["label"].tolist()
    assert [decision.place for _, decision in done] == truth["place"].tolist()
    for name, tolerance in (("place_confidence", PARITY), ("probabilities", logit_parity() / 2)):
        found = np.array([getattr(decision, name) for _, decision in done])
        np.testing.assert_allclose(found, truth[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("graph", ["sensor", "video_spatial", "video_temporal"])
def test_every_graph_gives_what_it_gives_there(bundle: Bundle, graph: str, precision: str) -> None:
    golden = bundle.golden()
    feed = {name: golden[golden_name(graph, name)] for name in bundle.manifest.shapes(graph)[0]}
    engine = open_engines(
        bundle,
        backend="onnxruntime",
        graphs=[graph],
        precision=precision,
        say=lambda _: None,
    )[graph]
    for name, value in engine.run(feed).items():
        truth = EXPECTED[f"golden/{graph}/{name}"]
        error = float(np.linalg.norm(value - truth, axis=1).max())
        allowed = logit_parity() if name == "logits" else PARITY
        half = 1e-2 * max(1.0, float(np.abs(truth).max()))
        assert error <= (half if precision == "fp16" else allowed), name


def test_pictures_are_those_of_the_other_machine(bundle: Bundle) -> None:
    """FFmpeg's conversion of colours rounds otherwise on x86: 2 levels of 255 at most."""
    truth = EXPECTED["film/pictures"]
    film = FilmReader(open_source(RECORDING, bundle.manifest), bundle.manifest)
    inputs = (film.inputs(float(k)) for k in range(len(truth) + 1))
    found = np.stack([x["pictures"][0] for x in inputs if x is not None][: len(truth)])
    assert np.abs(found - truth).max() <= 2.01 / 255


def test_the_camera_sees_the_places(bundle: Bundle) -> None:
    options = Options(backend="onnxruntime", video=True)
    source = open_source(RECORDING, bundle.manifest)
    done = list(islice(decisions(bundle, source, options, lambda _: None), 8))
    seen = [decision for _, decision in done if decision.agreement is not None]
    assert len(seen) >= 6
    assert all(-1 <= float(decision.agreement or 0) <= 1 for decision in seen)


def test_the_command_writes_its_lines_and_a_video(tmp_path: Path) -> None:
    lines, film = tmp_path / "lines.jsonl", tmp_path / "film.mp4"
    sensors = RECORDING / "sensors"
    assert main(["run", str(BUNDLE), str(sensors), "--out", str(lines)]) == 0
    labels = [json.loads(line)["label"] for line in lines.read_text().splitlines()]
    same = np.mean([a == b for a, b in zip(labels, EXPECTED["run/label"].tolist(), strict=False)])
    assert same == 1.0
    pictures = [np.full((32, 48, 3), 20 * i, np.uint8) for i in range(10)]
    assert video.write(film, pictures, 10.0) == 10


def test_a_damaged_bundle_ends_in_exit_code_3(tmp_path: Path) -> None:
    raw = bytearray(BUNDLE.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged = tmp_path / "damaged.detach"
    damaged.write_bytes(raw)
    assert main(["run", str(damaged), str(RECORDING)]) == 3
