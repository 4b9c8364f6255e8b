"""The part of TensorRT that detach uses, for tests: plans are ONNX files, run by ONNX Runtime.

Whatever is public here, with its parameters, is in the real ones from 10.3 to 11 too, which
`test_tensorrt_api.py` checks: what works with this one calls nothing that they lack. The
environment says which version it is (FAKE_TENSORRT) and what goes wrong (FAKE_FAULT): builder,
parse, build, hang, crash, hog, runtime, refuse, context, wrong, nan, launch.
"""

import ctypes
import enum
import hashlib
import json
import os
import sys
import time
from typing import Any

__version__ = os.environ.get("FAKE_TENSORRT", "10.3.0")
MAGIC = b"FAKEPLAN"
TIMING = b"TIMES OF "


def _fault() -> str:
    return os.environ.get("FAKE_FAULT", "")


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 0 if __version__.startswith("11") else 1


class BuilderFlag(enum.IntEnum):
    TF32 = 6


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class TensorIOMode(enum.IntEnum):
    INPUT = 1
    OUTPUT = 2


class DataType(enum.IntEnum):
    FLOAT = 0
    HALF = 1


class Logger:
    WARNING, ERROR = 2, 1

    def __init__(self, min_severity: int) -> None:
        assert min_severity in {self.WARNING, self.ERROR}


class INetworkDefinition:
    _model = b""


class ParserError:
    def desc(self) -> str:
        return "it is no graph"


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Logger) -> None:
        assert isinstance(logger, Logger)
        self._network, self._errors = network, 0

    def parse(self, model: bytes) -> bool:
        if _fault() == "parse":
            self._errors = 1
            return False
        self._network._model = model
        return True

    @property
    def num_errors(self) -> int:
        return self._errors

    def get_error(self, index: int) -> ParserError:
        assert index < self._errors
        return ParserError()


class IHostMemory(bytes):
    __slots__ = ()


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(TIMING + __version__.encode())


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 -- theirs
        self._shapes[input] = [list(min), list(opt), list(max)]


class IBuilderConfig:
    builder_optimization_level = -1

    def __init__(self) -> None:
        self._profile, self._workspace, self._tf32 = IOptimizationProfile(), 0, True
        self._timing: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE
        self._workspace = pool_size

    def clear_flag(self, flag: BuilderFlag) -> None:
        assert flag is BuilderFlag.TF32
        self._tf32 = False

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profile = profile
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        fits = cache._content in {b"", TIMING + __version__.encode()}
        self._timing = cache if fits else None
        return fits

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing


class Builder:
    def __init__(self, logger: Logger) -> None:
        _start("builder", logger)

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        if _fault() == "build":
            sys.stderr.write("no implementation found for node MatMul\n")
            return None
        _misbehave()
        about = {
            "version": __version__,
            "profile": config._profile._shapes,
            "workspace": config._workspace,
            "tf32": config._tf32,
            "level": config.builder_optimization_level,
            "timed": bool(config._timing and config._timing._content),
        }
        head = json.dumps(about).encode()
        body = len(head).to_bytes(4, "little") + head + network._model
        return IHostMemory(MAGIC + hashlib.sha256(body).digest() + body)


def _start(what: str, logger: Logger) -> None:
    assert isinstance(logger, Logger)
    if _fault() == what:
        raise TypeError("pybind11::init(): factory function returned nullptr")


def _misbehave() -> None:
    """While it builds."""
    if _fault() == "hang":
        time.sleep(60)
    if _fault() == "crash":
        os.abort()
    if _fault() == "hog":
        held = []
        while True:
            held.append(b"x" * (1 << 24))
            time.sleep(0.02)


class Runtime:
    def __init__(self, logger: Logger) -> None:
        _start("runtime", logger)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        plan = serialized_engine
        body = plan[len(MAGIC) + 32 :]
        whole = plan[: len(MAGIC)] == MAGIC and hashlib.sha256(body).digest() == plan[8:40]
        if not whole or _fault() == "refuse":
            return None
        size = int.from_bytes(body[:4], "little")
        about = json.loads(body[4 : 4 + size])
        return ICudaEngine(body[4 + size :], about) if about["version"] == __version__ else None


class ICudaEngine:
    def __init__(self, model: bytes, about: dict[str, Any]) -> None:
        import onnx

        self._model, self._about = model, about
        graph = onnx.load_from_string(model).graph
        self._tensors = {
            value.name: (mode, [axis.dim_value or -1 for axis in value.type.tensor_type.shape.dim])
            for mode, values in (
                (TensorIOMode.INPUT, graph.input),
                (TensorIOMode.OUTPUT, graph.output),
            )
            for value in values
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._tensors)[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._tensors[name][0]

    def get_tensor_dtype(self, name: str) -> DataType:
        assert name in self._tensors
        return DataType.FLOAT

    def get_tensor_shape(self, name: str) -> list[int]:
        return self._tensors[name][1]

    def create_execution_context(self) -> "IExecutionContext | None":
        return None if _fault() == "context" else IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        import onnxruntime

        self._engine = engine
        self._session = onnxruntime.InferenceSession(engine._model)
        self._address: dict[str, int] = {}
        self._shape: dict[str, tuple[int, ...]] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._address[name] = memory
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine._about["profile"][name]
        self._shape[name] = tuple(shape)
        return all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))

    def execute_async_v3(self, stream_handle: int) -> bool:
        import numpy as np

        assert stream_handle
        feed = {}
        for name, shape in self._shape.items():
            raw = ctypes.string_at(self._address[name], 4 * int(np.prod(shape)))
            feed[name] = np.frombuffer(raw, np.float32).reshape(shape)
        names = [output.name for output in self._session.get_outputs()]
        for name, value in zip(names, self._session.run(names, feed), strict=True):
            wrong = {"wrong": value + 1, "nan": value * np.nan}.get(_fault(), value)
            raw = np.ascontiguousarray(wrong, np.float32).tobytes()
            ctypes.memmove(self._address[name], raw, len(raw))
        return _fault() != "launch"
