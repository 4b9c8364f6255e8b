"""`python benchmarks/names.py RUN ...`: how good a head is that comes from names instead of labels.

The clusters of each run are named by majority: a stand-in for a person who looks at film strips.
Nothing else of the labels is used. Its weighted F1 on the test part is set against the linear
probe with all labels (`detach evaluate` must have been there). "Unknown" counts as wrong.
`--most M` changes the number of names, `--track TRACK` what they are names of; `--append FILE` adds
the figures to FILE.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detach import ledger
from detach.assess import embed_sensors
from detach.data.recording import read_dataset
from detach.data.splits import draw_parts
from detach.data.windows import load_windows
from detach.model import Detach, load_run, weights_digest
from detach.naming import MOST, Clusters, find_clusters, make_head
from detach.probe import Head, load_head
from detach.scores import Ints, confusion, weighted_f1

LABELLED = 0.25
"""A cluster with fewer labelled windows than this share stays without a name."""


@dataclass(frozen=True)
class Named:
    """What names cost one run."""

    run: Path
    seed: int
    data: str
    track: str
    names: int
    windows: int
    """Of the test part."""
    figures: dict[str, float]

    def lines(self) -> list[dict[str, object]]:
        """For the ledger."""
        shared = {
            "what": f"names: {self.track}", "data": self.data, "items": self.windows,
            "provider": f"{self.names} names, training seed {self.seed}", "seeds": 1,
        }  # fmt: skip
        known = {m: v for m, v in self.figures.items() if not np.isnan(v)}
        return [{**shared, "metric": m, "value": f"{v:.4f}"} for m, v in known.items()]


def majority_names(clusters: Clusters, truth: Ints, classes: tuple[str, ...]) -> dict[str, str]:
    """The commonest class of each cluster whose windows (``truth`` [n], -1 is none) have labels."""
    names = {}
    for j, i in enumerate(clusters.ids):
        own = truth[clusters.label == j]
        known = own[own >= 0]
        if len(known) >= max(1, LABELLED * len(own)):
            names[i] = classes[int(np.bincount(known).argmax())]
    return names


def score(head: Head, features: np.ndarray, truth: Ints, classes: tuple[str, ...]) -> float:
    """Weighted F1 of a head on labelled windows; what it has no class for counts as wrong."""
    said = head.probabilities(features[:, : head.weight.shape[1]]).argmax(axis=1)
    place = {name: k for k, name in enumerate(classes)}
    named = np.array([place.get(head.classes[k], len(classes)) for k in said])
    return float(weighted_f1(confusion(truth, named, len(classes) + 1)))


def measure(folder: Path, most: int, track: str | None) -> Named:
    """Names and labels beside each other, for one run."""
    run = load_run(folder)
    if not isinstance(run.model, Detach):
        raise SystemExit(f"{folder}: not a run of the method detach")
    dataset = read_dataset(run.data)
    windows = load_windows(dataset, run.config, stats=run.stats, video=False)
    track = track or run.config.split.track or next(iter(dataset.classes))
    parts = draw_parts(windows, dataset, run.config.split)
    truth, classes = windows.labels[track].astype(np.int64), windows.classes[track]
    features = embed_sensors(run.model, windows, np.arange(len(windows)))
    own, width = features[:, : run.model.embedding_width], run.model.config.width
    part, test = parts["pretrain"], parts["test"][truth[parts["test"]] >= 0]
    import torch  # noqa: PLC0415 -- beside numpy

    place = run.model.nearest(torch.from_numpy(own[part, :-width])).numpy().astype(np.int64)
    model = weights_digest(folder)
    clusters = find_clusters(own[part], place, width, model=model, most=most)
    names = majority_names(clusters, truth[part], classes)
    probe, called, rows = make_head(clusters, names, track)
    head = Head(probe.weight, probe.bias, track, called, model, rows)
    unknown = float((head.probabilities(own[test]).argmax(axis=1) == len(called) - 1).mean())
    linear = load_head(folder)
    found = score(head, own[test], truth[test], classes)
    fits = linear is not None and linear.track == track
    best = score(linear, features[test], truth[test], classes) if linear and fits else float("nan")
    return Named(
        run=folder,
        seed=run.config.seed,
        data=dataset.name,
        track=track,
        names=len(names),
        windows=len(test),
        figures={
            "named_classes": len(called) - 1,
            "f1": found,
            "unknown": unknown,
            "linear_probe_f1": best,
            "gap": best - found,
        },
    )


def main() -> None:
    """Prints a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=MOST)
    parser.add_argument("--track")
    parser.add_argument("--append", type=Path)
    args = parser.parse_args()
    for folder in args.runs:
        named = measure(folder, args.most, args.track)
        told = ", ".join(f"{metric} {value:.3f}" for metric, value in named.figures.items())
        print(f"{folder}: {named.names} names, {told}; {named.windows} test windows", flush=True)
        if args.append is not None:
            device = ledger.machine()
            ledger.append_lines(args.append, named.lines(), device)


if __name__ == "__main__":
    main()
