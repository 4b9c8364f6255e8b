"""What can be asked of a benchmark."""

import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from detach import kernels
from detach.devices import MOST_THREADS, pick_device
from detach.errors import UsageError

Part = Literal["loss", "percentile", "step", "graph", "clip"]
Precision = Literal["float32", "float16", "bfloat16"]

MOST_WINDOWS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of `detach bench`; what each means stands in the command's help."""

    part: Part
    sizes: tuple[int, ...] = ()
    """Batch sizes N, or picture sides; none takes the part's own."""
    full: bool = False
    threads: int = 1
    seconds: float | None = None
    repeats: int = 5
    device: str = "auto"
    dtype: Precision = "float32"
    width: int = 256
    """Feature width d of each half."""
    forward_only: bool = False
    memory: bool = True
    open_clip: Path | None = None

    @property
    def on(self) -> torch.device:
        """Where it runs."""
        return pick_device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of the features."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def turn_s(self) -> float:
        """Seconds that each variant gets."""
        return (3.0 if self.full else 1.0) if self.seconds is None else self.seconds

    def chosen(self, usual: tuple[int, ...], whole: tuple[int, ...]) -> tuple[int, ...]:
        """The batch sizes to time: those asked for, or the part's ``usual`` or ``whole`` ones."""
        return self.sizes or (whole if self.full else usual)


def check_options(options: Options) -> None:
    """Refuses what cannot be measured.

    Raises:
        UsageError: An option is out of range, or not for this part.
        MachineError: No such device.
    """
    bounds = [(f"sizes[{i}]", size, 2, MOST_WINDOWS) for i, size in enumerate(options.sizes)]
    bounds += [
        ("threads", options.threads, 1, MOST_THREADS),
        ("repeats", options.repeats, 1, 10**6),
    ]
    for name, value, least, most in bounds:
        if not least <= value <= most:
            raise UsageError(f"{name} must be {least} to {most}, got {value}")
    if not 0 <= options.turn_s < math.inf:
        raise UsageError(f"seconds must be >= 0 and finite, got {options.turn_s:g}")
    if options.part != "loss" and (options.forward_only or options.dtype != "float32"):
        raise UsageError(f"forward-only and dtype are for bench loss, not for bench {options.part}")
    if options.open_clip is not None and not options.open_clip.is_file():
        raise UsageError(f"open-clip must be a wheel or a loss.py, got {options.open_clip}")
    pick_device(options.device)


def machine(options: Options) -> str:
    """The device as the ledger names it."""
    if options.on.type == "cuda":
        return f"{torch.cuda.get_device_name(options.on)}, torch {torch.__version__}"
    cores = torch.multiprocessing.cpu_count()
    used = f"{options.threads} of {cores} cores, {kernels.info()['simd']}"
    return f"{_processor()}, {used}, torch {torch.__version__}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    except OSError:
        pass
    return platform.machine()
