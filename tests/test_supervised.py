"""The network that learns from labels alone, where there are few."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.baseline_config import SupervisedConfig
from detach.config import RunConfig, override, preset
from detach.data.splits import few_of_each
from detach.material import as_trained_on
from detach.reproduce import costs
from detach.reproduce.costs import Costs
from detach.reproduce.rows import configured
from detach.train import Material, load_material, train

SMALL: dict[str, Any] = {
    "method": "supervised",
    "threads": 1,
    "split": {"by": "dataset", "labels": 2},
    "video": {"size_px": 32, "frames": 6},
    "encoders": {"width": 16, "video_scale": 0.125, "sensor_scale": 0.125},
    "supervised": {"epochs": 1, "least_steps": 7, "batch_size": 32},
}


def quiet(_: str) -> None:
    pass


def few(**changes: Any) -> RunConfig:
    return override(override(preset("recommended"), SMALL), changes)


@pytest.fixture
def material(tiny_dataset: Path) -> Material:
    return load_material(tiny_dataset, few(), quiet)


def epochs_of(material: Material, folder: Path, config: RunConfig) -> list[dict[str, Any]]:
    train(material, folder, config, say=quiet)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "losses" in row]


def test_a_few_labels_are_gone_through_until_there_were_enough_steps(
    material: Material, tmp_path: Path
) -> None:
    """And no other labels choose the epoch."""
    found = epochs_of(material, tmp_path / "run", few())
    assert len(found) == 7
    assert {row["validation_f1"] for row in found} == {0.0}


def test_all_labels_are_judged_by_those_held_out(tiny_dataset: Path, tmp_path: Path) -> None:
    config = few(split={"labels": None}, supervised={"epochs": 3, "least_steps": 1})
    found = epochs_of(load_material(tiny_dataset, config, quiet), tmp_path / "run", config)
    assert len(found) == 3
    assert max(row["validation_f1"] for row in found) > 0


def test_its_time_counts_all_passes(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, known = few(), Costs(tmp_path)
    monkeypatch.setattr(costs, "stage_seconds", lambda *_, **__: {"supervised": 2.0})
    known.probe("home", config, material)
    assert known.estimate("home", config, shared=False) == 7 * 2.0
    assert not known.known("home", few(split={"labels": 5}))
    rows = [{"stage": "supervised", "losses": {}, "elapsed_s": at} for at in (4.0, 5.0, 6.0)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.undo()
    assert costs.stage_seconds(tmp_path) == {"supervised": 6.0}


@pytest.mark.parametrize(("windows", "passes"), [(1, 500), (128, 500), (129, 250), (2269, 40)])
def test_passes_over_so_many_windows(windows: int, passes: int) -> None:
    assert SupervisedConfig().passes(windows) == passes


def test_every_seed_of_a_row_is_given_other_labels() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int32), 40)
    rows = [configured("supervised-5", preset("recommended"), seed).split for seed in (0, 1, 1)]
    drawn = [few_of_each(np.arange(120), labels, 5, row.labels_seed).tolist() for row in rows]
    assert drawn[0] != drawn[1] == drawn[2]
    assert {row.seed for row in rows} == {0}


def test_false_activations_are_in_what_it_learns_from(tiny_dataset: Path) -> None:
    config = few(augment={"false_per_min": 20.0}, split={"labels": None})
    material = load_material(tiny_dataset, config, quiet)
    changed = as_trained_on(material, config).samples != material.windows.samples
    touched = changed.any(axis=(1, 2))
    assert touched[material.parts["train"]].mean() > 0.5
    assert not touched[material.parts["test"]].any()


def test_it_needs_no_windows_without_labels(material: Material, tmp_path: Path) -> None:
    material.parts["pretrain"] = material.parts["pretrain"][:3]
    assert epochs_of(material, tmp_path / "run", few())
