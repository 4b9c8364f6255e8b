"""`detach run`: a source through a bundle, window by window as on a stream, as fast as it goes."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detach.data import video
from detach.data.labels import NOTHING, mean_weight, window_labels
from detach.edge.annotate import FPS, annotated
from detach.edge.bundle import Bundle, open_bundle
from detach.edge.decide import UNKNOWN, Decision, decide
from detach.edge.engine import Backend, Engine, open_engines
from detach.edge.film import FilmReader
from detach.edge.graph_input import Tensors
from detach.edge.manifest import Manifest
from detach.edge.outputs import check_outputs, line_file
from detach.edge.rrd import write_rrd
from detach.edge.source import Source, open_source
from detach.edge.stream import SensorStream, SensorWindow
from detach.errors import DataError, UsageError

SAY_EVERY_S = 5.0
LOOK_AHEAD = 4096
"""Rows without a value that are passed over to find the one after a window."""
BLOCK = 1024
"""Windows whose answers are compared with the recording's labels at once."""
NO_SAMPLES = np.empty((0, 0), np.float32)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a source is run."""

    backend: Backend = "auto"
    precision: str | None = None
    threads: int = 1
    video: bool = False
    """Whether the video graphs run too; the sensors alone decide."""
    video_file: Path | None = None
    probabilities: bool = False
    """Whether every line has every class."""
    cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a whole run came to."""

    windows: int
    seconds: float
    """It took."""
    unknown: int
    labelled: int
    right: int
    """Of ``labelled`` windows."""

    def __str__(self) -> str:
        speed = self.windows / max(self.seconds, 1e-9)
        text = f"{self.windows} windows in {self.seconds:.1f} s ({speed:.0f} a second)"
        if self.unknown:
            text += f", {self.unknown} unknown"
        if self.labelled:
            share = 100 * self.right / self.labelled
            text += (
                f"; {share:.0f} % of {self.labelled} labelled windows are named as in the recording"
            )
        return text


def run(
    bundle_path: Path,
    path: Path,
    *,
    options: Options | None = None,
    write: Callable[[str], object],
    say: Say,
    keep: bool = True,
) -> tuple[Summary, Source, list[tuple[SensorWindow, Decision]]]:
    """Runs a source and writes one JSON line a window.

    Args:
        bundle_path: NAME.detach.
        path: See `detach.edge.source.open_source`.
        options: How.
        write: Takes each line.
        say: Is told which engine runs, and progress.
        keep: Whether windows are given back; without, memory does not grow with their number.

    Returns:
        The summary, the source, and all windows, without their samples, with their decisions.

    Raises:
        DataError: A damaged bundle or source, or they do not fit.
        MachineError: No engine.
        UsageError: A data set instead of a recording, or a precision the bundle lacks.
    """
    options = options or Options()
    bundle = open_bundle(bundle_path)
    manifest = bundle.manifest
    source = open_source(path, manifest, options.video_file)
    if not manifest.classes:
        say(
            "this bundle has no classes: places and embeddings only; `detach evaluate` makes a head"
        )
    classes = manifest.classes if options.probabilities else ()
    started, tally = time.monotonic(), _Tally(source, manifest)
    kept: list[tuple[SensorWindow, Decision]] = []
    for window, decision in decisions(bundle, source, options, say):
        write(json.dumps(decision.as_json(classes), ensure_ascii=False))
        tally.add(decision)
        if keep:
            kept.append((replace(window, samples=NO_SAMPLES), decision))
    if not tally.windows:
        raise DataError(
            f"{path}: lasts {source.duration_s:.1f} s, a window {manifest.window.seconds:g} s"
        )
    summary = tally.summary(time.monotonic() - started)
    say(str(summary))
    return summary, source, kept


def run_and_show(
    bundle_path: Path,
    path: Path,
    *,
    options: Options,
    out: Path | None,
    annotate: Path | None,
    rrd: Path | None = None,
    write: Callable[[str], None],
    say: Say,
) -> Summary:
    """`run`, with its lines in a file, or a video of it, where they are asked for.

    Args:
        bundle_path: NAME.detach.
        path: The source.
        options: How.
        out: File for the lines, written when all are there; None gives them to ``write``.
        annotate: Video to write.
        rrd: File for the rerun viewer to write.
        write: Takes each line.
        say: Is told what is being done.

    Raises:
        UsageError: An output would overwrite what is read, or another one, or has a wrong suffix.
        MachineError: An output cannot be written.
    """
    _check_outputs(bundle_path, path, options.video_file, out, annotate, rrd)
    keep = annotate is not None or rrd is not None
    with nullcontext(write) if out is None else line_file(out) as taken:
        summary, source, found = run(
            bundle_path, path, options=options, write=taken, say=say, keep=keep
        )
    if out is not None:
        say(str(out))
    if annotate is not None:
        manifest = open_bundle(bundle_path).manifest
        count = video.write(annotate, annotated(source, manifest, found), FPS)
        say(f"{annotate}: {count} pictures")
    if rrd is not None:
        count = write_rrd(rrd, source, open_bundle(bundle_path).manifest, found)
        say(f"{rrd}: {count} pictures; `rerun {rrd}` shows it")
    return summary


def _check_outputs(
    bundle_path: Path,
    path: Path,
    video_file: Path | None,
    out: Path | None,
    annotate: Path | None,
    rrd: Path | None,
) -> None:
    """Before the work, that it will not be for nothing nor at the cost of what is read."""
    for option, file, suffix in (("annotate", annotate, ".mp4"), ("rrd", rrd, ".rrd")):
        if file is not None and file.suffix.lower() != suffix:
            raise UsageError(f"--{option} must end in {suffix}, got {file}")
    links = [p for p in (*path.glob("*"), *path.glob("*/*")) if p.is_symlink()]
    inputs = [bundle_path, path, *links, *([] if video_file is None else [video_file])]
    check_outputs([p for p in (out, annotate, rrd) if p is not None], inputs)


def decisions(
    bundle: Bundle, source: Source, options: Options, say: Say
) -> Iterator[tuple[SensorWindow, Decision]]:
    """Windows with their decisions, in order."""
    manifest = bundle.manifest
    stream = SensorStream(manifest, {name: s.form for name, s in source.series.items()})
    film = FilmReader(source, manifest) if options.video else None
    graphs = ["sensor"]
    if film is not None:
        graphs += [g for g in ("video_spatial", "video_temporal") if manifest.precisions(g)]
    engines = open_engines(
        bundle,
        backend=options.backend,
        graphs=graphs,
        precision=options.precision,
        threads=options.threads,
        cache=options.cache,
        say=say,
    )
    try:
        yield from _through(engines, manifest, source, stream, film, say)
    finally:
        for engine in engines.values():
            engine.close()
    if told := policies_of(source, stream):
        say(told)


def policies_of(source: Source, stream: SensorStream) -> str:
    """What the bundle's policies for its sensors did, in words; nothing where they did nothing."""
    words = {
        "samples_held": "{} samples held",
        "samples_masked": "{} samples masked",
        "windows_dropped": "unknown in {} windows, since it was silent",
    }
    told = [
        f"{sensor}: {words[what].format(count)}"
        for what, counts in stream.policy_counts.items()
        for sensor, count in counts.items()
    ]
    told += [
        f"{name}: clock set {series.clocks_set} times, by {series.clocks_set_s:.3f} s in all"
        for name, series in source.series.items()
        if series.clocks_set
    ]
    return "; ".join(told)


def _through(
    engines: Mapping[str, Engine],
    manifest: Manifest,
    source: Source,
    stream: SensorStream,
    film: FilmReader | None,
    say: Say,
) -> Iterator[tuple[SensorWindow, Decision]]:
    numbers = source.windows(manifest.window.seconds, manifest.window.hop_s)
    feed, said = Feed(source, stream), time.monotonic()
    for number in numbers:
        feed.until(stream.bounds(number)[1])
        window = stream.cut(number)
        outputs = engines["sensor"].run({"samples": window.samples[None]})
        seen = _look(engines, film, window.start_s) if film is not None else None
        yield window, decide(manifest, window, outputs, seen)
        if time.monotonic() - said > SAY_EVERY_S:
            said = time.monotonic()
            say(f"{number + 1} of {len(numbers)} windows")


def _look(engines: Mapping[str, Engine], film: FilmReader, start_s: float) -> Tensors | None:
    inputs = film.inputs(start_s)
    if inputs is None:
        return None
    found: Tensors = {}
    if "video_spatial" in engines:
        own = {"pictures": "pictures", "frames_spatial": "frames"}
        found |= engines["video_spatial"].run({own[k]: x for k, x in inputs.items() if k in own})
    if "video_temporal" in engines:
        own = {"frames": "frames", "flow": "flow"}
        found |= engines["video_temporal"].run({own[k]: x for k, x in inputs.items() if k in own})
    return found


class Feed:
    """Gives a stream the values of a source in order of time, never more than windows need."""

    def __init__(self, source: Source, stream: SensorStream) -> None:
        self._stream = stream
        self._todo = [
            (column, series, axis)
            for name, series in source.series.items()
            for axis, label in enumerate(series.axes)
            if (column := stream.column(name, label)) is not None
        ]
        self._next = [0] * len(self._todo)

    def until(self, end_s: float) -> None:
        """All values up to ``end_s``, and of sampled ones the next, to which one interpolates."""
        for i, (column, series, axis) in enumerate(self._todo):
            stop = int(np.searchsorted(series.t_s, end_s + 1e-6, side="right"))
            if series.form.hz is not None:
                known = np.isfinite(series.values[stop : stop + LOOK_AHEAD, axis])
                stop += int(known.argmax()) + 1 if known.any() else len(known)
            start, self._next[i] = self._next[i], max(self._next[i], stop)
            if start < stop:
                t_s, values = series.t_s[start:stop], series.values[start:stop, axis]
                if series.form.hz is not None:  # an empty cell is no sample, never an unknown state
                    known = np.isfinite(values)
                    t_s, values = t_s[known], values[known]
                self._stream.push(column, t_s, values)


def truth_of(source: Source, manifest: Manifest, start_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The recording's own class of each window [N], -1 where it has none the bundle knows."""
    if source.labels is None or not manifest.classes:
        return np.full(len(start_s), -1, dtype=np.int64)
    weight = mean_weight(source.labels, manifest.classes, start_s, manifest.window.seconds)
    nothing = NOTHING in manifest.classes and source.labels.name
    empty = manifest.classes.index(NOTHING) if nothing else -1
    return window_labels(weight, empty=empty)[0].astype(np.int64)


class _Tally:
    """Counts what the windows come to, a block of them at a time."""

    def __init__(self, source: Source, manifest: Manifest) -> None:
        self._source, self._manifest = source, manifest
        self._block: list[tuple[float, str | None]] = []
        self.windows = self._unknown = self._labelled = self._right = 0

    def add(self, decision: Decision) -> None:
        self.windows += 1
        self._unknown += decision.label == UNKNOWN
        self._block.append((decision.start_s, decision.label))
        if len(self._block) == BLOCK:
            self._judge()

    def summary(self, seconds: float) -> Summary:
        """Of all that were added, in so many seconds."""
        self._judge()
        return Summary(
            windows=self.windows,
            seconds=seconds,
            unknown=self._unknown,
            labelled=self._labelled,
            right=self._right,
        )

    def _judge(self) -> None:
        """How many windows have a label, and how many of those are called by it."""
        starts = np.array([start_s for start_s, _ in self._block])
        truth = truth_of(self._source, self._manifest, starts).tolist()
        for t, (_, label) in zip(truth, self._block, strict=True):
            self._labelled += t >= 0
            self._right += t >= 0 and self._manifest.classes[t] == label
        self._block.clear()
