"""The streaming window: whatever the order, chunks and gaps, equal to the offline path."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from detach import kernels
from detach.config import preset
from detach.data.recording import read_dataset
from detach.data.windows import load_windows
from detach.kernels import StreamingWindow, WindowChannel

from .window_scenes import (  # type: ignore[import-not-found]
    METER,
    NAN,
    SWITCH,
    Scene,
    assert_same,
    backend,
    in_order,
    push_in_chunks,
    scenes,
    stream,
)

__all__ = ["backend"]


@settings(max_examples=80, deadline=None)
@given(scene=scenes(), delay_s=st.sampled_from((0.0, 0.3, 30.0)), seed=st.integers(0, 2**32 - 1))
def test_equal_to_offline_in_any_order_and_chunks(scene: Scene, delay_s: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = scene.shuffled(rng, delay_s)
    window = scene.stream()
    push_in_chunks(window, scene.sent, rng)
    first = scene.first
    expected = scene.offline(first)
    for i in rng.permutation(np.repeat(np.arange(len(first)), 2))[:40]:
        assert_same(window.window(int(first[i])), expected, i)
    assert window.counters["overflow"] == window.counters["invalid"] == 0


@settings(max_examples=60, deadline=None)
@given(scene=scenes(), delay_s=st.sampled_from((0.0, 0.2, 1.5)), seed=st.integers(0, 2**32 - 1))
def test_a_live_stream_is_always_the_recording_so_far(
    scene: Scene, delay_s: float, seed: int
) -> None:
    """Asked at any moment, also after releases and with values too late to be taken."""
    rng = np.random.default_rng(seed)
    scene = scene.shuffled(rng, delay_s)
    window = scene.stream()
    done = [0] * len(scene.channels)
    for first in scene.first[:12]:
        now_s = (first + scene.samples) / scene.config.rate_hz + rng.choice([-0.4, 0.05, 2.0])
        for c, (t_s, x) in enumerate(scene.sent):
            until = max(done[c], int(np.searchsorted(np.maximum.accumulate(t_s), now_s)))
            window.push(c, t_s[done[c] : until], x[done[c] : until])
            done[c] = until
        so_far = [(t[:n], x[:n]) for n, (t, x) in zip(done, scene.sent, strict=True)]
        expected = scene.offline([first], so_far)
        assert_same(window.window(int(first)), expected, 0)
        window.release(int(first))
        assert_same(window.window(int(first)), expected, 0)
    assert window.counters["overflow"] == window.counters["invalid"] == 0


@settings(max_examples=60, deadline=None)
@given(scene=scenes())
def test_a_window_is_final_once_every_sensor_has_passed_it(scene: Scene) -> None:
    """Or has ended: what is left in the files then changes nothing."""
    window = scene.stream()
    first = scene.first
    expected = scene.offline(first)
    done = [0] * len(scene.channels)
    for i, start in enumerate(first):
        last_s = (start + scene.samples - 1) / scene.config.rate_hz
        for c, (t_s, x) in enumerate(scene.sent):
            events = scene.channels[c].hz is None
            while done[c] < t_s.size and (
                t_s[done[c]] <= last_s + 1e-6 if events else window.reached_s(c) <= last_s
            ):
                window.push(c, float(t_s[done[c]]), float(x[done[c]]))
                done[c] += 1
        assert_same(window.window(int(start)), expected, i)
        window.release(int(start))


@settings(max_examples=30, deadline=None)
@given(scene=scenes(), capacity=st.integers(2, 30), seed=st.integers(0, 2**32 - 1))
def test_a_full_channel_keeps_its_newest_values(scene: Scene, capacity: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = scene.shuffled(rng, 0.3)
    window = scene.stream(capacity=capacity)
    push_in_chunks(window, scene.sent, rng)
    kept, lost = [], 0
    for channel, (t_s, x) in zip(scene.channels, scene.sent, strict=True):
        is_value = np.isfinite(x) | (channel.hz is None)
        (ordered,) = in_order([(t_s[is_value], x[is_value])])
        kept.append((ordered[0][-capacity:], ordered[1][-capacity:]))
        lost += max(0, int(is_value.sum()) - capacity)
    first = scene.first[-4:]
    expected = scene.offline(first, kept)
    for i, start in enumerate(first):
        assert_same(window.window(int(start)), expected, i)
    late = window.counters["late"]  # older than what already stands before the grid
    assert lost - late <= window.counters["overflow"] <= lost


def test_equal_to_the_windows_that_training_reads(tiny_dataset: Path) -> None:
    """Through files, with statistics, on every window."""
    config = preset("recommended")
    windows = load_windows(read_dataset(tiny_dataset), config, video=False)
    for r, recording in enumerate(read_dataset(tiny_dataset).recordings()):
        columns = [(track, axis) for track in recording.sensors for axis in range(len(track.axes))]
        channels = [
            WindowChannel(c.name, track.hz, c.binary, c.mean, c.std, config.sensors.max_gap_s)
            for (track, _), c in zip(columns, windows.channels, strict=True)
        ]
        samples = windows.samples.shape[1]
        window = StreamingWindow(config.sensors.rate_hz, samples, channels)
        for c, (track, axis) in enumerate(columns):
            t_s, values = recording.read_sensor(track)
            assert window.push(c, t_s, values[:, axis]) == len(t_s)
        own = np.flatnonzero(windows.recording == r)
        assert len(own) > 30
        for i in own:
            first = round(windows.start_s[i] * config.sensors.rate_hz)
            x, observed, _ = window.window(first)
            assert_array_equal(observed, windows.observed[i])
            assert_allclose(x, windows.samples[i], rtol=1e-6, atol=1e-6)
            window.release(first)


def test_by_hand() -> None:
    door = WindowChannel("door", None, binary=True, polarity=-1)
    meter = WindowChannel("meter", 2.0, mean=1.0, std=2.0, max_gap_s=2.0)
    window = StreamingWindow(1.0, 4, [door, meter], percentile_q=1.0)
    assert window.push(0, [1.0, 3.0], [0, 1]) == 2
    assert window.push(1, 0.5, 2.0) == 1
    assert window.push(1, 1.5, 4.0) == 1
    samples, observed, activation = window.window(0)
    assert_array_equal(samples[:, 0], [1, 1, 1, 0])  # 0 s is missing, so filled
    assert_array_equal(samples[:, 1], [0.5, 1.0, 1.5, 1.5])  # 2, 3, 4, and 4 filled
    assert_array_equal(observed, [True, True])
    assert_array_equal(activation, [1.0, 1.5])
    samples, observed, _ = window.window(3)
    assert_array_equal(samples[:, 0], [0, 0, 0, 0])
    assert_array_equal(observed, [True, False])


def test_a_late_event_still_counts_until_a_newer_one_holds() -> None:
    window = stream(SWITCH, rate_hz=10.0, samples=4)
    window.push(0, 0.0, 0.0)
    window.release(100)
    assert window.push(0, 9.0, 1.0) == 1
    assert window.window(100)[0][:, 0].tolist() == [1, 1, 1, 1]
    assert window.push(0, 8.0, 0.0) == 0
    assert window.counters == {"late": 1, "overflow": 0, "invalid": 0}
    assert window.push(0, 9.0, 0.0) == 1
    assert window.window(100)[0][:, 0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("after_s", "first_sample"), [(9e-7, 0), (1.5e-6, 1)])
def test_an_event_beside_the_released_point(after_s: float, first_sample: int) -> None:
    window = stream(SWITCH, rate_hz=10.0, samples=4)
    window.push(0, [0.0, 1.0 + after_s], [1, 0])
    window.release(10)
    assert window.window(10)[0][:, 0].tolist() == [first_sample, 0, 0, 0]


def test_a_long_stream_fits_in_few_values() -> None:
    window = stream(METER, rate_hz=10.0, samples=20, capacity=128)
    for second in range(200):
        t_s = second + np.arange(30) / 30
        window.push(0, t_s, t_s)
        if second >= 2:
            samples, _, _ = window.window(10 * (second - 2))
            assert_allclose(samples[:, 0], (second - 2 + np.arange(20) / 10).clip(max=10))
            window.release(10 * (second - 2))
    assert window.counters == {"late": 0, "overflow": 0, "invalid": 0}


def test_reached() -> None:
    window = stream(SWITCH, METER)
    assert [window.reached_s(0), window.reached_s(1)] == [-math.inf, -math.inf]
    window.push(1, np.array([3.0, 1.0, 4.0]), np.array([0.0, 1.0, NAN]))
    window.push(0, 5.0, NAN)
    assert [window.reached_s(0), window.reached_s(1)] == [5.0, 3.0]
    window.release(2**40)
    assert [window.reached_s(0), window.reached_s(1)] == [5.0, 3.0]


@pytest.mark.skipif(not kernels.available(), reason="the extension is not built")
def test_threads_take_turns(backend: str) -> None:
    """The contract asks callers not to; one who does gets an answer all the same."""
    if backend == "numpy":
        pytest.skip("the stand-in leaves that to its callers")
    window = stream(METER, SWITCH, capacity=4096)
    t_s = np.arange(500) / 30

    def work(i: int) -> int:
        taken: int = window.push(0, t_s + i, np.ones(500))
        assert set(np.unique(window.window(10)[0])) <= {0.0, 1.0}
        return taken

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(8))) == 4000
    assert window.counters["overflow"] == 0
