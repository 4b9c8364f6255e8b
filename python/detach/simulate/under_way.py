"""A home that is being simulated: its finished runs outlast an interruption, and are taken up."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detach.data.recording import RECORDING_FILE
from detach.data.store import write_json
from detach.errors import UsageError
from detach.recipes import models_folder

PLAN_FILE = "plan.json"


def part_of(out: Path) -> Path:
    """The hidden folder beside ``out`` that becomes it."""
    return out.parent / f".{out.name}.part"


def finished(part: Path) -> set[str]:
    """Names of the recordings that are whole."""
    return {path.parent.name for path in part.glob(f"[!.]*/{RECORDING_FILE}")}


@contextlib.contextmanager
def under_way(out: Path, plan: Mapping[str, Any]) -> Iterator[Path]:
    """The folder to write recordings to, with those that an earlier try of the same plan finished.

    It becomes ``out`` when the block ends well. Otherwise it stays if anything in it is finished.

    Args:
        out: Folder to make; must not exist.
        plan: All that the recordings follow from, besides this package's code and recipes.

    Raises:
        UsageError: Another process is at it.
        OSError: It cannot be written.
    """
    part = part_of(out)
    part.mkdir(parents=True, exist_ok=True)
    with _held(part, out):
        _take_up(part, json.loads(json.dumps({**plan, "code": _digest()})))
        try:
            yield part
            (part / PLAN_FILE).unlink()
            part.replace(out)
        finally:
            if part.is_dir() and not finished(part):
                shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _held(part: Path, out: Path) -> Iterator[None]:
    folder = os.open(part, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every network file system has locks
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{out}: another process is simulating it; wait, or give another folder"
                ) from None
        yield
    finally:
        os.close(folder)


def _take_up(part: Path, plan: Mapping[str, Any]) -> None:
    """Leaves what was finished by the same plan, and nothing else."""
    try:
        same = json.loads((part / PLAN_FILE).read_text(encoding="utf-8")) == plan
    except (OSError, ValueError):
        same = False
    kept = finished(part) if same else set()
    for path in part.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            shutil.rmtree(path)
        elif not path.is_dir() or path.is_symlink():
            path.unlink()
    write_json(part / PLAN_FILE, plan)


def _digest() -> str:
    """Of the simulator's code and recipes: another version makes another home of the same seed."""
    made = hashlib.sha256()
    files = [*Path(__file__).parent.glob("*.py"), *(models_folder() / "simulate").glob("*.yaml")]
    for path in sorted(files):
        made.update(path.read_bytes())
    return made.hexdigest()[:16]
