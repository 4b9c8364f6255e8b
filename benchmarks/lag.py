"""`python benchmarks/lag.py DATA`: known lags given to the films of a data set, and what is found.

Nothing is written: a lag is put into the description of a recording in memory. The bar, for
simulated recordings of 20 minutes: an offset of +-2 s to one frame, 100 ppm of drift to 10 ppm.
"""

import sys
from dataclasses import replace
from pathlib import Path

from detach.data.recording import Recording, read_dataset
from detach.data.sync import measure_lag

GIVEN = ((0.0, 0.0), (2.0, 100.0), (-2.0, -100.0))
"""Seconds and ppm."""


def with_lag(recording: Recording, offset_s: float, drift_ppm: float) -> Recording:
    """The recording with a first camera whose clock is late by offset + drift t."""
    film = recording.videos[0]
    clock = replace(
        film, start_s=film.start_s * (1 + 1e-6 * drift_ppm) + offset_s, drift_ppm=drift_ppm
    )
    return replace(recording, videos=(clock, *recording.videos[1:]))


def main(folder: Path) -> None:
    """Prints a line for each recording and lag."""
    print("recording  given            found            error            95 % intervals")
    for recording in read_dataset(folder).recordings():
        for offset_s, drift_ppm in GIVEN:
            found = measure_lag(with_lag(recording, offset_s, drift_ppm))
            (low, high), (slow, fast) = found.offset_interval_s, found.drift_interval_ppm
            inside = low <= offset_s <= high, slow <= drift_ppm <= fast
            print(
                f"{recording.name:<9}  {offset_s:+.1f} s {drift_ppm:+5.0f} ppm  "
                f"{found.offset_s:+.3f} s {found.drift_ppm:+6.1f}  "
                f"{found.offset_s - offset_s:+.3f} s {found.drift_ppm - drift_ppm:+6.1f}  "
                f"hold {inside[0]}, {inside[1]}; stands out: {found.clear}",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
