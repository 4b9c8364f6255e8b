"""From a graph of a bundle to a TensorRT engine that may be used: identity, cache, build, test."""

import dataclasses
import hashlib
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detach.edge import engine_cache
from detach.edge.bundle import Bundle
from detach.edge.cuda_memory import CudaDevice
from detach.edge.engine_cache import PLAN_FILE, EngineCache, EngineIdentity
from detach.edge.golden import choose_precision, self_test
from detach.edge.guarded_process import Limits, Outcome, run_guarded
from detach.edge.manifest import graph_file, graph_key
from detach.edge.tensorrt_build import BuildSettings, import_tensorrt, profile_of
from detach.edge.tensorrt_engine import TensorRtEngine
from detach.errors import MachineError

Say = Callable[[str], None]
Test = Callable[[TensorRtEngine, str], None]
"""Raises a DataError when an engine in some precision computes something else than the bundle's
golden windows."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How engines are built here and where they are kept."""

    settings: BuildSettings = dataclasses.field(default_factory=BuildSettings)
    limits: Limits = dataclasses.field(default_factory=Limits)
    cache: Path | None = None
    """None is the user's folder."""

    @property
    def folder(self) -> Path:
        """Of engines and timing caches."""
        return self.cache or engine_cache.default_folder()


def open_tested(
    bundle: Bundle, graph: str, precision: str, how: Preparation, test: Test, say: Say
) -> TensorRtEngine:
    """An engine from the cache, or built now, that has passed ``test``.

    Args:
        bundle: An opened bundle.
        graph: Its name.
        precision: One that the bundle has.
        how: Settings, limits and folder.
        test: What it must pass before anything else is asked of it.
        say: Is told what is built, thrown away or put aside.

    Raises:
        MachineError: No TensorRT, no GPU, no room; building fails, or the engine was put aside.
        DataError: The engine fails its test; it is put aside.
    """
    trt = import_tensorrt()
    device = CudaDevice()

    def load(plan: bytes) -> TensorRtEngine:
        return TensorRtEngine(
            trt,
            plan,
            device,
            graph=graph,
            precision=precision,
            shapes=bundle.manifest.shapes(graph),
            max_batch=how.settings.max_batch,
        )

    def build(plan: Path) -> Outcome:
        gpu = identity.device["name"]
        say(f"{graph}: building an engine in {precision} for {gpu}; it may take minutes, once")
        return _build_plan(bundle, graph, identity, plan, how)

    def judge(engine: TensorRtEngine) -> None:
        try:
            test(engine, precision)
        except BaseException:
            engine.close()
            raise

    try:
        identity = identity_of(bundle, graph, precision, trt, device, how.settings)
        return EngineCache(how.folder).open(identity, build, load, judge, say)
    except BaseException:
        device.close()
        raise


def build_engines(
    bundle: Bundle, *, say: Say, precision: str | None = None, how: Preparation | None = None
) -> dict[str, Path]:
    """Puts the engines of all video graphs into the cache, for `detach export --to engine`.

    Args:
        bundle: An opened bundle.
        say: Is told what is built, and the command that does the same without Python.
        precision: None takes fp16 where the bundle has it.
        how: Settings, limits and folder.

    Returns:
        The file of each graph, for this machine and this TensorRT alone; none without video.

    Raises:
        MachineError: No TensorRT, no GPU, no room, or building fails.
        DataError: An engine does not repeat the golden windows.
        UsageError: The bundle does not have the precision.
    """
    files, golden = {}, bundle.golden()
    for graph in ("video_spatial", "video_temporal"):
        if not bundle.manifest.precisions(graph):
            continue
        chosen = choose_precision(bundle, graph, "tensorrt", precision)
        test, settled = self_test(bundle, graph, golden), how or Preparation()
        files[graph] = build_engine_file(bundle, graph, chosen, settled, test, say)
        command = trtexec_command(bundle, graph, chosen, settled.settings)
        say(f"{graph}: {files[graph]}; without Python: {command}")
    if not files:
        say(f"{bundle.path} has no video graphs; the sensor graph is fastest on a CPU")
    return files


def build_engine_file(
    bundle: Bundle, graph: str, precision: str, how: Preparation, test: Test, say: Say
) -> Path:
    """Puts a tested engine into the cache and returns its file.

    Raises:
        MachineError: As `open_tested`; names the command that does it without Python.
        DataError: As `open_tested`.
    """
    try:
        engine = open_tested(bundle, graph, precision, how, test, say)
    except MachineError as error:
        command = trtexec_command(bundle, graph, precision, how.settings)
        raise MachineError(f"{error}; without Python, on the machine itself: {command}") from error
    identity = identity_of(bundle, graph, precision, import_tensorrt(), engine.device, how.settings)
    engine.close()
    return EngineCache(how.folder).entry(identity) / PLAN_FILE


def trtexec_command(
    bundle: Bundle, graph: str, precision: str, settings: BuildSettings | None = None
) -> str:
    """What builds the same engine with NVIDIA's tool instead, from TensorRT 10.3 to 11."""
    settings = settings or BuildSettings()
    file, shapes = (
        graph_file(graph, precision),
        profile_of(bundle.manifest.shapes(graph)[0], settings),
    )
    least, usual, most = (
        ",".join(f"{name}:{'x'.join(map(str, sizes[i]))}" for name, sizes in shapes.items())
        for i in range(3)
    )
    command = [
        "trtexec",
        f"--onnx={file}",
        f"--saveEngine={Path(file).stem}.plan",
        "--stronglyTyped",
        f"--minShapes={least}",
        f"--optShapes={usual}",
        f"--maxShapes={most}",
        f"--memPoolSize=workspace:{settings.workspace_mib}",
        f"--builderOptimizationLevel={settings.level}",
        *([] if settings.tf32 else ["--noTF32"]),
        f"--timingCacheFile={Path(file).stem}.timing",
        "--skipInference",
    ]
    unpack = ["unzip", "-o", str(bundle.path), file]
    return f"{shlex.join(unpack)} && {shlex.join(command)}"


def identity_of(
    bundle: Bundle,
    graph: str,
    precision: str,
    trt: Any,
    device: CudaDevice,
    settings: BuildSettings,
) -> EngineIdentity:
    """The identity of the engine of a graph on this machine."""
    inputs, _ = bundle.manifest.shapes(graph)
    return EngineIdentity(
        onnx_sha256=bundle.manifest.graphs[graph_key(graph, precision)].sha256,
        precision=precision,
        profile=profile_of(inputs, settings),
        tensorrt=str(trt.__version__),
        device=dataclasses.asdict(device.identity()),
        settings=dataclasses.asdict(settings),
    )


def _build_plan(
    bundle: Bundle, graph: str, identity: EngineIdentity, plan: Path, how: Preparation
) -> Outcome:
    """Writes a plan, in a process of its own with limits."""
    with tempfile.TemporaryDirectory(prefix="detach-build-") as folder:
        onnx = Path(folder) / graph_file(graph, identity.precision)
        onnx.write_bytes(bundle.graph(graph, identity.precision))
        command = [sys.executable, "-m", "detach.edge.tensorrt_build"]
        command += ["--onnx", str(onnx), "--plan", str(plan)]
        command += ["--timing", str(_timing_file(how.folder, identity))]
        for name, value in dataclasses.asdict(how.settings).items():
            command += [f"--{name.replace('_', '-')}", str(int(value))]
        try:
            return run_guarded(command, how.limits)
        except MachineError as error:
            raise MachineError(
                f"building {graph} in {identity.precision} failed: {error}"
            ) from error


def _timing_file(folder: Path, identity: EngineIdentity) -> Path:
    """Times of layers, worth keeping for one device and version."""
    about = json.dumps([identity.tensorrt, dict(identity.device)], sort_keys=True)
    return folder / "timing" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.cache"
