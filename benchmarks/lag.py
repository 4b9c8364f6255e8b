"""`python benchmarks/lag.py DATA ...`: known lags given to films, and what is found.

Nothing is written: a lag is put into the description of a recording in memory. The bar, for
simulated recordings of 20 minutes: an offset of +-2 s to one picture, 100 ppm of drift to 10 ppm.
`--run RUN` asks the encoders of a trained run instead. `--append FILE` adds the figures to FILE.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detach import ledger
from detach.data.recording import Recording, read_dataset
from detach.data.sync import Lag, measure_lag

GIVEN = ((0.0, 0.0), (2.0, 100.0), (-2.0, -100.0))
"""Seconds and ppm."""


def with_lag(recording: Recording, offset_s: float, drift_ppm: float) -> Recording:
    """The recording with a first camera whose clock is late by offset + drift t."""
    film = recording.videos[0]
    clock = replace(
        film, start_s=film.start_s * (1 + 1e-6 * drift_ppm) + offset_s, drift_ppm=drift_ppm
    )
    return replace(recording, videos=(clock, *recording.videos[1:]))


def measure(recording: Recording, run: Path | None) -> Lag:
    """By motion and activity, or by the encoders of a run."""
    if run is None:
        return measure_lag(recording)
    from detach.lag_of_run import lag_of_run  # noqa: PLC0415 -- torch, only where it is asked for

    return lag_of_run(run, recording)


def tell(found: Lag, offset_s: float, drift_ppm: float) -> str:
    """What was found beside what was given."""
    (low, high), (slow, fast) = found.offset_interval_s, found.drift_interval_ppm
    return (
        f"given {offset_s:+.1f} s {drift_ppm:+4.0f} ppm, found {found.offset_s:+.3f} s "
        f"{found.drift_ppm:+6.1f} ppm, wrong by {found.offset_s - offset_s:+.3f} s "
        f"{found.drift_ppm - drift_ppm:+5.1f} ppm; intervals {high - low:.3f} s {fast - slow:.0f} "
        f"ppm, hold it {low <= offset_s <= high}, {slow <= drift_ppm <= fast}; "
        f"stands out {found.clear}"
    )


def figures(found: Sequence[tuple[Lag, float, float]]) -> dict[str, float]:
    """Errors of all measurements in short."""
    offset_s = np.abs([lag.offset_s - given for lag, given, _ in found])
    drift_ppm = np.abs([lag.drift_ppm - given for lag, _, given in found])
    slow, fast = np.transpose([lag.drift_interval_ppm for lag, _, _ in found])
    given_ppm = np.array([given for _, _, given in found])
    return {
        "stands_out": float(np.mean([lag.clear for lag, _, _ in found])),
        "offset_error_largest_s": float(offset_s.max()),
        "drift_error_median_ppm": float(np.median(drift_ppm)),
        "drift_error_largest_ppm": float(drift_ppm.max()),
        "drift_within_10_ppm": float((drift_ppm <= 10).mean()),
        "drift_interval_median_ppm": float(np.median(fast - slow)),
        "drift_interval_holds": float(((slow <= given_ppm) & (given_ppm <= fast)).mean()),
    }


def main() -> None:
    """Prints a line for each recording and lag, and the errors of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("homes", nargs="+", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--append", type=Path)
    args = parser.parse_args()
    homes = [read_dataset(folder) for folder in args.homes]
    found = []
    for home in homes:
        for recording in home.recordings():
            for offset_s, drift_ppm in GIVEN:
                lag = measure(with_lag(recording, offset_s, drift_ppm), args.run)
                found.append((lag, offset_s, drift_ppm))
                print(f"{home.folder.name}/{recording.name}: {tell(*found[-1])}", flush=True)
    rows = []
    for metric, value in figures(found).items():
        print(f"{metric} {value:.4f}")
        rows.append({
            "what": "sync: lags of 0, +2, -2 s and 0, +100, -100 ppm given",
            "data": f"{len(homes)} homes, {homes[0].name} to {homes[-1].name}",
            "items": len(found), "provider": found[0][0].source, "metric": metric,
            "value": f"{value:.4f}",
        })  # fmt: skip
    if args.append is not None:
        ledger.append_lines(args.append, rows, ledger.machine())


if __name__ == "__main__":
    main()
