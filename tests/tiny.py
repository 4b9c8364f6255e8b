"""Handles on the tiny data set of conftest.py that several tests of `detach.data` share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detach.config import RunConfig, override
from detach.data.recording import Dataset, read_dataset
from detach.data.windows import Windows, load_windows

CONFIG = override(RunConfig(), {"video": {"size_px": 32}})
ACTIVITIES = ("idle", "open left", "open middle", "open right")
TINY: dict[str, Any] = {
    "folder": Path("tiny"),
    "name": "tiny",
    "classes": {"activity": ACTIVITIES},
    "splits": {"pretrain": ("r0", "r1"), "train": ("r0", "r1"), "val": ("r2",), "test": ("r3",)},
}


def load(folder: Path, config: RunConfig = CONFIG, **options: Any) -> Windows:
    """Its windows, pictures of 32 px."""
    return load_windows(read_dataset(folder), config, **options)


def configured(**changes: Any) -> RunConfig:
    """`CONFIG` with changes."""
    return override(CONFIG, changes)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a JSON file."""
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def tiny(**changes: Any) -> Dataset:
    """Its description, with changes; nothing is on disk."""
    return Dataset(**(TINY | changes))
