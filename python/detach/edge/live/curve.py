"""What each threshold would have meant on labelled recordings: false events a day, events found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detach.data.recording import DATASET_FILE, read_dataset
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.live.config import Deciding
from detach.edge.live.rates import DAY_S, Judged, Rate, choose, rate
from detach.edge.replay import Options, decisions, truth_of
from detach.edge.source import open_source
from detach.errors import DataError

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One bundle on some recordings."""

    bundle: str
    data: str
    recordings: int
    windows: int
    hours: float
    rates: Sequence[Rate]

    def as_text(self) -> str:
        """A table, and what can be seen in so many hours at all."""
        lines = [
            f"{self.bundle} on {self.data}: {self.recordings} recordings, {self.hours:.2f} h, "
            f"{self.rates[0].stretches} actions",
            f"{'threshold':>9}{'false a day':>13}{'false':>7}{'events':>8}{'found':>8}",
        ]
        lines += [
            f"{r.threshold:>9g}{r.false_per_day:>13.0f}{r.false:>7}{r.events:>8}{r.found:>8.1%}"
            for r in self.rates
        ]
        lines.append(
            f"one false event in these {self.hours:.2f} h is {24 / self.hours:.0f} a day: fewer "
            "cannot be told from none"
        )
        return "\n".join(lines)

    def lines(self) -> Iterator[dict[str, object]]:
        """One for every number, as the ledger keeps them."""
        for r in self.rates:
            shared = {
                "what": "bench edge: events",
                "data": self.data,
                "items": self.windows,
                "provider": f"threshold {r.threshold:g}",
            }
            yield {**shared, "metric": "false_per_day", "value": f"{r.false_per_day:.1f}"}
            yield {**shared, "metric": "found", "value": f"{r.found:.4f}"}

    def chosen(self, most_per_day: float) -> Rate:
        """The threshold that finds most with at most so many false events a day.

        Raises:
            DataError: There is none.
        """
        try:
            return choose(self.rates, most_per_day)
        except ValueError as error:
            raise DataError(f"{self.data}: {error}") from None


def curve(
    bundle_path: Path,
    paths: Sequence[Path],
    *,
    config: Deciding | None = None,
    say: Callable[[str], None],
) -> Curve:
    """Runs recordings through a bundle once, and asks what each threshold would have meant.

    Args:
        bundle_path: NAME.detach, with classes.
        paths: Recordings, or data sets of which all recordings are taken; none that the bundle
            was fitted on.
        config: When an answer counts; None takes what `detach live` does by itself.
        say: Is told which recording is being run.

    Raises:
        DataError: They do not fit the bundle, or have no labels of its track.
    """
    bundle = open_bundle(bundle_path)
    manifest = bundle.manifest
    if not manifest.classes:
        raise DataError(f"{bundle_path}: has no classes, so that there are no events")
    folders = [folder for path in paths for folder in _recordings(path)]
    judged = [_judged(bundle, folder, say) for folder in folders]
    windows, hop_s = sum(len(j.truth) for j in judged), manifest.window.hop_s
    if not windows:
        raise DataError(f"{paths[0]}: no recording is as long as a window")
    rates = [
        rate(
            judged,
            manifest.classes,
            threshold=threshold,
            hop_s=hop_s,
            config=config or Deciding(),
        )
        for threshold in THRESHOLDS
    ]
    return Curve(
        bundle=bundle_path.name,
        data=_named(paths),
        recordings=len(folders),
        windows=windows,
        hours=windows * hop_s * 24 / DAY_S,
        rates=rates,
    )


def _recordings(path: Path) -> list[Path]:
    if not (path / DATASET_FILE).is_file():
        return [path]
    return [recording.folder for recording in read_dataset(path).recordings()]


def _named(paths: Sequence[Path]) -> str:
    """Names of data sets, and of recordings with the data set each stands in."""
    found: dict[str, list[str]] = {}
    for path in paths:
        whole = (path / DATASET_FILE).is_file()
        folder = path if whole else path.parent
        listed = (folder / DATASET_FILE).is_file()
        names = found.setdefault(read_dataset(folder).name if listed else "", [])
        names += [] if whole else [path.name]
    return "; ".join(": ".join(filter(None, (n, ", ".join(of)))) for n, of in found.items())


def _judged(bundle: Bundle, folder: Path, say: Callable[[str], None]) -> Judged:
    source = open_source(folder, bundle.manifest)
    if source.labels is None:
        raise DataError(f"{folder}: has no labels {bundle.manifest.track!r} to compare with")
    found = [d for _, d in decisions(bundle, source, Options(), lambda _: None)]
    starts = np.array([decision.start_s for decision in found])
    say(f"{source.name}: {len(found)} windows")
    shape = (len(found), len(bundle.manifest.classes))
    rows = [(0.0,) * shape[1] if decision.silent else decision.probabilities for decision in found]
    return Judged(
        probabilities=np.array(rows, np.float64).reshape(shape),
        truth=truth_of(source, bundle.manifest, starts),
    )
