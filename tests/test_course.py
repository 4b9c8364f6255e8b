"""A run on its way: other data, other precision, how many batches, steps that are not taken."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from detach import train_spatial
from detach.config import override
from detach.course import batches_in
from detach.errors import UsageError
from detach.optimizers import LEAST_SCALE, Stepper
from detach.train import Material, load_material, train

from .test_train import quiet, small  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def material(tiny_dataset: Path) -> Material:
    return load_material(tiny_dataset, small(), quiet)


@pytest.fixture(scope="module")
def other(material: Material) -> Material:
    """The same windows of a data set that is not the same."""
    dataset = replace(material.dataset, classes={**material.dataset.classes, "more": ("a",)})
    return replace(material, dataset=dataset)


@pytest.mark.parametrize(
    ("count", "batch", "expected"),
    [(9, 2, 4), (10, 2, 5), (257, 256, 2), (256, 256, 1), (1, 8, 1), (3, 2, 1), (100, 33, 4)],
)
def test_no_batch_is_a_single_window(count: int, batch: int, expected: int) -> None:
    assert batches_in(count, batch) == expected


def test_a_run_goes_on_with_its_own_data(
    material: Material, other: Material, tmp_path: Path
) -> None:
    out, config = tmp_path / "run", small(method="supervised")
    train(material, out, config, say=quiet)
    (out / "model.safetensors").unlink()
    before = (out / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match="was begun with other data than"):
        train(other, out, config, resume=True, say=quiet)
    assert (out / "config.yaml").read_bytes() == before
    train(material, out, config, resume=True, say=quiet)


def test_a_stage_1_of_other_data_is_not_taken(
    material: Material, other: Material, tmp_path: Path
) -> None:
    train(material, tmp_path / "a", small(stage2={"epochs": 0}), say=quiet)
    with pytest.raises(UsageError, match="from a run with other data"):
        train(other, tmp_path / "b", small(), stage1_from=tmp_path / "a", say=quiet)


def test_a_run_stopped_in_its_own_stage_1_takes_no_other(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(material, tmp_path / "a", small(stage2={"epochs": 0}), say=quiet)
    whole = train_spatial._Work.close_epoch

    def stopped(work: train_spatial._Work, *, last: bool) -> bool:
        if work.course.epoch == 1:
            raise KeyboardInterrupt
        return whole(work, last=last)

    with monkeypatch.context() as patch:
        patch.setattr(train_spatial._Work, "close_epoch", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(material, tmp_path / "b", small(), say=quiet)
    with pytest.raises(UsageError, match="stopped in a stage 1 of its own"):
        train(material, tmp_path / "b", small(), resume=True, stage1_from=tmp_path / "a", say=quiet)
    train(material, tmp_path / "b", small(), resume=True, say=quiet)


def test_the_largest_seed_there_is(material: Material, tmp_path: Path) -> None:
    config = small(stage1={"small_cluster": 0.5, "epochs": 2}, stage2={"epochs": 0})
    train(material, tmp_path / "run", replace(config, seed=2**32 - 1), say=quiet)


@pytest.mark.parametrize("name", ["small_cluster", "alpha", "beta", "stop_change"])
def test_weights_of_stage_1_have_a_range(name: str) -> None:
    for value in (float("nan"), -1.0):
        with pytest.raises(ValueError, match=f"{name} must be"):
            override(small(), {"stage1": {name: value}})
    with pytest.raises(ValueError, match=r"small_cluster must be in \[0, 0.5\]"):
        override(small(), {"stage1": {"small_cluster": 0.9}})


def test_gradients_that_never_are_finite_end_a_run_in_float16() -> None:
    """The scaler halves its scale as long as that may help; the schedule waits meanwhile."""
    layer = nn.Linear(2, 1)
    device, config = torch.device("cpu"), small(precision="float16")
    stepper = Stepper(layer.parameters(), config.stage1, 100, config, device)
    said = [stepper.step(layer(torch.ones(1, 2)).sum() * float("nan")) for _ in range(40)]
    assert said[0]
    assert not said[-1]
    assert stepper.scaler.get_scale() < LEAST_SCALE
    assert stepper.schedule.last_epoch == 0
