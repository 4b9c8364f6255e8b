"""Each attack is refused with one message, touches nothing outside; its intact twin is accepted."""

import os
import shutil
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detach.checkpoint import save_checkpoint, states
from detach.config import override, preset
from detach.errors import DataError, UsageError
from detach.train import load_material, train

from .attack_files import ATTACKS, READERS  # type: ignore[import-not-found]
from .spoiled_bundles import whole_bundle  # type: ignore[import-not-found]
from .world_jobs import SMALL  # type: ignore[import-not-found]

LIVE = "schema: 1\nmqtt: {host: 127.0.0.1}\nsensors:\n  door: {topic: home/door}\n"
MEMORY_BYTES = 200 << 20

opened: list[str] = []
reached: list[str] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        opened.append(str(arguments[0]))
    elif event in {"socket.connect", "socket.getaddrinfo", "os.system", "subprocess.Popen"}:
        reached.append(event)


@pytest.fixture(scope="module", autouse=True)
def noting() -> None:
    sys.addaudithook(_note)  # stays as long as the process does


@pytest.fixture(scope="module")
def intact(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind."""
    folder = tmp_path_factory.mktemp("intact")
    config = override(override(preset("recommended"), SMALL), {"method": "supervised"})
    material = load_material(tiny_dataset, config, lambda _: None)
    train(material, folder / "run", config, say=lambda _: None)
    shutil.copytree(tiny_dataset, folder / "data", ignore=shutil.ignore_patterns(".cache"))
    state = states({"model": torch.nn.Linear(2, 2)})
    save_checkpoint(folder / "c.safetensors", state, {"epoch": 1})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(SMALL))
    (folder / "live.yaml").write_text(LIVE)
    return {
        "bundle": whole_bundle(folder),
        "data": folder / "data",
        "run": folder / "run",
        "checkpoint": folder / "c.safetensors",
        "recipe": folder / "recipe.yaml",
        "live": folder / "live.yaml",
    }


@pytest.fixture
def measured() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("kind", READERS)
def test_what_is_intact_is_accepted(kind: str, intact: dict[str, Path]) -> None:
    assert READERS[kind](intact[kind])


def test_there_are_thirty() -> None:
    assert len(ATTACKS) >= 30


@pytest.mark.filterwarnings("ignore:Duplicate name")  # that is the trick
@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("name", ATTACKS)
def test_is_refused(name: str, intact: dict[str, Path], tmp_path: Path) -> None:
    attack = ATTACKS[name]
    secret = tmp_path / "secret"
    secret.write_text("t_s,value\n0.0,0.0\n")
    inside = tmp_path / "inside"
    inside.mkdir()
    spoiled = inside / intact[attack.kind].name
    if intact[attack.kind].is_dir():
        shutil.copytree(intact[attack.kind], spoiled)
    else:
        shutil.copy(intact[attack.kind], spoiled)
    attack.spoil(spoiled, secret)
    before = {p for p in tmp_path.rglob("*") if ".cache" not in p.parts}
    opened.clear()
    reached.clear()
    with pytest.raises((DataError, UsageError)) as caught:
        READERS[attack.kind](spoiled)
    assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    assert caught.value.exit_code in {2, 3}
    message = str(caught.value)
    assert str(spoiled) in message
    assert "\n" not in message
    assert len(message) < 1000
    assert not [file for file in opened if os.path.realpath(file) == str(secret)]
    assert reached == []
    assert {p for p in tmp_path.rglob("*") if ".cache" not in p.parts} == before
    assert not Path("owned").exists()
