"""Checkpoints: whole or not at all, and everything comes back."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from detach.checkpoint import load_checkpoint, save_checkpoint, write_whole
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
    save_checkpoint(tmp_path / "c", {"model": model, "optimizer": optimizer}, facts)
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
    save_checkpoint(path, {"model": model, "optimizer": optimizer}, {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="cannot be resumed from"):
        load_checkpoint(path, {"model": model, "optimizer": optimizer})


def test_another_model_is_refused(tmp_path: Path) -> None:
    model, _ = stepped()
    save_checkpoint(tmp_path / "c", {"model": model}, {})
    with pytest.raises(DataError, match="cannot be resumed from"):
        load_checkpoint(tmp_path / "c", {"model": nn.Linear(3, 5)})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "c"
    write_whole(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner = os if call == "fsync" else Path
    monkeypatch.setattr(owner, call, full)
    with pytest.raises(MachineError, match=r"3 bytes could not be written: the disk is full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
