"""Frame-level measures of sequence alignment on simulated actions, as tables in Markdown.

    python benchmarks/alignment.py                      MASA as we read it, CASA, and references
    python benchmarks/alignment.py --run RUN [RUN ...]  sensor encoders of finished runs as well

Joints are simulated (needs the extra `sim`, no graphics); runs must have learned from one simulated
home, and those of one method are its seeds. `--append FILE` adds the figures to FILE. Everything
follows from the seeds. MASA here is an interpretation; none of its authors' numbers are printed.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detach import ledger
from detach.alignment.measures import NEAREST, SHARES, Alignment, Clip, measure
from detach.alignment.of_runs import clips_of_run
from detach.alignment.skeletons import FPS, JOINTS, Skeleton, simulate_skeletons
from detach.alignment.train import embedded, embedded_so_far, fit_masa, raw, untrained
from detach.baseline_config import MasaConfig
from detach.baselines.masa import Masa, sines
from detach.data.recording import read_dataset
from detach.errors import DetachError, UsageError
from detach.model import load_run

HEAD = (
    *("encoder", "clips", *(f"phase, {100 * s:.0f} %" for s in SHARES), "tau", "progression"),
    *(f"AP@{k}" for k in NEAREST), f"AP@{NEAREST[0]}, all actions",
)  # fmt: skip
TRAIN_SEED, TEST_SEED = 7, 8
"""Of the simulated joints."""
Parts = tuple[list[Clip], list[Clip]]


@dataclass(frozen=True)
class Found:
    """A table: what each encoder reaches, a measurement a seed."""

    what: str
    data: str
    clips: int
    rows: Mapping[str, Sequence[Alignment]]


def main() -> int:
    """Simulates, trains, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="finished runs")
    parser.add_argument("--recordings", type=int, default=4, help="of each part of a run's data")
    parser.add_argument("--train-runs", type=int, default=6, help="of 7.5 simulated minutes")
    parser.add_argument("--test-runs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="of MASA and CASA; 0 leaves both out")
    parser.add_argument("--steps", type=int, default=MasaConfig().steps)
    parser.add_argument("--csv", type=Path, help="also write every seed's numbers here")
    parser.add_argument("--append", type=Path, help="a CSV file of results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if args.append is not None:
            ledger.append_lines(args.append, (), "")  # found now if it cannot be written
        tables = [
            *([of_joints(args)] if args.seeds else []),
            *([of_runs(args)] if args.run else []),
        ]
        for table in tables:
            show(table)
        if args.append is not None:
            lines = [line for table in tables for line in ledger_lines(table)]
            ledger.append_lines(args.append, lines, ledger.machine())
    except DetachError as error:
        print(f"alignment: {error}")
        return error.exit_code
    if args.csv is not None:
        write(tables, args.csv)
    return 0


def of_joints(args: argparse.Namespace) -> Found:
    """Clips of joints as each method sees them."""
    train = simulate_skeletons(args.train_runs, seed=TRAIN_SEED, say=_aside)
    test = simulate_skeletons(args.test_runs, seed=TEST_SEED, say=_aside)
    rows = {
        "seconds since the start": [measure(_seconds(train), _seconds(test))],
        "the same, as sines": [measure(_waves(train), _waves(test))],
        "share of the clip that has passed": [measure(_shares(train), _shares(test))],
        "joints as they are": [measure(raw(train), raw(test))],
        **_of_models(args, train, test),
    }
    data = (
        f"simulated joints ({args.train_runs} + {args.test_runs} runs of 7.5 min, "
        f"seeds {TRAIN_SEED} and {TEST_SEED})"
    )
    return Found(f"alignment, joints, {args.steps} steps", data, len(test), rows)


def _of_models(
    args: argparse.Namespace, train: list[Skeleton], test: list[Skeleton]
) -> dict[str, list[Alignment]]:
    masa = MasaConfig(steps=args.steps)
    forms = {
        "MASA (our reading)": masa,
        "MASA without clusters": replace(masa, cluster_weight=0.0),
        "CASA": replace(masa, form="casa"),
    }
    pose = np.concatenate([s.joints for s in train]).mean(axis=0)
    frozen = [[replace(s, joints=_frozen(s, pose)) for s in part] for part in (train, test)]
    seeds = range(args.seeds)
    models = {
        "untrained": [untrained(masa, s) for s in seeds],
        **{n: [fit_masa(train, f, seed=s, say=_aside) for s in seeds] for n, f in forms.items()},
    }
    rows = {}
    for name, drawn in models.items():
        rows[name] = [_measured(m, train, test) for m in drawn]
        rows[f"{name}, seen so far"] = [_so_far(m, train, test) for m in drawn]
    for name in ("untrained", "CASA"):
        rows[f"{name}, body motionless"] = [_measured(m, *frozen) for m in models[name]]
    return rows


def _measured(model: Masa, train: list[Skeleton], test: list[Skeleton]) -> Alignment:
    return measure(embedded(model, train), embedded(model, test))


def _so_far(model: Masa, train: list[Skeleton], test: list[Skeleton]) -> Alignment:
    return measure(embedded_so_far(model, train), embedded_so_far(model, test))


def _frozen(skeleton: Skeleton, pose: NDArray[np.float32]) -> NDArray[np.float32]:
    """One pose [J, 3] in all frames: time is all that can be told."""
    return np.broadcast_to(pose, (len(skeleton.phase), len(JOINTS), 3)).copy()


def of_runs(args: argparse.Namespace) -> Found:
    """Windows as sensor encoders of finished runs see them.

    Raises:
        UsageError: The runs learned from different data.
    """
    data = {load_run(folder).data for folder in args.run}
    if len(data) > 1:
        raise UsageError("--run: all runs must have learned from the same data")
    seen: dict[str, list[Parts]] = {}
    for folder in args.run:
        for name, parts in clips_of_run(folder, _aside, recordings=args.recordings).items():
            seen.setdefault(name, []).append(parts)
    rows = {name: [measure(*one) for one in parts] for name, parts in seen.items()}
    rows["raw statistics"] = rows["raw statistics"][:1]  # of the data, whatever the run
    clips = len(next(iter(seen.values()))[0][1])
    return Found("alignment, windows", read_dataset(data.pop()).name, clips, rows)


def _aside(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _seconds(clips: Sequence[Skeleton]) -> list[Clip]:
    """A clock that was started with the action and knows nothing of what is to come."""
    return [
        Clip(s.action, (np.arange(len(s.phase)) / FPS).astype(np.float32)[:, None], s.phase)
        for s in clips
    ]


def _waves(clips: Sequence[Skeleton]) -> list[Clip]:
    """The same clock as the models are told it."""
    width = MasaConfig().width
    return [
        Clip(s.action, sines(torch.arange(len(s.phase)), width).numpy(), s.phase) for s in clips
    ]


def _shares(clips: Sequence[Skeleton]) -> list[Clip]:
    """A clock that knows when the action will end."""
    return [
        Clip(s.action, np.linspace(0, 1, len(s.phase), dtype=np.float32)[:, None], s.phase)
        for s in clips
    ]


def show(table: Found) -> None:
    """Means over seeds, and their spread."""
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for name, found in table.rows.items():
        shown = [
            f"{mean:.3f}" + (f" ± {sd:.3f}" if len(found) > 1 else "")
            for mean, sd in _summary(found)
        ]
        print(f"| {name} | {table.clips} | " + " | ".join(shown) + " |")
    print()


def ledger_lines(table: Found) -> Iterator[dict[str, object]]:
    """One line a number."""
    shared = {"what": table.what, "data": table.data, "items": table.clips}
    for name, found in table.rows.items():
        for metric, (mean, sd) in zip(HEAD[2:], _summary(found), strict=True):
            numbers = ledger.rounded({"value": mean, "sd": sd})
            yield {**shared, "provider": name, "seeds": len(found), "metric": metric, **numbers}


def write(tables: Sequence[Found], path: Path) -> None:
    """Every seed by itself."""
    lines = [
        [name, seed, table.clips, *(round(n, 4) for n in _numbers(one))]
        for table in tables
        for name, found in table.rows.items()
        for seed, one in enumerate(found)
    ]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [["encoder", "seed", "clips", *HEAD[2:]], *lines]
        )


def _summary(found: Sequence[Alignment]) -> list[tuple[float, float]]:
    """Mean of each measure and its standard deviation, NaN of one seed."""
    values = np.array([_numbers(one) for one in found])
    sd = values.std(axis=0, ddof=1) if len(found) > 1 else np.full(values.shape[1], np.nan)
    return list(zip(values.mean(axis=0).tolist(), sd.tolist(), strict=True))


def _numbers(one: Alignment) -> list[float]:
    first = NEAREST[0]
    return [
        *one.accuracy.values(), one.tau, one.progression, *one.precision.values(),
        one.precision_anywhere[first],
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
