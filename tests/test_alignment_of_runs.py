"""Which recordings a finished run is asked of: none that its encoders have seen."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from detach import recipes
from detach.alignment.of_runs import clips_of_run
from detach.config import override, preset
from detach.data.recording import read_dataset
from detach.data.windows import load_windows
from detach.errors import DataError, UsageError
from detach.model import build, save_run

SMALL: dict[str, Any] = {
    "method": "global",
    "encoders": {"width": 16, "video_scale": 0.125, "sensor_scale": 0.125},
}


def run_on(data: Path, folder: Path, by: str) -> Path:
    """A run folder as training leaves it, of a network as it was drawn."""
    config = override(preset("recommended"), SMALL)
    windows = load_windows(read_dataset(data), config, names=("run01",), video=False)
    network = build(config, windows.samples.shape[2], 4)
    about = {"data": str(data), "classes": ["a", "b"], "clusters": 4}
    folder.mkdir()
    config = override(config, {"split": {"by": by}})
    save_run(folder, config, network, windows.stats, about)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The sample, whose parts may be named anew."""
    shutil.copytree(recipes.models_folder() / "sample", tmp_path / "sample")
    return tmp_path / "sample"


def name_parts(data: Path, **parts: list[str]) -> None:
    path = data / "dataset.json"
    whole = json.loads(path.read_text())
    whole["splits"] |= parts
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize("by", ["run", "subject", "random-window"])
def test_a_run_that_drew_its_own_parts_is_refused(data: Path, tmp_path: Path, by: str) -> None:
    run = run_on(data, tmp_path / "run", by)
    with pytest.raises(UsageError, match=f"split.by must be dataset, got {by}"):
        clips_of_run(run)


@pytest.mark.parametrize("count", [0, -1])
def test_no_recordings_are_no_fault_of_the_data(data: Path, tmp_path: Path, count: int) -> None:
    run = run_on(data, tmp_path / "run", "dataset")
    with pytest.raises(UsageError, match=rf"recordings must be >= 1, .* got {count}"):
        clips_of_run(run, recordings=count)


def test_no_recording_is_asked_that_the_encoders_have_seen(data: Path, tmp_path: Path) -> None:
    run = run_on(data, tmp_path / "run", "dataset")
    said: list[str] = []
    test = list(read_dataset(data).splits["test"])
    name_parts(data, pretrain=["run01", test[0]], train=["run01"], test=[test[0], "run02"])
    found = clips_of_run(run, said.append, recordings=2)
    assert said == ["windows every 0.2 s of run01, run02"]
    assert all(train and asked for train, asked in found.values())
    name_parts(data, test=[test[0]])
    with pytest.raises(DataError, match="not in pretrain, found 1 and 0"):
        clips_of_run(run)
