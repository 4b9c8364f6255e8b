"""Runs of `detach reproduce` that several tests look at."""

import shutil
from dataclasses import replace
from pathlib import Path

from detach.reproduce import Options, reproduce

RECIPE = """
split: {by: dataset}
video: {size_px: 32, frames: 6}
encoders: {width: 16, video_scale: 0.125, sensor_scale: 0.125, motion_size_px: 16}
stage1: {epochs: 3, warmup_epochs: 1, joint_epochs: 1, batch_size: 32, clusters: 4,
         learning_rate: 0.001, video_gate: 0.0}
stage2: {epochs: 2, batch_size: 32, learning_rate: 0.001}
supervised: {epochs: 2, least_steps: 1, batch_size: 32}
comodo: {hidden: 32, output: 16}
cav_mae: {depth: 1}
"""


def make_homely(source: Path, folder: Path) -> Path:
    """The tiny data with its doors as a track of places."""
    shutil.copytree(source, folder)
    for path in (folder / "dataset.json", *folder.glob("r*/recording.json")):
        path.write_text(path.read_text().replace('"door"', '"place"'))
    for path in folder.glob("r*/labels/door.csv"):
        path.rename(path.with_name("place.csv"))
    return folder


def finish(out: Path, homely: Path, recipe: str) -> Path:
    """Tables 2 and 7, and the figures that need the method and one rival."""
    asked = options(out, homely, recipe, tables=(2, 7), figures=(4, 5, 6, 8, 10))
    reproduce(asked, quiet)
    return out


def options(out: Path, data: Path, recipe: str, **changes: object) -> Options:
    usual = Options(out=out, data=(data,), config=recipe, seeds=1)
    return replace(usual, **changes)  # type: ignore[arg-type]


def say_made_of(runs: Path, was: Path, now: Path) -> None:
    """Makes runs name other data than they were trained on."""
    for config in runs.rglob("config.yaml"):
        config.write_text(config.read_text().replace(str(was), str(now)))


def quiet(_: str) -> None:
    pass
