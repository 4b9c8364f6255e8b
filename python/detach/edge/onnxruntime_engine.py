"""A graph on the CPU through ONNX Runtime."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from detach.edge.bundle import Bundle
from detach.edge.graph_input import Tensors, checked
from detach.errors import DataError, MachineError

INSTALL = "pip install onnxruntime"


class OnnxRuntimeEngine:
    """One session on one graph of a bundle.

    Args:
        bundle: An opened bundle.
        graph: ``sensor``, ``video_spatial`` or ``video_temporal``.
        precision: One that the bundle has.
        threads: How many work on one call.

    Raises:
        MachineError: ONNX Runtime is not installed.
        DataError: It refuses the graph.
    """

    def __init__(self, bundle: Bundle, graph: str, precision: str, threads: int) -> None:
        runtime = _import()
        self.graph = graph
        self.inputs, outputs = bundle.manifest.shapes(graph)
        self.outputs = list(outputs)
        cores = "1 thread" if threads == 1 else f"{threads} threads"
        self.name = f"ONNX Runtime {runtime.__version__} (CPU, {cores}, {precision})"
        model = bundle.graph(graph, precision)
        try:
            self._session = runtime.InferenceSession(
                model, _options(runtime, threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"{bundle.path}: {self.name} refuses {graph}: {reason}") from error

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Outputs [N, D] by name of inputs [N, ...] by name.

        Raises:
            DataError: Wrong names, shapes or types, NaN or infinity.
            MachineError: ONNX Runtime fails, for want of memory for example.
        """
        ready = checked(self.graph, inputs, self.inputs)
        try:
            found = self._session.run(self.outputs, ready)
        except Exception as error:  # its errors have no common base
            reason = " ".join(str(error).split())[:300]
            raise MachineError(f"{self.name} failed on {self.graph}: {reason}") from error
        return dict(zip(self.outputs, found, strict=True))

    def close(self) -> None:
        """Frees the session; `run` must not be called any more."""
        self._session = None


def _import() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 -- 0.1 s and 30 MB, only where it is used
    except ImportError as error:
        raise MachineError(f"ONNX Runtime is not installed ({error}): {INSTALL}") from error
    return onnxruntime


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; what we cannot act on is not said
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
