"""Runs of `detach reproduce` that several tests look at."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from detach.reproduce import Options, reproduce

RECIPE = """
split: {by: dataset}
video: {size_px: 32, frames: 6}
encoders: {width: 16, video_scale: 0.125, sensor_scale: 0.125, motion_size_px: 16}
stage1: {epochs: 3, warmup_epochs: 1, joint_epochs: 1, batch_size: 32, clusters: 4,
         learning_rate: 0.001, video_gate: 0.0}
stage2: {epochs: 2, batch_size: 32, learning_rate: 0.001}
supervised: {epochs: 2, batch_size: 32}
comodo: {hidden: 32, output: 16}
cav_mae: {depth: 1}
"""


@pytest.fixture(scope="module", name="recipe")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="module", name="homely")
def homely_data(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with its doors as a track of places."""
    folder = tmp_path_factory.mktemp("homely") / "data"
    shutil.copytree(tiny_dataset, folder)
    for path in (folder / "dataset.json", *folder.glob("r*/recording.json")):
        path.write_text(path.read_text().replace('"door"', '"place"'))
    for path in folder.glob("r*/labels/door.csv"):
        path.rename(path.with_name("place.csv"))
    return folder


def options(out: Path, data: Path, recipe: str, **changes: object) -> Options:
    usual = Options(out=out, data=(data,), config=recipe, seeds=1)
    return replace(usual, **changes)  # type: ignore[arg-type]


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module", name="finished")
def finished_tables(homely: Path, recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables 2 and 7, and the figures that need the method and one rival."""
    out = tmp_path_factory.mktemp("finished")
    asked = options(out, homely, recipe, tables=(2, 7), figures=(4, 5, 6, 8, 10))
    reproduce(asked, quiet)
    return out
