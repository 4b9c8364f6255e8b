"""Which implementation of an operator runs, and the library that all of them are entered in."""

import os
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn

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
    return all(x is None or type(x) is Tensor or type(x) is nn.Parameter for x in tensors)


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
    if device.type == "cuda" and _C.cuda_built and _gpus() > 0:
        return "cuda", f"compiled module, {_C.cuda_architectures}"
    return "torch", f"no {device.type} kernel: {_C.cuda_reason}"


@cache
def _gpus() -> int:
    return _C.cuda_devices()
