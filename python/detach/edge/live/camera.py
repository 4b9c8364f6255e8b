"""One camera, read by a process of its own that is watched: the newest pictures, never a queue.

A camera that says nothing for 20 s is started again, at most five times a minute; then it is left
alone for a while that doubles. What happens to it never stops the sensors.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from detach.edge.live.capture import HEADER, MAGIC, Order, check_source
from detach.edge.live.clock import Clock
from detach.edge.live.config import CameraSource
from detach.errors import MachineError

LARGEST_SIDE = 4096
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 960.0
OPENING_S = 20.0
"""A small machine takes seconds to start the process, and a network camera to send a key frame."""
KEPT_S = 8.0
"""Pictures of so long are kept."""
SAID_BYTES = 2000


@dataclass(frozen=True)
class Shot:
    """One picture."""

    t_s: float
    """Monotonic."""
    picture: NDArray[np.uint8]
    """RGB [H, W, 3]."""


class Process(Protocol):
    """What decodes."""

    def poll(self) -> int | None:
        """None while it runs."""
        ...

    def kill(self) -> str:
        """Ends it, and tells what it said last."""
        ...


Spawn = Callable[[Order, Callable[[Shot], None]], Process]


class Camera:
    """Starts, watches and restarts what decodes.

    Args:
        source: The camera.
        size_px: H and W of the pictures, or the side of a square with as many pixels.
        fit: ``keep`` the camera's aspect or ``crop`` a square.
        clock: The one clock.
        say: Is told what a person should know.
        spawn: Starts the process; tests bring their own.

    Raises:
        UsageError: A source of another kind.
        MachineError: Its address should be in the environment and is not.
    """

    def __init__(
        self,
        source: CameraSource,
        size_px: tuple[int, int] | int,
        fit: str,
        *,
        clock: Clock,
        say: Callable[[str], None],
        spawn: Spawn | None = None,
    ) -> None:
        self._order = Order(source=_address(source), fps=source.fps, size_px=size_px, fit=fit)
        check_source(self._order.source)
        self._source, self._clock, self._say = source, clock, say
        self._spawn: Spawn = spawn or spawn_process
        self._process: Process | None = None
        self._shots: deque[Shot] = deque(maxlen=max(2, round(KEPT_S * source.fps)))
        self._lock = threading.Lock()
        self._starts: deque[float] = deque(maxlen=source.restarts_a_minute)
        self._wait_until_s, self._pause_s = 0.0, FIRST_PAUSE_S
        self._heard_s, self._frames_before = 0.0, 0
        self.counts: Counter[str] = Counter()

    def watch(self) -> None:
        """Called at least once a second: starts it, and ends it when it is silent."""
        now_s = self._clock.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._end("has ended")
        elif self._process is not None and now_s - self._heard() > self._patience_s():
            self._end(f"sent no picture for {self._patience_s():g} s")
        if self._process is None and now_s >= self._wait_until_s:
            self._start(now_s)

    def shots(self) -> list[Shot]:
        """Those kept, oldest first."""
        with self._lock:
            return list(self._shots)

    def close(self) -> str:
        """Ends the process, and tells what it said last."""
        process, self._process = self._process, None
        return "" if process is None else process.kill()

    def _start(self, now_s: float) -> None:
        if len(self._starts) == self._starts.maxlen and now_s - self._starts[0] < 60:
            self._wait_until_s = now_s + self._pause_s
            self._say(f"the camera fails again and again; next attempt in {self._pause_s:.0f} s")
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._starts.clear()
            return
        self._starts.append(now_s)
        self._heard_s = now_s
        self._frames_before = self.counts["frames"]
        self.counts["starts"] += 1
        self._process = self._spawn(self._order, self._take)

    def _end(self, why: str) -> None:
        self.counts["ended"] += 1
        said = self.close()
        self._say(f"the camera {why}{': ' if said else ''}{said}; it is started again")

    def _patience_s(self) -> float:
        if self.counts["frames"] > self._frames_before:
            return self._source.silent_after_s
        return max(self._source.silent_after_s, OPENING_S)

    def _heard(self) -> float:
        with self._lock:
            return max(self._heard_s, self._shots[-1].t_s if self._shots else 0.0)

    def _take(self, shot: Shot) -> None:
        with self._lock:
            self.counts["frames"] += 1
            if self._shots and shot.t_s <= self._shots[-1].t_s:
                self.counts["frames_dropped"] += 1
                return
            if self._shots and shot.picture.shape != self._shots[-1].picture.shape:
                self.counts["size_changed"] += 1
                self._shots.clear()
            self._shots.append(shot)
            self._pause_s = FIRST_PAUSE_S


class _Child:
    def __init__(self, order: Order, take: Callable[[Shot], None]) -> None:
        command = [sys.executable, "-m", "detach.edge.live.capture"]
        self._process = subprocess.Popen(  # noqa: S603 -- our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        out, said = self._process.stdout, self._process.stderr
        if self._process.stdin is None or out is None or said is None:
            raise MachineError("the camera's process has no pipes")
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            pipe.write(order.dump().encode())
        self._pipes, self._said = (out, said), bytearray()
        self._readers = [
            threading.Thread(target=read_shots, args=(out, take), daemon=True),
            threading.Thread(target=read_said, args=(said, self._said), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def poll(self) -> int | None:
        return self._process.poll()

    def kill(self) -> str:
        self._process.kill()
        self._process.wait()
        for reader, pipe in zip(self._readers, self._pipes, strict=True):
            reader.join(5.0)
            pipe.close()
        return self._said.decode(errors="replace").strip()[-300:]


def spawn_process(order: Order, take: Callable[[Shot], None]) -> Process:
    """A process that decodes, and a thread that takes its pictures."""
    return _Child(order, take)


def read_shots(stream: IO[bytes], take: Callable[[Shot], None]) -> None:
    """Pictures from a pipe until it ends, or says what no picture is."""
    while len(head := stream.read(HEADER.size)) == HEADER.size:
        magic, t_s, height, width = HEADER.unpack(head)
        if magic != MAGIC or not 0 < height <= LARGEST_SIDE or not 0 < width <= LARGEST_SIDE:
            return
        raw = stream.read(height * width * 3)
        if len(raw) != height * width * 3:
            return
        take(Shot(t_s, np.frombuffer(raw, np.uint8).reshape(height, width, 3)))


def read_said(stream: IO[bytes], said: bytearray) -> None:
    """What it says, until it ends, so that it never waits for us; the last `SAID_BYTES` of it."""
    while text := os.read(stream.fileno(), SAID_BYTES):
        said += text
        del said[:-SAID_BYTES]


def _address(source: CameraSource) -> str:
    if source.address_env is None:
        return source.source
    found = os.environ.get(source.address_env)
    if found is None:
        raise MachineError(f"camera.address_env: {source.address_env} is not set")
    return found
