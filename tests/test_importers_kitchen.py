"""HWU-USP: its importer proved on layouts we write, with films put out of time."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from detach.cli import main
from detach.config import override, preset
from detach.data.importers import hwu_usp
from detach.data.importers.hwu_usp import import_hwu_usp
from detach.data.importers.hwu_usp_ambient import SENSORS, read_ambient
from detach.data.importers.motion_sync import Switchings, fit_lags, residuals
from detach.data.quality_camera import Motion
from detach.data.recording import (
    read_dataset,
)
from detach.data.windows import load_windows
from detach.errors import DataError
from detach.simulate.hwu_layout import write_hwu_usp
from detach.simulate.published import publish
from detach.simulate.record import Options

from .sample_part import copy_first  # type: ignore[import-not-found]

TOLERANCE_S = 0.1


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of the sample, the data set's description without parts."""
    folder: Path = copy_first(3, tmp_path_factory.mktemp("some") / "data")
    return folder


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


def stamped(path: Path, stamps: list[str], head: str = "timestamp") -> Path:
    """A sequence whose rows have these time stamps."""
    rows = [f"{x}," + ",".join("0" * len(SENSORS)) for x in stamps]
    path.write_text("\n".join([",".join((head, *SENSORS)), *rows]) + "\n")
    return path


def test_stamps_are_used_with_a_hole_whatever_their_name(tmp_path: Path) -> None:
    whole = [f"{20 * i}" for i in range(9)] + [f"{20_000 + 20 * i}" for i in range(9)]
    expected = np.array([float(x) / 1000 for x in whole])
    for name, blank in (("timestamp", None), ("Timestamp", 3), ("timestamp", 17), ("timestamp", 0)):
        stamps = ["" if i == blank else x for i, x in enumerate(whole)]
        found = read_ambient(stamped(tmp_path / "tea_s01.csv", stamps, name), None)
        np.testing.assert_allclose(found.t_s, expected - expected[0], atol=1e-9)
        assert found.doubt == ""
    slow = [f"{40 * i}" for i in range(9)]  # 25 a second, too
    found = read_ambient(stamped(tmp_path / "tea_s01.csv", slow), None)
    np.testing.assert_allclose(found.t_s, np.arange(9) / 25)


def test_stamps_in_no_known_unit_are_told(tmp_path: Path) -> None:
    path = stamped(tmp_path / "tea_s01.csv", [f"{7 * i}" for i in range(9)])
    found = read_ambient(path, None)
    np.testing.assert_allclose(found.t_s, np.arange(9) / 50)
    assert "does not rise by about 1/50 s a row" in found.doubt
    stamped(path, ["0", "20", "40", "30", "80", "100"])
    with pytest.raises(DataError, match=r"tea_s01\.csv:5: timestamp must rise"):
        read_ambient(path, None)


def test_the_stream_of_blurred_colours_is_taken_among_others(
    some: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "hwu", tmp_path / "out"
    write_hwu_usp(some, root)
    shutil.copytree(root / "rgb_blurred", root / "thermal")
    for film in (root / "thermal").rglob("*.mp4"):
        film.write_bytes(b"not a film")
    assert main(["import", "hwu-usp", str(root), str(out), "--limit", "1"]) == 0
    (root / "rgb_blurred").rename(root / "side")
    assert main(["import", "hwu-usp", str(root), str(tmp_path / "b")]) == 3
    assert "are both of sequence" in capsys.readouterr().err


def test_what_is_blank_turns_no_switch_and_short_films_tell_no_lag(
    some: Path, tmp_path: Path
) -> None:
    root, out = tmp_path / "hwu", tmp_path / "out"
    write_hwu_usp(some, root)
    (film,) = root.rglob("tea_s01.mp4")
    reader = cv2.VideoCapture(str(film))
    size = round(reader.get(cv2.CAP_PROP_FRAME_WIDTH)), round(reader.get(cv2.CAP_PROP_FRAME_HEIGHT))
    _, picture = reader.read()
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, size)
    writer.write(picture)
    writer.write(picture)
    writer.release()
    assert main(["import", "hwu-usp", str(root), str(out), "--sync"]) == 0
    names = read_dataset(out).splits["train"]
    recordings = {r.name: r for r in read_dataset(out).recordings()}
    assert len(names) == 3
    files = hwu_usp.Files("tea_s01", "tea", "s01", next(root.rglob("tea_s01.csv")), film)
    assert hwu_usp._switchings(recordings["tea_s01"], files, None) is None
    path = next(root.rglob("cereals_s01.csv"))
    files = replace(files, ambient=path)
    before = hwu_usp._switchings(recordings["cereals_s01"], files, None)
    lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    for i in range(2, len(rows), 7):
        rows[i][1:] = [""] * len(SENSORS)
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    after = hwu_usp._switchings(recordings["cereals_s01"], files, None)
    assert before is not None
    assert after is not None
    turns = [sum(len(t) for t in x.on_s.values()) for x in (before, after)]
    assert turns[0] == turns[1] > 0
    assert not {"timestamp", "TP_L_Power", "Ktch_Motion_1"} & {*after.on_s}


Moves = tuple[tuple[float, float], tuple[float, float], float]
"""When something moves in a door's corner, by its opening and by its closing, and how much."""
DOORS: Moves = ((0.0, 1.0), (-1.0, 0.0), 4.0)


def filmed(
    lag_s: float,
    seed: int,
    switches: int = 4,
    turns: int = 6,
    moves: tuple[Moves, ...] = (DOORS,),
) -> Switchings:
    """Doors that move for a second after opening and before closing, each in its own corner."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(450) / 10
    cells = 0.6 * rng.random((450, 12, 16)).astype(np.float32)
    on_s, off_s = {}, {}
    opened = np.sort(rng.uniform(6, 36, turns))
    for k in range(switches):
        mine, y, x = opened[k::switches], 3 * (k // 2), 4 * (k % 2)
        on_s[f"c{k}"], off_s[f"c{k}"] = mine, mine + 3
        for on, off in zip(mine, mine + 3, strict=True):
            for opening, closing, much in moves:
                for at, (a, b) in ((on, opening), (off, closing)):
                    moving = (t_s >= at + a + lag_s) & (t_s < at + b + lag_s)
                    cells[moving, y : y + 3, x : x + 4] += much
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
    assert fit_lags([]) == {}
    assert not fit_lags(still)["s0"].sure
    assert np.isnan(residuals(still, fit_lags(still))[0]).all()


def test_hands_that_come_sooner_than_they_leave_make_no_lag() -> None:
    lags = {"s0": 1.0, "s1": -1.0, "s2": 0.4}
    hands: Moves = ((-2.0, -0.7), (0.4, 1.7), 6.0)
    films = [
        filmed(lag, 10 * i + j, moves=(DOORS, hands))
        for i, lag in enumerate(lags.values())
        for j in range(4)
    ]
    found = fit_lags(films)
    for name, lag in lags.items():
        assert found[name].lag_s == pytest.approx(lag, abs=TOLERANCE_S)


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
    """Twenty sequences of four subjects, to the 100 ms that were asked for."""
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
        assert max(abs(off_s[recording.subject] - x) for x in (0.0, last_s)) <= 0.1
        assert clock["residual_s"] < 0.6
    assert len(off_s) == 4
