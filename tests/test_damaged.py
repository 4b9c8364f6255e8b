"""Damaged data sets: every bad input ends in one clear message."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detach.data.recording import (
    Dataset,
    LabelTrack,
    read_dataset,
    write_dataset,
    write_labels,
)
from detach.data.windows import split_windows
from detach.errors import DataError, DetachError

from .tiny import CONFIG, edit, load  # type: ignore[import-not-found]


def spoil_text(data: Path) -> None:
    path = data / "r1" / "sensors" / "shaker.csv"
    lines = path.read_text().splitlines()
    lines[499] = "16.6,0.1,offline,1"
    path.write_text("\n".join(lines) + "\n")


def spoil_clock(data: Path) -> None:
    path = data / "r1" / "sensors" / "shaker.csv"
    lines = path.read_text().splitlines()
    lines[499], lines[100] = lines[100], lines[499]
    path.write_text("\n".join(lines) + "\n")


def spoil_video_content(data: Path) -> None:
    (data / "r2" / "video.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")


def spoil_video_frames(data: Path) -> None:
    edit(data / "r2" / "recording.json", lambda raw: raw["videos"][0].update(frames=500))


def spoil_axes(data: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["sensors"][0]["kind"] = "motion"

    edit(data / "r2" / "recording.json", change)


def spoil_one_class(data: Path) -> None:
    for name in ("r0", "r1"):
        write_labels(data / name, LabelTrack(name="activity"), [(0.0, 40.0, "idle")])


def spoil_no_test_labels(data: Path) -> None:
    write_labels(data / "r3", LabelTrack(name="activity"), [])


def spoil_parts(data: Path) -> None:
    edit(data / "dataset.json", lambda raw: raw.update(splits={"train": ["r0"]}))


def spoil_overlap(data: Path) -> None:
    edit(data / "dataset.json", lambda raw: raw["splits"].update(train=["r0", "r3"]))


def spoil_schema(data: Path) -> None:
    edit(data / "r0" / "recording.json", lambda raw: raw.update(schema=2))


def spoil_sensors(data: Path) -> None:
    for i in range(4):
        edit(data / f"r{i}" / "recording.json", lambda raw: raw.update(sensors=[]))


def spoil_presence(data: Path) -> None:
    for name in ("r0", "r1"):
        write_labels(data / name, LabelTrack(name="person"), [])


def spoil_length(data: Path) -> None:
    for i in range(4):
        edit(data / f"r{i}" / "recording.json", lambda raw: raw.update(duration_s=1.5))


def spoil_half(data: Path) -> None:
    shutil.rmtree(data / "r3")


def spoil_file(data: Path) -> None:
    (data / "r0" / "sensors" / "door1.csv").unlink()


@pytest.mark.parametrize(
    ("spoil", "where", "said"),
    [
        (spoil_text, "r1/sensors/shaker.csv:500: ", "'offline' is not a number; a missing value"),
        (spoil_clock, "r1/sensors/shaker.csv:102: ", "the clock runs backwards, from 16.6"),
        (spoil_video_content, "r2/video.mp4: ", "not a video file"),
        (spoil_video_frames, "r2/video.mp4: ", "400 frames can be decoded, 500 expected"),
        (spoil_axes, "r2: ", "sensor 'door0' has kind 'motion', but 'switch' in r0"),
        (spoil_one_class, ": ", "one class only in train, 'idle'"),
        (spoil_no_test_labels, ": ", "part 'test' has no window labelled in track 'activity'"),
        (spoil_parts, "dataset.json: ", "no part 'pretrain', found train; name its recordings"),
        (spoil_overlap, "dataset.json: ", "'r3' is both in train and in test"),
        (spoil_schema, "r0/recording.json: ", "schema must be 1, found 2; make it again"),
        (spoil_sensors, ": ", "no recording has a sensor"),
        (spoil_presence, ": ", "no window is left for pretraining"),
        (spoil_length, ": ", "no window of 2.0 s fits: the longest of 4 recordings is 1.5 s"),
        (spoil_half, "dataset.json: ", "names 1 of 1 recordings that are not there, first 'r3'"),
        (spoil_file, "r0/recording.json: ", "names 'sensors/door1.csv', which is not there"),
    ],
)
def test_bad_input_gives_one_clear_message(
    data: Path, spoil: Callable[[Path], None], where: str, said: str
) -> None:
    shutil.rmtree(data / ".cache", ignore_errors=True)
    spoil(data)
    with pytest.raises(DetachError) as caught:
        split_windows(load(data), read_dataset(data), CONFIG.split)
    assert type(caught.value) is DataError
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert message.startswith(str(data))
    assert where in message
    assert said in message
    assert "\n" not in message
    assert not list(data.rglob("*.part"))


def test_an_empty_folder_and_no_folder(tmp_path: Path) -> None:
    write_dataset(Dataset(folder=tmp_path, name="d", classes={}, splits={}))
    with pytest.raises(DataError, match=r"no recordings; each is a folder with a recording.json"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"is not there: a data set folder has a dataset.json"):
        load(tmp_path / "nothing")


def test_an_unknown_recording_is_the_callers_mistake(tiny_dataset: Path) -> None:
    with pytest.raises(ValueError, match="names: no recording 'r9'"):
        load(tiny_dataset, names=["r9"])
