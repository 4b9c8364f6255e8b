"""Comparisons: of methods that were trained with as many seeds, and of those that were not."""

from dataclasses import replace

import numpy as np
import pytest

from detach import table
from detach.results import Answer, Task
from detach.scores import cut_blocks

N, LABELS = 240, 3
RNG = np.random.default_rng(5)
TRUTH = (np.arange(N) % LABELS).astype(np.int64)
RECORDING = (np.arange(N) // 60).astype(np.int64)
START_S = (np.arange(N) % 60).astype(np.float64) * 2


def answer(name: str, seed: int | None, noise: float = 1.6) -> Answer:
    """Right more often than not, otherwise by chance of its own."""
    scores = np.eye(LABELS)[TRUTH] + noise * RNG.standard_normal((N, LABELS))
    probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Answer(name, "method", probability, seed=seed)


def task() -> Task:
    return Task(
        track="action",
        classes=("a", "b", "c"),
        protocol="split",
        unit="windows",
        recordings=("r",) * 4,
        recording=RECORDING,
        start_s=START_S,
        index=np.arange(N, dtype=np.int64),
        truth=TRUTH,
        answers=(),
        train_items=0,
    )


def less(own: list[Answer], other: list[Answer]) -> table.Difference:
    blocks = cut_blocks(RECORDING, START_S)
    (found,) = table._differences([("own", own), ("other", other)], task(), blocks)
    return found


def test_a_mean_of_seeds_is_not_compared_with_one_run() -> None:
    own = [answer("own", seed) for seed in range(3)]
    other = [answer("other", 1)]
    assert less(own, other) == less([own[1]], other)
    assert less(own, other).seeds == 1
    flattered = less([replace(x, seed=None) for x in own], other)
    assert flattered.value > less(own, other).value + 0.03


def test_as_many_seeds_are_all_used() -> None:
    own = [answer("own", seed) for seed in range(2)]
    other = [answer("other", seed) for seed in range(2)]
    assert less(own, other).value == pytest.approx(-less(other, own).value)
    assert less(own, other) != less(own[:1], other[:1])
    assert less(own, other).seeds == 2


def test_what_shares_no_seed_is_compared_whole() -> None:
    own = [answer("own", seed) for seed in range(2)]
    reference = [answer("reference", None)]
    blocks = cut_blocks(RECORDING, START_S)
    whole = table._averaged(own, task(), blocks)[0] - table._averaged(reference, task(), blocks)[0]
    assert less(own, reference).value == pytest.approx(whole)
    assert less(own, [replace(own[0], seed=7)]).value != 0
