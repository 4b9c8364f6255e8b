"""What detach calls of TensorRT is in every version from 10.3 to 11.

The tests of the engines run on a stand-in that has nothing else than what is called. Here all that
it has is looked up in the real bindings, each version in a process of its own: their classes can be
seen without the libraries below. TensorRT for RTX even builds without a GPU: with it our builder
meets a real parser and optimizer.
"""

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .edge_bundles import tiny_graphs  # type: ignore[import-not-found]
from .fake_gpu import FAKES  # type: ignore[import-not-found]
from .tensorrt_wheels import WHEELS, absent, bindings, stand_ins  # type: ignore[import-not-found]

LOOK = """
import json, os, sys
sys.setdlopenflags(os.RTLD_LAZY)
import tensorrt_bindings as trt
classes = {name: value for name, value in vars(trt).items() if isinstance(value, type)}
found = {n: {a: getattr(kind, a).__doc__ for a in dir(kind)} for n, kind in classes.items()}
print(json.dumps({"version": trt.__version__, "classes": found}))
"""
BUILD = """
import ctypes, sys
from pathlib import Path
for library in sys.argv[3:]:
    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
import tensorrt_rtx_bindings as trt
from detach.edge.tensorrt_build import BuildSettings, build
plan, times = build(trt, Path(sys.argv[1]).read_bytes(), BuildSettings(), None)
Path(sys.argv[2]).write_bytes(plan)
assert times == b""
"""


@cache
def real(version: str) -> dict[str, Any]:
    """Classes of a real version, with the documentation of what they have."""
    paths = os.pathsep.join((str(bindings(version)), *filter(None, sys.path)))
    environment = {**os.environ, "PYTHONPATH": paths, "LD_LIBRARY_PATH": str(stand_ins())}
    command = [sys.executable, "-c", LOOK]
    done = subprocess.run(  # noqa: S603 -- our own program
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["version"] == version
    return found["classes"]  # type: ignore[no-any-return]


def stand_in() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stand_in", FAKES / "tensorrt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public(module: ModuleType) -> list[tuple[str, str, Any]]:
    """(class, name, value) of all that the stand-in has."""
    return [
        (kind.__name__, name, getattr(kind, name))
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
        for name in {*vars(kind), *getattr(kind, "__members__", ())}
        if not name.startswith("_")
    ]


CALLED = public(stand_in())


def test_the_stand_in_has_what_we_call() -> None:
    names = {f"{kind}.{name}" for kind, name, _ in CALLED}
    assert "IExecutionContext.execute_async_v3" in names
    assert "IBuilderConfig.builder_optimization_level" in names
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in names
    assert len(names) > 35


@pytest.mark.parametrize("version", WHEELS)
def test_every_version_has_it(version: str) -> None:
    lacking = [f"{k}.{name}" for k, name, _ in CALLED if name not in real(version).get(k, {})]
    assert lacking == []


@pytest.mark.parametrize("version", WHEELS)
def test_parameters_are_called_the_same(version: str) -> None:
    compared = 0
    for kind, name, value in CALLED:
        written = real(version)[kind][name] or ""
        signatures = re.findall(rf"{name}\((self[^\n]*)\) ->", written)
        if not inspect.isfunction(value) or not signatures:
            continue
        ours = list(inspect.signature(value).parameters)
        theirs = [re.findall(r"(?:^|, )(\w+):", signature) for signature in signatures]
        assert any(ours == other[: len(ours)] for other in theirs), (kind, name, theirs)
        compared += 1
    assert compared > 20


def test_what_version_11_dropped_is_not_called() -> None:
    """The check can fail: these are in 10.3 and were removed."""
    assert "FP16" in real("10.3.0")["BuilderFlag"]
    assert "FP16" not in real("11.4.0.106")["BuilderFlag"]
    assert "EXPLICIT_BATCH" not in real("11.4.0.106")["NetworkDefinitionCreationFlag"]


@pytest.mark.parametrize("graph", ["sensor", "video_temporal"])
def test_a_real_builder_takes_the_graph(graph: str, tmp_path: Path) -> None:
    where = importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx")
    if where is None or importlib.util.find_spec("tensorrt_rtx_bindings") is None:
        absent("TensorRT for RTX is not installed: onnxruntime-ep-nv-tensorrt-rtx-cu13")
    assert where is not None
    folder = Path(str(where.origin)).parent
    names = ("libcudart.so.*", "libtensorrt_rtx.so.*", "libtensorrt_onnxparser_rtx.so.*")
    libraries = [str(next(folder.glob(name))) for name in names]
    onnx, plan = tmp_path / "a.onnx", tmp_path / "a.plan"
    onnx.write_bytes(tiny_graphs(video=True)[graph].SerializeToString())
    command = [sys.executable, "-c", BUILD, str(onnx), str(plan), *libraries]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert plan.stat().st_size > 1000
