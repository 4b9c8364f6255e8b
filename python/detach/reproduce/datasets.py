"""The data sets that rows are trained on; one that cannot be read does not hold up the others."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detach.data.recording import Dataset, read_dataset
from detach.data.sample import copy_sample
from detach.errors import DataError, DetachError

Say = Callable[[str], None]


@dataclass
class Found:
    """Data sets by the name that their runs and tables go by."""

    folders: dict[str, Path] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    bad: list[DetachError] = field(default_factory=list)
    """Why others cannot be used."""


def find(folders: Sequence[Path], out: Path, say: Say) -> Found:
    """Reads the descriptions of data sets; of none, that of the sample, copied into ``out``.

    Raises:
        DataError: Not a single one can be used.
        MachineError: There is no room for the sample, or it cannot be written.
    """
    found = Found()
    for folder in folders or (copy_sample(out),):
        try:
            dataset = _labelled(folder)
        except DataError as error:
            found.bad.append(error)
            continue
        name = folder_name(dataset)
        name = name if name not in found.folders else f"{name}-{len(found.folders) + 1}"
        found.folders[name], found.datasets[name] = folder, dataset
    if not found.folders:
        raise together(found.bad)
    for reason in found.bad:
        say(f"goes on without: {reason}")
    return found


def folder_name(dataset: Dataset) -> str:
    """What runs on a data set lie under."""
    return re.sub(r"[\W-]+", "-", dataset.name).strip("-") or "data"


def together(errors: Sequence[DetachError]) -> DetachError:
    """One error for all, of the first one's kind."""
    if len(errors) == 1:
        return errors[0]
    texts = dict.fromkeys(str(error) for error in errors)
    return type(errors[0])("; ".join(texts))


def _labelled(folder: Path) -> Dataset:
    dataset = read_dataset(folder)
    if not dataset.classes:
        raise DataError(
            f"{folder}: dataset.json names no label track (`classes`); every table tests what is "
            "recognised, so some recordings must be labelled"
        )
    return dataset
