"""The loop: messages in, watermark, windows, decisions, outcomes to the sinks. One thread."""

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from detach.edge.decide import UNKNOWN, Decision, decide
from detach.edge.engine import Engine
from detach.edge.graph_input import Tensors
from detach.edge.live.clock import Clock, WallClock
from detach.edge.live.config import LiveConfig
from detach.edge.live.messages import Connected, Intake, Message
from detach.edge.live.outcomes import Kind, Outcome, Settled, Tally, with_thresholds
from detach.edge.live.sensors import SensorKind, Sensors
from detach.edge.manifest import Manifest
from detach.edge.stream import SensorForm, SensorStream, SensorWindow
from detach.errors import DetachError, MachineError

LONGEST_WAIT_S = 1.0
SAY_AGAIN_S = 60.0


class Sink(Protocol):
    """Where outcomes go."""

    def take(self, outcome: Outcome) -> None:
        """One of them, in order.

        Raises:
            OSError: It cannot be written; the loop counts that and goes on.
        """
        ...

    def idle(self, now_s: float) -> None:
        """Called at least once a second."""
        ...

    def close(self) -> None:
        """The last word."""
        ...


Look = Callable[[float], Tensors | None]
"""What the video graphs say of the window that starts then; None where pictures are missing."""
Show = Callable[[str, str, list[float], list[float]], None]
"""Takes values of a sensor's axis as `Live.push` does; must not wait."""


class Live:
    """A bundle at work. `offer` and `connected` may be called from any thread.

    Args:
        manifest: Of the bundle.
        engine: Runs its sensor graph.
        config: The configuration.
        clock: The one clock.
        sinks: Get every outcome, in order.
        say: Is told what a person should know.
    """

    def __init__(
        self,
        manifest: Manifest,
        engine: Engine,
        config: LiveConfig,
        *,
        clock: Clock,
        sinks: Sequence[Sink] = (),
        say: Callable[[str], None],
    ) -> None:
        self.manifest = with_thresholds(manifest, config.decide)
        self.config = config
        self.counts: Counter[str] = Counter()
        self.tally = Tally()
        self.intake = Intake(config.intake)
        self.latest: Outcome | None = None
        self.kinds = sensor_kinds(manifest, config)
        self._engine, self._clock, self._sinks = engine, clock, list(sinks)
        self._look: Look | None = None
        self._show: Show | None = None
        self._say, self._said_s = say, -math.inf
        self._origin_s = clock.monotonic()
        self._wall = WallClock(clock)
        forms = {name: SensorForm(hz=kind.hz) for name, kind in self.kinds.items()}
        self.stream = SensorStream(manifest, forms)
        forget_after_s = config.mqtt.forget_after_s if config.mqtt is not None else 0.0
        self.sensors = Sensors(config.sensors, self.kinds, self, self._origin_s, forget_after_s)
        self._settled = Settled(config.decide, manifest.classes)
        self._online_s = -math.inf if config.mqtt is None else math.inf
        self._next = 0
        self._cut_s = -math.inf
        self._reached = dict.fromkeys((c.sensor for c in manifest.channels), -math.inf)
        if config.mqtt is None:
            self.sensors.start(self._origin_s)

    def add_sinks(self, sinks: Sequence[Sink]) -> None:
        """More of them, before `run`."""
        self._sinks += sinks

    def look_with(self, look: Look) -> None:
        """A camera, before `run`."""
        self._look = look

    def show_with(self, show: Show) -> None:
        """Who else gets all values, before `run`; those that are known already, at once."""
        self._show = show
        for sensor, values in self.sensors.known():
            for axis, value in values.items():
                show(sensor, axis, [0.0], [value])

    @property
    def origin_s(self) -> float:
        """Monotonic time of the stream's zero."""
        return self._origin_s

    @property
    def online(self) -> bool:
        """Whether the broker is there; True where none is needed."""
        return self._online_s < math.inf

    @property
    def state(self) -> str | None:
        """What is held to be going on."""
        return self._settled.state

    @property
    def policy_counts(self) -> dict[str, dict[str, int]]:
        """Of the stream, and clocks_set and clocks_set_ms of the sensors whose policy is resync."""
        clocks = {
            name: clock
            for name, clock in self.sensors.clocks.items()
            if clock.resets and self.kinds[name].resync_s is not None
        }
        return self.stream.policy_counts | {
            "clocks_set": {name: clock.resets for name, clock in clocks.items()},
            "clocks_set_ms": {name: round(1000 * clock.reset_s) for name, clock in clocks.items()},
        }

    @property
    def clock_steps(self) -> int:
        """How often the wall clock was set."""
        return self._wall.steps

    def offer(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """A message, now."""
        self.intake.offer(Message(topic, payload, self._clock.monotonic(), retained))

    def connected(self, *, up: bool) -> None:
        """The broker is there, or no longer, from now on."""
        self.intake.offer(Connected(up, self._clock.monotonic()))

    def push(self, sensor: str, axis: str, t_s: list[float], values: list[float]) -> None:
        """Values of a channel; the sensors call this."""
        column = self.stream.column(sensor, axis)
        if column is None:
            return
        for t, value in zip(t_s, values, strict=True):
            self.counts["late"] += t <= self._cut_s and not math.isnan(value)
        self.counts["values"] += len(t_s)
        self._reached[sensor] = max(self._reached[sensor], t_s[-1])
        self.stream.push(column, np.array(t_s), np.array(values, np.float32))
        if self._show is not None:
            self._show(sensor, axis, t_s, values)

    def step(self) -> float:
        """Takes what arrived and decides one window that is due.

        Returns:
            Seconds until there is more to do.
        """
        self._drain()
        newest = self._newest_due(self._clock.monotonic())
        if newest >= self._next:
            if newest - self._next >= self.config.decide.behind:
                self._skip(newest)
            self._decide(self._next)
        now_s = self._clock.monotonic()
        self.sensors.until(now_s)
        for sink in self._sinks:
            self._guarded(lambda sink=sink: sink.idle(now_s))  # type: ignore[misc] # bound now
        if self._all_reached(self._next):
            return 0.0
        return min(max(self._due_s(self._next) - now_s, 0.0), LONGEST_WAIT_S)

    def run(self, stop: threading.Event, beat: Callable[[], object] = lambda: None) -> None:
        """Until ``stop`` is set; ``beat`` is called at least once a second."""
        try:
            while not stop.is_set():
                wait_s = self.step()
                beat()
                self._clock.wait(self.intake.arrived, wait_s)
            self.step()
        finally:
            for sink in self._sinks:
                with contextlib.suppress(OSError, MachineError):
                    sink.close()

    def _drain(self) -> None:
        ahead_s = self._wall.ahead_s()
        for item in self.intake.take():
            if isinstance(item, Message):
                # What happens by itself happens before what came later.
                self.sensors.until(item.arrival_s)
                self.sensors.take(item, ahead_s)
            elif item.up:
                self._online_s = item.arrival_s - self._origin_s
                self.sensors.connected(item.arrival_s)
            else:
                self.counts["outages"] += self.online
                self._online_s = math.inf
                self.sensors.disconnected(item.arrival_s)

    def _due_s(self, number: int) -> float:
        end_s = self.stream.bounds(number)[1]
        return self._origin_s + end_s + self.config.decide.lateness_s

    def _newest_due(self, now_s: float) -> int:
        hop_s = self.manifest.window.hop_s
        waited = now_s - self._origin_s - self.config.decide.lateness_s
        first_end_s = self.stream.bounds(0)[1]
        newest = math.floor((waited - first_end_s) / hop_s + 1e-6)
        if newest < self._next and self._all_reached(self._next):
            return self._next
        return newest

    def _all_reached(self, number: int) -> bool:
        # Sensors that report changes may always have one under way; then lateness is waited for.
        if any(kind.hz is None for kind in self.kinds.values()):
            return False
        end_s = self.stream.bounds(number)[1]
        return all(self._reached[name] > end_s for name in self.kinds)

    def _skip(self, newest: int) -> None:
        first, self._next = self._next, newest
        self._emit(first, "skip", reason="behind", count=newest - first, forget=True)

    def _decide(self, number: int) -> None:
        self._next = number + 1
        end_s = self.stream.bounds(number)[1]
        self.sensors.until(self._origin_s + end_s)
        window = self.stream.cut(number)
        self._cut_s = end_s
        if window.start_s < self._online_s:
            self._emit(number, "abstention", reason="offline", forget=True)
            return
        decision = self._ask(window)
        if decision is None:
            self._emit(number, "abstention", reason="failed")
        elif decision.silent:
            self._emit(number, "abstention", decision, reason="silent_sensor")
        elif decision.live_share < self.manifest.thresholds.live_share:
            self._emit(number, "abstention", decision, reason="few_sensors")
        elif decision.label == UNKNOWN:
            self._emit(number, "abstention", decision, reason="unsure")
        else:
            self._emit(number, "decision", decision)

    def _ask(self, window: SensorWindow) -> Decision | None:
        try:
            outputs = self._engine.run({"samples": window.samples[None]})
            seen = self._look(window.start_s) if self._look is not None else None
        except DetachError as error:
            self._complain(f"window {window.number}: {error}")
            return None
        return decide(self.manifest, window, outputs, seen)

    def _emit(
        self,
        number: int,
        kind: Kind,
        decision: Decision | None = None,
        *,
        reason: str | None = None,
        count: int = 1,
        forget: bool = False,
    ) -> None:
        before = self._settled.state
        if forget:
            self._settled.forget()
        else:
            self._settled.take(decision)
        window = self.manifest.window
        start_s = number * window.hop_s
        end_s = start_s + (count - 1) * window.hop_s + window.seconds
        now_s = self._clock.monotonic()
        outcome = Outcome(
            number=number,
            kind=kind,
            start_s=start_s,
            end_s=end_s,
            utc_s=self._origin_s + end_s + self._wall.ahead_s(),
            state=self._settled.state,
            changed=self._settled.state != before,
            count=count,
            reason=reason,
            decision=decision,
            lag_s=now_s - self._origin_s - end_s,
        )
        self.latest = outcome
        self.tally.take(outcome)
        for sink in self._sinks:
            self._guarded(lambda sink=sink: sink.take(outcome))  # type: ignore[misc] # bound now

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BrokenPipeError:  # whoever read the lines has had enough
            raise
        except (OSError, MachineError) as error:
            self.counts["sink_failed"] += 1
            self._complain(str(error))

    def _complain(self, text: str) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._said_s >= SAY_AGAIN_S:
            self._said_s = now_s
            self._say(text)


def sensor_kinds(manifest: Manifest, config: LiveConfig) -> Mapping[str, SensorKind]:
    """Of the sensors that both know; the bundle's, unless the configuration says otherwise."""
    kinds: dict[str, SensorKind] = {}
    for channel in manifest.channels:
        source = config.sensors.get(channel.sensor)
        if source is not None:
            hz = channel.hz if source.hz is None else source.hz
            by_changes = source.reports == "changes" or (source.reports is None and hz is None)
            own_hz = None if by_changes else hz or 1.0
            kinds[channel.sensor] = SensorKind(
                binary=channel.binary,
                hz=own_hz,
                holds=channel.policy == "hold",
                beats=own_hz is None and channel.policy in {"mask", "drop"},
                resync_s=None if own_hz is None else channel.resync_s,
            )
    return kinds
