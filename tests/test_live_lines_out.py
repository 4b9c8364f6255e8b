"""Whoever reads the lines of `detach live` too slowly, or no longer, stops nothing."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from detach.edge.live import sinks
from detach.edge.live.outcomes import Outcome
from detach.edge.live.sinks import JsonLines

from .edge_bundles import write_tiny  # type: ignore[import-not-found]
from .live_home import wait_for  # type: ignore[import-not-found]

CONFIG = """
schema: 1
lines: true
sensors: {sensor0: {topic: t/0}}
"""


def outcome(number: int) -> Outcome:
    return Outcome(
        number=number, kind="skip", start_s=0.0, end_s=2.0, utc_s=2.0, state=None, changed=False
    )


def test_the_oldest_lines_go_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "MOST_LINES", 10)
    written: list[int] = []
    began, go_on = threading.Event(), threading.Event()

    def write(line: str) -> None:
        began.set()
        go_on.wait()
        written.append(json.loads(line)["number"])

    lines = JsonLines(write)
    lines.take(outcome(0))
    assert began.wait(10)
    for number in range(1, 11):
        lines.take(outcome(number))
    for number in (11, 12):
        with pytest.raises(OSError, match=f"too slow; {number - 10} are left out"):
            lines.take(outcome(number))
    go_on.set()
    lines.close()
    assert written == [0, *range(4, 13)]  # the end itself took the place of one more
    assert lines.lost == 3


def test_what_fails_is_said_once_and_the_next_line_is_tried() -> None:
    written: list[str] = []

    def write(line: str) -> None:
        written.append(line)
        if len(written) == 1:
            raise OSError(28, "No space left on device")

    lines = JsonLines(write)
    lines.take(outcome(0))
    wait_for(lambda: lines._failed, "the failure")
    with pytest.raises(OSError, match="No space"):
        lines.idle(0.0)
    lines.idle(1.0)
    lines.take(outcome(1))
    lines.close()
    assert len(written) == 2


def test_the_end_does_not_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "LAST_LINES_S", 0.1)
    never = threading.Event()

    def write(_: str) -> None:
        never.wait()

    lines = JsonLines(write)
    lines.take(outcome(0))
    began = time.monotonic()
    lines.close()
    assert time.monotonic() - began < 5
    never.set()


def test_nobody_reads_and_a_signal_still_ends_it(tmp_path: Path) -> None:
    bundle: Path = write_tiny(tmp_path / "tiny.detach")
    (tmp_path / "live.yaml").write_text(CONFIG)
    metrics = tmp_path / "detach.prom"
    read, write = os.pipe()
    full = b"x" * fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
    assert os.write(write, full) == len(full)
    words = ["live", str(bundle), "--config", str(tmp_path / "live.yaml"), "--metrics"]
    process = subprocess.Popen(  # noqa: S603 -- ourselves
        [sys.executable, "-m", "detach", *words, str(metrics)],
        stdin=subprocess.PIPE,
        stdout=write,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "python")},
    )
    os.close(write)
    try:
        wait_for(lambda: metrics.is_file() and b"abstentions_total" in metrics.read_bytes(), "one")
        before = metrics.read_bytes()
        wait_for(lambda: metrics.read_bytes() != before, "the loop going on")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        os.close(read)
    assert process.returncode == 0, said.decode()
    assert b"Fatal" not in said
    assert b"Traceback" not in said
    assert time.monotonic() - began < 10
