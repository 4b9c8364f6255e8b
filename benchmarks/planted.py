"""`python benchmarks/planted.py LAYOUT DATA`: clocks planted in a published layout, and as found.

LAYOUT is what `detach simulate LAYOUT --layout ... --offset-s ... --drift-ppm ...` wrote, DATA what
`detach import` made of it. The bar: 100 ms at both ends of every recording.
"""

import argparse
import json
from pathlib import Path

from detach.data.recording import read_dataset
from detach.simulate.published import PLANTED_FILE

BAR_S = 0.1


def main(layout: Path, data: Path) -> int:
    """Prints a line for each recording, and the largest error; 1 if one is above the bar."""
    planted = json.loads((layout / PLANTED_FILE).read_text(encoding="utf-8"))
    worst, untold = 0.0, 0
    for recording in read_dataset(data).recordings():
        given, found = planted[recording.name], recording.notes.get("clock")
        if found is None:
            untold += 1
            print(f"{recording.name:<14}  {given['offset_s']:+.2f} s  not told")
            continue
        drift = 1e-6 * (found.get("drift_ppm", 0.0) - given["drift_ppm"])
        first = found["offset_s"] - given["offset_s"]
        last = first + drift * recording.duration_s
        worst = max(worst, abs(first), abs(last))
        print(
            f"{recording.name:<14}  {given['offset_s']:+.2f} s {given['drift_ppm']:+5.0f} ppm  "
            f"found {found['offset_s']:+.3f} s  off by {first:+.3f} s at first, {last:+.3f} s at "
            f"{recording.duration_s:.0f} s"
        )
    print(f"largest error {1000 * worst:.0f} ms; {untold} not told")
    return int(worst > BAR_S or untold > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layout", type=Path)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    raise SystemExit(main(args.layout, args.data))
