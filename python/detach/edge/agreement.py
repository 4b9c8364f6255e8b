"""`detach bench edge --data`: whether the smaller precisions of the sensor graph recognise alike.

Every window of every recording runs through all of them, from the same stream.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data.labels import NOTHING
from detach.data.recording import read_dataset
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.engine import Backend, Engine, open_engines
from detach.edge.replay import Feed, truth_of
from detach.edge.source import Source, open_source
from detach.edge.stream import SensorStream
from detach.errors import DataError, UsageError
from detach.scores import confusion, weighted_f1

BATCH = 64
FULL = "fp32"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What the sensor graph says in each precision."""

    data: str
    windows: int
    labelled: int
    """Of these; the recordings' own labels, in the track and classes of the bundle."""
    f1: Mapping[str, float]
    """Weighted, by precision."""
    alike: Mapping[str, float]
    """Share of all windows with the same class as in float32."""

    def as_text(self) -> str:
        """A small table."""
        lines = [f"{self.data}: {self.windows} windows, {self.labelled} labelled"]
        lines.append(f"{'':<8}{'weighted F1':>12}{'as fp32':>12}")
        for name, f1 in self.f1.items():
            lines.append(f"{name:<8}{f1:>12.4f}{100 * self.alike[name]:>10.2f} %")
        return "\n".join(lines)

    def lines(self, bundle: str) -> Iterator[dict[str, object]]:
        """One for every number, as the ledger keeps them."""
        for name, f1 in self.f1.items():
            shared = {"what": f"bench edge: {bundle}", "data": self.data, "provider": name}
            yield {**shared, "items": self.labelled, "metric": "f1", "value": f"{f1:.4f}"}
            alike = f"{self.alike[name]:.4f}"
            yield {**shared, "items": self.windows, "metric": "class_as_fp32", "value": alike}


def measure(
    path: Path, data: Path, *, backend: Backend = "auto", say: Callable[[str], None]
) -> Agreement:
    """Runs a data set through every precision of a bundle's sensor graph.

    Args:
        path: NAME.detach.
        data: A data set of the home the bundle is for.
        backend: As `detach.edge.engine.open_engines`.
        say: Is told how far it is.

    Raises:
        DataError: A damaged bundle or data set, or nothing in it has a label the bundle knows.
        UsageError: The bundle has no classes, or one precision only.
    """
    bundle = open_bundle(path)
    precisions = sorted(bundle.manifest.precisions("sensor"), key=lambda p: p != FULL)
    if not bundle.manifest.classes or len(precisions) < 2:
        raise UsageError(
            f"{path}: has {len(bundle.manifest.classes)} classes and {', '.join(precisions)}; "
            "precisions are compared where there are classes and at least two of them"
        )
    dataset = read_dataset(data)
    folders = sorted({name for names in dataset.splits.values() for name in names})
    engines = {
        precision: open_engines(bundle, backend=backend, precision=precision, say=say)["sensor"]
        for precision in precisions
    }
    try:
        found = [_recording(bundle, engines, data / name, say) for name in folders]
    finally:
        for engine in engines.values():
            engine.close()
    truth = np.concatenate([labels for labels, _ in found])
    said = {p: np.concatenate([classes[p] for _, classes in found]) for p in precisions}
    return _compare(bundle, data, truth, said)


def _compare(
    bundle: Bundle, data: Path, truth: NDArray[np.int64], said: Mapping[str, NDArray[np.int64]]
) -> Agreement:
    known, labels = truth >= 0, len(bundle.manifest.classes)
    actions = [i for i, name in enumerate(bundle.manifest.classes) if name != NOTHING]
    if not np.isin(truth, actions).any():
        raise DataError(
            f"{data}: no window has a label of {bundle.manifest.track!r} that the bundle knows"
        )
    counts = {p: confusion(truth[known], classes[known], labels) for p, classes in said.items()}
    return Agreement(
        data=read_dataset(data).name,
        windows=len(truth),
        labelled=int(known.sum()),
        f1={p: float(weighted_f1(of)) for p, of in counts.items()},
        alike={p: float((classes == said[FULL]).mean()) for p, classes in said.items()},
    )


def _recording(
    bundle: Bundle, engines: Mapping[str, Engine], folder: Path, say: Callable[[str], None]
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Labels [N] of its windows, -1 without, and the class [N] that each precision names."""
    manifest = bundle.manifest
    source = open_source(folder, manifest)
    samples, starts = _windows(bundle, source)
    say(f"{folder.name}: {len(samples)} windows")
    said = {
        precision: np.concatenate(
            [
                engine.run({"samples": samples[i : i + BATCH]})["logits"].argmax(axis=1)
                for i in range(0, len(samples), BATCH)
            ]
            or [np.zeros(0, dtype=np.int64)]
        )
        for precision, engine in engines.items()
    }
    return truth_of(source, manifest, starts), said


def _windows(bundle: Bundle, source: Source) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Samples [N, T, C] of all windows and their starts [N]."""
    window = bundle.manifest.window
    stream = SensorStream(bundle.manifest, {name: s.form for name, s in source.series.items()})
    feed, cut = Feed(source, stream), []
    for number in source.windows(window.seconds, window.hop_s):
        feed.until(stream.bounds(number)[1])
        cut.append(stream.cut(number))
    samples = np.zeros((len(cut), window.samples, stream.width), dtype=np.float32)
    for i, one in enumerate(cut):
        samples[i] = one.samples
    return samples, np.array([one.start_s for one in cut])
