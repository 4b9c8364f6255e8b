"""Engines run the graphs of a bundle. Which one is chosen, and why, is said.

TensorRT for the video graphs where it works, ONNX Runtime on the CPU otherwise and for the sensor
graph, whose recurrent layers a GPU does not make faster. An engine is used only after it has
repeated the golden windows of the bundle.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from detach.edge.bundle import Bundle
from detach.edge.golden import choose_precision, self_test
from detach.edge.graph_input import Tensors
from detach.edge.onnxruntime_engine import OnnxRuntimeEngine
from detach.edge.tensorrt_prepare import Preparation, open_tested
from detach.errors import DataError, MachineError, UsageError

Backend = Literal["auto", "tensorrt", "onnxruntime"]
MOST_THREADS = 1024
"""Of one engine, as of `detach train`."""
BACKENDS: tuple[Backend, ...] = ("auto", "tensorrt", "onnxruntime")


class Engine(Protocol):
    """One graph, ready to run."""

    name: str
    """With version, device and precision, for people."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Outputs [N, D] by name of inputs [N, ...] by name.

        Raises:
            DataError: Wrong names, shapes or types, NaN or infinity.
            MachineError: The device fails.
        """
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


def check_threads(count: int) -> int:
    """A number of threads for an engine.

    Raises:
        UsageError: None, or more than are of use to anyone.
    """
    if not 1 <= count <= MOST_THREADS:
        raise UsageError(f"threads must be 1 to {MOST_THREADS}, got {count}")
    return count


def open_engines(
    bundle: Bundle,
    *,
    backend: Backend = "auto",
    graphs: Sequence[str] = ("sensor",),
    precision: str | None = None,
    threads: int = 1,
    cache: Path | None = None,
    say: Callable[[str], None],
) -> dict[str, Engine]:
    """An engine for each of ``graphs``, tested on the golden windows.

    Args:
        bundle: An opened bundle.
        backend: ``auto`` takes the first that works; another name takes that one or fails.
        graphs: Names, as in the manifest.
        precision: One of fp32, fp16 and int8; None takes what suits the engine. The sensor graph,
            which is never int8, then takes what suits it.
        threads: Of ONNX Runtime.
        cache: Folder for TensorRT engines; None is the user's.
        say: Is told which engine was taken and why others were not.

    Raises:
        UsageError: No such backend, graph or precision, or a number of threads that is none.
        DataError: No engine repeats the golden windows or accepts the graph.
        MachineError: No engine is installed.
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    check_threads(threads)
    engines: dict[str, Engine] = {}
    golden = bundle.golden()
    try:
        for graph in graphs:
            test = self_test(bundle, graph, golden)
            engines[graph] = _first_that_works(
                bundle, graph, backend, precision, threads, cache, test, say
            )
    except BaseException:
        for engine in engines.values():
            engine.close()
        raise
    return engines


def _first_that_works(
    bundle: Bundle,
    graph: str,
    backend: Backend,
    wanted: str | None,
    threads: int,
    cache: Path | None,
    test: Callable[[Engine, str], None],
    say: Callable[[str], None],
) -> Engine:
    failed: list[DataError | MachineError] = []
    for kind in _order(graph, backend):
        precision = choose_precision(bundle, graph, kind, wanted)
        engine: Engine
        try:
            if kind == "tensorrt":
                how = Preparation(cache=cache)
                engine = open_tested(bundle, graph, precision, how, test, say)
            else:
                engine = OnnxRuntimeEngine(bundle, graph, precision, threads)
                test(engine, precision)
        except (DataError, MachineError) as error:
            failed.append(error)
            continue
        why = "".join(f"; {error}" for error in failed) or _reason(graph, backend)
        say(f"{graph}: {engine.name}{why}")
        return engine
    reasons = "; ".join(map(str, failed))
    machine = all(isinstance(error, MachineError) for error in failed)
    raise (MachineError if machine else DataError)(f"{graph}: no engine can run it: {reasons}")


def _order(graph: str, backend: Backend) -> tuple[str, ...]:
    if backend != "auto":
        return (backend,)
    return ("onnxruntime", "tensorrt") if graph == "sensor" else ("tensorrt", "onnxruntime")


def _reason(graph: str, backend: Backend) -> str:
    if backend != "auto":
        return f", as --backend {backend} asks"
    return ", since the sensor graph is fastest on a CPU" if graph == "sensor" else ""
