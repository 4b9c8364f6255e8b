"""The rivals: one contract for all, and what makes each of them that rival and no other."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from detach.baseline_config import (
    Imu2ClipConfig,
    PrimusConfig,
    steps_left,
)
from detach.baselines.comodo import Comodo
from detach.baselines.imu2clip import Imu2Clip
from detach.config import EncoderConfig, Method, RunConfig, override, preset
from detach.course import Course
from detach.data.frames import Frames
from detach.data.recording import read_dataset
from detach.data.sensors import ChannelStats
from detach.data.windows import Windows
from detach.errors import UsageError
from detach.evaluate import evaluate
from detach.export import export
from detach.model import build, embed, load_run
from detach.report import report
from detach.resnet import ResNetClips
from detach.results import read_results
from detach.train import Material, load_material, train
from detach.train_rivals import fit

RIVALS: tuple[Method, ...] = ("global", "imu2clip", "primus", "comodo", "cav-mae")
NEW: tuple[Method, ...] = RIVALS[1:]
SMALL: dict[str, Any] = {
    "threads": 1,
    "split": {"by": "dataset"},
    "video": {"size_px": 32, "frames": 6},
    "encoders": {"width": 16, "video_scale": 0.125, "sensor_scale": 0.125, "motion_size_px": 16},
    "stage1": {"epochs": 2, "warmup_epochs": 1, "joint_epochs": 1, "clusters": 4},
    "stage2": {"epochs": 2, "batch_size": 32, "learning_rate": 1e-3},
    "primus": {"samples": 200},
    "imu2clip": {"samples": 200},
    "comodo": {"hidden": 32, "output": 16},
    "cav_mae": {"depth": 1, "samples": 64, "window": 16, "bins": 16},
}


def small(**changes: Any) -> RunConfig:
    return override(override(preset("recommended"), SMALL), changes)


def quiet(_: str) -> None:
    pass


def drawn(length: int, channels: int, count: int = 48) -> Windows:
    """Windows of noise whose pictures and samples rise together."""
    rng = np.random.default_rng(length + channels)
    level = rng.random(count)
    ramp = np.linspace(0, 1, length)[None, :, None] * level[:, None, None]
    samples = (ramp + 0.1 * rng.normal(size=(count, length, channels))).astype(np.float32)
    shade = (255 * level).astype(np.uint8)[:, None, None, None, None]
    pictures = np.broadcast_to(shade, (count, 6, 16, 20, 3)).reshape(-1, 16, 20, 3).copy()
    index = np.arange(count * 6, dtype=np.int32).reshape(count, 6)
    return Windows(
        samples=samples,
        observed=np.ones((count, channels), dtype=bool),
        recording=np.zeros(count, dtype=np.int32),
        recordings=("r0",),
        subject=("s0",),
        run=("r0",),
        start_s=np.arange(count, dtype=np.float64),
        in_view=np.ones(count, dtype=bool),
        labels={},
        classes={},
        channels=(),
        stats=ChannelStats(names=(), mean=(), std=()),
        counts={},
        seconds=2.0,
        skip_empty=True,
        frame_index=index,
        pictures=(Frames(pictures, np.arange(count * 6) / 10.0, Path("none")),),
    )


@pytest.fixture(scope="module")
def material(tiny_dataset: Path) -> Material:
    return load_material(tiny_dataset, small(), quiet)


@pytest.mark.parametrize("channels", [1, 12, 64])
@pytest.mark.parametrize("length", [60, 100, 128])
@pytest.mark.parametrize("method", RIVALS)
def test_windows_of_any_length_and_width_are_fitted(
    tmp_path: Path, method: Method, length: int, channels: int
) -> None:
    windows = drawn(length, channels)
    config = small(
        method=method, sensors={"length": length}, stage1={"epochs": 1}, stage2={"epochs": 1}
    )
    encoder = fit(windows, np.arange(48), config, tmp_path, say=quiet)
    fresh = build(config, channels, 2).get_submodule("sensor")
    trained, start = (
        torch.cat([p.detach().flatten() for p in e.parameters()]) for e in (encoder, fresh)
    )
    assert torch.isfinite(trained).all()
    assert (trained - start).abs().max() > 1e-4


@pytest.mark.parametrize("method", NEW)
def test_a_rival_trains_evaluates_and_reports_like_the_others(
    material: Material, tmp_path: Path, method: Method
) -> None:
    run = train(material, tmp_path / "run", small(method=method), say=quiet)
    model = load_run(run).model
    index = material.parts["test"]
    found = embed(model, material.windows, index, batch=7)
    whole = embed(model, material.windows, index)
    np.testing.assert_allclose(found.sensor, whole.sensor, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.video, axis=1), 1.0, atol=1e-5)
    table = str(evaluate([run]))
    assert method in table
    assert f"untrained encoder, {method}" in table
    assert [r.kind for r in read_results(run).retrieval] == ["method", "reference"]
    assert method in report([run]).read_text()
    with pytest.raises(UsageError, match="cannot be exported"):
        export(run, tmp_path / "x.detach")


@pytest.mark.parametrize(
    ("method", "stop_at"),
    [("imu2clip", 3), ("primus", 5), ("comodo", 3), ("comodo", 9), ("cav-mae", 4)],
)
def test_a_rival_resumes_bit_for_bit(
    material: Material,
    tmp_path: Path,
    method: Method,
    stop_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small(method=method, stage2={"epochs": 3})
    train(material, tmp_path / "straight", config, say=quiet)
    seen, between = 0, Course._between_steps

    def interrupted(self: Course, share: float) -> None:
        nonlocal seen
        seen += 1
        self._stop = signal.SIGINT if seen == stop_at else None
        between(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "_between_steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(material, tmp_path / "stopped", config, say=quiet)
    train(material, tmp_path / "stopped", config, resume=True, say=quiet)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "stopped"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_of_before_the_rivals_still_loads(material: Material, tmp_path: Path) -> None:
    run = train(material, tmp_path / "run", small(method="global"), say=quiet)
    path = run / "config.yaml"
    path.write_text(path.read_text().partition("  imu2clip:")[0])
    assert load_run(run).config.primus == PrimusConfig()


@pytest.mark.parametrize("method", ["global", "imu2clip", "primus", "comodo"])
def test_any_module_may_watch_the_video(tmp_path: Path, method: Method) -> None:
    class Mean(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.project = nn.Linear(3, width)

        def forward(self, frames: Tensor) -> Tensor:
            assert frames.shape[1:3] in {(6, 3), (3, 3)}  # COMODO's views have half the frames
            return self.project(frames.mean(dim=(1, 3, 4)))  # type: ignore[no-any-return]

    config = small(method=method, stage1={"epochs": 1}, stage2={"epochs": 1})
    given = Mean(32)
    before = given.project.weight.detach().clone()
    index = np.arange(48)
    fit(drawn(60, 3), index, config, tmp_path / "a", video_encoder=given, say=quiet)
    assert not torch.equal(before, given.project.weight)
    with pytest.raises(ValueError, match=r"must make \[\d+, 32\]"):
        fit(drawn(60, 3), index, config, tmp_path / "b", video_encoder=Mean(8), say=quiet)


@pytest.mark.parametrize("method", ["cav-mae", "detach"])
def test_a_foreign_video_encoder_is_refused_where_it_cannot_be(method: Method) -> None:
    with pytest.raises(ValueError, match="video_encoder is for imu2clip"):
        build(small(method=method), 3, 4, video_encoder=nn.Identity())


def test_tokens_are_watched_by_no_residual_network() -> None:
    with pytest.raises(ValueError, match=r"encoders\.video must be cnn for cav-mae"):
        build(small(method="cav-mae", encoders={"video": "resnet18"}), 3, 4)


def test_a_rival_may_watch_with_a_residual_network(tmp_path: Path) -> None:
    config = small(
        method="imu2clip",
        stage1={"epochs": 1},
        stage2={"epochs": 0},
        encoders={"video": "resnet18"},
    )
    encoder = fit(drawn(60, 3), np.arange(8), config, tmp_path, say=quiet)
    assert encoder(torch.zeros(2, 60, 3)).shape == (2, 32)
    for method in ("imu2clip", "global"):
        watching = build(override(config, {"method": method}), 3, 2).get_submodule("video.encoder")
        assert isinstance(watching, ResNetClips)


@pytest.mark.parametrize(
    ("section", "samples", "said"),
    [("imu2clip", 150, "leave 1 steps of 150"), ("primus", 128, "leave 1 steps of 128")],
)
def test_a_one_step_gru_is_refused(section: str, samples: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**{section: {"samples": samples}})
    as_they_ran_it = small(**{section: {"samples": samples, "least_steps": 1}})
    assert getattr(as_they_ran_it, section).samples == samples


@pytest.mark.parametrize("pool_last", [True, False])
@pytest.mark.parametrize("samples", [150, 192, 500])
def test_steps_left_are_those_of_the_layers(samples: int, pool_last: bool) -> None:
    config = EncoderConfig(width=16, sensor_scale=0.25)
    stack = Imu2Clip(1, config).sensor.convolutions.layers
    layers = stack if pool_last else nn.Sequential(*list(stack)[:-2])
    made = layers(torch.zeros(1, 1, samples))
    assert made.shape[2] == steps_left(samples, pool_last=pool_last)


@pytest.mark.parametrize("method", ["primus", "comodo"])
def test_a_queue_longer_than_the_data_is_refused(
    material: Material, tmp_path: Path, method: Method
) -> None:
    config = small(**{"method": method, method: {"queue": 8192}})
    with pytest.raises(UsageError, match=rf"{method}\.queue must be at most .* windows trained on"):
        train(material, tmp_path / "run", config, say=quiet)


@pytest.mark.parametrize(
    ("count", "stage2", "said"),
    [
        (48, {"epochs": 0}, r"stage2\.epochs must be >= 1 for --method comodo, got 0"),
    ],
)
def test_a_student_that_cannot_learn_is_refused(
    tmp_path: Path, count: int, stage2: dict[str, Any], said: str
) -> None:
    config = small(method="comodo", stage1={"epochs": 1}, stage2=stage2)
    with pytest.raises(UsageError, match=said):
        fit(drawn(60, 3), np.arange(count), config, tmp_path, say=quiet)


def test_a_student_learns_from_pairs_of_windows(tmp_path: Path) -> None:
    stage2 = {"epochs": 1, "batch_size": 2}
    config = small(method="comodo", comodo={"teacher_epochs": 0}, stage2=stage2)
    fit(drawn(60, 3), np.arange(6), config, tmp_path, say=quiet)


def test_the_teacher_speaks_in_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rounded = Comodo.teach, []

    def teach(self: Comodo, features: Tensor) -> Tensor:
        rounded.append(torch.is_autocast_enabled("cpu"))
        return real(self, features)

    monkeypatch.setattr(Comodo, "teach", teach)
    untaught = {"comodo": {"teacher_epochs": 0}, "stage2": {"epochs": 1}}
    config = small(method="comodo", precision="bfloat16", **untaught)
    fit(drawn(60, 3), np.arange(48), config, tmp_path, say=quiet)
    assert rounded == [False]


def test_the_teacher_of_comodo_stands_still_while_the_student_learns(
    material: Material, tmp_path: Path
) -> None:
    models = {}
    for epochs in (1, 3):
        config = small(method="comodo", stage2={"epochs": epochs, "schedule": "constant"})
        run = train(material, tmp_path / str(epochs), config, say=quiet)
        models[epochs] = load_file(run / "model.safetensors")
    a, b = models[1], models[3]
    still = [k for k in a if k.startswith(("video.", "teacher_head.", "mean", "std"))]
    assert any("running_mean" in k for k in still)
    assert all(torch.equal(a[k], b[k]) for k in still)
    assert not torch.equal(a["sensor.project.weight"], b["sensor.project.weight"])
    untaught = small(method="comodo", comodo={"teacher_epochs": 0})
    run = train(material, tmp_path / "none", untaught, say=quiet)
    start = build(untaught, 6, 4).state_dict()
    assert torch.equal(
        start["video.project.weight"], load_file(run / "model.safetensors")["video.project.weight"]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cav_mae": {"bins": 30}}, "bins must be a multiple of patch"),
        ({"cav_mae": {"hop": 5}}, "hop must be so that"),
        (
            {"cav_mae": {"samples": 128, "bins": 32, "patch": 32}},
            "patch must be so small that 32 x 32 are 2",
        ),
        ({"primus": {"views": ("spin",)}}, "views must be some of"),
        ({"primus": {"views": ()}}, "views must be one at least where self_share"),
        ({"comodo": {"output": 7}}, "output must be even"),
        ({"imu2clip": {"samples": 10}}, "samples must be >= 168"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**changes)


def test_views_may_be_none_where_none_is_compared() -> None:
    assert small(primus={"views": (), "self_share": 0.0}).primus.views == ()


def test_the_temperature_of_imu2clip_is_learned(material: Material, tmp_path: Path) -> None:
    run = train(material, tmp_path / "run", small(method="imu2clip"), say=quiet)
    learned = load_file(run / "model.safetensors")["temperature"]
    assert 0 < abs(float(learned) - Imu2ClipConfig().temperature) < 0.05
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert {r["stage"] for r in rows} == {"imu2clip"}
    assert len(rows) == 4
    assert read_dataset(material.dataset.folder).name == "tiny"
