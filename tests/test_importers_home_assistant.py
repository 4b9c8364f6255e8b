"""Home Assistant's recorder of several ages, its history CSV, and both of them broken."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detach.data.importers.days import import_events
from detach.data.importers.home_assistant import read
from detach.data.importers.home_assistant_kinds import kind_of
from detach.data.importers.log import Log, Options
from detach.data.recording import Dataset
from detach.errors import DataError

from .event_logs import HISTORY, START_S, STATES, write_recorder  # type: ignore[import-not-found]


def imported(source: Path, options: Options | None = None) -> Dataset:
    return import_events(read, source, source.parent / "out", options)


def values(dataset: Dataset, sensor: str) -> list[tuple[float, float]]:
    (recording,) = dataset.recordings()
    track = next(t for t in recording.sensors if t.name == sensor)
    t_s, found = recording.read_sensor(track)
    return list(zip(t_s.tolist(), found[:, 0].tolist(), strict=True))


@pytest.mark.parametrize("schema", [25, 37, 38, 50])
def test_every_age_of_the_recorder_gives_the_same(schema: int, tmp_path: Path) -> None:
    dataset = imported(write_recorder(tmp_path / "home-assistant_v2.db", schema=schema))
    (recording,) = dataset.recordings()
    assert recording.start_utc == "2026-01-01T00:00:00Z"
    assert {t.name: (t.kind, t.unit, t.polarity) for t in recording.sensors} == {
        "binary_sensor.fridge": ("switch", "on/off", 1),
        "binary_sensor.hall": ("motion", "on/off", 1),
        "sensor.plug": ("power", "W", 1),
    }
    assert recording.sensors[0].place == "Fridge"
    fridge = values(dataset, "binary_sensor.fridge")
    assert fridge[:2] == [(0.0, 0.0), (10.0, 1.0)]  # the row that changed no state is not there
    assert fridge[2][0] == 70.0
    assert np.isnan(fridge[2][1])
    assert values(dataset, "binary_sensor.hall")[:2] == [(1.0, 0.0), (20.0, 1.0)]
    plug = values(dataset, "sensor.plug")
    assert plug[0] == (30.0, 12.5)
    assert np.isnan(plug[1][1])
    assert plug[2] == (99.0, 0.0)
    rows = dataset.notes["rows"]
    assert (rows["read"], rows["used"]) == (12, 10)
    assert set(rows["left out"]) == {
        "of a device class that says nothing of what people do (battery)",
        "of a domain that is no sensor (automation)",
    }
    assert "device class door" in dataset.notes["sensors"]["binary_sensor.fridge"]


def test_a_time_is_that_of_the_change_and_not_of_the_update(tmp_path: Path) -> None:
    states = [
        ("binary_sensor.a", "on", START_S, None),
        ("binary_sensor.a", "off", START_S + 60, START_S + 20),
        ("binary_sensor.a", "on", START_S + 90, None),
    ]
    dataset = imported(write_recorder(tmp_path / "h.db", states))
    assert values(dataset, "binary_sensor.a") == [(0, 1), (20, 0), (90, 1)]


def test_the_device_class_is_found_in_a_later_row(tmp_path: Path) -> None:
    path = write_recorder(tmp_path / "h.db")
    base = sqlite3.connect(path)
    base.execute("UPDATE states SET attributes_id = NULL WHERE state_id < 5")
    base.commit()
    base.close()
    kinds = {t.name: t.kind for r in imported(path).recordings() for t in r.sensors}
    assert kinds["binary_sensor.hall"] == "motion"


@pytest.mark.parametrize(
    ("entity", "device_class", "unit", "kind"),
    [
        ("binary_sensor.x", "garage_door", "", "switch"),
        ("binary_sensor.x", "vibration", "", "motion"),
        ("binary_sensor.kitchen_pir", "", "", "motion"),
        ("binary_sensor.x", "", "", "switch"),
        ("switch.x", "outlet", "", "switch"),
        ("sensor.x", "power", "W", "power"),
        ("sensor.x", "", "lx", "light"),
        ("sensor.x", "temperature", "C", "other"),
    ],
)
def test_kinds_are_guessed_from_device_class_unit_and_name(
    entity: str, device_class: str, unit: str, kind: str
) -> None:
    found, guess = kind_of(entity, entity.partition(".")[0], device_class, unit)
    assert found == kind
    assert (device_class or unit or "no device class") in guess


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def damaged(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    page = int.from_bytes(raw[16:18], "big")
    raw[page : 2 * page] = b"\xff" * page
    path.write_bytes(raw)


def of_another_program(path: Path) -> None:
    path.unlink()
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE recordings(id, camera)")
    base.commit()
    base.close()


def being_written(path: Path) -> None:
    path.with_name(path.name + "-journal").write_bytes(b"x" * 600)


def only_statistics(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("DELETE FROM states")
    base.execute("INSERT INTO statistics VALUES(1, 2, 3)")
    base.commit()
    base.close()


def emptied(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("DELETE FROM states")
    base.commit()
    base.close()


def text_instead(path: Path) -> None:
    path.write_text("hello")


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (half, "half a database: .* bytes are there"),
        (damaged, "damaged"),
        (of_another_program, "not a recorder database .* tables recordings"),
        (being_written, "h.db-journal lies beside it"),
        (only_statistics, "only 1 rows of hourly statistics"),
        (emptied, "the table states is empty"),
        (text_instead, "not an SQLite database"),
    ],
)
def test_a_database_that_cannot_be_read_is_named(spoil: object, match: str, tmp_path: Path) -> None:
    path = write_recorder(tmp_path / "h.db")
    assert callable(spoil)
    spoil(path)
    with pytest.raises(DataError, match=match) as error:
        imported(path)
    assert str(path) in str(error.value)
    assert not (tmp_path / "out").exists()


RUNNING = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
base.execute("PRAGMA journal_mode=WAL")
base.execute("PRAGMA wal_autocheckpoint=0")
columns = "state, last_updated_ts, attributes_id, metadata_id"
row = f"INSERT INTO states({columns}) VALUES('off', ?, 0, 0)"
base.execute(row, (float(sys.argv[2]),))
base.commit()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_database_in_use_is_read_with_its_journal_and_left_alone(tmp_path: Path) -> None:
    path = write_recorder(tmp_path / "h.db")
    command = [sys.executable, "-c", RUNNING, str(path), str(START_S + 200)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as running:  # type: ignore[call-overload]  # noqa: S603
        assert running.stdout.readline() == "ready\n"
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        assert before["h.db-wal"]
        dataset = imported(path)
        after = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
        running.stdin.close()
    assert values(dataset, "binary_sensor.fridge")[-1] == (200.0, 0.0)
    assert after == before


def test_a_copy_in_wal_mode_leaves_no_files_beside_it(tmp_path: Path) -> None:
    path = write_recorder(tmp_path / "h.db")
    base = sqlite3.connect(path)
    base.execute("PRAGMA journal_mode=WAL")
    base.close()
    imported(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["h.db", "out"]


def test_a_history_download_is_sorted_and_its_rows_counted(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(HISTORY)
    dataset = imported(path)
    found = values(dataset, "binary_sensor.fridge")
    assert found[:2] == [(0.0, 0.0), (20.0, 1.0)]
    assert found[2][0] == 30.0
    assert np.isnan(found[2][1])
    assert dataset.notes["first"]["state is neither a number nor on or off"] == "history.csv:8"
    assert dataset.notes["changes"]["twice"] == 1
    kinds = {t.name: t.kind for r in dataset.recordings() for t in r.sensors}
    assert kinds["binary_sensor.hall_motion"] == "motion"


def hourly(count: int, step_s: int = 3600) -> str:
    rows = [
        f"sensor.power,{i},{np.datetime64(1767225600 + step_s * i, 's')}.000Z" for i in range(count)
    ]
    return "entity_id,state,last_changed\n" + "\n".join(rows) + "\n"


def test_hourly_statistics_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(hourly(24))
    with pytest.raises(DataError, match=r"history.csv:5: sensor.power comes once an hour"):
        imported(path)
    path.write_text(hourly(24, 3599))
    assert len(values(imported(path), "sensor.power")) == 24


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ("statistic_id,start,end,mean,min,max", "These are statistics"),
        ("time,value", "Download data"),
        ("", "header must be"),
    ],
)
def test_another_table_is_refused(header: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(header + "\nx,1,2\n")
    with pytest.raises(DataError, match=match):
        imported(path)


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    states = [("binary_sensor.a", "on" if i % 2 else "off", START_S + i, None) for i in range(5000)]
    log = Log()
    changes = read(write_recorder(tmp_path / "h.db", states), Options(), log)
    seen = [(log.rows, log.share) for _ in changes]
    assert [rows for rows, _ in seen] == list(range(1, 5001))
    assert seen[0][1] == 0
    assert seen[2500][1] == pytest.approx(0.5, abs=0.01)


def test_attributes_that_are_no_object_are_none(tmp_path: Path) -> None:
    path = write_recorder(tmp_path / "h.db", STATES)
    base = sqlite3.connect(path)
    base.execute("UPDATE state_attributes SET shared_attrs = '[1]' WHERE attributes_id = 0")
    base.execute("UPDATE state_attributes SET shared_attrs = '{' WHERE attributes_id = 1")
    base.commit()
    base.close()
    kinds = {t.name: t.kind for r in imported(path).recordings() for t in r.sensors}
    assert kinds["binary_sensor.fridge"] == kinds["binary_sensor.hall"] == "switch"


def test_a_cell_without_an_end_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text(HISTORY + '"' + "x" * 200_000)
    with pytest.raises(DataError, match=r"history.csv:\d+: not a table of text"):
        imported(path)
