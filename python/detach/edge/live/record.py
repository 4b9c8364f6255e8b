"""`detach record`: the sensors of a home, and its camera, as recordings, hour by hour."""

import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from detach.data.recording import SensorTrack
from detach.edge.live.camera import Camera
from detach.edge.live.clock import Clock, SystemClock, WallClock
from detach.edge.live.config import LiveConfig, read_config
from detach.edge.live.journal import Journal, recover
from detach.edge.live.lines import start_lines
from detach.edge.live.messages import Connected, Intake, Message
from detach.edge.live.mqtt import Link
from detach.edge.live.sensors import SensorKind, Sensors
from detach.edge.live.service import notify
from detach.edge.live.start import stopped_by_signals
from detach.errors import DataError, MachineError

LOOK_EVERY_S = 0.5
SAY_AGAIN_S = 60.0


class Recorder:
    """Messages in, recordings out. `offer` and `connected` may be called from any thread.

    Args:
        config: With the kind of every sensor.
        out: Folder of the data set.
        clock: The one clock.
        say: Is told what a person should know.
        camera: Watched elsewhere; its pictures become the film.

    Raises:
        DataError: A sensor has no kind, or a name that no file can have.
        MachineError: The folder cannot be written.
    """

    def __init__(
        self,
        config: LiveConfig,
        out: Path,
        *,
        clock: Clock,
        say: Callable[[str], None],
        camera: Camera | None = None,
    ) -> None:
        self._camera, self._seen_s = camera, -math.inf
        self._tracks = tracks_of(config)
        self.intake = Intake(config.intake)
        self.counts: Counter[str] = Counter()
        self.finished: list[Path] = []
        self._config, self._out, self._clock, self._say = config, out, clock, say
        self._wall = WallClock(clock)
        self._said_s = -math.inf
        self._origin_s = clock.monotonic()
        self._known: dict[tuple[str, str], float] = {}
        kinds = {t.name: SensorKind(binary=t.binary, hz=t.hz) for t in self._tracks}
        forget_after_s = config.mqtt.forget_after_s if config.mqtt is not None else 0.0
        self.sensors = Sensors(config.sensors, kinds, self, self._origin_s, forget_after_s)
        self._begins_s = 0.0
        self._journal = self._begin(0.0)
        if config.mqtt is None:
            self.sensors.start(self._origin_s)

    def offer(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """A message, now."""
        self.intake.offer(Message(topic, payload, self._clock.monotonic(), retained))

    def connected(self, *, up: bool) -> None:
        """The broker is there, or no longer, from now on."""
        self.intake.offer(Connected(up, self._clock.monotonic()))

    def push(self, sensor: str, axis: str, t_s: list[float], values: list[float]) -> None:
        """Values of a sensor; the sensors call this."""
        self._known[sensor, axis] = values[-1]
        for t, value in zip(t_s, values, strict=True):
            at_s = t - self._begins_s
            if at_s < 0:
                self.counts["late"] += 1
            else:
                self._journal.push(sensor, axis, at_s, value)

    def step(self) -> None:
        """Takes what arrived, writes what is due, and begins the next recording when it is time."""
        ahead_s = self._wall.ahead_s()
        for item in self.intake.take():
            if isinstance(item, Message):
                self.sensors.until(item.arrival_s)
                self.sensors.take(item, ahead_s)
            elif item.up:
                self.sensors.connected(item.arrival_s)
            else:
                self.sensors.disconnected(item.arrival_s)
        now_s = self._clock.monotonic()
        self.sensors.until(now_s)
        self._film()
        elapsed_s = now_s - self._origin_s - self._begins_s
        if elapsed_s >= 60 * self._config.record.minutes:
            self._next(now_s - self._origin_s)
            return
        try:
            self._journal.until(elapsed_s)
        except (OSError, MachineError) as error:
            self._fail(error)

    def run(self, stop: threading.Event, beat: Callable[[], object] = lambda: None) -> None:
        """Until ``stop`` is set; then the recording is finished."""
        try:
            while not stop.is_set():
                self.step()
                beat()
                self._clock.wait(self.intake.arrived, LOOK_EVERY_S)
            self.step()
        finally:
            end_s = self._clock.monotonic() - self._origin_s - self._begins_s
            self._end(end_s)

    def _film(self) -> None:
        """Pictures that are new go into the film."""
        shots = self._camera.shots() if self._camera is not None else []
        for shot in shots:
            if shot.t_s > self._seen_s and self._journal.film is not None:
                self._seen_s = shot.t_s
                at_s = shot.t_s - self._origin_s - self._begins_s
                self._journal.film.push(at_s, shot.picture)

    def _begin(self, at_s: float) -> Journal:
        start_utc_s = self._origin_s + at_s + self._wall.ahead_s()
        stamp = datetime.fromtimestamp(start_utc_s, timezone.utc).strftime("%Y%m%d-%H%M%S")
        name, n = f"{self._config.name}-{stamp}", 2
        while (self._out / name).exists() or (self._out / f".{name}.recording").exists():
            name, n = f"{self._config.name}-{stamp}-{n}", n + 1
        camera = self._config.camera if self._camera is not None else None
        return Journal(
            *(self._out, name, self._tracks, start_utc_s, self._config.record.subject),
            fps=None if camera is None else camera.fps,
        )

    def _next(self, at_s: float) -> None:
        """The next recording, whatever became of the last; tried again where the disk refuses."""
        try:
            self._end(at_s - self._begins_s)
        except MachineError as error:
            self._fail(error, "; the next start makes a recording of what is there")
        try:
            journal = self._begin(at_s)
        except MachineError as error:
            self._fail(error)
            return
        self._begins_s, self._journal = at_s, journal
        hz = {track.name: track.hz for track in self._tracks}
        for (sensor, axis), value in self._known.items():
            if hz[sensor] is None and not math.isnan(value):
                self._journal.push(sensor, axis, 0.0, value)  # it holds on

    def _end(self, end_s: float) -> None:
        folder = self._journal.finish(max(end_s, 1e-3))
        if folder in self.finished:
            return
        self.finished.append(folder)
        counts = self._journal.counts
        pictures = f", {counts['pictures']} pictures" if self._camera is not None else ""
        self._say(f"{folder}: {end_s:.0f} s, {counts['rows']} rows{pictures}")

    def _fail(self, error: OSError | MachineError, what_now: str = "") -> None:
        """Counted, and said now and then."""
        self.counts["failed"] += 1
        now_s = self._clock.monotonic()
        if now_s - self._said_s >= SAY_AGAIN_S:
            self._said_s = now_s
            self._say(f"{self._out}: cannot be written: {_why(error)}{what_now}")


def run_record(
    config_path: Path,
    out: Path,
    *,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> Sequence[Path]:
    """Records until a signal, ``stop``, or the end of standard input where that is a source.

    What an earlier run left behind in ``out`` is made a recording first.

    Args:
        config_path: live.yaml.
        out: Folder of the data set.
        say: Is told what a person should know.
        stop: Ends it when set.
        clock: Instead of the machine's.

    Returns:
        The recordings that were made.

    Raises:
        DataError: A wrong configuration, or what was left behind is damaged.
        MachineError: A refused login, or a folder that cannot be written.
    """
    stop = stop or threading.Event()
    config = read_config(config_path)
    tracks_of(config)
    recovered = recover(out)
    for folder in recovered:
        say(f"{folder}: made from what was left behind")
    clock, link, camera = clock or SystemClock(), None, None
    if config.camera is not None:
        size_px = config.record.picture_px
        camera = Camera(config.camera, size_px, "keep", clock=clock, say=say)
    recorder = Recorder(config, out, clock=clock, say=say, camera=camera)
    if config.mqtt is not None:
        name = f"{config.name}-record"
        link = Link(config.mqtt, name, recorder.sensors.topics, will=None, say=say)
        link.listen(recorder)
    try:
        with stopped_by_signals(stop, recorder.intake):
            if link is not None:
                link.start()
            if config.lines:
                start_lines(sys.stdin.fileno(), recorder.sensors.topics, recorder.offer, stop.set)
            notify("READY=1")
            recorder.run(stop, lambda: _beat(camera))
    finally:
        if camera is not None:
            camera.close()
        if link is not None:
            link.close()
    return [*recovered, *recorder.finished]


def _beat(camera: Camera | None) -> None:
    notify("WATCHDOG=1")
    if camera is not None:
        camera.watch()


def _why(error: OSError | MachineError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def tracks_of(config: LiveConfig) -> tuple[SensorTrack, ...]:
    """How the sensors stand in recording.json.

    Raises:
        DataError: A sensor has no kind, or a name that no file can have.
    """
    tracks = []
    for name, source in config.sensors.items():
        if source.kind is None:
            raise DataError(f"sensors.{name}: a recording needs its kind, such as kind: switch")
        if "/" in name or name.startswith(".") or len(name.encode()) > 80:
            raise DataError(f"sensors.{name}: no file can have this name; choose a plain one")
        sampled = source.hz is not None and source.reports != "changes"
        tracks.append(
            SensorTrack(
                name=name,
                kind=source.kind,
                unit=source.unit,
                hz=source.hz if sampled else None,
                axes=source.axes,
                place=source.place,
            )
        )
    return tuple(tracks)
