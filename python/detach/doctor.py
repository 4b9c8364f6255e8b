"""What this machine has, and whether the kernels agree with their references here.

Works without torch too, on a box that only runs bundles.
"""

from __future__ import annotations  # torch may be absent; its types are only named

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detach import __version__, kernels, recipes
from detach.config import VideoConfig
from detach.data.recording import read_dataset
from detach.data.video import decode
from detach.errors import EXIT_OK, DataError, DetachError, MachineError
from detach.simulate.machine import find_gl

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PACKAGES = (
    "numpy",
    "torch",
    "scikit-learn",
    "matplotlib",
    "opencv-python-headless",
    "safetensors",
    "PyYAML",
    "tyro",
    "jinja2",
    "onnxruntime",
    "mujoco",
)
ULP_LIMIT = 2.0
LOSS_LIMIT = 1e-4
"""Of the loss and its gradient in float32, which err by about 1e-6."""

Finding = tuple[bool, str]
"""Whether it is as it should be, and the line that says what was found."""


def examine(say: Callable[[str], None]) -> int:
    """Prints one line a finding; the exit code says whether something is broken.

    What is merely absent (a GPU, the simulator) is said and is not a fault.
    """
    healthy = True
    trains = importlib.util.find_spec("torch") is not None
    torch_parts = (_operators, _gpu) if trains else (_without_torch,)
    for part in (_versions, _kernels, *torch_parts, _decoder, _simulator, _disk):
        for good, line in part():
            healthy &= good
            say(f"{'ok ' if good else 'BAD'} {line}")
    return EXIT_OK if healthy else MachineError.exit_code


def _versions() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield True, f"detach {__version__}, Python {platform.python_version()}, {system}"
    yield True, ", ".join(f"{name} {_installed(name)}" for name in PACKAGES)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _kernels() -> Iterator[Finding]:
    facts = kernels.info()
    yield True, f"extension: {'yes' if facts['extension'] else 'no'}, {facts['why']}"
    if facts["extension"]:
        built = facts["cuda_architectures"] if facts["cuda_built"] else "none"
        yield True, f"CPU kernels: {facts['simd']}; CUDA kernels: {built} ({facts['cuda_why']})"
    error_ulp = kernels.self_test()
    yield error_ulp <= ULP_LIMIT, f"percentile against NumPy in float64: {error_ulp:.2g} ulp off"


def _without_torch() -> Iterator[Finding]:
    yield True, "torch: not installed; `detach run` and `detach bench edge` do without it"


def _operators() -> Iterator[Finding]:
    import torch  # noqa: PLC0415 -- absent where bundles are only run

    from detach import ops  # noqa: PLC0415

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in map(torch.device, devices):
        try:
            chosen, why = ops.backend(device)
        except ValueError as error:
            yield False, str(error)
            continue
        for name, limit, examined in (
            ("percentile", 1e-6, _percentile_error),
            ("contrastive loss", LOSS_LIMIT, _loss_error),
        ):
            difference = examined(device)
            where = f"{name} on {device.type}: {chosen} ({why})"
            yield difference < limit, f"{where}, {difference:.1e} from the equations"


def _percentile_error(device: torch.device) -> float:
    """Largest difference to the equation in float64, over the largest value."""
    import torch  # noqa: PLC0415

    from detach import equations, ops  # noqa: PLC0415

    x = torch.randn(64, 60, 34, generator=torch.Generator().manual_seed(0)).to(device)
    ours = ops.activation_percentile(x, 0.99, 1, absolute=True).double()
    truth = equations.activation_percentile(x.double(), 0.99, 1, absolute=True)
    return ((ours - truth).abs().max() / truth.abs().max()).item()


def _loss_error(device: torch.device) -> float:
    """The same for the loss, or for the gradient of the sensors' motion where that errs more."""
    import torch  # noqa: PLC0415

    from detach import equations, ops  # noqa: PLC0415

    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(100, 40, generator=generator) for _ in range(6)]
    ours = _loss_and_gradient(ops.weighted_contrastive_loss, [x.to(device) for x in features])
    truth = _loss_and_gradient(equations.weighted_contrastive_loss, [x.double() for x in features])
    pairs = zip(ours, truth, strict=True)
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs)


def _loss_and_gradient(loss: Callable[..., Tensor], features: list[Tensor]) -> list[Tensor]:
    import torch  # noqa: PLC0415

    learned = features[3].clone().requires_grad_()
    value = loss(*features[:3], learned, *features[4:])
    return [x.detach().double().cpu() for x in (value, *torch.autograd.grad(value, learned))]


def _gpu() -> Iterator[Finding]:
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        yield True, f"GPU: none that torch {torch.__version__} can use"
        return
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        memory = f"{facts.total_memory / 2**30:.0f} GiB"
        yield True, f"GPU {i}: {facts.name}, sm_{facts.major}{facts.minor}, {memory}"


def _decoder() -> Iterator[Finding]:
    sample = recipes.models_folder() / "sample"
    if not sample.is_dir():
        yield True, "video decoder: no sample recordings to try it on"
        return
    try:
        recording = next(read_dataset(sample).recordings(), None)
        if recording is None:
            raise DataError(f"{sample} has no recordings")
        track = recording.videos[0]
        path = recording.folder / track.file
        times = np.array([time_s for time_s, _ in decode(path, track, VideoConfig())])
    except DetachError as error:
        yield False, f"video decoder: {error}"
        return
    steady = len(times) > 1 and bool(np.all(np.diff(times) > 0))
    yield steady, f"video decoder: {len(times)} frames of {path.name} in the order of their times"


def _simulator() -> Iterator[Finding]:
    try:
        yield True, f"simulator: draws with {find_gl()}"
    except MachineError as error:
        yield True, f"simulator: no; {error}"


def _disk() -> Iterator[Finding]:
    for name, folder in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 1e9
        yield free > 1, f"disk: {free:.0f} GB free for {name}"
