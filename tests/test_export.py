"""From a run folder to a bundle, and what is refused on the way."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from detach import export as export_package
from detach.config import override
from detach.data.recording import read_dataset
from detach.data.windows import load_windows
from detach.edge.bundle import open_bundle
from detach.edge.engine import open_engines
from detach.equations import sensor_embedding, video_embedding
from detach.errors import DataError, MachineError, UsageError
from detach.export import export, parity
from detach.export.golden import draw
from detach.export.windows import CHECKED, read_material
from detach.model import MODEL_FILE, Detach, Supervised, embed, load_run, predict
from detach.probe import load_head

from .export_runs import (  # type: ignore[import-not-found]
    CLASSES,
    CLUSTERS,
    VARIANTS,
    WITH_HEAD,
    drawn_run,
    exported,
    write_drawn_head,
)

BATCHES = (1, 2, 3, 5, 7, 16, 17)
OUTPUTS = {
    "recommended": ("logits", "places", "embedding"),
    "authors-code": ("places", "embedding"),
    "global": ("logits", "embedding"),
    "supervised": ("logits",),
}
GRAPHS = {
    "recommended": {
        f"{g}.{p}" for g in ("video_spatial", "video_temporal") for p in ("fp32", "fp16", "int8")
    },
    "authors-code": {
        f"{g}.{p}" for g in ("video_spatial", "video_temporal") for p in ("fp32", "fp16")
    },
    "global": {"video_temporal.fp32", "video_temporal.fp16"},
    "supervised": set(),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_manifest_says_what_the_run_is(tiny_dataset: Path, variant: str) -> None:
    made = exported(tiny_dataset, variant)
    m, config = made.bundle.manifest, made.run.config
    assert set(m.graphs) == {"sensor.fp32", "sensor.fp16"} | GRAPHS[variant]
    assert tuple(m.graphs["sensor.fp32"].outputs) == OUTPUTS[variant]
    assert (m.method, m.preset, m.dataset) == (config.method, config.preset, "tiny")
    assert [c.name for c in m.channels] == list(made.run.stats.names)
    assert [(c.mean, c.std) for c in m.channels] == list(
        zip(made.run.stats.mean, made.run.stats.std, strict=True)
    )
    assert [c.kind for c in m.channels] == ["switch"] * 3 + ["acceleration"] * 3
    assert [(c.sensor, c.axis, c.hz) for c in m.channels[2:4]] == [
        ("door2", "value", None),
        ("shaker", "x", 30.0),
    ]
    assert m.window.samples == 64  # before it is resized
    assert m.classes == (CLASSES if "logits" in OUTPUTS[variant] else ())
    assert m.track == ("activity" if m.classes else None)
    assert m.places == (CLUSTERS if "places" in OUTPUTS[variant] else 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_record_of_the_check_is_in_the_bundle(tiny_dataset: Path, variant: str) -> None:
    record = exported(tiny_dataset, variant).bundle.manifest.parity
    assert 100 < record["windows"] <= CHECKED
    for output in OUTPUTS[variant]:
        assert 0 <= record[f"sensor.fp32.{output}.max_abs"] < 1e-4
        assert 0 < record[f"sensor.fp16.{output}.max_abs"] < 0.05
        assert record[f"sensor.fp16.{output}.cosine"] >= 0.9999
    if variant != "supervised":
        assert record["max_abs_torch_onnxruntime"] < 1e-5
        assert record["max_abs_onnx_reference"] < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_graphs_answer_as_the_model_does_on_windows_prepared_for_it(
    tiny_dataset: Path, variant: str
) -> None:
    """The model sees windows filtered and resized by `detach.data`, the graph sees them before."""
    made = exported(tiny_dataset, variant)
    config, dataset = made.run.config, read_dataset(tiny_dataset)
    prepared = load_windows(dataset, config, stats=made.run.stats)
    raw = replace(config, sensors=replace(config.sensors, lowpass=False, length=None))
    samples = load_windows(dataset, raw, stats=made.run.stats, video=False).samples
    index = np.arange(len(prepared))
    session = parity.open_session(made.graph("sensor"))
    if isinstance(made.run.model, Supervised):
        found = session.run(["logits"], {"samples": samples})[0]
        probability = torch.from_numpy(found).softmax(dim=1).numpy()
        np.testing.assert_allclose(probability, predict(made.run.model, prepared, index), atol=1e-5)
        return
    features = embed(made.run.model, prepared, index)
    for size in BATCHES:
        (found,) = session.run(["embedding"], {"samples": samples[:size]})
        np.testing.assert_allclose(found, features.sensor[:size], atol=1e-5)
    if variant in WITH_HEAD:
        head = load_head(made.run.folder)
        assert head is not None
        (logits,) = session.run(["logits"], {"samples": samples})
        expected = features.sensor @ head.weight.T + head.bias
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_places_are_probabilities_of_the_nearest_centroids(tiny_dataset: Path) -> None:
    for variant in ("recommended", "authors-code"):
        made = exported(tiny_dataset, variant)
        golden = made.bundle.golden()
        np.testing.assert_allclose(golden["places"].sum(axis=1), 1.0, atol=1e-5)
        with torch.no_grad():
            x = torch.from_numpy(golden["samples"])
            if variant == "authors-code":
                from detach.export.graphs import sample_matrix

                matrix = sample_matrix(64, made.run.config.sensors)
                assert matrix is not None
                x = torch.from_numpy(matrix) @ x
            spatial, temporal = made.run.model.encode_sensors(x)
            assert (
                golden["places"].argmax(axis=1).tolist() == made.run.model.nearest(spatial).tolist()
            )
            whole = sensor_embedding(spatial, temporal)
        np.testing.assert_allclose(golden["embedding"], whole.numpy(), atol=1e-6)


@torch.no_grad()
def test_video_graphs_together_are_the_video_embedding(tiny_dataset: Path) -> None:
    for variant in ("recommended", "authors-code"):
        made = exported(tiny_dataset, variant)
        material = read_material(made.run, None, video=True, say=lambda _: None)
        index = np.array([0, len(material.windows) - 1])
        halves = []
        for graph, output in (("video_spatial", "spatial"), ("video_temporal", "temporal")):
            feed = {k: v.numpy() for k, v in material.inputs(graph, index).items()}
            (half,) = parity.open_session(made.graph(graph)).run([output], feed)
            halves.append(torch.from_numpy(half))
        features = embed(made.run.model, material.windows, index)
        np.testing.assert_allclose(video_embedding(*halves).numpy(), features.video, atol=1e-5)
        golden = made.bundle.golden()
        assert golden["frames"].shape[1:4] == (4, *made.bundle.manifest.video.motion_px)


def test_golden_inputs_are_drawn_and_no_recording(tiny_dataset: Path) -> None:
    golden = exported(tiny_dataset, "recommended").bundle.golden()
    binary = np.array([True, True, True, False, False, False])
    for name, tensor in (("samples", "samples"), ("pictures", "pictures"), ("frames", "frames")):
        np.testing.assert_array_equal(golden[tensor], draw(name, golden[tensor].shape, binary))
    assert set(np.unique(golden["samples"][..., binary])) == {0, 1}
    assert np.diff(golden["frames"], axis=1).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_engines_accept_the_bundle(tiny_dataset: Path, variant: str) -> None:
    made, said = exported(tiny_dataset, variant), list[str]()
    graphs = sorted({key.partition(".")[0] for key in made.bundle.manifest.graphs})
    engines = open_engines(made.bundle, backend="onnxruntime", graphs=graphs, say=said.append)
    assert sorted(engines) == graphs
    for engine in engines.values():
        engine.close()


def test_without_a_head_it_says_so(tiny_dataset: Path) -> None:
    said = exported(tiny_dataset, "authors-code").said
    assert any("no head" in line and "detach evaluate" in line for line in said)
    assert not any("no head" in line for line in exported(tiny_dataset, "recommended").said)


@pytest.fixture
def run(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A run folder to spoil."""
    made = exported(tiny_dataset, "recommended")
    shutil.copytree(made.run.folder, tmp_path / "run")
    return tmp_path / "run"


def spoil_schema(run: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("schema: 1", "schema: 7"))


def retrain(run: Path) -> None:
    write_drawn_head(run, 11, model="0" * 64)


def test_a_head_that_sees_place_features_is_folded_in(tiny_dataset: Path, tmp_path: Path) -> None:
    made = exported(tiny_dataset, "recommended")
    run = tmp_path / "run"
    shutil.copytree(made.run.folder, run)
    write_drawn_head(run, 19)
    bundle = open_bundle(export(run, tmp_path / "wide.detach", video=False, precisions=["fp32"]))
    golden, head = bundle.golden(), load_head(run)
    assert head is not None
    assert isinstance(made.run.model, Detach)
    with torch.no_grad():
        seen = torch.cat(made.run.model.describe(torch.from_numpy(golden["samples"]))[1:], dim=1)
    expected = seen.numpy() @ head.weight.T + head.bias
    np.testing.assert_allclose(golden["logits"], expected, atol=1e-5)


def other_head(run: Path) -> None:
    write_drawn_head(run, 9)


def damage_head(run: Path) -> None:
    (run / "head.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{nonsense")


def old_head(run: Path) -> None:
    head = load_file(run / "head.safetensors")
    save_file(head, run / "head.safetensors", {"schema": "2"})


def head_of_fewer_classes(run: Path) -> None:
    write_drawn_head(run, 11, classes=CLASSES[:2])


def lose_data(run: Path) -> None:
    config = run / "config.yaml"
    lines = config.read_text().splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.strip().startswith("data:")]
    lines[at] = "  data: nowhere"
    config.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run: (run / MODEL_FILE).unlink(), "training is not finished"),
        (lambda run: (run / "config.yaml").unlink(), "no run folder"),
        (spoil_schema, "schema must be 1, found 7"),
        (retrain, "fitted on another model"),
        (other_head, "head must take 11 or 19 features, found 9"),
        (damage_head, "head.safetensors: damaged"),
        (old_head, "head.safetensors: schema must be 1, found '2'"),
        (head_of_fewer_classes, r"weight \[4, 11\] and bias \[4\] do not fit 2 classes"),
        (lose_data, "nowhere is not there.*--data"),
    ],
)
def test_a_spoiled_run_is_refused(run: Path, spoil: Any, says: str) -> None:
    assert load_run(run).clusters == CLUSTERS
    spoil(run)
    with pytest.raises(DataError, match=says):
        export(run, run / "out.detach")
    assert not (run / "out.detach").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precisions": ("fp8",)}, "precisions must be .*fp8"),
        ({"precisions": ()}, "precisions must be .*None"),
        ({"outputs": ("logit",)}, "outputs must be among logits, places, embedding, got 'logit'"),
        ({"outputs": ()}, "can give logits, places, embedding"),
        ({"int8": True, "video": False}, "int8 is for the video graphs"),
    ],
)
def test_wrong_options_are_refused(run: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        export(run, run / "out.detach", **options)


def test_a_missing_package_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        export_package, "find_spec", lambda name: None if name == "onnxslim" else find(name)
    )
    with pytest.raises(MachineError, match=r"needs onnxslim, .*pip install 'detach\[export\]'"):
        export(run, run / "out.detach")


def test_a_graph_that_computes_something_else_is_not_written(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = drawn_run(tmp_path / "run", tiny_dataset, VARIANTS["supervised"], head=False)
    monkeypatch.setattr(parity, "ABSOLUTE", 1e-12)
    with pytest.raises(MachineError, match=r"sensor in fp32: logits is up to .* no bundle"):
        export(run, tmp_path / "out.detach")
    assert not (tmp_path / "out.detach").exists()


def test_only_what_is_asked_for(tiny_dataset: Path, tmp_path: Path, run: Path) -> None:
    """Other data than the run's, without video; one precision, one output."""
    shutil.copytree(tiny_dataset, tmp_path / "moved")
    lose_data(run)
    out = export(
        run,
        tmp_path / "new" / "one.detach",
        precisions=("fp16",),
        video=False,
        outputs=("embedding",),
        data=tmp_path / "moved",
        licence="CC0-1.0",
    )
    from detach.edge.bundle import open_bundle

    manifest = open_bundle(out).manifest
    assert list(manifest.graphs) == ["sensor.fp16"]
    assert list(manifest.graphs["sensor.fp16"].outputs) == ["embedding"]
    assert (manifest.classes, manifest.licence) == ((), "CC0-1.0")


def test_data_of_other_sensors_are_refused(run: Path, data: Path) -> None:
    for recording in data.glob("r*"):
        raw = (recording / "recording.json").read_text().replace('"shaker"', '"quake"')
        (recording / "recording.json").write_text(raw)
        (recording / "sensors" / "shaker.csv").rename(recording / "sensors" / "quake.csv")
    with pytest.raises(DataError, match=r"knows a channel 'shaker\.x' that these recordings lack"):
        export(run, run / "out.detach", data=data)


def test_variants_differ_where_it_matters() -> None:
    code = VARIANTS["authors-code"]
    assert code.sensors.lowpass
    assert code.sensors.length == 128
    assert code.encoders.flow
    assert code.encoders.average == "features"
    assert override(code, {}).encoders.spatial == "features"
