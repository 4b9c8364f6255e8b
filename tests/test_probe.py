import numpy as np
import pytest

from detach import probe

RNG = np.random.default_rng(3)


def _part(n: int, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    truth = RNG.integers(0, labels, n).astype(np.int64)
    centres = 4 * np.eye(6)[:labels]
    return (centres[truth] + RNG.normal(size=(n, 6))) * 10 + 100, truth


def test_probe_folds_the_standardisation_into_its_weights() -> None:
    head = probe.fit_probe(_part(200), _part(60), labels=4)
    features, truth = _part(200)
    probability = head.probabilities(features)
    assert (probability.argmax(1) == truth).mean() > 0.95
    assert probability[:, 3].max() < 1e-9  # a class that training never saw
    assert np.isfinite(head.bias).all()
    assert head.weight.shape == (4, 6)
    assert head.c in dict(head.validation)


def test_probe_of_two_classes_equals_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features, truth = _part(120, labels=2)
    scaled = StandardScaler().fit_transform(features)
    expected = LogisticRegression(C=1.0).fit(scaled, truth).predict_proba(scaled)
    found = probe.fit_probe((features, truth), None, 2).probabilities(features)
    assert found == pytest.approx(expected, abs=2e-3)


def test_probe_is_deterministic_and_refuses_one_class() -> None:
    part, validation = _part(80), _part(40)
    a, b = (probe.fit_probe(part, validation, 3) for _ in range(2))
    assert np.array_equal(a.weight, b.weight)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        probe.fit_probe((part[0], np.zeros(80, dtype=np.int64)), None, 3)


def test_raw_statistics_do_not_see_the_order_of_samples() -> None:
    x = RNG.normal(size=(5, 32, 3)).astype(np.float32)
    found = probe.raw_statistics(x, chunk=2)
    assert found.shape == (5, 15)
    assert found == pytest.approx(probe.raw_statistics(x[:, ::-1]), abs=1e-5)
    assert found[:, 9:12] == pytest.approx(x.max(1))


def test_the_clock_recognises_a_script_and_nothing_later() -> None:
    start_s = np.arange(0, 600, 1.0)
    truth = (start_s // 120).astype(np.int64)
    features = probe.clock_features(start_s, start_s)
    head = probe.fit_probe((features, truth), None, 5)
    assert (head.probabilities(features).argmax(1) == truth).mean() > 0.95
    late = probe.clock_features(np.array([599.0, 5000.0]), start_s)
    assert np.array_equal(late[0], late[1])


def test_majority_gives_training_frequencies() -> None:
    found = probe.majority(np.array([0, 2, 2, 2]), 2, 3)
    assert found.tolist() == [[0.25, 0.0, 0.75]] * 2


def test_sequences_are_pooled_where_each_carries_one_label() -> None:
    recording = np.repeat(np.arange(4), 3)
    truth = np.repeat(np.array([0, 1, 0, 1]), 3)
    assert probe.labelled_by_sequence(recording, truth)
    assert not probe.labelled_by_sequence(recording, np.arange(12) % 2)
    pooled, label, name = probe.pool_sequences(np.arange(12.0)[:, None], recording, truth)
    assert pooled[:, 0].tolist() == [1, 4, 7, 10]
    assert label.tolist() == [0, 1, 0, 1]
    assert name.tolist() == [0, 1, 2, 3]
