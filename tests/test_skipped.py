"""Batches that give no finite loss or gradient: left out and counted; three in a row end a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detach.config import Method, RunConfig, override, preset
from detach.course import Course
from detach.errors import DivergedError
from detach.model import load_run
from detach.train import Material, load_material, train

from .world_jobs import SMALL  # type: ignore[import-not-found]


def small(**changes: Any) -> RunConfig:
    return override(override(preset("recommended"), SMALL), {"stage2": {"epochs": 2}, **changes})


@pytest.fixture(scope="module")
def material(tiny_dataset: Path) -> Material:
    return load_material(tiny_dataset, small(), quiet)


def quiet(_: str) -> None:
    pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_run(folder).model.state_dict()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def spoil(monkeypatch: pytest.MonkeyPatch, stage: str, batches: tuple[int, ...]) -> None:
    """Sensor samples that are no numbers, in some batches of a stage."""
    real, seen = Course.steps, 0

    def steps(self: Course, *arguments: Any) -> Any:
        nonlocal seen
        for rows, batch in real(self, *arguments):
            samples = batch if isinstance(batch, torch.Tensor) else batch[0]
            if self._stage == stage:
                seen += 1
                if seen in batches:
                    samples[0, 3, 0] = torch.nan
            yield rows, batch

    monkeypatch.setattr(Course, "steps", steps)


@pytest.mark.parametrize(
    ("method", "stage"),
    [
        *(("detach", "stage1"), ("detach", "stage2"), ("global", "global")),
        *(("comodo", "student"), ("supervised", "supervised")),
    ],
)
def test_a_batch_that_is_no_number_is_left_out(
    material: Material,
    tmp_path: Path,
    method: Method,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch, stage, (1, 2, 4))
    config = small(method=method, stage1={"epochs": 2}, supervised={"epochs": 2, "batch_size": 64})
    train(material, tmp_path / "run", config, say=quiet)
    skipped = [row for row in lines(tmp_path / "run") if isinstance(row.get("skipped"), str)]
    assert [(row["stage"], row["epoch"], row["step"]) for row in skipped] == [
        (stage, 1, 1),
        (stage, 1, 2),
        (stage, 2, 2),
    ]
    counted = [r["skipped"] for r in lines(tmp_path / "run") if isinstance(r.get("skipped"), int)]
    assert counted[-1] == 3
    for name, value in weights(tmp_path / "run").items():
        assert value.isfinite().all(), name


def test_the_teacher_keeps_its_scale_where_the_first_batch_is_left_out(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(method="comodo", stage1={"epochs": 1}, stage2={"epochs": 1})
    train(material, tmp_path / "whole", config, say=quiet)
    spoil(monkeypatch, "student", (1,))
    train(material, tmp_path / "spoiled", config, say=quiet)
    whole, spoiled = weights(tmp_path / "whole"), weights(tmp_path / "spoiled")
    assert whole["mean"].abs().max() > 0
    for name in ("mean", "std"):
        assert torch.equal(spoiled[name], whole[name]), name


def test_three_in_a_row_end_the_run(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, "stage1", (4, 5, 6))
    with pytest.raises(DivergedError, match=r"epoch 3, step 2: .* third batch in a row") as caught:
        train(material, tmp_path / "run", small(), say=quiet)
    assert caught.value.exit_code == 5
    monkeypatch.undo()
    train(material, tmp_path / "run", small(), resume=True, say=quiet)  # what is saved is good
    for name, value in weights(tmp_path / "run").items():
        assert value.isfinite().all(), name
