"""A recording sent through a real broker is decided as the offline run decides it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detach.data.recording import read_recording
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.decide import Decision
from detach.edge.engine import open_engines
from detach.edge.live.config import Broker, LiveConfig, SensorSource
from detach.edge.live.loop import Live
from detach.edge.live.mqtt import Link
from detach.edge.replay import Options, decisions
from detach.edge.source import open_source

from .live_home import (  # type: ignore[import-not-found]
    Collected,
    FakeClock,
    Watcher,
    mosquitto,
    wait_for,
    watcher,
)

MODELS = Path(__file__).parents[1] / "models"
SAMPLE = (MODELS / "home.detach", MODELS / "sample" / "run10")
BUNDLE, *RECORDINGS = map(Path, os.environ.get("DETACH_REPLAY", "").split() or SAMPLE)
"""DETACH_REPLAY="BUNDLE RECORDING..." takes others, without blanks in their paths."""
Times = NDArray[np.float64]
WALL_S = 1.7e9
BATCH_S = 0.5
"""So much is sent before its arrival is waited for; the clock stands still meanwhile."""


def sent_by(recording: Path) -> list[tuple[float, str, bytes]]:
    """All rows of a recording as messages that hold their time."""
    found = []
    described = read_recording(recording)
    for track in described.sensors:
        t_s, values = described.read_sensor(track)
        for t, row in zip(t_s.tolist(), values.tolist(), strict=True):
            body = {axis: x for axis, x in zip(track.axes, row, strict=True) if x == x}  # noqa: PLR0124
            if len(body) == len(row):
                body["t"] = WALL_S + t
                found.append((t, f"home/{track.name}", json.dumps(body).encode()))
    return sorted(found)


def sources(bundle: Bundle) -> dict[str, SensorSource]:
    axes: dict[str, dict[str, str]] = {}
    for channel in bundle.manifest.channels:
        axes.setdefault(channel.sensor, {})[channel.axis] = channel.axis
    return {
        name: SensorSource(topic=f"home/{name}", fields=fields, stamp="t", clock="same")
        for name, fields in axes.items()
    }


def replay(
    live: Live, clock: FakeClock, house: Watcher, sent: list[tuple[float, str, bytes]]
) -> None:
    count = 0
    for until_s in np.arange(BATCH_S, sent[-1][0] + 2.0, BATCH_S).tolist():
        clock.now_s = until_s
        batch = [m for m in sent[count : count + 2000] if m[0] <= until_s]
        for _, topic, payload in batch:
            house.post(topic, payload)
        count += len(batch)
        wait_for(lambda: live.intake.counts["messages"] >= count, "the messages")  # noqa: B023
        while live.step() == 0.0:
            pass


def sample_times(recording: Path) -> list[Times]:
    described = read_recording(recording)
    return [described.read_sensor(t)[0] for t in described.sensors if t.hz is not None]


def awaited_s(times: list[Times], end_s: float) -> float:
    """How long after a window's end the next sample of some sensor comes: offline knows it then."""
    after = [t[np.searchsorted(t, end_s) :][:1] - end_s for t in times]
    return max((float(gap[0]) for gap in after if len(gap)), default=0.0)


def compare(outcomes: list[Decision], offline: list[Decision]) -> float:
    worst = 0.0
    for found, expected in zip(outcomes, offline, strict=False):
        assert found.start_s == expected.start_s
        assert found.live_share == expected.live_share
        gap = np.abs(np.array(found.probabilities) - np.array(expected.probabilities))
        worst = max(worst, float(gap.max()))
    return worst


@pytest.mark.skipif(not BUNDLE.is_file(), reason="no released bundle")
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda folder: folder.name)
def test_a_recording_through_the_broker_is_decided_as_offline(
    recording: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(BUNDLE)
    source = open_source(recording, bundle.manifest)
    offline = [d for _, d in decisions(bundle, source, Options(backend="onnxruntime"), print)]
    clock, sink = FakeClock(WALL_S), Collected()
    engine = open_engines(bundle, say=print)["sensor"]
    with mosquitto(tmp_path) as broker, watcher(broker.port, "nothing") as house:
        where = Broker(host="127.0.0.1", port=broker.port)
        config = LiveConfig(schema=1, mqtt=where, sensors=sources(bundle))
        live = Live(bundle.manifest, engine, config, clock=clock, sinks=[sink], say=print)
        link = Link(where, "replay", live.sensors.topics, will=None, say=print)
        link.listen(live)
        link.start()
        wait_for(lambda: link.up, "the connection")
        replay(live, clock, house, sent_by(recording))
        link.close()
    assert live.counts["late"] == 0
    found = [o.decision for o in sink.outcomes if o.decision is not None]
    assert len(found) >= len(offline) - 2
    times, late_s = sample_times(recording), config.decide.lateness_s
    pairs = zip(found, offline, strict=False)
    in_time = [(a, b) for a, b in pairs if awaited_s(times, a.end_s) <= late_s]
    assert len(in_time) > 0.5 * len(found)  # else a sensor was silent as its window ended
    assert compare([a for a, _ in in_time], [b for _, b in in_time]) <= 1e-5
