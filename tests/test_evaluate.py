import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from detach.assess import embed_sensors, unusual
from detach.config import RunConfig, SplitConfig, override
from detach.data.labels import NOTHING
from detach.data.recording import read_dataset
from detach.data.splits import split_windows
from detach.data.windows import load_windows
from detach.errors import DataError, UsageError
from detach.evaluate import evaluate, find_runs
from detach.model import Detach, build, load_run, save_run
from detach.results import (
    CLOCK,
    MAJORITY,
    RAW,
    RESULTS_FILE,
    UNTRAINED,
    Retrieval,
    label_runs,
    read_results,
    write_results,
)
from detach.table import make_table

SMALL = override(
    RunConfig(),
    {
        "encoders": {"width": 8, "video_scale": 0.125, "sensor_scale": 0.125},
        "video": {"size_px": 32, "frames": 4},
        "sensors": {"rate_hz": 32.0},
        "device": "cpu",
        "split": {"track": "activity"},
    },
)


def untrained_run(folder: Path, data: Path, **changes: object) -> Path:
    """A run folder whose weights are drawn, as training would leave it."""
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    dataset = read_dataset(data)
    windows = load_windows(dataset, config)
    parts = split_windows(windows, dataset, config.split)
    classes = windows.classes["activity"]
    channels = windows.samples.shape[2]
    drawn = replace(config, seed=config.seed + 100)  # not the weights the reference draws
    about = {
        "data": str(data),
        "track": "activity",
        "classes": list(classes),
        "clusters": 3,
        "counts": dict(windows.counts),
        "windows": {name: len(part) for name, part in parts.items()},
        "notes": dict(dataset.notes),
        "channels": [c.name for c in windows.channels],
    }
    folder.mkdir(parents=True)
    model = build(drawn, channels, 3, len(classes))
    save_run(folder, config, model, windows.stats, about)
    return folder


@pytest.fixture(scope="module")
def runs(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        untrained_run(folder / "detach" / f"seed{seed}", tiny_dataset, seed=seed)
    untrained_run(folder / "supervised" / "seed0", tiny_dataset, method="supervised")
    return folder


def test_evaluate_writes_results_head_and_one_table(runs: Path) -> None:
    table = evaluate([runs])
    group = table.groups[0]
    assert len(table.groups) == 1
    assert [row.name for row in group.rows] == [
        "detach",
        "supervised",
        UNTRAINED,
        RAW,
        CLOCK,
        MAJORITY,
    ]
    assert [row.seeds for row in group.rows] == [2, 1, 2, 0, 0, 0]
    f1 = {row.name: row.cells["f1"].mean for row in group.rows}
    assert f1[RAW] > 0.8  # the tiny set is learnable
    assert f1[MAJORITY] < 0.45
    text = str(table)
    assert "no intervals" in text  # 40 s of test data are one block
    assert "tiny: activity, split" in text
    assert max(len(line) for line in text.splitlines() if line.startswith("detach ")) < 120

    run = runs / "detach" / "seed0"
    head = load_file(run / "head.safetensors")
    assert head["weight"].shape == (4, 3 + 8)  # 3 places, d = 8
    results = read_results(run)
    assert make_table([results]).groups[0].items == len(results.tasks[0].truth)
    stored = results.tasks[0].answers[0].probability
    assert stored.sum(axis=1) == pytest.approx(np.ones(len(stored)), abs=1e-5)
    assert results.retrieval[0].pool == results.parts["test"]


def test_the_head_answers_as_the_probe_did(runs: Path, tiny_dataset: Path) -> None:
    evaluate([runs / "detach" / "seed0"])
    run = load_run(runs / "detach" / "seed0")
    task = read_results(run.folder).tasks[0]
    windows = load_windows(read_dataset(tiny_dataset), run.config, stats=run.stats)
    head = load_file(run.folder / "head.safetensors")
    assert isinstance(run.model, Detach)
    seen = embed_sensors(run.model, windows, task.index)
    widths = {run.model.embedding_width, seen.shape[1]}
    assert len(widths) == 2
    assert head["weight"].shape[1] in widths
    logit = seen[:, : head["weight"].shape[1]] @ head["weight"].T + head["bias"]
    assert (logit.argmax(1) == task.answers[0].probability.argmax(1)).mean() > 0.99


def test_leave_one_run_out_and_another_track_join_earlier_results(runs: Path) -> None:
    run = runs / "detach" / "seed1"
    evaluate([run])
    table = evaluate([run], leave_one_run_out=True, tracks=["door"])
    tasks = [(t.track, t.protocol) for t in read_results(run).tasks]
    assert tasks == [("activity", "split"), ("door", "split"), ("door", "leave-one-run-out")]
    left_out = table.groups[-1]
    assert left_out.protocol == "leave-one-run-out"
    assert "run0, run1" in " ".join(left_out.notes)
    assert left_out.blocks == 4
    cells = {row.name: row.cells["f1"] for row in left_out.rows}
    assert cells[CLOCK].low < cells[CLOCK].mean < cells[CLOCK].high
    assert "detach - clock only" in str(table)
    assert len(np.unique(read_results(run).tasks[-1].recording)) == 4


def test_several_tracks_at_once_are_what_each_is_alone(tiny_dataset: Path, tmp_path: Path) -> None:
    def probabilities(folder: Path) -> dict[tuple[str, str, str], np.ndarray]:
        tasks = read_results(folder).tasks
        return {(t.track, t.protocol, a.name): a.probability for t in tasks for a in t.answers}

    for name in ("together", "apart", "other"):
        untrained_run(tmp_path / name, tiny_dataset, encoders=SMALL.encoders)
    evaluate([tmp_path / "together", tmp_path / "other"], tracks=["door", "activity"])
    for track in ("activity", "door"):
        evaluate([tmp_path / "apart"], tracks=[track])
    together, apart = probabilities(tmp_path / "together"), probabilities(tmp_path / "apart")
    assert set(together) == set(apart) == set(probabilities(tmp_path / "other"))
    for key, said in together.items():
        np.testing.assert_allclose(said, apart[key], atol=1e-5)
    with safe_open(tmp_path / "together" / "head.safetensors", "np") as head:
        assert head.metadata()["track"] == "door"


def test_what_was_evaluated_is_taken_over_where_it_suffices(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    for seed in (0, 1):
        untrained_run(tmp_path / f"seed{seed}", tiny_dataset, seed=seed)
    evaluate([tmp_path / "seed0"], tracks=["door"])
    said: list[str] = []

    def again(*, one_out: bool = False) -> str:
        said.clear()
        table = evaluate(
            [tmp_path],
            leave_one_run_out=one_out,
            tracks=["door"],
            reuse=True,
            progress=said.append,
        )
        return str(table)

    both = again()
    assert sum("taken over" in line for line in said) == 1
    assert again() == both == str(evaluate([tmp_path], tracks=["door"]))
    assert sum("taken over" in line for line in said) == 2
    again(one_out=True)
    assert not any("taken over" in line for line in said), "a protocol was missing"
    weights = tmp_path / "seed0" / "model.safetensors"
    shutil.copy(tmp_path / "seed1" / "model.safetensors", weights)
    again()
    assert sum("taken over" in line for line in said) == 1, "other weights, other results"


def test_doing_nothing_can_be_a_class_of_the_head(runs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(runs / "detach" / "seed0", tmp_path / "seed0")
    plain = evaluate([run], tracks=["door"])
    table = evaluate([run], tracks=["door"], background=True, reuse=True)
    assert table.groups[-1].items > plain.groups[-1].items
    assert "no annotation touches are a class: nothing" in " ".join(table.groups[-1].notes)
    with safe_open(run / "head.safetensors", "np") as head:
        assert json.loads(head.metadata()["classes"])[-1] == NOTHING
    said: list[str] = []
    evaluate([run], tracks=["door"], background=True, reuse=True, progress=said.append)
    assert any("taken over" in line for line in said)


def test_runs_with_and_without_flow_stand_in_one_table(tiny_dataset: Path, tmp_path: Path) -> None:
    moving = replace(SMALL.encoders, flow=True)
    for name, encoders in (("without", SMALL.encoders), ("with", moving)):
        untrained_run(tmp_path / name, tiny_dataset, encoders=encoders)
    table = evaluate([tmp_path / "without", tmp_path / "with"])
    names = [row.name for row in table.retrieval[0].rows if row.kind == "method"]
    assert names == ["detach, encoders.flow=False", "detach, encoders.flow=True"]


def test_runs_of_different_windows_are_not_mixed(runs: Path) -> None:
    evaluate([runs])
    one = read_results(runs / "detach" / "seed0")
    n = one.retrieval[0].pool - 3
    fewer = tuple(
        Retrieval(
            r.name,
            r.kind,
            r.recording[:n],
            r.start_s[:n],
            r.video_to_sensor[:n],
            r.sensor_to_video[:n],
        )
        for r in one.retrieval
    )
    table = make_table([one, replace(one, dataset="other", retrieval=fewer)])
    assert [(p.dataset, p.windows) for p in table.retrieval] == [("tiny", n + 3), ("other", n)]
    assert "other: between video and sensors" in str(table)


def test_ways_of_one_method_get_names_of_their_own(runs: Path) -> None:
    evaluate([runs])
    a = read_results(runs / "detach" / "seed0")
    changed = {"stage2.temperature": 0.2}
    b = replace(a, options={**a.options, **changed}, settings={**a.settings, **changed})
    names = [run.method for run in label_runs([a, b])]
    assert names == ["detach, stage2.temperature=0.1", "detach, stage2.temperature=0.2"]
    assert label_runs([a, a])[0].method == "detach"
    # Of another version, whose preset had that as its own: no option differs, but a setting does.
    other = replace(b, options=a.options)
    assert [run.method for run in label_runs([a, other])] == names
    old = replace(b, settings={})  # evaluated before settings were kept
    assert label_runs([a, old])[0].method == "detach, stage2.temperature=None"


def test_the_track_of_the_run_stays_first(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "detach" / "seed0", tmp_path / "run")
    evaluate([tmp_path / "run"], tracks=["activity"])
    evaluate([tmp_path / "run"], tracks=["door", "activity"])
    assert [t.track for t in read_results(tmp_path / "run").tasks] == ["activity", "door"]


def test_unusual_names_what_differs_from_the_preset() -> None:
    assert unusual(RunConfig(seed=3)) == {}
    assert unusual(replace(RunConfig(), split=SplitConfig(by="run"))) == {"split.by": "run"}


def test_wrong_folders_tracks_and_schemas_are_told(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds none"):
        find_runs([tmp_path])
    with pytest.raises(UsageError, match="activity, door"):
        evaluate([runs / "detach" / "seed0"], tracks=["kitchen"])
    with pytest.raises(DataError, match="detach evaluate"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('{"schema": 99}')
    with pytest.raises(DataError, match="schema must be 1, found 99"):
        read_results(tmp_path)


def test_damaged_results_are_named_and_made_anew(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(find_runs([runs])[0], tmp_path / "run")
    evaluate([tmp_path / "run"])
    path = tmp_path / "run" / RESULTS_FILE
    found = read_results(path.parent)
    task = replace(found.tasks[0], truth=np.full_like(found.tasks[0].truth, 99))
    write_results(path.parent, replace(found, tasks=(task,)))
    with pytest.raises(DataError, match="a label beyond its"):
        read_results(path.parent)
    said: list[str] = []
    evaluate([tmp_path / "run"], progress=said.append)
    assert any(line.startswith("replaced: ") for line in said)
    assert read_results(path.parent).tasks[0].truth.max() < 99
    with pytest.raises(UsageError, match="at least one run folder"):
        find_runs([])
