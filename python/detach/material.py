"""What runs are made from: a data set cut into windows, and how many places it has."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.config import RunConfig
from detach.data.disturb import with_false_activations
from detach.data.recording import Dataset, read_dataset
from detach.data.splits import split_windows
from detach.data.windows import Windows, load_windows
from detach.errors import DataError
from detach.places import Stability, activity, choose, stability

Say = Callable[[str], None]


@dataclass(frozen=True)
class Material:
    """What a run is made from, loaded once for several seeds."""

    dataset: Dataset
    windows: Windows
    parts: dict[str, NDArray[np.int64]]
    track: str


def load_material(data: Path, config: RunConfig, say: Say) -> Material:
    """Reads a data set and cuts it.

    Raises:
        DataError: The data set lacks what the configuration asks for.
    """
    dataset = read_dataset(data)
    track = config.split.track or next(iter(dataset.classes), "")
    if track and track not in dataset.classes:
        raise DataError(
            f"{data}: there is no label track {track!r}; it has {', '.join(dataset.classes)}"
        )
    pictures = config.method != "supervised"
    windows = load_windows(dataset, config, progress=say, video=pictures)
    if pictures and not windows.pictures:
        raise DataError(
            f"{data}: no recording has a video, which --method {config.method} learns from; only "
            "--method supervised trains without"
        )
    parts = split_windows(windows, dataset, config.split)
    say(", ".join(f"{name} {len(index)}" for name, index in parts.items()) + " windows")
    return Material(dataset, windows, parts, track)


def trained_on(material: Material, config: RunConfig) -> NDArray[np.int64]:
    """The windows that the method learns from [n]."""
    return material.parts["train" if config.method == "supervised" else "pretrain"]


def as_trained_on(material: Material, config: RunConfig) -> Windows:
    """The windows with what ``config.augment`` does for good to those that are learned from."""
    windows, index = material.windows, trained_on(material, config)
    if config.augment.wrong_pictures:
        windows = windows.with_wrong_pictures(index, config.seed)
    rate = config.augment.false_per_min
    return with_false_activations(windows, index, rate, config.seed) if rate else windows


def count_places(
    material: Material, windows: Windows, config: RunConfig, say: Say
) -> tuple[int, tuple[Stability, ...]]:
    """K of ``windows`` as trained on, and the curve it was read from where it was looked for.

    Raises:
        DataError: Too few windows to look for it.
    """
    stage = config.stage1
    if stage.places == "given" or config.method not in {"detach", "infonce"}:
        return stage.clusters or _known_places(material), ()
    index = material.parts["pretrain"]
    try:
        found = stability(
            activity(windows.samples[index], config.encoders, config.seed), config.seed
        )
        chosen = choose(found)
    except ValueError as error:
        raise DataError(f"{material.dataset.folder}: places cannot be counted: {error}") from error
    said = ", ".join(f"{point.clusters}: {point.mean:.2f}" for point in found)
    say(f"{chosen} places, by how much two halves agree on each number of them ({said})")
    return chosen, tuple(found)


def _known_places(material: Material) -> int:
    """K when nobody says: the places that have a sensor, plus one for windows in which none moves.

    With K = 7 for seven objects the quiet windows shared a cluster with one of them (NMI 0.88).
    """
    noted = material.dataset.notes.get("places")
    if isinstance(noted, int) and noted >= 1:
        return noted + 1
    return max(2, len({c.place for c in material.windows.channels if c.place}) + 1)


def digest(dataset: Dataset) -> str:
    """Of what a data set holds: its parts, classes and recordings, wherever it lies.

    Raises:
        DataError: A recording is damaged.
    """
    recordings = [
        (r.name, r.duration_s, [(t.name, t.hz) for t in r.sensors], [t.name for t in r.labels])
        for r in dataset.recordings()
    ]
    facts = (dict(dataset.classes), dict(dataset.splits), recordings)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
