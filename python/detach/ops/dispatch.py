"""Which implementation of an operator runs, and the library that all of them are entered in."""

import os
import re
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from detach import kernels

if kernels.available():
    from detach import _C

    _CPU_WHY = f"compiled module, {_C.simd()}"

BACKENDS = ("cuda", "cpu", "torch", "reference")

library = torch.library.Library("detach", "DEF")  # lives as long as we do


def backend(device: torch.device) -> tuple[str, str]:
    """Which implementation runs for tensors on ``device``, and why.

    Raises:
        ValueError: DETACH_BACKEND names no backend, or one that cannot serve ``device``.
    """
    wish = _forced()
    chosen, why = _best(device)
    if not wish:
        return chosen, why
    if wish in ("cuda", "cpu") and wish != chosen:
        raise ValueError(f"DETACH_BACKEND={wish} cannot serve a tensor on {device}: {why}")
    return wish, f"DETACH_BACKEND={wish}"


def chosen(device: torch.device, dtype: torch.dtype) -> str:
    """Which implementation of the weighted contrastive loss runs for such tensors.

    Raises:
        ValueError: DETACH_BACKEND names no backend, or one that cannot serve them.
    """
    name, why = backend(device)
    if name != "cuda" or dtype != torch.float64:
        return name
    if _forced():
        raise ValueError(f"{why} cannot serve float64: the CUDA kernel takes float32 and less")
    return "torch"


# As torch.compiler.assume_constant_result does, which would import the whole compiler: 1.7 s.
chosen._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001


def undisturbed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether nothing but autograd wants to see the call: no compiler, mode or subclass.

    Then an operator need not go through torch's dispatcher, which costs as much as all checks.
    """
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():  # noqa: SLF001
        return False
    return all(
        x is None or ((type(x) is Tensor or type(x) is nn.Parameter) and not x.is_meta)
        for x in tensors
    )


def transformed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether `torch.func` looks at the call, or a tensor has a tangent or stands for several.

    Only torch's own operations, of which the equations are made, know what to do then.
    """
    if torch._C._are_functorch_transforms_active():  # noqa: SLF001 -- no public name
        return True
    if torch.compiler.is_compiling():
        return False
    several = torch._C._functorch.is_legacy_batchedtensor  # noqa: SLF001 -- is_grads_batched's
    forward = forward_ad._current_level >= 0  # noqa: SLF001
    return any(
        several(x) or (forward and forward_ad.unpack_dual(x).tangent is not None)
        for x in tensors
        if x is not None
    )


def _forced() -> str:
    name = os.environ.get("DETACH_BACKEND", "")
    if name and name not in BACKENDS:
        raise ValueError(f"DETACH_BACKEND must be one of {', '.join(BACKENDS)}, got {name!r}")
    return name


def _best(device: torch.device) -> tuple[str, str]:
    if not kernels.available():
        return "torch", kernels.info()["why"]
    if device.type == "cpu":
        return "cpu", _CPU_WHY
    if device.type != "cuda" or not _C.cuda_built or _gpus() == 0:
        return "torch", f"no {device.type} kernel: {_C.cuda_reason}"
    built = _C.cuda_architectures
    major, minor = torch.cuda.get_device_capability(device)
    if not any(_runs_on(target, major, minor) for target in built.split()):
        return "torch", f"no cuda kernel for capability {major}.{minor}: built for {built}"
    return "cuda", f"compiled module, {built}"


@cache
def _runs_on(target: str, major: int, minor: int) -> bool:
    """Whether code for a target of CMake's serves a GPU of this capability.

    Machine code (-real) serves its major number from its minor one on, PTX (-virtual) all that came
    later; a number alone is both, and a letter behind it binds both to that one GPU.
    """
    found = re.fullmatch(r"(\d+)(\d)([a-z]?)(-real|-virtual)?", target)
    if found is None:
        return True  # native, all, all-major
    made, (letter, kind) = (int(found[1]), int(found[2])), found.groups()[2:]
    if letter or made > (major, minor):
        return made == (major, minor)
    return made[0] == major if kind == "-real" else True


@cache
def _gpus() -> int:
    return _C.cuda_devices()
