"""Cutting, sorting and writing: what all importers share, on changes made up here."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detach.data.importers.clock import LocalClock, local_of
from detach.data.importers.days import import_events
from detach.data.importers.log import Change, Log, Options, Reader, Stretch, safe_name
from detach.data.importers.spool import bounds
from detach.data.recording import Dataset, read_recording
from detach.errors import DataError

DAY = 86400.0
START = 20_000 * DAY  # a midnight, UTC
WINTER = datetime(2025, 10, 26, tzinfo=timezone.utc).timestamp()  # clocks of Berlin go back


def log_of(
    changes: Sequence[Change], labels: Sequence[Stretch] = (), kind: str = "switch"
) -> Reader:
    def read(source: Path, options: Options, log: Log) -> Iterator[Change]:
        del source, options
        log.stretches += labels
        for t_s, key, value in changes:
            log.rows, log.used = log.rows + 1, log.used + 1
            yield t_s, log.sensor(key, kind=kind, guess="told"), value

    return read


def imported(
    tmp_path: Path, read: Reader, options: Options | None = None, said: list[str] | None = None
) -> Dataset:
    source = tmp_path / "source"
    source.write_text("x")
    progress = None if said is None else said.append
    return import_events(read, source, tmp_path / "out", options, progress=progress)


def rows(dataset: Dataset, name: str, sensor: str) -> list[tuple[float, float]]:
    recording = read_recording(dataset.folder / name)
    track = next(t for t in recording.sensors if t.name == sensor)
    t_s, values = recording.read_sensor(track)
    return [(float(t), float(v)) for t, v in zip(t_s, values[:, 0], strict=True)]


def test_days_begin_at_midnight_and_take_the_state_along(tmp_path: Path) -> None:
    changes = [(START + 3600 * h, "door", float(h % 2)) for h in (20, 21, 26, 27)]
    dataset = imported(tmp_path, log_of(changes))
    first, second = dataset.recordings()
    assert (first.name, second.name) == ("2024-10-04", "2024-10-05")
    assert first.start_utc == "2024-10-04T20:00:00Z"
    assert first.duration_s == 4 * 3600
    assert second.start_utc == "2024-10-05T00:00:00Z"
    assert rows(dataset, second.name, "door") == [(0, 1), (7200, 0), (10800, 1)]


def test_the_week_in_which_clocks_go_back_has_an_hour_more(tmp_path: Path) -> None:
    changes = [(WINTER + 6 * 3600 * i, "door", float(i % 2)) for i in range(-8, 40)]
    dataset = imported(tmp_path, log_of(changes), Options(hours=168, timezone="Europe/Berlin"))
    (week,) = (r for r in dataset.recordings() if r.name == "2025-10-26")
    assert week.duration_s == 169 * 3600


def test_before_it_is_first_seen_on_a_switch_was_off_and_before_off_nothing_is_known(
    tmp_path: Path,
) -> None:
    read = log_of([(START, "lamp", 1.0), (START + 30, "door", 1.0), (START + 60, "tv", 0.0)])
    dataset = imported(tmp_path, read)
    assert rows(dataset, "2024-10-04", "door") == [(0, 0), (30, 1)]
    assert rows(dataset, "2024-10-04", "lamp") == [(0, 1)]
    assert rows(dataset, "2024-10-04", "tv") == [(60, 0)]


def test_a_number_is_missing_until_it_is_first_told(tmp_path: Path) -> None:
    changes = [(START, "a", 3.0), (START + 30, "b", 7.0), (START + 60, "a", math.nan)]
    dataset = imported(tmp_path, log_of(changes, kind="power"))
    assert rows(dataset, "2024-10-04", "b") == [(30, 7)]
    assert np.isnan(rows(dataset, "2024-10-04", "a")[-1][1])


def test_a_silence_of_all_sensors_ends_a_recording_even_across_midnight(tmp_path: Path) -> None:
    hours = (1, 2, 3, 9, 10, 22, 28, 29)
    read = log_of([(START + 3600 * h, "ab"[h % 2], float(i % 2)) for i, h in enumerate(hours)])
    dataset = imported(tmp_path, read, Options(gap_hours=5))
    spans = [(r.start_utc, r.duration_s) for r in dataset.recordings()]
    assert [start[11:19] for start, _ in spans if start] == ["01:00:00", "09:00:00", "04:00:00"]
    assert dataset.notes["changes"]["in a stretch shorter than 10 s"] == 1
    assert spans[0][1] == pytest.approx(2 * 3600 + 1)


def test_order_and_repeats_of_rows_do_not_matter(tmp_path: Path) -> None:
    changes = [(START + 7.0 * i, f"s{i % 3}", float(i // 3 % 2)) for i in range(60)]
    straight = imported(tmp_path, log_of(changes))
    mixed = [changes[i] for i in np.random.default_rng(0).permutation(60)] + changes[:20]
    (tmp_path / "again").mkdir()
    shuffled = imported(tmp_path / "again", log_of(mixed))
    for sensor in ("s0", "s1", "s2"):
        assert rows(straight, "2024-10-04", sensor) == rows(shuffled, "2024-10-04", sensor)
    assert shuffled.notes["changes"]["twice"] == 20
    assert shuffled.notes["changes"]["out_of_order"] > 10


def test_a_sensor_that_only_says_on_becomes_pulses(tmp_path: Path) -> None:
    starts = (10, 11, 30, 200)
    changes = [(START, "door", 0.0), *((START + t, "pir", 1.0) for t in starts)]
    dataset = imported(tmp_path, log_of(changes), Options(pulse=("pi*",), pulse_s=2))
    expected = [(0, 0), (10, 1), (13, 0), (30, 1), (32, 0), (200, 1), (201, 0)]
    assert rows(dataset, "2024-10-04", "pir") == expected


def test_labels_are_cut_with_the_recording_and_part_the_days(tmp_path: Path) -> None:
    changes = [(START + 3600.0 * h, "door", float(h % 2)) for h in range(120)]
    nights = [(START + DAY * d, f"n{d % 2}") for d in range(1, 5)]
    labels = [Stretch(night - 600, night + 600, "activity", name) for night, name in nights]
    dataset = imported(tmp_path, log_of(changes, labels))
    names = [r.name for r in dataset.recordings()]
    second = read_recording(dataset.folder / names[1]).read_labels("activity")
    assert second.name == ("n1", "n0")
    assert second.start_s.tolist() == [0.0, DAY - 600]
    assert dataset.classes == {"activity": ("n1", "n0")}
    assert [len(dataset.splits[p]) for p in ("pretrain", "train", "val", "test")] == [3, 3, 1, 1]
    assert dataset.splits["test"] == (names[4],)


def test_only_what_is_asked_for_is_taken_and_the_rest_counted(tmp_path: Path) -> None:
    names = ("pir.0", "door.1", "pir.2", "door.3")
    changes = [(START + i, names[i % 4], float(i // 4 % 2)) for i in range(40)]
    dataset = imported(tmp_path, log_of(changes), Options(include=("door.*",)))
    (recording,) = dataset.recordings()
    assert [t.name for t in recording.sensors] == ["door.1", "door.3"]
    assert dataset.notes["put right"] == {"change of a sensor that was not asked for": 20}


@pytest.mark.parametrize(
    ("problem", "match"),
    [
        ([], "not one recording came out of 0 rows"),
        ([(5.0, "door", 1.0), (6.0, "door", 0.0)], "2 x change before 1990"),
        ([(START, "door", 1.0)], "not one recording"),
    ],
)
def test_nothing_is_left_where_nothing_came_out(
    problem: list[Change], match: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=match):
        imported(tmp_path, log_of(problem))
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_nothing_is_overwritten_and_nothing_goes_into_the_source(tmp_path: Path) -> None:
    read = log_of([(START, "door", 1.0), (START + 20, "door", 0.0)])
    imported(tmp_path, read)
    with pytest.raises(DataError, match="nothing is overwritten"):
        imported(tmp_path, read)
    with pytest.raises(DataError, match="inside the source"):
        import_events(read, tmp_path, tmp_path / "new")
    with pytest.raises(DataError, match="is not there"):
        import_events(read, tmp_path / "missing", tmp_path / "new")


def test_what_was_decided_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    imported(tmp_path, log_of([(START, "door", 1.0), (START + 20, "door", 0.0)]), said=said)
    assert said[0] == "100 % read: 2 rows, 2 changes of 1 sensors"
    assert "switch: 1 sensors, because told" in said


@pytest.mark.parametrize(
    "options",
    [
        {"hours": 0.1}, {"hours": 30}, {"hours": 200}, {"gap_hours": 0}, {"pulse_s": 0},
        {"timezone": "Europe/Atlantis"}, {"timezone": "../etc/passwd"}, {"film_fps": 0},
    ],
)  # fmt: skip
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be"):
        Options(**options)  # type: ignore[arg-type]


BERLIN = ZoneInfo("Europe/Berlin")


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_hour_that_is_there_twice_is_told_by_the_order_of_the_log() -> None:
    clock = LocalClock(BERLIN)
    times = ("01:50:00", "02:10:00", "02:50:00", "02:05:00", "02:55:00", "03:05:00")
    found = [clock.seconds(local(f"2025-10-26 {t}")) for t in times]
    minutes = [round((t_s - found[0][0]) / 60) for t_s, _ in found]
    assert minutes == [0, 20, 60, 75, 125, 135]
    assert [doubt for _, doubt in found] == [None, *["hour twice"] * 4, None]


def test_a_time_in_the_hour_that_is_skipped_moves_on() -> None:
    clock = LocalClock(BERLIN)
    before, _ = clock.seconds(local("2025-03-30 01:59:00"))
    inside, doubt = clock.seconds(local("2025-03-30 02:30:00"))
    after, _ = clock.seconds(local("2025-03-30 03:31:00"))
    assert (inside - before, after - inside, doubt) == (31 * 60, 60, "hour skipped")


def test_an_end_in_the_second_turn_is_not_before_its_start() -> None:
    clock = LocalClock(BERLIN)
    start_s, _ = clock.seconds(local("2025-10-26 02:40:00"))
    assert clock.end(local("2025-10-26 02:20:00"), start_s) - start_s == 40 * 60


@given(
    t_s=st.floats(7e8, 3e9),
    hours=st.sampled_from([0.25, 1, 5, 7.5, 24, 48, 168]),
    zone=st.sampled_from([None, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")]),
)
def test_periods_hold_their_times_and_begin_at_midnight(
    t_s: float, hours: float, zone: ZoneInfo | None
) -> None:
    start_s, end_s = bounds(t_s, hours, zone)
    assert start_s <= t_s < end_s
    assert bounds(start_s, hours, zone) == (start_s, end_s)
    assert bounds(end_s, hours, zone)[0] == end_s
    if hours >= 24:
        assert local_of(start_s, zone).strftime("%H%M%S") == "000000"
        assert abs(end_s - start_s - 3600 * hours) <= 3600


@given(st.lists(st.text(max_size=120), max_size=8))
def test_any_name_becomes_the_name_of_one_file(keys: list[str]) -> None:
    taken: set[str] = set()
    for key in keys:
        name = safe_name(key, taken)
        assert name not in taken
        assert 0 < len(name.encode(errors="replace")) <= 100
        assert name.isprintable()
        assert "/" not in name
        taken.add(name)
