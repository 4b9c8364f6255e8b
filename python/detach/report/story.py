"""What run folders tell: configuration, environment, training log and results."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detach.config import RunConfig
from detach.errors import DataError
from detach.model import CONFIG_FILE, ENV_FILE, METRICS_FILE, load_config
from detach.report.figures import Curve
from detach.results import RESULTS_FILE, Results, read_results

SHOWN = {"channels": list, "windows": dict, "counts": dict, "notes": dict}
"""What the page tells of the data, from ``about`` of the configuration."""


@dataclass(frozen=True)
class Story:
    """One run folder."""

    folder: Path
    config: RunConfig
    about: dict[str, Any]
    env: dict[str, Any]
    epochs: tuple[dict[str, Any], ...]
    """Lines of metrics.jsonl with losses."""
    warnings: tuple[dict[str, Any], ...]
    results: Results | None

    @property
    def method(self) -> str:
        """What it is called beside others."""
        return self.results.method if self.results else self.config.method


def read_story(folder: Path) -> Story:
    """Reads a run folder; what is optional may be missing.

    Raises:
        DataError: A file is damaged, or does not say what the page tells.
    """
    config, about = load_config(folder)
    _check_about(folder / CONFIG_FILE, about)
    rows = list(_json_lines(folder / METRICS_FILE))
    results = read_results(folder) if (folder / RESULTS_FILE).is_file() else None
    env = _json(folder / ENV_FILE) if (folder / ENV_FILE).is_file() else {}
    epochs = tuple(row for row in rows if "losses" in row)
    return Story(
        folder, config, about, env, epochs, tuple(r for r in rows if "warning" in r), results
    )


def _check_about(path: Path, about: Mapping[str, Any]) -> None:
    for key, kind in SHOWN.items():
        if not isinstance(about.get(key), kind):
            raise DataError(
                f"{path}: about.{key} must be a {'list' if kind is list else 'mapping'}, found "
                f"{about.get(key)!r}; was the file cut short? Restore it, or train the run again"
            )
    for part, count in about["windows"].items():
        if not isinstance(count, int):
            raise DataError(
                f"{path}: about.windows.{part} must be a whole number, found {count!r}; restore "
                "the file, or train the run again"
            )


def loss_panels(stories: Sequence[Story]) -> dict[str, list[Curve]]:
    """Curves of every loss, keyed by stage and loss."""
    panels: dict[str, list[Curve]] = {}
    for story in stories:
        found: dict[str, list[tuple[int, float]]] = {}
        for row in story.epochs:
            for loss, value in row["losses"].items():
                found.setdefault(f"{row['stage']} {loss}", []).append((row["epoch"], value))
        for key, points in found.items():
            epochs, values = np.array(points, dtype=float).T
            panels.setdefault(key, []).append((story.method, epochs, values))
    return panels


def change_curves(stories: Sequence[Story]) -> list[Curve]:
    """Share of pseudo-labels changed by epoch, where a run has a first stage."""
    curves = []
    for story in stories:
        points = [(r["epoch"], r["change_rate"]) for r in story.epochs if "change_rate" in r]
        if points:
            epochs, values = np.array(points, dtype=float).T
            curves.append((story.method, epochs, values))
    return curves


def stage1_elsewhere(stories: Sequence[Story]) -> list[str]:
    """Of which runs stage 1 stands in another run, and in which."""
    found: dict[str, list[str]] = {}
    for story in stories:
        if source := story.about.get("stage1_from"):
            found.setdefault(story.method, []).append(str(source))
    return [
        f"{method} took its stage 1 from {', '.join(dict.fromkeys(names))} (--stage1-from), whose "
        f"{METRICS_FILE} tells how pseudo-labels changed there."
        for method, names in found.items()
    ]


def phases(story: Story) -> list[tuple[str, int, int]]:
    """(phase, first epoch, last epoch) of the first stage, in order."""
    found: dict[str, list[int]] = {}
    for row in story.epochs:
        if "phase" in row:
            found.setdefault(str(row["phase"]), []).append(int(row["epoch"]))
    return [(name, min(epochs), max(epochs)) for name, epochs in found.items()]


def sizes(story: Story) -> tuple[Any, Any] | None:
    """Epochs [n] and cluster sizes [n, K] of the first stage.

    Raises:
        DataError: K is not the same in all epochs.
    """
    rows = [r for r in story.epochs if "clusters_size" in r]
    if not rows:
        return None
    if len(counts := {len(r["clusters_size"]) for r in rows}) > 1:
        found = ", ".join(str(n) for n in sorted(counts))
        raise DataError(
            f"{story.folder / METRICS_FILE}: clusters_size must have as many entries in every "
            f"epoch, found {found}"
        )
    return np.array([r["epoch"] for r in rows]), np.array([r["clusters_size"] for r in rows])


def warnings(stories: Sequence[Story]) -> list[dict[str, Any]]:
    """Distinct warnings with the runs that raised them, and the remedy told apart."""
    found: dict[str, dict[str, Any]] = {}
    for story in stories:
        for row in story.warnings:
            text = str(row["warning"])
            sign = text.partition(":")[0]
            entry = found.setdefault(
                f"{story.method} {sign}", {"sign": sign, "runs": [], "text": text}
            )
            entry["runs"].append(f"seed {story.config.seed}, {row['stage']} epoch {row['epoch']}")
            entry["method"] = story.method
    for entry in found.values():
        body = entry["text"].partition(":")[2].strip() or entry["text"]
        cut = body.find(". ")
        entry["what"] = body[: cut + 1] if cut > 0 else body
        entry["remedy"] = body[cut + 2 :] if cut > 0 else ""
    return list(found.values())


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    for number, line in enumerate(whole.splitlines(), start=1):  # what was cut off is left out
        yield _json_line(path, number, line)


def _json_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = dict(json.loads(line))
        if "losses" in row or "warning" in row:
            _check(row)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise DataError.at(path, number, f"not a JSON object of an epoch: {error}") from error
    return row


def _check(row: dict[str, Any]) -> None:
    """What is drawn of an epoch.

    Raises:
        AttributeError, KeyError, TypeError or ValueError: It cannot be.
    """
    if not isinstance(row["stage"], str) or not isinstance(row["epoch"], int):
        raise TypeError(f"stage {row['stage']!r}, epoch {row['epoch']!r}")
    sizes, rate = row.get("clusters_size", []), row.get("change_rate", 0.0)
    numbers = [rate, *sizes, *row.get("losses", {}).values()]
    if odd := [n for n in numbers if not isinstance(n, int | float)]:
        raise TypeError(f"{odd[0]!r} is no number")
    if not math.isfinite(rate):
        raise ValueError(f"change_rate is {rate}")
