"""What the streaming window takes, what it refuses, and that it says why."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from detach.kernels import StreamingWindow, WindowChannel

from .window_scenes import METER, NAN, SWITCH, backend, stream  # type: ignore[import-not-found]

__all__ = ["backend"]


@pytest.mark.parametrize(
    ("channel", "t_s", "value", "taken", "invalid"),
    [
        (SWITCH, NAN, 1.0, 0, 1),
        (SWITCH, math.inf, 1.0, 0, 1),
        (METER, -math.inf, 1.0, 0, 1),
        (SWITCH, 1.0, 0.5, 0, 1),
        (SWITCH, 1.0, 2.0, 0, 1),
        (SWITCH, 1.0, NAN, 1, 0),
        (METER, 1.0, NAN, 0, 0),
        (METER, 1.0, math.inf, 0, 0),
        (METER, 1.0, 1e300, 0, 0),
        (METER, -5.0, 1.0, 1, 0),
        (METER, 1e300, 1.0, 1, 0),
        (METER, 5e-324, 3.0e38, 1, 0),
        (SWITCH, 1, True, 1, 0),
    ],
)
def test_what_is_taken(
    channel: WindowChannel, t_s: float, value: float, taken: int, invalid: int
) -> None:
    forms: tuple[Any, ...] = (float, np.float64, np.asarray, lambda x: np.array([x], object))
    for form in forms:
        window = stream(channel)
        assert window.push(0, form(t_s), form(value)) == taken
        assert window.counters == {"late": 0, "overflow": 0, "invalid": invalid}
        assert np.isfinite(window.window(0)[0]).all()


def test_arrays_of_any_kind() -> None:
    t_s, x = np.arange(100) / 30, np.arange(100.0)
    expected = None
    for times, values in (
        (t_s, x),
        (t_s.tolist(), x.tolist()),
        (np.repeat(t_s, 2)[::2], x[::-1][::-1]),
        (t_s, x.astype(np.int8)),
        (t_s, x.astype(">f4")),
    ):
        window = stream(METER)
        assert window.push(0, times, values) == 100
        samples, _, _ = window.window(3)
        expected = samples if expected is None else expected
        assert_array_equal(samples, expected)
    assert stream(METER).push(0, np.zeros(0), np.zeros(0)) == 0


def test_the_far_end_of_time() -> None:
    window = stream(SWITCH, METER)
    window.push(0, 0.0, 1.0)
    window.push(1, 0.0, 1.0)
    last = 2**63 - 1 - 20
    samples, observed, _ = window.window(last)
    assert_array_equal(samples[:, 0], 1)
    assert_array_equal(observed, [True, False])
    window.release(2**63 - 1)
    with pytest.raises(ValueError, match="first"):
        window.window(last)


def test_results_can_be_written_in_place() -> None:
    window = stream(SWITCH, METER, percentile_q=0.5, absolute=False)
    window.push(1, np.arange(60) / 30, np.linspace(-3, 1, 60))
    samples, observed = np.empty((20, 2), np.float32), np.empty(2, np.bool_)
    activation = np.empty(2, np.float32)
    results = window.window(0, samples=samples, observed=observed, activation=activation)
    assert results[0] is samples
    assert results[1] is observed
    assert results[2] is activation
    assert_allclose(activation, np.quantile(samples.astype(np.float64), 0.5, axis=0), rtol=1e-6)
    assert activation[1] < 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate_hz": 0.0}, "rate_hz must be in"),
        ({"rate_hz": NAN}, "rate_hz must be in"),
        ({"rate_hz": 1e5}, "rate_hz must be in"),
        ({"samples": 0}, "samples must be in"),
        ({"samples": -1}, "samples must be in"),
        ({"samples": 2**62}, "samples must be in"),
        (
            {"samples": 2**20, "channels": [METER] * 300, "capacity": 9},
            "channels x samples must be",
        ),
        ({"capacity": 1}, "capacity must be in"),
        ({"capacity": 2**63}, "capacity must be in"),
        ({"capacity": 2**24, "channels": [METER] * 5}, "channels x capacity must be"),
        ({"channels": []}, "channels must not be empty"),
        ({"zscore": "robust"}, "zscore must be one of plain, keep-zero, binary-unscaled"),
        ({"std_floor": 0.0}, "std_floor must be finite and > 0"),
        ({"clip": -1.0}, "clip must be > 0"),
        ({"clip": NAN}, "clip must be > 0"),
        ({"percentile_q": 1.5}, r"percentile_q must be in \[0, 1\]"),
    ],
)
def test_a_form_that_cannot_be(change: dict[str, Any], message: str) -> None:
    form: dict[str, Any] = {"rate_hz": 10.0, "samples": 20, "channels": [METER]}
    StreamingWindow(**form)
    with pytest.raises(ValueError, match=message):
        StreamingWindow(**(form | change))


@pytest.mark.parametrize(
    "change",
    [
        {"hz": 0.0},
        {"hz": NAN},
        {"hz": math.inf},
        {"mean": NAN},
        {"std": -1.0},
        {"std": math.inf},
        {"max_gap_s": -1.0},
        {"max_gap_s": NAN},
        {"polarity": 0},
        {"silence": "drop"},
    ],
)
def test_a_channel_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} of channel 'meter' must be"):
        dataclasses.replace(METER, **change)


@pytest.mark.parametrize("channel", [-1, 2, 2**40, 2**70])
def test_a_channel_that_does_not_exist(channel: int) -> None:
    window: StreamingWindow = stream(SWITCH, METER)
    for call in (
        lambda: window.push(channel, 1.0, 1.0),
        lambda: window.push(channel, np.zeros(2), np.zeros(2)),
        lambda: window.reached_s(channel),
    ):
        with pytest.raises(ValueError, match=r"channel must be in \[0, 1\], got"):
            call()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("channel", lambda window: window.push(0.0, 1.0, 1.0)),
        ("channel", lambda window: window.push("door", [1.0], [1.0])),
        ("channel", lambda window: window.reached_s(None)),
        ("first", lambda window: window.window(1.0)),
        ("first", lambda window: window.release("1")),
        ("samples", lambda _: StreamingWindow(10.0, 2.5, [METER])),  # type: ignore[arg-type]
        ("capacity", lambda _: stream(METER, capacity=1e3)),
    ],
)
def test_what_must_be_whole(name: str, call: Callable[[StreamingWindow], Any]) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer, got"):
        call(stream(METER))


@pytest.mark.parametrize("first", [-1, -(2**63), 2**63 - 20, 2**63, 2**70])
def test_a_window_that_cannot_be(first: int) -> None:
    window = stream(METER)
    with pytest.raises(ValueError, match="first must be in"):
        window.window(first)
    if not 0 <= first < 2**63:
        with pytest.raises(ValueError, match="first must be in"):
            window.release(first)


def test_what_was_released_is_gone() -> None:
    window = stream(METER)
    window.release(7)
    window.release(5)
    window.window(7)
    with pytest.raises(ValueError, match="first must be .*7.*got 6"):
        window.window(6)


@pytest.mark.parametrize(
    ("t_s", "value"),
    [
        (np.zeros(2), np.zeros(3)),
        (1.0, np.zeros(2)),
        (np.zeros((2, 1)), np.zeros((2, 1))),
        ("soon", 1.0),
        (1.0, [None, 1.0]),
    ],
)
def test_values_that_do_not_fit(t_s: Any, value: Any) -> None:
    window = stream(METER)
    with pytest.raises((ValueError, TypeError)):
        window.push(0, t_s, value)
    assert window.reached_s(0) == -math.inf


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("samples", np.empty((20, 2), np.float32)),
        ("samples", np.empty((20, 1), np.float64)),
        ("samples", np.empty((40, 1), np.float32)[::2]),
        ("samples", np.broadcast_to(np.float32(0), (20, 1))),
        ("observed", np.empty(1, np.uint8)),
        ("activation", np.empty((1, 1), np.float32)),
    ],
)
def test_arrays_that_do_not_fit(name: str, array: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a writeable contiguous"):
        stream(METER).window(0, **{name: array})
