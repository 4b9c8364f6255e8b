"""Worlds of several processes on this machine, for tests: a client of world_jobs.py."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("world_jobs.py")


class Nursery:
    """Forks processes that have imported everything."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(  # noqa: S603 -- our own program
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, size: int, folder: Path, *jobs: list[str], **env: str) -> list[int]:
        """The numbers of ``size`` processes that do ``jobs`` in one world."""
        folder.mkdir(parents=True, exist_ok=True)
        env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), **env}
        env["WORLD_SIZE"] = str(size)
        order = {"size": size, "folder": str(folder), "jobs": jobs, "env": env}
        found: list[int] = self._ask({**order, "log": str(folder / "log.txt")})
        return found

    def run(self, size: int, folder: Path, *jobs: list[str], **env: str) -> dict[str, list[Any]]:
        """What each process found, by job; None for one that did not come so far."""
        pids = self.start(size, folder, *jobs, **env)
        try:
            self.wait(pids[0])
        finally:
            for pid in pids[1:]:
                _end(pid)
                self.wait(pid)
        names = {file.name.rsplit(".", 2)[0] for file in folder.glob("*.*.json")}
        assert names, (folder / "log.txt").read_text()
        return {n: [_read(folder / f"{n}.{r}.json") for r in range(size)] for n in names}

    def wait(self, pid: int) -> int:
        """The exit status; negative for a signal."""
        status: int = self._ask({"wait": pid})
        return status

    def close(self) -> None:
        with self._server as server:
            server.kill()

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _end(pid: int, patience_s: float = 20.0) -> None:
    """Ends a process that does not end by itself, some time after the first one has."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end and runs(pid):
        time.sleep(0.05)
    if runs(pid):
        os.kill(pid, 9)


def runs(pid: int) -> bool:
    """Neither gone nor waiting to be fetched."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.is_file() else None
