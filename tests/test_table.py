"""Comparisons: of methods that were trained with as many seeds, and of those that were not."""

from dataclasses import replace

import numpy as np
import pytest

from detach import table
from detach.results import RAW, UNTRAINED, Answer, Results, Task
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


def test_a_difference_is_the_mean_of_those_of_single_runs() -> None:
    own = [answer("own", seed) for seed in range(3)]
    other = [answer("other", seed) for seed in (2, 0, 1)]
    single = [less([own[s]], [x for x in other if x.seed == s]).value for s in range(3)]
    assert less(own, other).value == pytest.approx(np.mean(single))
    assert less(own, other).value == pytest.approx(-less(other, own).value)
    assert less(own, other).seeds == 3


def test_runs_that_err_apart_gain_nothing_by_it() -> None:
    """Averaged over seeds their predictions would be far better, and nobody runs five."""
    own = [answer("own", seed) for seed in range(5)]
    alike = [replace(own[0], name="other", seed=seed) for seed in range(5)]
    averaged = replace(own[0], probability=np.mean([x.probability for x in own], axis=0))
    assert less([averaged], alike[:1]).value > 0.05
    assert abs(less(own, alike).value) < 0.05


def test_an_interval_holds_the_spread_over_seeds() -> None:
    """A method that fails once in three is not clearly better than one that never does."""
    good, bad = (answer("x", None, noise) for noise in (0.1, 30.0))
    steady = answer("other", None, noise=1.0)
    own = [replace(good if seed else bad, seed=seed) for seed in range(3)]
    other = [replace(steady, seed=seed) for seed in range(3)]
    found = less(own, other)
    assert less(own[1:], other).clear
    assert not found.clear
    assert found.low < less(own[:1], other[:1]).value + 0.1
    assert found.high > less(own[1:2], other[1:2]).value - 0.1


def test_what_has_no_seeds_is_compared_with_every_run() -> None:
    own = [answer("own", seed) for seed in range(3)]
    plain = [answer("other", None)]
    singles = [less([x], plain).value for x in own]
    assert less(own, plain).value == pytest.approx(np.mean(singles))
    unlike = [answer("other", seed) for seed in (7, 8)]
    assert less(own, unlike).value == pytest.approx(
        np.mean([less([x], [y]).value for x in own for y in unlike])
    )


def run_of(method: str, seed: int, answers: list[Answer], **options: object) -> Results:
    return Results(
        method=method,
        preset="recommended",
        seed=seed,
        dataset="home",
        options=options,
        model="",
        parts={},
        channels=(),
        counts={},
        notes={},
        tasks=(replace(task(), answers=tuple(answers)),),
    )


def reference(name: str, seed: int | None, noise: float = 1.6) -> Answer:
    return replace(answer(name, seed, noise), kind="reference")


def test_references_of_networks_of_another_shape_are_not_pooled() -> None:
    """The method is compared with its own untrained network, not with that of a transformer."""
    ours, plain = reference(UNTRAINED, 0, 2.0), reference(RAW, None, 3.0)
    theirs, noisy = reference(UNTRAINED, 0, 9.0), reference(RAW, None, 9.0)
    lead = run_of("detach", 0, [answer("detach", 0), ours, plain])
    rival = run_of("infonce", 0, [answer("infonce", 0), ours, plain])
    heavy = run_of(
        "detach", 0, [answer("detach", 0), theirs, plain], **{"encoders.motion": "transformer"}
    )
    noise = run_of("detach", 0, [answer("detach", 0), theirs, noisy], **{"tested.noise": 1.0})
    (alone,) = table.make_table([lead]).groups
    (group,) = table.make_table([heavy, noise, rival, lead]).groups
    rows = {row.name: row for row in group.rows}
    assert rows[UNTRAINED].cells["f1"].mean == alone.rows[1].cells["f1"].mean
    assert rows[UNTRAINED].seeds == 1
    assert len([name for name in rows if name.startswith(UNTRAINED)]) == 2
    assert len([name for name in rows if name.startswith(RAW)]) == 2
    less_own = next(d for d in group.differences if d.b == UNTRAINED)
    assert less_own.value == next(d for d in alone.differences if d.b == UNTRAINED).value


def test_what_differs_least_from_its_preset_leads() -> None:
    noise = run_of("detach", 0, [answer("detach", 0, 9.0)], **{"tested.noise": 0.5})
    lead = run_of("detach", 0, [answer("detach", 0)])
    (group,) = table.make_table([noise, lead]).groups
    assert group.differences[0].a == group.rows[0].name == "detach, tested.noise=None"


def test_seeds_that_came_twice_are_not_paired() -> None:
    own = [answer("own", 0, 0.1), answer("own", 0, 9.0)]
    other = [answer("other", 0)]
    assert less(own, other).value == pytest.approx(
        np.mean([less([x], other).value for x in own]), abs=1e-9
    )
