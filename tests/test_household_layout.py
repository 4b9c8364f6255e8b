"""A simulated home as a household has it: what was written is what the importers find."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from detach.data import video
from detach.data.importers import frigate, home_assistant
from detach.data.importers.contract import check_importer
from detach.data.importers.days import import_events
from detach.data.importers.log import Options
from detach.data.recording import (
    Dataset,
    Recording,
    SensorTrack,
    VideoTrack,
    read_dataset,
    read_recording,
    write_dataset,
    write_recording,
    write_sensor,
)
from detach.errors import DataError
from detach.simulate.household_layout import write_household

from .sample_part import copy_first  # type: ignore[import-not-found]

LATE_S = 1.5


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of the sample."""
    folder: Path = copy_first(2, tmp_path_factory.mktemp("two") / "data")
    return folder


@pytest.fixture(scope="module")
def household(two: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("household") / "out"
    return out, write_household(two, out, late_s=LATE_S)


def test_film_and_sensors_come_back_at_their_times(
    household: tuple[Path, dict[str, float]], two: Path, tmp_path: Path
) -> None:
    out, starts = household
    options = Options(sensor_log=out / "home-assistant_v2.db", film_fps=10)
    dataset = import_events(frigate.read, out / "frigate", tmp_path / "home", options)
    found = list(dataset.recordings())
    assert len(found) == len(starts) == 2
    for made, start_s, source in zip(
        found, starts.values(), read_dataset(two).recordings(), strict=True
    ):
        film = source.video()
        began_s = (
            np.datetime64(str(made.start_utc).rstrip("Z")).astype("datetime64[us]").astype(int)
        )
        assert began_s / 1e6 == pytest.approx(start_s + LATE_S + film.start_s, abs=0.01)
        assert made.videos[0].frames == pytest.approx(film.frames, abs=1)
        (track,) = [t for t in made.sensors if t.name == "binary_sensor.fridge_open"]
        t_s, values = made.read_sensor(track)
        at, states = source.read_sensor(next(t for t in source.sensors if t.name == "fridge_open"))
        inside = at > LATE_S + film.start_s
        assert t_s[1:] == pytest.approx(at[inside] - LATE_S - film.start_s, abs=1e-3)
        assert (values[1:] == states[inside]).all()


def test_what_shakes_is_a_sensor_of_vibration_and_a_battery_is_none(
    household: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    out = household[0]
    assert check_importer(home_assistant.read, out, tmp_path / "home", Options(gap_hours=1)) == []
    (first, _) = (read_recording(p.parent) for p in (tmp_path / "home").glob("*/recording.json"))
    kinds = {t.name.partition(".")[2]: t.kind for t in first.sensors}
    assert kinds["door1_vibration"] == "motion"
    assert kinds["fridge_open"] == "switch"
    assert not any("battery" in name for name in kinds)


def test_a_turn_that_is_too_short_is_named(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detach.simulate.household_layout.LAST_H", 7)
    with pytest.raises(DataError, match="longer than its turn"):
        write_household(two, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif("DETACH_FILM" not in os.environ, reason="DETACH_FILM names no film")
def test_a_real_film_comes_back_as_frigate_kept_it(tmp_path: Path) -> None:
    film = Path(os.environ["DETACH_FILM"])
    claim = video.probe(film)
    folder = tmp_path / "data" / "one"
    folder.mkdir(parents=True)
    shutil.copy(film, folder / "video.mp4")
    track = VideoTrack(
        name="hall", file="video.mp4", fps=claim.fps, frames=claim.frames,
        width_px=claim.width_px, height_px=claim.height_px,
    )  # fmt: skip
    door = SensorTrack(name="door_open", kind="switch", unit="on/off", hz=None)
    write_sensor(folder, door, np.array([0.0, 20.0, 25.0]), np.array([0.0, 1.0, 0.0]))
    length_s = claim.frames / claim.fps
    write_recording(
        Recording(
            folder=folder, name="one", subject="me", run="one", duration_s=length_s,
            videos=(track,), sensors=(door,),
        )
    )  # fmt: skip
    write_dataset(Dataset(folder=folder.parent, name="d", classes={}, splits={}))
    out = tmp_path / "out"
    write_household(folder.parent, out)
    pieces = len(list((out / "frigate").rglob("*.mp4")))
    assert pieces == -(-claim.frames // round(10 * claim.fps))
    options = Options(sensor_log=out / "home-assistant_v2.db", film_fps=claim.fps)
    (made,) = import_events(frigate.read, out / "frigate", tmp_path / "home", options).recordings()
    assert made.videos[0].frames == pytest.approx(claim.frames, abs=2)
    before, after = (pictures(p, made.videos[0]) for p in (film, made.folder / "video.mp4"))
    same = np.abs(before - after).mean(axis=(1, 2, 3))
    shifted = np.abs(before[1:] - after[:-1]).mean(axis=(1, 2, 3))
    assert np.median(same) < 6
    busy = shifted > np.quantile(shifted, 0.8)  # where somebody passes, a picture's shift shows
    assert (same[1:][busy] < shifted[busy]).mean() > 0.95


def pictures(path: Path, like: VideoTrack, count: int = 600) -> np.ndarray:
    capture = cv2.VideoCapture(str(path))
    found: list[np.ndarray] = []
    while len(found) < count:
        good, frame = capture.read()
        if not good:
            break
        found.append(cv2.resize(frame, (like.width_px, like.height_px)).astype(np.float32))
    return np.stack(found)
