"""`python benchmarks/imports.py`: a recorder database of 1 GB, and real houses, imported.

The database is made first, in the folder for temporary files. Each import runs in a process of its
own, whose time and largest memory are measured. `--houses FOLDER` holds houseInfoA to E of van
Kasteren and Tapia; `--append FILE` adds the figures to FILE.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detach import ledger
from detach.data.recording import read_dataset
from detach.simulate.household_layout import RECORDER

ROW_BYTES = 133
"""Of a state with its indices, as Home Assistant keeps it."""
DAYS, FIRST_S = 10, 1_767_225_600.0
KINDS = (("door", "binary_sensor", 20), ("motion", "binary_sensor", 20), ("power", "sensor", 30),
         ("battery", "sensor", 20))  # fmt: skip
MORE_INDICES = """
CREATE INDEX ix_states_last_updated_ts ON states(last_updated_ts);
CREATE INDEX ix_states_old_state_id ON states(old_state_id);
CREATE INDEX ix_states_attributes_id ON states(attributes_id);
CREATE INDEX ix_states_context_id_bin ON states(context_id_bin);
"""


@dataclass(frozen=True)
class Import:
    """What one import took."""

    source: str
    megabytes: float
    rows: int
    recordings: int
    seconds: float
    peak_mb: float
    progress: int
    """Lines said on the way."""


def write_recorder(path: Path, gigabytes: float, seed: int = 0) -> None:
    """A recorder database of ten days: 70 sensors that change at random, 20 batteries."""
    rng = np.random.default_rng(seed)
    with sqlite3.connect(path) as base:
        base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + RECORDER)
        entities = [(kind, f"{d}.{kind}_{i}") for kind, d, n in KINDS for i in range(n)]
        for number, (kind, entity) in enumerate(entities, start=1):
            shared = json.dumps({"device_class": kind, "friendly_name": entity})
            base.execute("INSERT INTO states_meta VALUES(?, ?)", (number, entity))
            base.execute("INSERT INTO state_attributes VALUES(?, 0, ?)", (number, shared))
        count = int(gigabytes * 1e9 / ROW_BYTES)
        base.executemany(
            "INSERT INTO states(state, last_updated_ts, attributes_id, metadata_id, "
            "context_id_bin) VALUES(?, ?, ?, ?, ?)",
            _states(entities, count, rng),
        )
        base.executescript(MORE_INDICES)
    base.close()


def _states(
    entities: list[tuple[str, str]], count: int, rng: np.random.Generator
) -> Iterator[tuple[str, float, int, int, bytes]]:
    for start in range(0, count, 100_000):
        size = min(100_000, count - start)
        which, level = rng.integers(0, len(entities), size), rng.random(size)
        for i, k, x in zip(range(start, start + size), which.tolist(), level.tolist(), strict=True):
            binary = entities[k][1].startswith("binary")
            state = ("on" if x < 0.5 else "off") if binary else f"{100 * x:.2f}"
            t_s = FIRST_S + i * DAYS * 86400 / count
            said = "unavailable" if x < 0.001 else state
            yield said, t_s, k + 1, k + 1, rng.bytes(16)


def measure(form: str, source: Path, out: Path) -> Import:
    """One import in a process of its own."""
    command = [sys.executable, "-m", "detach", "import", form, str(source), str(out)]
    begun = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said)  # noqa: S603 -- our own program
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"{source}: the import ended with {status}")
        said.seek(0)
        progress = len(said.read().splitlines())
    dataset = read_dataset(out)
    files = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
    return Import(
        source=source.name,
        megabytes=sum(p.stat().st_size for p in files) / 1e6,
        rows=int(dataset.notes["rows"]["read"]),
        recordings=len(list(dataset.recordings())),
        seconds=time.monotonic() - begun,
        peak_mb=usage.ru_maxrss / 1e3,
        progress=progress,
    )


def lines(form: str, found: Import) -> list[dict[str, object]]:
    """For the ledger."""
    shared = {"what": f"import {form}", "data": found.source, "items": found.rows}
    values = {
        "megabytes": found.megabytes,
        "recordings": found.recordings,
        "seconds": found.seconds,
        "peak_rss_mb": found.peak_mb,
    }
    return [{**shared, "metric": m, "value": f"{v:.4f}"} for m, v in values.items()]


def main() -> None:
    """Prints what each import took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--houses", type=Path)
    parser.add_argument("--append", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        jobs: list[tuple[str, Path]] = []
        if args.houses is not None:
            jobs += [("kasteren", p) for p in sorted(args.houses.rglob("houseInfo?"))]
        if args.gigabytes > 0:
            write_recorder(folder / "home-assistant_v2.db", args.gigabytes)
            jobs.append(("home-assistant", folder / "home-assistant_v2.db"))
        for form, source in jobs:
            found = measure(form, source, folder / f"{source.name}.out")
            print(f"{form}: {found}", flush=True)
            if args.append is not None:
                device = ledger.machine()
                ledger.append_lines(args.append, lines(form, found), device)


if __name__ == "__main__":
    main()
