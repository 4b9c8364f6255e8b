"""What `detach reproduce` does with runs that are there: moved, damaged, begun by other threads."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from detach.errors import DataError, UsageError
from detach.model import load_config
from detach.reproduce import queue as queueing
from detach.reproduce import reproduce
from detach.reproduce.rows import LEAD
from detach.results import RESULTS_FILE, read_results
from detach.train import train

from .reproduced import options, quiet, say_made_of  # type: ignore[import-not-found]

ROW = "no-temporal-weight"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def begun(out: Path, homely: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was stopped after its first epoch."""
    folder = out / f"runs/tiny/{ROW}/seed0"
    shutil.rmtree(folder)

    def stopped(*parts: object, **named: object) -> object:
        named["say"] = lambda line: os.kill(os.getpid(), signal.SIGINT) if "epoch" in line else 0
        return train(*parts, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(queueing, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            reproduce(options(out, homely, recipe, tables=(2,)), quiet)
    assert (folder / "checkpoints/last.safetensors").is_file()
    assert not (folder / "model.safetensors").is_file()
    return folder


def test_damaged_results_are_found_again(out: Path, homely: Path, recipe: str) -> None:
    path = out / f"runs/tiny/{ROW}/seed0/results.json"
    before = path.read_bytes()
    path.write_bytes(before[:200])
    said: list[str] = []
    assert reproduce(options(out, homely, recipe, tables=(2,)), said.append)
    assert path.read_bytes() == before
    assert path.with_name("results.damaged").read_bytes() == before[:200]
    assert any("kept as results.damaged, and the run is tested again" in line for line in said)


def test_damaged_results_do_not_hold_up_other_rows(out: Path, homely: Path, recipe: str) -> None:
    path = out / f"runs/tiny/{ROW}/seed0/results.json"
    path.write_text("{")
    asked = options(out, homely, recipe, tables=(2,), write_only=True)
    with pytest.raises(DataError, match=f"{ROW}.*cannot be read"):
        reproduce(asked, quiet)
    text = (out / "tables.md").read_text()
    assert "| DETACH | 1 |" in text
    assert "| w/o W spatial | 1 |" in text
    assert "| w/o W temporal | 1 |" not in text
    assert path.read_text() == "{"


def test_a_damaged_configuration_of_a_finished_run_is_said(
    out: Path, homely: Path, recipe: str
) -> None:
    (out / f"runs/tiny/{ROW}/seed0/config.yaml").write_text("{")
    with pytest.raises(DataError, match=f"config.yaml.*; remove .*{ROW}/seed0"):
        reproduce(options(out, homely, recipe, tables=(2,)), quiet)
    assert "| DETACH | 1 |" in (out / "tables.md").read_text()


@pytest.mark.parametrize("what", ["config.yaml", "checkpoints"])
def test_a_damaged_unfinished_run_is_said_and_others_go_on(
    begun: Path, out: Path, homely: Path, recipe: str, what: str
) -> None:
    files = [begun / what] if what == "config.yaml" else sorted((begun / what).iterdir())
    for path in files:
        path.write_bytes(b"{ half")
    shutil.rmtree(out / "runs/tiny/no-spatial-weight")
    said: list[str] = []
    with pytest.raises(DataError, match=f"; remove .*{ROW}/seed0, and the same command trains it"):
        reproduce(options(out, homely, recipe, tables=(2,)), said.append)
    text = (out / "tables.md").read_text()
    assert "| w/o W spatial | 1 |" in text
    shutil.rmtree(begun)
    assert reproduce(options(out, homely, recipe, tables=(2,)), quiet)
    assert "| w/o W temporal | 1 |" in (out / "tables.md").read_text()


@pytest.mark.parametrize("tested", [False, True], ids=["untested", "tested"])
@pytest.mark.parametrize("is_begun", [False, True], ids=["new", "begun"])
def test_a_method_s_own_run_that_is_damaged_does_not_hold_up_its_rows(
    request: pytest.FixtureRequest,
    out: Path,
    homely: Path,
    recipe: str,
    *,
    tested: bool,
    is_begun: bool,
) -> None:
    """They then train a first stage of their own, or go on with it."""
    if is_begun:
        request.getfixturevalue("begun")
    else:
        shutil.rmtree(out / f"runs/tiny/{ROW}")
    lead = out / f"runs/tiny/{LEAD}/seed0"
    if not tested:
        (lead / RESULTS_FILE).unlink()
    (lead / "model.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match=f"model.safetensors.*; remove .*{LEAD}/seed0, and") as said:
        reproduce(options(out, homely, recipe, tables=(2,)), quiet)
    assert ROW not in str(said.value)
    assert read_results(out / f"runs/tiny/{ROW}/seed0").tasks


def test_a_run_goes_on_with_the_threads_it_was_begun_with(
    begun: Path, out: Path, homely: Path, recipe: str
) -> None:
    asked = replace(options(out, homely, recipe, tables=(2,)), threads=2)
    assert reproduce(asked, quiet)
    assert load_config(begun)[0].threads == 1
    assert (begun / RESULTS_FILE).is_file()


def test_a_run_begun_with_another_recipe_is_refused(
    begun: Path, out: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    for row in (LEAD, "no-spatial-weight"):  # what is finished would be refused as well
        shutil.rmtree(out / f"runs/tiny/{row}")
    other = tmp_path / "other.yaml"
    other.write_text(Path(recipe).read_text().replace("learning_rate: 0.001}", "epochs: 2}"))
    with pytest.raises(UsageError, match=f"{ROW}/seed0 was made by another recipe"):
        reproduce(options(out, homely, str(other), tables=(2,)), quiet)
    assert begun.is_dir()


def test_data_that_were_moved_are_used_where_they_are(
    out: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    """Also by runs that are not asked for this time, of which figures tell too."""
    moved, gone = tmp_path / "moved", tmp_path / "gone"
    shutil.copytree(homely, moved)
    say_made_of(out, homely, gone)
    (out / f"runs/tiny/{ROW}/seed0/results.json").unlink()
    said: list[str] = []
    assert reproduce(options(out, moved, recipe, tables=(2,), figures=(4,)), said.append)
    assert sum(f"moved from {gone}" in line for line in said) == 4
    for row in (LEAD, "global"):
        assert load_config(out / f"runs/tiny/{row}/seed0")[1]["data"] == str(moved)
    assert "<svg" in (out / "index.html").read_text()
    assert "| w/o W temporal | 1 |" in (out / "tables.md").read_text()


@pytest.mark.parametrize("where", ["elsewhere", "in their place"])
def test_other_data_are_not_taken_for_moved_ones(
    out: Path, homely: Path, recipe: str, tmp_path: Path, where: str
) -> None:
    """A home made again, or parted in another way, has the name of the first."""
    data = tmp_path / "data"
    shutil.copytree(homely, data)
    say_made_of(out, homely, data if where == "in their place" else tmp_path / "gone")
    path = data / "dataset.json"
    body = json.loads(path.read_text())
    body["splits"]["val"], body["splits"]["test"] = body["splits"]["test"], body["splits"]["val"]
    path.write_text(json.dumps(body))
    before = (out / "tables.md").read_bytes()
    with pytest.raises(UsageError, match=f"{LEAD}/seed0 was made of .*, not of"):
        reproduce(options(out, data, recipe, tables=(2,)), quiet)
    assert (out / "tables.md").read_bytes() == before


def test_a_plan_changes_nothing(out: Path, homely: Path, recipe: str) -> None:
    path = out / f"runs/tiny/{ROW}/seed0/results.json"
    path.write_text("{")
    reproduce(options(out, homely, recipe, tables=(2,), plan_only=True), quiet)
    assert path.read_text() == "{"


def test_seeds_with_more_checkpoints_are_of_the_same_row(
    out: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(f"checkpoints: 3\n{Path(recipe).read_text()}")
    assert reproduce(options(out, homely, str(other), tables=(2,), rows=(ROW,), seeds=2), quiet)
    text = (out / "tables.md").read_text()
    assert "| DETACH | 2 |" in text
    assert "| w/o W temporal | 2 |" in text


@pytest.mark.parametrize(
    ("number", "name", "said"),
    [
        (4, "momentum/epoch*.safetensors", "safetensors: cannot be read"),
        (10, "metrics.jsonl", "tells nothing of pseudo-labels"),
    ],
)
def test_a_figure_of_a_damaged_run_says_so_in_its_place(
    out: Path, homely: Path, recipe: str, number: int, name: str, said: str
) -> None:
    files = list((out / f"runs/tiny/{LEAD}/seed0").glob(name))
    assert files
    for path in files:
        path.write_bytes(b"")
    reproduce(options(out, homely, recipe, figures=(number,), write_only=True), quiet)
    assert said in (out / "index.html").read_text()
