"""Processes that are ended when they take too much."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detach.edge.guarded_process import Limits, run_guarded
from detach.errors import MachineError


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_what_it_took_is_told() -> None:
    outcome = run_guarded(python("x = bytearray(60 << 20); import time; time.sleep(0.5)"), Limits())
    assert 60 < outcome.peak_mib < 200
    assert 0.5 < outcome.seconds < 20


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit('no such layer')", "^ended with code 1: no such layer$"),
        ("import os; os.kill(os.getpid(), 11)", "^ended by signal 11: it said nothing$"),
        ("print('x' * 5000); raise SystemExit(3)", "^ended with code 3: x{599}$"),
        (
            "import os; os.write(1, bytes([255])); raise SystemExit(3)",
            "^ended with code 3: \ufffd$",
        ),
    ],
)
def test_the_end_of_what_it_said_is_told(program: str, said: str) -> None:
    with pytest.raises(MachineError, match=said):
        run_guarded(python(program), Limits())


def test_memory_has_a_limit() -> None:
    program = "x = bytearray(100 << 20); import time; time.sleep(30)"
    with pytest.raises(MachineError, match=r"^ended at \d+ MiB of memory; the limit is 60$"):
        run_guarded(python(program), Limits(memory_mib=60))


def test_a_limit_ends_its_children_too(tmp_path: Path) -> None:
    child = f"import time; time.sleep(2); open({str(tmp_path / 'survived')!r}, 'w')"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    started = time.monotonic()
    with pytest.raises(MachineError, match="the limit"):
        run_guarded(python(program), Limits(time_s=0.5))
    assert time.monotonic() - started < 2
    time.sleep(2.2)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_caller_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
        started.append(real(*arguments, **options))  # type: ignore[call-overload]
        return started[0]

    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr("detach.edge.guarded_process._resident_mib", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_guarded(python("import time; time.sleep(60)"), Limits())
    assert started[0].returncode == -9


def test_it_is_the_first_the_kernel_ends() -> None:
    if not Path("/proc/self/oom_score_adj").exists():
        pytest.skip("no /proc here")
    program = "import time; time.sleep(0.5); "
    program += "raise SystemExit(open('/proc/self/oom_score_adj').read())"
    with pytest.raises(MachineError, match="^ended with code 1: 1000$"):
        run_guarded(python(program), Limits())
    assert os.getpid()
