"""The SPHERE importer on a made-up folder with every trap planted."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detach.data import sphere, sphere_files, sphere_picture, sphere_recording
from detach.data.recording import Dataset, Recording, read_recording
from detach.data.sphere import import_sphere
from detach.errors import DataError, MachineError

from .sphere_folder import (  # type: ignore[import-not-found]
    CLOCK_TEXT,
    DISAGREE_S,
    TURN_S,
    decoded,
    refuse,
    write_sphere_folder,
)

ALL = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = write_sphere_folder(tmp_path_factory.mktemp("sphere"))
    return folder


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def dataset(source: Path, said: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("data") / "sphere"
    return import_sphere(source, out, workers=1, progress=said.append)


def recording(dataset: Dataset, name: str) -> Recording:
    return read_recording(dataset.folder / name)


def test_every_sequence_becomes_a_whole_recording(dataset: Dataset) -> None:
    names = [r.name for r in dataset.recordings()]
    assert names == ["run00001", "run00007", *(f"seq0001{i}" for i in range(1, 7))]
    for made in dataset.recordings():
        (video,) = made.videos
        frames = decoded(made.folder / video.file)
        assert frames.shape == (video.frames, 120, 480, 3)
        assert video.frames == int(made.duration_s * 10)
        assert len(made.sensors) == 10


def test_labelled_runs_are_split_by_number_and_the_others_pretrain(dataset: Dataset) -> None:
    assert dataset.splits["train"] == ("run00001",)
    assert dataset.splits["val"] == ("run00007",)
    assert dataset.splits["test"] == ()
    assert dataset.splits["pretrain"] == ("run00001", *(f"seq0001{i}" for i in range(1, 7)))
    assert next(iter(dataset.classes)) == "activity8"
    assert [len(c) for c in dataset.classes.values()] == [8, 20, 9]


def test_eight_activities_hold_the_twenty_once_each() -> None:
    parts = [name for names in sphere_recording.ACTIVITY8.values() for name in names]
    assert sorted(parts) == sorted(sphere_files.ACTIVITIES)


def test_exchanged_cameras_are_found_and_put_right(dataset: Dataset) -> None:
    decided = {r.name: r.notes["cameras"] for r in dataset.recordings()}
    exchanged = {name for name, eye in decided.items() if eye["exchanged"]}
    assert exchanged == {"run00007", "seq00012", "seq00015"}
    assert dataset.notes["cameras"]["learned_from"] == ["run00001"]
    twin, original = (decoded(dataset.folder / n / "video.mp4") for n in ("seq00012", "seq00011"))
    assert (twin == original).all()


def test_decisions_are_said(dataset: Dataset, said: list[str]) -> None:
    assert any(line.startswith("run00007: kitchen and living room exchanged") for line in said)
    assert dataset.notes["cameras"]["counts"]["exchanged"] == 3
    assert "cameras: 4 as named, 3 exchanged, 0 of these unsure, 1 without" in "\n".join(said)
    assert "nothing to decide" in recording(dataset, "seq00013").notes["cameras"]["decided_by"]


def test_a_turned_wrist_unit_is_turned_back(dataset: Dataset) -> None:
    turned = {r.name for r in dataset.recordings() if r.notes["wrist"]["flipped"]}
    assert turned == {"run00007", "seq00014"}
    twin, original = (
        (dataset.folder / n / "sensors" / "wrist.csv").read_text() for n in ("seq00014", "seq00011")
    )
    assert twin == original


def test_a_wrist_that_hangs_level_is_unsure() -> None:
    samples = np.zeros((100, 4))
    samples[:, 2] = 0.05
    assert sphere_recording.wrist_turn(samples)["unsure"]
    samples[:, 2] = -0.5
    assert sphere_recording.wrist_turn(samples) == {
        "flipped": True,
        "samples": 100,
        "mean_y_g": -0.5,
        "unsure": False,
        "decided_by": "sign of mean y",
    }
    assert not sphere_recording.wrist_turn(samples[:0])["unsure"]


def test_no_absolute_time_reaches_a_recording(dataset: Dataset) -> None:
    texts = [p.read_text() for p in dataset.folder.rglob("*") if p.suffix in {".json", ".csv"}]
    assert len(texts) > ALL
    assert not any(CLOCK_TEXT in text for text in texts)
    assert all(r.start_utc is None for r in dataset.recordings())
    kinds = {t.kind for r in dataset.recordings() for t in r.sensors}
    assert kinds == {"motion", "acceleration"}
    assert "clock" in dataset.notes


def test_motion_is_a_row_a_change_and_nested_events_are_merged(dataset: Dataset) -> None:
    made = recording(dataset, "run00001")
    track = next(t for t in made.sensors if t.name == "pir_living")
    t_s, values = made.read_sensor(track)
    assert t_s[:3].tolist() == [0.0, 3.0, 7.0]
    assert values[:, 0].tolist() == [float(i % 2) for i in range(len(values))]
    assert made.notes["counts"]["motion_overlapping"] == 1
    silent = next(t for t in made.sensors if t.name == "pir_bath")
    assert made.read_sensor(silent)[1].tolist() == [[0.0]]


def test_activity_rows_are_probabilities_of_annotated_seconds(dataset: Dataset) -> None:
    made = recording(dataset, "run00001")
    fine, merged = made.read_labels("activity20"), made.read_labels("activity8")
    assert fine.start_s.min() == 5.0
    assert fine.end_s.max() == pytest.approx(made.duration_s)
    second = {
        n: w for s, n, w in zip(merged.start_s, merged.name, merged.weight, strict=True) if s == 9
    }
    assert second == {"walk": 0.75, "turn": 0.25}
    assert set(fine.name) == {"a_walk", "a_loadwalk", "t_turn"}
    assert not recording(dataset, "seq00011").read_labels("activity8").name


def test_room_weight_is_the_share_of_annotators(dataset: Dataset) -> None:
    rooms = recording(dataset, "run00001").read_labels("room")
    rows = list(zip(rooms.start_s, rooms.end_s, rooms.name, rooms.weight, strict=True))
    assert rows[0] == (1.0, TURN_S, "living", 1.0)
    assert rows[1:3] == [
        (TURN_S, TURN_S + DISAGREE_S, "kitchen", 0.5),
        (TURN_S, TURN_S + DISAGREE_S, "living", 0.5),
    ]


def test_pictures_show_somebody_exactly_where_the_track_says(dataset: Dataset) -> None:
    made = recording(dataset, "seq00011")
    person = made.read_labels("person")
    assert person.start_s.tolist() == [0.0]
    frames = decoded(made.folder / "video.mp4").astype(int)
    empty = decoded(dataset.folder / "seq00013" / "video.mp4").astype(int)
    assert not recording(dataset, "seq00013").read_labels("person").name
    changed = np.abs(frames - empty[0]).max(axis=(1, 3)) > 40
    views = changed.reshape(len(frames), 3, 160).any(axis=2)
    assert views[:118, 2].all()
    assert not views[:118, 1].any()
    assert views[123:, 1].all()
    assert not views[123:, 2].any()
    assert np.abs(empty[:, 60, [80, 240, 400]].mean(axis=(0, 2)) - [200, 170, 140]).max() < 6


def test_options_override_what_would_be_decided(source: Path, tmp_path: Path) -> None:
    made = import_sphere(
        source,
        tmp_path / "out",
        sensors=("wrist",),
        fps=5.0,
        cameras_exchanged={"run00001": True},
        wrist_flipped={"run00007": False},
        limit=2,
        workers=1,
    )
    first, second = made.recordings()
    assert first.notes["cameras"]["exchanged"]
    assert not first.notes["cameras"]["unsure"]
    assert first.notes["cameras"]["decided_by"] == "option"
    assert not second.notes["wrist"]["flipped"]
    _, values = second.read_sensor(second.sensors[0])
    assert values[:, 1].mean() < 0
    assert [t.name for t in first.sensors] == ["wrist"]
    assert first.videos[0].frames == 302


def test_two_processes_make_the_same(source: Path, dataset: Dataset, tmp_path: Path) -> None:
    made = import_sphere(source, tmp_path / "out", limit=4, workers=2)
    for mine in made.recordings():
        other = recording(dataset, mine.name)
        assert replace(mine, folder=other.folder) == other


def test_a_folder_with_something_in_it_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    refuse(DataError, "nothing is overwritten", source, tmp_path / "out")
    refuse(DataError, "nothing is overwritten", source, tmp_path / "out" / "mine.txt")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_nothing_is_written_into_the_source(source: Path) -> None:
    refuse(DataError, "lies inside the source", source, source / "out")
    assert not (source / "out").exists()


def test_a_full_disk_is_one_message(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(sphere_recording, "write_sensor", full)
        refuse(
            MachineError,
            "run00001: could not be written: the disk is full",
            source,
            tmp_path / "out",
        )
    with monkeypatch.context() as patched:
        patched.setattr(sphere_picture, "SPARE_BYTES", 1 << 60)
        refuse(MachineError, "the disk is full", source, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(sphere_picture, "frames_in", lambda _path: 3)
        refuse(MachineError, "is the disk full", source, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(sphere, "BYTES_PER_SECOND", 1 << 60)
        refuse(MachineError, "MB needed for 8 sequences", source, tmp_path / "out")


def test_an_interrupted_import_goes_on(source: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def interrupt(line: str) -> None:
        if line.startswith("run00007"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_sphere(source, tmp_path / "out", workers=1, progress=interrupt)
    assert not (tmp_path / "out").exists()
    made = import_sphere(source, tmp_path / "out", workers=1, limit=3, progress=said.append)
    assert "2 of 3 recordings kept from before" in said
    assert [r.name for r in made.recordings()] == ["run00001", "run00007", "seq00011"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_without_labelled_runs_motion_decides(source: Path, tmp_path: Path) -> None:
    tests = Path(shutil.copytree(source / "public_data" / "test", tmp_path / "a" / "test"))
    shutil.copytree(source / "supplementary", tmp_path / "supplementary")
    said: list[str] = []
    made = import_sphere(tests.parent, tmp_path / "out", workers=1, progress=said.append)
    assert "cameras: no labelled runs to learn from; only motion sensors tell them apart" in said
    assert recording(made, "seq00015").notes["cameras"]["probability"] == 0.5
    assert "seq00015" in made.notes["cameras"]["unsure"]
    assert recording(made, "seq00012").notes["cameras"]["exchanged"]
    assert made.splits["train"] == ()


def test_wrong_arguments_are_named(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="sensors must be"):
        import_sphere(source, out, sensors=("rssi",))
    with pytest.raises(ValueError, match="fps must be"):
        import_sphere(source, out, fps=0)
    with pytest.raises(ValueError, match="limit must be"):
        import_sphere(source, out, limit=0)
    with pytest.raises(ValueError, match="workers must be"):
        import_sphere(source, out, workers=0)
    with pytest.raises(ValueError, match="cameras_exchanged names 'run3'"):
        import_sphere(source, out, cameras_exchanged={"run3": True})


@pytest.mark.slow
@pytest.mark.skipif("DETACH_SPHERE" not in os.environ, reason="DETACH_SPHERE names no data")
def test_real_import(tmp_path: Path) -> None:
    made = import_sphere(Path(os.environ["DETACH_SPHERE"]), tmp_path / "out", limit=9)
    exchanged = [r.name for r in made.recordings() if r.notes["cameras"]["exchanged"]]
    assert exchanged[:2] == ["run00007", "run00008"]
    assert len(made.splits["train"]) == 6
