"""Checkpoints: whole or not at all, and everything comes back."""

import errno
import io
import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detach import checkpoint
from detach.checkpoint import (
    kept,
    load_checkpoint,
    older,
    readable,
    save_checkpoint,
    states,
    write_whole,
)
from detach.config import override, preset
from detach.errors import DataError, MachineError


def stepped() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_modules_optimizers_and_facts_come_back(tmp_path: Path) -> None:
    model, optimizer = stepped()
    facts = {"epoch": 3, "sums": {"loss": 0.1 + 0.2}, "extra": {"list": [1, None]}}
    save_checkpoint(tmp_path / "c", states({"model": model, "optimizer": optimizer}), facts)
    fresh = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    other = torch.optim.AdamW(fresh.parameters(), lr=9.0)
    assert load_checkpoint(tmp_path / "c", {"model": fresh, "optimizer": other}) == facts
    assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in model.state_dict().items())
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    for ours, theirs in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert all(torch.equal(v, theirs[k]) for k, v in ours.items())
    assert list(tmp_path.iterdir()) == [tmp_path / "c"]


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_damaged_file_is_refused(tmp_path: Path, cut: int) -> None:
    model, optimizer = stepped()
    path = tmp_path / "c"
    save_checkpoint(path, states({"model": model, "optimizer": optimizer}), {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="cannot be resumed from"):
        load_checkpoint(path, {"model": model, "optimizer": optimizer})


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    model, optimizer = stepped()
    path = tmp_path / "c"
    save_checkpoint(path, states({"model": model, "optimizer": optimizer}), {})
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"cannot be resumed from: it is damaged: its check sum"):
        load_checkpoint(path, {})


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    model, _ = stepped()
    path = tmp_path / "last.safetensors"
    for epoch in range(3):
        save_checkpoint(path, states({"model": model}), {"epoch": epoch})
    assert load_checkpoint(path, {})["epoch"] == 2
    assert load_checkpoint(older(path), {})["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, older(path).name]


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_as_many_stay_as_are_asked_for_and_all_are_fallen_back_on(
    tmp_path: Path, keep: int
) -> None:
    model, _ = stepped()
    path = tmp_path / "last.safetensors"
    (tmp_path / "previous of mine.safetensors").write_bytes(b"")
    for epoch in range(8):
        save_checkpoint(path, states({"model": model}), {"epoch": epoch}, keep)
        assert len(kept(path)) == min(epoch + 1, keep)
    assert len(list(tmp_path.iterdir())) == keep + 1
    said: list[str] = []
    for back, one in enumerate(kept(path)):
        assert readable(path, said.append) == one
        assert load_checkpoint(one, {})["epoch"] == 7 - back
        assert ("; going on from one before, " in str(said)) == (back > 0)
        one.write_bytes(one.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"last\.safetensors: cannot be resumed from"):
        readable(path, said.append)


def test_writes_that_fail_push_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = stepped()
    path = tmp_path / "last.safetensors"
    for epoch in range(3):
        save_checkpoint(path, states({"model": model}), {"epoch": epoch}, 3)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_whole", Failing(errno.ENOSPC, 1).around(write_whole))
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(path, states({"model": model}), {"epoch": 3}, 3)
        patch.setattr(checkpoint, "write_whole", Failing(errno.ENOSPC, 1).around(write_whole))
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(path, states({"model": model}), {"epoch": 3}, 3)
    assert [load_checkpoint(one, {})["epoch"] for one in kept(path)] == [2, 2, 1]
    save_checkpoint(path, states({"model": model}), {"epoch": 3}, 3)
    assert [load_checkpoint(one, {})["epoch"] for one in kept(path)] == [3, 2, 1]


@pytest.mark.parametrize("number", [0, 1001])
def test_how_many_stay_is_checked(number: int) -> None:
    with pytest.raises(ValueError, match=r"checkpoints must be in \[1, 1000\], got"):
        override(preset("recommended"), {"checkpoints": number})


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = stepped()
    path = tmp_path / "c"
    save_checkpoint(path, states({"model": model}), {})
    with pytest.raises(DataError, match="it has no bank; another version of detach wrote it"):
        load_checkpoint(path, {"model": model, "bank": model})
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    with pytest.raises(DataError, match=r"schema must be 2, found '1'; .* into a new folder"):
        load_checkpoint(path, {"model": model})


def test_another_model_is_refused(tmp_path: Path) -> None:
    model, _ = stepped()
    save_checkpoint(tmp_path / "c", states({"model": model}), {})
    with pytest.raises(DataError, match="cannot be resumed from"):
        load_checkpoint(tmp_path / "c", {"model": nn.Linear(3, 5)})


class Failing:
    """Fails the call that is the ``turn``-th of its kind, and counts them."""

    def __init__(self, number: int, turn: int) -> None:
        self.number, self.turn, self.calls = number, turn, 0

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.turn:
                raise OSError(self.number, os.strerror(self.number))
            return real(*arguments, **options)

        return call


CALLS: dict[str, tuple[Any, str]] = {
    "open": (Path, "open"),
    "open folder": (os, "open"),
    "mkdir": (Path, "mkdir"),
    "fsync": (os, "fsync"),
    "rename": (Path, "replace"),
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("name", CALLS)
def test_whatever_fails_the_old_checkpoint_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    model, _ = stepped()
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, states({"model": model}), {"epoch": 0})
    save_checkpoint(path, states({"model": model}), {"epoch": 1})
    failed: list[MachineError] = []
    for turn in itertools.count(1):
        failing = Failing(number, turn)
        with monkeypatch.context() as patch:
            owner, attribute = CALLS[name]
            patch.setattr(owner, attribute, failing.around(getattr(owner, attribute)))
            try:
                save_checkpoint(path, states({"model": model}), {"epoch": 1})
            except MachineError as error:
                failed.append(error)
        assert load_checkpoint(path, {})["epoch"] == 1
        assert {p.name for p in tmp_path.iterdir()} <= {path.name, older(path).name}
        if failing.calls < turn:
            break
    assert failed
    for found in failed:
        assert found.exit_code == 4
        assert re.search(rf"{path}: \d+ bytes could not be written", str(found))


class Refusing(io.BytesIO):
    """A file that takes nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, _: Any) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EIO, "Input/output error"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_a_write_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    path = tmp_path / "c"
    write_whole(path, b"old")
    monkeypatch.setattr(Path, "open", lambda *_, **__: Refusing(number))
    with pytest.raises(MachineError, match=rf"3 bytes could not be written: {said}") as caught:
        write_whole(path, b"new")
    monkeypatch.undo()
    assert caught.value.exit_code == 4
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_reads_otherwise_than_written_does_not_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    write_whole(path, b"old")
    real = Path.open

    def spoiled(self: Path, mode: str = "r") -> Any:
        return io.BytesIO(b"neu") if mode == "rb" else real(self, mode)

    monkeypatch.setattr(Path, "open", spoiled)
    with pytest.raises(MachineError, match="is not what was written"):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
