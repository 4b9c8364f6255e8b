"""The set-up script: which torch, when to build again, what it says when something is missing."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "tools/bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bootstrap"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


bootstrap = load()


@pytest.mark.parametrize(
    ("environment", "driver", "installed", "requirement"),
    [
        ({"TORCH": "torch==2.7"}, 580, "2.13.0", ("torch==2.7",)),
        ({}, None, "2.13.0+cpu", ()),
        ({}, None, "2.5.1", ("torch==2.13.0",)),
        ({}, None, "", ("torch==2.13.0",)),
        ({}, 580, "", ("torch==2.13.0",)),
        ({}, 550, "", ("torch>=2.6,<2.11",)),
        ({}, 470, "", ("torch==2.13.0",)),
        ({"DETACH_TORCH_INDEX": "file:///up"}, None, "", ("torch", "--index-url=file:///up")),
        ({"DETACH_TORCH_INDEX": "file:///down"}, None, "", ("torch==2.13.0",)),
    ],
)
def test_torch_for_a_machine(
    environment: dict[str, str], driver: int | None, installed: str, requirement: tuple[str, ...]
) -> None:
    machine = bootstrap.Machine(jetson=False, driver=driver)
    chosen = bootstrap.choose_torch(environment, machine, installed, lambda url: "up" in url)
    assert chosen.requirement == requirement
    assert chosen.why


def test_a_jetson_needs_an_index() -> None:
    jetson = bootstrap.Machine(jetson=True, driver=None)
    with pytest.raises(bootstrap.MachineError, match="set DETACH_TORCH_INDEX"):
        bootstrap.choose_torch({}, jetson, "", lambda _: True)
    assert bootstrap.choose_torch({}, jetson, "2.8.0", lambda _: True).requirement == ()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Release Build", 580),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.183.01", 535),
        ("550.54.15\n", 550),
        ("no devices were found", None),
    ],
)
def test_driver_number(text: str, number: int | None) -> None:
    assert bootstrap.driver_number(text) == number


def test_an_index_that_does_not_answer() -> None:
    assert not bootstrap.answers("http://127.0.0.1:9/simple")
    assert bootstrap.answers("file:///anywhere")


def make_tree(root: Path) -> None:
    for name in bootstrap.BUILT_FROM:
        path = root / name
        if "." in path.name:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        else:
            (path / "sub").mkdir(parents=True)
            (path / "sub" / "file.cpp").write_text("int x;")


def test_builds_again_only_for_what_it_is_built_from(tmp_path: Path) -> None:
    make_tree(tmp_path)
    before = bootstrap.digest(tmp_path, {})
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "models/sub/.cache").mkdir()
    (tmp_path / "models/sub/.cache/pictures.npy").write_text("made by the demo")
    assert bootstrap.digest(tmp_path, {}) == before
    assert bootstrap.digest(tmp_path, {"DETACH_CUDA": "ON"}) != before
    (tmp_path / "csrc/sub/file.cpp").write_text("int y;")
    after = bootstrap.digest(tmp_path, {})
    assert after != before
    (tmp_path / "csrc/sub/file.cpp").rename(tmp_path / "csrc/sub/other.cpp")
    assert bootstrap.digest(tmp_path, {}) != after


def test_a_stamp_serves_the_same_tree_and_fewer_extras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp_file = tmp_path / "stamp.json"
    monkeypatch.setattr(bootstrap, "STAMP", stamp_file)
    monkeypatch.setattr(bootstrap, "python_in", lambda _: Path(sys.executable))
    stamp = {"built_from": "abc", "python": "3.11.7"}
    assert not bootstrap.is_current(stamp, "")
    stamp_file.write_text(json.dumps({**stamp, "extra": ""}))
    assert bootstrap.is_current(stamp, "")
    assert not bootstrap.is_current(stamp, "dev")
    assert not bootstrap.is_current({**stamp, "python": "3.12.1"}, "")
    stamp_file.write_text(json.dumps({**stamp, "extra": "dev"}))
    assert bootstrap.is_current(stamp, "")
    stamp_file.write_text("{half a sta")
    assert not bootstrap.is_current(stamp, "")


def test_a_missing_compiler_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "none.json")
    monkeypatch.setattr(bootstrap.shutil, "which", lambda _: None)
    assert bootstrap.main(["demo"]) == 4
    problem = capsys.readouterr().err
    assert problem.count("\n") == 1
    assert "install g++" in problem


def test_needs_only_the_standard_library() -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "tools/bootstrap.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0
    assert "demo" in done.stdout
