"""Feeds what reads a stranger's bytes with what a fuzzer makes up (needs the extra `fuzz`).

    python tests/fuzz.py                     each for 60 s, one after the other, and a table
    python tests/fuzz.py yaml --seconds 600
    python tests/fuzz.py together --seconds 10      all in one process

What fails is kept under tests/found/TARGET, where test_fuzz.py tries it ever after. The core has
its own: tests/core/run.sh fuzz.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE.parent / "build/fuzz"
LARGEST_MB, SLOWEST_S = 512, 10
NAMES = ("manifest", "bundle", "graph", "recording", "sensor", "payload", "yaml")


def fuzz(name: str, seconds: float) -> None:
    """Feeds one target, or all of them ``together``; never returns."""
    import atheris

    with atheris.instrument_imports(include=["detach"]):
        import fuzz_targets
    each = list(fuzz_targets.TARGETS.values())

    def feed(data: bytes) -> None:
        if name != "together":
            fuzz_targets.TARGETS[name](data)
        elif data:
            each[data[0] % len(each)](data[1:])

    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for k, target in enumerate(fuzz_targets.TARGETS):
        if name in {target, "together"}:
            head = bytes([k]) if name == "together" else b""
            for i, seed in enumerate(fuzz_targets.seeds(target)):
                (corpus / f"{target}-{i}").write_bytes(head + seed)
    found = HERE / "found" / name if name != "together" else CORPUS / "found"
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds:.0f}", f"-rss_limit_mb={LARGEST_MB}"]
    options += [f"-timeout={SLOWEST_S}", "-max_len=16384", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={found}/", str(corpus)], feed)
    atheris.Fuzz()


def tried(name: str, seconds: float) -> tuple[bool, str]:
    """Feeds a target in a process of its own; whether all was well, and a line that says so."""
    command = [sys.executable, __file__, name, "--seconds", str(seconds), "--here"]
    with tempfile.TemporaryFile("w+") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode  # noqa: S603
        log.seek(0)
        said = log.read()
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", said))
    runs, peak = stats.get("number_of_executed_units", "0"), int(stats.get("peak_rss_mb", "0"))
    fine = status == 0 and 0 < peak <= LARGEST_MB
    if not fine:
        sys.stderr.write(said[-4000:])
    return fine, f"{name:<10} {runs:>9} inputs  {peak:>4} MB  {'fine' if fine else 'FAILED'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=60.0, help="of each")
    parser.add_argument("--here", action="store_true", help="in this process, one target")
    asked = parser.parse_args()
    if asked.here:
        fuzz(asked.targets[0], asked.seconds)
    worst = 0
    for name in asked.targets or NAMES:
        fine, line = tried(name, asked.seconds)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        worst = max(worst, int(not fine))
    return worst


if __name__ == "__main__":
    sys.exit(main())
