"""A command in a process of its own that may not take more time or memory than it was given.

Not by resource limits: CUDA reserves far more addresses than it uses, so a limit on those stops it
at once. What the process really holds is looked at instead, and what the machine has left, since
on a board the GPU takes from the same memory. The kernel is told to end it first, should memory run
out between two looks.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detach.errors import MachineError
from detach.ram import available_mib, mib_in

LOOK_EVERY_S = 0.1
TAIL_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a process is ended."""

    time_s: float = 1800.0
    memory_mib: int = 4096
    """Resident memory of the process."""
    spare_mib: int = 256
    """The machine must have so much left."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of a process that ended well."""

    seconds: float
    peak_mib: float


def run_guarded(command: Sequence[str], limits: Limits) -> Outcome:
    """Runs a command to its end.

    Raises:
        MachineError: It failed, with the end of what it said, or reached a limit.
    """
    started, peak_mib, reason = time.monotonic(), 0.0, ""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 -- our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _offer_to_the_kernel(process.pid)
            while process.poll() is None and not reason:
                peak_mib = max(peak_mib, _resident_mib(process.pid))
                reason = _exceeded(limits, time.monotonic() - started, peak_mib)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_EVERY_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if reason:
            raise MachineError(reason)
        if process.returncode:
            said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL_CHARACTERS))
            tail = " ".join(said.read().decode(errors="replace").split())
            raise MachineError(f"{_ending(process.returncode)}: {tail or 'it said nothing'}")
    return Outcome(seconds=time.monotonic() - started, peak_mib=peak_mib)


def _exceeded(limits: Limits, seconds: float, peak_mib: float) -> str:
    if seconds > limits.time_s:
        return f"ended after {seconds:.0f} s, the limit"
    if peak_mib > limits.memory_mib:
        return f"ended at {peak_mib:.0f} MiB of memory; the limit is {limits.memory_mib}"
    left = available_mib()
    if left is not None and left < limits.spare_mib:
        return f"ended at {peak_mib:.0f} MiB of memory, when the machine had {left:.0f} MiB left"
    return ""


def _ending(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"


def _offer_to_the_kernel(pid: int) -> None:
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _resident_mib(pid: int) -> float:
    return mib_in(Path(f"/proc/{pid}/status"), "VmHWM") or 0.0
