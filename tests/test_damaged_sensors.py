"""Three hundred damaged sensor streams: refused by line, or held, masked and counted exactly."""

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detach.config import SensorConfig
from detach.data.recording import Recording, SensorTrack
from detach.data.sensors import MISSING_SHARE, fill, read_grid
from detach.errors import DataError

HZ, DURATION_S, RATE_HZ, WINDOW, HOP = 30.0, 30.0, 64.0, 128, 64
EACH = 20
SEED = int(os.environ.get("DETACH_SEED", "8"))
TRACK = SensorTrack(name="shaker", kind="acceleration", unit="g", hz=HZ, axes=("x", "y"))
CONFIG = SensorConfig()
Stream = NDArray[np.float64]  # time, x, y


def stream() -> Stream:
    t_s = np.arange(int(DURATION_S * HZ)) / HZ
    return np.stack([t_s, np.sin(t_s), np.cos(t_s)], axis=1)


def recorded(folder: Path, text: bytes) -> Recording:
    (folder / "sensors").mkdir(exist_ok=True)
    (folder / "sensors/shaker.csv").write_bytes(text)
    return Recording(
        folder=folder, name="r", subject="s", run="1", duration_s=DURATION_S, sensors=(TRACK,)
    )


def as_text(rows: Stream) -> bytes:
    lines = [",".join("" if np.isnan(x) else f"{x:.6f}" for x in row) for row in rows]
    return ("t_s,x,y\n" + "".join(f"{line}\n" for line in lines)).encode()


def silent(rows: Stream, rng: Any) -> Stream:
    """No message for a while, long or short."""
    at, length = rng.uniform(1, 25), rng.uniform(0.1, 8)
    return np.asarray(rows[(rows[:, 0] < at) | (rows[:, 0] > at + length)])


def no_number(rows: Stream, rng: Any) -> Stream:
    """One axis tells nothing for a while, from one sample to all of them."""
    at = int(rng.integers(0, len(rows)))
    rows[at : at + int(rng.integers(1, len(rows))), rng.integers(1, 3)] = np.nan
    return rows


def infinite(rows: Stream, rng: Any) -> Stream:
    rows[rng.integers(0, len(rows), 50), 1] = rng.choice([np.inf, -np.inf], 50)
    return rows


def lost(rows: Stream, rng: Any) -> Stream:
    """Messages go missing one by one."""
    return np.asarray(rows[rng.random(len(rows)) > rng.uniform(0.1, 0.98)])


def bursts(rows: Stream, rng: Any) -> Stream:
    """What was held back comes at once, with one stamp."""
    for at in rng.integers(0, len(rows) - 60, 4):
        rows[at : at + 60, 0] = rows[at + 59, 0]
    rows[:, 0] = np.maximum.accumulate(rows[:, 0])
    return rows


def drifting(rows: Stream, rng: Any) -> Stream:
    rows[:, 0] *= 1 + rng.uniform(-200e-6, 200e-6)
    return rows


def slower(rows: Stream, rng: Any) -> Stream:
    """From some moment on one value a second and a half, or a half."""
    at = int(rng.integers(100, 700))
    return np.concatenate([rows[:at], rows[at :: int(rng.choice([15, 45]))]])


def constant(rows: Stream, _: Any) -> Stream:
    rows[:, 1] = 7.0
    return rows


def nothing(rows: Stream, _: Any) -> Stream:
    return rows[:0]


ACCEPTED: list[Callable[[Stream, Any], Stream]] = [
    *(silent, no_number, infinite, lost, bursts, drifting, slower, constant, nothing)
]


def expected_missing(rows: Stream, grid_s: NDArray[Any]) -> NDArray[np.bool_]:
    """Missing samples [T, 2]: between stamps further apart than allowed, and beyond the ends."""
    missing = np.zeros((len(grid_s), 2), dtype=bool)
    for axis in (0, 1):
        t_s = [t for t, x in zip(rows[:, 0], rows[:, axis + 1], strict=True) if np.isfinite(x)]
        if not t_s:
            missing[:, axis] = True
            continue
        for a, b in itertools.pairwise(t_s):
            if b - a > CONFIG.max_gap_s:
                missing[(grid_s > a) & (grid_s < b - 1e-6), axis] = True
        edge_s = max(1 / HZ, 1 / RATE_HZ)
        missing[(grid_s < t_s[0] - edge_s) | (grid_s > t_s[-1] + edge_s), axis] = True
    return missing


@pytest.mark.parametrize("spoil", ACCEPTED, ids=lambda f: f.__name__)
def test_what_is_missing_is_counted_exactly(
    spoil: Callable[[Stream, Any], Stream], tmp_path: Path
) -> None:
    grid_s = np.arange(int(DURATION_S * RATE_HZ)) / RATE_HZ
    starts = range(0, len(grid_s) - WINDOW + 1, HOP)
    for seed in range(EACH):
        rows = spoil(stream(), np.random.default_rng([SEED, seed]))
        text = as_text(rows)
        rows = np.round(rows, 6)  # what the file says
        samples = read_grid(recorded(tmp_path, text), [TRACK], grid_s, CONFIG)
        missing = expected_missing(rows, grid_s)
        np.testing.assert_array_equal(np.isnan(samples), missing)
        windows = np.stack([samples[i : i + WINDOW] for i in starts])
        observed = fill(windows, np.zeros(2, dtype=bool))
        share = np.stack([missing[i : i + WINDOW].mean(axis=0) for i in starts])
        np.testing.assert_array_equal(observed, share <= MISSING_SHARE)
        assert np.isfinite(windows).all()


def cell(text: str) -> Callable[[list[str], Any], int]:
    def change(lines: list[str], rng: Any) -> int:
        at = int(rng.integers(1, len(lines)))
        parts = lines[at].split(",")
        parts[int(rng.integers(1, 3))] = text
        lines[at] = ",".join(parts)
        return at + 1

    return change


def swapped(lines: list[str], rng: Any) -> int:
    """A clock that was set back, by a second or an hour."""
    at = int(rng.integers(40, len(lines)))
    back_s = float(rng.choice([1.0, 3600.0]))
    t, _, rest = lines[at].partition(",")
    lines[at] = f"{float(t) - back_s:.4f},{rest}"
    return at + 1


def shorter(lines: list[str], rng: Any) -> int:
    at = int(rng.integers(1, len(lines)))
    lines[at] = lines[at].rpartition(",")[0]
    return at + 1


def without_time(lines: list[str], rng: Any) -> int:
    at = int(rng.integers(1, len(lines)))
    lines[at] = lines[at][lines[at].index(",") :]
    return at + 1


def header(lines: list[str], _: Any) -> int:
    lines[0] = "t_s,x"
    return 1


REFUSED: dict[str, Callable[[list[str], Any], int]] = {
    "a word": cell("offline"),
    "a comma for a point": cell("1,5"),
    "a megabyte in one cell": cell("9" * 1_000_000 + "x"),
    "a clock set back": swapped,
    "a row cut short": shorter,
    "a row without a time": without_time,
    "another header": header,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_names_the_line(name: str, tmp_path: Path) -> None:
    intact = as_text(stream()).decode().splitlines()
    grid_s = np.arange(64) / RATE_HZ
    for seed in range(EACH):
        lines = [*intact]
        line = REFUSED[name](lines, np.random.default_rng([SEED, seed]))
        recording = recorded(tmp_path, "\n".join(lines).encode())
        with pytest.raises(DataError) as caught:
            read_grid(recording, [TRACK], grid_s, CONFIG)
        said = str(caught.value)
        assert re.match(rf"{tmp_path}/sensors/shaker\.csv:{line}: ", said), said[:300]
        assert len(said) < 1000
        assert "\n" not in said


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    whole = as_text(stream())
    grid_s = np.arange(64) / RATE_HZ
    for seed in range(EACH):
        rng = np.random.default_rng([SEED, seed])
        raw = bytearray(whole)
        raw[int(rng.integers(10, len(raw)))] = int(rng.integers(0x80, 0xC0))
        with pytest.raises(DataError, match=r"shaker\.csv: cannot be read as text"):
            read_grid(recorded(tmp_path, bytes(raw)), [TRACK], grid_s, CONFIG)


def test_there_are_three_hundred() -> None:
    assert EACH * (len(ACCEPTED) + len(REFUSED) + 1) >= 300
