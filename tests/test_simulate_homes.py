"""What simulated homes can do besides one person before a fixed camera: a kitchen, more people."""

import hashlib
import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from detach import recipes
from detach.cli import main
from detach.data.importers.hwu_usp import CLASSES
from detach.data.importers.hwu_usp_ambient import SENSORS
from detach.data.recording import read_dataset
from detach.errors import DataError, MachineError
from detach.simulate import hwu_kitchen, machine, published, record
from detach.simulate.activities import write_sequences
from detach.simulate.extra_sensors import extra_tracks
from detach.simulate.home import Home
from detach.simulate.homes import household, label_rows
from detach.simulate.hwu_kitchen import kitchen
from detach.simulate.hwu_sensors import kitchen_tracks, read_kitchen
from detach.simulate.levels import load_level
from detach.simulate.opportunity_room import OPPORTUNITY
from detach.simulate.path import walk_through
from detach.simulate.person import items_of, subject_body
from detach.simulate.physics import STEPS_HZ, Traces
from detach.simulate.plan import ELBOW_ROOM_M, Act
from detach.simulate.record import Options, simulate
from detach.simulate.render import Camera
from detach.simulate.script import write_scripts
from detach.simulate.sensors import home_faults

DEFAULT, EASY = load_level("default"), load_level("easy")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sequence(activity: str, seed: int = 0, seconds: float = 45.0) -> list[Act]:
    return write_sequences([rng(seed)], DEFAULT, seconds, [activity])[0]


def planned(home: Home, acts: Sequence[Act], seconds: float) -> Traces:
    """Things as the script means them, without physics."""
    fraction = np.zeros((int(seconds * STEPS_HZ), len(home.things)), dtype=np.float32)
    for act in (a for a in acts if a.kind == "use"):
        fraction[int(act.end_s * STEPS_HZ) :, act.thing] = act.goal
    ticks = int(seconds * home.sensor_hz)
    felt = np.zeros((ticks, len(home.things), 3), dtype=np.float32)
    return Traces(fraction, felt, np.zeros((ticks, 1), dtype=np.float32))


def test_the_kitchen_has_the_published_sensors_and_activities() -> None:
    tracks = kitchen_tracks()
    assert [t.name for t in tracks] == list(SENSORS)
    assert [t.kind for t in tracks].count("switch") == 8
    assert {t.hz for t in tracks} == {50.0}
    assert set(kitchen().activities) == set(CLASSES)


@pytest.mark.parametrize("activity", CLASSES)
def test_an_activity_fills_its_sequence_without_gaps(activity: str) -> None:
    acts = sequence(activity)
    assert acts[-1].end_s >= 45.0
    assert all(b.start_s == pytest.approx(a.end_s) for a, b in itertools.pairwise(acts))
    assert any(act.kind in household("hwu").others for act in acts)
    cups = {a.name for s in range(6) for a in sequence(activity, s) if a.kind == "use"}
    assert cups <= set(household("hwu").classes()["place"])
    assert cups


def test_tea_is_boiled_and_cupboards_tell() -> None:
    home, acts = kitchen().home, sequence("tea", seed=1)
    traces = planned(home, acts, 45.0)
    path = walk_through(home, acts, traces.fraction, home.sensor_hz, 45 * home.sensor_hz)
    series = read_kitchen([acts], [path], traces, EASY, rng(), rng())
    assert set(series) == set(SENSORS)
    assert all(len(t_s) == 45 * 50 for t_s, _ in series.values())
    power = series["TP_L_Power"][1]
    assert power.max() > 2000
    assert np.median(power) < 5
    opened = next(a for a in acts if a.kind == "use" and a.name == "T1 Cupboard" and a.opens)
    t_s, contact = series["Ktch_T1_Cupboard"]
    assert contact[t_s < opened.start_s].max() == 0
    assert contact[np.searchsorted(t_s, opened.end_s) + 1] == 1
    assert series["Ktch_Motion_1"][1].mean() > 0.2


def test_labels_name_the_activity_all_along() -> None:
    rows = label_rows(household("hwu"), [sequence("dishes")], 45.0, "dishes")
    assert rows["activity"] == [(0.0, 45.0, "dishes")]
    assert {name for _, _, name in rows["other"]} >= {"Wash"}
    assert "activity" not in label_rows(household("opportunity"), [[]], 45.0, "")


@pytest.mark.parametrize(
    ("level", "digest"),
    [
        ("easy", "294b128d33166c50"),
        ("default", "42ab2cef7433259a"),
        ("hard", "db7c31ad5df01477"),
    ],
)
def test_levels_stand_as_they_were_frozen(level: str, digest: str) -> None:
    acts = write_scripts([np.random.default_rng([11, 1, 0])], load_level(level), 300.0)[0]
    rows = [
        f"{a.kind} {a.start_s:.4f} {a.end_s:.4f} {a.thing} {a.goal:.4f} {a.push:.4f}" for a in acts
    ]
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == digest


def test_what_is_wrong_with_a_home_stands_as_it_was() -> None:
    faults = home_faults(np.random.default_rng([11, 0]), DEFAULT)
    assert faults.dead == {"fridge_half"}
    assert faults.drifting == {"door1_accelerometer"}
    assert faults.misplaced["fridge_open"] == pytest.approx(-0.008505, abs=1e-6)


@pytest.mark.parametrize("people", [2, 3])
def test_people_keep_out_of_each_other_s_way(people: int) -> None:
    scripts = write_scripts([rng(i) for i in range(people)], DEFAULT, 400.0)
    uses = [[a for a in script if a.kind == "use"] for script in scripts]
    assert min(len(u) for u in uses) > 20
    for one, other in itertools.combinations(uses, 2):
        for a, b in itertools.product(one, other):
            if a.start_s < b.end_s and b.start_s < a.end_s:
                assert np.hypot(a.at[0] - b.at[0], a.at[1] - b.at[1]) > ELBOW_ROOM_M
    state = [0.0] * 7
    for act in sorted((a for u in uses for a in u), key=lambda a: a.start_s):
        assert act.begin == state[act.thing]
        state[act.thing] = act.goal


def test_somebody_is_in_view_when_one_of_two_is() -> None:
    away = Act(kind="away", start_s=10, end_s=30, at=(0.6, 2.7), face=(0.7, 4.7), thing=0)
    stays = Act(kind="stand", start_s=0, end_s=40, at=(2, 2), face=(2, 3))
    house = household("opportunity")
    alone = label_rows(house, [[away]], 40.0, "")["person"]
    assert len(alone) == 2
    assert label_rows(house, [[away], [stays]], 40.0, "")["person"] == [(0.0, 40.0, "person")]


def test_what_is_carried_is_in_the_hand() -> None:
    home = kitchen().home
    act = Act(kind="walk", start_s=0, end_s=2, at=(2, 2), face=(2, 3), holds="plate")
    hand = np.array([1.0, 2.0, 1.1])
    there = dict(zip(home.items, items_of(home, [(act, 0.0, hand)]), strict=True))
    assert there["plate"].start.tolist() == hand.tolist()
    assert there["cup"].start.tolist() == list(home.items["cup"].at)


def test_extra_sensors_hang_in_every_corner() -> None:
    names = [t.name for t in extra_tracks(OPPORTUNITY, ("sound", "light", "power"))]
    assert names[:3] == ["sound_door_1", "sound_counter", "sound_door_2"]
    assert names[-3:] == ["power_fridge", "power_dishwasher", "power_lamp"]
    assert len(names) == 9


@pytest.fixture(scope="module")
def graphics() -> str:
    pytest.importorskip("mujoco")
    machine.find_gl.cache_clear()
    try:
        return machine.find_gl()
    except MachineError as error:
        pytest.skip(str(error))


def jobs_of(options: Options) -> list[record._Job]:
    house, lengths_s = household(options.home), record.planned_s(options)
    return record._jobs(Path(), options, load_level("default"), house, lengths_s, "")


def test_a_kitchen_is_parted_by_subjects() -> None:
    jobs = jobs_of(Options(home="hwu", minutes=59.417, seed=11))
    parts = record._parts(record._groups(jobs), by_people=True)
    assert [len(parts[p]) for p in ("train", "val", "test")] == [50, 10, 20]
    assert {n[-3:] for n in parts["test"]} == {"s13", "s14", "s15", "s16"}
    assert not {n[-3:] for n in parts["val"]} & {n[-3:] for n in parts["train"]}


def test_sixteen_people_come_again_and_stay_in_their_part() -> None:
    jobs = jobs_of(Options(home="hwu", minutes=120, seed=11))
    assert len({job.name for job in jobs}) == len(jobs) == 162
    assert jobs[80].name == "cereals_s01_2"
    assert {job.subject for job in jobs} == set(range(16))
    parts = record._parts(record._groups(jobs), by_people=True)
    people = {name: {n.split("_")[1] for n in parts[name]} for name in ("train", "val", "test")}
    assert people["test"] == {"s13", "s14", "s15", "s16"}
    assert not people["train"] & (people["val"] | people["test"])


def test_people_who_are_in_two_parts_are_told() -> None:
    options = Options(home="hwu", minutes=5, seed=1)
    jobs = jobs_of(options)
    dataset = record._describe(Path(), options, household("hwu"), jobs, "")
    assert record._in_several_parts(dataset, jobs) == ["s01"]
    more = jobs_of(Options(home="hwu", minutes=11, seed=1))
    dataset = record._describe(Path(), options, household("hwu"), more, "")
    assert record._in_several_parts(dataset, more) == []


@pytest.mark.parametrize(
    ("options", "runs", "windows"),
    [
        (Options(minutes=88.917, seed=11, runs=11), 11, 5324),
        (Options(home="hwu", minutes=59.417, seed=11), 80, 3485),
    ],
)
def test_homes_of_the_paper_s_size(options: Options, runs: int, windows: int) -> None:
    house, lengths_s = household(options.home), record.planned_s(options)
    jobs = record._jobs(Path("new"), options, DEFAULT, house, lengths_s, "none")
    assert len(jobs) == len({job.name for job in jobs}) == runs
    assert sum(int(job.duration_s - 2.0) + 1 for job in jobs) == windows


def test_a_kitchen_is_written_in_whole_seconds(graphics: str, tmp_path: Path) -> None:
    assert graphics
    asked = Options(home="hwu", minutes=0.22, seed=2, runs=3, size=(48, 36), fps=5.0)
    dataset = simulate(tmp_path / "hwu", asked)
    lengths = [r.duration_s for r in dataset.recordings()]
    assert sum(lengths) == 13.0
    assert all(seconds == int(seconds) for seconds in lengths)
    assert [r.name for r in dataset.recordings()] == ["cereals_s01", "sandwich_s01", "tea_s01"]
    one = next(dataset.recordings())
    assert [t.name for t in one.sensors] == list(SENSORS)
    assert one.read_labels("activity").name == ("cereals",)


def test_two_people_extra_sensors_and_a_worn_camera(graphics: str, tmp_path: Path) -> None:
    assert graphics
    usual = Options(minutes=0.45, seed=4, runs=3, size=(48, 36), fps=5.0)
    rich = Options(
        minutes=0.45, seed=4, runs=3, size=(48, 36), fps=5.0,
        people=2, extra=("sound", "light", "power"), camera="head",
    )  # fmt: skip
    one, two = simulate(tmp_path / "one", usual), simulate(tmp_path / "two", rich)
    assert two.notes["people"] == 2
    assert two.name != one.name
    for a, b in zip(one.recordings(), two.recordings(), strict=True):
        assert b.video().name == "head"
        assert len(b.sensors) == len(a.sensors) + 9
        assert len(b.read_labels("action").name) > len(a.read_labels("action").name)
        sound = next(t for t in b.sensors if t.name == "sound_counter")
        _, db = b.read_sensor(sound)
        assert 25 < np.median(db) < 60
        assert db.max() > np.median(db) + 5


def test_a_worn_camera_sees_what_the_hand_does(graphics: str) -> None:
    home, acts = kitchen().home, sequence("tea", seed=1)
    fraction = np.zeros((45 * STEPS_HZ, len(home.things)), dtype=np.float32)
    path = walk_through(home, acts, fraction, 10.0, 450)
    body = subject_body(0, rng())
    with closing(Camera(home, graphics, (64, 48))) as camera:
        pictures = []
        for f in (30, 60):
            act = acts[path.act[f]]
            figure = body.figure(home, path, f, act, f / 10 + 0.05, None)
            camera.look(figure.head, figure.gaze)
            pictures.append(camera.picture(figure.limbs[12:]).astype(int))
    assert np.abs(pictures[0] - pictures[1]).mean() > 5


def test_a_layout_wants_its_home_and_a_new_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(tmp_path / "x"), "--layout", "hwu-usp"]) == 2
    assert "layout hwu-usp is of the home hwu; found home 'opportunity'" in capsys.readouterr().err
    assert main(["simulate", str(tmp_path), "--layout", "opportunity++"]) == 2
    assert "is already there" in capsys.readouterr().err
    for option, value in (("--offset-s", "nan"), ("--drift-ppm", "5000"), ("--offset-s", "inf")):
        words = ["--layout", "opportunity++", option, value]
        assert main(["simulate", str(tmp_path / "x"), *words]) == 2
        assert f"{option[2:].replace('-', '_')} must be one or more of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_layout_leaves_the_folders_of_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / ".x.recordings"
    theirs.mkdir()

    def full(folder: Path, *_: object) -> None:
        assert folder.parent.parent == tmp_path
        folder.mkdir()
        raise MachineError("the disk is full")

    monkeypatch.setattr(published, "simulate", full)
    with pytest.raises(MachineError, match="disk is full"):
        published.publish(tmp_path / "x", Options(minutes=9, seed=0), "opportunity++")
    assert list(tmp_path.iterdir()) == [theirs]


@pytest.mark.slow
def test_a_layout_is_written_and_imported_again(graphics: str, tmp_path: Path) -> None:
    assert graphics
    words = ["--layout", "hwu-usp", "--home", "hwu", "--runs", "3", "--minutes", "0.3"]
    small = ["--width-px", "64", "--height-px", "48", "--offset-s", "1.5", "--drift-ppm", "100"]
    assert main(["simulate", str(tmp_path / "hwu"), *words, *small]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hwu"]
    assert main(["import", "hwu-usp", str(tmp_path / "hwu"), str(tmp_path / "data")]) == 0
    one = next(read_dataset(tmp_path / "data").recordings())
    assert len(one.sensors) == 6
    assert (tmp_path / "hwu/planted.json").read_text().count("1.5") == 3


def test_a_kitchen_that_names_what_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (recipes.models_folder() / "simulate/hwu.yaml").read_text()
    (tmp_path / "simulate").mkdir()
    (tmp_path / "simulate/hwu.yaml").write_text(text.replace("{do: fill", "{do: fly", 1))
    monkeypatch.setattr(hwu_kitchen, "models_folder", lambda: tmp_path)
    for cached in (hwu_kitchen.kitchen, hwu_kitchen._raw):
        cached.cache_clear()
    try:
        with pytest.raises(DataError, match=r"hwu\.yaml: cannot be read: .*'fly'"):
            hwu_kitchen.kitchen()
    finally:
        for cached in (hwu_kitchen.kitchen, hwu_kitchen._raw):
            cached.cache_clear()
