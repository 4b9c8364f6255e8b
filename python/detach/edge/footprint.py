"""`detach bench edge`: what a bundle costs on this machine, as one JSON that can be sent on.

A process of its own is measured from its start to its first decision, then window by window.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach import kernels
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.decide import decide
from detach.edge.engine import Engine, open_engines
from detach.edge.graph_input import Tensors
from detach.edge.manifest import golden_name
from detach.edge.stream import SensorStream, SensorWindow
from detach.errors import DataError, MachineError

SCHEMA = 1
WINDOWS, WARM = 300, 20
PATIENCE_S = 600.0
PACKAGES = ("detach", "numpy", "onnxruntime", "tensorrt", "opencv-python-headless", "opencv-python")
BOARD_FILES = ("/proc/device-tree/model", "/etc/nv_tegra_release")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one step over all windows."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What was measured."""

    schema: int
    bundle: str
    model: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    engines: Mapping[str, str]
    threads: int
    """Of ONNX Runtime."""
    windows: int
    first_decision_s: float
    """From the start of the process; Python, the bundle's checks and the self-test included."""
    peak_memory_mb: float
    """Resident, of that process."""
    latency: Mapping[str, Latency]
    """Of each graph, of cutting a window from the stream, and of all together."""

    def as_text(self) -> str:
        """A small table."""
        lines = [
            f"{self.bundle} on {self.machine['cpu']}",
            *(f"{graph}: {name}" for graph, name in self.engines.items()),
            f"first decision after {self.first_decision_s:.2f} s, "
            f"peak memory {self.peak_memory_mb:.0f} MB, {self.windows} windows",
            f"{'':<16}{'p50':>9}{'p95':>9}{'p99':>9}  ms",
        ]
        for name, t in self.latency.items():
            lines.append(f"{name:<16}{t.p50_ms:>9.3f}{t.p95_ms:>9.3f}{t.p99_ms:>9.3f}")
        return "\n".join(lines)

    def as_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @property
    def device(self) -> str:
        """As the ledger names it."""
        return f"{self.machine['cpu']} ({self.machine['architecture']}), {self.threads} thread"

    def lines(self) -> Iterator[dict[str, object]]:
        """One for every number, as the ledger keeps them."""
        engines = " and ".join(dict.fromkeys(self.engines.values()))
        shared = {"what": "bench edge", "data": self.bundle, "items": self.windows}
        shared["provider"] = f"{' + '.join(self.engines)}: {engines}"
        yield {**shared, "metric": "first_decision_s", "value": f"{self.first_decision_s:.4f}"}
        yield {**shared, "metric": "peak_memory_mb", "value": f"{self.peak_memory_mb:.1f}"}
        for step, taken in self.latency.items():
            for metric, value in asdict(taken).items():
                yield {**shared, "metric": f"{step}_{metric}", "value": f"{value:.4f}"}


def measure(
    bundle: Path, *, video: bool = False, backend: str = "auto", threads: int = 1
) -> Footprint:
    """Measures a bundle in a new process.

    Args:
        bundle: NAME.detach.
        video: Whether the video graphs run too.
        backend: As `detach.edge.engine.open_engines`.
        threads: Of ONNX Runtime.

    Raises:
        DataError: A damaged bundle.
        MachineError: The process fails, or takes longer than ten minutes.
    """
    opened = open_bundle(bundle)
    job = {"bundle": str(bundle), "video": video, "backend": backend, "threads": threads}
    command = [sys.executable, "-m", "detach.edge.footprint", json.dumps(job)]
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 -- ourselves
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None  # noqa: S101 -- for mypy
        process.stdout.readline()
        first_s = time.perf_counter() - started
        said, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"{bundle}: not done after {PATIENCE_S:.0f} s") from error
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise MachineError(f"{bundle}: the measured process failed: {errors.strip()[-500:]}")
    found = json.loads(said)
    return Footprint(
        schema=SCHEMA,
        bundle=bundle.name,
        model=opened.manifest.model,
        machine=_machine(),
        versions=_versions(),
        engines=found["engines"],
        threads=threads,
        windows=found["windows"],
        first_decision_s=first_s,
        peak_memory_mb=found["peak_memory_mb"],
        latency={name: Latency(**t) for name, t in found["latency"].items()},
    )


def watched(bundle: Path, *, video: bool, backend: str, threads: int) -> None:
    """What the measured process does: decides once, says so, then decides on many windows."""
    opened = open_bundle(bundle)
    graphs = [g for g in ("sensor", "video_spatial", "video_temporal") if video or g == "sensor"]
    graphs = [graph for graph in graphs if opened.manifest.precisions(graph)]
    if video and graphs == ["sensor"]:
        raise DataError(f"{bundle}: has no video graphs; measure it without --video")
    engines = open_engines(
        opened,
        backend=backend,  # type: ignore[arg-type]  # checked there
        graphs=graphs,
        threads=threads,
        say=lambda _: None,
    )
    stream = SensorStream(opened.manifest)
    feeds = _feeds(opened, graphs)
    _decide_on(opened, engines, feeds, stream.cut(0))
    print("decided", flush=True)  # noqa: T201 -- the parent is waiting for it
    taken: dict[str, list[float]] = {name: [] for name in ("cut", *graphs, "all")}
    for number in range(1, WINDOWS + WARM):
        _fill(stream, number)
        took = _one(opened, engines, feeds, stream, number)
        if number >= WARM:
            for name, seconds in took.items():
                taken[name].append(1e3 * seconds)
    body = {
        "engines": {graph: engine.name for graph, engine in engines.items()},
        "windows": WINDOWS,
        "peak_memory_mb": _peak_mb(),
        "latency": {name: _latency(of) for name, of in taken.items()},
    }
    print(json.dumps(body))  # noqa: T201 -- to the parent


def _one(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    feeds: Mapping[str, Tensors],
    stream: SensorStream,
    number: int,
) -> dict[str, float]:
    marks = [time.perf_counter()]
    window = stream.cut(number)
    marks.append(time.perf_counter())
    outputs = engines["sensor"].run({"samples": window.samples[None]})
    marks.append(time.perf_counter())
    seen: Tensors = {}
    for graph in list(engines)[1:]:
        seen |= engines[graph].run(feeds[graph])
        marks.append(time.perf_counter())
    decide(bundle.manifest, window, outputs, seen or None)
    steps = np.diff(marks).tolist()
    named = dict(zip(("cut", *engines), steps, strict=True))
    return named | {"all": time.perf_counter() - marks[0]}


def _decide_on(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    feeds: Mapping[str, Tensors],
    window: SensorWindow,
) -> None:
    outputs = engines["sensor"].run({"samples": window.samples[None]})
    seen: Tensors = {}
    for graph in list(engines)[1:]:
        seen |= engines[graph].run(feeds[graph])
    decide(bundle.manifest, window, outputs, seen or None)


def _feeds(bundle: Bundle, graphs: Sequence[str]) -> dict[str, Tensors]:
    """Inputs of the video graphs: the first golden window."""
    golden = bundle.golden()
    return {
        graph: {
            name: golden[golden_name(graph, name)][:1] for name in bundle.manifest.shapes(graph)[0]
        }
        for graph in graphs
    }


def _fill(stream: SensorStream, number: int) -> None:
    """Two seconds of values on every channel, as sensors would send them."""
    window = stream.window
    t_s: NDArray[np.float64] = (number - 1) * window.hop_s + np.arange(
        0.0, window.seconds, 1 / window.rate_hz
    )
    for column in range(stream.width):
        stream.push(column, t_s, (np.sin(t_s * (column + 1)) > 0).astype(np.float32))


def _latency(milliseconds: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99]).tolist()
    return asdict(Latency(p50_ms=p50, p95_ms=p95, p99_ms=p99))


def _peak_mb() -> float:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    line = next((line for line in text.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(line.split()[1]) / 1024


def _machine() -> dict[str, str]:
    board = [Path(name) for name in BOARD_FILES if Path(name).is_file()]
    cpu = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        cpu = next(
            line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line
        )
    except (OSError, StopIteration):
        pass
    return {
        "cpu": cpu,
        "architecture": platform.machine(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        **{path.name: path.read_text(errors="replace").strip("\0\n ") for path in board},
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "kernels": kernels.info()["why"] or "compiled"}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    watched(Path(options.pop("bundle")), **options)
