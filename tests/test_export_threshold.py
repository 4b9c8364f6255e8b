"""Below which confidence a bundle says "unknown", and on what that was chosen."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from detach.errors import UsageError
from detach.export import export, parity, threshold
from detach.export.describe import Plan
from detach.export.graphs import SensorGraph
from detach.export.threshold import FEWEST, LOWEST, Choice, choose, thresholds
from detach.export.windows import Material, read_material
from detach.model import Run
from detach.probe import Head, LinearProbe, fit_probe, softmax

from .export_runs import CLASSES, exported  # type: ignore[import-not-found]

QUIET = np.array([True, False, False])


def answers(*rows: tuple[int, int, float, int]) -> tuple[np.ndarray, np.ndarray]:
    """(class said, class in truth, confidence, how often) as probabilities and truth."""
    probabilities, truth = [], []
    for said, true, confidence, count in rows:
        row = np.full(3, (1 - confidence) / 2)
        row[said] = confidence
        probabilities += [row] * count
        truth += [true] * count
    return np.array(probabilities), np.array(truth)


def test_the_lowest_confidence_at_which_enough_is_right() -> None:
    rows = answers((1, 1, 0.955, 60), (2, 1, 0.605, 10), (2, 2, 0.605, 30))
    assert choose(*rows, QUIET, 0.9) == Choice(0.5, 0.9, 0.9)
    assert choose(*rows, QUIET, 0.95) == Choice(0.61, 1.0, 0.6)


def test_what_is_no_event_is_no_answer_but_an_answer_to_it_is_wrong() -> None:
    idle_said = answers((1, 1, 0.9, 50), (0, 1, 0.9, 50))
    assert choose(*idle_said, QUIET, 1.0) == Choice(0.5, 1.0, 0.5)
    idle_true = answers((1, 1, 0.9, 50), (1, 0, 0.7, 50))
    assert choose(*idle_true, QUIET, 1.0) == Choice(0.71, 1.0, 1.0)


@pytest.mark.parametrize(
    "rows",
    [
        answers((1, 2, 0.9, 100)),
        answers((1, 1, 0.9, FEWEST - 1)),
        answers((1, 1, 0.4, 100)),  # never below `LOWEST`, however right
        answers((1, 1, 0.98, FEWEST - 1), (1, 2, 0.97, 100)),
    ],
)
def test_nothing_is_chosen_on_too_little(rows: tuple[np.ndarray, np.ndarray]) -> None:
    assert choose(*rows, QUIET, 0.95) is None


def drawn(data: Path) -> tuple[Run, Plan, Material, np.ndarray]:
    """The drawn encoder with a head fitted on the training part, and features of all windows."""
    made = exported(data, "recommended")
    blank = Head(
        np.zeros((4, 11), np.float32), np.zeros(4, np.float32), "activity", CLASSES, "", ()
    )
    material = read_material(made.run, None, head=blank, video=False, say=lambda _: None)
    graph = SensorGraph(made.run.model, ("embedding",)).eval()
    every = np.arange(len(material.windows))
    features = parity.run_torch(graph, material.inputs("sensor", every))["embedding"]
    train = np.flatnonzero(material.windows.recording <= 1)
    probe = fit_probe((features[train], truth_of(material)[train]), None, len(CLASSES))
    head = dataclasses.replace(blank, weight=probe.weight, bias=probe.bias, rows=(0, 1, 2, 3))
    sensor = SensorGraph(made.run.model, ("places", "logits"), head=head).eval()
    plan = Plan(made.run, "0" * 64, head, CLASSES, "activity", {"sensor": sensor})
    return made.run, plan, material, features


def truth_of(material: Material) -> np.ndarray:
    return np.asarray(material.windows.labels["activity"]).astype(np.int64)


def test_it_is_chosen_on_the_validation_part_alone(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threshold, "FEWEST", 3)
    _, plan, material, features = drawn(tiny_dataset)
    assert plan.head is not None
    found, said = thresholds(plan, material, 0.6)
    index = np.flatnonzero((material.windows.recording == 2) & (truth_of(material) >= 0))
    assert found.basis is not None
    assert (found.basis.windows, found.basis.recordings) == (len(index), 1)
    probe = LinearProbe(plan.head.weight, plan.head.bias, 1.0)
    p = probe.probabilities(features[index])
    told = (p.argmax(1) > 0) & (p.max(1) >= found.confidence)
    right = (p.argmax(1) == truth_of(material)[index])[told].mean()
    assert found.basis.right == pytest.approx(right, abs=1e-4)
    assert right >= found.basis.least_right == 0.6
    assert f"confidence {found.confidence:g}: on {len(index)} labelled windows" in said


def test_it_stays_where_nothing_can_be_said(tiny_dataset: Path) -> None:
    _, plan, material, _ = drawn(tiny_dataset)
    unreachable, said = thresholds(plan, material, 1.0)
    assert (unreachable.confidence, unreachable.basis) == (LOWEST, None)
    assert "confidence stays 0.5" in said
    assert plan.head is not None
    other = dataclasses.replace(plan.head, classes=("a", "b", "c", "d"))
    for one in (dataclasses.replace(plan, head=None), dataclasses.replace(plan, head=other)):
        found, said = thresholds(one, material, 0.6)
        assert (found.confidence, found.basis) == (LOWEST, None)
        assert "no labelled windows" in said


def test_windows_drawn_at_random_are_not_taken(tiny_dataset: Path) -> None:
    """They overlap those the head was fitted to."""
    made = exported(tiny_dataset, "recommended")
    _, plan, material, _ = drawn(tiny_dataset)
    assert material.validation.size
    split = dataclasses.replace(made.run.config.split, by="random-window")
    run = dataclasses.replace(made.run, config=dataclasses.replace(made.run.config, split=split))
    again = read_material(run, None, head=plan.head, video=False, say=lambda _: None)
    assert not again.validation.size


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_must_be_one(tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match="least_right must be a share"):
        export(tmp_path, tmp_path / "out.detach", least_right=share)


def test_probabilities_are_those_of_the_graph(tiny_dataset: Path) -> None:
    _, plan, material, _ = drawn(tiny_dataset)
    logits = parity.run_torch(plan.graphs["sensor"], material.inputs("sensor", np.arange(5)))
    found = threshold._probabilities(plan, material, np.arange(5))
    np.testing.assert_allclose(found, softmax(logits["logits"].astype(np.float64)))
