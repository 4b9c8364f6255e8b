"""Kills, fills disks, flips bytes, drops brokers and steps clocks, for so many minutes.

    python tools/torture.py --minutes 10 --seed 1

Rounds of the tests behind the rows R1 to R25 of the reliability table, in a random order and each
with a seed of its own, until the time is over. Prints the table: pass, fail, or not run, and why.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_S = 900.0


@dataclass
class Row:
    """One promise and the tests that try it; with none, why not."""

    name: str
    promise: str
    tests: tuple[str, ...] = ()
    why_not: str = "no test of it in this tree"
    rounds: int = 0
    failed_seeds: list[int] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """One line for the table."""
        if not self.tests:
            return f"not run: {self.why_not}"
        if not self.rounds:
            return "not run: no time was left"
        if self.failed_seeds:
            return f"FAIL with seed {', '.join(map(str, self.failed_seeds))}"
        return f"pass ({self.rounds} rounds)"


def rows() -> list[Row]:
    """The table, R1 to R25."""
    return [
        Row("R1", "kill -9 at random moments changes nothing", ("test_resume.py",)),
        Row("R2", "what fails at a write leaves the old checkpoint", ("test_checkpoint.py",)),
        Row("R3", "operators keep their contract", ("test_contrast_operator.py",)),
        Row("R4", "finite for any temperature", ("test_contrast_kernel.py", "test_contrast.py")),
        Row("R5", "the same bits again", ("test_contrast_kernel.py::*thread*",)),
        Row("R6", "300 damaged videos", ("test_damaged_videos.py",)),
        Row("R7", "300 damaged sensor streams", ("test_damaged_sensors.py",)),
        Row("R8", "a day of replay: memory, handles, threads", ("test_live_soak.py",)),
        Row("R9", "sources and brokers come and go", ("test_live_faults.py", "test_live_mqtt.py")),
        Row(
            "R10", "after a start unknown, then right", ("test_live_start.py", "test_live_loop.py")
        ),
        Row("R11", "clock steps make no event", ("test_live_clock.py",)),
        Row("R12", "last will, retained state, refused login", ("test_live_mqtt.py",)),
        Row("R13", "the core under sanitizers", ("test_sanitizers.py",)),
        Row("R14", "compute-sanitizer", why_not="needs a GPU: benchmarks/gpu_operators.py"),
        Row("R15", "fuzzers, and what they ever found", ("test_fuzz.py",)),
        Row("R16", "forbidden calls", ("test_forbidden.py",)),
        Row("R17", "hostile bundles", ("test_bundle.py", "test_bundle_contents.py")),
        Row("R18", "hostile files of all kinds", ("test_attacks.py",)),
        Row("R19", "addresses and secrets", ("test_live_config.py",)),
        Row("R20", "the network blocked", ("test_offline.py",)),
        Row("R21", "two callers at once", ("test_contrast_kernel.py::*callers*",)),
        Row("R22", "a stuck child is ended", ("test_guarded_process.py", "test_live_camera.py")),
        Row("R23", "batches that are no numbers", ("test_skipped.py",)),
        Row("R24", "old configurations load", ("test_old_configs.py",)),
        Row("R25", "SECURITY.md", why_not="a person reads it"),
    ]


def torture(table: list[Row], seconds: float, seed: int) -> Iterator[str]:
    """Runs rounds until the time is over; yields what has just been tried."""
    rng, end = random.Random(seed), time.monotonic() + seconds  # noqa: S311
    while True:
        ahead = [row for row in table if row.tests]
        rng.shuffle(ahead)
        for row in ahead:
            left_s = end - time.monotonic()
            if left_s <= 0:
                return
            own = rng.randrange(2**31)
            passed = run(row, own, left_s)
            if passed is None:
                return
            row.rounds += 1
            row.failed_seeds += [] if passed else [own]
            yield f"{row.name} {row.promise}: {'pass' if passed else 'FAIL'} (seed {own})"


def run(row: Row, seed: int, left_s: float) -> bool | None:
    """Whether all tests of a row pass; None where the time was over first."""
    words: list[str] = []
    for test in row.tests:
        file, _, pattern = test.partition("::")
        words.append(f"tests/{file}")
        if pattern:
            words += ["-k", pattern.strip("*")]
    environment = {**os.environ, "DETACH_SEED": str(seed), "DETACH_LONG": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", f"--hypothesis-seed={seed}", *words]
    try:
        done = subprocess.run(  # noqa: S603 -- our own tests
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=min(left_s, LONGEST_S),
        )
    except subprocess.TimeoutExpired:
        return False if left_s > LONGEST_S else None
    if done.returncode:
        sys.stderr.write(done.stdout[-3000:])
    return done.returncode == 0


def main() -> int:
    """The exit status: 1 where a row failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=(), metavar="R1", help="these rows alone")
    asked = parser.parse_args()
    table = rows()
    for row in table:
        if asked.only and row.name not in asked.only:
            row.tests, row.why_not = (), "not asked for"
    for line in torture(table, 60 * asked.minutes, asked.seed):
        print(line, flush=True)
    print()
    for row in table:
        print(f"{row.name:<4}{row.promise:<50}{row.verdict}")
    return 1 if any(row.failed_seeds for row in table) else 0


if __name__ == "__main__":
    sys.exit(main())
