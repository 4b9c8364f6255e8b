"""Kept engines: whatever happened to one, it is found out, and built again or put aside."""

import fcntl
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from detach.edge.engine_cache import META_FILE, PLAN_FILE
from detach.edge.tensorrt_engine import TensorRtEngine
from detach.edge.tensorrt_prepare import Preparation, open_tested
from detach.errors import DataError, MachineError

from .fake_gpu import GRAPH, FakeGpu, Machine  # type: ignore[import-not-found]


def of_another_key(entry: Path, machine: Machine, gpu: FakeGpu) -> None:
    gpu.set(FAKE_GPU="Another")
    machine.opened()
    (other,) = set(machine.entries()) - {entry}
    shutil.rmtree(entry)
    other.rename(entry)
    gpu.set(FAKE_GPU="Fake")


def spoil_plan(change: Callable[[bytes], bytes]) -> Callable[[Path, Machine, FakeGpu], None]:
    def spoil(entry: Path, *_: object) -> None:
        plan = entry / PLAN_FILE
        plan.write_bytes(change(plan.read_bytes()))

    return spoil


def spoil_meta(change: Callable[[str], str]) -> Callable[[Path, Machine, FakeGpu], None]:
    def spoil(entry: Path, *_: object) -> None:
        meta = entry / META_FILE
        meta.write_text(change(meta.read_text()))

    return spoil


def a_plan_tensorrt_refuses(entry: Path, *_: object) -> None:
    plan = b"FAKEPLAN" + bytes(100)
    (entry / PLAN_FILE).write_bytes(plan)
    meta = json.loads((entry / META_FILE).read_text())
    meta["plan_sha256"] = hashlib.sha256(plan).hexdigest()
    (entry / META_FILE).write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_plan(lambda raw: raw[:-1]), "engine.plan is damaged or cut short"),
        (spoil_plan(lambda raw: raw[:0]), "engine.plan is damaged or cut short"),
        (spoil_plan(lambda raw: raw[:50] + b"x" + raw[51:]), "engine.plan is damaged"),
        (lambda entry, *_: (entry / PLAN_FILE).unlink(), "No such file"),
        (lambda entry, *_: (entry / META_FILE).unlink(), "meta.json is not there"),
        (spoil_meta(lambda _: "{"), "not JSON"),
        (spoil_meta(lambda _: "[]"), "schema must be 1"),
        (spoil_meta(lambda _: '{"schema": 1}'), "it was built for another onnx_sha256, precision"),
        (spoil_meta(lambda text: text.replace('"schema": 1', '"schema": 2')), "schema must be 1"),
        (spoil_meta(lambda text: text.replace("10.3.0", "10.3.1")), "for another tensorrt"),
        (of_another_key, "it was built for another device"),
        (a_plan_tensorrt_refuses, "TensorRT refuses the kept engine (140 bytes cannot be loaded)"),
    ],
)
def test_a_kept_engine_that_is_not_right_is_built_again(
    machine: Machine, gpu: FakeGpu, spoil: Callable[..., object], why: str
) -> None:
    machine.opened()
    (entry,) = machine.entries()
    spoil(entry, machine, gpu)
    why = why.replace("140", str((entry / PLAN_FILE).stat().st_size)) if "140" in why else why
    said = machine.opened()
    assert why in said
    assert "building it again" in said
    assert said.endswith("TensorRT 10.3.0 (Fake, fp16)")
    assert "building" not in machine.opened()
    assert gpu.held() == (0, 0)


@pytest.mark.parametrize("fault", ["wrong", "nan"])
def test_an_engine_that_computes_something_else_is_put_aside(
    machine: Machine, gpu: FakeGpu, fault: str
) -> None:
    gpu.set(FAKE_FAULT=fault)
    said = machine.opened()
    assert "building an engine" in said
    why = said.splitlines()[-1]
    assert why.startswith("video_temporal: ONNX Runtime ")
    assert "TensorRT 10.3.0 (Fake, fp16) does not repeat the golden windows: temporal is " in why
    (aside,) = machine.entries()
    assert aside.name.endswith(".quarantined")
    gpu.set(FAKE_FAULT="")
    said = machine.opened()
    assert "building" not in said
    assert "its engine was put aside: TensorRT 10.3.0 (Fake, fp16) does not repeat" in said
    assert f"delete {aside} to try again" in said
    with pytest.raises(MachineError, match="was put aside"):
        machine.open(backend="tensorrt")
    shutil.rmtree(aside)
    assert machine.opened().endswith("TensorRT 10.3.0 (Fake, fp16)")
    assert gpu.held() == (0, 0)


def test_an_engine_is_freed_before_its_device(machine: Machine, gpu: FakeGpu) -> None:
    judged: list[TensorRtEngine] = []

    def refuse(engine: TensorRtEngine, precision: str) -> None:
        judged.append(engine)
        raise DataError(f"not in {precision}")

    how = Preparation(cache=machine.cache)
    with pytest.raises(DataError, match="not in fp16; it is put aside in "):
        open_tested(machine.bundle, GRAPH, "fp16", how, refuse, machine.said.append)
    assert judged[0]._context is None
    assert judged[0]._engine is None
    assert gpu.held() == (0, 0)


def test_asked_for_by_name_a_wrong_engine_is_an_error(machine: Machine, gpu: FakeGpu) -> None:
    gpu.set(FAKE_FAULT="wrong")
    with pytest.raises(DataError, match="does not repeat the golden windows"):
        machine.open(backend="tensorrt")
    assert gpu.held() == (0, 0)


def test_a_kept_engine_is_judged_again(machine: Machine, gpu: FakeGpu) -> None:
    machine.opened()
    gpu.set(FAKE_FAULT="nan")
    assert "temporal is not finite" in machine.opened()
    assert machine.entries()[0].name.endswith(".quarantined")


def test_a_folder_that_cannot_be_written(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    machine.cache = tmp_path / "file" / "cache"
    said = machine.opened()
    assert f"{machine.cache}: cannot be used: " in said


def test_two_processes_do_not_build_the_same_engine(machine: Machine) -> None:
    machine.opened()
    (lock,) = machine.cache.glob(".*.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=machine.opened)
        thread.start()
        while not machine.said:
            time.sleep(0.01)
        assert machine.said == ["another process is at work on this engine; waiting for it"]
        assert thread.is_alive()
    thread.join(30)
    assert machine.said[-1].endswith("TensorRT 10.3.0 (Fake, fp16)")
