"""The folder formats: round trips, exact line numbers, and nothing half-written."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from detach.data import store
from detach.data.recording import (
    DATASET_FILE,
    RECORDING_FILE,
    Dataset,
    LabelTrack,
    Recording,
    SensorTrack,
    new_recording,
    read_dataset,
    read_recording,
    write_dataset,
    write_labels,
    write_recording,
    write_sensor,
)
from detach.data.tables import read_intervals, read_numbers, read_times
from detach.errors import DataError, MachineError

VIDEO = {"name": "v", "file": "v.mp4", "fps": 10, "frames": 9, "width_px": 64, "height_px": 48}
SHAKER = SensorTrack(name="shaker", kind="acceleration", unit="g", hz=30.0, axes=("x", "y"))


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def make(folder: Path, name: str = "one", **changes: Any) -> Path:
    t_s = np.arange(5) / 30
    with new_recording(folder, name) as part:
        write_sensor(part, SHAKER, t_s, np.arange(10.0).reshape(5, 2))
        write_labels(part, LabelTrack(name="activity"), [(0.0, 1.0, "walk"), (1.0, 2.0, "sit")])
        body: dict[str, Any] = {
            "folder": part,
            "name": name,
            "subject": "a",
            "run": "1",
            "duration_s": 2.0,
            "sensors": (SHAKER,),
            "labels": (LabelTrack(name="activity"),),
        }
        write_recording(Recording(**(body | changes)))
    return folder / name


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_recording_survives_the_disk(tmp_path: Path) -> None:
    recording = read_recording(make(tmp_path))
    t_s, values = recording.read_sensor(SHAKER)
    assert recording.sensors == (SHAKER,)
    assert_allclose(t_s, np.arange(5) / 30, atol=5e-5)
    assert_array_equal(values, np.arange(10.0).reshape(5, 2))
    assert recording.read_labels("activity").name == ("walk", "sit")
    assert recording.read_labels("nothing").name == ()


def test_a_data_set_survives_the_disk(tmp_path: Path) -> None:
    make(tmp_path)
    written = Dataset(
        folder=tmp_path, name="d", classes={"activity": ("walk",)}, splits={"train": ("one",)}
    )
    write_dataset(written)
    assert read_dataset(tmp_path) == written
    assert [r.name for r in written.recordings()] == ["one"]


def test_missing_values_are_empty_cells(tmp_path: Path) -> None:
    values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan]])
    write_sensor(tmp_path, SHAKER, np.arange(3.0), values)
    path = tmp_path / SHAKER.file
    assert path.read_text() == "t_s,x,y\n0.0000,,1\n1.0000,2,\n2.0000,,\n"
    assert_array_equal(read_numbers(path, ("t_s", "x", "y"))[:, 1:], values)


def test_line_ends_marks_and_blanks_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbft_s,value\r\n0, 1\r\n1, \r\n2,nan\r\n\r\n")
    assert_array_equal(
        read_numbers(path, ("t_s", "value")), [[0.0, 1.0], [1.0, np.nan], [2.0, np.nan]]
    )


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    assert read_numbers(put(tmp_path / "a.csv", "t_s,value\n"), ("t_s", "value")).shape == (0, 2)


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("0,1\n1,2\n2,open\n3,4\n", 4, "'open' is not a number"),
        ("0,1\n1,2,3\n", 3, "2 values expected, found '1,2,3'"),
        ("0,1\n\n1,2\n", 3, "2 values expected, found ''"),
        ("0,1\n1\n", 3, "2 values expected, found '1'"),
        ("0,,1\n", 2, "2 values expected"),
        ("0,1\n,2\n", 3, "the time is missing"),
        ("0,1\n5,1\n3,1\n", 4, "the clock runs backwards, from 5.000 s to 3.000 s"),
        ("# 0,1\n", 2, "'# 0' is not a number"),
        ("1 2,1\n", 2, "'1 2' is not a number"),
    ],
)
def test_the_wrong_line_is_named(tmp_path: Path, body: str, line: int, said: str) -> None:
    path = put(tmp_path / "a.csv", "t_s,value\n" + body)
    with pytest.raises(DataError) as caught:
        read_times(path, ("t_s", "value"))
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert said in str(caught.value)


def test_another_header_or_a_picture_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "time,value\n0,1\n")
    with pytest.raises(DataError, match=r"a\.csv:1: header must be 't_s,value', found 'time"):
        read_numbers(path, ("t_s", "value"))
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_numbers(path, ("t_s", "value"))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("start,end,name\n", 1, "header must be"),
        ("start_s,end_s,name\n0,1,a\n2,1,b\n", 3, "ends at 1.0 s, before its start"),
        ("start_s,end_s,name\n0,soon,a\n", 2, "start_s,end_s,name expected"),
        ("start_s,end_s,name\n0,1\n", 2, "3 cells expected, found '0,1'"),
        ("start_s,end_s,name,weight\n0,1,a,1.5\n", 2, "weight must be in [0, 1]"),
    ],
)
def test_wrong_labels_are_named(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = put(tmp_path / "a.csv", text)
    with pytest.raises(DataError) as caught:
        read_intervals(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert said in str(caught.value)


def test_labels_come_in_order_and_with_weights(tmp_path: Path) -> None:
    track = LabelTrack(name="t")
    write_labels(tmp_path, track, [(3.0, 4.0, "b"), (0.0, 1.0, "a, or so", 0.25)])
    intervals = read_intervals(tmp_path / track.file)
    assert intervals.name == ("a, or so", "b")
    assert_array_equal(intervals.start_s, [0.0, 3.0])
    assert_array_equal(intervals.weight, np.array([0.25, 1.0], np.float32))


def test_reading_numbers_is_fast(tmp_path: Path) -> None:
    """Several times faster than NumPy's forgiving parser; a slow machine slows both."""
    t_s, values = np.arange(30_000) / 30, np.random.default_rng(0).normal(size=(30_000, 2))
    values[::7, 0] = np.nan
    write_sensor(tmp_path, SHAKER, t_s, values)
    path = tmp_path / SHAKER.file
    ours_s, rows = np.inf, np.zeros(0)
    for _ in range(3):
        started = time.perf_counter()
        rows = read_numbers(path, ("t_s", "x", "y"))
        ours_s = min(ours_s, time.perf_counter() - started)
    started = time.perf_counter()
    slow = np.genfromtxt(path, delimiter=",", skip_header=1)
    slow_s = time.perf_counter() - started
    assert_array_equal(rows, slow)
    assert ours_s < slow_s


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 7}, "schema must be 1, found 7"),
        ({"duration_s": -1.0}, "duration_s must be > 0, found -1.0"),
        ({"duration_s": "long"}, "malformed entry: could not convert"),
        ({"duration_s": 10**400}, "malformed entry: int too large"),
        ({"duration_s": 1e9}, "duration_s must be <= 612000, a week and 2 h, found 1000000000.0"),
        ({"videos": [VIDEO | {"width_px": 0}]}, "width and height of 'v' must be 8 to 16384"),
        ({"videos": [VIDEO | {"frames": 4.5}]}, "frames of 'v' must be int, found 4.5"),
        ({"videos": [VIDEO | {"fps": "10"}]}, "fps of 'v' must be float, found '10'"),
        ({"videos": [VIDEO | {"start_s": math.nan}]}, "start_s of 'v' must be float, found nan"),
        ({"videos": [VIDEO | {"name": "a/b"}]}, "'a/b' is no name; names are up to"),
        ({"videos": [VIDEO, VIDEO]}, "videos must be named differently, found ['v', 'v']"),
        ({"sensors": [{"name": "shaker"}]}, "malformed entry"),
        ({"sensors": [{"name": "s", "colour": "red"}]}, "SensorTrack has no 'colour'"),
        (
            {"sensors": [{"name": "shaker", "kind": "magic", "unit": "", "hz": None}]},
            "kind of 'shaker' must be one of switch,",
        ),
        (
            {"sensors": [{"name": "gone", "kind": "switch", "unit": "", "hz": None}]},
            "names 'sensors/gone.csv', which is not there",
        ),
        (
            {"sensors": [{"name": "../../x", "kind": "switch", "unit": "", "hz": None}]},
            "'../../x' is no name; names are up to 100 letters",
        ),
        ({"sensors": None}, "malformed entry"),
    ],
)
def test_a_wrong_description_is_named(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = make(tmp_path) / RECORDING_FILE
    edit(path, **changes)
    with pytest.raises(DataError) as caught:
        read_recording(path.parent)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("named", "good"), [(None, False), ("", False), ("films", True), ("films/old", False)]
)
def test_a_link_leads_out_only_where_its_owner_says_so(
    named: str | None, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, films = make(tmp_path), tmp_path / "films"
    (films / "old").mkdir(parents=True)
    file = folder / SHAKER.file
    file.rename(films / "shaker.csv")
    file.symlink_to(films / "shaker.csv")
    if named is not None:
        value = os.pathsep.join(["/nowhere", str(tmp_path / named)]) if named else ""
        monkeypatch.setenv("DETACH_LINKS_TO", value)
    if good:
        assert read_recording(folder).sensors == (SHAKER,)
    else:
        with pytest.raises(DataError, match="link to outside the recording.*DETACH_LINKS_TO"):
            read_recording(folder)


def test_a_wrong_folder_and_half_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.json is not there: .* Check the path"):
        read_dataset(tmp_path)
    put(tmp_path / "dataset.json", '{"schema": 1,\n "name": ')
    with pytest.raises(DataError, match=r"dataset\.json:2: not JSON"):
        read_dataset(tmp_path)
    write_dataset(Dataset(folder=tmp_path, name="d", classes={}, splits={"test": ("gone", "lost")}))
    with pytest.raises(DataError, match=r"part 'test' names 2 of 2 recordings .* first 'gone'"):
        read_dataset(tmp_path)


def test_a_recording_under_another_name_is_refused(tmp_path: Path) -> None:
    make(tmp_path).rename(tmp_path / "two")
    dataset = Dataset(folder=tmp_path, name="d", classes={}, splits={})
    with pytest.raises(DataError, match="name must be the folder's, found 'one'"):
        list(dataset.recordings())


def test_an_interrupted_recording_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path)

    def write_half() -> None:
        with new_recording(tmp_path, "one") as part:
            (part / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["one"]
    assert read_recording(tmp_path / "one").duration_s == 2.0


def test_json_that_cannot_be_written_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"x\.json: 3 bytes could not be written"):
        store.write_json(tmp_path / "file" / "x.json", {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"splits": {"train": "one"}}, "'train' in splits must be a list of names, found 'one'"),
        ({"splits": {"train": [1]}}, "'train' in splits must be a list of names, found [1]"),
        ({"splits": {"train": ["../one"]}}, "'train' in splits: '../one' is no name"),
        ({"classes": {"a": ["x", "x"]}}, "'a' in classes: 'x' is listed twice"),
        ({"notes": "text"}, "malformed entry"),
    ],
)
def test_a_wrong_data_set_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    body = {"schema": 1, "name": "d", "classes": {}, "splits": {}, **changes}
    (tmp_path / DATASET_FILE).write_text(json.dumps(body))
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / DATASET_FILE))
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema": 1' + "0" * 5000 + "}", "{"])
def test_json_beyond_reading_is_a_damaged_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json.* not JSON"):
        store.read_json(tmp_path / "x.json", 1, "something")


@pytest.mark.parametrize(
    ("rows", "said"),
    [("0,inf,idle", r":2: times must be finite"), ('0,1,"idle', r": cannot be read as text")],
)
def test_labels_without_an_end_are_refused(tmp_path: Path, rows: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"start_s,end_s,name\n{rows}\n2,3,idle\n")
    with pytest.raises(DataError, match=said):
        read_intervals(path)
