"""Training: the path through both stages, what the presets change, resuming bit for bit."""

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detach import ops
from detach.clustering import OnlineClustering
from detach.config import PRESETS, Method, Preset, override, preset
from detach.course import Course
from detach.errors import DataError, DivergedError, MachineError, UsageError
from detach.model import Detach, Supervised, build, embed, load_run, predict
from detach.train import Material, load_material, pick_device, train, train_seeds
from detach.train_temporal import MomentumEncoders, freeze_spatial, loss_options

from .tiny import small  # type: ignore[import-not-found]


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def material(tiny_dataset: Path) -> Material:
    return load_material(tiny_dataset, small(), quiet)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_run(folder).model.state_dict()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def logged(folder: Path) -> list[dict[str, float]]:
    return [row.get("losses", {}) for row in lines(folder)]


@pytest.mark.parametrize("method", ["detach", "infonce", "global"])
def test_a_run_folder_comes_out(material: Material, tmp_path: Path, method: Method) -> None:
    config = small(method=method)
    train(material, tmp_path / "run", config, say=quiet)
    run = load_run(tmp_path / "run")
    assert run.config == config
    index = material.parts["test"]
    features = embed(run.model, material.windows, index, batch=7)
    whole = embed(run.model, material.windows, index)
    np.testing.assert_allclose(features.sensor, whole.sensor, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features.video, axis=1), 1.0, atol=1e-5)
    fresh = embed(build(config, 6, 4), material.windows, index)
    assert np.abs(fresh.sensor - features.sensor).max() > 0.01
    rows = logged(tmp_path / "run")
    assert all(np.isfinite(v) for losses in rows for v in losses.values())


def test_supervised_learns_the_tiny_task(material: Material, tmp_path: Path) -> None:
    config = small(method="supervised", supervised={"epochs": 25})
    train(material, tmp_path / "run", config, say=quiet)
    run = load_run(tmp_path / "run")
    assert isinstance(run.model, Supervised)
    guess = predict(run.model, material.windows, material.parts["test"]).argmax(axis=1)
    truth = material.windows.labels[material.track][material.parts["test"]]
    assert (guess == truth).mean() > 0.6


def test_stage1_phases_and_change_rate_are_logged(material: Material, tmp_path: Path) -> None:
    train(material, tmp_path / "run", small(), say=quiet)
    rows = lines(tmp_path / "run")
    first = [r for r in rows if r["stage"] == "stage1" and "phase" in r]
    assert [r["phase"] for r in first] == ["cluster", "joint", "refine", "refine"]
    assert first[0]["losses"]["video"] == 0.0
    assert first[1]["losses"]["video"] > 0.0
    assert first[1]["losses"]["refine"] == 0.0
    assert first[2]["losses"]["refine"] > 0.0
    assert all(sum(r["clusters_size"]) == len(material.parts["pretrain"]) for r in first)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains(tiny_dataset: Path, tmp_path: Path, name: Preset) -> None:
    config = small(name, split={"by": "dataset"})
    train(load_material(tiny_dataset, config, quiet), tmp_path / "run", config, say=quiet)
    assert load_run(tmp_path / "run").config.preset == name


def test_presets_differ_where_the_versions_do() -> None:
    losses = {name: loss_options(preset(name).stage2, plain=False) for name in PRESETS}
    assert losses["paper-v1"]["gate"] == "none"
    assert losses["paper-v1"]["power"] == 2
    crossed = [name for name, loss in losses.items() if loss["temporal"] == "cross"]
    assert crossed == ["recommended", "camera-ready"]
    assert preset("authors-code").stage2.transpose is False
    assert preset("recommended").stage2.transpose is True
    assert preset("authors-code").encoders.average == "features"
    centred = {name: preset(name).encoders.centre_motion for name in PRESETS}
    assert [name for name, is_on in centred.items() if is_on] == ["recommended"]
    assert preset("authors-code").stage1.bank_momentum == 0.9
    assert preset("paper-v1").encoders.flow
    assert not preset("camera-ready").encoders.flow
    assert preset("camera-ready").augment.time_warp == 0.0
    plain = loss_options(preset("recommended").stage2, plain=True)
    assert (plain["lambda_hard"], plain["temporal"]) == (1.0, "none")


def test_frozen_means_frozen(material: Material, tmp_path: Path) -> None:
    config = small()
    train(material, tmp_path / "a", config, say=quiet)
    train(material, tmp_path / "b", override(config, {"stage2": {"epochs": 1}}), say=quiet)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    spatial = [k for k in a if "spatial" in k or k == "centroids"]
    assert any("running_mean" in k for k in spatial)
    assert all(torch.equal(a[k], b[k]) for k in spatial)
    assert not torch.equal(a["sensor_temporal.project.weight"], b["sensor_temporal.project.weight"])


def test_momentum_follows_and_ramps() -> None:
    config = small()
    model = build(config, 6, 4)
    assert isinstance(model, Detach)
    freeze_spatial(model)
    copies = MomentumEncoders(model, config)
    slow = next(copies.encoders.parameters())
    fast = next(model.video_temporal.parameters())
    assert torch.equal(slow, fast)
    with torch.no_grad():
        fast.add_(1.0)
    copies.update(0)
    torch.testing.assert_close(fast - slow, torch.full_like(fast, 0.1))


@pytest.mark.parametrize("method", ["detach", "global", "supervised"])
@pytest.mark.parametrize("stop_at", [1, 4, 7, 9, 11])
def test_resumes_bit_for_bit(
    material: Material,
    tmp_path: Path,
    method: Method,
    stop_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small(method=method, supervised={"epochs": 6}, stage2={"epochs": 3})
    train(material, tmp_path / "straight", config, say=quiet)
    seen = 0
    between = Course._between_steps

    def interrupted(self: Course, share: float) -> None:
        nonlocal seen
        seen += 1
        self._stop = signal.SIGINT if seen == stop_at else None
        between(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "_between_steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(material, tmp_path / "stopped", config, say=quiet)
    assert not (tmp_path / "stopped/model.safetensors").exists()
    train(material, tmp_path / "stopped", config, resume=True, say=quiet)
    a, b = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert logged(tmp_path / "straight") == logged(tmp_path / "stopped")


def test_a_run_that_ended_before_it_saved_begins_anew(material: Material, tmp_path: Path) -> None:
    config = small(method="supervised")
    train(material, tmp_path / "straight", config, say=quiet)
    (tmp_path / "cut").mkdir()
    shutil.copy(tmp_path / "straight/config.yaml", tmp_path / "cut")
    said: list[str] = []
    train(material, tmp_path / "cut", config, resume=True, say=said.append)
    assert "begins anew" in said[0]
    assert logged(tmp_path / "straight") == logged(tmp_path / "cut")


@pytest.mark.parametrize("method", ["detach", "global"])
def test_the_loss_is_never_computed_in_half_precision(
    material: Material, tmp_path: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    contrast_loss = ops.weighted_contrastive_loss

    def watched(*parts: Any, **options: Any) -> torch.Tensor:
        loss: torch.Tensor = contrast_loss(*parts, **options)
        seen.extend(x.dtype for x in (*parts, loss))
        return loss

    monkeypatch.setattr(ops, "weighted_contrastive_loss", watched)
    short = {"epochs": 1}
    config = small(method=method, precision="bfloat16", stage1=short, stage2=short)
    train(material, tmp_path / "run", config, say=quiet)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("method", ["detach", "global"])
def test_the_kernel_trains_as_the_equations_do(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    config = small(method=method)
    train(material, tmp_path / "kernel", config, say=quiet)
    monkeypatch.setenv("DETACH_BACKEND", "reference")
    train(material, tmp_path / "equations", config, say=quiet)
    ours, theirs = (logged(tmp_path / name) for name in ("kernel", "equations"))
    assert any("contrast" in losses for losses in ours)
    for found, expected in zip(ours, theirs, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)  # rounding, through two epochs


def test_centroids_move_every_few_steps_across_epochs(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    for name, letter in (("update", "u"), ("update_centroids", "c"), ("end_epoch", "e")):
        monkeypatch.setattr(OnlineClustering, name, noting(name, letter, events))
    config = small(stage1={"centroid_every": 3}, stage2={"epochs": 1})
    train(material, tmp_path / "run", config, say=quiet)
    story = "".join(events)
    assert story.count("u") == 8  # 4 epochs of 2 steps
    assert story.count("uc") == 2  # after the third and the sixth


def noting(name: str, letter: str, events: list[str]) -> Any:
    real = getattr(OnlineClustering, name)

    def method(*parts: Any, **named: Any) -> Any:
        events.append(letter)
        return real(*parts, **named)

    return method


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(material: Material, tmp_path: Path, number: int) -> None:
    log = tmp_path / "run/metrics.jsonl"

    def stop_when_it_runs() -> None:
        while not log.is_file():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop_when_it_runs, daemon=True).start()
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(material, tmp_path / "run", small(stage2={"epochs": 10_000}), say=quiet)
    assert (tmp_path / "run/checkpoints/last.safetensors").is_file()
    assert signal.getsignal(number) == before


def test_seeds_make_folders_and_finished_ones_are_kept(tiny_dataset: Path, tmp_path: Path) -> None:
    config = small(method="supervised", supervised={"epochs": 1})
    folders = train_seeds(tiny_dataset, tmp_path / "r", config, 2, resume=False, say=quiet)
    assert [f.name for f in folders] == ["seed0", "seed1"]
    a, b = (weights(f) for f in folders)
    assert not torch.equal(a["head.weight"], b["head.weight"])
    said: list[str] = []
    train_seeds(tiny_dataset, tmp_path / "r", config, 2, resume=True, say=said.append)
    assert sum("finished already" in line for line in said) == 2


def test_an_old_run_is_not_overwritten(material: Material, tmp_path: Path) -> None:
    config = small(method="supervised")
    train(material, tmp_path / "run", config, say=quiet)
    with pytest.raises(UsageError, match="holds a run already"):
        train(material, tmp_path / "run", config, say=quiet)
    with pytest.raises(UsageError, match="begun with other options"):
        train(material, tmp_path / "run", replace(config, seed=9), resume=True, say=quiet)


def test_refusals(material: Material, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few for 60 clusters"):
        train(material, tmp_path / "k", small(stage1={"clusters": 60}), say=quiet)
    with pytest.raises(DataError, match="nothing to resume|no run folder"):
        train(material, tmp_path / "none", small(), resume=True, say=quiet)
    with pytest.raises(ValueError, match="at least 40 samples"):
        build(small(sensors={"rate_hz": 10.0}), 6, 4)
    with pytest.raises(MachineError, match="sees no GPU"):
        pick_device("cuda:7")


def test_two_processes_do_not_train_into_one_folder(material: Material, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is training into it"):
            train(material, out, small(), say=quiet)
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"device": "tpu"}, "device must be auto"), ({"threads": 100_000}, "threads must be")],
)
def test_what_the_machine_cannot_do_is_said_first(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    def run() -> None:
        config = small(**changes)
        train_seeds(tmp_path / "none", tmp_path / "run", config, 1, resume=False, say=quiet)

    with pytest.raises((UsageError, ValueError), match=said):
        run()
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file"):
        train_seeds(tmp_path, tmp_path / "file/run", small(), 1, resume=False, say=quiet)


def test_recordings_without_video_train_only_supervised(data: Path) -> None:
    for path in data.glob("r*/recording.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"videos": []}))
    with pytest.raises(DataError, match="no recording has a video"):
        load_material(data, small(), quiet)
    assert not load_material(data, small(method="supervised"), quiet).windows.pictures


@pytest.mark.parametrize(
    ("cut", "said"), [("  stage1:", "was the file cut short"), ("config:", "malformed entry")]
)
def test_half_a_configuration_is_refused(
    material: Material, tmp_path: Path, cut: str, said: str
) -> None:
    train(material, tmp_path / "run", small(method="global"), say=quiet)
    path = tmp_path / "run/config.yaml"
    path.write_text(path.read_text().partition(cut)[0])
    with pytest.raises(DataError, match=said):
        load_run(tmp_path / "run")


def test_divergence_is_said(material: Material, tmp_path: Path) -> None:
    config = small(stage1={"learning_rate": 1e30})
    with pytest.raises(DivergedError, match=r"stage1.*Lower stage1.learning_rate"):
        train(material, tmp_path / "run", config, say=quiet)


def test_stage1_of_another_run_is_the_same_stage1(material: Material, tmp_path: Path) -> None:
    train(material, tmp_path / "a", small(), say=quiet)
    plain = small(method="infonce")
    train(material, tmp_path / "b", plain, say=quiet)
    train(material, tmp_path / "c", plain, stage1_from=tmp_path / "a", say=quiet)
    b, c = weights(tmp_path / "b"), weights(tmp_path / "c")
    assert all(torch.equal(b[k], c[k]) for k in b)
    other = replace(plain, seed=4)
    with pytest.raises(UsageError, match="cannot be taken from a run with other seed"):
        train(material, tmp_path / "d", other, stage1_from=tmp_path / "a", say=quiet)
    whole = small(method="global")
    with pytest.raises(UsageError, match="method global has no stage 1"):
        train(material, tmp_path / "e", whole, stage1_from=tmp_path / "a", say=quiet)
