"""Builds an ONNX file with TensorRT-RTX for a GPU that need not be here: `python FILE MODEL SM86`.

TensorRT-RTX is NVIDIA's own parser and builder, and the only one on PyPI that works without a GPU.
Its libraries come in the wheel onnxruntime-ep-nv-tensorrt-rtx-cu13, the Python names in
tensorrt-rtx-cu13-bindings. A process builds one engine: objects that are freed in another order at
exit end it with a fault. Prints one line of JSON.
"""

import ctypes
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

BINDINGS, LIBRARIES = "tensorrt_rtx_bindings", "onnxruntime_ep_nv_tensorrt_rtx"
LARGEST_BATCH = 16


def missing() -> str:
    """Why nothing can be built here; empty if it can."""
    absent = [name for name in (BINDINGS, LIBRARIES) if find_spec(name) is None]
    return f"{', '.join(absent)} not installed" if absent else ""


def load_libraries() -> None:
    """Under the names they know each other by, which the wheel's files do not have."""
    spec = find_spec(LIBRARIES)
    assert spec is not None
    assert spec.origin is not None
    for name in ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so"):
        (found,) = Path(spec.origin).parent.glob(f"{name}.*")
        ctypes.CDLL(str(found), mode=ctypes.RTLD_GLOBAL)


def peak_mb() -> int:
    """Of this program; ru_maxrss would count the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def build(model: Path, capability: str) -> dict[str, object]:
    """Parses and builds; says how many errors the parser found and how large the engine is."""
    load_libraries()
    import tensorrt_rtx_bindings as trt  # type: ignore[import-untyped]

    start = time.monotonic()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # Precision is what the graph says. A timing cache would ask for a GPU, so there is none.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parser.parse_from_file(str(model))
    errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        shape = tuple(network.get_input(i).shape)
        sizes = ((n, *shape[1:]) for n in (1, 1, LARGEST_BATCH))
        profile.set_shape(network.get_input(i).name, *sizes)
    config.add_optimization_profile(profile)
    plan = None if errors else builder.build_serialized_network(network, config)
    done = {
        "errors": errors,
        "layers": network.num_layers,
        "engine_bytes": 0 if plan is None else plan.nbytes,
        "seconds": round(time.monotonic() - start, 2),
        "peak_mb": peak_mb(),
    }
    del plan, profile, parser, network, config, builder
    return done


if __name__ == "__main__":
    print(json.dumps(build(Path(sys.argv[1]), sys.argv[2])))  # noqa: T201 -- its only output
