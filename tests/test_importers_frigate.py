"""Frigate's pieces of film, put together on the clock of the sensors."""

import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest

from detach.data.importers.days import import_events
from detach.data.importers.frigate import read
from detach.data.importers.log import Options
from detach.data.recording import Dataset
from detach.errors import DataError, UsageError

from .event_logs import write_frigate, write_recorder  # type: ignore[import-not-found]


def imported(source: Path, **options: object) -> Dataset:
    sensors = source.parent / "h.db"
    if not sensors.exists():
        write_recorder(sensors)
    chosen = Options(sensor_log=sensors, film_fps=5, **options)  # type: ignore[arg-type]
    return import_events(read, source, source.parent / "out", chosen)


def brightness(path: Path) -> list[float]:
    capture = cv2.VideoCapture(str(path))
    found: list[float] = []
    while True:
        good, frame = capture.read()
        if not good:
            return found
        found.append(float(frame.mean()))


def test_pieces_become_one_film_on_the_clock_of_the_table(tmp_path: Path) -> None:
    dataset = imported(write_frigate(tmp_path / "frigate"))
    recording = next(iter(dataset.recordings()))
    assert [r.start_utc for r in dataset.recordings()] == ["2026-01-01T00:00:40.250000Z"]
    assert recording.duration_s == 12
    assert dataset.notes["changes"]["in a stretch shorter than 10 s"] == 2


def test_a_film_shows_each_moment_at_its_time(tmp_path: Path) -> None:
    source = write_frigate(tmp_path / "frigate")
    base = sqlite3.connect(source / "frigate.db")
    base.execute("UPDATE recordings SET end_time = 1767225640 WHERE start_time = 1767225612.25")
    base.commit()
    base.close()
    dataset = imported(source)
    (recording,) = dataset.recordings()
    (video,) = recording.videos
    shown = brightness(recording.folder / video.file)
    assert recording.start_utc == "2026-01-01T00:00:08.250000Z"
    assert len(shown) == video.frames == round(5 * recording.duration_s)
    steps = np.flatnonzero(np.abs(np.diff(shown)) > 20) + 1
    assert (steps / 5).tolist() == pytest.approx([2.0, 4.0, 32.0], abs=0.21)


def test_sensors_begin_in_the_state_before_the_film(tmp_path: Path) -> None:
    dataset = imported(write_frigate(tmp_path / "frigate"))
    (recording,) = dataset.recordings()
    track = next(t for t in recording.sensors if t.name == "binary_sensor.fridge")
    t_s, values = recording.read_sensor(track)
    assert (t_s.tolist(), values.tolist()) == ([0.0], [[1.0]])  # open since before the film


def test_pieces_listed_twice_and_out_of_order_make_the_same_film(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = imported(write_frigate(tmp_path / "a" / "frigate"))
    source = write_frigate(tmp_path / "b" / "frigate")
    with sqlite3.connect(source / "frigate.db") as base:
        base.execute("CREATE TABLE mixed AS SELECT * FROM recordings ORDER BY start_time DESC")
        base.execute("INSERT INTO mixed SELECT * FROM recordings")
        base.execute("DROP TABLE recordings")
        base.execute("ALTER TABLE mixed RENAME TO recordings")
    films = []
    for dataset in (plain, imported(source)):
        (recording,) = dataset.recordings()
        films.append((recording.start_utc, brightness(recording.folder / "video.mp4")))
    assert films[0] == films[1]


def test_names_alone_give_whole_seconds(tmp_path: Path) -> None:
    dataset = imported(write_frigate(tmp_path / "frigate", table=False))
    assert [r.start_utc for r in dataset.recordings()] == ["2026-01-01T00:00:40Z"]


def test_film_that_is_not_there_any_more_is_counted(tmp_path: Path) -> None:
    source = write_frigate(tmp_path / "frigate")
    sorted(source.rglob("*.mp4"))[0].unlink()
    right = imported(source).notes["put right"]
    assert right["piece of film that the table names and that is not there"] == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    source = write_frigate(tmp_path / "frigate")
    with pytest.raises(UsageError, match="sensor_log must be the log"):
        import_events(read, source, tmp_path / "out")
    with pytest.raises(DataError, match=r"choose one camera with --camera; there are kitchen \(4"):
        imported(source, camera="hall")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recording of Frigate found"):
        imported(tmp_path / "empty")
    with sqlite3.connect(source / "frigate.db") as base:
        base.execute("DROP TABLE recordings")
    with pytest.raises(DataError, match="not Frigate's database"):
        imported(source)


def test_sensors_that_are_all_left_out_are_said_before_a_film_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detach.data.importers.writing.join", None)
    why = "not one recording came out of 12 rows .* x change of a sensor that was not asked for"
    with pytest.raises(DataError, match=why):
        imported(write_frigate(tmp_path / "frigate"), include=("nosuch*",))


def test_a_camera_clock_that_is_an_hour_off_leaves_no_sensor_in_view(tmp_path: Path) -> None:
    source = write_frigate(tmp_path / "frigate")
    with sqlite3.connect(source / "frigate.db") as base:
        base.execute(
            "UPDATE recordings SET start_time = start_time + 3600, end_time = start_time + 3610"
        )
    with pytest.raises(DataError, match="no change of a sensor falls into the film"):
        imported(source)
