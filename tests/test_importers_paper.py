"""The paper's two data sets: importers proved on layouts we write, with planted clocks."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from detach.cli import main
from detach.config import override, preset
from detach.data.importers import hwu_usp, hwu_usp_ambient, opportunity_columns
from detach.data.importers.cue_sync import Mark, fit_clock, runs_of
from detach.data.importers.hwu_usp import import_hwu_usp
from detach.data.importers.opportunity import import_opportunity
from detach.data.importers.opportunity_files import read_cues, read_rows
from detach.data.recording import (
    Dataset,
    LabelTrack,
    Recording,
    VideoTrack,
    new_recording,
    read_dataset,
    write_dataset,
    write_labels,
    write_recording,
)
from detach.data.windows import load_windows
from detach.errors import DataError
from detach.material import count_places, load_material
from detach.simulate import record
from detach.simulate.homes import household, label_rows
from detach.simulate.hwu_layout import write_hwu_usp
from detach.simulate.levels import load_level
from detach.simulate.opportunity_layout import column_names, write_opportunity
from detach.simulate.script import write_scripts

from .sample_part import copy_first  # type: ignore[import-not-found]

OFFSETS, DRIFTS = (3.0, -3.0, 0.4), (100.0, -100.0, 0.0)
TOLERANCE_S = 0.1
Published = tuple[Path, dict[str, tuple[float, float]]]


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of the sample, the data set's description without parts."""
    folder: Path = copy_first(3, tmp_path_factory.mktemp("some") / "data")
    return folder


@pytest.fixture(scope="module")
def published(some: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The same as Opportunity++ is published."""
    root = tmp_path_factory.mktemp("published") / "opp"
    planted = write_opportunity(some, root, offset_s=OFFSETS, drift_ppm=DRIFTS, size_px=(160, 120))
    return root, planted


@pytest.fixture(scope="module")
def imported(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "data"
    assert main(["import", "opportunity++", str(published[0]), str(out)]) == 0
    return out


def marks(count: int, rng: np.random.Generator, length_s: float = 2300.0) -> list[Mark]:
    codes = list(opportunity_columns.CODES)[:14]
    starts = np.sort(rng.uniform(5, length_s, count))
    return [Mark(float(t), float(t + 3), int(rng.choice(codes))) for t in starts]


@pytest.mark.parametrize("drift_ppm", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("offset_s", [-3.0, 0.0, 3.0, 40.0])
def test_planted_clocks_are_found(offset_s: float, drift_ppm: float) -> None:
    rng = np.random.default_rng(1)
    sensor = marks(120, rng)

    def seen(t: float) -> float:
        return t * (1 + 1e-6 * drift_ppm) + offset_s + 0.15 * float(rng.normal())

    video = [Mark(seen(m.start_s), seen(m.end_s), m.code) for m in sensor]
    video = [m for i, m in enumerate(video) if i % 9]  # some are missing
    sensor = [m for i, m in enumerate(sensor) if i % 7]
    video[::20] = [Mark(m.start_s + 1.5, m.end_s + 1.5, m.code) for m in video[::20]]  # careless
    clock = fit_clock(video, sensor, "here")
    at = np.array([0.0, 1000.0, 2300.0])
    truth = at * (1 + 1e-6 * drift_ppm) + offset_s
    np.testing.assert_allclose(clock.video_s(at), truth, atol=TOLERANCE_S)
    assert abs(clock.drift_ppm - drift_ppm) < 50
    assert clock.residual_s < 0.2


def test_cues_of_another_run_are_refused() -> None:
    one, other = (marks(60, np.random.default_rng(seed)) for seed in (1, 2))
    with pytest.raises(DataError, match=r"S1-ADL1: the cues of the video do not match"):
        fit_clock(one, other, "S1-ADL1")
    odd = [Mark(m.start_s, m.end_s, 7) for m in other]
    with pytest.raises(DataError, match="none of 60 cues has the code"):
        fit_clock(one, odd, "S1-ADL1")


def test_stretches_of_equal_labels_become_marks() -> None:
    code = np.array([0, 5, 5, 0, 6, 7, 7])
    found = runs_of(np.arange(7) / 10, code, 0.1)
    assert [m.code for m in found] == [5, 6, 7]
    spans = [(m.start_s, m.end_s) for m in found]
    np.testing.assert_allclose(spans, [(0.1, 0.3), (0.4, 0.5), (0.5, 0.7)])


def test_clocks_planted_in_the_layout_are_found(published: Published, imported: Path) -> None:
    for recording in read_dataset(imported).recordings():
        offset_s, drift = published[1][recording.name]
        clock = recording.notes["clock"]
        at = np.array([0.0, recording.duration_s])
        found = at * (1 + 1e-6 * clock["drift_ppm"]) + clock["offset_s"]
        np.testing.assert_allclose(found, at * (1 + 1e-6 * drift) + offset_s, atol=TOLERANCE_S)
        assert clock["residual_s"] < 0.2


def test_what_is_imported_is_what_was_simulated(
    some: Path, published: Published, imported: Path
) -> None:
    names = {"run01": "S1-ADL1", "run02": "S1-ADL2", "run03": "S1-ADL3"}
    theirs = {r.name: r for r in read_dataset(imported).recordings()}
    for recording in read_dataset(some).recordings():
        other = theirs[names[recording.name]]
        assert len(other.sensors) == 13 + 8
        for ours, name in (
            ("fridge_open", "switch_fridge_s3"),
            ("drawer1_any", "switch_upperdrawer"),
        ):
            t_s, values = recording.read_sensor(
                next(s for s in recording.sensors if s.name == ours)
            )
            at, seen = other.read_sensor(next(s for s in other.sensors if s.name == name))
            held = values[np.maximum(np.searchsorted(t_s, at, side="right") - 1, 0), 0]
            wrong = (held != seen[:, 0]) & (at > t_s[0])
            edges = int((np.abs(np.diff(held)) > 0).sum())
            assert wrong.mean() < (edges + 1) * 2 * TOLERANCE_S / recording.duration_s
        offset_s, drift = published[1][other.name]
        clock = other.notes["clock"]
        mine = next(s for s in recording.sensors if s.name == "fridge_accelerometer")
        t_s, values = recording.read_sensor(mine)
        at, seen = other.read_sensor(
            next(s for s in other.sensors if s.name == "acceleration_fridge")
        )
        by_sensors = (at - clock["offset_s"]) / (1 + 1e-6 * clock["drift_ppm"])
        truth_s = by_sensors * (1 + 1e-6 * drift) + offset_s
        for axis in range(3):
            expected = np.interp(truth_s, t_s, values[:, axis])
            np.testing.assert_allclose(seen[:, axis], expected, atol=1.0)
        cues, labels = other.read_labels("action"), recording.read_labels("action")
        assert list(cues.name) == list(labels.name)
        np.testing.assert_allclose(cues.start_s, labels.start_s, atol=0.5)
    assert read_dataset(imported).classes["action"][:2] == ("Open Door 1", "Open Door 2")


def test_imported_runs_are_cut_into_windows(imported: Path) -> None:
    changes = {"video": {"size_px": 32, "frames": 6}, "split": {"by": "run"}}
    config = override(preset("recommended"), changes)
    windows = load_windows(read_dataset(imported), config)
    assert windows.samples.shape[2] == 37
    assert set(windows.labels) >= {"action", "place"}
    assert (windows.labels["action"] >= 0).sum() > 50
    assert windows.frames(np.arange(2)).shape[:2] == (2, 6)


def test_the_paper_s_channels_leave_out_the_chair(published: Published, tmp_path: Path) -> None:
    said: list[str] = []
    made = import_opportunity(
        published[0], tmp_path / "d", channels="ambient34", limit=1, progress=said.append
    )
    recording = next(made.recordings())
    assert sum(len(s.axes) for s in recording.sensors) == 34
    assert not any("lazychair" in s.name for s in recording.sensors)
    assert any("1 of 24 runs" in line for line in said)
    changes = {"video": {"size_px": 32, "frames": 6}, "split": {"by": "random-window"}}
    windows = load_windows(made, override(preset("recommended"), changes))
    labelled = int((windows.labels["action"] >= 0).sum())
    total = len(windows) + windows.counts["windows dropped: no sensor has data"]
    assert said[-1].endswith(
        f": {total} windows of 2 s every 1 s, {labelled} of them with one of the 14 labels; "
        "the paper has 5324"
    )


PUBLISHED = """
195 REED SWITCH DISHWASHER S1
196 REED SWITCH FRIDGE S3
197 REED SWITCH FRIDGE S2
198 REED SWITCH FRIDGE S1
199 REED SWITCH MIDDLEDRAWER S1
200 REED SWITCH MIDDLEDRAWER S2
201 REED SWITCH MIDDLEDRAWER S3
202 REED SWITCH LOWERDRAWER S3
203 REED SWITCH LOWERDRAWER S2
204 REED SWITCH UPPERDRAWER
205 REED SWITCH DISHWASHER S3
206 REED SWITCH LOWERDRAWER S1
207 REED SWITCH DISHWASHER S2
208 Accelerometer DOOR1 acc
211 Accelerometer LAZYCHAIR acc
214 Accelerometer DOOR2 acc
217 Accelerometer DISHWASHER acc
220 Accelerometer UPPERDRAWER acc
223 Accelerometer LOWERDRAWER acc
226 Accelerometer MIDDLEDRAWER acc
229 Accelerometer FRIDGE acc
244 Locomotion
250 ML_Both_Arms
"""
"""Columns by number, as OPPORTUNITY's documents name them; of accelerometers the first of three."""


def test_columns_stand_where_the_documents_of_the_data_set_say(tmp_path: Path) -> None:
    names = {i: f"Other {i}" for i in range(1, 251)} | {1: "MILLISEC"}
    for line in PUBLISHED.strip().splitlines():
        number, name = line.split(" ", 1)
        axes = "XYZ" if name.endswith("acc") else ("",)
        names |= {int(number) + i: name + axis for i, axis in enumerate(axes)}
    path = tmp_path / "column_names.txt"
    lines = [f"Column: {i} {name}; value = original_value" for i, name in names.items()]
    path.write_bytes("\r\n".join(["\ufeffData columns:", "", *lines, ""]).encode())
    found = opportunity_columns.read_map(path, "ambient37")
    assert found == opportunity_columns.read_map(None, "ambient37")
    by_name = {sensor.name: sensor.columns for sensor in found.sensors}
    assert by_name["switch_fridge_s3"] == (196,)
    assert by_name["switch_lowerdrawer_s3"] == (202,)
    assert by_name["acceleration_middledrawer"] == (226, 227, 228)
    assert (found.clock, found.locomotion, found.gesture) == (1, 244, 250)
    path.write_text(path.read_text().replace("ML_Both_Arms", "ML"))
    with pytest.raises(DataError, match="one column 'ML_Both_Arms' expected, found 0"):
        opportunity_columns.read_map(path, "ambient37")


def test_columns_are_found_by_name_not_by_number() -> None:
    lines = [line for line in column_names() if line.startswith("Column")]
    names = {int(x.split()[1]): x.split(maxsplit=2)[2].partition(";")[0] for x in lines}
    usual = opportunity_columns.sources(None, "ambient37")
    assert opportunity_columns.sources(names, "ambient37") == usual
    assert sum(len(s.columns) for s in usual) == 37
    assert sorted(c for s in usual for c in s.columns) == list(range(195, 232))
    names[195], names[196] = names[196], names[195]
    moved = {s.name: s.columns for s in opportunity_columns.sources(names, "ambient37")}
    assert moved["switch_dishwasher_s1"] == (196,)
    del names[231]
    with pytest.raises(DataError, match="one column 'Accelerometer FRIDGE accZ' expected, found 0"):
        opportunity_columns.sources(names, "ambient37")


def test_pictures_of_the_layout_follow_one_another(some: Path, published: Published) -> None:
    film = cv2.VideoCapture(str(published[0] / "data/S1-ADL1/S1-ADL1_side.avi"))
    source = next(read_dataset(some).recordings())
    original = cv2.VideoCapture(str(source.folder / source.video().file))
    same = [np.array_equal(a, b) for a, b in itertools.pairwise(pictures_of(film))]
    still = [np.array_equal(a, b) for a, b in itertools.pairwise(pictures_of(original))]
    assert len(same) > 500
    assert sum(same) <= sum(still) + 2


def pictures_of(film: cv2.VideoCapture) -> Iterator[np.ndarray]:
    good, picture = film.read()
    while good:
        yield picture
        good, picture = film.read()


def test_every_track_of_the_layout_has_its_subtitles(published: Published) -> None:
    folder = published[0] / "data/S1-ADL1"
    tracks = {p.name.removeprefix("S1-ADL1_side.") for p in folder.glob("*.srt")}
    arms = {f"{side}_arm{end}.srt" for side in ("left", "right") for end in ("", "_object")}
    assert tracks == {"ml_both_arms.srt", "locomotion.srt", *arms}
    gestures = read_cues(folder / "S1-ADL1_side.ml_both_arms.srt")
    left = read_cues(folder / "S1-ADL1_side.left_arm.srt")
    right = read_cues(folder / "S1-ADL1_side.right_arm.srt")
    assert len(left) + len(right) == len(gestures)
    assert {m.code for m in left} <= {204, 206}
    column = opportunity_columns.MID_LEVEL
    rows = read_rows(folder / "S1-ADL1_sensors_data.txt", [column])
    assert set(np.unique(rows.values[column]).astype(int)) - {0} == {m.code for m in gestures}


def test_a_kitchen_is_parted_as_the_simulated_one() -> None:
    subjects = [f"s{i:02d}" for i in range(1, 17)]
    parts = hwu_usp.part_subjects(subjects)
    assert parts["test"] == ["s13", "s14", "s15", "s16"]
    for count in (3, 4, 8, 16):
        groups = [tuple(f"{a}_{s}" for a in hwu_usp.CLASSES) for s in subjects[:count]]
        ours = hwu_usp.part_subjects(subjects[:count])
        for part, theirs in record._parts(groups, by_people=True).items():
            assert {n[-3:] for n in theirs} == set(ours[part])
    assert {k: len(v) for k, v in hwu_usp.part_subjects(subjects[:2]).items()} == {
        "pretrain": 1, "train": 1, "val": 0, "test": 1,
    }  # fmt: skip
    alone = hwu_usp.part_subjects(["s07"])
    assert (alone["train"], alone["val"], alone["test"]) == (["s07"], [], [])


@pytest.mark.parametrize(("count", "said"), [(4, "2 pretrain and train, 1 validate, 1 test"),
                                             (1, "one subject leaves none to test")])  # fmt: skip
def test_subjects_of_a_kitchen_are_parted_and_told(
    some: Path, tmp_path: Path, count: int, said: str
) -> None:
    write_hwu_usp(some, tmp_path / "hwu")
    for path in [*(tmp_path / "hwu").rglob("tea_s01.*")]:
        for i in range(2, count + 1):
            shutil.copyfile(path, path.with_name(path.name.replace("s01", f"s{i:02d}")))
    lines: list[str] = []
    dataset = import_hwu_usp(tmp_path / "hwu", tmp_path / "out", progress=lines.append)
    assert any(said in line for line in lines)
    tested = ("tea_s04",) if count == 4 else ()
    assert dataset.splits["test"] == tested
    assert not set(dataset.splits["train"]) & {*dataset.splits["val"], *tested}


@pytest.mark.parametrize(
    ("channels", "include", "places"),
    [("paper", [], 6), ("all", [], 10), ("all", list(hwu_usp_ambient.PAPER), 6)],
)
def test_places_of_a_kitchen_are_those_of_the_channels_trained_on(
    some: Path,
    tmp_path: Path,
    channels: hwu_usp.Channels,
    include: list[str],
    places: int,
) -> None:
    write_hwu_usp(some, tmp_path / "hwu")
    dataset = import_hwu_usp(tmp_path / "hwu", tmp_path / "out", channels=channels)
    changes = {
        "video": {"size_px": 32, "frames": 6},
        "split": {"by": "random-window"},
        "sensors": {"include": include},
    }
    config = override(preset("recommended"), changes)
    material = load_material(dataset.folder, config, print)
    assert count_places(material, material.windows, config, print)[0] == places + 1


@pytest.mark.slow
def test_the_longest_run_is_written_and_read_in_full(tmp_path: Path) -> None:
    """38.5 minutes and 250 columns, as the longest drill; the room stands still on this film."""
    seconds, source = 2310.0, tmp_path / "source"
    acts = write_scripts([np.random.default_rng(1)], load_level("default"), seconds)
    rows = label_rows(household("opportunity"), acts, seconds, "")
    with new_recording(source, "run01") as folder:
        writer = cv2.VideoWriter(
            str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 2.0, (64, 48)
        )
        for _ in range(int(2 * seconds)):
            writer.write(np.full((48, 64, 3), 90, np.uint8))
        writer.release()
        labels = tuple(LabelTrack(name=name) for name in ("action", "other"))
        for track in labels:
            write_labels(folder, track, rows[track.name])
        film = VideoTrack(
            name="corner", file="video.mp4", fps=2.0, frames=int(2 * seconds), width_px=64,
            height_px=48,
        )  # fmt: skip
        write_recording(
            Recording(
                folder=folder, name="run01", subject="a", run="run01", duration_s=seconds,
                videos=(film,), labels=labels,
            )
        )  # fmt: skip
    write_dataset(Dataset(folder=source, name="long", classes={}, splits={}))
    planted = write_opportunity(
        source, tmp_path / "opp", offset_s=(-3.0,), drift_ppm=(100.0,), size_px=(64, 48)
    )
    sensors = tmp_path / "opp/data/S1-ADL1/S1-ADL1_sensors_data.txt"
    with sensors.open() as file:
        assert len(next(file).split()) == 250
        assert sum(1 for _ in file) > 30 * 2300
    made = import_opportunity(tmp_path / "opp", tmp_path / "data")
    clock = next(made.recordings()).notes["clock"]
    at = np.array([0.0, seconds])
    offset_s, drift_ppm = planted["S1-ADL1"]
    found = at * (1 + 1e-6 * clock["drift_ppm"]) + clock["offset_s"]
    truth = at * (1 + 1e-6 * drift_ppm) + offset_s
    np.testing.assert_allclose(found, truth, atol=TOLERANCE_S)
