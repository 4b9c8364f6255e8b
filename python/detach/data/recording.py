"""The folder formats: a data set is a folder of recordings, a recording one camera and its sensors.

DATA/dataset.json, DATA/<recording>/recording.json, and beside it video files, sensors/<name>.csv
(t_s,value or t_s,x,y,z) and labels/<track>.csv (start_s,end_s,name[,weight]). Values are raw, at
their own rate; times are seconds since the start of the recording. Everything is written under a
hidden name first and renamed when whole, so that a reader never sees half a recording.
"""

import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from detach.data.store import new_folder, read_json
from detach.data.store import write_json as write_json  # offered here too
from detach.data.tables import Intervals as Intervals
from detach.data.tables import read_intervals, read_times, write_intervals, write_numbers
from detach.errors import DataError

SCHEMA = 1
DATASET_FILE = "dataset.json"
RECORDING_FILE = "recording.json"
PRESENCE_TRACK = "person"
"""A label track of this name marks when somebody is in view of the camera."""

SENSOR_KINDS = ("switch", "motion", "acceleration", "power", "light", "sound", "other")

LONGEST_S = (7 * 24 + 2) * 3600.0
"""Of a recording: a week, and two hours for one in which clocks go back."""
LARGEST = 1e9
"""No number in a recording.json is larger."""
LARGEST_PPM = 10_000.0
"""A clock that is further off than one per cent is none."""
LINKS = "DETACH_LINKS_TO"
"""Environment variable: folders, parted as in PATH, that links in a recording may lead to."""
NAME_RULE = "names are up to 100 letters, digits, spaces and signs, without /"

Stamps = TypeVar("Stamps", float, NDArray[np.float64])
Track = TypeVar("Track", "VideoTrack", "SensorTrack", "LabelTrack")


@dataclass(frozen=True, kw_only=True)
class VideoTrack:
    """One camera. Its clock need not be that of the sensors: see `at`."""

    name: str
    file: str
    fps: float
    frames: int
    width_px: int
    height_px: int
    start_s: float = 0.0
    drift_ppm: float = field(default=0.0, repr=False)
    """By how much more time passes for the sensors than its stamps say, in millionths. Not in the
    text that caches of pictures are keyed by: pictures stay the same."""

    def at(self, stamp_s: Stamps) -> Stamps:
        """When frames are, since the start of the recording, from their time stamps in the file."""
        return self.start_s + stamp_s * (1 + 1e-6 * self.drift_ppm)

    @property
    def end_s(self) -> float:
        """When the film ends, since the start of the recording."""
        return self.at(self.frames / self.fps)


@dataclass(frozen=True, kw_only=True)
class SensorTrack:
    """One ambient sensor with one or more axes.

    ``hz`` is the nominal rate of a sampled sensor. ``None`` means events: a row stands for a
    change and its value holds until the next row.
    """

    name: str
    kind: str
    unit: str
    hz: float | None
    axes: tuple[str, ...] = ("value",)
    polarity: int = 1
    """-1 when the sensor reports the opposite of what its kind says; values are multiplied or,
    for 0/1 sensors, inverted on reading."""
    place: str | None = None
    """What or where it is fixed to, for people; never used in training."""

    @property
    def file(self) -> str:
        """Path below the recording."""
        return f"sensors/{self.name}.csv"

    @property
    def binary(self) -> bool:
        """Whether its values are 0 and 1."""
        return self.kind in {"switch", "motion"}


@dataclass(frozen=True, kw_only=True)
class LabelTrack:
    """One layer of annotation: who says what happened when."""

    name: str
    source: str = ""
    """Annotator, script or simulator."""

    @property
    def file(self) -> str:
        """Path below the recording."""
        return f"labels/{self.name}.csv"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One camera and its sensors, before cutting. Holds descriptions; values stay on disk."""

    folder: Path
    name: str
    subject: str
    run: str
    duration_s: float
    start_utc: str | None = None
    videos: tuple[VideoTrack, ...] = ()
    sensors: tuple[SensorTrack, ...] = ()
    labels: tuple[LabelTrack, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def video(self, name: str | None = None) -> VideoTrack:
        """The video called ``name``, or the only one.

        Raises:
            DataError: There is none, or several and no name was given.
        """
        if name is None and len(self.videos) == 1:
            return self.videos[0]
        for track in self.videos:
            if track.name == name:
                return track
        known = ", ".join(v.name for v in self.videos) or "none"
        if name is None and self.videos:
            raise DataError(f"{self.folder}: has the videos {known}; choose with video.camera")
        wanted = "no video" if name is None else f"no video {name!r}"
        raise DataError(f"{self.folder}: {wanted}; this recording has {known}")

    def read_sensor(
        self, track: SensorTrack, *, may_fall: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Times [n] in seconds and raw values [n, axes] of one sensor, in order of time.

        With ``may_fall`` in the order of the file, whatever its clock says.

        Raises:
            DataError: A row that is not numbers, a clock that runs backwards, a wrong header.
        """
        rows = read_times(self.folder / track.file, ("t_s", *track.axes), may_fall=may_fall)
        return rows[:, 0], rows[:, 1:].astype(np.float32)

    def read_labels(self, name: str) -> Intervals:
        """One label track; empty when the recording has no such track.

        Raises:
            DataError: A row that is not start, end, name, or ends before it starts.
        """
        if name not in {track.name for track in self.labels}:
            empty = np.zeros(0)
            return Intervals(empty, empty, (), empty.astype(np.float32))
        return read_intervals(self.folder / LabelTrack(name=name).file)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder of recordings with named classes and named parts."""

    folder: Path
    name: str
    classes: Mapping[str, tuple[str, ...]]
    """Class names in order, for each label track."""
    splits: Mapping[str, tuple[str, ...]]
    """Recordings of each part; by custom pretrain, train, val, test. A recording may be in more
    than one (pretrain uses no labels)."""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def recordings(self) -> Iterator[Recording]:
        """All recordings in order of name.

        Raises:
            DataError: One is damaged, or its folder was renamed.
        """
        for path in sorted(self.folder.glob(f"*/{RECORDING_FILE}")):
            if path.parent.name.startswith("."):
                continue
            recording = read_recording(path.parent)
            if recording.name != path.parent.name:
                raise DataError(f"{path}: name must be the folder's, found {recording.name!r}")
            yield recording


def read_dataset(folder: Path) -> Dataset:
    """Reads dataset.json.

    Raises:
        DataError: The folder is not a data set, or of another schema.
    """
    raw = read_json(folder / DATASET_FILE, SCHEMA, "a data set folder has a dataset.json")
    try:
        dataset = Dataset(
            folder=folder,
            name=str(raw["name"]),
            classes={k: tuple(v) for k, v in raw["classes"].items()},
            splits={k: tuple(v) for k, v in raw["splits"].items()},
            notes=dict(raw.get("notes") or {}),
        )
        _check_names(raw, folder / DATASET_FILE)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder / DATASET_FILE}: missing or malformed entry {error}") from error
    for part, names in dataset.splits.items():
        missing = [n for n in names if not (folder / n / RECORDING_FILE).is_file()]
        if missing:
            raise DataError(
                f"{folder / DATASET_FILE}: part {part!r} names {len(missing)} of {len(names)} "
                f"recordings that are not there, first {missing[0]!r}; is the folder whole?"
            )
    return dataset


def write_dataset(dataset: Dataset) -> None:
    """Writes dataset.json into ``dataset.folder``."""
    body = {f.name: getattr(dataset, f.name) for f in fields(Dataset) if f.name != "folder"}
    write_json(dataset.folder / DATASET_FILE, {"schema": SCHEMA, **body})


def read_recording(folder: Path) -> Recording:
    """Reads recording.json and checks that the files it names are there.

    Raises:
        DataError: The folder is not a recording, of another schema, or a file is missing.
    """
    path = folder / RECORDING_FILE
    raw = read_json(path, SCHEMA, "a recording folder has a recording.json")
    try:
        recording = Recording(
            folder=folder,
            name=str(raw["name"]),
            subject=str(raw["subject"]),
            run=str(raw["run"]),
            duration_s=float(raw["duration_s"]),
            start_utc=raw.get("start_utc"),
            videos=_tracks(VideoTrack, raw["videos"], path),
            sensors=_tracks(SensorTrack, raw["sensors"], path),
            labels=_tracks(LabelTrack, raw["labels"], path),
            notes=dict(raw.get("notes") or {}),
        )
        _check_values(recording, path)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: missing or malformed entry: {error}") from error
    _check_files(recording, path)
    return recording


def write_recording(recording: Recording) -> None:
    """Writes recording.json into ``recording.folder``, where the named files already are."""
    body = {f.name: getattr(recording, f.name) for f in fields(Recording) if f.name != "folder"}
    for kind in ("videos", "sensors", "labels"):
        body[kind] = [asdict(track) for track in body[kind]]
    write_json(recording.folder / RECORDING_FILE, {"schema": SCHEMA, **body})


def write_sensor(
    folder: Path, track: SensorTrack, t_s: NDArray[Any], values: NDArray[Any], digits: int = 6
) -> None:
    """Writes one sensor file: ``t_s`` [n] and ``values`` [n] or [n, axes]; NaN becomes empty."""
    table = np.asarray(values).reshape(len(t_s), len(track.axes))
    write_numbers(folder / track.file, ("t_s", *track.axes), np.asarray(t_s), table, digits)


def write_labels(
    folder: Path, track: LabelTrack, rows: Iterable[tuple[float, float, str] | Sequence[Any]]
) -> None:
    """Writes one label file from rows (start_s, end_s, name[, weight])."""
    write_intervals(folder / track.file, rows)


def new_recording(dataset_folder: Path, name: str) -> AbstractContextManager[Path]:
    """A hidden folder to fill; it takes its name when the block ends well, and goes otherwise.

    Write the files and `write_recording` (its ``folder`` being the yielded path) inside the block.
    """
    return new_folder(dataset_folder / name)


def _tracks(kind: type[Track], rows: Sequence[Mapping[str, Any]], path: Path) -> tuple[Track, ...]:
    known = {f.name for f in fields(kind)}
    for row in rows:
        if unknown := set(row) - known:
            raise DataError(f"{path}: {kind.__name__} has no {sorted(unknown)[0]!r}")
        for f in fields(kind):
            if f.name in row and not _fits(row[f.name], f.type):
                must = getattr(f.type, "__name__", "") if isinstance(f.type, type) else str(f.type)
                what = f"{f.name} of {row.get('name')!r}"
                raise DataError(f"{path}: {what} must be {must}, found {row[f.name]!r}")
        if not _is_name(row["name"]):
            raise DataError(f"{path}: {row['name']!r} is no name; {NAME_RULE}")
    listed: list[dict[str, Any]] = [
        {k: tuple(v) if isinstance(v, list) else v for k, v in r.items()} for r in rows
    ]
    return tuple(kind(**row) for row in listed)


def _fits(value: object, kind: Any) -> bool:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None or isinstance(value, bool):
        return value is None and type(None) in options
    if isinstance(value, list | tuple):
        texts = all(isinstance(item, str) for item in value)
        return typing.get_origin(kind) is tuple and bool(value) and texts
    if isinstance(value, int | float):
        finite = abs(value) < LARGEST
        return finite and (float in options or (int in options and value == int(value)))
    return isinstance(value, str) and str in options


def _is_name(text: object) -> bool:
    """Names become parts of the names of files."""
    fits = isinstance(text, str) and 0 < len(text.encode(errors="replace")) <= 100
    return fits and str(text).isprintable() and "/" not in str(text)


def _check_names(raw: Mapping[str, Any], path: Path) -> None:
    """Classes and recordings of dataset.json.

    Raises:
        DataError: Not a list of names, or a class that is listed twice.
    """
    for entry in ("classes", "splits"):
        for key, names in raw[entry].items():
            where = f"{path}: {key!r} in {entry}"
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DataError(f"{where} must be a list of names, found {names!r}")
            if entry == "splits" and (odd := [n for n in names if n and not _is_name(n)]):
                raise DataError(f"{where}: {odd[0][:80]!r} is no name; {NAME_RULE}")
            if entry == "classes" and (twice := [n for n in names if names.count(n) > 1]):
                raise DataError(f"{where}: {twice[0]!r} is listed twice")


def _check_values(recording: Recording, path: Path) -> None:
    length_s = recording.duration_s
    rules: list[tuple[bool, str, object, str]] = [
        (length_s > 0, "duration_s", length_s, "> 0"),
        (length_s <= LONGEST_S, "duration_s", length_s, f"<= {LONGEST_S:.0f}, a week and 2 h"),
    ]
    for kind in ("videos", "sensors", "labels"):
        names = [track.name for track in getattr(recording, kind)]
        rules.append((len(set(names)) == len(names), kind, names, "named differently"))
    for t in recording.sensors:
        kinds = ", ".join(SENSOR_KINDS)
        rules.append((t.kind in SENSOR_KINDS, f"kind of {t.name!r}", t.kind, f"one of {kinds}"))
        rules.append((t.hz is None or t.hz > 1e-6, f"hz of {t.name!r}", t.hz, "null or > 0"))
        rules.append((t.polarity in {1, -1}, f"polarity of {t.name!r}", t.polarity, "1 or -1"))
    for v in recording.videos:
        rules.append((0 < v.fps <= 1000, f"fps of {v.name!r}", v.fps, "in (0, 1000]"))
        rules.append((v.frames > 0, f"frames of {v.name!r}", v.frames, "> 0"))
        size = v.width_px, v.height_px
        drift = -LARGEST_PPM <= v.drift_ppm <= LARGEST_PPM
        rules.append((drift, f"drift_ppm of {v.name!r}", v.drift_ppm, "in [-10000, 10000]"))
        sides = all(8 <= side <= 16384 for side in size)
        rules.append((sides, f"width and height of {v.name!r}", size, "8 to 16384 pixels"))
    for good, what, found, must in rules:
        if not good:
            raise DataError(f"{path}: {what} must be {must}, found {found!r}")


def _check_files(recording: Recording, path: Path) -> None:
    files = [t.file for t in recording.videos] + [t.file for t in recording.sensors]
    files += [t.file for t in recording.labels]
    named = [Path(text) for text in os.environ.get(LINKS, "").split(os.pathsep) if text]
    allowed = [folder.resolve() for folder in (recording.folder, *named)]
    for file in files:
        if ".." in Path(file).parts or Path(file).is_absolute():
            raise DataError(f"{path}: {file!r} points outside the recording")
        if not (recording.folder / file).is_file():
            raise DataError(f"{path}: names {file!r}, which is not there; was the copy cut short?")
        real = (recording.folder / file).resolve()
        if not any(real.is_relative_to(folder) for folder in allowed):
            raise DataError(
                f"{path}: {file!r} is a link to outside the recording; copy it there or, if you "
                f"made that link, name the folder that it leads to in {LINKS}"
            )
