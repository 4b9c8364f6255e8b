"""Policies of sensors through training data, bundles, `detach run` and live homes."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from detach.cli import main
from detach.config import RunConfig, override, preset
from detach.data.recording import read_dataset
from detach.data.windows import load_windows, split_windows
from detach.edge.bundle import open_bundle
from detach.edge.decide import UNKNOWN
from detach.edge.live.clock import SourceClock
from detach.edge.live.config import LiveConfig, SensorSource
from detach.edge.live.metrics import prometheus, status
from detach.edge.live.start import _check_fit
from detach.edge.manifest import Manifest, dump, parse
from detach.edge.replay import Options, run
from detach.edge.source import open_source
from detach.errors import DataError
from detach.export import export

from .export_runs import SMALL, drawn_run  # type: ignore[import-not-found]
from .live_home import go_on, home, home_manifest  # type: ignore[import-not-found]
from .test_replay import streamed  # type: ignore[import-not-found]

ENTRIES = ("door0=hold", "door1=mask:6", "door2=drop:15", "shaker=drop", "acceleration=resync:60")
CONFIG: RunConfig = override(preset("recommended"), SMALL)
SILENT = (10.0, 15.5)
"""When the shaker of r3 says nothing."""


def policed(*entries: str) -> RunConfig:
    return override(CONFIG, {"sensors": {"rate_hz": 32.0, "policy": list(entries)}})


def change_rows(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *change(rows)]) + "\n")


def silence(recording: Path, sensor: str, start_s: float, end_s: float) -> None:
    change_rows(
        recording / "sensors" / f"{sensor}.csv",
        lambda rows: [r for r in rows if not start_s < float(r.split(",")[0]) < end_s],
    )


def set_clock(recording: Path, sensor: str, at: int, by_s: float) -> None:
    """From row ``at`` on."""

    def change(rows: list[str]) -> list[str]:
        cells = [(float(r.partition(",")[0]), r.partition(",")[2]) for r in rows]
        stamps = [t + by_s if k >= at else t for k, (t, _) in enumerate(cells)]
        return [f"{t:.4f},{rest}" for t, (_, rest) in zip(stamps, cells, strict=True)]

    change_rows(recording / "sensors" / f"{sensor}.csv", change)


@pytest.fixture(scope="module")
def faulty(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Silences in r0 and r3, and a clock that is set back and forward in r1."""
    import shutil

    data = tmp_path_factory.mktemp("faulty") / "data"
    shutil.copytree(tiny_dataset, data)
    silence(data / "r0", "shaker", 20.0, 24.0)
    silence(data / "r3", "shaker", *SILENT)
    set_clock(data / "r1", "shaker", 360, -100.0)
    set_clock(data / "r1", "shaker", 900, 3600.0)
    return data


@pytest.fixture(scope="module")
def bundle(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported from a run with a policy of each kind."""
    folder = tmp_path_factory.mktemp("policed")
    made = drawn_run(folder / "run", faulty, policed(*ENTRIES), head=True)
    out = folder / "policed.detach"
    return export(made, out, video=False, precisions=("fp32",), outputs=("logits",))


def test_a_dropped_window_reaches_no_part(faulty: Path) -> None:
    config, dataset = policed("shaker=drop", "shaker=resync:60"), read_dataset(faulty)
    whole = load_windows(dataset, policed("shaker=resync:60"), video=False)
    windows = load_windows(dataset, config, video=False)
    lost = ~whole.observed[:, 3:].all(axis=1)
    assert set(whole.recording[lost]) == {0, 3}
    assert windows.counts["windows dropped: shaker is silent"] == int(lost.sum()) == 8
    assert len(windows) == len(whole) - 8
    assert windows.observed.all()
    kept = {(r, s) for r, s in zip(whole.recording[~lost], whole.start_s[~lost], strict=True)}
    parts = split_windows(windows, dataset, config.split)
    for index in parts.values():
        found = zip(windows.recording[index], windows.start_s[index], strict=True)
        assert set(found) <= kept
    assert (windows.counts["clocks set: shaker"], whole.counts["clocks set: shaker"]) == (2, 2)
    assert windows.counts["milliseconds of clocks set: shaker"] == 3_700_000


def test_when_nothing_is_left_the_policy_is_named(data: Path) -> None:
    for name in ("r0", "r1", "r2", "r3"):
        silence(data / name, "shaker", -1, 99)
    with pytest.raises(DataError, match=r"156 windows dropped: shaker is silent; choose another"):
        load_windows(read_dataset(data), policed("shaker=drop"), video=False)


def test_streams_of_the_bundle_give_the_windows_of_training(faulty: Path, bundle: Path) -> None:
    windows = load_windows(read_dataset(faulty), policed(*ENTRIES), video=False)
    manifest = open_bundle(bundle).manifest
    for r, name in enumerate(windows.recordings):
        mine = windows.select(windows.recording == r)
        found = streamed(manifest, faulty / name)
        kept = [window for window in found if not window.silent]
        assert [w.start_s for w in kept] == mine.start_s.tolist()
        np.testing.assert_array_equal([w.observed for w in kept], mine.observed)
        np.testing.assert_allclose([w.samples for w in kept], mine.samples, atol=1e-6)
    assert 0 < windows.counts["windows dropped: door2 is silent"] < 156
    assert windows.counts["samples masked: door1"] > 0
    assert "channel-windows missing" in windows.counts


def test_the_manifest_goes_round_and_names_each_policy(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert parse(dump(manifest), "m") == manifest
    said = {c.sensor: (c.policy, c.max_gap_s, c.resync_s) for c in manifest.channels}
    assert said == {
        "door0": ("hold", 1.0, None),
        "door1": ("mask", 6.0, None),
        "door2": ("drop", 15.0, None),
        "shaker": ("drop", 1.0, 60.0),
    }
    usual = dataclasses.replace(
        manifest,
        channels=tuple(
            dataclasses.replace(c, policy=None, resync_s=None) for c in manifest.channels
        ),
    )
    assert b"policy" not in dump(usual)
    assert b"resync_s" not in dump(usual)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"policy": "resync"}, r"channels\[4\].policy must be one of hold, mask, drop"),
        ({"policy": "hold"}, r"channels\[4\].policy must be drop as shaker.x, found 'hold'"),
        ({"resync_s": -1.0}, r"channels\[4\].resync_s must be >= 0"),
        ({"hz": None}, r"channels\[4\].resync_s must be >= 0, or null where hz is null"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    bundle: Path, change: Mapping[str, Any], says: str
) -> None:
    body = json.loads(dump(open_bundle(bundle).manifest))
    body["channels"][4].update(change)
    with pytest.raises(DataError, match=says):
        parse(json.dumps(body).encode(), "m")


def test_a_run_says_unknown_and_which_sensor_is_silent(faulty: Path, bundle: Path) -> None:
    lines: list[str] = []
    said: list[str] = []
    sure = Options(backend="onnxruntime")
    run(bundle, faulty / "r3", options=sure, write=lines.append, say=said.append)
    bodies = [json.loads(line) for line in lines]
    silent = [b["start_s"] for b in bodies if "shaker" in b.get("silent", ())]
    assert silent == [10.0, 11.0, 12.0, 13.0, 14.0]
    assert {b["label"] for b in bodies if "silent" in b} == {UNKNOWN}
    assert any("shaker: unknown in 5 windows" in line for line in said)
    run(bundle, faulty / "r1", options=sure, write=lines.append, say=said.append)
    assert "shaker: clock set 2 times, by 3700.000 s in all" in said[-2]


def test_a_folder_of_files_has_its_clock_put_right_too(faulty: Path, bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    loose = open_source(faulty / "r1" / "sensors", manifest).series["shaker"]
    assert (loose.clocks_set, round(loose.clocks_set_s)) == (2, 3700)
    believed = dataclasses.replace(
        manifest, channels=tuple(dataclasses.replace(c, resync_s=None) for c in manifest.channels)
    )
    with pytest.raises(DataError, match="the clock runs backwards"):
        open_source(faulty / "r1", believed)


def test_bad_entries_end_the_command_with_one_message(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*entries: str) -> tuple[int, str]:
        words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--config", "small"]
        code = main([*words, "--sensors.policy", *entries])
        return code, capsys.readouterr().err

    code, said = train("door0=mask:9", "doors=drop")
    assert code == 2
    assert "sensors.policy: 'doors=drop': no sensor or kind 'doors' is used; there are" in said
    code, said = train("door0=mask:9", "switch=resync")
    assert code == 2
    assert "'switch=resync': door0 reports changes (hz null)" in said
    assert "Traceback" not in said
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("sensors: {policy: [shaker=hold, shaker=drop]}\n")
    words = ["train", str(tiny_dataset), "--out", str(tmp_path / "run"), "--config", str(recipe)]
    assert main(words) == 2
    assert "'shaker=drop': contradicts 'shaker=hold'" in capsys.readouterr().err


def homely(policy: Literal["hold", "mask", "drop"], **changes: Any) -> Manifest:
    """Fridge, a heartbeat that is known for 5 s, and tap."""
    manifest: Manifest = home_manifest(**changes)
    fridge, tap = manifest.channels
    channel = dataclasses.replace(fridge, policy=policy, max_gap_s=5.0)
    return dataclasses.replace(manifest, channels=(channel, tap))


def switches(**changes: Any) -> LiveConfig:
    sources = {
        "fridge": SensorSource(topic="fridge", **changes),
        "tap": SensorSource(topic="tap"),
    }
    return LiveConfig(schema=1, name="home", lines=True, sensors=sources)


@pytest.mark.parametrize("mode", ["level", "pulse"])
def test_a_live_home_abstains_while_a_dropped_sensor_is_silent(mode: str) -> None:
    live, clock, sink, _ = home(switches(mode=mode, assume=0), homely("drop"))
    live.offer("tap", b"on")
    live.offer("fridge", b"off")
    for beat_s in (3.0, 6.0, 9.0):
        go_on(live, clock, beat_s)
        live.offer("fridge", b"off")
    go_on(live, clock, 19.0)
    live.offer("fridge", b"off")
    go_on(live, clock, 24.0)
    silent = [o.start_s for o in sink.outcomes if o.reason == "silent_sensor"]
    assert silent == [14.0, 15.0, 16.0, 17.0]  # 14 s is 5 s after the last; of [17, 19) all is
    told = next(o for o in sink.outcomes if o.reason == "silent_sensor").as_json()
    assert (told["label"], told["silent"], told["outcome"]) == (UNKNOWN, ["fridge"], "abstention")
    assert live.policy_counts["windows_dropped"] == {"fridge": 4}
    assert live.policy_counts["samples_masked"] == {"fridge": 5 * 16 - 1}
    text = prometheus(status(live), "home")
    assert 'detach_windows_dropped_total{instance_name="home",sensor="fridge"} 4' in text
    assert "detach_abstentions_silent_sensor_total" in text


def test_a_home_without_a_sensor_it_needs_is_told_so(tmp_path: Path) -> None:
    said: list[str] = []
    manifest = homely("drop")
    config = switches()
    _check_fit(
        dataclasses.replace(config, sensors={"tap": config.sensors["tap"]}),
        manifest,
        tmp_path,
        said.append,
    )
    assert said[-1] == "every answer will be unknown: the bundle gives none without fridge"
    live, clock, sink, _ = home(
        dataclasses.replace(config, sensors={"tap": config.sensors["tap"]}), manifest
    )
    live.offer("tap", b"on")
    go_on(live, clock, 6.0)
    assert {o.reason for o in sink.outcomes} == {"silent_sensor"}
    assert live.policy_counts["samples_masked"] == {}


def test_names_of_sensors_are_labels_that_prometheus_reads() -> None:
    text = prometheus({'samples_held.a "b"': 1, "samples_held.c.d": 2}, "home")
    assert text.splitlines() == [
        "# TYPE detach_samples_held_total counter",
        'detach_samples_held_total{instance_name="home",sensor="a \\"b\\""} 1',
        'detach_samples_held_total{instance_name="home",sensor="c.d"} 2',
    ]


def test_a_live_home_counts_what_it_holds() -> None:
    live, clock, _, _ = home(switches(), homely("hold"))
    live.offer("fridge", b"on")
    live.offer("tap", b"on")
    go_on(live, clock, 12.0)
    reached_s = 16.0 * live.latest.end_s if live.latest else 0.0
    assert live.policy_counts["samples_held"] == {"fridge": int(reached_s) - 5 * 16 - 1}
    assert live.policy_counts["samples_masked"] == {}


def test_a_sampled_sensor_that_holds_is_unknown_once_it_says_so() -> None:
    manifest = home_manifest({"fridge": 4.0, "tap": None})
    fridge = dataclasses.replace(manifest.channels[0], policy="hold")
    manifest = dataclasses.replace(manifest, channels=(fridge, manifest.channels[1]))
    live, clock, sink, _ = home(switches(availability="fridge/availability"), manifest)
    live.offer("tap", b"on")
    live.offer("fridge", b"1.5")
    go_on(live, clock, 12.0)
    live.offer("fridge/availability", b"offline")
    go_on(live, clock, 18.0)
    shares = {o.start_s: o.decision.live_share for o in sink.outcomes if o.decision}
    assert [shares[s] for s in (1.0, 5.0, 9.0, 12.0, 14.0)] == [1.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("by_s", [-3600.0, -2.0, 3.0, 86400.0])
def test_a_live_clock_that_was_set_is_believed_at_once(by_s: float) -> None:
    clock = SourceClock("offset", resync_s=1.0)
    for k in range(40):
        clock.measured(k + 0.1, 1e9 + k, 1e9)
    found = [clock.measured(k + 0.1, 1e9 + k + by_s, 1e9) for k in range(40, 60)]
    np.testing.assert_allclose(found, np.arange(40, 60) + 0.1, atol=1e-6)
    assert (clock.resets, clock.refused) == (1, 0)
    assert clock.reset_s == pytest.approx(abs(by_s))


def test_a_live_clock_stays_where_messages_wait_and_come_at_once() -> None:
    clock = SourceClock("offset", resync_s=1.0)
    for k in range(40):
        clock.measured(k + 0.1, 1e9 + k, 1e9)
    waited = [clock.measured(44.0, 1e9 + k, 1e9) for k in range(40, 44)]
    np.testing.assert_allclose(waited, np.arange(40, 44) + 0.1, atol=1e-3)
    assert (clock.resets, clock.refused) == (0, 0)
