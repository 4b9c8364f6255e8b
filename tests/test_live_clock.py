"""When the values of a source were measured, by stamps that jitter, drift and jump."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detach.edge.live.clock import SourceClock

AHEAD_S = 1.7e9


@settings(max_examples=10, deadline=None)
@given(
    skew=st.floats(-2e-4, 2e-4),
    offset_s=st.floats(-1e5, 1e5),
    jitter_s=st.floats(0.001, 0.5),
    seed=st.integers(0, 1000),
)
def test_offset_and_skew_are_found(
    skew: float, offset_s: float, jitter_s: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    clock = SourceClock("offset")
    errors = []
    for t in np.arange(0, 180, 1 / 20).tolist():
        arrival_s = t + rng.uniform(0, jitter_s)
        stamp_s = AHEAD_S + offset_s + t * (1 + skew)
        found = clock.measured(arrival_s, stamp_s, AHEAD_S)
        assert found <= arrival_s
        if t > 70:
            errors.append(abs(found - t))
    assert np.quantile(errors, 0.95) < 0.015
    assert clock.refused == 0


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, -1.7e9])
def test_a_sender_whose_clock_is_set_is_believed_after_three_messages(jump_s: float) -> None:
    clock = SourceClock("offset")
    for k in range(100):
        clock.measured(k + 0.1, AHEAD_S + k, AHEAD_S)
    found = [clock.measured(k + 0.1, AHEAD_S + k + jump_s, AHEAD_S) for k in range(100, 120)]
    assert np.allclose(found, np.arange(100, 120) + 0.1, atol=0.11)
    assert clock.refused == 3
    assert clock.resets == 1


def test_one_odd_stamp_is_not_believed() -> None:
    clock = SourceClock("offset")
    for k in range(60):
        odd_s = 500.0 if k == 30 else 0.0
        found = clock.measured(k + 0.1, AHEAD_S + k + odd_s, AHEAD_S)
        assert found == pytest.approx(k + 0.1, abs=0.11)
    assert (clock.refused, clock.resets) == (1, 0)


def test_stamps_of_the_same_clock_and_none() -> None:
    clock = SourceClock("same")
    assert clock.measured(10.3, AHEAD_S + 10.0, AHEAD_S) == pytest.approx(10.0, abs=1e-6)
    assert clock.measured(10.3, AHEAD_S + 10.9, AHEAD_S) == 10.3  # never after arrival
    assert clock.measured(20.0, AHEAD_S - 3600, AHEAD_S) == 20.0
    assert clock.refused == 1
    assert clock.measured(20.0, None, AHEAD_S) == 20.0
    assert SourceClock("arrival", latency_s=0.2).measured(20.0, 5.0, AHEAD_S) == 19.8
