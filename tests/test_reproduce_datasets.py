"""`detach reproduce` on several data sets and rows, some of which cannot be trained."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detach.cli import main
from detach.data.sample import SAMPLE
from detach.errors import DataError, MachineError, UsageError
from detach.reproduce import queue as queueing
from detach.reproduce import reproduce
from detach.reproduce.costs import Costs
from detach.reproduce.datasets import find, together
from detach.reproduce.jobs import Job, Outcome

from .reproduced import options, quiet  # type: ignore[import-not-found]


def named(source: Path, folder: Path, name: str) -> Path:
    """A copy under another name."""
    shutil.copytree(source, folder)
    path = folder / "dataset.json"
    path.write_text(path.read_text().replace('"tiny"', f'"{name}"'))
    return folder


@pytest.fixture
def silent(homely: Path, tmp_path: Path) -> Path:
    """Data whose description is fine and whose films are not there."""
    folder = named(homely, tmp_path / "silent", "silent")
    for film in folder.glob("*/video.mp4"):
        film.unlink()
    return folder


def test_data_that_cannot_be_read_do_not_hold_up_others(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, absent = tmp_path / "out", tmp_path / "absent"
    shutil.copytree(finished, out)
    (out / "tables.md").unlink()
    words = ["--out", str(out), "--config", recipe, "--seeds", "1", "--table", "2"]
    assert main(["reproduce", *words, "--data", str(absent), str(homely)]) == 3
    told = capsys.readouterr()
    assert "goes on without" in told.out
    assert told.err.count(str(absent)) == 1
    assert "| w/o W spatial | 1 |" in (out / "tables.md").read_text()
    assert main(["reproduce", *words, "--data", str(absent)]) == 3


def test_names_make_folders_that_do_not_collide(homely: Path, tmp_path: Path) -> None:
    names = ("home (default, seed 1)", "home/default: seed 1", "\u5bb6", "..")
    folders = [named(homely, tmp_path / str(i), name) for i, name in enumerate(names)]
    found = find(folders, tmp_path, quiet)
    assert list(found.folders) == ["home-default-seed-1", "home-default-seed-1-2", "\u5bb6", "data"]
    assert list(found.folders.values()) == folders


def test_a_disk_without_room_for_the_sample_is_said_in_few_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    assert main(["reproduce", "--out", str(tmp_path / "out"), "--plan"]) == 4
    told = capsys.readouterr().err
    assert "out/data: could not be written: the disk is full; nothing half-written is left" in told
    assert len(told) < 300
    assert not list((tmp_path / "out").iterdir())


def test_the_sample_is_copied_without_its_caches(
    homely: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / SAMPLE
    shutil.copytree(homely, source, ignore=shutil.ignore_patterns(".cache"))
    files = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
    (source / ".cache").mkdir()
    (source / ".cache/pictures.npy").write_bytes(b"0")
    monkeypatch.setattr("detach.recipes.models_folder", lambda: tmp_path)
    (folder,) = find((), tmp_path / "out", quiet).folders.values()
    assert {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("budget", [None, "20m"])
def test_data_that_cannot_be_trained_on_do_not_hold_up_others(
    finished: Path,
    homely: Path,
    silent: Path,
    recipe: str,
    tmp_path: Path,
    budget: str | None,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "runs/tiny/no-spatial-weight")
    said: list[str] = []
    asked = options(out, homely, recipe, tables=(2, 7), budget=budget)
    asked = replace(asked, data=(silent, homely))
    with pytest.raises(DataError, match=r"silent.*video") as raised:
        reproduce(asked, said.append)
    assert sum(str(raised.value) in line for line in said[:-1]) == 1
    assert not any("are left" in line for line in said)
    text = (out / "tables.md").read_text()
    tiny = text[text.index("Spatial and temporal weight, tiny") :]
    assert "| w/o W spatial | 1 |" in tiny
    assert text.count(f"cannot be trained: {raised.value}") == 3
    assert (out / "index.html").is_file()


def test_table_7_alone_says_what_it_cannot_read(
    homely: Path, silent: Path, recipe: str, tmp_path: Path
) -> None:
    (silent / "r3/recording.json").write_text("{")
    out = tmp_path / "out"
    asked = options(out, homely, recipe, tables=(7,))
    reproduce(replace(asked, data=(silent, homely)), quiet)
    line = next(
        x for x in (out / "tables.md").read_text().splitlines() if x.startswith("| sensors")
    )
    assert line.startswith("| sensors | cannot be read | 3 switch, 1 acceleration |")


def test_several_errors_are_one_of_the_first_one_s_kind() -> None:
    both = together([DataError("a"), UsageError("b"), DataError("a")])
    assert isinstance(both, DataError)
    assert str(both) == "a; b"
    one = UsageError("b")
    assert together([one]) is one


def test_a_plan_of_what_is_not_measured_says_so(
    homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    asked = options(tmp_path / "out", homely, recipe, tables=(2,), plan_only=True)
    hasty = options(tmp_path / "out", homely, recipe, tables=(2,), plan_only=True, budget="0.01s")
    reproduce(hasty, said.append)
    assert said[-1].startswith("nothing is measured")
    assert sum("1 seeds  not measured" in line for line in said) == 3
    assert not any("about" in line for line in said)
    monkeypatch.setattr(Costs, "estimate", lambda *_, **__: 60.0)
    monkeypatch.setattr(Costs, "known", lambda *_: True)
    reproduce(asked, said.append)
    assert said[-1].startswith("about 3 min in all")


def test_a_row_that_is_only_tested_fits_though_testing_was_not_timed(
    finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "costs.json").unlink()
    asked = options(out, homely, recipe, tables=(10,), rows=("noise-50",), budget="10m")
    assert reproduce(asked, quiet)
    assert (out / "runs/tiny/noise-50/seed0/results.json").is_file()


def test_a_row_that_memory_does_not_suffice_for_leaves_the_others(
    finished: Path, homely: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", queueing.Queue._one
    shutil.copytree(finished, out)
    for row in ("no-spatial-weight", "no-temporal-weight"):
        shutil.rmtree(out / f"runs/tiny/{row}")

    def one(queue: queueing.Queue, job: Job, outcome: Outcome) -> None:
        if job.row == "no-spatial-weight":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        real(queue, job, outcome)

    monkeypatch.setattr(queueing.Queue, "_one", one)
    with pytest.raises(MachineError, match="memory does not suffice .*3 GiB.*smaller batches"):
        reproduce(options(out, homely, recipe, tables=(2,)), quiet)
    text = (out / "tables.md").read_text()
    assert "| w/o W temporal | 1 |" in text
    assert "cannot be trained: memory does not suffice" in text
