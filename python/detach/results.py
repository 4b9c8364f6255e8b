"""results.json: what an evaluation found, whole enough to compare runs without their models.

Every answer keeps its class probabilities for every test item, so that intervals, differences and
figures over any set of runs are computed afterwards, from these files alone. No torch.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from detach.data.recording import write_json
from detach.errors import DataError
from detach.scores import Blocks, Floats, Ints, cut_blocks

RESULTS_SCHEMA = 1
RESULTS_FILE = "results.json"

Kind = Literal["method", "reference"]
Protocol = Literal["split", "leave-one-run-out"]

UNTRAINED = "untrained encoder"
RAW = "raw statistics + probe"
CLOCK = "clock only"
MAJORITY = "majority class"


@dataclass(frozen=True)
class Answer:
    """What one method or reference said of every test item."""

    name: str
    kind: Kind
    probability: Floats
    """[n, L]"""
    c: float | None = None
    """Penalty of its probe; None where it has none, or one for each fold."""
    seed: int | None = None
    """None where chance plays no part."""


@dataclass(frozen=True)
class Task:
    """One label track, tested one way."""

    track: str
    classes: tuple[str, ...]
    protocol: Protocol
    unit: str
    """``windows`` or ``sequences``"""
    recordings: tuple[str, ...]
    recording: Ints
    """[n], into ``recordings``"""
    start_s: Floats
    """[n]"""
    index: Ints
    """[n], the window (the first of a sequence)"""
    truth: Ints
    """[n]"""
    answers: tuple[Answer, ...]
    train_items: int
    notes: tuple[str, ...] = ()

    @property
    def blocks(self) -> Blocks:
        """What the bootstrap draws."""
        return cut_blocks(self.recording, self.start_s)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without a test item."""
        seen = set(self.truth.tolist())
        return tuple(name for i, name in enumerate(self.classes) if i not in seen)


@dataclass(frozen=True)
class Retrieval:
    """Ranks of the true partner among all test windows, both ways; 0 is best."""

    name: str
    kind: Kind
    recording: Ints
    start_s: Floats
    video_to_sensor: Ints
    """[n]"""
    sensor_to_video: Ints
    """[n]"""
    seed: int | None = None

    @property
    def pool(self) -> int:
        """Number of candidates."""
        return len(self.video_to_sensor)


Named = TypeVar("Named", Answer, Retrieval)


@dataclass(frozen=True)
class Places:
    """Clusters against a track that says where things happen."""

    track: str
    names: tuple[str, ...]
    counts: Ints
    """[K, places], test windows"""
    nmi: float


@dataclass(frozen=True)
class Results:
    """What is known of one run."""

    method: str
    preset: str
    seed: int
    dataset: str
    options: Mapping[str, Any]
    """What differs from the preset, as ``stage2.temperature``: 0.2."""
    model: str
    """SHA-256 of the weights these numbers belong to."""
    parts: Mapping[str, int]
    """Windows of each part."""
    channels: tuple[str, ...]
    counts: Mapping[str, int]
    """What was dropped, merged and masked when windows were cut."""
    notes: Mapping[str, Any]
    tasks: tuple[Task, ...] = ()
    retrieval: tuple[Retrieval, ...] = ()
    places: tuple[Places, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All it was run with, by the same names, for presets change; empty in results of before."""

    def merged(self, older: "Results | None") -> "Results":
        """With the tasks of an earlier evaluation of the same weights that this one left alone.

        What was tested first stays first: that is the track of the run itself.
        """
        if older is None or older.model != self.model:
            return self
        known = {(t.track, t.protocol): t for t in (*older.tasks, *self.tasks)}
        return replace(self, tasks=tuple(known.values()))


def label_runs(results: Sequence[Results]) -> tuple[Results, ...]:
    """The same with methods named so that only seeds share a name.

    Where a method was run more than one way, its preset and the options in which the ways differ
    are added to the name.
    """
    names = [_label(run, [r for r in results if r.method == run.method]) for run in results]
    return tuple(renamed(run, name) for run, name in zip(results, names, strict=True))


def _label(run: Results, same: Sequence[Results]) -> str:
    presets = {r.preset for r in same}
    keys = {key for r in same for key in r.options} - {"checkpoints"}
    known = all(r.settings for r in same)
    if known and len(presets) == 1:
        keys |= {key for r in same for key in r.settings}

    def value(of: Results, key: str) -> Any:
        return of.settings.get(key) if known else of.options.get(key)

    differ = [k for k in sorted(keys) if len({repr(value(r, k)) for r in same}) > 1]
    named = [run.preset] if len(presets) > 1 else []
    return ", ".join([run.method, *named, *(f"{k}={value(run, k)}" for k in differ)])


def renamed(run: Results, name: str) -> Results:
    """The same under another name of its method."""
    tasks = tuple(replace(t, answers=tuple(_named(a, name) for a in t.answers)) for t in run.tasks)
    retrieval = tuple(_named(r, name) for r in run.retrieval)
    return replace(run, method=name, tasks=tasks, retrieval=retrieval)


def _named(row: Named, name: str) -> Named:
    return replace(row, name=name) if row.kind == "method" else row


def write_results(folder: Path, results: Results) -> Path:
    """Writes results.json into a run folder, whole or not at all."""
    path = folder / RESULTS_FILE
    write_json(path, {"schema": RESULTS_SCHEMA, **_plain(asdict(results))})
    return path


def read_results(folder: Path) -> Results:
    """Reads results.json of a run folder.

    Raises:
        DataError: There is none, or it is damaged or of another schema.
    """
    path = folder / RESULTS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there; run `detach evaluate {folder}` first") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    found = raw.get("schema") if isinstance(raw, dict) else None
    if found != RESULTS_SCHEMA:
        raise DataError(
            f"{path}: schema must be {RESULTS_SCHEMA}, found {found!r}; evaluate the run again"
        )
    try:
        results = _results(raw)
        _check(results)
    except (AttributeError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise DataError(
            f"{path}: missing or malformed entry: {error}; evaluate the run again"
        ) from error
    return results


def _check(results: Results) -> None:
    """What the reader relies on.

    Raises:
        ValueError: An array is not as long as the others, or a class that is not listed.
    """
    for task in results.tasks:
        n, labels = len(task.truth), len(task.classes)
        if not len(task.recording) == len(task.start_s) == len(task.index) == n:
            raise ValueError(f"track {task.track!r}: arrays of different lengths")
        if n and not 0 <= task.truth.min() <= task.truth.max() < labels:
            raise ValueError(f"track {task.track!r}: a label beyond its {labels} classes")
        if odd := [a.name for a in task.answers if a.probability.shape != (n, labels)]:
            raise ValueError(f"track {task.track!r}: {odd[0]} must have {n} x {labels} numbers")


def _results(raw: dict[str, Any]) -> Results:
    if not isinstance(raw["method"], str) or not isinstance(raw["seed"], int):
        raise TypeError(f"method {raw['method']!r} and seed {raw['seed']!r}")
    tasks = []
    for body in raw["tasks"]:
        answers = tuple(_revive(Answer, row, ("probability",)) for row in body["answers"])
        arrays = ("recording", "start_s", "index", "truth")
        tasks.append(_revive(Task, {**body, "answers": answers}, arrays))
    arrays = ("recording", "start_s", "video_to_sensor", "sensor_to_video")
    retrieval = tuple(_revive(Retrieval, row, arrays) for row in raw["retrieval"])
    places = tuple(_revive(Places, row, ("counts",)) for row in raw["places"])
    body = {k: v for k, v in raw.items() if k != "schema"}
    body.update(tasks=tuple(tasks), retrieval=retrieval, places=places)
    return _revive(Results, body, ())  # type: ignore[no-any-return]


def _revive(kind: Any, row: dict[str, Any], arrays: tuple[str, ...]) -> Any:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    for name in arrays:
        values[name] = _unpack(row[name])
    return kind(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _pack(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _pack(array: NDArray[Any]) -> dict[str, Any]:
    """Integers as int32 and the rest as float32, deflated: a thousand windows take kilobytes."""
    kind = "int32" if np.issubdtype(array.dtype, np.integer) else "float32"
    body = zlib.compress(np.ascontiguousarray(array, dtype=f"<{kind[0]}4").tobytes(), 6)
    return {"dtype": kind, "shape": list(array.shape), "zlib": base64.b64encode(body).decode()}


def _unpack(body: dict[str, Any]) -> NDArray[Any]:
    kind = {"int32": "<i4", "float32": "<f4"}[body["dtype"]]
    raw = zlib.decompress(base64.b64decode(body["zlib"]))
    wide = np.int64 if body["dtype"] == "int32" else np.float64
    return np.frombuffer(raw, dtype=kind).reshape(body["shape"]).astype(wide)
