"""False events a day and events found, by hand and in the mean."""

import numpy as np
import pytest

from detach.edge.live.config import Deciding
from detach.edge.live.rates import Judged, Rate, choose, rate

CLASSES = ("idle", "cook", "wash")
CONFIG = Deciding(windows=2, mean_probability=1.0)


def sure(*labels: int, p: float = 0.9) -> np.ndarray:
    rows = np.full((len(labels), 3), (1 - p) / 2)
    rows[np.arange(len(labels)), labels] = p
    return rows


def at(probabilities: np.ndarray, truth: list[int], threshold: float = 0.5) -> Rate:
    judged = Judged(probabilities=probabilities, truth=np.array(truth, np.int64))
    return rate([judged], CLASSES, threshold=threshold, hop_s=1.0, config=CONFIG)


def test_events_are_found_missed_and_false() -> None:
    truth = [0] * 10 + [1] * 10 + [0] * 10 + [2] * 10 + [0] * 20
    found = at(sure(*truth), truth)
    assert (found.false_per_day, found.found, found.events) == (0.0, 1.0, 2)
    said = truth.copy()
    said[30:40] = [0] * 10  # missed
    said[50:55] = [1] * 5  # false
    found = at(sure(*said), truth)
    assert found.found == 0.5
    assert found.false_per_day == pytest.approx(86400 / 60)
    single = truth.copy()
    single[50] = 1  # too short to count
    assert at(sure(*single), truth).false_per_day == 0


def test_a_threshold_silences_what_is_unsure() -> None:
    truth = [0] * 10 + [1] * 10
    assert at(sure(*truth, p=0.6), truth, 0.7).events == 0
    assert at(sure(*truth, p=0.6), truth, 0.5).events == 1


def test_higher_thresholds_have_fewer_false_events() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.integers(0, 3, 300), 10)
    logits = rng.normal(size=(3000, 3)) * 1.5
    logits[np.arange(3000), truth] += 2.0
    power = np.exp(logits)
    power /= power.sum(axis=1, keepdims=True)
    curve = [at(power, truth.tolist(), t) for t in (0.3, 0.5, 0.7, 0.9, 0.99)]
    false = [r.false_per_day for r in curve]
    assert false[0] > 3 * false[2] > 0
    assert false == sorted(false, reverse=True)
    assert curve[0].found > curve[-1].found
    best = choose(curve, false[2])
    assert best.false_per_day <= false[2]
    assert best.found == max(r.found for r in curve if r.false_per_day <= false[2])
    with pytest.raises(ValueError, match="no threshold has at most -1"):
        choose(curve, -1)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"must be \[N, 3\]"):
        at(sure(0, 1), [0, 1, 1])


def test_recordings_are_counted_together_and_do_not_run_into_each_other() -> None:
    one = Judged(probabilities=sure(0, 0, 0, 1), truth=np.array([0, 0, 0, 1], np.int64))
    other = Judged(probabilities=sure(1, 0, 0, 0), truth=np.zeros(4, np.int64))
    found = rate([one, other], CLASSES, threshold=0.5, hop_s=1.0, config=CONFIG)
    assert (found.events, found.stretches, found.found) == (0, 1, 0.0)
    longer = Judged(probabilities=sure(1, 1, 0, 0), truth=np.zeros(4, np.int64))
    found = rate([one, longer], CLASSES, threshold=0.5, hop_s=1.0, config=CONFIG)
    assert found.false == 1
    assert found.false_per_day == pytest.approx(86400 / 8)
    with pytest.raises(ValueError, match="no window"):
        rate([], CLASSES, threshold=0.5, hop_s=1.0, config=CONFIG)


def test_the_mean_of_windows_gets_no_answer_through_below_the_threshold() -> None:
    rows = sure(1, 2, 1, 2, 1, 2)
    rows[:, :] = [0.02, 0.88, 0.10]  # the same likeliest, never as sure as 0.9
    judged = Judged(probabilities=rows, truth=np.zeros(6, np.int64))
    loose = Deciding(windows=2, mean_probability=0.8)
    assert rate([judged], CLASSES, threshold=0.9, hop_s=1.0, config=loose).events == 0
    assert rate([judged], CLASSES, threshold=0.85, hop_s=1.0, config=loose).events == 1
