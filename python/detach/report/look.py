"""What needs the recordings again: maps of the embeddings and windows to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from detach.assess import PLACE_TRACKS
from detach.data.recording import read_dataset
from detach.data.windows import Windows, load_windows
from detach.errors import DataError
from detach.model import Embeddings, Supervised, embed, load_run
from detach.report.hover import Strips, strips_of
from detach.report.strips import Sample, choose, usual_motion
from detach.results import Task
from detach.scores import Floats, Ints

POINTS_MIN, POINTS_MAX = 3, 1500
"""Of a map: t-SNE needs neighbours, a page has only so much room."""

Colouring = tuple[str, tuple[str, ...], Ints]


@dataclass(frozen=True)
class Look:
    """Pictures of one run."""

    maps: dict[str, NDArray[np.float32]]
    """t-SNE points [n, 2] by modality."""
    colourings: tuple[Colouring, ...]
    samples: tuple[Sample, ...]
    strips: Strips | None = None
    """Film strips of points of the maps."""


def look_at(folder: Path, task: Task, probability: Floats, say: Callable[[str], None]) -> Look:
    """Embeds at most 1500 test windows of a run and picks some to show.

    Where whole sequences are judged, maps are of all their windows, which have no answers of their
    own, and samples are the first window of a sequence.

    Args:
        folder: Run folder with a video branch.
        task: What was tested.
        probability: What the run said of it, [n, L].
        say: Told in words what is being done.

    Raises:
        DataError: The data are not there or others now, or too few for a map.
    """
    run = load_run(folder)
    dataset = read_dataset(run.data)
    here = {recording.name for recording in dataset.recordings()}
    names = [n for i in np.unique(task.recording) if (n := task.recordings[i]) in here]
    windows = load_windows(dataset, run.config, names=names, stats=run.stats, progress=say)
    index, position = match(task, windows)
    if not len(index):
        raise DataError(
            f"{folder}: none of its {len(task.truth)} test {task.unit} is in {dataset.folder} now; "
            "evaluate the run again"
        )
    at = {int(p): int(i) for i, p in zip(index, position, strict=True)}
    samples = tuple(_sample(windows, at[p], task, probability, p, run.config.windows.seconds)
                    for p in choose(task, probability).tolist() if p in at)  # fmt: skip
    if isinstance(run.model, Supervised):
        return Look({}, (), samples)
    said = [f"said {task.classes[k]}" for k in probability[position].argmax(axis=1)]
    shown, said = _mapped(folder, task, windows, index, said)
    say(f"maps of {len(shown)} windows")
    colourings = _colourings(windows, shown, task)
    strips = strips_of(windows, shown, _words(windows, shown, colourings, said))
    return Look(maps_of(embed(run.model, windows, shown)), colourings, samples, strips)


def maps_of(found: Embeddings) -> dict[str, NDArray[np.float32]]:
    """t-SNE of each modality's whole embedding; the same for the same numbers."""
    return {"sensors": tsne(found.sensor), "video": tsne(found.video)}


def tsne(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points [n, 2] of vectors [n, d], by cosine distance, seeded."""
    perplexity = float(min(30, max(2, (len(x) - 1) // 3)))
    model = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=0)
    return np.asarray(model.fit_transform(x), dtype=np.float32)


def match(task: Task, windows: Windows) -> tuple[Ints, Ints]:
    """Windows of test items, found by recording and start: (into ``windows``, into the task).

    Starts are compared as results.json keeps them, as float32.
    """
    known = {
        (windows.recordings[r], np.float32(t)): i
        for i, (r, t) in enumerate(zip(windows.recording, windows.start_s, strict=True))
    }
    pairs = [
        (known[key], position)
        for position, (r, t) in enumerate(zip(task.recording, task.start_s, strict=True))
        if (key := (task.recordings[r], np.float32(t))) in known
    ]
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _mapped(
    folder: Path, task: Task, windows: Windows, index: Ints, said: list[str]
) -> tuple[Ints, list[str]]:
    """At most 1500 of the windows of a map and what was said of each: of a sequence's nothing.

    Raises:
        DataError: There are too few.
    """
    if task.unit == "sequences":
        index = np.flatnonzero(windows.labels[task.track] >= 0)
        said = [""] * len(index)
    if len(index) < POINTS_MIN:
        raise DataError(
            f"{folder}: a map needs at least {POINTS_MIN} test windows, found {len(index)}; put "
            "more recordings into the test part"
        )
    some = np.sort(np.random.default_rng(0).permutation(len(index))[:POINTS_MAX])
    return index[some], [said[i] for i in some]


def _colourings(windows: Windows, index: Ints, task: Task) -> tuple[Colouring, ...]:
    tracks = [t for t in PLACE_TRACKS if t in windows.labels][:1]
    tracks += [task.track] if task.track not in tracks else []
    return tuple(
        (track, windows.classes[track], windows.labels[track][index].astype(np.int64))
        for track in tracks
    )


def _words(
    windows: Windows, index: Ints, colourings: Sequence[Colouring], said: Sequence[str]
) -> list[str]:
    """What is known of each window: where and when, its labels, the answer if it has one."""
    words = []
    for n, i in enumerate(index.tolist()):
        labels = [names[int(label[n])] for _, names, label in colourings if label[n] >= 0]
        minute, second = divmod(int(windows.start_s[i]), 60)
        where = f"{windows.recordings[int(windows.recording[i])]} at {minute}:{second:02d}"
        known = (where, ", ".join(dict.fromkeys(labels)), said[n])
        words.append(" \u00b7 ".join(part for part in known if part))
    return words


def _sample(
    windows: Windows, index: int, task: Task, probability: Floats, position: int, seconds: float
) -> Sample:
    said = int(probability[position].argmax())
    return Sample(
        frames=windows.frames(np.array([index]))[0],
        samples=windows.samples[index],
        usual=usual_motion(windows.samples[:: max(1, len(windows) // 500)]),
        channels=tuple(c.name for c in windows.channels),
        binary=tuple(c.binary for c in windows.channels),
        truth=task.classes[int(task.truth[position])],
        said=task.classes[said],
        confidence=float(probability[position, said]),
        recording=task.recordings[int(task.recording[position])],
        start_s=float(task.start_s[position]),
        seconds=seconds,
    )
