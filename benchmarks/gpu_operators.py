"""The operators on a GPU: are they right, what do they cost, what is possible.

    python benchmarks/gpu_operators.py --out DIR [--minutes 8.5] [--parts checks,losses]

Needs torch, NumPy, nvcc and g++. Builds the module into DIR/build, then runs every part in a
process of its own, so that one that fails, hangs or spoils the GPU costs the others nothing: its
failure is a row too. Rows go to DIR/rows.csv and DIR/rows.json. What the budget does not reach is
named. Times are medians of CUDA events in microseconds.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLUMNS = ("part", "what", "n", "precision", "value", "unit", "note")
# Seconds that a part may take; they run in this order.
PARTS = {
    "machine": 60,
    "checks": 120,
    "safety": 100,
    "steps": 90,
    "losses": 170,
    "percentile": 60,
    "memory": 60,
    "kernels": 60,
    "compiled": 150,
    "sanitizers": 240,
}


class Rows:
    """What was found, written as it comes."""

    def __init__(self, path: Path, part: str) -> None:
        self._path, self._part = path, part

    def add(self, what: str, value: object, unit: str = "", **where: object) -> None:
        """One number, or a word on why there is none."""
        row = {"part": self._part, "what": what, "value": value, "unit": unit, **where}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, default=str) + "\n")
        print(*(str(v) for v in row.values() if v != ""), flush=True)

    def attempt(self, what: str, body: Callable[[], None], **where: object) -> None:
        """Runs ``body``; its failure becomes a row."""
        try:
            body()
        except Exception as error:  # noqa: BLE001 -- one failure must not end the rest
            last = traceback.extract_tb(error.__traceback__)[-1]
            note = f"{type(error).__name__}: {str(error)[:400]} ({last.name}:{last.lineno})"
            self.add(what, "failed", note=note, **where)


def main() -> int:
    """Builds, then runs the parts; returns 1 if any row is a failure."""
    options = _options()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "rows.jsonl"
    if options.part:
        return _run_part(options.part, Rows(journal, options.part))
    journal.unlink(missing_ok=True)
    end = time.monotonic() + 60 * options.minutes
    rows = Rows(journal, "build")
    folder = out / "build"
    rows.attempt("build", lambda: _build(folder, rows))
    built = any((folder / "detach").glob("_C*"))
    for part in options.parts.split(",") if options.parts else PARTS:
        if not built:
            rows.add(part, "skipped", note="nothing was built")
            continue
        left = end - time.monotonic() - 5
        if left < 15:
            rows.add(part, "skipped", note="no time was left")
            continue
        _start(part, min(PARTS[part], left), out, folder, rows)
    found = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    _write(out, found)
    bad = [r for r in found if r["value"] in ("failed", "wrong")]
    print(f"{len(found)} rows, {len(bad)} of them failures, in {out}")
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for rows and the build")
    parser.add_argument("--minutes", type=float, default=8.5, help="budget for everything")
    parser.add_argument("--parts", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _build(folder: Path, rows: Rows) -> None:
    start = time.monotonic()
    program = "import sys, gpu_build, torch; from pathlib import Path; "
    program += "c = torch.cuda.get_device_capability(); "
    program += "gpu_build.build(Path(sys.argv[1]), f'{c[0]}{c[1]}')"
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program, str(folder)],
        cwd=HERE, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-1500:])
    rows.add("build", round(time.monotonic() - start, 1), "s")


def _start(part: str, seconds: float, out: Path, package: Path, rows: Rows) -> None:
    """Runs one part in a process that is ended when its time is over."""
    paths = [str(package), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    command = [sys.executable, str(HERE / "gpu_operators.py"), "--out", str(out), "--part", part]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, env=environment, check=False, timeout=seconds)  # noqa: S603
        if done.returncode != 0:
            rows.add(part, "failed", note=f"its process ended with {done.returncode}")
    except subprocess.TimeoutExpired:
        rows.add(part, "stopped", note=f"after {seconds:.0f} s")
    rows.add(f"{part} took", round(time.monotonic() - begun, 1), "s")


def _run_part(part: str, rows: Rows) -> int:
    import gpu_parts  # noqa: PLC0415 -- needs the build that this process is started with

    rows.attempt(part, lambda: getattr(gpu_parts, part)(rows))
    return 0


def _write(out: Path, found: list[dict[str, object]]) -> None:
    (out / "rows.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    with (out / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    sys.exit(main())
