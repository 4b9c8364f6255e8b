"""Below which confidence a bundle is "unknown": chosen on labelled windows that fitted no head."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detach.edge.live.config import IDLE
from detach.edge.manifest import Basis, Thresholds
from detach.export import parity
from detach.export.describe import Plan
from detach.export.windows import Material
from detach.probe import softmax
from detach.scores import Floats, Ints

LEAST_RIGHT = 0.95
"""Share of the answers that shall be right, unless something else is asked for."""
LOWEST = 0.5
"""From here on an answer is likelier than all others together. What stands where nothing can be
chosen, and what is never gone below: another home is less clear than the one that was labelled."""
STEPS = (*(round(0.01 * k, 2) for k in range(50, 100)), 0.995, 0.998, 0.999)
FEWEST = 20
"""Answers that a share is told from."""
LIVE_SHARE = 0.5
"""Of the channels. With fewer, more of a window is filled in than was measured."""
BATCH = 256


@dataclass(frozen=True)
class Choice:
    """A confidence, and what it means for the windows it was chosen on."""

    confidence: float
    right: float
    """Share of the answers that are right; classes that are no event are no answers here."""
    found: float
    """Share of the windows in which something goes on that are answered, rightly."""


def choose(
    probabilities: Floats, truth: Ints, quiet: NDArray[np.bool_], least_right: float
) -> Choice | None:
    """The lowest of `STEPS` at which enough of the answers are right; None where none is.

    Args:
        probabilities: [N, L].
        truth: Classes [N].
        quiet: Which of the L classes are no event, as "nothing".
        least_right: Share of the answers.
    """
    best = probabilities.argmax(axis=1)
    confidence, right = probabilities.max(axis=1), best == truth
    answer, event = ~quiet[best], ~quiet[truth]
    for step in STEPS:
        told = answer & (confidence >= step)
        if told.sum() < FEWEST:
            return None
        if right[told].mean() >= least_right:
            found = float((told & right)[event].mean()) if event.any() else 0.0
            return Choice(step, float(right[told].mean()), found)
    return None


def thresholds(plan: Plan, material: Material, least_right: float) -> tuple[Thresholds, str]:
    """The bundle's thresholds, and in words how they came about.

    Args:
        plan: With or without a head.
        material: Windows of the data set; those of its validation part count if they are labelled
            in the head's track and classes, and half of their channels are observed.
        least_right: Share of the answers that shall be right on them.
    """
    index = _validation(plan, material)
    if plan.head is None or not index.size:
        reason = "no labelled windows that the head was not fitted to"
        return _unchosen(), f"confidence stays {LOWEST:g}: there are {reason}"
    truth = material.windows.labels[plan.head.track][index].astype(np.int64)
    quiet = np.isin(plan.classes, IDLE)
    choice = choose(_probabilities(plan, material, index), truth, quiet, least_right)
    seen = f"{len(index)} labelled windows the head was not fitted to"
    if choice is None:
        return _unchosen(), (
            f"confidence stays {LOWEST:g}: with none are {least_right:.0%} of at least {FEWEST} "
            f"answers right on {seen}"
        )
    basis = Basis(
        least_right=least_right,
        right=round(choice.right, 4),
        found=round(choice.found, 4),
        windows=len(index),
        recordings=len(np.unique(material.windows.recording[index])),
    )
    said = (
        f"confidence {choice.confidence:g}: on {seen}, {choice.right:.1%} of the answers are right "
        f"and {choice.found:.1%} of what goes on is found"
    )
    chosen = Thresholds(confidence=choice.confidence, live_share=LIVE_SHARE, basis=basis)
    return chosen, said


def _unchosen() -> Thresholds:
    return Thresholds(confidence=LOWEST, live_share=LIVE_SHARE, basis=None)


def _validation(plan: Plan, material: Material) -> NDArray[np.intp]:
    """Windows [n] on which a confidence can be chosen."""
    windows, none = material.windows, np.zeros(0, dtype=np.intp)
    if plan.head is None or windows.classes.get(plan.head.track) != plan.head.classes:
        return none
    observed = windows.observed[material.validation].mean(axis=1)
    return np.asarray(material.validation[observed >= LIVE_SHARE])


def _probabilities(plan: Plan, material: Material, index: NDArray[np.intp]) -> Floats:
    graph = plan.graphs["sensor"]
    at = graph.outputs.index("logits")
    parts = [
        list(parity.run_torch(graph, material.inputs("sensor", index[i : i + BATCH])).values())[at]
        for i in range(0, len(index), BATCH)
    ]
    return softmax(np.concatenate(parts).astype(np.float64))
