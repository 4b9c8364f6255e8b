"""Cutting, labelling, and what is missing: masked, dropped and counted."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from detach.config import EncoderConfig, RunConfig, SensorConfig, override
from detach.data import cutting, frames
from detach.data import labels as labelling
from detach.data.recording import (
    Intervals,
    LabelTrack,
    SensorTrack,
    read_dataset,
    write_labels,
    write_sensor,
)
from detach.data.sensors import ChannelStats
from detach.data.windows import Windows, load_windows, split_windows
from detach.errors import DataError, MachineError, UsageError

from .tiny import CONFIG, configured, edit, load, tiny  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def windows(tiny_dataset: Path) -> Windows:
    found: Windows = load(tiny_dataset)
    return found


def intervals(*rows: tuple[float, float, str, float]) -> Intervals:
    return Intervals(
        np.array([r[0] for r in rows], dtype=np.float64),
        np.array([r[1] for r in rows], dtype=np.float64),
        tuple(r[2] for r in rows),
        np.array([r[3] for r in rows], dtype=np.float32),
    )


def test_shapes(windows: Windows) -> None:
    assert len(windows) == 4 * 39
    assert windows.samples.shape == (156, 128, 6)
    assert windows.samples.dtype == np.float32
    assert windows.observed.shape == (156, 6)
    assert windows.observed.all()
    assert windows.recordings == ("r0", "r1", "r2", "r3")
    assert windows.subject == ("s0", "s0", "s1", "s1")
    assert windows.picture_shape == (24, 40)
    assert [c.name for c in windows.channels[2:4]] == ["door2", "shaker.x"]
    assert [c.binary for c in windows.channels] == [True] * 3 + [False] * 3
    assert_array_equal(windows.start_s[:39], np.arange(39.0))


def test_switches_keep_zero_and_one_and_the_rest_is_normalised(windows: Windows) -> None:
    assert set(np.unique(windows.samples[:, :, :3])) == {0.0, 1.0}
    chosen = split_windows(windows, tiny(), CONFIG.split)["pretrain"]
    for c in range(3, 6):
        x = windows.samples[chosen, :, c]
        assert abs(x.mean()) < 1e-3
        assert abs(x.std() - 1) < 1e-3
    assert windows.channels[3].mean == windows.stats.mean[3]


def test_a_switch_and_its_label_agree(windows: Windows) -> None:
    for door in range(3):
        inside = windows.labels["activity"] == door + 1
        opened = windows.samples[:, :, door].mean(axis=1)
        assert opened[inside].min() > 0.2
        assert opened[windows.labels["door"] != door].max() < 0.6


def test_labels_need_half_a_window(windows: Windows) -> None:
    assert (windows.labels["activity"] >= 0).all()
    nobody = windows.labels["door"] < 0
    assert_array_equal(nobody, ~windows.in_view)
    assert windows.counts["windows without a person in view"] == nobody.sum() > 0
    assert windows.counts["door: unlabelled windows"] + windows.counts.get(
        "door: mixed windows", 0
    ) == int(nobody.sum())


def test_what_no_annotation_touches_can_be_a_class(
    windows: Windows, tiny_dataset: Path, data: Path
) -> None:
    config = configured(windows={"background": True})
    found = load(tiny_dataset, config)
    assert found.classes["door"] == (*windows.classes["door"], labelling.NOTHING)
    assert found.classes["activity"] == (*windows.classes["activity"], labelling.NOTHING)
    nobody = found.labels["door"] == 3
    assert nobody.sum() == windows.counts["door: unlabelled windows"]
    assert_array_equal(found.labels["door"][~nobody], windows.labels["door"][~nobody])
    assert not (found.labels["activity"] == 4).any(), "the track leaves no gap"
    assert "door: unlabelled windows" not in found.counts
    # A run that was trained without the class can still be judged with it.
    assert load(tiny_dataset, config, stats=windows.stats).classes == found.classes
    write_labels(data / "r0", LabelTrack(name="door"), [])
    assert (load(data, config).labels["door"][:39] == -1).all(), "a recording without annotation"


def test_frames_are_those_of_the_window(windows: Windows) -> None:
    index = np.array([100, 3, 3])
    frames = windows.frames(index)
    assert frames.shape == (3, 20, 24, 40, 3)
    assert frames.dtype == np.uint8
    source = windows.pictures[windows.recording[100]].pictures
    first = round(windows.start_s[100] * 10)
    assert_array_equal(frames[0], source[first : first + 20])
    assert_array_equal(frames[1], frames[2])
    assert_array_equal(windows.frame_index[3], np.arange(30, 50))


def test_fewer_frames_are_spread_over_the_window(tiny_dataset: Path) -> None:
    four = load(tiny_dataset, configured(video={"frames": 4}))
    assert_array_equal(four.frame_index[1], [12, 17, 22, 27])


def test_selecting_keeps_windows_whole(windows: Windows) -> None:
    index = np.array([150, 7])
    part = windows.select(index)
    assert len(part) == 2
    assert_array_equal(part.samples, windows.samples[index])
    assert_array_equal(part.labels["door"], windows.labels["door"][index])
    assert_array_equal(part.frames(np.array([0])), windows.frames(np.array([150])))
    assert len(windows.select(windows.in_view)) == windows.in_view.sum()


def test_loading_without_video(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    blind = load(tiny_dataset, video=False)
    assert len(blind) == 156
    with pytest.raises(DataError, match="no pictures"):
        blind.frames(np.array([0]))


def test_given_statistics_are_used(tiny_dataset: Path, windows: Windows, tmp_path: Path) -> None:
    windows.stats.save(tmp_path / "stats.json")
    part = load(
        tiny_dataset, names=["r3"], stats=ChannelStats.load(tmp_path / "stats.json"), video=False
    )
    assert_array_equal(part.samples, windows.samples[windows.recording == 3])
    assert part.channels == windows.channels


def test_channels_follow_the_run(tiny_dataset: Path, windows: Windows) -> None:
    s = windows.stats
    turned = ChannelStats(names=s.names[::-1], mean=s.mean[::-1], std=s.std[::-1])
    flipped = load(tiny_dataset, stats=turned, video=False)
    assert_array_equal(flipped.samples, windows.samples[:, :, ::-1])
    assert flipped.channels == windows.channels[::-1]
    alien = dataclasses.replace(s, names=("window", *s.names[1:]))
    with pytest.raises(DataError, match="the run knows a channel 'window' that these recordings"):
        load(tiny_dataset, stats=alien, video=False)


def test_statistics_come_from_pretraining_alone(data: Path) -> None:
    before = load(data, video=False).stats
    path = data / "r3" / "sensors" / "shaker.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{x.split(',')[0]},9,9,9" for x in lines[1:])]) + "\n")
    after = load(data, video=False)
    assert after.stats == before
    assert after.samples[after.recording == 3, :, 3:].min() > 5


@pytest.mark.parametrize("name", ["paper-v1", "camera-ready", "authors-code"])
def test_presets_load(tiny_dataset: Path, name: Any) -> None:
    from detach.config import preset

    config = override(preset(name), {"video": {"size_px": 32}})
    loaded = load(tiny_dataset, config)
    assert loaded.samples.shape[1] == (128 if name == "authors-code" else 60)
    assert np.isfinite(loaded.samples).all()
    assert loaded.picture_shape == (32, 32)


def test_optical_flow_of_windows(tiny_dataset: Path) -> None:
    config = dataclasses.replace(CONFIG, encoders=EncoderConfig(flow=True))
    loaded = load(tiny_dataset, config)
    moving = np.flatnonzero(loaded.labels["activity"] > 0)[:2]
    flow = loaded.flow(moving)
    assert flow.shape == (2, 19, 24, 40, 2)
    assert flow.dtype == np.float16
    assert np.abs(flow).max() > 0.2
    assert_array_equal(loaded.select(moving).flow(np.array([1])), flow[1:])
    again = load(tiny_dataset, config)
    assert_array_equal(again.flow(moving), flow)
    with pytest.raises(DataError, match=r"encoders\.flow=true"):
        load(tiny_dataset).flow(moving)
    none = loaded.pictures[0].flow(np.zeros((0, 2), dtype=np.int32))  # a recording too short
    assert none.shape == (0, 24, 40, 2)


def test_cameras_whose_names_begin_alike_keep_their_pictures(tmp_path: Path) -> None:
    mine, other = "a.b.c.24x40-crop.1111.npy", "a.b.c.24x40-crop.d.24x40-crop.2222.npy"
    old = "a.b.c.24x40-crop.0000.npy"
    for name in (mine, other, old, "a.b.c.24x40-crop.1111.times.npy"):
        (tmp_path / name).touch()
    frames._forget_older(tmp_path / mine, frozenset((mine, other)))
    assert not (tmp_path / old).exists()
    assert len(list(tmp_path.iterdir())) == 3


# labels


def test_mean_weight_is_the_share_of_the_window() -> None:
    track = intervals((0, 1, "a", 1), (1, 3, "b", 1), (3, 9, "a", 1))
    weight = labelling.mean_weight(track, ("a", "b", "c"), np.array([0.0, 1.0, 2.5, 20.0]), 2.0)
    assert_allclose(weight, [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.75, 0.25, 0.0], [0.0, 0.0, 0.0]])


def test_probabilities_are_averaged_over_the_window() -> None:
    track = intervals((0, 1, "a", 0.4), (0, 1, "b", 0.6), (1, 2, "a", 0.9), (1, 2, "b", 0.1))
    weight = labelling.mean_weight(track, ("a", "b"), np.array([0.0, 1.0]), 2.0)
    assert_allclose(weight, [[0.65, 0.35], [0.45, 0.05]], rtol=1e-6)
    label, why = labelling.window_labels(weight)
    assert label.tolist() == [0, -1]
    assert why == {"unlabelled": 0, "mixed": 1}


def test_a_class_annotated_twice_at_once_is_there_once() -> None:
    """0.6 s of 2 s, by two annotators, are no half of the window."""
    twice = intervals((0.2, 0.8, "a", 1.0), (0.2, 0.8, "a", 1.0))
    assert_allclose(labelling.mean_weight(twice, ("a",), np.array([0.0]), 2.0), [[0.3]])


def test_people_at_once_count_once() -> None:
    track = intervals((0, 0.8, "person", 1), (0, 0.8, "person", 1), (3, 4, "person", 1))
    seen = labelling.presence(track, np.array([0.0, 2.0, 3.5]), 2.0)
    assert seen.tolist() == [False, True, False]


def test_rare_classes_become_other() -> None:
    label = np.repeat([0, 1, 2, 3], [30, 25, 3, 1]).astype(np.int32)
    names = ("walk", "sit", "kneel", "jump", "never")
    merged = labelling.merge_rare(label, names, np.arange(59))
    assert merged == ("walk", "sit", "other")
    assert labelling.relabel(label, names, merged).tolist() == [0] * 30 + [1] * 25 + [2] * 4
    few = labelling.merge_rare(label[:55], names, np.arange(40))  # sit is rare in training
    assert few == ("walk", "other")
    assert labelling.merge_rare(label[:30], ("walk", "sit"), np.arange(30)) == ("walk",)


def test_only_tracks_with_probabilities_are_merged(data: Path) -> None:
    track = LabelTrack(name="activity")
    for i in range(4):
        rows = [(0.0, 26.0, "idle", 0.9), (0.0, 26.0, "open left", 0.1)]
        write_labels(data / f"r{i}", track, [*rows, (26.0, 30.0, "open middle", 0.8)])
    loaded = load(data, video=False)
    assert loaded.classes["activity"] == ("idle", "other")
    assert loaded.classes["door"] == ("left door", "middle door", "right door")
    assert loaded.counts["activity: windows of 'open middle' merged into other"] == 12
    assert set(np.unique(loaded.labels["activity"])) == {-1, 0, 1}
    part = load(data, names=["r3"], stats=loaded.stats, video=False)
    assert part.classes == loaded.classes


def test_few_labels_leave_the_classes_as_they_are(data: Path) -> None:
    """Which are rare is counted over all labels, not over the five of each that may be used."""
    track = LabelTrack(name="activity")
    for i in range(4):
        rows = [(0.0, 20.0, "idle", 0.9), (20.0, 40.0, "open left", 0.9)]
        write_labels(data / f"r{i}", track, rows)
    whole = load(data, video=False)
    few = dataclasses.replace(CONFIG, split=dataclasses.replace(CONFIG.split, labels=5))
    assert load(data, few, video=False).classes == whole.classes
    assert "idle" in whole.classes["activity"]


def test_more_windows_than_memory_are_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "available_mib", lambda: 0.1)
    with pytest.raises(MachineError, match=r"take 0\.\d GB of memory, 0\.0 GB are free"):
        load(data, video=False)
    monkeypatch.setattr(cutting, "available_mib", lambda: None)
    assert len(load(data, video=False))


def test_silence_is_masked_and_counted(data: Path) -> None:
    path = data / "r0" / "sensors" / "shaker.csv"
    lines = path.read_text().splitlines()
    kept = [x for x in lines[1:] if not 10 <= float(x.split(",")[0]) < 20]
    path.write_text("\n".join([lines[0], *kept]) + "\n")
    loaded = load(data, video=False)
    own = loaded.recording == 0
    masked = np.flatnonzero(~loaded.observed[own, 3])
    assert_array_equal(masked, np.arange(9, 19))
    assert loaded.observed[:, :3].all()
    assert loaded.counts["channel-windows missing"] == 3 * len(masked)
    assert (loaded.samples[9:19, :, 3:] == 0).all()


def test_a_stretch_of_empty_cells_is_the_same_as_silence(data: Path) -> None:
    path = data / "r0" / "sensors" / "shaker.csv"
    lines = path.read_text().splitlines()
    for i in range(301, 601):
        lines[i] = lines[i].split(",")[0] + ",,,"
    path.write_text("\n".join(lines) + "\n")
    loaded = load(data, video=False)
    assert_array_equal(np.flatnonzero(~loaded.observed[:39, 3]), np.arange(9, 19))


def test_windows_in_which_no_sensor_speaks_are_dropped(data: Path) -> None:
    tracks = [SensorTrack(name=f"door{d}", kind="switch", unit="", hz=None) for d in range(3)]
    for track in tracks:
        write_sensor(data / "r0", track, np.array([20.0]), np.array([0.0]))
    path = data / "r0" / "sensors" / "shaker.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[600:]]) + "\n")
    loaded = load(data)
    assert loaded.counts["windows dropped: no sensor has data"] == 19
    assert loaded.start_s[0] == 19.0
    assert loaded.counts["windows"] == len(loaded) == 156 - 19
    assert loaded.frame_index[0, 0] == 190


def test_a_recording_without_one_of_the_sensors(data: Path) -> None:
    edit(data / "r3" / "recording.json", lambda raw: raw["sensors"].pop(1))
    loaded = load(data, video=False)
    assert loaded.counts["sensors that a recording lacks"] == 1
    assert_array_equal(loaded.observed[:, 1], loaded.recording != 3)
    assert [c.name for c in loaded.channels[:3]] == ["door0", "door1", "door2"]


def test_windows_outside_the_video_are_dropped(data: Path) -> None:
    edit(data / "r0" / "recording.json", lambda raw: raw["videos"][0].update(start_s=4.0))
    edit(data / "r0" / "recording.json", lambda raw: raw.update(duration_s=42.0))
    loaded = load(data)
    own = loaded.recording == 0
    assert loaded.counts["windows dropped: outside the video"] == 4
    assert_array_equal(loaded.start_s[own], np.arange(4.0, 41.0))
    assert loaded.frame_index[0, 0] == 0


def test_rows_of_unlisted_classes_and_absent_classes_are_counted(data: Path) -> None:
    write_labels(
        data / "r3", LabelTrack(name="activity"), [(0, 20, "dance"), (20, 40, "open right")]
    )
    for name in ("r0", "r1"):
        rows = [(0, 20, "idle"), (20, 40, "open left")]
        write_labels(data / name, LabelTrack(name="activity"), rows)
    loaded = load(data, video=False)
    assert loaded.counts["activity: label rows of unlisted classes"] == 1
    parts = split_windows(loaded, read_dataset(data), CONFIG.split)
    absent = loaded.counts["activity: test windows of classes absent from train"]
    assert absent == len(parts["test"]) == 20


def test_sensors_can_be_chosen(tiny_dataset: Path) -> None:
    config = dataclasses.replace(CONFIG, sensors=SensorConfig(include=("switch",)))
    assert load(tiny_dataset, config, video=False).samples.shape == (156, 128, 3)


def test_the_control_shows_other_windows_pictures(windows: Windows) -> None:
    index = np.flatnonzero(windows.in_view)
    wrong = windows.with_wrong_pictures(index, seed=0)
    shown = wrong.pictures_of
    assert shown is not None
    assert_array_equal(np.sort(shown), np.arange(len(windows)))
    assert (shown[index] != index).mean() > 0.9
    assert_array_equal(wrong.frames(index), windows.frames(shown[index]))
    assert_array_equal(wrong.samples, windows.samples)
    with pytest.raises(ValueError, match="cannot be selected from"):
        wrong.select(index)


def test_windows_of_an_unseen_class_stay_out_of_pretraining(tiny_dataset: Path) -> None:
    dataset = read_dataset(tiny_dataset)
    base = RunConfig()
    windows = load_windows(dataset, base, video=False)
    track, classes = next(iter(windows.classes.items()))
    split = dataclasses.replace(base.split, unseen=(classes[0],))
    parts = split_windows(windows, dataset, split)
    whole = split_windows(windows, dataset, base.split)
    assert 0 not in windows.labels[track][parts["pretrain"]]
    assert len(parts["pretrain"]) < len(whole["pretrain"])
    assert np.array_equal(parts["train"], whole["train"])
    with pytest.raises(UsageError, match=r"split\.unseen: no class 'Moon'; there are "):
        split_windows(windows, dataset, dataclasses.replace(base.split, unseen=("Moon",)))
