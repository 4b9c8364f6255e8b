"""From raw values to samples: every step against numbers worked out by hand."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from detach.config import SensorConfig
from detach.data import sensors
from detach.data.recording import Recording, SensorTrack, write_sensor
from detach.data.sensors import Channel, ChannelStats
from detach.errors import DataError, UsageError

SWITCH = SensorTrack(name="door", kind="switch", unit="", hz=None)
SHAKER = SensorTrack(name="shaker", kind="acceleration", unit="g", hz=10.0, axes=("x", "y", "z"))
NAN = np.nan


def recording(folder: Path, *tracks: SensorTrack) -> Recording:
    return Recording(
        folder=folder, name=folder.name, subject="a", run="1", duration_s=4.0, sensors=tracks
    )


def channel(name: str = "a", *, binary: bool = False) -> Channel:
    return Channel(name=name, kind="other", unit="", binary=binary, place=None)


def windows(*columns: list[float]) -> NDArray[np.float32]:
    """One window [1, T, C]."""
    return np.asarray(columns, dtype=np.float32).T[None].copy()


def test_an_event_holds_until_the_next() -> None:
    t_s, values = np.array([0.5, 1.0]), np.array([[1.0], [0.0]], np.float32)
    samples = sensors.hold(t_s, values, np.array([0.0, 0.5, 0.75, 1.0, 9.0]))
    assert_array_equal(samples[:, 0], [NAN, 1, 1, 0, 0])


def test_samples_are_joined_by_lines_but_not_across_silence() -> None:
    t_s = np.array([0.0, 1.0, 4.0, 5.0])
    values = np.array([[0.0], [2.0], [4.0], [6.0]], np.float32)
    at = np.array([-0.05, 0.5, 1.0, 2.0, 4.0, 4.5, 5.05, 5.2])
    samples = sensors.interpolate(t_s, values, at, 1.5, 0.1)
    assert_allclose(samples[:, 0], [0, 1, 2, NAN, 4, 5, 6, NAN])


def test_axes_go_missing_one_by_one() -> None:
    values = np.array([[0, NAN], [1, NAN], [2, 5]], np.float32)
    samples = sensors.interpolate(np.arange(3.0), values, np.array([0.5, 2.0]), 1.0, 0.1)
    assert_allclose(samples, [[0.5, NAN], [2.0, 5.0]])


def test_a_slow_sensor_is_not_called_silent(tmp_path: Path) -> None:
    meter = SensorTrack(name="power", kind="power", unit="W", hz=0.5)
    write_sensor(tmp_path, meter, np.array([0.0, 2.0, 4.0]), np.array([10.0, 20.0, 30.0]))
    grid = sensors.read_grid(
        recording(tmp_path, meter), [meter], np.array([1.0, 3.0]), SensorConfig(max_gap_s=0.5)
    )
    assert_allclose(grid[:, 0], [15.0, 25.0])


def test_polarity_inverts_switches_and_negates_the_rest(tmp_path: Path) -> None:
    door = dataclasses.replace(SWITCH, polarity=-1)
    shaker = dataclasses.replace(SHAKER, polarity=-1)
    t_s = np.arange(40) / 10
    write_sensor(tmp_path, door, np.array([0.0, 2.0]), np.array([0.0, 1.0]))
    write_sensor(tmp_path, shaker, t_s, np.stack([t_s, t_s, t_s], axis=1))
    grid = sensors.read_grid(
        recording(tmp_path, door, shaker), [door, shaker], np.array([1.0, 3.0]), SensorConfig()
    )
    assert_allclose(grid, [[1, -1, -1, -1], [0, -3, -3, -3]], rtol=1e-6)


def test_a_sampled_switch_stays_zero_or_one(tmp_path: Path) -> None:
    switch = dataclasses.replace(SWITCH, hz=10.0)
    write_sensor(tmp_path, switch, np.arange(4) / 10, np.array([0.0, 1.0, 1.0, 0.0]))
    grid = sensors.read_grid(
        recording(tmp_path, switch), [switch], np.arange(0, 0.3, 0.01), SensorConfig()
    )
    assert set(np.unique(grid)) == {0.0, 1.0}


def test_a_switch_with_another_value_names_the_line(tmp_path: Path) -> None:
    write_sensor(tmp_path, SWITCH, np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 5.0]))
    with pytest.raises(DataError, match=r"door\.csv:4: a switch is 0 or 1, found \[5\.0\]"):
        sensors.read_grid(recording(tmp_path, SWITCH), [SWITCH], np.arange(3.0), SensorConfig())


def test_infinite_values_and_absent_sensors_are_missing(tmp_path: Path) -> None:
    meter = SensorTrack(name="power", kind="power", unit="W", hz=1.0)
    write_sensor(tmp_path, meter, np.arange(3.0), np.array([1.0, np.inf, 3.0]))
    grid = sensors.read_grid(
        recording(tmp_path, meter), [meter, SHAKER], np.arange(3.0), SensorConfig()
    )
    assert_array_equal(grid[:, 0], [1.0, 2.0, 3.0])
    assert np.isnan(grid[:, 1:]).all()


def test_statistics_skip_what_is_missing() -> None:
    samples = np.concatenate([windows([1, 3, NAN], [NAN] * 3), windows([99, 99, 99], [7] * 3)])
    stats = sensors.channel_stats(samples, np.array([0]), ["a", "b"])
    assert stats == ChannelStats(names=("a", "b"), mean=(2.0, 0.0), std=(1.0, 1.0))


def test_statistics_survive_the_disk(tmp_path: Path) -> None:
    stats = ChannelStats(names=("a",), mean=(0.1,), std=(2.5,), classes={"t": ("x", "other")})
    stats.save(tmp_path / "stats.json")
    assert ChannelStats.load(tmp_path / "stats.json") == stats


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 9}', "schema must be 1, found 9"),
        ('{"schema": 1, "names": ["a"]}', "missing or malformed entry: 'mean'"),
        ('{"schema": 1, "names": ["a"], "mean": [], "std": [1], "classes": {}}', "equally long"),
    ],
)
def test_damaged_statistics_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "stats.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        ChannelStats.load(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("plain", [[-1, 0, 1], [-0.5, 0.5, 0.5], [0, 0, 0]]),
        ("keep-zero", [[0, 0, 1], [0, 0.5, 0.5], [0, 0, 0]]),
        ("binary-unscaled", [[-1, 0, 1], [0, 1, 1], [0, 0, 0]]),
    ],
)
def test_three_forms_of_normalising(form: Any, expected: list[list[float]]) -> None:
    samples = windows([0, 2, 4], [0, 1, 1], [5, 5, 5])
    stats = ChannelStats(names=("a", "b", "c"), mean=(2.0, 0.5, 5.0), std=(2.0, 1.0, 0.0))
    binary = np.array([False, True, False])
    sensors.normalise(samples, binary, stats, SensorConfig(zscore=form))
    assert_allclose(samples[0].T, expected)


def test_small_spreads_are_floored_and_far_values_clipped() -> None:
    samples = windows([0.0, 0.005, 50.0])
    stats = ChannelStats(names=("a",), mean=(0.0,), std=(0.001,))
    sensors.normalise(samples, np.array([False]), stats, SensorConfig())
    assert_allclose(samples[0, :, 0], [0.0, 0.5, 10.0])


def test_gaps_are_filled_up_to_half_a_window() -> None:
    samples = windows([1, NAN, 3, NAN], [NAN, NAN, NAN, 4], [0, NAN, 1, 1])
    observed = sensors.fill(samples, np.array([False, False, True]))
    assert_array_equal(observed, [[True, False, True]])
    assert_allclose(samples[0].T, [[1, 2, 3, 3], [0, 0, 0, 0], [0, 0, 1, 1]])


def test_a_missing_channel_is_zero_after_normalising() -> None:
    stats = ChannelStats(names=("a",), mean=(5.0,), std=(1.0,))
    samples, observed = sensors.prepare(
        windows([NAN, NAN, NAN, 5.0]), [channel()], stats, SensorConfig(zscore="plain")
    )
    assert not observed.any()
    assert_array_equal(samples, np.zeros((1, 4, 1)))


def test_windows_are_prepared_in_place_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "CHUNK", 2)
    samples = np.arange(5 * 4, dtype=np.float32).reshape(5, 4, 1)
    expected = samples.copy()
    stats = ChannelStats(names=("a",), mean=(0.0,), std=(1.0,))
    config = SensorConfig(zscore="plain")
    result, observed = sensors.prepare(samples, [channel()], stats, config)
    assert result is samples
    assert observed.all()
    assert_array_equal(result, expected)


def test_resizing_keeps_the_ends_and_straight_lines() -> None:
    result = sensors.resize(windows([0, 1, 2, 3]), 7)
    assert_allclose(result[0, :, 0], np.arange(7) / 2)
    assert sensors.resize(windows([4.0]), 3).tolist() == [[[4.0], [4.0], [4.0]]]


def test_length_comes_from_the_configuration() -> None:
    stats = ChannelStats(names=("a",), mean=(0.0,), std=(1.0,))
    samples, _ = sensors.prepare(
        windows([0, 1, 2, 3]), [channel()], stats, SensorConfig(zscore="plain", length=128)
    )
    assert samples.shape == (1, 128, 1)
    assert samples[0, -1, 0] == 3


def test_the_low_pass_keeps_slow_and_removes_fast() -> None:
    t = np.arange(128)
    slow, fast = np.sin(2 * np.pi * t / 128), np.sin(2 * np.pi * t / 4)
    stats = ChannelStats(names=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))
    config = SensorConfig(zscore="plain", lowpass=True)
    samples, _ = sensors.prepare(
        windows(list(slow), list(fast)), [channel("a"), channel("b")], stats, config
    )
    middle = slice(40, -40)  # the ends of a window ring
    assert_allclose(samples[0, middle, 0], slow[middle], atol=0.02)
    assert np.abs(samples[0, middle, 1]).max() < 0.01


def test_recordings_must_agree_on_their_sensors(tmp_path: Path) -> None:
    other = dataclasses.replace(SHAKER, axes=("x", "y"))
    with pytest.raises(DataError, match=r"b: sensor 'shaker' has axes \('x', 'y'\), but .* in a;"):
        sensors.common_sensors(
            [recording(tmp_path / "a", SHAKER), recording(tmp_path / "b", other)]
        )


def test_sensors_are_united_and_chosen(tmp_path: Path) -> None:
    both = [recording(tmp_path / "a", SWITCH), recording(tmp_path / "b", SHAKER)]
    assert sensors.common_sensors(both) == (SWITCH, SHAKER)
    assert sensors.common_sensors(both, ("acceleration",)) == (SHAKER,)
    assert sensors.common_sensors(both, ("door",)) == (SWITCH,)
    names = [c.name for c in sensors.channels_of((SWITCH, SHAKER))]
    assert names == ["door", "shaker.x", "shaker.y", "shaker.z"]
    with pytest.raises(UsageError, match="no sensor or kind 'doors'; there are door, shaker"):
        sensors.common_sensors(both, ("doors",))


def test_no_sensor_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recording has a sensor"):
        sensors.common_sensors([recording(tmp_path / "a")])
