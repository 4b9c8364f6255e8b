"""compute-sanitizer's four tools over the kernels; a part of gpu_operators.py, or by hand:

    export PYTHONPATH=OUT/build
    compute-sanitizer --tool racecheck python benchmarks/gpu_sanitizers.py

Few windows, since racecheck costs about twenty times the work.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from gpu_calls import PRECISIONS, Raw

from detach import ops

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SIZES = (17, 130)
LONGEST_S = 100.0
FOUND = 9
"""Exit status of a tool that found something."""


def sanitizers(rows: Any) -> None:
    """What each tool says of `kernels_once`."""
    tool = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin")
    )
    if tool is None:
        rows.add("compute-sanitizer", "skipped", note="it is not installed")
        return
    # Memory of torch's own allocator would hide a step too far.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for name in TOOLS:
        command = [tool, "--tool", name, "--error-exitcode", str(FOUND), sys.executable, __file__]
        done = subprocess.run(  # noqa: S603 -- our own program
            command, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_S
        )
        said = (done.stdout + done.stderr).strip().rpartition("\n")[2][:200]
        rows.add(name, "failed" if done.returncode else "0 errors", note=said)


def kernels_once() -> None:
    """Losses and gradients in all precisions, saved and not, and percentiles."""
    from gpu_parts import made  # noqa: PLC0415 -- which imports this

    for n in SIZES:
        for precision in PRECISIONS:
            for save in (True, False):
                Raw(made(n, precision), precision, save=save).run()
        for length in (64, 2000):
            ops.activation_percentile(torch.randn(n, length, 3, device="cuda"), 0.9, dim=1)
    torch.cuda.synchronize()


if __name__ == "__main__":
    kernels_once()
