"""Splits: parts stay apart, and the paper's random windows warn."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detach.config import SplitConfig
from detach.data.windows import Windows, split_windows
from detach.errors import DataError, UsageError

from .tiny import TINY, configured, edit, load, tiny  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def windows(tiny_dataset: Path) -> Windows:
    found: Windows = load(tiny_dataset)
    return found


def split(windows: Windows, **changes: Any) -> dict[str, Any]:
    return dict(split_windows(windows, tiny(), SplitConfig(**changes)))


def test_parts_of_the_data_set(windows: Windows) -> None:
    parts = split(windows)
    names = {part: set(windows.recording[index].tolist()) for part, index in parts.items()}
    assert names == {"pretrain": {0, 1}, "train": {0, 1}, "val": {2}, "test": {3}}
    assert windows.in_view[parts["pretrain"]].all()
    assert len(parts["train"]) == 78 > len(parts["pretrain"])


def test_empty_windows_may_stay(tiny_dataset: Path) -> None:
    everything = load(tiny_dataset, configured(windows={"skip_empty": False}), video=False)
    assert len(split(everything)["pretrain"]) == 78


def test_another_track_has_its_own_labelled_windows(windows: Windows) -> None:
    parts = split(windows, track="door")
    assert (windows.labels["door"][parts["train"]] >= 0).all()
    assert len(parts["train"]) == windows.in_view[:78].sum()
    with pytest.raises(UsageError, match="no label track 'mood'; there are activity, door"):
        split(windows, track="mood")


@pytest.mark.parametrize("by", ["run", "subject"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_runs_and_subjects_stay_apart(windows: Windows, by: Any, seed: int) -> None:
    parts = split(windows, by=by, pretrain=0.5, seed=seed)
    keys = np.asarray(windows.run if by == "run" else windows.subject)[windows.recording]
    used = {part: set(keys[index].tolist()) for part, index in parts.items()}
    assert used["train"] == used["pretrain"]
    assert not used["train"] & (used["val"] | used["test"])
    assert not used["val"] & used["test"]
    assert len(used["test"]) == 1
    assert len(used["val"]) == (1 if by == "run" else 0)
    again = split(windows, by=by, pretrain=0.5, seed=seed)
    assert all(np.array_equal(parts[p], again[p]) for p in parts)


def test_seeds_draw_different_runs(windows: Windows) -> None:
    tests = {tuple(split(windows, by="run", seed=seed)["test"]) for seed in range(8)}
    assert len(tests) > 1


def test_random_windows_warn_and_say_how_many_overlap(windows: Windows) -> None:
    parts = split(windows, by="random-window")
    assert abs(len(parts["train"]) - 25) <= 1
    assert abs(len(parts["test"]) - 3) <= 1
    joined = np.concatenate([parts[p] for p in ("pretrain", "train", "val", "test")])
    assert len(set(joined.tolist())) == len(joined)
    warning = [key for key in windows.counts if key.startswith("WARNING")]
    seen = np.union1d(parts["pretrain"], parts["train"])
    overlap = [
        (windows.recording[seen] == windows.recording[i])
        & (np.abs(windows.start_s[seen] - windows.start_s[i]) < 2)
        for i in parts["test"]
    ]
    assert windows.counts[warning[0]] == sum(o.any() for o in overlap) > 0


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("val", "test"), ("train", "val")])
def test_no_recording_trains_chooses_and_tests(windows: Windows, one: str, other: str) -> None:
    parts = dict(TINY["splits"])
    both = parts[other][0]
    parts[one] = (*parts[one], both)
    with pytest.raises(DataError, match=f"'{both}' is both in {one} and in {other}"):
        split_windows(windows, tiny(splits=parts), SplitConfig())


def test_one_run_cannot_be_split_by_run(data: Path) -> None:
    for name in ("r1", "r2", "r3"):
        shutil.rmtree(data / name)
    edit(data / "dataset.json", lambda raw: raw.update(splits={}))
    with pytest.raises(
        DataError, match=r"split.by=run needs at least 2 different ones, found run0"
    ):
        load(data, configured(split={"by": "run"}), video=False)
