"""Handles on the tiny data set of conftest.py that several tests of `detach.data` share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detach.config import Preset, RunConfig, override, preset
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

SMALL: dict[str, Any] = {
    "threads": 1,
    "video": {"size_px": 32, "frames": 6},
    "encoders": {"width": 16, "video_scale": 0.125, "sensor_scale": 0.125, "motion_size_px": 16},
    "stage1": {
        "epochs": 4,
        "warmup_epochs": 1,
        "joint_epochs": 1,
        "batch_size": 32,
        "clusters": 4,
        "learning_rate": 1e-3,
        "video_gate": 0.0,
    },
    "stage2": {"epochs": 2, "batch_size": 32, "learning_rate": 1e-3},
    "supervised": {"epochs": 3, "least_steps": 1, "batch_size": 32},
    "split": {"by": "dataset"},
}
"""Options of training that are done in a second."""


def small(name: Preset = "recommended", **changes: Any) -> RunConfig:
    """A preset in that size, with changes."""
    return override(override(preset(name), SMALL), changes)


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
