"""One outcome for every hop, whatever arrives when; and decisions as the offline run makes them."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detach.edge.bundle import open_bundle
from detach.edge.engine import open_engines
from detach.edge.live.config import Broker, Deciding, LiveConfig, SensorSource
from detach.edge.live.loop import Live
from detach.edge.live.outcomes import Outcome
from detach.edge.replay import Options, decisions
from detach.edge.source import open_source
from detach.errors import MachineError

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .live_home import (  # type: ignore[import-not-found]
    Collected,
    FakeClock,
    go_on,
    home,
    home_manifest,
)

Mode = Literal["arrival", "offset", "same"]


def stamped(topic: str, clock: Mode = "arrival") -> SensorSource:
    return SensorSource(topic=topic, field="v", stamp="t", clock=clock)


def config_of(sensors: dict[str, SensorSource], **changes: Any) -> LiveConfig:
    return dataclasses.replace(LiveConfig(schema=1, lines=True, sensors=sensors), **changes)


def switches(**changes: Any) -> LiveConfig:
    sources = {name: SensorSource(topic=name) for name in ("fridge", "tap")}
    return config_of(sources, **changes)


def hops(outcomes: list[Outcome]) -> list[int]:
    """Every hop that has an outcome, in the order they came."""
    return [n for o in outcomes for n in range(o.number, o.number + o.count)]


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What happens to messages on their way."""

    jitter_s: float = 0.0
    loss: float = 0.0
    reordered: float = 0.0
    skew: float = 0.0
    ahead_s: float = 0.0
    """Of the senders' clock."""
    dead: tuple[float, float] = (np.inf, np.inf)
    """The first sensor says nothing in between."""


def messages(
    names: dict[str, float | None], seconds: float, trouble: Trouble, seed: int
) -> list[tuple[float, str, bytes]]:
    """Arrival, topic and payload; sampled sensors at their rates, switches now and then."""
    rng = np.random.default_rng(seed)
    found = []
    for i, (name, hz) in enumerate(names.items()):
        every = 1 / hz if hz else 3.0
        at = np.arange(0, seconds, every) + (0 if hz else rng.uniform(0, every))
        for k, t in enumerate(at.tolist()):
            if rng.random() < trouble.loss or (i == 0 and trouble.dead[0] <= t < trouble.dead[1]):
                continue
            delay = rng.uniform(0, trouble.jitter_s) if trouble.jitter_s else 0.0
            delay += 2 / (hz or 10) if rng.random() < trouble.reordered else 0.0
            value = round(float(np.sin(t)), 4) if hz else k % 2
            stamp = 1.7e9 + trouble.ahead_s + t * (1 + trouble.skew)
            found.append((t + delay, name, json.dumps({"v": value, "t": stamp}).encode()))
    return sorted(found, key=lambda message: message[0])


def deliver(
    live: Live, clock: FakeClock, sent: list[tuple[float, str, bytes]], end_s: float
) -> None:
    for arrival_s, topic, payload in sent:
        go_on(live, clock, arrival_s)
        live.offer(topic, payload)
        live.step()
    go_on(live, clock, end_s)


@settings(max_examples=12, deadline=None)
@given(
    jitter_s=st.floats(0, 0.5),
    skew=st.floats(-2e-4, 2e-4),
    ahead_s=st.floats(-3600, 3600),
    seed=st.integers(0, 2**16),
    clock_mode=st.sampled_from(["arrival", "offset"]),
)
def test_every_hop_has_one_outcome(
    jitter_s: float, skew: float, ahead_s: float, seed: int, clock_mode: Mode
) -> None:
    """Jitter, loss, other order, skew, a dead sensor, a frozen camera and a broker that is gone."""
    names: dict[str, float | None] = {"fridge": None, "tap": None, "a": 10.0, "b": 10.0}
    trouble = Trouble(jitter_s, 0.05, 0.05, skew, ahead_s, dead=(20.0, 80.0))
    sources = {name: stamped(name, clock_mode) for name in names}
    config = config_of(sources, mqtt=Broker(host="127.0.0.1"))
    live, clock, sink, _ = home(config, home_manifest(names))
    live.look_with(lambda t: None if 60 <= t < 75 else {"spatial": np.ones((1, 3), np.float32)})
    live.connected(up=True)
    sent = messages(names, 99.0, trouble, seed)
    deliver(live, clock, [m for m in sent if m[0] < 40.0], 40.0)
    live.connected(up=False)
    go_on(live, clock, 46.0)
    live.connected(up=True)
    deliver(live, clock, [m for m in sent if m[0] >= 46.0], 100.0)
    assert hops(sink.outcomes) == list(range(98))
    assert live.tally.counts["skip"] == 0
    assert live.tally.lag_s(0.95)[0] <= config.decide.lateness_s + 0.1
    assert live.intake.longest <= config.intake
    assert live.stream.counters["overflow"] == 0
    assert {o.number for o in sink.outcomes if o.reason == "offline"} == set(range(38, 46))
    assert sum(live.tally.counts[k] for k in ("decision", "abstention")) == 98


def test_a_dead_sensor_is_missing_and_then_there_again() -> None:
    names: dict[str, float | None] = {"a": 10.0, "fridge": None}
    live, clock, sink, _ = home(
        config_of({n: stamped(n) for n in names}),
        home_manifest(names, classes=("idle", "a", "b")),
    )
    deliver(live, clock, messages(names, 60.0, Trouble(dead=(20.0, 40.0)), 1), 60.0)
    share = {o.number: o.decision.live_share for o in sink.outcomes if o.decision is not None}
    assert {share[n] for n in range(5, 18)} == {1.0}
    assert {share[n] for n in range(21, 38)} == {0.5}
    assert {share[n] for n in range(41, 57)} == {1.0}


@pytest.mark.parametrize("skew", [-2e-4, 2e-4])
def test_stamps_put_values_where_they_were_measured(skew: float) -> None:
    names: dict[str, float | None] = {"a": 30.0}
    source = stamped("a", "offset")
    live, clock, _, _ = home(config_of({"a": source}), home_manifest(names))
    measured: list[tuple[float, float]] = []
    live.sensors._taker = Errors(live, measured)
    trouble = Trouble(jitter_s=0.25, skew=skew, ahead_s=1234.5)
    deliver(live, clock, messages(names, 240.0, trouble, 3), 240.0)
    late = [abs(t - value) for t, value in measured if t > 70]
    assert len(late) > 2000
    assert np.quantile(late, 0.99) < 0.010


class Errors:
    """Notes when a value was put, and (the sine undone) when it was measured."""

    def __init__(self, live: Live, found: list[tuple[float, float]]) -> None:
        self._live, self._found = live, found

    def push(self, sensor: str, axis: str, t_s: list[float], values: list[float]) -> None:
        turn = np.arcsin(np.clip(values[0], -1, 1))
        near = np.round(t_s[0] / np.pi)
        true_s = near * np.pi + (turn if near % 2 == 0 else -turn)
        if abs(values[0]) < 0.7:  # flat at the tops
            self._found.append((t_s[0], float(true_s)))
        self._live.push(sensor, axis, t_s, values)


def test_decisions_are_those_of_the_offline_run(tmp_path: Path) -> None:
    bundle = open_bundle(write_tiny(tmp_path / "tiny.detach"))
    rng = np.random.default_rng(5)
    folder = tmp_path / "mine"
    folder.mkdir()
    sent: list[tuple[float, str, bytes]] = []
    for i, channel in enumerate(bundle.manifest.channels):
        t = np.sort(rng.uniform(0, 60, 25)) if channel.hz is None else np.arange(0, 60, 0.25)
        x = rng.integers(0, 2, len(t)) if channel.binary else np.round(rng.normal(size=len(t)), 4)
        t = np.round(t, 4)
        rows = "".join(f"{a:.4f},{b}\n" for a, b in zip(t, x, strict=True))
        (folder / f"sensor{i}.csv").write_text(f"t_s,value\n{rows}")
        sent += [
            (a + rng.uniform(0, 0.04), f"s/{i}", json.dumps({"v": b, "t": 1.7e9 + a}).encode())
            for a, b in zip(t.tolist(), x.tolist(), strict=True)
        ]
    source = open_source(folder, bundle.manifest)
    offline = [d for _, d in decisions(bundle, source, Options(backend="onnxruntime"), print)]
    engine = open_engines(bundle, say=lambda _: None)["sensor"]
    config = config_of({f"sensor{i}": stamped(f"s/{i}", "same") for i in range(3)})
    clock, sink = FakeClock(), Collected()
    live = Live(bundle.manifest, engine, config, clock=clock, sinks=[sink], say=print)
    deliver(live, clock, sorted(sent), 62.0)
    assert live.counts["late"] == 0
    compared = 0
    for outcome, expected in zip(sink.outcomes, offline, strict=False):
        assert outcome.decision is not None
        assert outcome.decision.start_s == expected.start_s
        np.testing.assert_allclose(
            outcome.decision.probabilities, expected.probabilities, atol=1e-5
        )
        assert outcome.decision.place == expected.place
        compared += 1
    assert compared == 58


def test_a_loop_that_is_behind_skips_whole_hops_and_counts_them() -> None:
    live, clock, sink, engine = home(switches())
    live.offer("fridge", b"off")
    live.offer("tap", b"off")
    live.step()
    go_on(live, clock, 5.0)

    def slow() -> None:
        clock.now_s += 3.5

    engine.work = slow
    go_on(live, clock, 60.0)
    found = hops(sink.outcomes)
    assert found == list(range(len(found)))
    skips = [o for o in sink.outcomes if o.kind == "skip"]
    assert live.tally.counts["skip"] == sum(o.count for o in skips) > 30
    assert {o.reason for o in skips} == {"behind"}
    engine.work = lambda: None
    go_on(live, clock, 70.0)
    assert sink.outcomes[-1].lag_s < 0.5


def test_a_flood_is_bounded_and_counted() -> None:
    live, clock, sink, _ = home(switches(intake=100))
    live.connected(up=True)
    for k in range(5000):
        live.offer("fridge", b"on" if k % 2 else b"off")
    assert live.intake.longest == 100
    assert live.intake.counts["dropped"] == 4901
    live.offer("tap", b"x" * 1_000_000)
    assert live.intake.counts["too_large"] == 1
    go_on(live, clock, 5.0)
    assert live.online
    assert len(sink.outcomes) == 3


def test_an_engine_that_fails_and_a_sink_that_is_full_end_nothing() -> None:
    said: list[str] = []
    live, clock, sink, engine = home(switches())
    live._say = said.append
    live.add_sinks([Full()])
    live.offer("fridge", b"on")
    live.offer("tap", b"off")
    engine.fails = MachineError("the device is gone")
    go_on(live, clock, 6.0)
    assert {o.reason for o in sink.outcomes} == {"failed"}
    engine.fails = None
    go_on(live, clock, 130.0)
    assert live.state == "fridge"
    assert live.counts["sink_failed"] > 100
    assert 2 <= len(said) <= 4  # once a minute


class Full(Collected):  # type: ignore[misc] # its base is not typed here
    def take(self, outcome: Outcome) -> None:  # noqa: ARG002 -- a sink's form
        raise OSError(28, "No space left on device")


def test_a_new_answer_needs_several_windows_and_a_gap_forgets_it() -> None:
    live, clock, sink, _ = home(switches(decide=Deciding(windows=3, mean_probability=1.0)))
    live.offer("fridge", b"off")
    live.offer("tap", b"off")
    go_on(live, clock, 10.0)
    assert live.state == "idle"
    live.offer("tap", b"on")
    go_on(live, clock, 11.5)
    live.offer("tap", b"off")  # for a moment only
    go_on(live, clock, 16.0)
    assert [o.state for o in sink.outcomes if o.changed] == ["idle"]
    live.offer("tap", b"on")
    go_on(live, clock, 25.0)
    assert [o.state for o in sink.outcomes if o.changed] == ["idle", "tap"]
    live.offer("fridge", b"unavailable")
    live.offer("tap", b"unavailable")
    go_on(live, clock, 35.0)
    assert live.state is None
    assert sink.outcomes[-1].reason == "few_sensors"


def test_a_wall_clock_that_is_set_moves_no_window() -> None:
    sources = {name: stamped(name, "same") for name in ("fridge", "tap")}
    live, clock, sink, _ = home(config_of(sources))

    def send(name: str, value: str) -> None:
        live.offer(name, json.dumps({"v": value, "t": clock.wall()}).encode())

    send("fridge", "off")
    send("tap", "off")
    go_on(live, clock, 10.0)
    before = clock.wall()
    clock.ahead += 3600.0
    live.offer("tap", json.dumps({"v": "on", "t": before}).encode())  # sent before it was set
    go_on(live, clock, 20.0)
    assert live.state == "tap"
    clock.ahead -= 7200.0
    send("tap", "off")
    send("fridge", "on")
    go_on(live, clock, 30.0)
    assert live.state == "fridge"
    assert live.clock_steps == 2
    assert hops(sink.outcomes) == list(range(28))


def test_nothing_is_decided_while_the_broker_is_away() -> None:
    broker = Broker(host="127.0.0.1")
    live, clock, sink, _ = home(switches(mqtt=broker))
    go_on(live, clock, 5.0)
    assert {o.reason for o in sink.outcomes} == {"offline"}
    live.connected(up=True)
    live.offer("fridge", b"on", retained=True)
    live.offer("tap", b"off", retained=True)
    go_on(live, clock, 10.0)
    assert live.state == "fridge"
    live.connected(up=False)
    go_on(live, clock, 14.0)
    assert sink.outcomes[-1].state is None
    live.connected(up=True)
    live.offer("fridge", b"off", retained=True)
    back = clock.now_s
    go_on(live, clock, 25.0)
    assert hops(sink.outcomes) == list(range(23))
    assert live.state == "idle"  # the tap's state was confirmed, since nothing came
    right = next(o for o in sink.outcomes if o.start_s >= back and o.kind == "decision")
    assert right.start_s <= back + 2.0
    states = [o.state for o in sink.outcomes if o.changed]
    assert states == ["fridge", None, "idle"]


def test_after_a_long_outage_states_are_unknown() -> None:
    live, clock, sink, _ = home(switches(mqtt=Broker(host="127.0.0.1", forget_after_s=10.0)))
    live.connected(up=True)
    live.offer("fridge", b"on")
    live.offer("tap", b"off")
    go_on(live, clock, 10.0)
    live.connected(up=False)
    go_on(live, clock, 25.0)
    live.connected(up=True)
    go_on(live, clock, 35.0)
    assert sink.outcomes[-1].reason == "few_sensors"
    live.offer("fridge", b"off")
    live.offer("tap", b"on")
    go_on(live, clock, 45.0)
    assert live.state == "tap"


def test_what_is_assumed_without_a_broker_is_known_from_the_start() -> None:
    sources = {name: SensorSource(topic=name, assume=0) for name in ("fridge", "tap")}
    live, clock, sink, _ = home(config_of(sources))
    go_on(live, clock, 4.0)
    assert [o.kind for o in sink.outcomes][:1] == ["decision"]
    assert sink.outcomes[0].decision
    assert sink.outcomes[0].decision.live_share == 1.0
