"""The paper's two data sets: importers proved on layouts we write, with planted clocks."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from detach.cli import main
from detach.config import override, preset
from detach.data.importers import opportunity, opportunity_columns
from detach.data.importers.cue_sync import Mark, fit_clock, runs_of
from detach.data.importers.hwu_usp import import_hwu_usp, read_ambient
from detach.data.importers.motion_sync import Switchings, fit_lags, residuals
from detach.data.importers.opportunity import import_opportunity, read_cues, read_rows
from detach.data.quality_camera import Motion
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
from detach.simulate.homes import household, label_rows
from detach.simulate.hwu_layout import write_hwu_usp
from detach.simulate.levels import load_level
from detach.simulate.opportunity_layout import column_names, write_opportunity
from detach.simulate.published import publish
from detach.simulate.record import Options
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


def test_what_is_imported_is_what_was_simulated(some: Path, imported: Path) -> None:
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


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("data/S1-ADL2/S1-ADL2_side.avi", "S1-ADL2_side.avi missing; a run has"),
        ("data/S1-ADL2/S1-ADL2_sensors_data.txt", "S1-ADL2_sensors_data.txt missing"),
        ("data/S1-ADL2/S1-ADL2_side.ml_both_arms.srt", "ml_both_arms.srt missing"),
    ],
)
def test_half_a_folder_is_refused(
    published: Published, tmp_path: Path, lacking: str, said: str
) -> None:
    root = tmp_path / "opp"
    shutil.copytree(published[0], root)
    (root / lacking).unlink()
    with pytest.raises(DataError, match=said):
        import_opportunity(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_subtitles_and_rows_that_are_damaged_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    path.write_text("1\n00:00:01,500 --> 00:00:02,250\n406516 - Open Door 1\n\n")
    assert read_cues(path) == [Mark(1.5, 2.25, 406516)]
    path.write_text("1\n00:00:01,500 --> soon\n406516 - Open Door 1\n")
    with pytest.raises(DataError, match=r"x\.srt:2: not HH:MM:SS"):
        read_cues(path)
    path.write_text("1\n00:00:01,500 --> 00:00:02,250\nOpen Door 1\n")
    with pytest.raises(DataError, match=r"x\.srt:3: not `CODE - NAME`"):
        read_cues(path)
    rows = tmp_path / "rows.txt"
    rows.write_text(" ".join(["0"] * 250) + "\n" + " ".join(["33"] * 100) + "\n")
    found = read_rows(rows, [250])
    assert found.short == 1
    assert np.isnan(found.values[250][1])
    rows.write_text(" ".join(["0"] * 250) + "\n" + " ".join(["0"] * 250) + "\n")
    with pytest.raises(DataError, match=r"rows\.txt:2: MILLISEC must rise"):
        read_rows(rows, [250])
    rows.write_text("0 x\n")
    with pytest.raises(DataError, match=r"rows\.txt:1: not a number"):
        read_rows(rows, [2])
    with pytest.raises(DataError, match="no folder like data/S1-ADL1"):
        import_opportunity(tmp_path, tmp_path / "out")
    assert opportunity.ALL_RUNS == 24


@pytest.mark.parametrize(("header", "unit_s"), [(True, 1e-3), (True, 1.0), (False, 1e-9)])
def test_sequences_are_imported_whatever_their_stamps_count(
    some: Path, tmp_path: Path, header: bool, unit_s: float
) -> None:
    made = write_hwu_usp(some, tmp_path / "hwu", header=header, unit_s=unit_s, extra_s=(0.0, 5.0))
    said: list[str] = []
    dataset = import_hwu_usp(tmp_path / "hwu", tmp_path / "out", progress=said.append)
    recordings = {r.name: r for r in dataset.recordings()}
    assert set(recordings) == set(made) == {"cereals_s01", "tea_s01", "sandwich_s01"}
    one = recordings["cereals_s01"]
    assert [s.name for s in one.sensors][:3] == [
        "Ktch_B4_Cupboard", "Ktch_Motion_1", "Ktch_Motion_2",
    ]  # fmt: skip
    t_s, _ = one.read_sensor(one.sensors[0])
    np.testing.assert_allclose(np.diff(t_s), 0.02, atol=1e-3)
    assert one.read_labels("activity").name == ("cereals",)
    assert any("tea_s01: video lasts" in line for line in said)
    changes = {"video": {"size_px": 32, "frames": 6}, "split": {"by": "random-window"}}
    count = len(load_windows(dataset, override(preset("recommended"), changes)))
    assert f" {count} windows of 2 s every 1 s; the paper has 3485" in said[-1]


def test_all_sensors_of_a_kitchen(some: Path, tmp_path: Path) -> None:
    write_hwu_usp(some, tmp_path / "hwu")
    words = [str(tmp_path / "hwu"), str(tmp_path / "out"), "--channels", "all", "--limit", "1"]
    assert main(["import", "hwu-usp", *words]) == 0
    recording = next(read_dataset(tmp_path / "out").recordings())
    assert len(recording.sensors) == 11
    assert {s.kind for s in recording.sensors} == {"switch", "motion", "power"}


def test_kitchens_that_are_damaged(some: Path, tmp_path: Path) -> None:
    root = tmp_path / "hwu"
    write_hwu_usp(some, root)
    path = root / "smart_home/tea/tea_s01.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], "1,2,3"]))
    with pytest.raises(DataError, match=r"tea_s01\.csv:6: 12 columns expected, found 3"):
        read_ambient(path, None)
    path.write_text("\n".join(lines[1:]))
    with pytest.raises(DataError, match="names no columns"):
        read_ambient(path, None)
    path.write_text("\n".join(lines).replace("Ktch_Motion_1", "Motion"))
    with pytest.raises(DataError, match="column Ktch_Motion_1 is not there"):
        read_ambient(path, None)
    for film in root.rglob("*.mp4"):
        film.unlink()
    with pytest.raises(DataError, match="no sequence like tea/tea_s01 with both"):
        import_hwu_usp(root, tmp_path / "out")


def filmed(lag_s: float, seed: int, switches: int = 4, turns: int = 6) -> Switchings:
    """Doors that move for a second after opening and before closing, each in its own corner."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(450) / 10
    cells = 0.6 * rng.random((450, 12, 16)).astype(np.float32)
    on_s, off_s = {}, {}
    opened = np.sort(rng.uniform(6, 36, turns))
    for k in range(switches):
        mine = opened[k::switches]
        on_s[f"c{k}"], off_s[f"c{k}"] = mine, mine + 3
        for on, off in zip(mine, mine + 3, strict=True):
            for a, b in ((on, on + 1), (off - 1, off)):
                moving = (t_s >= a + lag_s) & (t_s < b + lag_s)
                cells[moving, 3 * (k // 2) : 3 * (k // 2) + 3, 4 * (k % 2) : 4 * (k % 2) + 4] += 4
    return Switchings(f"s{seed // 10}", Motion(t_s, cells), on_s, off_s)


def test_sessions_tell_their_lag_by_what_moves_when_switches_turn() -> None:
    lags = {"s0": 3.0, "s1": -3.0, "s2": 0.4, "s3": 0.0}
    films = [filmed(lag, 10 * i + j) for i, lag in enumerate(lags.values()) for j in range(4)]
    found = fit_lags(films)
    assert all(fitted.sure for fitted in found.values())
    for name, lag in lags.items():
        assert found[name].lag_s == pytest.approx(lag, abs=TOLERANCE_S)
    own_s, whole_s = residuals(films, found)
    assert len(own_s) == len(films)
    assert max(own_s) <= TOLERANCE_S
    assert set(whole_s) == set(lags)
    assert max(whole_s.values()) <= TOLERANCE_S
    still = [Switchings("s0", s.motion, {}, {}) for s in films[:2]]
    assert not fit_lags(still)["s0"].sure
    assert np.isnan(residuals(still, fit_lags(still))[0]).all()


def test_a_wrong_lag_shows_in_the_residual() -> None:
    films = [filmed(lag, 10 * i + j) for i, lag in enumerate((1.0, -1.0, 0.4)) for j in range(4)]
    found = fit_lags(films)
    wrong = {**found, "s1": replace(found["s1"], lag_s=found["s1"].lag_s + 0.5)}
    own_s, whole_s = residuals(films, wrong)
    assert whole_s["s1"] == pytest.approx(0.5, abs=TOLERANCE_S)
    assert min(own_s[4:8]) > 0.3
    assert max(own_s[:4] + own_s[8:]) <= TOLERANCE_S


def test_films_that_cannot_tell_are_left_as_they_are(some: Path, tmp_path: Path) -> None:
    write_hwu_usp(some, tmp_path / "hwu")
    words = [str(tmp_path / "hwu"), str(tmp_path / "out"), "--sync", "--limit", "1"]
    assert main(["import", "hwu-usp", *words]) == 0
    recording = next(read_dataset(tmp_path / "out").recordings())
    assert "clock" not in recording.notes
    assert recording.video().start_s == 0.0


@pytest.mark.slow
def test_films_of_a_kitchen_are_put_right_over_their_whole_length(tmp_path: Path) -> None:
    """Twenty sequences of four subjects; hands move before doors do, so films seem 0.1 s early."""
    pytest.importorskip("mujoco")
    home = Options(home="hwu", minutes=14.85, runs=20, seed=3)
    planted = {"s01": (3.0, 100.0), "s02": (-3.0, -100.0), "s03": (0.4, 100.0)}
    planted |= {"s04": (-1.7, -100.0)}
    offsets, drifts = zip(*planted.values(), strict=True)
    publish(tmp_path / "hwu", home, "hwu-usp", offset_s=offsets, drift_ppm=drifts)
    made = import_hwu_usp(tmp_path / "hwu", tmp_path / "out", sync=True)
    off_s: dict[str, float] = {}
    for recording in made.recordings():
        offset_s, drift_ppm = planted[recording.subject]
        clock, last_s = recording.notes["clock"], 1e-6 * drift_ppm * recording.duration_s
        assert recording.video().start_s == -clock["offset_s"]
        off_s[recording.subject] = clock["offset_s"] - offset_s
        assert max(abs(off_s[recording.subject] - x) for x in (0.0, last_s)) <= 0.15
        assert clock["residual_s"] < 0.6
    assert len(off_s) == 4
    assert np.ptp(list(off_s.values())) <= 0.12  # among themselves


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
