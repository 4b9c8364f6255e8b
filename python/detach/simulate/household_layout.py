"""Writes simulated recordings as a household has them: Home Assistant's database, Frigate's film.

One day, on which every recording takes its turn. Contacts report as they are; what an accelerometer
feels becomes a vibration sensor that stays on for two seconds, since a hub's sensors send no
waveforms. Frigate keeps pieces of ten seconds, by the camera's clock, which may be late.
"""

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detach.data.quality_numbers import changes_of
from detach.data.recording import Recording, SensorTrack, read_dataset
from detach.data.store import new_folder
from detach.errors import DataError, MachineError

FIRST_H, LAST_H = 7, 22
"""Hours of the day between which recordings begin."""
PIECE_S = 10
SHAKEN_S = 2.0
CAMERA = "kitchen"
BATTERY = "sensor.fridge_open_battery"
State = tuple[float, str, str]
"""Unix time, entity, state."""

RECORDER = """
CREATE TABLE schema_changes(change_id INTEGER PRIMARY KEY, schema_version INTEGER);
CREATE TABLE states_meta(metadata_id INTEGER PRIMARY KEY, entity_id VARCHAR(255));
CREATE TABLE state_attributes(attributes_id INTEGER PRIMARY KEY, hash BIGINT, shared_attrs TEXT);
CREATE TABLE states(state_id INTEGER PRIMARY KEY, entity_id CHAR(0), state VARCHAR(255),
  attributes CHAR(0), last_changed CHAR(0), last_changed_ts FLOAT, last_reported_ts FLOAT,
  last_updated CHAR(0), last_updated_ts FLOAT, old_state_id INTEGER, attributes_id INTEGER,
  context_id_bin BLOB, metadata_id INTEGER, origin_idx SMALLINT);
CREATE INDEX ix_states_metadata_id_last_updated_ts ON states(metadata_id, last_updated_ts);
INSERT INTO schema_changes VALUES(1, 50);
"""
FRIGATE = """
CREATE TABLE recordings(id VARCHAR(30) PRIMARY KEY, camera VARCHAR(20), path VARCHAR(255),
  start_time DATETIME, end_time DATETIME, duration REAL, motion INTEGER, objects INTEGER);
"""


def write_household(
    source: Path, out: Path, *, day: str = "2026-01-05", late_s: float = 0.0
) -> dict[str, float]:
    """Writes ``out``/home-assistant_v2.db and ``out``/frigate from every recording of ``source``.

    Args:
        source: Data set whose recordings have one video each, at most an hour long.
        out: Folder to make; must not exist or be empty.
        day: The day in UTC, as YYYY-MM-DD.
        late_s: By how much the camera's clock is late.

    Returns:
        When each recording begins, Unix time.

    Raises:
        DataError: A recording without a video, or too long for its turn.
        MachineError: OpenCV cannot write film.
    """
    recordings = list(read_dataset(source).recordings())
    midnight = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
    apart_s = (LAST_H - FIRST_H) * 3600 / max(1, len(recordings))
    starts: dict[str, float] = {}
    states: list[State] = [(midnight.timestamp(), BATTERY, "80")]
    with new_folder(out) as part:
        with sqlite3.connect(_new(part / "frigate" / "frigate.db", FRIGATE)) as base:
            for i, recording in enumerate(recordings):
                start = midnight + timedelta(hours=FIRST_H, seconds=round(i * apart_s))
                if recording.duration_s > apart_s:
                    raise DataError(f"{recording.folder}: longer than its turn, {apart_s:.0f} s")
                starts[recording.name] = start.timestamp()
                states += _states(recording, start.timestamp())
                rows = _film(recording, start.timestamp() + late_s, part / "frigate")
                base.executemany("INSERT INTO recordings VALUES(?, ?, ?, ?, ?, ?, 1, 0)", rows)
        with sqlite3.connect(_new(part / "home-assistant_v2.db", RECORDER)) as base:
            _record(base, sorted(states))
    return starts


def _new(path: Path, schema: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as base:
        base.executescript(schema)
    base.close()
    return path


def _states(recording: Recording, start_s: float) -> Iterator[State]:
    """What each sensor of one recording says, in words of Home Assistant."""
    for track in recording.sensors:
        t_s, values = recording.read_sensor(track)
        if track.binary:
            entity = f"binary_sensor.{track.name}"
            for t, value in zip(t_s.tolist(), values[:, 0].tolist(), strict=True):
                yield start_s + t, entity, "on" if value > 0.5 else "off"
        elif track.kind == "acceleration":
            entity = f"binary_sensor.{_thing(track)}_vibration"
            yield start_s, entity, "off"
            for begin, end in _shaken(changes_of(track, t_s, values)):
                yield from ((start_s + begin, entity, "on"), (start_s + end, entity, "off"))


def _shaken(t_s: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    """Stretches in which a vibration sensor is on, from beginnings of bursts."""
    begin = end = float("-inf")
    for t in t_s.tolist():
        if t > end:
            if np.isfinite(begin):
                yield begin, end
            begin = t
        end = t + SHAKEN_S
    if np.isfinite(begin):
        yield begin, end


def _thing(track: SensorTrack) -> str:
    return track.name.removesuffix("_accelerometer")


def _record(base: sqlite3.Connection, states: list[State]) -> None:
    """Rows of the recorder: a state that says nothing new is not written."""
    entities = sorted({entity for _, entity, _ in states})
    for number, entity in enumerate(entities, start=1):
        base.execute("INSERT INTO states_meta VALUES(?, ?)", (number, entity))
        shared = json.dumps(_attributes(entity))
        base.execute("INSERT INTO state_attributes VALUES(?, ?, ?)", (number, number, shared))
    last: dict[str, str] = {}
    for t_s, entity, state in states:
        if last.get(entity) != state:
            number = entities.index(entity) + 1
            base.execute(
                "INSERT INTO states(state, last_updated_ts, attributes_id, metadata_id) "
                "VALUES(?, ?, ?, ?)",
                (state, t_s, number, number),
            )
        last[entity] = state


def _attributes(entity: str) -> dict[str, str]:
    name = entity.partition(".")[2].replace("_", " ")
    if entity == BATTERY:
        return {"device_class": "battery", "unit_of_measurement": "%", "friendly_name": name}
    if entity.endswith("_vibration"):
        return {"device_class": "vibration", "friendly_name": name}
    return {"device_class": "opening"} if entity.endswith("_open") else {"friendly_name": name}


def _film(
    recording: Recording, start_s: float, folder: Path
) -> Iterator[tuple[str, str, str, float, float, float]]:
    """Writes the pieces of one film; gives their rows: id, camera, path, start, end, length."""
    track = recording.video()
    film = cv2.VideoCapture(str(recording.folder / track.file))
    size, each = (track.width_px, track.height_px), round(PIECE_S * track.fps)
    for first in range(0, track.frames, each):
        begin_s = start_s + track.at(first / track.fps)
        moment = datetime.fromtimestamp(begin_s, timezone.utc)
        name = f"{moment:%Y-%m-%d/%H}/{CAMERA}/{moment:%M.%S}.mp4"
        path = folder / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), track.fps, size)
        if not writer.isOpened():
            raise MachineError(f"{path}: OpenCV cannot write film here; is the disk full?")
        count = 0
        while count < min(each, track.frames - first):
            good, picture = film.read()
            if not good:
                break
            writer.write(picture)
            count += 1
        writer.release()
        length_s = count / track.fps
        kept = f"/media/frigate/recordings/{name}"
        yield f"{begin_s:.6f}-{CAMERA}", CAMERA, kept, begin_s, begin_s + length_s, length_s
    film.release()
