"""Nothing of the user's is overwritten, and several processes do not trip over one another."""

import errno
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from detach.cli import main
from detach.data.sample import SAMPLE, copy_sample
from detach.data.store import new_folder, write_whole
from detach.errors import MachineError, UsageError
from detach.reproduce import reproduce

from .reproduced import options, quiet  # type: ignore[import-not-found]

FORMATS = ("opportunity++", "hwu-usp")


@pytest.mark.parametrize("kind", FORMATS)
def test_an_import_never_replaces_a_folder_that_holds_something(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, mine = tmp_path / "download", tmp_path / "mine"
    for folder in (source, mine):
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
    inside = source / "out"
    for out, reason in (
        (mine, "already there"),
        (source, "already there"),
        (inside, "lies inside the source"),
    ):
        assert main(["import", kind, str(source), str(out)]) == 3
        assert reason in capsys.readouterr().err
    assert (source / "thesis.txt").read_text() == (mine / "thesis.txt").read_text()
    assert not inside.exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_an_import_of_no_recording_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").mkdir()
    words = [str(tmp_path / "source"), str(tmp_path / "out"), "--limit", "0"]
    assert main(["import", kind, *words]) == 2
    assert not (tmp_path / "out").exists()
    assert "limit must be at least 1, got 0" in capsys.readouterr().err


def test_a_full_disk_is_not_taken_for_a_bad_source(tmp_path: Path) -> None:
    def copy() -> None:
        with new_folder(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "No space left on device", "source/film.avi")

    with pytest.raises(MachineError, match="out: could not be written: the disk is full"):
        copy()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "."])
def test_a_path_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names no file or folder of its own"):
        write_whole(Path(name), b"x")
    with pytest.raises(UsageError, match="names no file"), new_folder(Path(name)):
        pass


def _write_often(path: Path) -> None:
    for _ in range(60):
        write_whole(path, b"x" * 4096)


def test_processes_may_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        for done in [pool.submit(_write_often, path) for _ in range(3)]:
            done.result()
    assert path.read_bytes() == b"x" * 4096
    assert list(tmp_path.iterdir()) == [path]


def test_the_sample_is_copied_once_for_all(
    homely: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(homely, tmp_path / SAMPLE, ignore=shutil.ignore_patterns(".cache"))
    monkeypatch.setattr("detach.recipes.models_folder", lambda: tmp_path)
    files = {p.relative_to(tmp_path / SAMPLE) for p in (tmp_path / SAMPLE).rglob("*")}
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(copy_sample, [tmp_path / "out"] * 4))
    assert set(folders) == {tmp_path / "out/data"}
    assert {p.relative_to(folders[0]) for p in folders[0].rglob("*")} == files


def test_other_data_under_the_same_name_are_not_mixed_in(
    finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    """Two homes may have one name; a table of one is not printed as that of the other."""
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(finished, out)
    shutil.copytree(homely, other)
    before = (out / "tables.md").read_bytes()
    with pytest.raises(UsageError, match="was made of .*, not of .*other"):
        reproduce(options(out, other, recipe, tables=(2,)), quiet)
    assert (out / "tables.md").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--threads", "-2"), "threads must be in [0, 1024], got -2"),
        (("--seeds", "1001"), "seeds must be 1 to 1000, got 1001"),
    ],
)
def test_numbers_out_of_range_are_refused(
    homely: Path,
    recipe: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
    reason: str,
) -> None:
    command = ["reproduce", "--out", str(tmp_path / "out"), "--data", str(homely)]
    assert main([*command, "--config", recipe, "--table", "2", *words]) == 2
    assert reason in capsys.readouterr().err


def test_a_recipe_of_another_method_is_refused(homely: Path, recipe: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"method: infonce\n{Path(recipe).read_text()}")
    with pytest.raises(UsageError, match="has the method infonce; rows choose their own"):
        reproduce(options(tmp_path / "out", homely, str(own), tables=(2,)), quiet)


def test_a_table_asked_for_twice_is_written_once(
    finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    reproduce(options(out, homely, recipe, tables=(2, 2), write_only=True), quiet)
    assert (out / "tables.md").read_text().count("## Table 2.") == 1
    lines = (out / "tables.csv").read_text().splitlines()
    assert len(lines) == len(set(lines))
