"""Frame-level measures of sequence alignment on simulated actions, as a table in Markdown.

    python benchmarks/alignment.py                      MASA as we read it, CASA, and references
    python benchmarks/alignment.py --run RUN [RUN ...]  sensor encoders of finished runs as well

Joints are simulated (needs the extra `sim`, no graphics); runs must have learned from a simulated
home. Everything follows from the seeds. MASA here is an interpretation; none of its authors'
numbers are printed.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from detach.alignment.measures import NEAREST, SHARES, Alignment, Clip, measure
from detach.alignment.of_runs import clips_of_run
from detach.alignment.skeletons import FPS, Skeleton, simulate_skeletons
from detach.alignment.train import embedded, fit_masa, raw, untrained
from detach.baseline_config import MasaConfig
from detach.errors import DetachError

HEAD = (
    *("encoder", "clips", *(f"phase, {100 * s:.0f} %" for s in SHARES), "tau", "progression"),
    *(f"AP@{k}" for k in NEAREST), f"AP@{NEAREST[0]}, all actions",
)  # fmt: skip
Parts = tuple[list[Clip], list[Clip]]


def main() -> int:
    """Simulates, trains, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="finished runs")
    parser.add_argument("--recordings", type=int, default=4, help="of each part of a run's data")
    parser.add_argument("--train-runs", type=int, default=6, help="of 7.5 simulated minutes")
    parser.add_argument("--test-runs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="of MASA and CASA; 0 leaves both out")
    parser.add_argument("--steps", type=int, default=MasaConfig().steps)
    parser.add_argument("--csv", type=Path, help="also write every number here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        rows = dict(skeletons(args)) if args.seeds else {}
        for folder in args.run:
            clips = clips_of_run(folder, _aside, recordings=args.recordings)
            rows.update({f"{name} ({folder.name})": [parts] for name, parts in clips.items()})
    except DetachError as error:
        print(f"alignment: {error}")
        return error.exit_code
    show({name: (len(p[0][1]), [measure(*one) for one in p]) for name, p in rows.items()}, args.csv)
    return 0


def skeletons(args: argparse.Namespace) -> Mapping[str, list[Parts]]:
    """Clips of joints as each method sees them, one pair of parts a seed."""
    train = simulate_skeletons(args.train_runs, seed=7, say=_aside)
    test = simulate_skeletons(args.test_runs, seed=8, say=_aside)
    masa = MasaConfig(steps=args.steps)
    forms = {
        "MASA (our reading)": masa,
        "MASA without clusters": MasaConfig(steps=args.steps, cluster_weight=0.0),
        "CASA": MasaConfig(steps=args.steps, form="casa"),
    }
    rows: dict[str, list[Parts]] = {
        "clock alone": [(_clock(train), _clock(test))],
        "joints as they are": [(raw(train), raw(test))],
        "untrained": [
            (embedded(untrained(masa, s), train), embedded(untrained(masa, s), test))
            for s in range(args.seeds)
        ],
    }
    for name, settings in forms.items():
        models = [fit_masa(train, settings, seed=s, say=_aside) for s in range(args.seeds)]
        rows[name] = [(embedded(m, train), embedded(m, test)) for m in models]
    return rows


def _aside(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _clock(clips: Sequence[Skeleton]) -> list[Clip]:
    """Seconds since the action began: what order alone is worth."""
    seconds = [
        (np.arange(len(s.phase), dtype=np.float32) / np.float32(FPS))[:, None] for s in clips
    ]
    return [Clip(s.action, t, s.phase) for s, t in zip(clips, seconds, strict=True)]


def show(rows: Mapping[str, tuple[int, Sequence[Alignment]]], path: Path | None) -> None:
    """Means over seeds; in the file every seed by itself."""
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    lines: list[list[object]] = []
    for name, (clips, found) in rows.items():
        values = np.array([_numbers(one) for one in found])
        shown = [
            f"{m:.3f}" + (f" ± {s:.3f}" if len(found) > 1 else "")
            for m, s in zip(
                values.mean(axis=0), values.std(axis=0, ddof=len(found) > 1), strict=True
            )
        ]
        print(f"| {name} | {clips} | " + " | ".join(shown) + " |")
        lines += [[name, seed, clips, *row] for seed, row in enumerate(values.round(4).tolist())]
    if path is not None:
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [["encoder", "seed", "clips", *HEAD[2:]], *lines]
            )


def _numbers(one: Alignment) -> list[float]:
    first = NEAREST[0]
    return [
        *one.accuracy.values(), one.tau, one.progression, *one.precision.values(),
        one.precision_anywhere[first],
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
