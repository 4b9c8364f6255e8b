"""What probes see is chosen on validation items, never on those they are tested on."""

import numpy as np
import pytest

from detach.tasks import Fold, Items, probe_answer

N, PARTS = 120, 3


def items(folds: int = 1) -> Items:
    index = np.arange(N)
    parts = [index[index % PARTS == k] for k in range(PARTS)]
    return Items(
        windows=index,
        of=index,
        unit="windows",
        truth=(index // PARTS) % 2,
        recording=index * 0,
        start_s=index.astype(float),
        first=index,
        classes=("off", "on"),
        folds=tuple(Fold(*(parts[(k + i) % PARTS] for i in range(PARTS))) for k in range(folds)),
    )


def columns(told_by: int, of: Items, lies_when_tested: bool = False) -> np.ndarray:
    """Two columns, one of which tells the class; and perhaps the other way round when tested."""
    x = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
    x[:, told_by] = 6.0 * of.truth - 3.0
    if lies_when_tested:
        x[of.test, told_by] *= -1
    return x


@pytest.mark.parametrize(("told_by", "width"), [(0, 1), (1, 2)])
def test_a_probe_takes_the_columns_that_validate_best(told_by: int, width: int) -> None:
    of = items()
    answer, probe = probe_answer("x", "method", columns(told_by, of), of, 0, [2, 1])
    assert probe.width == width
    assert (answer.probability.argmax(axis=1) == of.truth[of.test]).all()


def test_the_test_part_has_no_say() -> None:
    of = items()
    _, honest = probe_answer("x", "method", columns(1, of), of, 0, [1, 2])
    answer, misled = probe_answer("x", "method", columns(1, of, True), of, 0, [1, 2])
    np.testing.assert_array_equal(honest.weight, misled.weight)
    assert (answer.probability.argmax(axis=1) != of.truth[of.test]).all()


def test_every_fold_chooses_for_itself_and_then_learns_from_its_validation_items_too() -> None:
    of = items(folds=3)
    answer, probe = probe_answer("x", "method", columns(1, of), of, 0, [1, 2])
    assert probe.width == 2
    assert len(answer.probability) == N
    assert (answer.probability.argmax(axis=1) == of.truth[of.test]).all()


def test_without_validation_items_the_first_width_stands() -> None:
    of = items()
    fold = of.folds[0]
    alone = Fold(fold.train, fold.val[:0], fold.test)
    of = Items(**{**of.__dict__, "folds": (alone,)})
    _, probe = probe_answer("x", "method", columns(1, of), of, 0, [1, 2])
    assert probe.width == 1
