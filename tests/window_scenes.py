"""What sensors send, drawn at random, and what the offline path makes of it: for test_window."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from detach import kernels
from detach.config import SensorConfig
from detach.data import sensors
from detach.data.recording import SensorTrack
from detach.data.sensors import Channel, ChannelStats
from detach.kernels import StreamingWindow, WindowChannel

Values = tuple[NDArray[np.float64], NDArray[np.float64]]
NAN = math.nan
SECONDS = 12.0
BACKENDS = ("compiled", "numpy") if kernels.available() else ("numpy",)
SWITCH = WindowChannel("door", None, binary=True)
METER = WindowChannel("meter", 30.0)


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both implementations stand every test."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(kernels, "_missing", "taken away by a test")
        yield request.param


def stream(
    *channels: WindowChannel, rate_hz: float = 10.0, samples: int = 20, **rest: Any
) -> StreamingWindow:
    return StreamingWindow(rate_hz, samples, channels, **rest)


def read_track(
    channel: WindowChannel, recorded: Values, grid_s: Any, config: SensorConfig
) -> NDArray[np.float32]:
    """One channel of a recording that lies in memory, on the grid [T, 1]."""
    track = SensorTrack(
        name=channel.name,
        kind="switch" if channel.binary else "other",
        unit="",
        hz=channel.hz,
        polarity=channel.polarity,
    )
    t_s, value = recorded
    values = value.astype(np.float32)[:, None]
    recording: Any = SimpleNamespace(sensors=[track], read_sensor=lambda _: (t_s, values))
    policy = () if channel.silence == "usual" else (f"{channel.name}={channel.silence}",)
    config = dataclasses.replace(config, max_gap_s=channel.max_gap_s, policy=policy)
    return sensors.read_grid(recording, [track], grid_s, config)


def offline(
    channels: Sequence[WindowChannel],
    recorded: Sequence[Values],
    first: Sequence[int] | NDArray[np.int64],
    samples: int,
    config: SensorConfig,
) -> tuple[Any, Any, Any]:
    """Windows [N, T, C], observed and activation [N, C] of a whole recording: the judge."""
    first = np.asarray(first)
    grid_s = np.arange(int(first.max()) + samples) / config.rate_hz
    pairs = zip(channels, recorded, strict=True)
    columns = [read_track(channel, values, grid_s, config) for channel, values in pairs]
    windows = np.concatenate(columns, axis=1)[first[:, None] + np.arange(samples)]
    described = [
        Channel(name=c.name, kind="", unit="", binary=c.binary, place=None) for c in channels
    ]
    stats = ChannelStats(
        names=tuple(c.name for c in channels),
        mean=tuple(c.mean for c in channels),
        std=tuple(c.std for c in channels),
    )
    x, observed = sensors.prepare(windows, described, stats, config)
    return x, observed, np.quantile(np.abs(x.astype(np.float64)), 0.99, axis=1)


def in_order(recorded: Sequence[Values]) -> list[Values]:
    """By time, as a recording's files are; of equal times the later arrival comes last."""
    order = [np.argsort(t_s, kind="stable") for t_s, _ in recorded]
    return [(t_s[o], x[o]) for (t_s, x), o in zip(recorded, order, strict=True)]


@st.composite
def samples_of(draw: st.DrawFn, channel: WindowChannel) -> Values:
    """Jittered samples with silences, repeated times, and values that are none."""
    assert channel.hz
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(SECONDS * channel.hz)
    t_s = draw(st.sampled_from((0.0, -0.4, 0.31))) + np.arange(count) / channel.hz
    jitter_s = draw(st.sampled_from((0.0, 1e-7, 0.2 / channel.hz)))
    t_s = np.sort(t_s + jitter_s * rng.standard_normal(count))
    x = rng.integers(0, 2, count).astype(float) if channel.binary else rng.normal(3, 20, count)
    x[rng.random(count) < draw(st.sampled_from((0.0, 0.3)))] = 0.0
    x[rng.random(count) < draw(st.sampled_from((0.0, 0.1, 0.7)))] = rng.choice([NAN, np.inf])
    keep = rng.random(count) > draw(st.sampled_from((0.0, 0.05, 1.0)))
    for _ in range(draw(st.integers(0, 3))):
        silent_s = rng.uniform(0, SECONDS)
        keep &= (t_s < silent_s) | (t_s > silent_s + rng.choice([0.2, 0.9, 1.1, 3.0]))
    again = np.repeat(np.flatnonzero(keep), 1 + (rng.random(int(keep.sum())) < 0.03))
    t_s, x = t_s[again], x[again]
    return t_s, x if channel.binary else x + np.arange(x.size) % 3


@st.composite
def event_values(draw: st.DrawFn, channel: WindowChannel, rate_hz: float) -> Values:
    """Rare changes and bursts, some beside grid points, some at one time, some unknown."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.sampled_from((0, 1, 3, 40)))
    t_s = rng.uniform(-1, SECONDS, count)
    if draw(st.booleans()):
        beside_s = rng.choice([0.0, 9e-7, -9e-7, 1.1e-6, -1.1e-6], count)
        t_s = np.round(t_s * rate_hz) / rate_hz + beside_s
    if count and draw(st.booleans()):
        burst = slice(count // 2, None)
        t_s[burst] = t_s[count // 2] + np.arange(count - count // 2) * 1e-4
    x = rng.integers(0, 2, count).astype(float) if channel.binary else rng.normal(0, 5, count)
    x[rng.random(count) < draw(st.sampled_from((0.0, 0.2)))] = NAN
    return np.sort(t_s), x


@dataclasses.dataclass(frozen=True)
class Scene:
    """What sensors sent, in the order in which it arrived, and how windows are made of it."""

    config: SensorConfig
    samples: int
    hop_s: float
    channels: tuple[WindowChannel, ...]
    sent: tuple[Values, ...]

    @property
    def first(self) -> NDArray[np.int64]:
        """Windows over all that was sent and a little more; the hop may lie beside the grid."""
        end_s = max((float(t_s.max()) for t_s, _ in self.sent if t_s.size), default=1.0)
        total = int(max(0.0, end_s - self.samples / self.config.rate_hz + 0.5) / self.hop_s) + 1
        return np.round(np.arange(total) * self.hop_s * self.config.rate_hz).astype(np.int64)

    def offline(self, first: Any, sent: Sequence[Values] | None = None) -> tuple[Any, Any, Any]:
        recorded = in_order(self.sent if sent is None else sent)
        return offline(self.channels, recorded, first, self.samples, self.config)

    def stream(self, **rest: Any) -> StreamingWindow:
        c = self.config
        return StreamingWindow(
            c.rate_hz,
            self.samples,
            self.channels,
            zscore=c.zscore,
            std_floor=c.std_floor,
            clip=c.clip,
            **rest,
        )

    def shuffled(self, rng: np.random.Generator, delay_s: float) -> "Scene":
        """The same, but each value arrives up to ``delay_s`` late."""
        sent = []
        for t_s, x in self.sent:
            order = np.argsort(t_s + delay_s * rng.random(t_s.size), kind="stable")
            sent.append((t_s[order], x[order]))
        return dataclasses.replace(self, sent=tuple(sent))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    rate_hz = draw(st.sampled_from((10.0, 30.0, 50.0, 64.0, 12.5)))
    seconds = draw(st.sampled_from((0.5, 1.0, 2.0, 3.3, 10.0)))
    config = SensorConfig(
        rate_hz=rate_hz,
        zscore=draw(st.sampled_from(("plain", "keep-zero", "binary-unscaled"))),
        clip=draw(st.sampled_from((10.0, 1.5))),
        std_floor=0.5,
    )
    channels, sent = [], []
    for c in range(draw(st.integers(1, 4))):
        channel = WindowChannel(
            f"c{c}",
            draw(st.sampled_from((None, 0.5, 9.7, 30.0, 64.0))),
            binary=draw(st.booleans()),
            mean=draw(st.sampled_from((0.0, 0.4, -7.25))),
            std=draw(st.sampled_from((0.0, 0.3, 4.0))),
            max_gap_s=draw(st.sampled_from((0.0, 0.1, 1.0))),
            polarity=draw(st.sampled_from((1, -1))),
            silence=draw(st.sampled_from(("usual", "usual", "hold", "mask"))),
        )
        channels.append(channel)
        values = event_values(channel, rate_hz) if channel.hz is None else samples_of(channel)
        t_s, x = draw(values)
        if channel.hz is not None and channel.holds:  # whoever reads a file leaves these out
            t_s, x = t_s[np.isfinite(x)], x[np.isfinite(x)]
        sent.append((t_s, x))
    return Scene(
        config=config,
        samples=max(2, round(seconds * rate_hz)),
        hop_s=draw(st.sampled_from((0.333, 0.5, 1.0))),
        channels=tuple(channels),
        sent=tuple(sent),
    )


def assert_same(found: tuple[Any, Any, Any], expected: tuple[Any, Any, Any], i: int) -> None:
    samples, observed, activation = found
    assert_array_equal(observed, expected[1][i])
    assert_allclose(samples, expected[0][i], rtol=1e-6, atol=1e-6)
    assert_allclose(activation, expected[2][i], rtol=1e-6, atol=1e-6)


def push_in_chunks(
    window: StreamingWindow, sent: Sequence[Values], rng: np.random.Generator
) -> int:
    """Everything, channel by channel, some values alone."""
    taken = 0
    for c, (t_s, x) in enumerate(sent):
        for part in np.split(np.arange(t_s.size), np.sort(rng.integers(0, t_s.size + 1, 20))):
            if part.size == 1:
                taken += window.push(c, float(t_s[part[0]]), float(x[part[0]]))
            else:
                taken += window.push(c, t_s[part], x[part])
    return taken
