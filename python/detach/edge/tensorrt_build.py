"""Builds a TensorRT engine from an ONNX file: ``python -m detach.edge.tensorrt_build``.

One code path for TensorRT 10.3 to 11: strongly typed networks take every precision from the graph,
so that none of the flags is needed which 11 no longer has; batches are always explicit from 10 on.
Enumerations are used by name, since their numbers change between versions. Runs in a process of
its own, which frees its objects in the one order that does not crash when the interpreter ends.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detach.data.store import write_whole
from detach.edge.onnx_walk import facts_of
from detach.errors import DetachError, MachineError

OLDEST = (10, 3)
Profile = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Smallest, usual and largest shape of each input."""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What an engine is built with; all of it is in the key of the cache."""

    max_batch: int = 16
    workspace_mib: int = 256
    """Scratch memory any one layer may ask for."""
    level: int = 3
    """0 builds fastest, 5 searches longest."""
    tf32: bool = False
    """Whether float32 products may be rounded to 10 bits."""


def import_tensorrt() -> Any:
    """The tensorrt module.

    Raises:
        MachineError: Not installed, or older than 10.3.
    """
    try:
        import tensorrt  # noqa: PLC0415 -- only where it is used
    except (ImportError, OSError, RuntimeError) as error:
        raise MachineError(f"TensorRT is not installed ({error})") from error
    version = str(tensorrt.__version__)
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise MachineError(f"TensorRT {version} is too old: 10.3 or newer is needed")
    return tensorrt


def profile_of(inputs: Mapping[str, tuple[int | None, ...]], settings: BuildSettings) -> Profile:
    """Batches of 1 to ``max_batch``, tuned for 1, of inputs [N, ...]."""
    tails = {name: tuple(int(n or 0) for n in shape[1:]) for name, shape in inputs.items()}
    largest = settings.max_batch
    return {name: ((1, *tail), (1, *tail), (largest, *tail)) for name, tail in tails.items()}


def build(
    trt: Any, model: bytes, settings: BuildSettings, timing: bytes | None
) -> tuple[bytes, bytes]:
    """An engine and a timing cache, serialized.

    Args:
        trt: The tensorrt module.
        model: An ONNX file with weights inside.
        settings: How.
        timing: A timing cache of an earlier build; None does without any.

    Raises:
        MachineError: TensorRT refuses the graph or finds no implementation.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    try:
        if not parser.parse(model):
            raise MachineError(f"TensorRT {trt.__version__} refuses the graph: {_errors(parser)}")
        config = _config(trt, builder, model, settings)
        cache = None if timing is None else _timing_cache(config, timing)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise MachineError(f"TensorRT {trt.__version__} built no engine; what it said is above")
        times = b"" if cache is None else bytes(config.get_timing_cache().serialize())
        return bytes(plan), times
    finally:
        del parser
        del network
        config = cache = plan = None
        del builder


def main(arguments: list[str] | None = None) -> int:
    """Builds what the command line says; the exit code is 0 when the engine is written."""
    options = argparse.ArgumentParser(prog="python -m detach.edge.tensorrt_build")
    options.add_argument("--onnx", type=Path, required=True, help="graph with its weights inside")
    options.add_argument("--plan", type=Path, required=True, help="where the engine is written")
    options.add_argument("--timing", type=Path, help="timing cache, read and written")
    for name, value in asdict(BuildSettings()).items():
        options.add_argument(f"--{name.replace('_', '-')}", type=int, default=int(value))
    told = options.parse_args(arguments)
    settings = BuildSettings(
        max_batch=told.max_batch,
        workspace_mib=told.workspace_mib,
        level=told.level,
        tf32=bool(told.tf32),
    )
    try:
        timing = None if told.timing is None else _read_if_there(told.timing)
        plan, times = build(import_tensorrt(), told.onnx.read_bytes(), settings, timing)
        write_whole(told.plan, plan)
        if times:
            write_whole(told.timing, times)
    except DetachError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Exception as error:  # noqa: BLE001 -- the bindings raise what they like; it is one line
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return MachineError.exit_code
    return 0


def _config(trt: Any, builder: Any, model: bytes, settings: BuildSettings) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.level
    if not settings.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    for name, (least, usual, most) in profile_of(facts_of(model).inputs, settings).items():
        profile.set_shape(name, least, usual, most)
    config.add_optimization_profile(profile)
    return config


def _timing_cache(config: Any, timing: bytes) -> Any:
    """The earlier cache where it fits this device and version, else an empty one."""
    for content in (timing, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None


def _errors(parser: Any) -> str:
    found = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    return "; ".join(found) or "it does not say why"


def _read_if_there(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


if __name__ == "__main__":
    sys.exit(main())
