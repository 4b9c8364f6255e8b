"""hold, mask, drop and resync: each counts exactly what was injected, in files and on a stream."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detach import kernels
from detach.config import SensorConfig
from detach.data.grid import read_grid
from detach.data.policies import check_policies, policy_of, take_out_steps
from detach.data.recording import Recording, SensorTrack
from detach.data.sensors import Channel, ChannelStats, prepare
from detach.edge.manifest import Channel as BundleChannel
from detach.edge.replay import Feed
from detach.edge.source import Series, Source
from detach.edge.stream import SensorForm, SensorStream
from detach.errors import DataError, UsageError

from .live_home import home_manifest  # type: ignore[import-not-found]
from .test_damaged_sensors import (  # type: ignore[import-not-found]
    ACCEPTED,
    DURATION_S,
    HOP,
    HZ,
    RATE_HZ,
    SEED,
    TRACK,
    WINDOW,
    Stream,
    as_text,
    expected_missing,
    recorded,
    stream,
)
from .window_scenes import BACKENDS  # type: ignore[import-not-found]

DOOR = SensorTrack(name="Door", kind="switch", unit="", hz=None)
PLUG = SensorTrack(name="plug", kind="power", unit="W", hz=1.0)
GRID_S = np.arange(int(DURATION_S * RATE_HZ)) / RATE_HZ
STARTS = range(0, len(GRID_S) - WINDOW + 1, HOP)
FILES, STREAMS = 12, 2
"""Seeds that are read, and streamed."""


def with_policy(*entries: str, **changes: Any) -> SensorConfig:
    return SensorConfig(policy=entries, **changes)


def read(folder: Path, rows: Stream, config: SensorConfig) -> tuple[Any, dict[str, int]]:
    counts: Counter[str] = Counter()
    samples = read_grid(recorded(folder, as_text(rows)), [TRACK], GRID_S, config, counts)
    return samples, dict(+counts)


def newest(t_s: NDArray[Any]) -> NDArray[np.int64]:
    """Which of the times is the newest at each grid point [T]; -1 before the first."""
    return np.asarray((t_s[None] <= GRID_S[:, None] + 1e-6).sum(axis=1) - 1)


def expected_held(rows: Stream, gap_s: float) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Samples [T, 2] that stand until the next, and which of them are more than ``gap_s`` old."""
    samples = np.full((len(GRID_S), 2), np.nan)
    old = np.zeros(samples.shape, dtype=bool)
    for axis in (0, 1):
        known = rows[np.isfinite(rows[:, axis + 1])]
        at = newest(known[:, 0])
        some = at >= 0
        samples[some, axis] = known[at[some], axis + 1]
        old[some, axis] = GRID_S[some] - known[at[some], 0] > gap_s + 1e-6
    return samples, old


def streamed(
    rows: Stream, policy: Any, max_gap_s: float = 1.0
) -> tuple[list[Any], dict[str, dict[str, int]]]:
    """Windows of the stream, and what the policies counted."""
    channels = tuple(
        BundleChannel(
            name=f"shaker.{axis}",
            sensor="shaker",
            axis=axis,
            kind="acceleration",
            unit="g",
            hz=HZ,
            mean=0.0,
            std=1.0,
            max_gap_s=max_gap_s,
            policy=policy,
        )
        for axis in TRACK.axes
    )
    manifest = home_manifest()
    window = dataclasses.replace(manifest.window, rate_hz=RATE_HZ, samples=WINDOW)
    manifest = dataclasses.replace(manifest, channels=channels, window=window)
    form = SensorForm(hz=HZ)
    values = rows[:, 1:].astype(np.float32)
    series = {"shaker": Series(form=form, axes=TRACK.axes, t_s=rows[:, 0], values=values)}
    source = Source(
        name="r",
        duration_s=DURATION_S,
        series=series,
        video_file=None,
        video_track=None,
        labels=None,
    )
    going = SensorStream(manifest, {"shaker": form})
    feed, found = Feed(source, going), []
    for number in source.windows(window.seconds, window.hop_s):
        feed.until(going.bounds(number)[1])
        found.append(going.cut(number))
    return found, going.policy_counts


def prepared(samples: NDArray[np.float32]) -> tuple[Any, Any]:
    """Windows [N, T, 2] and observed [N, 2], as training sees them."""
    windows = np.stack([samples[i : i + WINDOW] for i in STARTS])
    channels = [
        Channel(name=n, kind="acceleration", unit="g", binary=False, place=None) for n in "xy"
    ]
    stats = ChannelStats(names=("x", "y"), mean=(0.0, 0.0), std=(1.0, 1.0))
    return prepare(windows, channels, stats, SensorConfig())


def assert_streams_alike(samples: Any, rows: Stream, policy: str) -> dict[str, dict[str, int]]:
    """Either form of the stream gives the windows of the file; what it counted."""
    x, observed = prepared(samples)
    dropped = ~observed.all(axis=1) & (policy == "drop")
    told: list[dict[str, dict[str, int]]] = []
    for form in BACKENDS:
        with pytest.MonkeyPatch.context() as patch:
            if form == "numpy":
                patch.setattr(kernels, "_missing", "taken away by a test")
            found, counts = streamed(rows, policy)
        np.testing.assert_array_equal([w.observed for w in found], observed)
        np.testing.assert_allclose([w.samples for w in found], x, rtol=1e-6, atol=1e-6)
        assert [bool(w.silent) for w in found] == dropped.tolist()
        told.append(counts)
    assert told[0] == told[-1]
    return told[0]


@pytest.mark.parametrize("spoil", ACCEPTED, ids=lambda f: f.__name__)
def test_what_is_held_is_counted_exactly(
    spoil: Callable[[Stream, Any], Stream], tmp_path: Path
) -> None:
    for seed in range(FILES):
        rows = np.round(spoil(stream(), np.random.default_rng([SEED, seed])), 6)
        samples, counts = read(tmp_path, rows, with_policy("acceleration=hold"))
        expected, old = expected_held(rows, 1.0)
        np.testing.assert_array_equal(samples, expected.astype(np.float32))
        held = {"samples held: shaker": int(old.sum())} if old.any() else {}
        assert counts == held
        if seed < STREAMS:
            told = assert_streams_alike(samples, rows, "hold")["samples_held"]
            assert told == ({"shaker": int(old.sum())} if old.any() else {})


@pytest.mark.parametrize("policy", ["mask", "drop"])
@pytest.mark.parametrize("spoil", ACCEPTED, ids=lambda f: f.__name__)
def test_what_is_masked_and_dropped_is_counted_exactly(
    spoil: Callable[[Stream, Any], Stream], policy: str, tmp_path: Path
) -> None:
    for seed in range(FILES):
        rows = np.round(spoil(stream(), np.random.default_rng([SEED, seed])), 6)
        samples, counts = read(tmp_path, rows, with_policy(f"shaker={policy}"))
        missing = expected_missing(rows, GRID_S)
        np.testing.assert_array_equal(np.isnan(samples), missing)
        usual, none = read(tmp_path, rows, SensorConfig())
        np.testing.assert_array_equal(samples, usual)
        assert none == {}
        count = int(missing.sum())
        assert counts == ({"samples masked: shaker": count} if count else {})
        if seed < STREAMS:
            told = assert_streams_alike(samples, rows, policy)
            assert told["samples_masked"] == ({"shaker": count} if count else {})
            shares = [missing[i : i + WINDOW].mean(axis=0).max() for i in STARTS]
            lost = sum(share > 0.5 for share in shares) if policy == "drop" else 0
            assert told["windows_dropped"] == ({"shaker": lost} if lost else {})


def test_a_heartbeat_that_stops_is_missing_after_its_own_seconds(tmp_path: Path) -> None:
    config = with_policy("switch=mask:4", "Door=mask:9.5")
    for seed in range(FILES):
        rng = np.random.default_rng([SEED, seed])
        t_s = np.arange(0, DURATION_S, 3.0)
        t_s = t_s[(t_s < rng.uniform(2, 10)) | (t_s > rng.uniform(12, 28))]
        recording = recorded(tmp_path, b"")
        lines = "".join(f"{t:.6f},{k % 2}\n" for k, t in enumerate(t_s))
        (tmp_path / "sensors/Door.csv").write_text(f"t_s,value\n{lines}")
        recording = dataclasses.replace(recording, sensors=(DOOR,))
        counts: Counter[str] = Counter()
        samples = read_grid(recording, [DOOR], GRID_S, config, counts)[:, 0]
        at = newest(t_s)
        old = GRID_S - t_s[at] > 9.5 + 1e-6
        np.testing.assert_array_equal(samples, np.where(old, np.nan, at % 2))
        assert +counts == Counter({"samples masked: Door": int(old.sum())})


def set_clock(rows: Stream, rng: Any) -> tuple[Stream, int, float]:
    """Steps back or forward at some rows: how many, and by how many seconds in all."""
    rows = np.round(rows, 6)
    count = int(rng.integers(1, 6))
    at = rng.choice(np.arange(1, len(rows)), count, replace=False)
    by_s = np.round(rng.choice([-3600.0, -1.0, -0.05, 1.2, 86400.0], count), 3)
    for i, s in zip(at, by_s, strict=True):
        rows[i:, 0] += s
    return np.round(rows, 6), count, float(np.abs(by_s).sum())


def test_a_clock_that_was_set_is_taken_out_and_counted(tmp_path: Path) -> None:
    intact, _ = read(tmp_path, stream(), SensorConfig())
    for seed in range(2 * FILES):
        rows, count, by_s = set_clock(stream(), np.random.default_rng([SEED, seed]))
        samples, counts = read(tmp_path, rows, with_policy("shaker=resync"))
        np.testing.assert_allclose(samples, intact, atol=1e-4)
        assert counts == {
            "clocks set: shaker": count,
            "milliseconds of clocks set: shaker": round(1000 * by_s),
        }
        if (np.diff(rows[:, 0]) < 0).any():
            with pytest.raises(DataError, match="the clock runs backwards"):
                read(tmp_path, rows, with_policy("shaker=hold"))


def test_a_silence_below_the_seconds_of_resync_stays_one(tmp_path: Path) -> None:
    rows = stream()
    rows = rows[(rows[:, 0] < 5) | (rows[:, 0] > 12)]
    rows[rows[:, 0] > 20, 0] += 600
    config = with_policy("shaker=resync:60", "acceleration=drop")
    samples, counts = read(tmp_path, rows, config)
    rows[rows[:, 0] > 20, 0] -= 600
    missing = expected_missing(rows, GRID_S)
    np.testing.assert_array_equal(np.isnan(samples), missing)
    assert counts == {
        "samples masked: shaker": int(missing.sum()),
        "clocks set: shaker": 1,
        "milliseconds of clocks set: shaker": 600_000,
    }


def test_stamps_that_are_taken_back_do_not_fall() -> None:
    t_s = np.array([0.0, 1.0, 1e8, 1e8 + 1, 3.3, 4.3, -1e8, -1e8])
    moved, often, by_s = take_out_steps(t_s, 1.0, 5.0)
    np.testing.assert_allclose(moved, [0, 1, 2, 3, 4, 5, 6, 6], atol=1e-6)
    assert (np.diff(moved) >= 0).all()
    assert (often, round(by_s)) == (3, round(1e8 - 2 + 1e8 - 1.3 + 1e8 + 5.3))
    for few in (t_s[:0], t_s[:1]):
        same, often, by_s = take_out_steps(few, 1.0, 5.0)
        assert (same.tolist(), often, by_s) == (few.tolist(), 0, 0.0)


def test_a_name_beats_its_kind_and_resync_stands_beside() -> None:
    entries = (
        "acceleration=drop:7",
        "acceleration=resync",
        "shaker=hold",
        "power=mask",
        "Door=mask:90",
    )
    config = with_policy(*entries, max_gap_s=2.0)
    shaker, plug, door = (policy_of(track, config) for track in (TRACK, PLUG, DOOR))
    assert (shaker.silence, shaker.max_gap_s, shaker.resync_s) == ("hold", 2.0, 2.0)
    assert (plug.silence, plug.max_gap_s, plug.resync_s) == ("mask", 2.0, None)
    assert (door.silence, door.max_gap_s) == ("mask", 90.0)
    other = policy_of(dataclasses.replace(TRACK, name="wrist"), config)
    assert (other.silence, other.max_gap_s, other.resync_s) == ("drop", 7.0, 7.0)
    assert policy_of(DOOR, SensorConfig()).silence is None
    twice = with_policy("Door=hold", "Door=hold")
    assert policy_of(DOOR, twice).silence == "hold"


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (
            ["Dor=drop"],
            "'Dor=drop': no sensor or kind 'Dor' is used; there are shaker, Door of the",
        ),
        (["Door=freeze"], "'Door=freeze': must be NAME=hold, mask, drop or resync"),
        (["Door"], "'Door': must be NAME=hold"),
        (["=hold"], "'=hold': must be NAME=hold"),
        (["Door=hold:5"], "hold takes no seconds"),
        (["Door=mask:soon"], r"seconds must be in \[0, 612000\], got 'soon'"),
        (["Door=mask:-1"], r"seconds must be in \[0, 612000\], got '-1'"),
        (["Door=mask:nan"], r"seconds must be in \[0, 612000\], got 'nan'"),
        (["Door=mask", "Door=drop"], "'Door=drop': contradicts 'Door=mask'"),
        (["Door=mask:3", "Door=mask:4"], "'Door=mask:4': contradicts 'Door=mask:3'"),
        (["switch=resync"], "'switch=resync': Door reports changes"),
    ],
)
def test_entries_that_mean_nothing_are_refused(entries: list[str], says: str) -> None:
    check_policies([TRACK, DOOR], with_policy("shaker=resync", "Door=mask:90"))
    with pytest.raises(UsageError, match=f"^sensors.policy: .*{says}"):
        check_policies([TRACK, DOOR], with_policy(*entries))


def test_a_recording_without_the_sensor_counts_nothing(tmp_path: Path) -> None:
    recording = Recording(folder=tmp_path, name="r", subject="s", run="1", duration_s=DURATION_S)
    counts: Counter[str] = Counter()
    samples = read_grid(recording, [TRACK], GRID_S, with_policy("shaker=mask"), counts)
    assert np.isnan(samples).all()
    assert not +counts
