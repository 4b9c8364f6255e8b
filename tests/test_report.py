import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from detach.config import RunConfig, override
from detach.data.recording import read_dataset
from detach.data.splits import split_windows
from detach.data.windows import load_windows
from detach.errors import DataError
from detach.evaluate import evaluate
from detach.model import build, save_run
from detach.report import figures, report
from detach.report.look import look_at, match
from detach.report.page import _answer_figures, main_task, render, verdict
from detach.report.story import Story, read_story, warnings
from detach.report.strips import Sample, choose, lively, traces
from detach.results import Answer, Results, Task, write_results
from detach.table import Difference, Table, make_table

SMALL = override(
    RunConfig(),
    {
        "encoders": {"width": 8, "video_scale": 0.125, "sensor_scale": 0.125},
        "video": {"size_px": 32, "frames": 4},
        "sensors": {"rate_hz": 32.0},
        "device": "cpu",
    },
)
WARNING = "cluster collapse: 95 % of the windows are in one cluster. Lower stage1.learning_rate"


@pytest.fixture(scope="module")
def run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with drawn weights, an invented log, and what evaluate made of it."""
    folder = tmp_path_factory.mktemp("report") / "detach" / "seed0"
    folder.mkdir(parents=True)
    dataset = read_dataset(tiny_dataset)
    windows = load_windows(dataset, SMALL)
    parts = split_windows(windows, dataset, SMALL.split)
    classes = windows.classes["activity"]
    about = {
        "data": str(tiny_dataset),
        "track": "activity",
        "classes": list(classes),
        "clusters": 3,
        "counts": dict(windows.counts),
        "windows": {name: len(part) for name, part in parts.items()},
        "notes": {"pictures": "drawn <squares>"},
        "channels": [c.name for c in windows.channels],
    }
    model = build(SMALL, windows.samples.shape[2], 3, len(classes))
    save_run(folder, SMALL, model, windows.stats, about)
    env = {"detach": "0", "command": "detach train tiny --out run"}
    (folder / "env.json").write_text(json.dumps(env))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in _log()))
    evaluate([folder])
    return folder


def _log() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for epoch in range(1, 7):
        phase = "cluster" if epoch < 3 else "joint" if epoch < 5 else "refine"
        sizes = [10 + epoch, 20, 30 - epoch]
        facts = {"change_rate": 0.5 / epoch, "clusters_size": sizes, "phase": phase}
        rows.append({"stage": "stage1", "epoch": epoch, "losses": {"cluster": 1 / epoch}, **facts})
    rows.append({"stage": "stage1", "epoch": 6, "warning": WARNING})
    rows.append({"stage": "stage2", "epoch": 1, "losses": {"contrast": 3.0}})
    return rows


def test_report_is_one_complete_page_without_outside_references(run: Path) -> None:
    path = report([run])
    html = path.read_text(encoding="utf-8")
    assert path == run / "report.html"
    assert path.stat().st_size < 5_000_000
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.findall(r"url\((?!#|\$\{data)|@import|<script[^>]*src|<link", html)
    outside = set(re.findall(r"https?://[^\"' <]+", html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    for heading in ("Results", "Windows to look at", "Class by class", "Video and sensors"):
        assert f"<h2>{heading}</h2>" in html
    assert "Places found without labels" in html
    assert "refinement starts" in html
    assert "drawn &lt;squares&gt;" in html  # banners are escaped
    assert "detach train tiny --out run" in html
    assert "Lower stage1.learning_rate" in html
    assert html.count('src="data:image/jpeg') >= 4
    held = re.search(r'id="map-points">(.*?)</script>', html)
    assert held is not None
    points = json.loads(held[1])
    assert len(points["panels"]) == 2
    assert len(points["words"]) == len(points["panels"][0]) == 39
    assert re.match(r"r3 at 0:00 \u00b7 .* \u00b7 said ", points["words"][0])


def test_report_says_why_it_shows_no_recordings(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("model.safetensors", "stats.json", "results.json"):
        (moved / name).write_bytes((run / name).read_bytes())
    text = (run / "config.yaml").read_text()
    gone = re.sub(r"data: .*", f"data: {tmp_path / 'gone'}", text, count=1)
    (moved / "config.yaml").write_text(gone)
    html = report([moved], tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"Film strips and maps are left out: {tmp_path / 'gone'}" in html
    assert "<h2>Results</h2>" in html
    (moved / "results.json").unlink()
    assert "not yet evaluated" in report([moved]).read_text(encoding="utf-8")


def test_story_names_the_damaged_line(run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("{half a li")  # training was killed while it wrote
    assert read_story(tmp_path).epochs == read_story(run).epochs
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("ne\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:9: "):
        read_story(tmp_path)


def test_warnings_part_what_happened_from_what_to_do(run: Path) -> None:
    (found,) = warnings([read_story(run), read_story(run)])
    assert found["sign"] == "cluster collapse"
    assert found["what"] == "95 % of the windows are in one cluster."
    assert found["remedy"] == "Lower stage1.learning_rate"
    assert len(found["runs"]) == 2


def test_verdict_sorts_by_interval() -> None:
    rows = [
        Difference("a", "b", 0.1, 0.05, 0.2),
        Difference("a", "c", 0.1, -0.05, 0.2),
        Difference("a", "d", -0.1, -0.2, -0.05),
    ]
    assert [(words, found[0].b) for words, found in verdict(rows)] == [
        ("clearly above", "b"),
        ("not told apart from", "c"),
        ("clearly below", "d"),
    ]


def test_what_one_training_run_shows_is_marked() -> None:
    one, more, close = (
        Difference("a", "b", 0.1, low, 0.2, seeds=n) for low, n in ((0.05, 1), (0.05, 3), (-0.1, 1))
    )
    assert [pair.doubt for pair in (one, more, close)] == ["one seed", "", "not told apart"]


def test_figures_follow_the_theme_and_keep_text_as_text() -> None:
    svg = figures.confusion_map(np.array([[8, 2], [1, 9]]), ("walk", "sit & rest"))
    assert "var(--ink)" in svg
    assert "walk" in svg
    assert "sit &amp; rest" in svg
    assert "#010203" not in svg
    assert svg == figures.confusion_map(np.array([[8, 2], [1, 9]]), ("walk", "sit & rest"))


def test_one_epoch_and_one_cluster_are_drawn_too() -> None:
    one = np.array([1.0])
    assert "<svg" in figures.loss_curves({"stage2 contrast": [("detach", one, one)]})
    assert "<svg" in figures.change_rate([("detach", one, one)], [("cluster", 1, 1)], 0.01)
    assert "<svg" in figures.cluster_sizes(np.array([1]), np.array([[5]]))


def test_chosen_windows_show_many_classes_and_some_mistakes() -> None:
    truth = np.repeat(np.arange(4), 10)
    probability = np.full((40, 4), 0.1) + 0.6 * np.eye(4)[truth]
    probability[5] = [0.0, 0.9, 0.1, 0.0]
    answer = Answer("detach", "method", probability)
    zeros = np.zeros(40, dtype=np.int64)
    times = np.arange(40.0)
    task = Task(
        "a", tuple("abcd"), "split", "windows", ("r",), zeros, times, zeros, truth, (answer,), 9
    )
    shown = choose(task, probability, 8)
    assert len(shown) == len(set(shown.tolist())) == 8
    assert shown[-1] == 5  # the mistake comes last
    assert set(truth[shown[:4]].tolist()) == {0, 1, 2, 3}


def test_traces_draw_only_what_moves() -> None:
    samples = np.zeros((16, 3), dtype=np.float32)
    samples[8:, 1] = 1
    noise = np.array([0.0, 0.0, 0.1], dtype=np.float32)
    samples[::2, 2] = 0.2  # as much as usual
    assert lively(samples, noise).tolist() == [1]
    frames = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    shown = Sample(
        frames, samples, noise, ("a", "b<c", "d"), (True, True, True), "x", "y", 0.5, "r", 0.0, 2.0
    )
    svg = traces(shown)
    assert "b&lt;c" in svg
    assert ">a<" not in svg
    assert not shown.right


def test_names_of_channels_stay_beside_their_traces() -> None:
    samples = np.tile(np.array([[0.0], [1.0]], dtype=np.float32), (8, 1))
    name = "sensor.dishwasher_in_the_kitchen_accelerometer.x"
    shown = Sample(
        np.zeros((4, 8, 8, 3), dtype=np.uint8), samples, np.zeros(1, np.float32),
        (name,), (True,), "x", "y", 0.5, "r", 0.0, 2.0,
    )  # fmt: skip
    assert f">sensor.dis\u2026erometer.x<title>{name}</title></text>" in traces(shown)
    assert ">sensor.dishw\u2026" in traces(shown, 480, 190)


@pytest.mark.parametrize(
    "row",
    ['{"losses": null}', '{"epoch": 1, "losses": {"a": "x"}}', '{"epoch": "x", "losses": {}}'],
)
def test_story_names_the_line_that_is_no_epoch(run: Path, tmp_path: Path, row: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/metrics.jsonl").write_text(f"{row}\n")
    with pytest.raises(DataError, match=r"metrics.jsonl:1: not a JSON object of an epoch"):
        read_story(tmp_path / "run")


EPOCH = {"stage": "stage1", "epoch": 1, "losses": {"cluster": 1.0}, "change_rate": 0.5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": "one"}, "epoch 'one'"),
        ({"losses": {"cluster": "low"}}, "'low' is no number"),
        ({"losses": [1.0]}, "no attribute 'values'"),
        ({"change_rate": float("nan")}, "change_rate is nan"),
        ({"clusters_size": [1, "2"]}, "'2' is no number"),
        ({"clusters_size": 3}, "iterable"),
        ({"warning": "collapse", "stage": None}, "stage None"),
    ],
)
def test_a_log_that_cannot_be_drawn_names_its_line(
    run: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    with (folder / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({**EPOCH, **change}) + "\n")
    line = len((folder / "metrics.jsonl").read_text().splitlines())
    with pytest.raises(DataError, match=f"metrics.jsonl:{line}: .*{said}"):
        report([folder], tmp_path / "page.html")


def test_a_log_of_unlike_clusters_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    with (folder / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({**EPOCH, "clusters_size": [1, 2]}) + "\n")
    with pytest.raises(DataError, match="as many entries in every epoch, found 2, 3"):
        report([folder], tmp_path / "page.html")


def test_an_environment_of_another_kind_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "env.json").write_text("7")
    with pytest.raises(DataError, match="env.json: cannot be read"):
        report([folder], tmp_path / "page.html")


@pytest.mark.parametrize("key", ["channels", "windows", "counts", "notes"])
def test_a_configuration_that_lacks_what_the_page_tells_is_refused(
    run: Path, tmp_path: Path, key: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    body = yaml.safe_load((folder / "config.yaml").read_text())
    del body["about"][key]
    (folder / "config.yaml").write_text(yaml.safe_dump(body))
    with pytest.raises(DataError, match=rf"config.yaml: about.{key} must be a .*, found None"):
        report([folder], tmp_path / "page.html")


def results_of(run: Path) -> Results:
    results = read_story(run).results
    assert results is not None
    return results


def first_items(task: Task, count: int, **changes: Any) -> Task:
    answers = tuple(replace(a, probability=a.probability[:count]) for a in task.answers)
    arrays = {k: getattr(task, k)[:count] for k in ("recording", "start_s", "index", "truth")}
    return replace(task, **{**arrays, "answers": answers, **changes})


def test_seeds_of_the_same_question_alone_are_pooled(run: Path) -> None:
    story, results = read_story(run), results_of(run)
    main = main_task([story])
    assert main is not None
    own, task = _answer_figures([story], main), main[1]

    def beside(changed: Task, dataset: str = results.dataset) -> dict[str, str]:
        told = replace(results, dataset=dataset, tasks=(changed,))
        return _answer_figures([story, Story(**{**story.__dict__, "results": told})], main)

    wide = tuple(replace(a, probability=np.pad(a.probability, ((0, 0), (0, 1))))
                 for a in task.answers)  # fmt: skip
    turned = tuple(replace(a, probability=a.probability[:, ::-1]) for a in task.answers)
    assert beside(task) == own  # the same again
    assert beside(replace(task, answers=turned)) != own
    assert beside(task, "other data") == own
    assert beside(replace(task, truth=np.roll(task.truth, 1))) == own
    assert beside(replace(task, classes=(*task.classes, "more"), answers=wide)) == own


def test_sequences_are_mapped_by_all_their_windows(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    results = results_of(run)
    one = first_items(results.tasks[0], 1, unit="sequences")
    write_results(folder, replace(results, tasks=(one,)))
    html = report([folder], tmp_path / "page.html").read_text(encoding="utf-8")
    held = re.search(r'id="map-points">(.*?)</script>', html)
    assert held is not None
    points = json.loads(held[1])
    assert len(points["words"]) == len(points["panels"][0]) == 39
    assert not any("said" in words for words in points["words"])
    assert html.count('class="film"') == 1
    assert "a whole sequence, of which the first window is shown" in html


def test_too_few_windows_for_a_map_are_told(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    results = results_of(run)
    two = first_items(results.tasks[0], 2)
    write_results(folder, replace(results, tasks=(two,)))
    html = report([folder], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "a map needs at least 3 test windows, found 2" in html
    other = replace(two, start_s=two.start_s + 500)
    with pytest.raises(DataError, match="none of its 2 test windows is in .*evaluate the run"):
        look_at(folder, other, other.answers[0].probability, print)
    gone = replace(two, recordings=tuple(f"no {name}" for name in two.recordings))
    with pytest.raises(DataError, match="no recordings"):
        look_at(folder, gone, gone.answers[0].probability, print)


def test_windows_late_in_a_long_recording_are_found(run: Path, tiny_dataset: Path) -> None:
    windows = load_windows(read_dataset(tiny_dataset), SMALL, video=False)
    start_s = np.linspace(20_000.3, 20_100.3, len(windows), dtype=np.float64)
    windows = replace(windows, start_s=start_s)
    kept = windows.start_s.astype(np.float32).astype(np.float64)
    recording = windows.recording.astype(np.int64)
    task = replace(results_of(run).tasks[0], recording=recording, start_s=kept,
                   recordings=windows.recordings)  # fmt: skip
    index, position = match(task, windows)
    assert index.tolist() == position.tolist() == list(range(len(windows)))


def test_chance_is_at_most_certain(run: Path) -> None:
    pool = replace(make_table([results_of(run)]).retrieval[0], windows=4)
    html = render([read_story(run)], Table((), (pool,)), None)
    chance = html.partition("</span>chance</td>")[2].partition("</tr>")[0]
    assert re.findall(r"<td>(.*?)</td>", chance) == ["0.250", "1.000", "1.000"] * 2
