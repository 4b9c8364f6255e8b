"""Work in processes of their own, which Ctrl-C ends without their tracebacks."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from detach.errors import MachineError
from detach.signals import handled

T = TypeVar("T")


def in_processes(
    work: Callable[..., T], calls: Sequence[tuple[Any, ...]], workers: int, *, finish: bool
) -> Iterator[tuple[int, T]]:
    """Calls ``work`` with each tuple of arguments and yields (position, result) as they get done.

    Args:
        work: A function of a module.
        calls: Its arguments.
        workers: Processes at once.
        finish: When the caller stops, whether what is running may finish, or ends at once.

    Raises:
        MachineError: A process was ended from outside.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(calls)), context)
    try:
        # They never hear Ctrl-C: a terminal sends it to all, and we decide.
        with handled(signal.SIGINT, signal.SIG_IGN):
            futures = {pool.submit(work, *call): i for i, call in enumerate(calls)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise MachineError(
            "a process that did part of the work was ended, perhaps for want of memory, or the "
            "script that called has no __main__ guard; try one worker"
        ) from error
    except BaseException:
        if not finish:
            for child in multiprocessing.active_children():
                child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=finish)
