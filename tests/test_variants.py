"""Ablations and controls: each is really another training, and the one its name says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from detach import equations, ops
from detach.clustering import OnlineClustering
from detach.config import Preset, TemporalStageConfig, preset
from detach.evaluate import evaluate
from detach.model import Detach, load_run
from detach.report import report
from detach.stage2_loss import Features, Overlap, _written_out, loss_options, stage2_loss
from detach.train import Material, load_material, train

from .tiny import small  # type: ignore[import-not-found]

STAGE2: dict[str, dict[str, Any]] = {
    "without spatial weight": {"lambda_hard": 1.0},
    "without temporal weight": {"temporal": "none"},
    "constant weight": {"negatives": "constant"},
    "hard negatives emphasised": {"negatives": "emphasised"},
    "hard negatives eased": {"negatives": "eased"},
    "HCL": {"negatives": "hcl"},
    "debiased": {"negatives": "debiased"},
    "weight not detached": {"detach_weight": False},
    "without momentum encoder": {"momentum": 0.0},
    "momentum without ramp": {"momentum_ramp": False},
    "temporal logits alone": {"logits": "temporal"},
    "overlapping windows masked": {"mask_overlap": True},
    "gated by nothing, squared": {"gate": "none", "power": 2},
    "motion compared within modalities": {"temporal": "intra"},
}


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def material(tiny_dataset: Path) -> Material:
    return load_material(tiny_dataset, small(), quiet)


@pytest.fixture(scope="module")
def usual(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as recommended."""
    return train(material, tmp_path_factory.mktemp("usual") / "run", small(), say=quiet)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", STAGE2)
def test_a_variant_of_stage_2_trains_to_something_else(
    material: Material, usual: Path, tmp_path: Path, name: str
) -> None:
    config = small(stage2=STAGE2[name])
    run = train(material, tmp_path / "run", config, stage1_from=usual, say=quiet)
    a, b = (load_file(folder / "model.safetensors") for folder in (usual, run))
    same = [k for k in a if "spatial" in k]
    assert all(torch.equal(a[k], b[k]) for k in same)
    moved = [k for k in a if k.endswith("temporal.project.weight")]
    assert moved
    assert all((a[k] - b[k]).abs().max() > 1e-6 for k in moved)


@pytest.mark.parametrize("kind", ["light", "transformer", "imu"])
def test_another_sensor_encoder_trains_and_tells_order(
    material: Material, usual: Path, tmp_path: Path, kind: str
) -> None:
    config = small(encoders={"motion": kind})
    run = train(material, tmp_path / "run", config, say=quiet)
    model, other = load_run(run).model, load_run(usual).model
    assert isinstance(model, Detach)
    assert isinstance(other, Detach)
    assert type(model.sensor_temporal) is not type(other.sensor_temporal)
    samples = torch.from_numpy(material.windows.samples[:8])
    with torch.no_grad():
        made, turned = model.sensor_temporal(samples), model.sensor_temporal(samples.flip(1))
    assert made.shape == (8, 16)
    assert (made - turned).abs().max() > 1e-3


def test_shuffled_pairs_train_to_something_else(
    material: Material, usual: Path, tmp_path: Path
) -> None:
    config = small(augment={"wrong_pictures": True})
    run = train(material, tmp_path / "run", config, say=quiet)
    a, b = (load_file(folder / "model.safetensors") for folder in (usual, run))
    assert not torch.equal(a["video_spatial.project.weight"], b["video_spatial.project.weight"])


def features(n: int = 24, *, grad: bool = False) -> tuple[Features, tuple[Tensor, Tensor], Overlap]:
    """Windows of which some are alike in place, some in motion, some in both."""
    g = torch.Generator().manual_seed(0)
    place = torch.randn(3, 8, generator=g)[torch.arange(n) % 3]
    motion = torch.randn(4, 8, generator=g)[torch.arange(n) % 4]

    def near(x: Tensor) -> Tensor:
        return x + 0.3 * torch.randn(x.shape, generator=g)

    temporal = [near(motion).requires_grad_(grad) for _ in range(2)]
    parts = Features(near(place), temporal[0], near(place), temporal[1])
    overlap = Overlap(torch.arange(n) // 8, torch.arange(n).double() % 8, 2.0)
    return parts, (near(motion), near(motion)), overlap


def loss(changes: dict[str, Any], name: Preset = "recommended") -> float:
    parts, slow, overlap = features()
    stage = replace(preset(name).stage2, **changes)
    return float(stage2_loss(parts, slow, stage, plain=False, overlap=overlap))


@pytest.mark.parametrize("name", [n for n in STAGE2 if "momentum" not in n and "detach" not in n])
def test_a_variant_is_another_loss(name: str) -> None:
    assert abs(loss(STAGE2[name]) - loss({})) > 5e-4


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["recommended", "paper-v1", "camera-ready"])
def test_written_out_it_is_the_fused_loss(name: Preset, masked: bool) -> None:
    parts, slow, overlap = features()
    stage = replace(preset(name).stage2, transpose=True, mask_overlap=masked)
    options = loss_options(stage, plain=False)
    slowly = _written_out(parts, slow, stage, options, plain=False, overlap=overlap)
    fused = ops.weighted_contrastive_loss(
        *parts, *slow, **options, mask=overlap if masked else None
    )
    torch.testing.assert_close(slowly, fused.float(), rtol=1e-5, atol=1e-5)


def test_the_constant_weight_is_the_mean_of_the_real_ones() -> None:
    parts, slow, overlap = features()
    stage = preset("recommended").stage2
    weight = equations.negative_weight(parts[0], parts[2], *slow, temporal=stage.temporal)
    n = len(weight)
    mean = float(weight.sum() / (n * (n - 1)))
    assert abs(mean - 1) > 0.05
    video, sensor = equations.video_embedding(*parts[:2]), equations.sensor_embedding(*parts[2:])
    expected = equations.contrast_loss(
        video, sensor, torch.full((n, n), mean).fill_diagonal_(0.0), temperature=stage.temperature
    )
    found = stage2_loss(
        parts, slow, replace(stage, negatives="constant"), plain=False, overlap=overlap
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["weighted", "constant", "emphasised", "eased"])
def test_where_the_weight_is_symmetric_its_transpose_changes_nothing(
    kind: str, masked: bool
) -> None:
    same = {"negatives": kind, "temporal": "intra", "mask_overlap": masked}
    there, back = (loss({**same, "transpose": transpose}) for transpose in (True, False))
    assert there == pytest.approx(back, rel=1e-5)


@pytest.mark.parametrize(("kind", "power"), [("emphasised", 1.0), ("eased", -1.0)])
def test_hard_negatives_weigh_more_or_less_at_the_same_mean(kind: str, power: float) -> None:
    parts, slow, overlap = features()
    stage = preset("recommended").stage2
    weight = equations.negative_weight(parts[0], parts[2], *slow, temporal=stage.temporal)
    n = len(weight)
    other = ~torch.eye(n, dtype=torch.bool)
    similar = equations.spatial_similarity(parts[0], parts[2])
    own = equations.spatial_weight(similar) ** power
    own = own * weight[other].mean() / own[other].mean()
    hard = other & (torch.arange(n)[:, None] % 3 == torch.arange(n) % 3)
    easy = other & ~hard
    assert (own[hard].mean() > own[easy].mean()) == (power > 0)
    video, sensor = equations.video_embedding(*parts[:2]), equations.sensor_embedding(*parts[2:])
    expected = equations.contrast_loss(
        video, sensor, own.fill_diagonal_(0.0), temperature=stage.temperature
    )
    changed = replace(stage, negatives=kind)  # type: ignore[arg-type]
    found = stage2_loss(parts, slow, changed, plain=False, overlap=overlap)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_weight_that_is_not_detached_pulls_and_looks_at_what_is_trained() -> None:
    pulls = []
    for detached in (True, False):
        parts, _, overlap = features(grad=True)
        online = (parts.video_temporal.detach(), parts.sensor_temporal.detach())
        stage = TemporalStageConfig(detach_weight=detached)
        value = stage2_loss(parts, online, stage, plain=False, overlap=overlap)
        value.backward()  # type: ignore[no-untyped-call,unused-ignore]
        assert parts.video_temporal.grad is not None
        pulls.append((float(value.detach()), parts.video_temporal.grad))
    assert abs(pulls[0][0] - pulls[1][0]) < 1e-5
    assert (pulls[0][1] - pulls[1][1]).abs().max() > 1e-4


def test_only_windows_of_one_recording_overlap() -> None:
    overlap = Overlap(torch.tensor([0, 0, 0, 1]), torch.tensor([0.0, 1.0, 2.0, 1.0]), 2.0)
    assert overlap.mask().int().tolist() == [
        [1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("spatial", ["places", "features"])
def test_without_stage_2_only_the_spatial_half_is_recognised_from(
    material: Material, tmp_path: Path, spatial: str
) -> None:
    config = small(stage2={"epochs": 0}, encoders={"spatial": spatial})
    run = train(material, tmp_path / "run", config, say=quiet)
    assert {row["stage"] for row in lines(run)} == {"stage1"}
    model = load_run(run).model
    assert isinstance(model, Detach)
    samples = torch.from_numpy(material.windows.samples[:5])
    place, embedding, _ = model.describe(samples)
    torch.testing.assert_close(embedding, torch.nn.functional.normalize(place, dim=1))
    assert embedding.shape[1] == model.embedding_width == (4 if spatial == "places" else 16)
    assert "detach" in str(evaluate([run]))
    assert "Share of pseudo-labels" in report([run]).read_text()


def test_random_pseudo_labels_keep_their_sizes_and_never_change(
    material: Material, usual: Path, tmp_path: Path
) -> None:
    run = train(material, tmp_path / "run", small(stage1={"pseudo_labels": "random"}), say=quiet)
    rows = [r for r in lines(run) if "clusters_size" in r]
    assert len({tuple(r["clusters_size"]) for r in rows}) == 1
    assert [r["change_rate"] for r in rows] == [0.0] * len(rows)
    a, b = (load_file(folder / "model.safetensors") for folder in (usual, run))
    assert not torch.equal(a["sensor_spatial.cue.weight"], b["sensor_spatial.cue.weight"])


def test_dealt_out_labels_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    centre = np.repeat(np.eye(3, 8), 100, axis=0)
    rows = torch.from_numpy((centre + 0.05 * rng.normal(size=(300, 8))).astype(np.float32))
    state = OnlineClustering.start(rows, 3, 0)
    before, sizes = state.label.clone(), state.sizes.tolist()
    state.shuffle(0)
    assert state.sizes.tolist() == sizes
    assert 0.2 < float((state.label == before).float().mean()) < 0.5
    state.update(torch.arange(300), rows, 0.5, assign=False)
    assert state.sizes.tolist() == sizes


def test_with_all_windows_confident_there_is_nothing_to_refine(
    material: Material, tmp_path: Path
) -> None:
    run = train(material, tmp_path / "run", small(stage1={"confident_q": 1.0}), say=quiet)
    refining = [r for r in lines(run) if r.get("phase") == "refine"]
    assert refining
    assert all(r["losses"]["refine"] == 0.0 and r["confident"] == 1.0 for r in refining)
