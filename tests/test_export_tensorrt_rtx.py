"""NVIDIA's own parser and builder must take every graph, for GPUs that are not here.

They come from PyPI; `.ci/run` installs them:
pip install --no-deps onnxruntime-ep-nv-tensorrt-rtx-cu13 tensorrt-rtx-cu13-bindings==1.7.1.116
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .export_runs import exported  # type: ignore[import-not-found]
from .tensorrt_rtx_build import missing  # type: ignore[import-not-found]

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"TensorRT-RTX: {missing()}")

PROGRAM = Path(__file__).with_name("tensorrt_rtx_build.py")
VIDEO = [f"{name}.{p}" for name in ("video_spatial", "video_temporal") for p in ("fp32", "fp16")]
GRAPHS = ["sensor.fp32", "sensor.fp16", *VIDEO, "video_spatial.int8", "video_temporal.int8"]
CASES = [
    *(("recommended", key, capability) for key in GRAPHS for capability in ("SM86", "SM89")),
    ("authors-code", "sensor.fp16", "SM86"),
    ("authors-code", "video_spatial.fp16", "SM86"),
    ("authors-code", "video_temporal.fp16", "SM86"),
    ("global", "sensor.fp16", "SM86"),
    ("global", "video_temporal.fp16", "SM86"),
    ("supervised", "sensor.fp16", "SM86"),
]
LONGEST_S, LARGEST_MB = 30, 600


def build(model: bytes, capability: str, folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    (folder / "graph.onnx").write_bytes(model)
    command = [sys.executable, str(PROGRAM), str(folder / "graph.onnx"), capability]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("variant", "key", "capability"), CASES)
def test_the_graph_parses_and_builds(
    tiny_dataset: Path, tmp_path: Path, variant: str, key: str, capability: str
) -> None:
    name, _, precision = key.partition(".")
    model = exported(tiny_dataset, variant).bundle.graph(name, precision)
    built = build(model, capability, tmp_path)
    assert built["errors"] == []
    assert built["engine_bytes"] > 0
    assert built["seconds"] <= LONGEST_S
    assert built["peak_mb"] <= LARGEST_MB


def test_a_damaged_graph_does_not_parse(tiny_dataset: Path, tmp_path: Path) -> None:
    model = exported(tiny_dataset, "recommended").bundle.graph("sensor", "fp32")
    assert build(model[: len(model) // 2], "SM86", tmp_path)["errors"]
