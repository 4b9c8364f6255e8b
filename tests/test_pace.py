"""What is said of speed and of the time left."""

import math
import time
from itertools import pairwise

import pytest

from detach.pace import RECENT_S, Pace

STEPS = 50
WINDOWS = 20


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    return made


def said(clock: Clock, epoch_s: list[float], first: int = 0) -> list[tuple[float, float, float]]:
    """(windows/s, left, really left) after every step of epochs that last so long."""
    one = Pace()
    one.start_stage(len(epoch_s))
    rows, ends_s = [], clock.now_s + sum(epoch_s[first:])
    for epoch in range(first, len(epoch_s)):
        one.start_epoch(epoch)
        for step in range(STEPS):
            clock.now_s += epoch_s[epoch] / STEPS
            one.windows += WINDOWS
            rows.append((*one.recent(epoch + (step + 1) / STEPS), ends_s - clock.now_s))
    return rows


@pytest.mark.parametrize("first", [0, 3])
def test_even_epochs_are_foretold(clock: Clock, first: int) -> None:
    for rate, left_s, true_s in said(clock, [40.0] * 6, first):
        assert rate == pytest.approx(STEPS * WINDOWS / 40.0)
        assert left_s == pytest.approx(true_s, abs=1e-6)


def test_slow_epochs_after_fast_ones_are_soon_noticed(clock: Clock) -> None:
    rows = said(clock, [2.0, 2.0, *[100.0] * 6])
    slow = [row for row in rows[2 * STEPS :] if row[2] < 600.0 - RECENT_S - 2 * 100.0 / STEPS]
    for rate, left_s, true_s in slow:
        assert rate == pytest.approx(STEPS * WINDOWS / 100.0, rel=1e-6)
        assert left_s == pytest.approx(true_s, abs=1e-6)
    assert all(a >= b for (_, a, _), (_, b, _) in pairwise(slow))


def test_nothing_is_foretold_of_nothing(clock: Clock) -> None:
    one = Pace()
    one.start_stage(3)
    one.start_epoch(1)
    assert all(math.isnan(x) for x in one.recent(1.0))
    clock.now_s += 1.0
    assert all(math.isnan(x) for x in one.recent(1.0))


def test_steps_longer_than_what_is_recent(clock: Clock) -> None:
    one = Pace()
    one.start_stage(2)
    one.start_epoch(0)
    for step in range(4):
        clock.now_s += 50.0
        one.windows += WINDOWS
        rate, left_s = one.recent((step + 1) / 4)
        assert rate == pytest.approx(WINDOWS / 50.0)
        assert left_s == pytest.approx(50.0 * (7 - step))
