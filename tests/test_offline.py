"""The verbs do their work with the network blocked, as all tests do, and do not even ask for it."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .worlds import Nursery  # type: ignore[import-not-found]


def test_no_verb_asks_for_the_network(nursery: Nursery, tiny_dataset: Path, tmp_path: Path) -> None:
    (ends,) = nursery.run(1, tmp_path, ["verbs", str(tiny_dataset)])["verbs"]
    assert ends == dict.fromkeys(ends, 0), (tmp_path / "log.txt").read_text()
    assert {"doctor", "train", "evaluate", "report", "export", "run"} <= set(ends)


def test_whoever_asks_is_refused_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.txt"
    monkeypatch.setenv("DETACH_NETWORK_LOG", str(log))
    with pytest.raises(OSError, match="no network"):
        socket.getaddrinfo("example.org", 80)
    with socket.socket() as ours, pytest.raises(OSError, match="no network"):
        ours.connect(("192.0.2.1", 80))
    program = "import socket\nsocket.create_connection(('192.0.2.2', 80))"
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "no network" in done.stderr
    said = log.read_text()
    assert [x in said for x in ("example.org", "192.0.2.1", "192.0.2.2")] == [True] * 3
