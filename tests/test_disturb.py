"""Sensors made to err: where, how often, together along time and along axes; and nowhere else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detach.config import override, preset
from detach.data.disturb import PULSE_S, with_false_activations, with_noise
from detach.data.recording import read_dataset
from detach.data.sensors import Channel, ChannelStats
from detach.data.windows import Windows
from detach.errors import UsageError
from detach.evaluate import _cut, evaluate
from detach.model import load_run
from detach.train import load_material, train

SECONDS, RATE = 2.0, 32
NAMES = ("switch", "wrist.x", "wrist.y")


def windows(count: int = 600) -> Windows:
    """Silent windows of 2 s every second of two recordings."""
    length = int(SECONDS * RATE)
    half = count // 2
    return Windows(
        samples=np.zeros((count, length, 3), dtype=np.float32),
        observed=np.ones((count, 3), dtype=bool),
        recording=np.repeat([0, 1], half).astype(np.int32),
        recordings=("r0", "r1"),
        subject=("s0", "s0"),
        run=("r0", "r1"),
        start_s=np.tile(np.arange(half, dtype=np.float64), 2),
        in_view=np.ones(count, dtype=bool),
        labels={},
        classes={},
        channels=tuple(
            Channel(
                name=n,
                kind="k",
                unit="u",
                binary=n == "switch",
                place=None,
                sensor=n.partition(".")[0],
            )
            for n in NAMES
        ),
        stats=ChannelStats(names=(), mean=(), std=()),
        counts={},
        seconds=SECONDS,
        skip_empty=True,
        frame_index=np.zeros((count, 0), dtype=np.int32),
    )


def switched() -> Windows:
    """The same, the switch being on once."""
    found = windows()
    found.samples[-1, 0, 0] = 1.0
    return found


def test_false_activations_come_as_often_as_asked() -> None:
    some = switched()
    false = with_false_activations(some, np.arange(598), 10.0, seed=0).samples
    on = false[:598:2, :, 0].reshape(-1)  # windows that share no time
    expected = 10 / 60 * np.mean(PULSE_S)
    assert np.mean(on > 0) == pytest.approx(expected, rel=0.25)
    assert set(np.unique(false[:, :, 0])) == {0.0, 1.0}
    assert (false[598:] == some.samples[598:]).all()
    assert (some.samples[:-1] == 0).all()


def test_a_switch_that_rests_at_one_is_false_at_zero_and_silent_at_one() -> None:
    closed = switched()
    closed.samples[..., 0] = 1.0 - closed.samples[..., 0]
    false = with_false_activations(closed, np.arange(598), 10.0, seed=0).samples
    opened = with_false_activations(switched(), np.arange(598), 10.0, seed=0).samples
    np.testing.assert_array_equal(false[:598, :, 0], 1.0 - opened[:598, :, 0])
    silent = with_noise(closed, np.arange(600), 0.0, 0.999, seed=0).samples
    assert (silent[..., 0] == 1.0).mean() > 0.99


def test_windows_that_share_time_share_what_is_false() -> None:
    found = with_false_activations(switched(), np.arange(598), 20.0, seed=1).samples
    same = np.flatnonzero(np.diff(windows().recording[:598]) == 0)
    np.testing.assert_array_equal(found[same, RATE:, 0], found[same + 1, :RATE, 0])


def test_axes_are_false_together_and_seeds_apart() -> None:
    one, again, other = (
        with_false_activations(switched(), np.arange(598), 5.0, seed=s).samples for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    np.testing.assert_array_equal(one[..., 1] != 0, one[..., 2] != 0)
    assert ((one[..., 0] != 0) != (one[..., 1] != 0)).any()


def test_noise_spares_switches_and_other_windows() -> None:
    index = np.arange(100, 500)
    found = with_noise(switched(), index, 0.5, 0.0, seed=0).samples
    assert found[index][:, :, 1:].std() == pytest.approx(0.5, rel=0.02)
    np.testing.assert_array_equal(found[..., 0], switched().samples[..., 0])
    outside = np.setdiff1d(np.arange(600), index)
    np.testing.assert_array_equal(found[outside], switched().samples[outside])


def test_silent_sensors_are_silent_with_all_axes() -> None:
    loud = windows()
    loud.samples[..., 1:] = 1.0
    loud.samples[:300, :, 0] = 1.0
    found = with_noise(loud, np.arange(600), 0.0, 0.3, seed=0).samples
    silent = (found[..., 1] == 0).all(axis=1)
    np.testing.assert_array_equal(silent, (found[..., 2] == 0).all(axis=1))
    assert silent.mean() == pytest.approx(0.3, abs=0.06)
    assert (found[:300, :, 0] == 0).all(axis=1).mean() == pytest.approx(0.3, abs=0.08)
    assert np.isin(found, (0.0, 1.0)).all()


SMALL = {
    "threads": 1,
    "split": {"by": "dataset"},
    "video": {"size_px": 32, "frames": 6},
    "encoders": {"width": 16, "video_scale": 0.125, "sensor_scale": 0.125, "motion_size_px": 16},
    "stage1": {"epochs": 1, "warmup_epochs": 0, "joint_epochs": 1, "clusters": 4},
    "stage2": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3},
}


def test_a_faulty_home_trains_other_encoders_and_is_tested_on_a_sound_one(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    config = override(preset("recommended"), SMALL)
    material = load_material(tiny_dataset, config, lambda _: None)
    faulty = override(config, {"augment": {"false_per_min": 60.0}})
    runs = [
        load_run(train(material, tmp_path / name, c, say=lambda _: None))
        for name, c in (("sound", config), ("faulty", faulty))
    ]
    weights: list[NDArray[np.float32]] = [
        run.model.get_parameter("sensor_spatial.cue.weight").detach().numpy() for run in runs
    ]
    assert (weights[0] != weights[1]).any()
    cuts = [_cut(run, tiny_dataset, {}, lambda _: None) for run in runs]
    np.testing.assert_array_equal(cuts[0].windows.samples, cuts[1].windows.samples)


def test_noise_reaches_the_test_part_alone(tiny_dataset: Path, tmp_path: Path) -> None:
    config = override(preset("recommended"), SMALL)
    material = load_material(read_dataset(tiny_dataset).folder, config, lambda _: None)
    folder = train(material, tmp_path / "run", config, say=lambda _: None)
    sound = load_run(folder)
    shaken = replace(sound, config=override(config, {"tested": {"noise": 1.0}}))
    cuts = [_cut(run, tiny_dataset, {}, lambda _: None) for run in (sound, shaken)]
    test = cuts[0].parts["test"]
    rest = np.setdiff1d(np.arange(len(cuts[0].windows)), test)
    a, b = (cut.windows.samples for cut in cuts)
    np.testing.assert_array_equal(a[rest], b[rest])
    assert (a[test] != b[test]).any()
    text = (folder / "config.yaml").read_text().replace("noise: 0.0", "noise: 1.0")
    (folder / "config.yaml").write_text(text)
    with pytest.raises(UsageError, match="leave-one-run-out has none"):
        evaluate([folder], leave_one_run_out=True)


def test_sensors_of_one_domain_err_apart() -> None:
    """Names of Home Assistant hold dots; only the axes of one sensor are false together."""
    names = ("binary_sensor.door", "binary_sensor.fridge", "watch.x", "watch.y")
    axes = ("binary_sensor.door", "binary_sensor.fridge", "watch", "watch")
    channels = tuple(
        Channel(name=n, kind="k", unit="u", binary=False, place=None, sensor=s)
        for n, s in zip(names, axes, strict=True)
    )
    found = replace(windows(), channels=channels, samples=np.zeros((600, 120, 4), np.float32))
    false = with_false_activations(found, np.arange(600), 10.0, seed=0).samples != 0
    assert (false[..., 2] == false[..., 3]).all()
    assert (false[..., 0] != false[..., 1]).any()
    assert (false[..., 0] != false[..., 2]).any()
