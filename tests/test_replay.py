"""`detach run` on the tiny data set: what streams decide is what windows cut offline decide."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detach.cli import main
from detach.config import override, preset
from detach.data import video
from detach.data.recording import read_dataset
from detach.data.windows import load_windows
from detach.edge.annotate import annotated
from detach.edge.bundle import Bundle
from detach.edge.decide import UNKNOWN
from detach.edge.engine import open_engines
from detach.edge.film import FilmReader
from detach.edge.replay import Feed, Options, decisions, run
from detach.edge.source import open_source
from detach.edge.stream import SensorStream
from detach.errors import DataError, MachineError, UsageError
from detach.export.graphs import SensorGraph
from detach.export.parity import run_torch
from detach.export.windows import read_material
from detach.model import embed
from detach.probe import load_head, softmax

from .export_runs import SMALL, exported  # type: ignore[import-not-found]
from .tiny import edit  # type: ignore[import-not-found]

SENSORS_ONLY = Options(backend="onnxruntime")
WITH_VIDEO = Options(backend="onnxruntime", video=True)


@pytest.fixture(scope="module")
def bundle(tiny_dataset: Path) -> Bundle:
    made: Bundle = exported(tiny_dataset, "recommended").bundle
    return made


def spoil(recording: Path) -> None:
    """Gaps, NaN, a late start and an early end; a sensor that is not there at all."""
    file = recording / "sensors" / "shaker.csv"
    header, *rows = file.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    cells = [row for row in cells if not 8.0 < float(row[0]) < 10.7 and 0.4 < float(row[0]) < 36.2]
    for i in range(200, 230):
        cells[i][1] = ""
    for i in range(300, 900, 7):
        cells[i][3] = ""
    file.write_text("\n".join([header, *map(",".join, cells)]) + "\n")
    (recording / "sensors" / "door1.csv").unlink()
    edit(
        recording / "recording.json",
        lambda raw: raw.update(sensors=[s for s in raw["sensors"] if s["name"] != "door1"]),
    )


@pytest.mark.parametrize("rate_hz", [30.0, 32.0, 50.0, 64.0])
@pytest.mark.parametrize("hop_s", [1.0, 0.7])
def test_a_stream_gives_the_windows_that_training_sees(
    data: Path, bundle: Bundle, rate_hz: float, hop_s: float
) -> None:
    spoil(data / "r3")
    # Offline the recording that lacks a sensor is loaded beside one that has it.
    config = override(
        preset("recommended"),
        SMALL | {"sensors": {"rate_hz": rate_hz}, "windows": {"hop_s": hop_s}},
    )
    dataset = read_dataset(data)
    stats = load_windows(dataset, config, video=False).stats
    offline = load_windows(dataset, config, names=["r2", "r3"], stats=stats, video=False)
    manifest = as_trained(bundle, config, stats)
    seen = np.ones(0, bool)
    for r, name in enumerate(("r2", "r3")):
        mine = offline.select(offline.recording == r)
        found = streamed(manifest, data / name)
        starts = {round(w.start_s, 6): w for w in found}
        assert len(mine) > 20
        for i, start_s in enumerate(mine.start_s.tolist()):
            window = starts[round(start_s, 6)]
            assert np.array_equal(window.observed, mine.observed[i])
            np.testing.assert_allclose(window.samples, mine.samples[i], atol=1e-6)
        seen = mine.observed
    assert not seen.all()


def test_logits_are_those_of_torch_on_offline_windows(tiny_dataset: Path, bundle: Bundle) -> None:
    made = exported(tiny_dataset, "recommended")
    windows = load_windows(read_dataset(tiny_dataset), made.run.config, stats=made.run.stats)
    mine = windows.select(windows.recording == 3)
    source = open_source(tiny_dataset / "r3", bundle.manifest)
    cut, found = zip(*decisions(bundle, source, WITH_VIDEO, lambda _: None), strict=True)
    assert [d.start_s for d in found] == mine.start_s.tolist()
    graph = SensorGraph(made.run.model, ("logits",), head=load_head(made.run.folder)).eval()
    truth = run_torch(graph, {"samples": torch.from_numpy(mine.samples)})["logits"]
    engine = open_engines(bundle, backend="onnxruntime", say=lambda _: None)["sensor"]
    logits = engine.run({"samples": np.stack([window.samples for window in cut])})["logits"]
    np.testing.assert_allclose(logits, truth, rtol=0, atol=1e-5)
    power = [decision.probabilities for decision in found]
    np.testing.assert_allclose(power, softmax(truth.astype(np.float64)), rtol=0, atol=1e-5)
    z = embed(made.run.model, mine, np.arange(len(mine)))
    with torch.no_grad():
        places = made.run.model.place_of_sensors(torch.from_numpy(mine.samples)) ** 2
    for i, decision in enumerate(found):
        assert decision.place == int(places[i].argmax())
        assert decision.place_confidence == pytest.approx(float(places[i].max()), abs=1e-5)
        assert decision.agreement == pytest.approx(float(z.sensor[i] @ z.video[i]), abs=1e-4)
        assert decision.video_place == int(z.video_spatial[i].argmax())


@pytest.mark.parametrize("variant", ["recommended", "authors-code"])
def test_pictures_are_those_of_training(tiny_dataset: Path, variant: str) -> None:
    """authors-code keeps single frames and has optical flow; recommended has neither."""
    made = exported(tiny_dataset, variant)
    material = read_material(made.run, None, video=True, say=lambda _: None)
    source = open_source(tiny_dataset / "r2", made.bundle.manifest)
    film = FilmReader(source, made.bundle.manifest)
    index = np.flatnonzero(material.windows.recording == 2)
    for i, start_s in zip(index, material.windows.start_s[index].tolist(), strict=True):
        inputs = film.inputs(start_s)
        assert inputs is not None
        places, motion = (
            material.inputs(graph, np.array([i])) for graph in ("video_spatial", "video_temporal")
        )
        expected = motion | {
            ("frames_spatial" if k == "frames" else k): v for k, v in places.items()
        }
        assert set(inputs) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(inputs[name], value.numpy(), atol=1e-6, err_msg=name)
    assert film.inputs(500.0) is None


def test_video_with_flow_is_seen_as_torch_sees_it(tiny_dataset: Path) -> None:
    made = exported(tiny_dataset, "authors-code")
    windows = load_windows(read_dataset(tiny_dataset), made.run.config, stats=made.run.stats)
    mine = windows.select(windows.recording == 3)
    source = open_source(tiny_dataset / "r3", made.bundle.manifest)
    found = {d.start_s: d for _, d in decisions(made.bundle, source, WITH_VIDEO, lambda _: None)}
    z = embed(made.run.model, mine, np.arange(len(mine)))
    for i, start_s in enumerate(mine.start_s.tolist()):
        assert found[start_s].agreement == pytest.approx(float(z.sensor[i] @ z.video[i]), abs=1e-4)


def test_lines_are_json_and_say_what_the_summary_counts(tiny_dataset: Path, bundle: Bundle) -> None:
    lines: list[str] = []
    said: list[str] = []
    options = Options(backend="onnxruntime", probabilities=True)
    summary, _, found = run(
        bundle.path, tiny_dataset / "r1", options=options, write=lines.append, say=said.append
    )
    bodies = [json.loads(line) for line in lines]
    assert summary.windows == len(bodies) == len(found) == 39
    assert summary.unknown == sum(body["label"] == UNKNOWN for body in bodies)
    assert 0 < summary.labelled <= 39
    assert all(set(body["probabilities"]) == set(bundle.manifest.classes) for body in bodies)
    assert bodies[5]["start_s"] == 5.0
    assert "ONNX Runtime" in said[0]
    assert str(summary) in said


def test_too_few_live_sensors_are_unknown(data: Path, bundle: Bundle) -> None:
    for name in ("door0", "door1", "door2"):
        (data / "r3" / "sensors" / f"{name}.csv").write_text("t_s,value\n")
    source = open_source(data / "r3", bundle.manifest)
    found = [d for _, d in decisions(bundle, source, SENSORS_ONLY, lambda _: None)]
    assert {d.live_share for d in found} == {0.5}
    (data / "r3" / "sensors" / "shaker.csv").write_text("t_s,x,y,z\n")
    source = open_source(data / "r3", bundle.manifest)
    found = [d for _, d in decisions(bundle, source, SENSORS_ONLY, lambda _: None)]
    assert {d.label for d in found} == {UNKNOWN}
    assert len(found) == 39


def test_a_folder_of_sensor_files_with_a_video_is_a_source(
    tiny_dataset: Path, bundle: Bundle, tmp_path: Path
) -> None:
    shutil.copytree(tiny_dataset / "r0" / "sensors", tmp_path / "mine" / "sensors")
    film = tmp_path / "clip.mp4"
    shutil.copy(tiny_dataset / "r0" / "video.mp4", film)
    whole = [
        d
        for _, d in decisions(
            bundle, open_source(tiny_dataset / "r0", bundle.manifest), WITH_VIDEO, lambda _: None
        )
    ]
    source = open_source(tmp_path / "mine", bundle.manifest, film)
    loose = [d for _, d in decisions(bundle, source, WITH_VIDEO, lambda _: None)]
    assert loose == whole
    source = open_source(tmp_path / "mine" / "sensors", bundle.manifest)
    assert source.video_track is None
    assert [d.label for _, d in decisions(bundle, source, SENSORS_ONLY, lambda _: None)]


def test_the_annotated_video_has_all_pictures(
    tiny_dataset: Path, bundle: Bundle, tmp_path: Path
) -> None:
    _, source, found = run(
        bundle.path,
        tiny_dataset / "r0",
        options=SENSORS_ONLY,
        write=lambda _: None,
        say=lambda _: None,
    )
    pages = list(annotated(source, bundle.manifest, found))
    assert len(pages) == 400
    assert len({page.shape for page in pages}) == 1
    assert not np.array_equal(pages[50], pages[200])
    out = tmp_path / "new" / "out.mp4"
    assert video.write(out, iter(pages), 10.0) == 400
    assert video.probe(out).frames == 400
    assert [p.name for p in out.parent.iterdir()] == ["out.mp4"]
    with pytest.raises(MachineError, match="cannot be written"):
        video.write(out / "below.mp4", iter(pages), 10.0)


def test_the_verb_writes_lines_and_a_video(
    tiny_dataset: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(bundle.path), str(tiny_dataset / "r2"), "--backend", "onnxruntime"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 39
    assert "windows" in printed.err
    more = ["--out", str(tmp_path / "o.jsonl"), "--annotate", str(tmp_path / "o.mp4")]
    assert main([*words, *more]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "o.jsonl").read_text() == printed.out
    assert video.probe(tmp_path / "o.mp4").frames == 400


def test_running_loads_neither_torch_nor_scikit_learn(tiny_dataset: Path, bundle: Bundle) -> None:
    program = (
        "import sys; from detach.cli import main\n"
        f"code = main(['run', {str(bundle.path)!r}, {str(tiny_dataset / 'r0')!r}, '--video'])\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'onnx'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def no_sensors(recording: Path) -> None:
    edit(recording / "recording.json", lambda raw: raw.update(sensors=[]))


def other_kind(recording: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["sensors"][0]["kind"] = "light"

    edit(recording / "recording.json", change)


def fewer_axes(recording: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["sensors"][3]["axes"] = ["x", "y"]

    edit(recording / "recording.json", change)


def too_short(recording: Path) -> None:
    edit(recording / "recording.json", lambda raw: raw.update(duration_s=1.0))


def text_in_numbers(recording: Path) -> None:
    (recording / "sensors" / "door0.csv").write_text("t_s,value\n0.0,open\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (no_sensors, "none of the 4 sensors"),
        (other_kind, "has kind 'light', but 'switch'"),
        (fewer_axes, "knows 'z' too"),
        (too_short, "lasts 1.0 s"),
        (text_in_numbers, "door0.csv:2"),
    ],
)
def test_sources_that_do_not_fit_are_refused(
    data: Path, bundle: Bundle, damage: Any, says: str
) -> None:
    run(bundle.path, data / "r3", options=SENSORS_ONLY, write=lambda _: None, say=lambda _: None)
    damage(data / "r3")
    with pytest.raises(DataError, match=says):
        run(bundle.path, data / "r3", options=SENSORS_ONLY, write=print, say=print)


def test_a_data_set_a_file_and_an_empty_folder_are_no_sources(
    tiny_dataset: Path, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="data set of 4 recordings"):
        open_source(tiny_dataset, bundle.manifest)
    with pytest.raises(DataError, match="no file of a sensor"):
        open_source(tmp_path, bundle.manifest)
    with pytest.raises(DataError, match="expected a recording"):
        open_source(tiny_dataset / "dataset.json", bundle.manifest)


def test_a_camera_of_another_aspect_and_a_missing_video_are_refused(
    data: Path, bundle: Bundle, tmp_path: Path
) -> None:
    square = tmp_path / "square.mp4"
    video.write(square, (np.zeros((64, 64, 3), np.uint8) for _ in range(400)), 10.0)
    source = open_source(data / "r0", bundle.manifest, square)
    with pytest.raises(DataError, match="another aspect"):
        FilmReader(source, bundle.manifest)
    edit(data / "r0" / "recording.json", lambda raw: raw.update(videos=[]))
    with pytest.raises(DataError, match="no video"):
        FilmReader(open_source(data / "r0", bundle.manifest), bundle.manifest)


def test_a_video_of_another_rate_is_refused_unless_the_recording_says_so(
    data: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """400 pictures at 40 a second instead of 10; then as recording.json says."""
    words = ["run", str(bundle.path), str(data / "r1"), "--video", "--backend", "onnxruntime"]
    assert main(words) == 0
    video.write(data / "r1" / "video.mp4", (np.zeros((48, 64, 3), np.uint8),) * 400, 40.0)
    assert main(words) == 3
    assert "take 40.0 s. Check fps in recording.json" in capsys.readouterr().err
    edit(data / "r1" / "recording.json", lambda raw: raw["videos"][0].update(fps=40.0))
    assert main(words) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["video_place" in line for line in lines] == [line["end_s"] <= 10 for line in lines]


def test_a_bundle_without_a_head_gives_places_alone(tiny_dataset: Path) -> None:
    made = exported(tiny_dataset, "authors-code").bundle
    said: list[str] = []
    lines: list[str] = []
    run(
        made.path,
        tiny_dataset / "r0",
        options=SENSORS_ONLY,
        write=lines.append,
        say=said.append,
    )
    assert "no classes" in said[0]
    assert {"place", "place_confidence"} <= set(json.loads(lines[0]))
    assert "label" not in json.loads(lines[0])


def as_trained(bundle: Bundle, config: Any, stats: Any) -> Any:
    """The bundle's manifest for another grid and other statistics."""
    channels = {channel.name: channel for channel in bundle.manifest.channels}
    rate_hz, seconds = config.sensors.rate_hz, config.windows.seconds
    return dataclasses.replace(
        bundle.manifest,
        window=dataclasses.replace(
            bundle.manifest.window,
            hop_s=config.windows.hop_s,
            rate_hz=rate_hz,
            samples=max(2, round(seconds * rate_hz)),
        ),
        channels=tuple(
            dataclasses.replace(channels[name], mean=mean, std=std)
            for name, mean, std in zip(stats.names, stats.mean, stats.std, strict=True)
        ),
    )


def streamed(manifest: Any, recording: Path) -> list[Any]:
    source = open_source(recording, manifest)
    stream = SensorStream(manifest, {name: s.form for name, s in source.series.items()})
    feed, found = Feed(source, stream), []
    for number in source.windows(manifest.window.seconds, manifest.window.hop_s):
        feed.until(stream.bounds(number)[1])
        found.append(stream.cut(number))
    assert sum(stream.counters.values()) == 0
    return found
