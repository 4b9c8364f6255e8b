"""`detach bench edge --live`: the share of a core that `detach live` takes, its camera included.

The sample is played: its sensors, and its camera at 10 pictures a second, by `detach live --replay`
in a process of its own. What the start costs is not counted.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from detach import recipes
from detach.edge.bundle import open_bundle
from detach.errors import MachineError

SETTLE_S = 10.0
START_S = 60.0
SAMPLE = Path("sample") / "run10"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What was measured."""

    bundle: str
    size_px: tuple[int, int] | None
    """H and W of the pictures; None without a camera."""
    seconds: float
    deciding: float
    """Share of one core: sensors, graphs, the live page without a browser."""
    decoding: float
    """Share of one core: the camera's process."""
    windows: int
    """Since the start."""
    skips: int

    def __str__(self) -> str:
        size = "no camera" if self.size_px is None else f"{self.size_px[1]}x{self.size_px[0]} px"
        return (
            f"detach live {self.bundle}, {size}, over {self.seconds:.0f} s: "
            f"{self.deciding + self.decoding:.1%} of one core ({self.deciding:.1%} deciding, "
            f"{self.decoding:.1%} decoding), {self.windows} windows, {self.skips} skipped"
        )

    def lines(self) -> Iterator[dict[str, object]]:
        """One for every number, as the ledger keeps them."""
        shared = {"what": "bench edge: live", "data": self.bundle, "items": self.windows}
        for provider, share in (("deciding", self.deciding), ("decoding", self.decoding)):
            metric = {"provider": provider, "metric": "share_of_core", "value": f"{share:.4f}"}
            yield {**shared, **metric}


def measure_live(bundle: Path, *, seconds: float) -> Load:
    """Plays the sample through a bundle and counts the processor's time.

    Args:
        bundle: NAME.detach, for the sensors of the sample.
        seconds: How long it is watched.

    Raises:
        MachineError: There is no /proc, or the process ends.
    """
    if not Path("/proc/self/stat").is_file():
        raise MachineError("the processor's time is read from /proc, which is not here")
    form = open_bundle(bundle).manifest.video
    recording = recipes.models_folder() / SAMPLE
    words = ["live", str(bundle), "--replay", str(recording), "--port", str(_free_port())]
    with tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 -- ourselves
            [sys.executable, "-m", "detach", *words], stdout=lines, stderr=said
        )
        try:
            _await_first(process, lines, said)
            time.sleep(SETTLE_S)
            before, began_s = _times(process.pid), time.monotonic()
            time.sleep(seconds)
            after, took_s = _times(process.pid), time.monotonic() - began_s
        finally:
            process.terminate()
            process.wait()
        lines.seek(0)
        outcomes = [json.loads(line)["outcome"] for line in lines]
    return Load(
        bundle=bundle.name,
        size_px=form.size_px if form is not None else None,
        seconds=took_s,
        deciding=(after[0] - before[0]) / took_s,
        decoding=(after[1] - before[1]) / took_s,
        windows=len(outcomes),
        skips=outcomes.count("skip"),
    )


def _await_first(process: "subprocess.Popen[bytes]", lines: IO[bytes], said: IO[bytes]) -> None:
    end_s = time.monotonic() + START_S
    while os.fstat(lines.fileno()).st_size == 0:
        if process.poll() is not None or time.monotonic() > end_s:
            said.seek(0)
            text = said.read().decode(errors="replace").strip()[-500:]
            raise MachineError(f"detach live does not run: {text}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _times(pid: int) -> tuple[float, float]:
    """Seconds of processor of a process, and of its children, ended ones included."""
    own, ended = _of(pid)
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return own, ended + sum(_of(int(child))[0] for child in listed)


def _of(pid: int) -> tuple[float, float]:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    fields = text.rpartition(")")[2].split()
    user, system, ended_user, ended_system = (int(x) for x in fields[11:15])
    return (user + system) / TICKS, (ended_user + ended_system) / TICKS
