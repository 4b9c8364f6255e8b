"""Work in other processes: order of results, errors, ends from outside."""

import os
import signal

import pytest

from detach.data.processes import in_processes
from detach.errors import DataError, MachineError


def double(number: int) -> int:
    return 2 * number


def hears_ctrl_c(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def refuse(number: int) -> int:
    raise DataError(f"no {number}")


def end(_: int) -> None:
    os._exit(1)


def test_every_result_comes_with_its_position() -> None:
    calls = [(n,) for n in range(5)]
    assert sorted(in_processes(double, calls, 2, finish=True)) == [(i, 2 * i) for i in range(5)]


def test_ctrl_c_is_for_the_caller_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert [heard for _, heard in in_processes(hears_ctrl_c, [(0,)], 1, finish=False)] == [False]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("finish", [True, False])
def test_an_error_reaches_the_caller(finish: bool) -> None:
    with pytest.raises(DataError, match="no 0"):
        list(in_processes(refuse, [(0,)], 1, finish=finish))


def test_a_process_that_vanishes_is_the_machines_fault() -> None:
    with pytest.raises(MachineError, match="was ended"):
        list(in_processes(end, [(0,)], 1, finish=True))
