"""Stage 1: whose opinion of a place counts, when labels have settled, and resuming around it."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detach.config import Preset, RunConfig, override
from detach.course import Course
from detach.model import load_run
from detach.train import Material, load_material, train

from .tiny import small  # type: ignore[import-not-found]

LONG: dict[str, Any] = {"stage1": {"epochs": 9}, "stage2": {"epochs": 1}}
SETTLES = {"stop_change": 1.0}
"""Any change is little: it ends as soon as it may, after three epochs of refinement and one."""


def longer(name: Preset = "recommended", **changes: Any) -> RunConfig:
    config: RunConfig = small(name, **LONG)
    return override(config, changes)


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def material(tiny_dataset: Path) -> Material:
    return load_material(tiny_dataset, longer(), quiet)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def epochs(folder: Path) -> list[dict[str, Any]]:
    return [row for row in lines(folder) if row["stage"] == "stage1" and "phase" in row]


def logged(folder: Path) -> list[dict[str, float]]:
    return [row.get("losses", {}) for row in lines(folder)]


def stop_after(step: int, between: Callable[[Course, float], None]) -> Callable[..., None]:
    """Ctrl-C after so many steps of a run."""
    seen = 0

    def interrupted(self: Course, share: float) -> None:
        nonlocal seen
        seen += 1
        self._stop = signal.SIGINT if seen == step else None
        between(self, share)

    return interrupted


def same_after_ctrl_c(
    material: Material, folder: Path, config: RunConfig, step: int, patches: pytest.MonkeyPatch
) -> None:
    """A run that is interrupted after ``step`` steps and taken up is the one that was not."""
    if not (folder / "straight").exists():
        train(material, folder / "straight", config, say=quiet)
    stopped = folder / f"stopped{step}"
    with patches.context() as patch:
        patch.setattr(Course, "_between_steps", stop_after(step, Course._between_steps))
        with pytest.raises(KeyboardInterrupt):
            train(material, stopped, config, say=quiet)
    train(material, stopped, config, resume=True, say=quiet)
    straight, again = (load_run(x).model.state_dict() for x in (folder / "straight", stopped))
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    assert logged(folder / "straight") == logged(stopped)


def test_the_video_corrects_only_what_it_is_sure_of(material: Material, tmp_path: Path) -> None:
    """An untrained encoder is sure of nothing: with a gate no window is corrected (Eq. 3)."""
    ungated = longer(stage1={"epochs": 3})
    gated = override(ungated, {"stage1": {"video_gate": 0.999}})
    train(material, tmp_path / "ungated", ungated, say=quiet)
    train(material, tmp_path / "gated", gated, say=quiet)
    before, after = (
        [row["losses"] for row in epochs(tmp_path / name)] for name in ("ungated", "gated")
    )
    assert [losses["refine"] for losses in after] == [0.0, 0.0, 0.0]
    assert before[2]["refine"] > 0.0
    assert before[:2] == after[:2]


def test_stage_1_ends_when_labels_have_settled(material: Material, tmp_path: Path) -> None:
    train(material, tmp_path / "settles", longer(stage1=SETTLES), say=quiet)
    train(material, tmp_path / "never", longer(stage1={"stop_change": 0.0}), say=quiet)
    assert [row["epoch"] for row in epochs(tmp_path / "settles")] == [1, 2, 3, 4, 5, 6]
    assert len(epochs(tmp_path / "never")) == 9
    assert any(row["stage"] == "stage2" for row in lines(tmp_path / "settles"))


@pytest.mark.parametrize("step", [10, 11, 12, 13])
def test_it_resumes_around_its_early_end(
    material: Material, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps an epoch: before, in and at the end of the sixth, and in stage 2."""
    same_after_ctrl_c(material, tmp_path, longer(stage1=SETTLES), step, monkeypatch)


@pytest.mark.parametrize("step", [3, 6, 9])
@pytest.mark.parametrize(
    ("name", "precision"),
    [("recommended", "float16"), ("recommended", "bfloat16"), ("paper-v1", "float32")],
)
def test_it_resumes_bit_for_bit_in_other_forms(
    tiny_dataset: Path,
    tmp_path: Path,
    name: Preset,
    precision: str,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = longer(name, precision=precision, stage1={"epochs": 3}, stage2={"epochs": 2})
    found = load_material(tiny_dataset, config, quiet)
    same_after_ctrl_c(found, tmp_path, config, step, monkeypatch)
