"""CASAS, ARAS and the houses of Kasteren and MIT: what their rows mean, and their known dirt."""

import os
from pathlib import Path

import pytest

from detach.data.importers import aras, casas, kasteren
from detach.data.importers.contract import check_importer
from detach.data.importers.days import import_events
from detach.data.importers.log import Options, Reader
from detach.data.recording import Dataset, Recording, read_recording
from detach.errors import DataError

from .event_logs import CASAS, write_aras, write_kasteren  # type: ignore[import-not-found]

HOUSES = {"A": (14, 259), "B": (23, 112), "C": (21, 234), "D": (72, 295), "E": (68, 208)}
"""Sensors that fire and labels of each real house."""


def imported(read: Reader, source: Path, options: Options | None = None) -> Dataset:
    return import_events(read, source, source.parent / "out", options)


def values(recording: Recording, sensor: str) -> list[tuple[float, float]]:
    track = next(t for t in recording.sensors if t.name == sensor)
    t_s, found = recording.read_sensor(track)
    return list(zip(t_s.tolist(), found[:, 0].tolist(), strict=True))


@pytest.fixture
def casas_file(tmp_path: Path) -> Path:
    (tmp_path / "data").write_text(CASAS)
    return tmp_path / "data"


def test_casas_has_kinds_by_letter_and_slips_are_put_right(casas_file: Path) -> None:
    dataset = imported(casas.read, casas_file, Options(gap_hours=24))
    first, second = dataset.recordings()
    assert {t.name: t.kind for t in first.sensors} == {
        "M003": "motion", "M004": "motion", "D001": "switch", "T002": "other",
    }  # fmt: skip
    assert first.start_utc is None
    assert values(first, "D001") == [(0, 0), pytest.approx((8669.1, 1)), (8700, 0)]
    assert dataset.notes["put right"]["slip of the pen in a value"] == 3
    assert dataset.notes["first"]["not date, time, sensor, value"] == "data:10"
    assert second.notes["local_start"] == "2010-11-05T00:00:00"


def test_casas_activities_are_labels_and_those_without_an_end_are_counted(casas_file: Path) -> None:
    dataset = imported(casas.read, casas_file)
    found = next(iter(dataset.recordings())).read_labels("activity")
    assert found.name == ("Sleeping",)
    assert found.end_s[0] - found.start_s[0] == pytest.approx(20211.7904)
    right = dataset.notes["put right"]
    assert right["activity that never ends, left out"] == 1
    assert right["activity that cannot be read, or ends before it begins"] == 1


def test_a_zone_gives_utc(casas_file: Path) -> None:
    dataset = imported(casas.read, casas_file, Options(timezone="America/Los_Angeles"))
    assert next(iter(dataset.recordings())).start_utc == "2010-11-04T07:03:50Z"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a b c\n" * 300, r"data:1: not date, time, sensor, value, and so in all of the first 200"),
        ("\0\0\0", "data:1: not text"),
        ("", "not one recording came out of 0 rows"),
    ],
)
def test_another_format_is_refused_with_its_line(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text(text)
    with pytest.raises(DataError, match=match):
        imported(casas.read, tmp_path / "data")


def test_clocks_that_change_are_followed(tmp_path: Path) -> None:
    said = ("00:30:00 M001 ON", "01:30:00 M001 OFF", "01:10:00 M001 ON", "02:30:00 M001 OFF")
    lines = [f"2010-11-07 {row}" for row in said]
    (tmp_path / "data").write_text("\n".join(lines))
    dataset = imported(casas.read, tmp_path / "data", Options(timezone="America/Los_Angeles"))
    (recording,) = dataset.recordings()
    assert [t for t, _ in values(recording, "M001")] == [0, 3600, 6000, 10800]
    assert dataset.notes["put right"] == {"local time: hour twice": 2}


def test_kasteren_stretches_are_joined_and_named(tmp_path: Path) -> None:
    dataset = imported(kasteren.read, write_kasteren(tmp_path / "house"))
    first = next(iter(dataset.recordings()))
    assert {t.name: (t.kind, t.place) for t in first.sensors} == {
        "PIR kitchen": ("motion", "Kitchen"),
        "Hall-Toilet door": ("switch", "Toilet"),
        "sensor 99": ("switch", None),
    }
    assert values(first, "PIR kitchen") == [(0, 1), (286, 0)]
    assert values(first, "Hall-Toilet door") == [(0, 0), (33389, 1), (33390, 0)]
    labels = first.read_labels("activity")
    assert labels.name == ("brush-teeth", "activity 4")
    assert (labels.end_s - labels.start_s).tolist() == [180, 120]
    right = dataset.notes["put right"]
    assert right["stretch that is there twice"] == 2
    assert right["stretch that overlaps the one before of its sensor, joined"] == 1
    assert right["stretch that overlaps the one before of its activity, joined"] == 1
    assert right["sensor whose number is not in the map"] == 1
    left = dataset.notes["rows"]["left out"]
    assert left == {"stretch that ends before it starts": 1, "not start, end, number": 1}


def test_a_folder_of_several_houses_asks_for_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_kasteren(tmp_path / "houses" / name)
    with pytest.raises(DataError, match="found 0; give one of its folders a, b"):
        imported(kasteren.read, tmp_path / "houses")


def test_aras_seconds_become_changes_and_two_tracks(tmp_path: Path) -> None:
    dataset = imported(aras.read, write_aras(tmp_path / "House B"))
    first, second = dataset.recordings()
    assert (first.name, second.name) == ("2000-01-01", "2000-01-02")
    door = values(first, "03 contact house door")
    assert door[:4] == [(0, 1), (10, 0), (100, 1), (110, 0)]
    assert first.read_labels("resident1").name == ("sleeping",)
    assert first.read_labels("resident2").name == ("watching TV", "going out")
    assert first.read_labels("resident2").end_s.tolist() == [300, 600]
    assert {t.kind for t in first.sensors} == {"switch", "motion"}
    assert len(first.sensors) == 20


def test_aras_days_begin_at_midnight_of_the_zone(tmp_path: Path) -> None:
    source = write_aras(tmp_path / "House B")
    dataset = imported(aras.read, source, Options(timezone="Europe/Istanbul"))
    assert [(r.name, r.start_utc, r.duration_s) for r in dataset.recordings()] == [
        ("2000-01-01", "1999-12-31T22:00:00Z", 600),
        ("2000-01-02", "2000-01-01T22:00:00Z", 600),
    ]


def test_aras_days_are_told_by_their_numbers_and_not_by_the_order_of_files(tmp_path: Path) -> None:
    source = write_aras(tmp_path / "House B")
    (source / "DAY_1.txt").rename(source / "DAY_10.txt")
    dataset = imported(aras.read, source)
    assert [r.name for r in dataset.recordings()] == ["2000-01-02", "2000-01-10"]
    assert dataset.notes["changes"]["out_of_order"] == 0


def test_aras_says_when_it_does_not_know_the_house(tmp_path: Path) -> None:
    dataset = imported(aras.read, write_aras(tmp_path / "somewhere"))
    assert "does not say which house" in dataset.notes["sensors"]["sensor 01"]


def test_aras_rows_of_another_width_are_left_out_with_their_line(tmp_path: Path) -> None:
    source = write_aras(tmp_path / "House A")
    with (source / "DAY_2.txt").open("a") as file:
        file.write("0 1 0\n")
    dataset = imported(aras.read, source)
    (why,) = dataset.notes["rows"]["left out"]
    assert why.startswith("not 22 integers")
    assert dataset.notes["first"][why] == "DAY_2.txt:601"


@pytest.mark.skipif("DETACH_EVENTS" not in os.environ, reason="DETACH_EVENTS names the real houses")
@pytest.mark.parametrize("house", HOUSES)
def test_the_real_houses_come_in_whole(house: str, tmp_path: Path) -> None:
    (source,) = Path(os.environ["DETACH_EVENTS"]).rglob(f"houseInfo{house}")
    assert check_importer(kasteren.read, source, tmp_path / "out") == []
    dataset_sensors = {t.name for r in read_all(tmp_path / "out") for t in r.sensors}
    tracks = [r.read_labels("activity") for r in read_all(tmp_path / "out")]
    assert len(dataset_sensors) == HOUSES[house][0]
    assert sum(len(t.name) for t in tracks) >= HOUSES[house][1] // 2


def read_all(folder: Path) -> list[Recording]:
    return [read_recording(p.parent) for p in sorted(folder.glob("*/recording.json"))]
