"""The real files of the SPHERE Challenge, cut and with bytes changed; DETACH_SPHERE names them.

DETACH_SPHERE=sphere.tar.xz pytest tests/test_damaged_sphere.py
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detach.data.sphere_archive import unpacked
from detach.data.sphere_files import CAMERAS, Entry, find_sequences, read_measured, read_targets
from detach.errors import DataError

SOURCE = os.environ.get("DETACH_SPHERE", "")
SEED = int(os.environ.get("DETACH_SEED", "8"))
CUTS = FLIPS = 10
SLOWEST_S = 20.0

pytestmark = pytest.mark.skipif(not SOURCE, reason="DETACH_SPHERE does not name the data")


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    """The shortest labelled sequence, to spoil."""
    beside = tmp_path_factory.mktemp("sphere") / "data"
    with unpacked(Path(SOURCE), beside) as folder:
        runs = [e for e in find_sequences(folder).entries if e.labelled]
        shortest = min(runs, key=lambda e: (e.folder / "acceleration.csv").stat().st_size)
        kept = Path(shutil.copytree(shortest.folder, beside))
    return Entry(shortest.name, kept, labelled=True)


def damaged(whole: bytes) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng([SEED, len(whole)])
    for i in range(CUTS):
        yield "cut", whole[: len(whole) * (i + 1) // (CUTS + 1)]
    for _ in range(FLIPS):
        spoiled = np.frombuffer(whole, np.uint8).copy()
        spoiled[rng.integers(0, len(spoiled), 20)] = rng.integers(0, 256, 20)
        yield "flip", spoiled.tobytes()


def test_real_files_cut_and_changed(entry: Entry) -> None:
    named = ("meta.json", "acceleration.csv", "pir.csv", "targets.csv")
    names = [*named, *(f"video_{camera}.csv" for camera in CAMERAS)]
    found: Counter[str] = Counter()
    for name in names:
        path = entry.folder / name
        whole = path.read_bytes()
        for how, spoiled in damaged(whole):
            path.write_bytes(spoiled)
            began = time.process_time()
            said = ""
            try:
                measured = read_measured(entry)
                assert np.isfinite(measured.duration_s)
                assert len(read_targets(entry)) or name == "targets.csv"
            except DataError as error:
                said = str(error)
                assert said.startswith(str(entry.folder))
                assert "\n" not in said
                assert len(said) < 1000
            assert time.process_time() - began < SLOWEST_S
            found[f"{name} {how} {'refused' if said else 'read'}"] += 1
        path.write_bytes(whole)
    print(dict(sorted(found.items())))  # noqa: T201 -- pytest -s shows what became of them
    assert sum(found.values()) == len(names) * (CUTS + FLIPS)
    refused = sum(n for key, n in found.items() if key.endswith("refused"))
    assert refused > 0
