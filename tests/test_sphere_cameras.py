"""Which camera is which, from evidence alone.

``DETACH_SPHERE=<folder or archive> pytest -m slow tests/test_sphere_cameras.py`` checks the
decision on the real labelled runs, whole and in pieces as short as the unlabelled sequences. Each
run is judged by a model that has not seen it. Which runs are exchanged and which wrists turned is
known there from room labels and from the mean of y over half an hour.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detach.data.sphere_archive import unpacked
from detach.data.sphere_cameras import (
    CameraModel,
    Exchange,
    decide_exchange,
    learn_cameras,
    motion_votes,
)
from detach.data.sphere_files import Measured, find_sequences, read_measured
from detach.data.sphere_recording import wrist_turn

from .sphere_folder import write_sphere_folder  # type: ignore[import-not-found]

EXCHANGED = {"run00007", "run00008"}
TURNED = {"run00001", "run00003", "run00004"}


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    source = write_sphere_folder(tmp_path_factory.mktemp("sphere"))
    return {e.name: read_measured(e) for e in find_sequences(source).entries}


@pytest.fixture(scope="module")
def model(sequences: dict[str, Measured]) -> CameraModel:
    return learn_cameras({n: m for n, m in sequences.items() if n.startswith("run")})


def test_a_run_that_its_motion_contradicts_is_not_learned_from(
    sequences: dict[str, Measured], model: CameraModel
) -> None:
    assert set(motion_votes(sequences["run00001"])) == {-1}
    assert set(motion_votes(sequences["run00007"])) == {1}
    assert model.references == ("run00001",)
    assert not model.without("run00001").learned


def test_boxes_alone_decide_where_no_sensor_fires(
    sequences: dict[str, Measured], model: CameraModel
) -> None:
    decided = decide_exchange(sequences["seq00015"], model)
    assert decided.motion_s == 0
    assert decided.exchanged
    assert not decided.unsure


def test_motion_alone_decides_without_a_model(sequences: dict[str, Measured]) -> None:
    nothing = learn_cameras({})
    assert decide_exchange(sequences["seq00012"], nothing).exchanged
    assert not decide_exchange(sequences["seq00011"], nothing).exchanged
    blind = decide_exchange(sequences["seq00015"], nothing)
    assert blind.probability == 0.5
    assert blind.unsure


def test_exchanging_the_files_turns_the_probability_round(
    sequences: dict[str, Measured], model: CameraModel
) -> None:
    there, back = (decide_exchange(sequences[n], model) for n in ("seq00011", "seq00012"))
    assert there.probability < 0.05
    assert there.probability == pytest.approx(1 - back.probability, abs=1e-9)


def test_thin_evidence_is_unsure() -> None:
    assert Exchange(True, 0.8, 5, 0).unsure
    assert not Exchange(True, 0.99, 5, 0).unsure
    assert not Exchange(False, 0.5, 0, 0).unsure
    assert not Exchange(True, 0.8, 5, 0, decided_by="option").unsure


def pieces(run: Measured, rng: np.random.Generator) -> Iterator[Measured]:
    """A run cut into pieces of 10 to 30 s, like the unlabelled sequences."""
    start = 0.0
    while start < run.duration_s:
        end = start + float(rng.uniform(10, 30))
        motion = {
            room: np.clip(on[(on[:, 1] > start) & (on[:, 0] < end)], start, end) - start
            for room, on in run.motion.items()
        }
        boxes = {camera: cut(rows, start, end) for camera, rows in run.boxes.items()}
        yield Measured(end - start, boxes, motion, cut(run.wrist, start, end))
        start = end


def cut(rows: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    inside = rows[(rows[:, 0] >= start) & (rows[:, 0] < end)].copy()
    inside[:, 0] -= start
    return inside


@pytest.fixture(scope="module")
def real_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    if "DETACH_SPHERE" not in os.environ:
        pytest.skip("DETACH_SPHERE names no data")
    folder = tmp_path_factory.mktemp("real")
    with unpacked(Path(os.environ["DETACH_SPHERE"]), folder / "x") as source:
        entries = [e for e in find_sequences(source).entries if e.labelled]
        return {e.name: read_measured(e) for e in entries}


@pytest.mark.slow
def test_real_runs_are_decided_rightly(
    real_runs: dict[str, Measured], capsys: pytest.CaptureFixture[str]
) -> None:
    model = learn_cameras(real_runs)
    assert set(model.references) == set(real_runs) - EXCHANGED
    found = Counter[str]()
    rng = np.random.default_rng(0)
    for name, run in real_runs.items():
        own = model.without(name)
        assert decide_exchange(run, own).exchanged == (name in EXCHANGED)
        assert wrist_turn(run.wrist)["flipped"] == (name in TURNED)
        for piece in pieces(run, rng):
            decided = decide_exchange(piece, own)
            right = decided.exchanged == (name in EXCHANGED)
            found.update({"pieces": decided.looks > 0, "right": decided.looks > 0 and right})
            sure = decided.looks > 0 and not decided.unsure
            found.update({"sure": sure, "sure and right": sure and right})
            turned = wrist_turn(piece.wrist)["flipped"] == (name in TURNED)
            worn = len(piece.wrist) > 0
            found.update({"wrists": worn, "wrists right": worn and turned})
    with capsys.disabled():
        sys.stdout.write(f"\n{dict(found)}\n")
    assert found["right"] > 0.97 * found["pieces"], found
    assert found["sure and right"] > 0.985 * found["sure"], found
    assert found["sure"] > 0.85 * found["pieces"], found
    assert found["wrists right"] > 0.93 * found["wrists"], found
