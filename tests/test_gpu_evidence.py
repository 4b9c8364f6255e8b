"""`benchmarks/gpu_evidence.py`: its order, and runs that are longer than a call."""

import importlib.util
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from detach import recipes
from detach.course import Course
from detach.reproduce.rows import LEAD, TABLES
from detach.simulate import record

from .reproduced import say_made_of  # type: ignore[import-not-found]

# Time may be up while a library opens a file, which is closed when it is forgotten.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "gpu_evidence.py"
    spec = importlib.util.spec_from_file_location("gpu_evidence", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_most_telling_runs_come_first(
    script: ModuleType, tiny_dataset: Path, tmp_path: Path
) -> None:
    base = recipes.read(recipes.find(Path("paper")))
    jobs = script.in_order(tmp_path, tiny_dataset, 5, base)
    order = [(job.row, job.seed) for job in jobs]
    core = [
        *(LEAD, "infonce", "no-spatial-weight", "no-temporal-weight"),
        *("no-refinement", "no-refinement-infonce"),
    ]
    assert order[:30] == [(row, seed) for seed in range(5) for row in core]
    rivals = ["imu2clip", "primus", "comodo", "cav-mae", "global", "supervised"]
    others = [row for row, seed in order[30:] if seed == 0]
    assert [row for row in others if row in rivals] == rivals
    assert set(rivals) | set(TABLES[14].ours) <= {row for row, _ in order}
    assert len(order) == len(set(order))
    config = jobs[0].config
    assert (config.stage1.epochs, config.stage2.epochs, config.video.size_px) == (25, 50, 224)


def test_tables_are_of_the_runs_that_are_made(
    script: ModuleType, finished: Path, homely: Path, recipe: str, tmp_path: Path
) -> None:
    """Under whatever name the data have."""
    data = tmp_path / "data"
    shutil.copytree(homely, data)
    path = data / "dataset.json"
    path.write_text(path.read_text().replace('"tiny"', '"simulated home (default, seed 11)"'))
    jobs = script.in_order(tmp_path, data, 1, recipes.read(Path(recipe)))
    runs = jobs[0].folder.parents[1]
    shutil.copytree(finished / "runs/tiny", runs)
    say_made_of(runs, homely, data)
    script.tables(tmp_path, data, recipe)
    text = (tmp_path / "tables.md").read_text()
    assert "Spatial and temporal weight, simulated-home-default-seed-11" in text
    assert "| DETACH | 1 |" in text


def test_its_home_has_as_many_windows_as_the_paper_s(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(record, "simulate", lambda _, options, *__: asked.append(options))
    monkeypatch.setattr(script, "read_dataset", None)  # would be called next
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "out")])
    with pytest.raises(TypeError):
        script.main()
    (options,) = asked
    assert options.runs == 11
    assert min(options.size) >= 224
    seconds = options.minutes * 60 / options.runs
    assert options.runs * int(seconds - 1) == 5324


def test_simulating_is_within_the_minutes(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(record, "simulate", lambda *_: time.sleep(30))
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "out"), "--minutes", "0.02"])
    began = time.monotonic()
    assert script.main() == 2
    assert time.monotonic() - began < 15
    told = capsys.readouterr().out
    assert "the home was not simulated within 0.02 minutes; give more, or make it first" in told
    assert "--runs 11 --seed 11 --width-px 320 --height-px 240" in told


def test_what_simulating_took_is_not_left_to_train_in(
    script: ModuleType,
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left_s: list[float] = []

    def simulate(folder: Path, *_: object) -> None:
        time.sleep(2)
        shutil.copytree(tiny_dataset, folder, copy_function=shutil.copyfile)

    def run(queue: Any, jobs: list[Any], outcome: Any) -> None:
        left_s.append(queue.left_s)
        outcome.left += jobs

    monkeypatch.setattr(record, "simulate", simulate)
    monkeypatch.setattr(script.Queue, "run", run)
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "out"), "--minutes", "1"])
    assert script.main() == 0
    assert left_s[0] < 0.85 * 60 - 2
    assert "the home is there now, and the next call trains" in capsys.readouterr().out
    assert script.main() == 2


@pytest.mark.slow
def test_a_run_longer_than_a_call_is_finished_by_several(
    script: ModuleType,
    finished: Path,
    homely: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Table 2 is there but for one row, whose second epoch never ends within the first call."""
    monkeypatch.setattr(script, "CORE", (2,))
    monkeypatch.setattr(script, "TABLES", (2,))
    monkeypatch.setattr(script, "FIRST", (LEAD,))
    out, row = tmp_path / "out", "runs/tiny/no-spatial-weight/seed0"
    shutil.copytree(finished, out)
    shutil.rmtree(out / row)
    words = ["x", str(out), "--data", str(homely), "--config", recipe, "--seeds", "1"]

    def call(minutes: float) -> int:
        monkeypatch.setattr(sys, "argv", [*words, "--minutes", str(minutes)])
        code: int = script.main()
        return code

    with monkeypatch.context() as patch:  # the first alarm may be lost, and a short run go on
        patch.setattr(Course, "_between_steps", lambda *_: time.sleep(600.0))
        assert call(0.001) == 2
    assert "no run was finished or saved within 0.001 minutes" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        slow = Course._between_steps

        def dawdle(self: Course, share: float) -> None:
            time.sleep(600.0 if self.epoch == 1 else 0.0)
            slow(self, share)

        patch.setattr(Course, "_between_steps", dawdle)
        assert call(0.5) == 0
    told = capsys.readouterr().out
    assert "no run was finished; no-spatial-weight, seed 0, is saved and goes on" in told
    assert "| w/o W spatial | 0 | not run |" in (out / "tables.md").read_text()
    assert not (out / row / "model.safetensors").exists()
    assert call(20.0) == 0
    told = capsys.readouterr().out
    assert "resumed at" in told
    assert "3 of 3 runs are there, 1 of this call" in told
    assert "| w/o W spatial | 1 |" in (out / "tables.md").read_text()
