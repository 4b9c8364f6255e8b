"""TensorRT engines on a stand-in for the GPU: building, keeping, judging, falling back."""

import hashlib
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.edge import tensorrt_prepare
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.cuda_memory import CudaDevice
from detach.edge.engine import open_engines
from detach.edge.engine_cache import META_FILE, PLAN_FILE
from detach.edge.golden import self_test
from detach.edge.guarded_process import Limits
from detach.edge.onnxruntime_engine import OnnxRuntimeEngine
from detach.edge.tensorrt_build import BuildSettings
from detach.edge.tensorrt_prepare import (
    Preparation,
    build_engine_file,
    build_engines,
    open_tested,
    trtexec_command,
)
from detach.errors import DataError, MachineError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .fake_gpu import FAKES, GRAPH, FakeGpu, Machine, plan_facts  # type: ignore[import-not-found]


def test_an_engine_is_built_once_and_kept(machine: Machine, gpu: FakeGpu) -> None:
    said = machine.opened()
    assert "video_temporal: building an engine in fp16 for Fake; it may take minutes" in said
    assert "built in " in said
    assert said.endswith("video_temporal: TensorRT 10.3.0 (Fake, fp16)")
    (entry,) = machine.entries()
    meta = json.loads((entry / META_FILE).read_text())
    assert meta["peak_mib"] > 10
    assert hashlib.sha256(json.dumps(meta["identity"], sort_keys=True).encode()).hexdigest() == (
        entry.name
    )
    assert meta["identity"]["device"] == {
        "name": "Fake",
        "compute_capability": "8.7",
        "multiprocessors": 8,
        "memory_bytes": 8 << 30,
        "cuda": 12060,
        "driver": meta["identity"]["device"]["driver"],
    }
    assert machine.opened() == "video_temporal: TensorRT 10.3.0 (Fake, fp16)"
    assert sorted(p.name for p in entry.iterdir()) == [PLAN_FILE, META_FILE]
    assert gpu.held() == (0, 0)


def test_any_number_of_windows_is_run_in_pieces(machine: Machine, video_bundle: Bundle) -> None:
    engine, _ = machine.open()
    reference = OnnxRuntimeEngine(video_bundle, GRAPH, "fp32", 1)
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 16, 17, 37):
        frames = {"frames": rng.random((count, 3, 8, 8, 3), dtype=np.float32)}
        found, expected = engine.run(frames), reference.run(frames)
        np.testing.assert_allclose(found["temporal"], expected["temporal"], atol=1e-6)
    with pytest.raises(DataError, match="must be finite"):
        engine.run({"frames": np.full((1, 3, 8, 8, 3), np.nan)})
    engine.close()


def test_an_engine_may_be_used_from_another_thread(machine: Machine) -> None:
    engine, _ = machine.open()
    found: list[Any] = []
    frames = {"frames": machine.bundle.golden()["frames"]}
    thread = threading.Thread(target=lambda: found.append(engine.run(frames)))
    thread.start()
    thread.join()
    assert found[0]["temporal"].shape == (4, 2)
    engine.close()
    engine.close()


@pytest.mark.parametrize(
    "change",
    [
        {"FAKE_TENSORRT": "10.13.3.9"},
        {"FAKE_TENSORRT": "11.4.0.106"},
        {"FAKE_GPU": "Another"},
        {"FAKE_GPU_MEMORY": "4294967296"},
        {"FAKE_CUDA": "13000"},
    ],
)
def test_another_version_or_device_builds_its_own(
    machine: Machine, gpu: FakeGpu, change: dict[str, str]
) -> None:
    machine.opened()
    gpu.set(**change)
    assert "building an engine" in machine.opened()
    assert "building" not in machine.opened()
    assert len(machine.entries()) == 2


def test_another_graph_precision_or_setting_builds_its_own(
    machine: Machine, video_bundle: Bundle
) -> None:
    test = self_test(video_bundle, GRAPH, video_bundle.golden())
    for settings in (BuildSettings(), BuildSettings(level=1), BuildSettings(max_batch=4)):
        how = Preparation(settings=settings, cache=machine.cache)
        open_tested(video_bundle, GRAPH, "fp32", how, test, machine.said.append).close()
    machine.opened()
    assert len(machine.entries()) == 4
    facts = {json.dumps(plan_facts(entry / PLAN_FILE)["profile"]) for entry in machine.entries()}
    assert len(facts) == 2


def test_the_settings_reach_the_builder(machine: Machine) -> None:
    machine.opened()
    assert plan_facts(machine.entries()[0] / PLAN_FILE) == {
        "version": "10.3.0",
        "profile": {"frames": [[1, 3, 8, 8, 3], [1, 3, 8, 8, 3], [16, 3, 8, 8, 3]]},
        "workspace": 256 << 20,
        "tf32": False,
        "level": 3,
        "timed": False,
    }


def test_times_of_layers_are_kept_for_the_next_engine(machine: Machine, gpu: FakeGpu) -> None:
    machine.opened()
    (entry,) = machine.entries()
    shutil.rmtree(entry)
    machine.opened()
    assert plan_facts(entry / PLAN_FILE)["timed"]
    (times,) = (machine.cache / "timing").iterdir()
    times.write_bytes(b"of another device")
    shutil.rmtree(entry)
    machine.opened()
    assert not plan_facts(entry / PLAN_FILE)["timed"]
    gpu.set(FAKE_TENSORRT="10.16.1.11")
    machine.opened()
    assert len(list((machine.cache / "timing").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"FAKE_GPU": "none"}, "CUDA: cuInit failed with 100, no device"),
        ({"FAKE_GPU_MEMORY": "1000"}, "CUDA: cuMemAlloc_v2 failed with 2, out of memory"),
        ({"FAKE_TENSORRT": "8.6.1"}, "TensorRT 8.6.1 is too old: 10.3 or newer is needed"),
        ({"FAKE_FAULT": "builder"}, "ended with code 4: TypeError: pybind11::init()"),
        ({"FAKE_FAULT": "runtime"}, "TensorRT 10.3.0 (Fake, fp16) does not start: pybind11::init"),
        ({"FAKE_FAULT": "context"}, "(Fake, fp16) has not enough memory on the device for video_"),
        ({"FAKE_FAULT": "parse"}, "TensorRT 10.3.0 refuses the graph: it is no graph"),
        ({"FAKE_FAULT": "build"}, "ended with code 4: no implementation found for node MatMul"),
        ({"FAKE_FAULT": "crash"}, "building video_temporal in fp16 failed: ended by signal 6"),
        ({"FAKE_FAULT": "refuse"}, "TensorRT refuses the engine it just built"),
        ({"FAKE_FAULT": "launch"}, "TensorRT 10.3.0 (Fake, fp16) failed on video_temporal"),
    ],
)
def test_what_goes_wrong_is_said_and_the_cpu_takes_over(
    machine: Machine, gpu: FakeGpu, change: dict[str, str], why: str
) -> None:
    gpu.set(**change)
    said = machine.opened()
    assert said.splitlines()[-1].startswith("video_temporal: ONNX Runtime ")
    assert why in said.splitlines()[-1]
    with pytest.raises(MachineError) as caught:
        machine.open(backend="tensorrt")
    assert why in str(caught.value)
    assert caught.value.exit_code == 4
    assert gpu.held() == (0, 0)
    gpu.set(FAKE_GPU="Fake", FAKE_TENSORRT="10.3.0", FAKE_FAULT="", FAKE_GPU_MEMORY="8589934592")
    assert machine.opened().endswith("TensorRT 10.3.0 (Fake, fp16)")
    assert not [p for p in machine.cache.iterdir() if p.name.endswith(".part")]


@pytest.mark.parametrize(
    ("fault", "limits", "why"),
    [
        ("hang", Limits(time_s=1.0), "failed: ended after 1 s, the limit"),
        ("hog", Limits(memory_mib=400), "MiB of memory; the limit is 400"),
        ("hang", Limits(spare_mib=1 << 30), "when the machine had "),
    ],
)
def test_a_build_has_limits(
    machine: Machine, gpu: FakeGpu, fault: str, limits: Limits, why: str
) -> None:
    gpu.set(FAKE_FAULT=fault)
    test = self_test(machine.bundle, GRAPH, machine.bundle.golden())
    how = Preparation(limits=limits, cache=machine.cache)
    with pytest.raises(MachineError, match=why):
        open_tested(machine.bundle, GRAPH, "fp16", how, test, machine.said.append)
    assert machine.entries() == []
    assert gpu.held() == (0, 0)


def test_the_sensor_graph_goes_to_the_gpu_only_when_asked(machine: Machine) -> None:
    options: dict[str, Any] = {"cache": machine.cache, "say": machine.said.append}
    open_engines(machine.bundle, **options)["sensor"].close()
    assert machine.said[-1].startswith("sensor: ONNX Runtime")
    open_engines(machine.bundle, backend="tensorrt", **options)["sensor"].close()
    assert machine.said[-1] == "sensor: TensorRT 10.3.0 (Fake, fp16), as --backend tensorrt asks"


def test_an_engine_can_be_built_ahead(machine: Machine, gpu: FakeGpu) -> None:
    test = self_test(machine.bundle, GRAPH, machine.bundle.golden())
    how = Preparation(cache=machine.cache)
    file = build_engine_file(machine.bundle, GRAPH, "fp16", how, test, machine.said.append)
    assert file.read_bytes().startswith(b"FAKEPLAN")
    assert "building" not in machine.opened()
    gpu.set(FAKE_GPU="none")
    with pytest.raises(MachineError, match=r"without Python, on the machine itself: unzip -o "):
        build_engine_file(machine.bundle, GRAPH, "fp16", how, test, machine.said.append)


def test_all_engines_can_be_built_ahead(machine: Machine, tmp_path: Path) -> None:
    how = Preparation(cache=machine.cache)
    files = build_engines(machine.bundle, say=machine.said.append, how=how)
    assert list(files) == ["video_spatial", "video_temporal"]
    assert {file.parent for file in files.values()} == set(machine.entries())
    assert f"; without Python: {trtexec_command(machine.bundle, GRAPH, 'fp16')}" in machine.said[-1]
    assert "building" not in machine.opened()
    sensors = open_bundle(write_tiny(tmp_path / "sensors.detach"))
    assert build_engines(sensors, say=machine.said.append) == {}
    assert "has no video graphs; the sensor graph is fastest on a CPU" in machine.said[-1]


def test_the_command_for_those_without_python(video_bundle: Bundle) -> None:
    assert trtexec_command(video_bundle, GRAPH, "fp16") == (
        f"unzip -o {video_bundle.path} video_temporal.fp16.onnx && trtexec "
        "--onnx=video_temporal.fp16.onnx --saveEngine=video_temporal.fp16.plan --stronglyTyped "
        "--minShapes=frames:1x3x8x8x3 --optShapes=frames:1x3x8x8x3 --maxShapes=frames:16x3x8x8x3 "
        "--memPoolSize=workspace:256 --builderOptimizationLevel=3 --noTF32 "
        "--timingCacheFile=video_temporal.fp16.timing --skipInference"
    )


def test_engines_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Preparation().folder == tmp_path / "detach" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tensorrt_prepare.Preparation().folder == tmp_path / ".cache" / "detach" / "engines"


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detach.edge.cuda_memory.LIBRARY", "libnosuchcuda.so.1")
    with pytest.raises(MachineError, match="no NVIDIA driver that can be used: libnosuchcuda"):
        CudaDevice()


def test_the_driver_of_the_tests_has_the_declarations_of_the_real_one(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no CUDA toolkit with a cuda.h to compare with")
    command = [nvcc, "-c", "-DWITH_CUDA_H", "-o", str(tmp_path / "cuda.o"), "-Xcompiler", "-Werror"]
    subprocess.run([*command, str(FAKES / "cuda.c")], check=True)  # noqa: S603 -- our own source
