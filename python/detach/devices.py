"""What a run needs of the machine, and what it notes of it."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detach import __version__
from detach.config import RunConfig
from detach.distributed import ALONE, World
from detach.errors import MachineError, UsageError

MOST_THREADS = 1024


def pick_device(name: str, world: World = ALONE) -> torch.device:
    """The device to train on; ``auto`` takes a GPU where there is one.

    Raises:
        UsageError: It is none of those there are.
        MachineError: A GPU is asked for and there is none.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"device must be auto, cpu, cuda or cuda:0 and so on, got {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MachineError(
            f"device {name} was asked for, but torch {torch.__version__} sees no GPU; "
            "use --device cpu, or install a CUDA build of torch"
        )
    if name == "cuda" and not world.alone:
        return torch.device("cuda", torch.cuda.current_device())  # its own, chosen when it joined
    return torch.device(name)


def check_machine(out: Path, config: RunConfig) -> None:
    """Threads, device and folder.

    Raises:
        UsageError: An impossible number of threads, or a file where the run folder is to be.
        MachineError: No such device, or no right to write.
    """
    pick_device(config.device)
    if not 0 <= config.threads <= MOST_THREADS:
        raise UsageError(f"threads must be 0 to {MOST_THREADS}, got {config.threads}")
    there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UsageError(f"{there} is a file; name another folder for the run")
    if not os.access(there, os.W_OK | os.X_OK):
        raise MachineError(f"{there} cannot be written; name another folder for the run")


def environment(device: torch.device, world: World) -> dict[str, Any]:
    """Versions, device and command, for env.json."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "detach": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "processes": world.size,
        "device": gpu or f"{platform.processor() or 'cpu'}, {torch.get_num_threads()} threads",
        "command": _command(sys.argv),
    }


def _command(words: Sequence[str]) -> str:
    """What to type to do the same again; ``python -m detach`` is ``detach`` too."""
    program = Path(words[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *words[1:]])
