"""Measures of sequence alignment against values worked out by hand."""

import numpy as np
import pytest

from detach.alignment.measures import (
    Clip,
    average_precision,
    kendall_tau,
    measure,
    phase_accuracy,
    progression,
    r_squared,
    tau_b,
    time_to_events,
)
from detach.errors import DataError


def clip(values: list[float], phase: list[int], action: str = "open") -> Clip:
    return Clip(action, np.array(values, dtype=np.float32)[:, None], np.array(phase))


@pytest.mark.parametrize(
    ("order", "tau"),
    [
        ([0, 1, 2, 3], 1.0),
        ([3, 2, 1, 0], -1.0),
        ([0, 1, 1, 2], 5 / np.sqrt(6 * 5)),  # five pairs rise, one is tied
        ([0, 2, 1], 1 / 3),  # two rise, one falls
        ([4, 4, 4], 0.0),
    ],
)
def test_tau_counts_pairs_that_rise_and_fall(order: list[int], tau: float) -> None:
    assert tau_b(np.array(order)) == pytest.approx(tau)


def test_tau_of_clips_goes_by_nearest_frames() -> None:
    a, b = clip([0, 1, 2], [0, 0, 1]), clip([0.1, 1.9, 1.2], [0, 1, 1])
    # a -> b finds frames 0, 2, 1: tau 1/3; b -> a finds 0, 2, 1: tau 1/3
    assert kendall_tau([a, b]) == pytest.approx(1 / 3)
    assert kendall_tau([a, clip([2, 1, 0], [0, 0, 1])]) == pytest.approx(-1.0)


def test_events_are_as_far_off_as_they_are() -> None:
    phase = np.array([0, 0, 1, 2])
    np.testing.assert_allclose(
        time_to_events(phase, 3),
        np.array([[-0.5, -0.75], [-0.25, -0.5], [0, -0.25], [0.25, 0]]),
    )
    skipped = time_to_events(np.array([0, 2]), 3)
    np.testing.assert_allclose(skipped, np.array([[-0.5, -0.5], [0, 0]]))


def test_r_squared_is_a_mean_over_what_varies() -> None:
    truth = np.array([[0.0, 1.0, 5.0], [2.0, 1.0, 7.0]])
    said = np.array([[0.0, 9.0, 6.0], [1.0, 9.0, 6.0]])
    # first: 1 - 1/2; second never varies; third: 1 - 2/2
    assert r_squared(truth, said) == pytest.approx(0.25)


def test_progression_is_whole_where_features_are_time() -> None:
    line = np.linspace(0, 1, 40)
    phase = np.repeat([0, 1, 2, 3], 10)
    clips = [clip((line + shift).tolist(), phase.tolist()) for shift in (0.0, 1e-3, -1e-3)]
    assert progression(clips[:1], clips[1:]) > 0.99
    still = [clip([1.0] * 40, phase.tolist())] * 2
    assert progression(clips[:1], still) < 0.01


def test_precision_counts_neighbours_of_other_clips() -> None:
    a = clip([0.0, 10.0], [0, 1])
    b = clip([0.1, 10.1], [0, 1])
    c = clip([0.2, 9.0], [0, 0])
    # a0 -> b0, c0 right; a1 -> b1 right, c1 wrong. b0 -> a0, c0; b1 -> a1 right, c1 wrong.
    # c0 -> b0, a0 right; c1 -> a1, b1 wrong.
    found = average_precision([a, b, c], (1, 2))
    assert found == {
        1: pytest.approx(np.mean([1, 1, 0.5])),
        2: pytest.approx(np.mean([0.75, 0.75, 0.5])),
    }
    assert np.isnan(average_precision([a, b], (1, 3))[3])
    other = clip([0.0, 10.0], [0, 1], "close")
    assert average_precision([a, other], (1,)) == {1: 0.0}


def test_phases_are_told_by_a_line() -> None:
    train = [clip([0, 1, 2, 10, 11, 12], [0, 0, 0, 1, 1, 1])]
    test = [clip([1, 9, 11], [0, 0, 1])]  # the middle lies at 6: the second is taken for phase 1
    assert phase_accuracy(train, test) == pytest.approx(2 / 3)
    assert np.isnan(phase_accuracy(train, test, share=0.01))


def test_all_measures_are_one_where_features_are_phases() -> None:
    phase = np.repeat([0, 1, 2, 3], 8)
    rng = np.random.default_rng(0)

    def perfect(action: str, level: float) -> Clip:
        time = np.arange(32) / 32 + 1e-4 * rng.normal(size=32)
        return Clip(action, np.stack([time, np.full(32, level)], 1).astype(np.float32), phase)

    clips = [perfect(a, level) for a, level in (("open", 0.0), ("close", 9.0)) for _ in range(4)]
    found = measure([clips[0], clips[1], clips[4], clips[5]], [*clips[2:4], *clips[6:]])
    assert found.accuracy[1.0] > 0.9
    assert found.tau > 0.95
    assert found.progression > 0.99
    assert found.precision[5] == pytest.approx(found.precision_anywhere[5])
    assert found.precision[5] > 0.8


def test_clips_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="phases that never fall"):
        clip([0, 1, 2], [0, 1, 0])
    with pytest.raises(ValueError, match=r"must be \[n, d\]"):
        Clip("open", np.zeros((3, 2), dtype=np.float32), np.zeros(2, dtype=np.int64))
    with pytest.raises(DataError, match="finite, found 1 of 3 frames .* the first 1"):
        clip([0, np.nan, 2], [0, 0, 1])
    one = clip([0, 1], [0, 1])
    with pytest.raises(DataError, match="two test clips"):
        measure([one], [one])
    flat = clip([0, 1], [2, 2])
    with pytest.raises(DataError, match="of 'open' must show 2 phases at least, found phase 2"):
        measure([flat, flat], [flat, flat])
