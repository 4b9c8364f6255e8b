"""The simulated home: script, physics, sensors, pictures, and what is written."""

import dataclasses
import importlib
import itertools
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.cli import main
from detach.data.recording import read_dataset
from detach.errors import MachineError, UsageError
from detach.simulate import machine
from detach.simulate.levels import Level, level_names, load_level
from detach.simulate.opportunity_room import OPPORTUNITY, THINGS
from detach.simulate.path import in_sight, walk_through
from detach.simulate.person import bend, effort, subject_body
from detach.simulate.physics import Traces, run_physics
from detach.simulate.plan import Act
from detach.simulate.record import Options, simulate
from detach.simulate.render import Camera
from detach.simulate.script import action_classes, write_scripts
from detach.simulate.sensors import (
    Faults,
    accelerometer_tracks,
    home_faults,
    read_accelerometers,
    read_switches,
    switch_tracks,
)

EASY, DEFAULT = load_level("easy"), load_level("default")
FAULTLESS = Faults(
    dead=frozenset(),
    drifting=frozenset(),
    misplaced={t.name: 0.0 for t in switch_tracks()},
    mount={t.name: np.eye(3) for t in accelerometer_tracks()},
)


def use(thing: int, begin: float, goal: float, start_s: float = 0.5) -> Act:
    return Act(
        kind="use",
        start_s=start_s,
        end_s=start_s + 2.5,
        at=THINGS[thing].stand_at(goal),
        face=THINGS[thing].face,
        thing=thing,
        name=THINGS[thing].name,
        begin=begin,
        goal=goal,
        reach_s=0.5,
        release_s=0.5,
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def script(seed: int, seconds: float) -> list[Act]:
    return write_scripts([rng(seed)], DEFAULT, seconds)[0]


def test_classes_stand_in_the_published_order() -> None:
    assert action_classes()[:6] == (
        "Open Door 1",
        "Open Door 2",
        "Close Door 1",
        "Close Door 2",
        "Open Fridge",
        "Close Fridge",
    )
    assert action_classes()[-2:] == ("Open Drawer 3", "Close Drawer 3")
    assert len(set(action_classes())) == 14


def test_levels_differ_only_where_the_recipe_says() -> None:
    assert level_names() == ("easy", "default", "hard")
    assert EASY.miss == 0.0 < DEFAULT.miss < load_level("hard").miss
    assert EASY.walk_m_s == DEFAULT.walk_m_s


def test_unknown_level_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="easy, default, hard; found 'eazy'"):
        load_level("eazy")


def test_script_has_no_gaps_and_uses_everything() -> None:
    acts = script(0, 600.0)
    assert acts[-1].end_s >= 600.0
    for before, after in itertools.pairwise(acts):
        assert after.start_s == pytest.approx(before.end_s)
    uses = [a for a in acts if a.kind == "use"]
    counts = [sum(a.label == c for a in uses) for c in action_classes()]
    assert min(counts) >= 5
    assert sum(a.end_s - a.start_s for a in uses) > 0.5 * 600


def test_script_opens_only_what_is_not_open() -> None:
    state = [0.0] * len(THINGS)
    for act in script(1, 600.0):
        if act.kind == "use":
            assert act.begin == state[act.thing]
            assert act.goal != act.begin
            state[act.thing] = act.goal


def test_one_seed_makes_one_script() -> None:
    assert script(3, 60.0) == script(3, 60.0)
    assert script(3, 60.0) != script(4, 60.0)


def traces_of(fraction: np.ndarray) -> Traces:
    ticks = len(fraction) // 10
    gravity = np.tile(np.array([0.0, 0.0, 1.0], dtype=np.float32), (ticks, 7, 1))
    return Traces(fraction.astype(np.float32), gravity, np.zeros((ticks, 1), np.float32))


def test_switch_triplet_fires_in_order_and_drawer_1_cannot_tell() -> None:
    fraction = np.tile(np.linspace(0.0, 1.0, 3000)[:, None], (1, 7))
    level = dataclasses.replace(EASY, zone=0.1)
    series = read_switches(traces_of(fraction), level, FAULTLESS, rng())
    # A contact may bounce, so whole seconds.
    on = {name: set(np.round(t[v == 1.0]).tolist()) for name, (t, v) in series.items()}
    assert on["fridge_closed"] == {0.0}
    assert on["fridge_half"] == {4.0}
    assert on["fridge_open"] == {9.0}
    assert on["drawer1_any"] == {0.0, 4.0, 9.0}
    assert len(series) == 13
    assert not any("door1" in n or "door2" in n for n in series)


def test_dead_switch_is_silent_and_false_pulses_come() -> None:
    fraction = np.tile(np.linspace(0.0, 1.0, 18000)[:, None], (1, 7))
    faults = dataclasses.replace(FAULTLESS, dead=frozenset({"fridge_open"}))
    level = dataclasses.replace(EASY, false_per_min=20.0)
    series = read_switches(traces_of(fraction), level, faults, rng())
    assert series["fridge_open"][1].tolist() == [0.0]
    assert series["fridge_half"][1].sum() > 5
    assert all((np.diff(t) >= 0).all() and t[0] == 0.0 for t, _ in series.values())


def test_accelerometer_noise_bias_drift_and_gravity() -> None:
    traces = traces_of(np.zeros((18000, 7)))
    clean = dataclasses.replace(EASY, noise_mg=0.0)
    still = read_accelerometers(traces, clean, FAULTLESS, rng())
    assert still["door1_accelerometer"][1][5].tolist() == [0.0, 0.0, 1000.0]
    noisy = dataclasses.replace(clean, noise_mg=6.0, drift_mg_per_min=100.0, gaps_per_min=5.0)
    faults = dataclasses.replace(FAULTLESS, drifting=frozenset({"fridge_accelerometer"}))
    series = read_accelerometers(traces, noisy, faults, rng())
    t_s, values = series["door1_accelerometer"]
    assert values[:, 0].std() == pytest.approx(6.0, rel=0.15)
    assert (np.diff(t_s) >= 0).all()
    assert len(t_s) < 1800
    drifted = series["fridge_accelerometer"][1]
    assert np.linalg.norm(drifted[-30:].mean(0) - drifted[:30].mean(0)) > 60


def test_faults_are_as_many_as_the_level_says() -> None:
    faults = home_faults(rng(), DEFAULT)
    assert (len(faults.dead), len(faults.drifting)) == (1, 1)
    assert home_faults(rng(), EASY).dead == frozenset()


def test_limb_reaches_its_goal_or_stretches_towards_it() -> None:
    root, hint = np.zeros(3), np.array([0.0, 0.0, -1.0])
    joint, end = bend(root, np.array([0.3, 0.0, 0.0]), 0.3, 0.27, hint)
    assert end == pytest.approx([0.3, 0.0, 0.0])
    assert np.linalg.norm(joint) == pytest.approx(0.3)
    assert joint[2] < 0
    _, end = bend(root, np.array([2.0, 0.0, 0.0]), 0.3, 0.27, hint)
    assert np.linalg.norm(end) == pytest.approx(0.57, abs=0.01)


def test_person_stands_at_what_is_used_and_hand_is_on_it() -> None:
    acts = [use(2, 0.0, 1.0, start_s=0.0)]
    path = walk_through(OPPORTUNITY, acts, np.zeros((900, 7), dtype=np.float32), 10.0, 20)
    assert path.at[10] == pytest.approx(THINGS[2].stand_closed)
    assert effort(acts[0], 0.0) == 0.0
    assert effort(acts[0], 1.0) == 1.0


def test_person_is_out_of_sight_only_in_the_middle_of_an_absence() -> None:
    act = Act(kind="away", start_s=10.0, end_s=20.0, at=(0.6, 2.7), face=(0.7, 4.7), thing=0)
    assert [in_sight(act, t) for t in (10.5, 15.0, 19.5)] == [True, False, True]


def test_missing_mujoco_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_mujoco(_: str) -> object:
        raise ImportError("no module")

    monkeypatch.setattr(importlib, "import_module", no_mujoco)
    with pytest.raises(MachineError, match=r"pip install mujoco"):
        machine.import_mujoco()


def test_without_graphics_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.find_gl.cache_clear()
    monkeypatch.setattr(machine, "_problem_with", lambda backend: f"no {backend} here")
    monkeypatch.setattr(machine, "import_mujoco", lambda: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(MachineError, match="no egl here.*no osmesa here.*libegl1.*libosmesa6"):
        machine.find_gl()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"home": "castle"}, "home must be one of opportunity, hwu; found 'castle'"),
        ({"level": "insane"}, "level must be one of"),
        ({"minutes": 0.0}, "minutes must be > 0 and at most 100000; found 0.0"),
        ({"minutes": 0.1}, "minutes must be at least"),
        ({"runs": 2}, "runs must be >= 3"),
        ({"size": (10, 10)}, "size must be 32 to 2048"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"people": 4}, "people must be 1 to 3; found 4"),
        ({"extra": ("smell",)}, "extra must be some of sound, light, power; found 'smell'"),
        ({"camera": "drone"}, "camera must be one of corner, head; found 'drone'"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"minutes": 1.0, "seed": 0} | change
    with pytest.raises(UsageError, match=message):
        simulate(tmp_path / "home", Options(**arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--offset-s 2", "--offset-s and --drift-ppm are planted in a --layout only"),
        ("--drift-ppm 100", "--offset-s and --drift-ppm are planted in a --layout only"),
        ("--layout opportunity++ --minutes 50 --runs 25", "has at most 24 runs; found 25"),
        ("--layout hwu-usp --home hwu --minutes 120", "has at most 80 runs; found 162"),
        ("--layout opportunity++ --minutes 1 --offset-s 0 9", "offset_s of 9 leaves 1 s of"),
        ("--layout hwu-usp --home hwu --minutes 1 --offset-s 9", "offset_s of 9 leaves"),
        ("--layout hwu-usp", "is of the home hwu; found home 'opportunity'"),
        ("--layout hwu-usp --home hwu --offset-s 11", "offset_s must be one or more of -10 to 10"),
        ("--layout hwu-usp --home hwu --runs 2", "runs must be >= 3"),
    ],
)
def test_layouts_are_refused_before_anything_is_simulated(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(tmp_path / "home"), *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already there"):
        simulate(tmp_path, Options(minutes=1.0, seed=0))


class TestPhysics:
    """What MuJoCo makes of an act."""

    @pytest.fixture(autouse=True)
    def _mujoco(self) -> None:
        pytest.importorskip("mujoco")

    def traces(self, acts: list[Act], level: Level, seconds: float) -> Traces:
        return run_physics(OPPORTUNITY, [acts], level, rng(), seconds)

    @pytest.mark.parametrize("thing", range(7))
    def test_everything_opens_and_closes(self, thing: int) -> None:
        acts = [use(thing, 0.0, 1.0), use(thing, 1.0, 0.0, start_s=3.5)]
        traces = self.traces(acts, EASY, 7.0)
        fraction = traces.fraction[:, thing]
        assert fraction[250] < 0.02
        assert fraction[1000] > 0.95
        assert fraction[-1] < 0.02
        others = np.delete(traces.fraction, thing, axis=1)
        assert np.abs(others).max() < 0.03

    def test_accelerometers_feel_gravity_motion_and_neighbours(self) -> None:
        traces = self.traces([use(5, 0.0, 1.0)], DEFAULT, 4.0)
        felt = traces.acceleration_g
        assert felt[3, :, 2] == pytest.approx(np.ones(7), abs=0.02)
        moved = np.abs(felt - felt[3]).max(axis=(0, 2))
        assert moved[5] > 0.1
        assert 0.002 < moved[4] < moved[5]
        assert moved[0] < moved[4]

    def test_opening_and_closing_push_in_opposite_order(self) -> None:
        acts = [use(0, 0.0, 1.0), use(0, 1.0, 0.0, start_s=3.5)]
        felt = self.traces(acts, EASY, 7.0).acceleration_g
        tangential = felt[:, 0, 1] - felt[3, 0, 1]
        opening, closing = tangential[32:54].mean(), tangential[122:140].mean()
        assert opening * closing < 0
        assert min(abs(opening), abs(closing)) > 0.02


@pytest.fixture(scope="module")
def graphics() -> None:
    pytest.importorskip("mujoco")
    machine.find_gl.cache_clear()
    try:
        machine.find_gl()
    except MachineError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("graphics")
def test_a_home_is_written_whole_and_the_same_each_time(tmp_path: Path) -> None:
    lines: list[str] = []
    asked = Options(minutes=0.5, seed=5, runs=3, size=(64, 48))
    dataset, _ = (simulate(tmp_path / name, asked, progress=lines.append) for name in ("a", "b"))
    assert dataset.splits["pretrain"] == dataset.splits["train"] == ("run01",)
    assert (dataset.splits["val"], dataset.splits["test"]) == (("run02",), ("run03",))
    assert dataset.classes["action"] == action_classes()
    assert dataset.notes["level"] == "default"
    assert len(lines) == 6
    for recording in read_dataset(tmp_path / "a").recordings():
        assert recording.video().frames == 100
        assert len(recording.sensors) == 20
        for track in recording.sensors:
            assert len(recording.read_sensor(track)[0]) >= 1
        assert set(recording.read_labels("action").name) <= set(action_classes())
        for kind in ("sensors", "labels"):
            for file in (recording.folder / kind).iterdir():
                twin = tmp_path / "b" / recording.name / kind / file.name
                assert file.read_bytes() == twin.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.usefixtures("graphics")
def test_pictures_show_the_person_and_the_opened_fridge() -> None:
    acts = [use(2, 0.0, 1.0, start_s=0.0)]
    path = walk_through(OPPORTUNITY, acts, np.zeros((900, 7), dtype=np.float32), 10.0, 20)
    body = subject_body(0, rng())
    with closing(Camera(OPPORTUNITY, machine.find_gl(), (96, 72))) as camera:
        empty = camera.picture([]).astype(int)
        figure = body.figure(OPPORTUNITY, path, 10, acts[0], 1.0, camera.handle("fridge"))
        someone = camera.picture(figure.limbs).astype(int)
        joints = np.zeros(camera.model.nq, dtype=np.float32)
        joints[camera.model.joint("fridge").qposadr[0]] = 1.5
        camera.pose(joints)
        opened = camera.picture([]).astype(int)
        dark = camera.picture([], lamp=0.3).astype(int)
    assert empty.std() > 20
    assert 0.005 < (np.abs(someone - empty).sum(axis=2) > 60).mean() < 0.2
    assert 0.005 < (np.abs(opened - empty).sum(axis=2) > 60).mean() < 0.2
    assert dark.mean() < 0.9 * opened.mean()
