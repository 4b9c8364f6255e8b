"""`detach live`: from the files to a running instance and back."""

import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detach.edge.bundle import Bundle, open_bundle
from detach.edge.engine import Engine, open_engines
from detach.edge.live.camera import Camera
from detach.edge.live.clock import Clock, SystemClock
from detach.edge.live.config import LiveConfig, Page, check_sensors, read_config
from detach.edge.live.discovery import Topics
from detach.edge.live.lines import start_lines
from detach.edge.live.loop import Live, Sink
from detach.edge.live.messages import Intake
from detach.edge.live.metrics import Counters, MetricsFile
from detach.edge.live.mqtt import Link
from detach.edge.live.pictures import Pictures
from detach.edge.live.rehearsal import rehearsed, start_rehearsal
from detach.edge.live.service import notify
from detach.edge.live.sinks import HomeAssistant, JsonLines
from detach.edge.manifest import Manifest
from detach.errors import DataError, MachineError, UsageError


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How `detach live` runs."""

    threads: int = 1
    lines_out: bool = True
    """Whether outcomes are written as JSON lines."""
    metrics: Path | None = None
    replay: Path | None = None
    """A recording to play instead of reading a configuration."""
    port: int | None = None
    """Of the live page; for ``replay``."""


def run_live(
    bundle_path: Path,
    config_path: Path | None,
    *,
    options: LiveOptions | None = None,
    write: Callable[[str], None],
    say: Callable[[str], None],
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> Live:
    """Runs until a signal, ``stop``, or the end of standard input where that is a source.

    Args:
        bundle_path: NAME.detach.
        config_path: live.yaml; None with ``options.replay``.
        options: How.
        write: Takes each JSON line.
        say: Is told what a person should know.
        stop: Ends it when set.
        clock: Instead of the machine's.

    Returns:
        The instance, for its counters.

    Raises:
        UsageError: Neither a configuration nor a recording, or both, or a port beside the first.
        DataError: A damaged bundle or configuration, or they do not fit.
        MachineError: No engine, a refused login, a password that is not there.
    """
    stop, options = stop or threading.Event(), options or LiveOptions()
    config, bundle = _opened(bundle_path, config_path, options, say)
    home = _assembled(bundle, config, options, clock or SystemClock(), write, say)
    try:
        with stopped_by_signals(stop, home.live.intake):
            if home.link is not None:
                home.link.start()
            if options.replay is not None:
                start_rehearsal(options.replay, home.live.offer, home.camera, stop)
            elif config.lines:
                topics = home.live.sensors.topics
                start_lines(sys.stdin.fileno(), topics, home.live.offer, stop.set)
            notify("READY=1")
            home.live.run(stop, home.beat)
            notify("STOPPING=1")
    finally:
        home.close()
    return home.live


def _opened(
    bundle_path: Path, config_path: Path | None, options: LiveOptions, say: Callable[[str], None]
) -> tuple[LiveConfig, Bundle]:
    if config_path is not None and options.replay is not None:
        raise UsageError("give a configuration (--config) or a recording (--replay), not both")
    if config_path is not None and options.port is not None:
        raise UsageError(f"--port goes with --replay; write page.port into {config_path} instead")
    config = None if config_path is None else read_config(config_path)
    bundle = open_bundle(bundle_path)
    if config is None and options.replay is None:
        raise UsageError(
            "give a configuration (--config live.yaml) or a recording (--replay). In live.yaml, "
            f"for this bundle, with your topics:\n{_sensors_of(bundle.manifest)}"
        )
    if options.replay is not None:
        config = rehearsed(options.replay, bundle.manifest, options.port)
    assert config is not None  # noqa: S101 -- one of the two
    _check_fit(config, bundle.manifest, config_path or options.replay or Path(), say)
    return config, bundle


def _sensors_of(manifest: Manifest) -> str:
    """What live.yaml needs of the bundle's sensors, topics left to its owner."""
    axes: dict[str, list[str]] = {}
    for channel in manifest.channels:
        axes.setdefault(channel.sensor, []).append(channel.axis)
    lines = ["sensors:"]
    for name, own in axes.items():
        first = next(c for c in manifest.channels if c.sensor == name)
        fields = "" if own == ["value"] else f", fields: {{{', '.join(f'{a}: {a}' for a in own)}}}"
        rate = "" if first.hz is None else f", {first.hz:g} a second"
        unit = f" in {first.unit}" if first.unit and first.hz is not None else ""
        key = name if re.fullmatch(r"\w[\w.-]*", name) else json.dumps(name)
        lines.append(f"  {key}: {{topic: TOPIC{fields}}}  # {first.kind}{unit}{rate}")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Home:
    live: Live
    link: Link | None
    camera: Camera | None
    engines: Mapping[str, Engine]

    def beat(self) -> None:
        notify("WATCHDOG=1")
        if self.camera is not None:
            self.camera.watch()

    def close(self) -> None:
        for held in (self.link, self.camera, *self.engines.values()):
            if held is not None:
                held.close()


def _assembled(
    bundle: Bundle,
    config: LiveConfig,
    options: LiveOptions,
    clock: Clock,
    write: Callable[[str], None],
    say: Callable[[str], None],
) -> _Home:
    manifest = bundle.manifest
    camera = _camera(config, manifest, clock, say)
    graphs = _graphs(bundle, camera)
    engines = open_engines(bundle, graphs=graphs, threads=options.threads, say=say)
    live = Live(manifest, engines["sensor"], config, clock=clock, say=say)
    if camera is not None and manifest.video is not None:
        seconds = manifest.window.seconds
        pictures = Pictures(camera, manifest.video, seconds, engines, live.origin_s)
        live.look_with(pictures.look)
    sinks: list[Sink] = [JsonLines(write)] if options.lines_out else []
    link = _link(config, live, manifest, sinks, say)
    counts = Counters(link.counts if link else {}, camera.counts if camera else {})
    if options.metrics is not None:
        sinks.append(MetricsFile(options.metrics, live, counts))
    if config.page is not None:
        sinks.append(_page(config.page, live, camera, counts, clock, say))
    live.add_sinks(sinks)
    return _Home(live=live, link=link, camera=camera, engines=engines)


@contextmanager
def stopped_by_signals(stop: threading.Event, intake: Intake) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop in good order; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        stop.set()
        intake.arrived.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _link(
    config: LiveConfig,
    live: Live,
    manifest: Manifest,
    sinks: list[Sink],
    say: Callable[[str], None],
) -> Link | None:
    if config.mqtt is None:
        return None
    topics = live.sensors.topics
    will = None
    if config.publish is not None:
        named = Topics(config.name, config.publish)
        will, topics = named.availability, (*topics, named.birth, named.descriptions)
    link = Link(config.mqtt, config.name, topics, will=will, say=say)
    if config.publish is not None:
        home = HomeAssistant(link, config.name, manifest, config.publish)
        link.listen(home)
        sinks.append(home)
    link.listen(live, live.sensors.topics)
    return link


def _camera(
    config: LiveConfig, manifest: Manifest, clock: Clock, say: Callable[[str], None]
) -> Camera | None:
    if config.camera is None:
        return None
    form = manifest.video
    if form is None or form.flow is not None:
        what = "has no video graphs" if form is None else "needs optical flow"
        raise DataError(f"the bundle {what}; leave the camera out of live.yaml")
    return Camera(config.camera, form.size_px, form.fit, clock=clock, say=say)


def _page(
    config: Page,
    live: Live,
    camera: Camera | None,
    beside: Counters,
    clock: Clock,
    say: Callable[[str], None],
) -> Sink:
    try:
        from detach.edge.live.page import LivePage  # noqa: PLC0415 -- needs the extra `edge`
    except ImportError as error:
        raise MachineError(
            f"the live page needs aiohttp, which cannot be imported ({error}): "
            "pip install 'aiohttp>=3.10', or leave page out of live.yaml"
        ) from error
    page = LivePage(config, live, camera=camera, beside=beside, clock=clock)
    live.show_with(page.history.push)
    say(f"live page: {page.address}")
    return page


def _graphs(bundle: Bundle, camera: Camera | None) -> list[str]:
    video = () if camera is None else ("video_spatial", "video_temporal")
    return ["sensor", *(graph for graph in video if bundle.manifest.precisions(graph))]


def _check_fit(
    config: LiveConfig, manifest: Manifest, where: Path, say: Callable[[str], None]
) -> None:
    known: dict[str, set[str]] = {}
    for channel in manifest.channels:
        known.setdefault(channel.sensor, set()).add(channel.axis)
    check_sensors(config, known, where)
    missing = [name for name in known if name not in config.sensors]
    extra = [name for name in config.sensors if name not in known]
    if missing:
        say(f"{len(missing)} of the bundle's sensors are not here: {', '.join(missing[:8])}")
    needed = {channel.sensor for channel in manifest.channels if channel.policy == "drop"}
    if lost := [name for name in missing if name in needed]:
        say(f"every answer will be unknown: the bundle gives none without {', '.join(lost[:8])}")
    if extra:
        say(f"left out, since the bundle does not know them: {', '.join(extra[:8])}")
