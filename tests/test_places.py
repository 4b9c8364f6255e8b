"""Finding K: agreement by hand, a curve that knows clear groups, a run that takes its K."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from detach.cli.verbs import _with_places
from detach.config import override, preset
from detach.errors import DataError, UsageError
from detach.places import Stability, adjusted_rand, choose, stability
from detach.train import load_material, train

SMALL = {
    "threads": 1,
    "split": {"by": "dataset"},
    "video": {"size_px": 32, "frames": 6},
    "encoders": {"width": 16, "video_scale": 0.125, "sensor_scale": 0.125, "motion_size_px": 16},
    "stage1": {"epochs": 1, "warmup_epochs": 0, "joint_epochs": 1, "places": "auto"},
    "stage2": {"epochs": 1, "batch_size": 32},
}


@pytest.mark.parametrize(
    ("a", "b", "index"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),
        ([0, 0, 1, 1], [0, 1, 0, 1], -0.5),
        # pairs together in both: 2 of 1 + 3 and 1 + 3; by chance 16 / 10
        ([0, 0, 1, 1, 1], [0, 1, 1, 1, 1], (3 - 4 * 6 / 10) / ((4 + 6) / 2 - 4 * 6 / 10)),
        ([0, 0, 0], [0, 0, 0], 1.0),
    ],
)
def test_agreement_is_beyond_chance(a: list[int], b: list[int], index: float) -> None:
    assert adjusted_rand(np.array(a), np.array(b)) == pytest.approx(index)


def test_windows_that_are_all_alike_have_no_places() -> None:
    alike = np.tile(np.eye(8, dtype=np.float32)[:1], (400, 1))
    with pytest.raises(ValueError, match="not all alike"):
        choose(stability(alike, seed=0))
    two = np.eye(8, dtype=np.float32)[np.arange(400) % 2]
    curve = stability(two, seed=0)
    assert [point.clusters for point in curve] == [2]
    assert choose(curve) == 2


def test_clear_groups_are_counted() -> None:
    rng = np.random.default_rng(0)
    for groups in (3, 5):
        centre = np.eye(groups, 8)[rng.integers(0, groups, 400)]
        x = (centre + 0.08 * rng.normal(size=centre.shape)).astype(np.float32)
        curve = stability(x, seed=0, most=8)
        assert [point.clusters for point in curve] == list(range(2, 9))
        assert choose(curve) == groups
        assert all(p.low <= p.mean <= p.high for p in curve)
        assert curve[groups - 2].mean > 0.97


def test_the_most_stable_is_taken_and_of_equals_the_finest() -> None:
    curve = [
        Stability(k, m, m, m) for k, m in ((2, 0.99), (3, 0.95), (4, 0.7), (5, 0.99), (6, 0.6))
    ]
    assert choose(curve) == 5
    with pytest.raises(ValueError, match="one K at least"):
        choose([])


def test_a_run_takes_the_k_it_finds_and_keeps_the_curve(tiny_dataset: Path, tmp_path: Path) -> None:
    config = override(preset("recommended"), SMALL)
    material = load_material(tiny_dataset, config, lambda _: None)
    said: list[str] = []
    run = train(material, tmp_path / "run", config, say=said.append)
    about = yaml.safe_load((run / "config.yaml").read_text())["about"]
    curve = [Stability(**point) for point in about["places_curve"]]
    assert about["clusters"] == choose(curve)
    assert any(line.startswith(f"{about['clusters']} places, by how much") for line in said)
    rival = override(config, {"method": "global"})
    other = train(material, tmp_path / "rival", rival, say=lambda _: None)
    assert "places_curve" not in yaml.safe_load((other / "config.yaml").read_text())["about"]


def test_too_few_windows_to_count_places_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    config = override(preset("recommended"), SMALL)
    material = load_material(tiny_dataset, config, lambda _: None)
    few = replace(material, parts={**material.parts, "pretrain": material.parts["pretrain"][:6]})
    with pytest.raises(DataError, match="places cannot be counted"):
        train(few, tmp_path / "run", config, say=lambda _: None)


def test_places_are_given_or_found() -> None:
    base = preset("recommended")
    assert _with_places(base, None) is base
    assert _with_places(base, 5).stage1.clusters == 5
    fixed = override(base, {"stage1": {"clusters": 7}})
    found = _with_places(fixed, "auto").stage1
    assert (found.places, found.clusters) == ("auto", None)
    with pytest.raises(UsageError, match="--places: clusters must be >= 2"):
        _with_places(base, 1)
    with pytest.raises(ValueError, match="none where places are found"):
        override(base, {"stage1": {"clusters": 7, "places": "auto"}})
