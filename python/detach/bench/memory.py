"""Peak extra memory of one call: on a CPU in a process of its own, on a GPU as torch allocates."""

import ctypes
import multiprocessing
import re
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from detach.bench.timing import Body
from detach.ram import available_mib

WARM = 64
"""Batch size of the first call, which brings code and thread pools into memory."""
PATIENCE_S = 600.0
PER_PAIR_BYTES = 40
"""What the hungriest variant takes a pair, with room: eager takes 33."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def growth(
    make: Callable[[int], Body], size: int, *, threads: int, compiled: bool = False
) -> int | None:
    """Bytes by which the peak of resident memory grows in one call; None where it is not known.

    In a new process: after a call at N = 64, inputs at ``size`` are made and one call is watched.
    Outputs and gradients count, inputs do not. What is ``compiled`` runs twice, since compiling
    takes memory too, and not at N = 64, which would take as long again.

    Args:
        make: From N to a body; can be pickled.
        size: N.
        threads: Of torch.
        compiled: Whether the first call compiles.
    """
    if not _CLEAR.exists():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["detach.bench.loss", "detach.bench.percentile"])
    ours, theirs = context.Pipe(duplex=False)
    job = partial(_watched, make, size, threads, compiled=compiled)
    process = context.Process(target=_send, args=(theirs, job), daemon=True)
    process.start()
    theirs.close()
    try:
        return int(ours.recv()) if ours.poll(PATIENCE_S) else None
    except EOFError:  # killed, as by a lack of memory
        return None
    finally:
        process.kill()
        process.join()
        ours.close()


def growth_on_gpu(body: Body) -> int:
    """Bytes that one call takes at its peak beyond what is allocated before it.

    Gradients of an earlier call, which this one frees, would hide its own.
    """
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    body()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def fits(size: int) -> bool:
    """Whether the hungriest variant leaves half of the free memory alone."""
    free = available_mib()
    return free is None or 2 * PER_PAIR_BYTES * size**2 < 2**20 * free


def _send(pipe: Connection, job: Callable[[], int]) -> None:
    pipe.send(job())
    pipe.close()


def _watched(make: Callable[[int], Body], size: int, threads: int, *, compiled: bool) -> int:
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # of torch.compile about itself
    make(size if compiled else WARM)()
    body = make(size)
    _return_free_memory()
    _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    before = _resident("VmRSS")
    body()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"))
    return 1024 * int(found[1]) if found else 0


def _return_free_memory() -> None:
    """Else a call would be given pages that an earlier one has left, and seem to need none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
