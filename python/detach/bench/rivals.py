"""Other people's losses, where they are to be had. All of them are without weights.

Each is called on the joined embeddings, with the logit scale as its own interface wants it.
"""

import importlib
import importlib.util
import zipfile
import zipimport
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from detach.bench.eager import TAU, Features, Loss
from detach.errors import MachineError, UsageError


def open_clip_loss(path: Path | None) -> Loss:
    """ClipLoss out of ``path``, a wheel or its loss.py, or out of the installed package.

    Only that file is loaded: the package itself wants torchvision.

    Raises:
        UsageError: ``path`` is no such file.
        MachineError: Without ``path``: it is not installed.
    """
    loss = _open_clip(path).ClipLoss(cache_labels=True)

    def call(f: Features) -> Tensor:
        video, sensor = f.joined
        result: Tensor = loss(video, sensor, 1.0 / TAU)
        return result

    return call


def linear_cross_entropy() -> Loss:
    """Torch's own, once in each direction.

    Raises:
        MachineError: This torch has none.
    """
    fused = getattr(F, "linear_cross_entropy", None)
    if fused is None:
        raise MachineError(f"torch {torch.__version__} has none")

    def call(f: Features) -> Tensor:
        video, sensor = f.joined
        own = torch.arange(len(video), device=video.device)
        there: Tensor = fused(video / TAU, sensor, own)
        back: Tensor = fused(sensor / TAU, video, own)
        return 0.5 * (there + back)

    return call


def inf_cl(device: torch.device) -> Loss:
    """Inf-CL's fused loss, once in each direction.

    Raises:
        MachineError: No GPU, or it is not installed.
    """
    if device.type != "cuda":
        raise MachineError("it runs on a GPU only")
    try:
        module = importlib.import_module("inf_cl")
    except ImportError as error:
        raise MachineError(f"{error}; pip install inf-cl") from error

    def call(f: Features) -> Tensor:
        video, sensor = f.joined
        there: Tensor = module.cal_flash_loss(video, sensor, scale=1.0 / TAU)
        back: Tensor = module.cal_flash_loss(sensor, video, scale=1.0 / TAU)
        return 0.5 * (there.mean() + back.mean())

    return call


def _open_clip(path: Path | None) -> ModuleType:
    spec = _installed() if path is None else _at(path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: no open_clip/loss.py in it")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"{path}: cannot be loaded: {error}") from error
    if not hasattr(module, "ClipLoss"):
        raise UsageError(f"{path}: no ClipLoss in it")
    return module


def _installed() -> ModuleSpec | None:
    found = importlib.util.find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise MachineError(
            "not installed; --open-clip takes what `pip download --no-deps open_clip_torch` gives"
        )
    return _at(Path(found.submodule_search_locations[0]) / "loss.py")


def _at(path: Path) -> ModuleSpec | None:
    if not zipfile.is_zipfile(path):
        return importlib.util.spec_from_file_location("open_clip_loss", path)
    try:
        return zipimport.zipimporter(f"{path}/open_clip").find_spec("loss")
    except zipimport.ZipImportError:
        return None
