"""A graph on an NVIDIA GPU through TensorRT, from a plan that `tensorrt_prepare` provides."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.edge.cuda_memory import CudaDevice
from detach.edge.engine_cache import PlanRefusedError
from detach.edge.graph_input import Tensors, checked
from detach.edge.manifest import Shape
from detach.errors import MachineError


class TensorRtEngine:
    """A loaded engine with its buffers on the device.

    Args:
        trt: The tensorrt module.
        plan: A serialized engine of this very machine.
        device: Memory and stream; closed with the engine.
        graph: Its name.
        precision: Of the graph.
        shapes: Inputs and outputs, as in the manifest.
        max_batch: Windows at once; more are run in pieces.

    Raises:
        PlanRefusedError: TensorRT cannot load the plan, or it is of another graph.
        MachineError: No memory on the device.
    """

    def __init__(
        self,
        trt: Any,
        plan: bytes,
        device: CudaDevice,
        *,
        graph: str,
        precision: str,
        shapes: tuple[Mapping[str, Shape], Mapping[str, Shape]],
        max_batch: int,
    ) -> None:
        self.graph, self.max_batch = graph, max_batch
        self.inputs, self.outputs = shapes
        self.name = f"TensorRT {trt.__version__} ({device.identity().name}, {precision})"
        self.device = device
        device.use()
        try:
            self._runtime, self._engine, self._context = self._load(trt, plan)
        except (RuntimeError, TypeError, MemoryError) as error:  # bindings raise these for "null"
            reason = " ".join(str(error).split())[:300]
            raise MachineError(f"{self.name} does not start: {reason}") from error
        self._address = {
            name: device.allocate(4 * max_batch * math.prod(n or 1 for n in shape))
            for name, shape in {**self.inputs, **self.outputs}.items()
        }
        for name, address in self._address.items():
            if not self._context.set_tensor_address(name, address):
                raise MachineError(f"{self.name} does not take a buffer for {name}")

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Outputs [N, D] by name of inputs [N, ...] by name.

        Raises:
            DataError: Wrong names, shapes or types, NaN or infinity.
            MachineError: The device fails.
        """
        ready = checked(self.graph, inputs, self.inputs)
        count = len(next(iter(ready.values())))
        found = {
            name: np.empty((count, *(n or 0 for n in shape[1:])), dtype=np.float32)
            for name, shape in self.outputs.items()
        }
        self.device.use()
        for start in range(0, count, self.max_batch):
            rows = slice(start, start + self.max_batch)
            self._run_piece(
                {name: value[rows] for name, value in ready.items()},
                {name: value[rows] for name, value in found.items()},
            )
        return found

    def close(self) -> None:
        """Frees the engine and what it holds on the device; safe to call twice."""
        self._context = self._engine = self._runtime = None  # in this order
        self.device.close()

    def _load(self, trt: Any, plan: bytes) -> tuple[Any, Any, Any]:
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanRefusedError(f"{len(plan)} bytes cannot be loaded")
        _check_border(trt, engine, self.inputs, self.outputs)
        context = engine.create_execution_context()
        if context is None:
            raise MachineError(f"{self.name} has not enough memory on the device for {self.graph}")
        return runtime, engine, context

    def _run_piece(self, inputs: Tensors, outputs: Tensors) -> None:
        for name, value in inputs.items():
            self.device.copy_in(self._address[name], value)
            if not self._context.set_input_shape(name, value.shape):
                raise MachineError(f"{self.name} does not take {name} of {value.shape}")
        if not self._context.execute_async_v3(self.device.stream.value or 0):
            raise MachineError(f"{self.name} failed on {self.graph}")
        for name, value in outputs.items():
            self.device.copy_out(value, self._address[name])
        self.device.wait()


def _check_border(
    trt: Any, engine: Any, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> None:
    """Inputs and outputs must be those of the graph, by name, shape and type."""
    expected = {(name, True, tuple(n or -1 for n in shape)) for name, shape in inputs.items()}
    expected |= {(name, False, tuple(n or -1 for n in shape)) for name, shape in outputs.items()}
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {
        (
            name,
            engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            tuple(engine.get_tensor_shape(name)),
        )
        for name in names
    }
    if found != expected:
        raise PlanRefusedError(f"it has {sorted(found)}, and must have {sorted(expected)}")
    if any(engine.get_tensor_dtype(name) != trt.DataType.FLOAT for name in names):
        raise PlanRefusedError("its inputs and outputs are not all float32")
