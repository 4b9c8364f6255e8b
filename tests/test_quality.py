"""Faults planted in made-up homes are found, sound sensors are not accused, the page tells."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detach.data.quality import Quality, inspect_recordings
from detach.data.quality_camera import Motion, agreement, inside
from detach.data.quality_faults import TO_DO, same_changes
from detach.data.quality_numbers import changes_of
from detach.data.recording import (
    LabelTrack,
    Recording,
    SensorTrack,
    VideoTrack,
    read_recording,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.errors import DataError
from detach.report.inspection import draw, inspect_folder

LENGTH_S = 1200.0
Floats = NDArray[np.float64]
Series = tuple[Floats, Floats]
FAULTS = ("reversed", "dead", "duplicate", "silent")


def switch(name: str, kind: str = "switch", **more: Any) -> SensorTrack:
    return SensorTrack(name=name, kind=kind, unit="on/off", hz=None, **more)


def uses(
    rng: np.random.Generator, count: int, rest: float = 0.0, length_s: float = LENGTH_S
) -> Series:
    """A switch that leaves its state of rest ``count`` times for one to six seconds."""
    slots = np.sort(rng.permutation(int(length_s / 10) - 2)[:count])
    starts = 10.0 * slots + rng.uniform(5, 9, len(slots))
    t_s = np.stack([starts, starts + rng.uniform(1, 6, len(starts))], axis=1).reshape(-1)
    return np.append(0.0, t_s), np.resize([rest, 1 - rest], len(t_s) + 1)


def write(
    folder: Path,
    sensors: Mapping[SensorTrack, Series],
    *,
    person: list[tuple[float, float, str]] | None = None,
    video: VideoTrack | None = None,
    labels: Mapping[str, list[tuple[float, float, str]]] | None = None,
    length_s: float = LENGTH_S,
) -> Recording:
    folder.mkdir(parents=True, exist_ok=True)
    for track, (t_s, values) in sensors.items():
        write_sensor(folder, track, t_s, values)
    named = {**({"person": person} if person is not None else {}), **(labels or {})}
    tracks = [LabelTrack(name=name) for name in named]
    for track_of, rows in zip(tracks, named.values(), strict=True):
        write_labels(folder, track_of, rows)
    write_recording(
        Recording(
            folder=folder,
            name=folder.name,
            subject="me",
            run=folder.name,
            duration_s=length_s,
            sensors=tuple(sensors),
            labels=tuple(tracks),
            videos=(video,) if video else (),
        )
    )
    return read_recording(folder)


def home(rng: np.random.Generator) -> dict[SensorTrack, Series]:
    """Doors that rest closed, one contact that rests on, motion sensors, an accelerometer."""
    found = {switch(f"door{i}_open"): uses(rng, int(rng.integers(15, 40))) for i in range(4)}
    found |= {switch(f"drawer{i}_closed"): uses(rng, 25, rest=1.0) for i in range(3)}
    found |= {switch(f"pir{i}", "motion"): uses(rng, 50) for i in range(3)}
    return found


def plant(
    rng: np.random.Generator, sensors: dict[SensorTrack, Series]
) -> tuple[dict[SensorTrack, Series], set[tuple[str, str]]]:
    """One fault of each kind in sensors drawn at random, and what should be found."""
    picks = dict(zip(FAULTS, rng.permutation(len(sensors))[:4], strict=True))
    tracks, truth, made = list(sensors), set(), dict(sensors)
    for fault, pick in picks.items():
        track = tracks[int(pick)]
        t_s, values = sensors[track]
        about = track.name
        if fault == "reversed":
            made[track] = (t_s, 1 - values)
        elif fault == "dead":
            made[track] = (t_s[:1], values[:1])
        elif fault == "silent":
            early = np.append(0.0, np.sort(t_s[1:]) / 3)
            made[track] = (early, values)
        else:
            about = f"{track.name}_too"
            late = np.append(0.0, np.sort(t_s[1:] + 0.2 + rng.normal(0, 0.04, len(t_s) - 1)))
            made[replace(track, name=about)] = (late, values)
        truth.add((fault, about))
    return made, truth


def found_in(quality: Quality) -> set[tuple[str, str]]:
    return {(f.what, f.about) for f in quality.findings if f.what in {*FAULTS, "misplaced"}}


def test_faults_planted_in_twenty_homes_are_found(tmp_path: Path) -> None:
    right = wrong = missed = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sensors, truth = plant(rng, home(rng))
        found = found_in(inspect_recordings([write(tmp_path / str(seed), sensors)]))
        right, wrong = right + len(found & truth), wrong + len(found - truth)
        missed += len(truth - found)
    precision, recall = right / (right + wrong), right / (right + missed)
    assert precision >= 0.95, (right, wrong, missed)
    assert recall >= 0.95, (right, wrong, missed)


def test_sound_homes_are_not_accused(tmp_path: Path) -> None:
    for seed in range(5):
        sensors = home(np.random.default_rng(seed))
        assert found_in(inspect_recordings([write(tmp_path / str(seed), sensors)])) == set()


def test_a_polarity_that_is_stated_is_no_fault(tmp_path: Path) -> None:
    t_s, values = uses(np.random.default_rng(0), 20, rest=1.0)
    plain, stated = switch("contact"), switch("contact", polarity=-1)
    quality = inspect_recordings([write(tmp_path / "a", {plain: (t_s, values)})])
    (finding,) = [f for f in quality.findings if f.what == "reversed"]
    assert not finding.sure  # nothing in its name says how it rests
    assert found_in(inspect_recordings([write(tmp_path / "b", {stated: (t_s, values)})])) == set()


def test_a_sensor_that_fires_where_nobody_is_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    person = [(0.0, 300.0, "person"), (200.0, 700.0, "person")]
    inside_s = np.sort(rng.uniform(10, 690, 20))
    outside_s = np.sort(rng.uniform(720, 1190, 20))
    values = np.resize([0.0, 1.0], 21)
    sensors = {
        switch("kitchen", "motion"): (np.append(0.0, inside_s), values),
        switch("study", "motion"): (np.append(0.0, outside_s), values),
    }
    quality = inspect_recordings([write(tmp_path / "a", sensors, person=person)])
    accused = {f.about for f in quality.findings if f.what == "misplaced"}
    assert accused == {"study"}
    assert quality.numbers.in_view == pytest.approx(700 / LENGTH_S)
    kitchen, study = quality.numbers.sensors
    assert (kitchen.unseen, study.unseen) == (0.0, 1.0)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A box that flashes at one of three places when the sensor there changes, over noise."""
    rng, length_s, fps = np.random.default_rng(3), 400.0, 5
    sensors = {switch(f"door{i}_open"): uses(rng, 14, 0.0, length_s) for i in range(4)}
    folder = tmp_path_factory.mktemp("filmed") / "a"
    folder.mkdir()
    size, frames = (96, 64), int(fps * length_s)
    writer = cv2.VideoWriter(str(folder / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    seen = [t_s for t_s, _ in sensors.values()][:3]  # the fourth is elsewhere
    for i in range(frames):
        frame = rng.integers(90, 110, (64, 96, 3)).astype(np.uint8)
        for place, t_s in enumerate(seen):
            if np.abs(t_s[1:] - i / fps).min() < 0.5:
                frame[20:40, 5 + 30 * place : 25 + 30 * place] += np.uint8(60 * (i % 2))
        writer.write(frame)
    writer.release()
    video = VideoTrack(
        name="c", file="v.mp4", fps=fps, frames=frames, width_px=size[0], height_px=size[1]
    )
    labels = {"activity": [(0.0, 100.0, "cook"), (100.0, 110.0, "rest")]}
    return write(folder, sensors, video=video, labels=labels, length_s=length_s)


def test_a_sensor_that_the_camera_does_not_see_is_misplaced(filmed: Recording) -> None:
    quality = inspect_recordings([filmed])
    assert {f.about for f in quality.findings if f.what == "misplaced"} == {"door3_open"}
    assert not any(f.sure for f in quality.findings if f.what == "misplaced")  # 400 s are short
    assert quality.numbers.film == 1.0
    blind = inspect_recordings([filmed], film=False)
    assert all(s.agreement is None for s in blind.numbers.sensors)


def test_the_page_holds_figures_findings_and_nothing_from_outside(
    filmed: Recording, tmp_path: Path
) -> None:
    said: list[str] = []
    quality, path = inspect_folder(filmed.folder, tmp_path / "q.html", progress=said.append)
    html = path.read_text()
    assert said == ["looking at the film of a"]
    assert html.count("<svg") == 5
    for outside in ("http://", "https://", "src=", "@import"):
        assert outside not in html.replace("http://www.w3.org/", "")
    assert "door3_open" in html
    assert TO_DO["misplaced"] in html
    text = quality.as_text()
    assert "? door3_open: where it fires the camera sees no more motion" in text
    assert "labels of activity: cook 1 (100 s), rest 1 (10 s)" in text
    assert "? activity: less than 40 s of rest" in text
    assert len(html) < 1_000_000


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    sensors = {switch("<b>door"): uses(np.random.default_rng(0), 10)}
    recording = write(tmp_path / "a", sensors)
    html = inspect_folder(recording.folder)[1].read_text()
    assert "<b>door" not in html
    assert "&lt;b&gt;door" in html


def test_sampled_sensors_have_rate_holes_and_drift(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t_s = np.arange(0, LENGTH_S, 0.1)
    t_s = t_s[(t_s < 300) | (t_s > 310)]
    track = SensorTrack(name="power", kind="power", unit="W", hz=20.0)
    values = rng.normal(0, 1, len(t_s)) + t_s / 100
    sensors = {track: (t_s, values), switch("door"): uses(rng, 10)}
    quality = inspect_recordings([write(tmp_path / "a", sensors)])
    power = quality.numbers.sensors[0]
    assert power.hz == pytest.approx(10, rel=0.01)
    assert power.gaps == 1
    assert power.missing == pytest.approx(8 / LENGTH_S, abs=0.002)
    assert 0.5 < power.drift < 1
    assert {f.what for f in quality.findings if f.about == "power"} == {"rate", "gaps"}


def test_a_slow_sensor_has_the_rate_that_it_states(tmp_path: Path) -> None:
    t_s = np.arange(0, LENGTH_S, 10.0)
    t_s = t_s[(t_s < 300) | (t_s > 400)]
    track = SensorTrack(name="plug", kind="power", unit="W", hz=0.1)
    values = np.random.default_rng(0).normal(0, 1, len(t_s))
    quality = inspect_recordings([write(tmp_path / "a", {track: (t_s, values)})])
    assert quality.numbers.sensors[0].hz == pytest.approx(0.1)
    assert "rate" not in {f.what for f in quality.findings}


def test_a_value_that_is_not_available_is_missing(tmp_path: Path) -> None:
    values = np.array([0.0, np.nan, 1.0, 0.0])
    sensors = {switch("door"): (np.array([0.0, 300.0, 900.0, 960.0]), values)}
    quality = inspect_recordings([write(tmp_path / "a", sensors)])
    (door,) = quality.numbers.sensors
    assert door.missing == pytest.approx(0.5)
    assert door.duty == pytest.approx(60 / 600)
    assert "missing" in {f.what for f in quality.findings}


def test_bursts_of_an_accelerometer_are_its_changes() -> None:
    rng = np.random.default_rng(0)
    t_s = np.arange(0, 100, 1 / 30)
    values = rng.normal(0, 3, (len(t_s), 3)).astype(np.float32) + np.array([0, 0, 1000], np.float32)
    for start in (20, 50, 80):
        values[(t_s >= start) & (t_s < start + 1.5)] += 200
    track = SensorTrack(name="a", kind="acceleration", unit="mg", hz=30, axes=("x", "y", "z"))
    assert changes_of(track, t_s, values) == pytest.approx([20, 50, 80], abs=0.05)


def test_the_same_changes_after_a_lag_are_the_same() -> None:
    rng = np.random.default_rng(0)
    a = np.sort(rng.uniform(0, 1000, 50))
    assert same_changes([a], [a + 0.1]) == 1.0
    assert same_changes([a], [a + 0.7]) > 0.9
    assert same_changes([a], [np.sort(rng.uniform(0, 1000, 50))]) < 0.2
    assert same_changes([a], [a[::2]]) < 0.6
    assert same_changes([a], [np.zeros(0)]) == 0.0


def test_agreement_needs_a_film_and_changes_in_it() -> None:
    motion = Motion(
        np.arange(0, 100, 0.2), np.random.default_rng(0).random((500, 3, 3), np.float32)
    )
    assert agreement([None], [np.array([1.0])]) is None
    assert agreement([motion], [np.zeros(0)]) is None
    found = agreement([motion], [np.array([10.0, 50.0, 400.0])])
    assert found is not None
    assert found.changes == 2


def test_cameras_of_other_shapes_agree_together(filmed: Recording) -> None:
    t_s, at = np.arange(0, 100, 0.2), np.array([10.0, 33.0, 50.0, 71.0])
    rng = np.random.default_rng(0)
    motions = [Motion(t_s, rng.random((500, *shape), np.float32)) for shape in ((3, 3), (2, 4))]
    for motion in motions:
        motion.cells[np.searchsorted(t_s, at), 1, 2] += 20
    both = agreement(motions, [at, at])
    each = [agreement([motion], [at]) for motion in motions]
    assert both is not None
    assert both.changes == 8
    assert all(one is not None and both.excess > one.excess > 2 for one in each)
    numbers = inspect_recordings([filmed]).numbers
    found = replace(numbers, motions=tuple(motions), duration_s=(100.0, 100.0))
    assert draw(found)["motion"].count("<image") == 2


def test_a_film_of_one_picture_has_no_motion_to_draw(filmed: Recording) -> None:
    still = Motion(np.zeros(0), np.asarray([], dtype=np.float32))
    numbers = inspect_recordings([filmed], film=False).numbers
    assert "motion" not in draw(replace(numbers, motions=(still,)))


def test_times_beside_a_stretch_count_as_inside() -> None:
    stretches = np.array([[10.0, 20.0], [30.0, 40.0]])
    t_s = np.array([8.0, 9.5, 15.0, 20.5, 25.0, 41.5])
    assert inside(t_s, stretches).tolist() == [False, True, True, True, False, False]
    assert not inside(t_s, np.zeros((0, 2))).any()


def test_nothing_to_inspect_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recording to inspect"):
        inspect_recordings([])
    with pytest.raises(DataError, match=r"recording.json is not there"):
        inspect_folder(tmp_path)
    recording = write(tmp_path / "a", {})
    quality, _ = inspect_folder(recording.folder)
    assert [f.what for f in quality.findings] == ["no labels"]
