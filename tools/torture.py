"""Kills, fills disks, flips bytes, drops brokers and steps clocks, for so many minutes.

    python tools/torture.py --minutes 10 --seed 1

Rounds of the tests behind the rows R1 to R25 of the reliability table, in a random order and each
with a seed of its own, until the time is over. Prints the table: pass, fail, or not run, and why;
what was skipped within a row; and which rows try the same cases in each round.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_S = 900.0
SEEDED = re.compile(r"DETACH_SEED|^from hypothesis", re.MULTILINE)


@dataclass
class Row:
    """One promise and the tests that try it; with none, why not."""

    name: str
    promise: str
    tests: tuple[str, ...] = ()
    why_not: str = "no test of it in this tree"
    rounds: int = 0
    failed_seeds: list[int] = field(default_factory=list)
    skipped: dict[str, None] = field(default_factory=dict)
    """Why tests were skipped, in the order met."""

    @property
    def fixed(self) -> bool:
        """Whether no test takes anything from the seed."""
        files = {ROOT / "tests" / test.partition("::")[0] for test in self.tests}
        return not any(SEEDED.search(file.read_text()) for file in files)

    @property
    def verdict(self) -> str:
        """One line for the table."""
        skipped = "; ".join(self.skipped)
        if not self.tests:
            return f"not run: {self.why_not}"
        if self.failed_seeds:
            return f"FAIL with seed {', '.join(map(str, self.failed_seeds))}"
        if not self.rounds:
            return f"not run: {skipped or 'no time was left'}"
        about = f"{self.rounds} rounds{' of fixed cases' if self.fixed else ''}"
        return f"pass ({about})" + (f", but not: {skipped}" if skipped else "")


def rows() -> list[Row]:
    """The table, R1 to R25."""
    return [
        Row("R1", "kill -9 at random moments changes nothing", ("test_resume.py",)),
        Row("R2", "what fails at a write leaves the old checkpoint", ("test_checkpoint.py",)),
        Row("R3", "operators keep their contract", ("test_contrast_operator.py",)),
        Row("R4", "finite for any temperature", ("test_contrast_kernel.py", "test_contrast.py")),
        Row("R5", "the same bits in 50 equal runs", ("test_same_bits.py",)),
        Row("R6", "300 damaged videos", ("test_damaged_videos.py", "test_decoding.py")),
        Row(
            "R7",
            "300 damaged sensor streams",
            ("test_damaged_sensors.py", "test_sensor_policies.py"),
        ),
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
        Row("R18", "hostile files of all kinds", ("test_attacks.py", "test_decoder_opens.py")),
        Row("R19", "addresses and secrets", ("test_live_config.py",)),
        Row("R20", "the network blocked", ("test_offline.py",)),
        Row(
            "R21",
            "two callers at once",
            ("test_two_callers.py", "test_contrast_kernel.py::test_two_callers_at_once"),
        ),
        Row("R22", "a stuck child is ended", ("test_guarded_process.py", "test_live_camera.py")),
        Row("R23", "batches that are no numbers", ("test_skipped.py",)),
        Row("R24", "old configurations load", ("test_old_configs.py",)),
        Row("R25", "SECURITY.md", why_not="a person reads it"),
    ]


def torture(table: list[Row], seconds: float, seed: int) -> Iterator[str]:
    """Runs rounds until the time is over; yields what has just been tried."""
    rng, end = random.Random(seed), time.monotonic() + seconds  # noqa: S311
    while True:
        ahead = [row for row in table if row.tests and (row.rounds or not row.skipped)]
        if not ahead:
            return
        rng.shuffle(ahead)
        for row in ahead:
            left_s = end - time.monotonic()
            if left_s <= 0:
                return
            own = rng.randrange(2**31)
            done = run(row, own, left_s)
            if done is None:
                return
            yield f"{row.name} {row.promise}: {count(row, own, done)} (seed {own})"


def count(row: Row, seed: int, done: subprocess.CompletedProcess[str]) -> str:
    """Enters one round in a row; tells how it ended."""
    reasons = re.findall(r"^SKIPPED \[\d+\] \S+: (.+)$", done.stdout, re.MULTILINE)
    row.skipped.update(dict.fromkeys(reasons))
    if done.returncode:
        sys.stderr.write(done.stdout[-3000:])
        row.failed_seeds.append(seed)
        return "FAIL"
    if not re.search(r"^\d+ passed", done.stdout, re.MULTILINE):
        return f"not run: {'; '.join(reasons)}"
    row.rounds += 1
    return "pass"


def run(row: Row, seed: int, left_s: float) -> subprocess.CompletedProcess[str] | None:
    """All tests of a row; None where the time was over first."""
    words = [f"tests/{test}" for test in row.tests]
    environment = {**os.environ, "DETACH_SEED": str(seed), "DETACH_LONG": "1"}
    options = ["-q", "-rs", "-x", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}"]
    command = [sys.executable, "-m", "pytest", *options, *words]
    limit_s = min(left_s, LONGEST_S)
    try:
        return subprocess.run(  # noqa: S603 -- our own tests
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        if left_s <= LONGEST_S:
            return None
        return subprocess.CompletedProcess(command, 1, f"not done after {LONGEST_S:g} s\n")


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
