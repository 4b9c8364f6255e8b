import numpy as np
import pytest
from sklearn import metrics

from detach import scores

RNG = np.random.default_rng(7)
N, L = 240, 5
TRUTH = RNG.integers(0, L - 1, N).astype(np.int64)  # class 4 is absent
LOGIT = RNG.normal(size=(N, L)) + 1.2 * np.eye(L)[TRUTH]
PROBABILITY = np.round(np.exp(LOGIT) / np.exp(LOGIT).sum(1, keepdims=True), 2)  # with ties
PREDICTED = PROBABILITY.argmax(1)
BLOCKS = scores.cut_blocks(np.zeros(N), np.arange(N, dtype=float), block_s=20)


def test_point_scores_equal_scikit_learn() -> None:
    counts = scores.confusion(TRUTH, PREDICTED, L)
    assert np.array_equal(counts, metrics.confusion_matrix(TRUTH, PREDICTED, labels=range(L)))
    expected = metrics.f1_score(TRUTH, PREDICTED, average="weighted", zero_division=0)
    assert scores.weighted_f1(counts) == pytest.approx(expected)
    assert scores.accuracy(counts) == pytest.approx(metrics.accuracy_score(TRUTH, PREDICTED))


def test_average_precision_equals_scikit_learn_and_leaves_absent_classes_out() -> None:
    parts = [
        metrics.average_precision_score(k == TRUTH, PROBABILITY[:, k]) for k in np.unique(TRUTH)
    ]
    value = scores.mean_average_precision(TRUTH, PROBABILITY)
    assert value == pytest.approx(np.mean(parts))
    assert np.isnan(scores.average_precision(TRUTH == 4, PROBABILITY[:, 4])[0])


def test_resampled_average_precision_equals_repeating_the_items() -> None:
    drawn = BLOCKS.draws()[3]
    items = np.repeat(np.arange(N), drawn[BLOCKS.of])
    expected = scores.mean_average_precision(TRUTH[items], PROBABILITY[items])
    assert scores.mean_average_precision(TRUTH, PROBABILITY, BLOCKS)[3] == pytest.approx(expected)


def test_resampled_confusion_equals_repeating_the_items() -> None:
    items = np.repeat(np.arange(N), BLOCKS.draws()[5][BLOCKS.of])
    expected = scores.confusion(TRUTH[items], PREDICTED[items], L)
    assert np.array_equal(scores.confusion_draws(TRUTH, PREDICTED, L, BLOCKS)[5], expected)


def test_blocks_are_recordings_from_eight_on_and_minutes_below() -> None:
    few = scores.cut_blocks(np.array(["a", "a", "a", "b"]), np.array([0.0, 59.0, 60.0, 0.0]))
    assert few.of.tolist() == [0, 0, 1, 2]
    assert few.unit == "blocks of 60 s"
    many = scores.cut_blocks(np.repeat(np.arange(8), 3), np.tile([0.0, 100.0, 200.0], 8))
    assert (many.count, many.unit) == (8, "recordings")


def test_interval_covers_a_known_mean_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=40)
        low, high = scores.interval(scores.Blocks(np.arange(40), 40, "items").mean_draws(x))
        hits += low <= 0 <= high
    assert 51 <= hits <= 60


def test_interval_by_block_is_wider_where_neighbours_agree() -> None:
    value = np.repeat(np.random.default_rng(1).normal(size=12), 20)
    by_block = scores.interval(
        scores.Blocks(np.repeat(np.arange(12), 20), 12, "").mean_draws(value)
    )
    by_item = scores.interval(scores.Blocks(np.arange(240), 240, "").mean_draws(value))
    assert by_block[1] - by_block[0] > 3 * (by_item[1] - by_item[0])


def test_calibration_error_of_known_gaps() -> None:
    probability = np.array([[0.9, 0.1]] * 10)
    half = np.array([0, 1] * 5)
    assert scores.calibration(half, probability).error == pytest.approx(0.4)
    assert scores.calibration(np.array([0] * 9 + [1]), probability).error == pytest.approx(0.0)


def test_retrieval_ranks_count_ties_against_the_model() -> None:
    vectors = RNG.normal(size=(30, 8))
    assert scores.retrieval_ranks(vectors, 5 * vectors, chunk=7).max() == 0
    assert (scores.retrieval_ranks(np.ones((30, 8)), np.ones((30, 8))) == 29).all()
    assert scores.retrieval_ranks(vectors, np.roll(vectors, 1, axis=0)).min() > 0


def test_mutual_information_equals_scikit_learn() -> None:
    expected = metrics.normalized_mutual_info_score(TRUTH, PREDICTED)
    assert scores.mutual_information(TRUTH, PREDICTED) == pytest.approx(expected)
    assert scores.mutual_information(TRUTH, 3 - TRUTH) == pytest.approx(1.0)
