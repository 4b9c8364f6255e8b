"""`detach evaluate`: what frozen encoders are worth. Never trains an encoder.

Writes results.json and head.safetensors into every run folder and returns one table over all.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detach.config import RunConfig, flatten, override, preset
from detach.data.labels import NOTHING
from detach.data.recording import Dataset, read_dataset
from detach.data.splits import draw_parts, split_windows
from detach.data.windows import Windows, load_windows
from detach.errors import DataError, UsageError
from detach.model import (
    CONFIG_FILE,
    MODEL_FILE,
    Aligned,
    Detach,
    Network,
    Run,
    Supervised,
    batches,
    build,
    embed,
    load_config,
    load_run,
    predict,
)
from detach.probe import LinearProbe, save_head
from detach.results import (
    RESULTS_FILE,
    UNTRAINED,
    Answer,
    Kind,
    Places,
    Protocol,
    Results,
    Retrieval,
    Task,
    read_results,
    write_results,
)
from detach.scores import Ints, mutual_information, retrieval_ranks
from detach.table import Table, make_table
from detach.tasks import Items, make_items, probe_answer, reference_answers

PLACE_TRACKS = ("place", "places", "room", "rooms")
_UNEQUAL = {"seed", "device", "threads", "precision", "method", "preset"}


@dataclass
class Cut:
    """Windows that several runs share, their parts, and what the references said of them."""

    dataset: Dataset
    windows: Windows
    parts: Mapping[str, Ints]
    references: dict[tuple[str, Protocol], tuple[Answer, ...]]
    untrained: dict[tuple[object, ...], Answer] = field(default_factory=dict)
    """Runs of one seed and shape start from the same weights."""


def evaluate(
    runs: Sequence[Path],
    data: Path | None = None,
    *,
    leave_one_run_out: bool = False,
    tracks: Sequence[str] = (),
    background: bool = False,
    reuse: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Table:
    """Probes every run and compares them with each other and with the references.

    Args:
        runs: Run folders, or folders of run folders (``RUN/seed0`` ...).
        data: Data set to test on; None takes the one each run was trained on.
        leave_one_run_out: Also tests every labelled run with a probe trained on the others.
        tracks: Label tracks; none takes that of the run, or the data set's first. The head that is
            kept is that of the first.
        background: Makes windows that no annotation touches a class of their own, as
            ``windows.background``.
        reuse: Takes over results that are there, of the same weights, where they answer all that is
            asked; so an evaluation of many runs goes on where it was interrupted.
        progress: Told in words what is being done.
    """
    say = progress or (lambda _: None)
    cuts: dict[str, Cut] = {}
    found = []
    for folder in find_runs(runs):
        protocols: tuple[Protocol, ...] = ("split",)
        if leave_one_run_out:
            protocols = ("split", "leave-one-run-out")
        if reuse and (kept := _kept(folder, tracks, protocols, background, say)):
            say(f"{folder}: evaluated before, its results are taken over")
            found.append(kept)
            continue
        say(f"evaluating {folder}")
        run = load_run(folder)
        if background:
            run = replace(run, config=override(run.config, {"windows": {"background": True}}))
        cut = _cut(run, data or run.data, cuts, say)
        if isinstance(run.model, Supervised):
            protocols = ("split",)  # it learned from the labels of all but the test part
        chosen = [choose_track(run.config, cut.dataset, track) for track in tracks or (None,)]
        results = evaluate_run(run, cut, chosen, protocols)
        results = results.merged(_older(folder, say))
        write_results(folder, results)
        found.append(read_results(folder))  # as rounded as those that are taken over
    return make_table(found)


def _kept(
    folder: Path,
    tracks: Sequence[str],
    protocols: Sequence[Protocol],
    background: bool,
    say: Callable[[str], None],
) -> Results | None:
    """The results of an earlier evaluation, if they are of these weights and hold all tasks."""
    older = _older(folder, say)
    if older is None or older.model != _digest(folder):
        return None
    background = background or load_config(folder)[0].windows.background
    if background != bool(older.options.get("windows.background", False)):
        return None
    known = {(task.track, task.protocol) for task in older.tasks}
    wanted = set(tracks) or {task.track for task in older.tasks}
    asked = product(wanted, protocols[:1] if older.method == "supervised" else protocols)
    return older if known and known.issuperset(asked) else None


def _digest(folder: Path) -> str:
    """SHA-256 of a run's weights."""
    return hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()


def _older(folder: Path, say: Callable[[str], None]) -> Results | None:
    """The results of an earlier evaluation; damaged ones are replaced."""
    if not (folder / RESULTS_FILE).is_file():
        return None
    try:
        return read_results(folder)
    except DataError as error:
        say(f"replaced: {error}")
        return None


def find_runs(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Run folders among ``folders`` and up to two levels below them.

    Raises:
        UsageError: No folder is given.
        DataError: One of them holds none.
    """
    if not folders:
        raise UsageError("at least one run folder must be given, found none")
    found: list[Path] = []
    for folder in folders:
        here = [folder / CONFIG_FILE]
        if not here[0].is_file():
            here = sorted([*folder.glob(f"*/{CONFIG_FILE}"), *folder.glob(f"*/*/{CONFIG_FILE}")])
        if not here:
            raise DataError(f"{folder} is no run folder and holds none: no {CONFIG_FILE} there")
        found.extend(path.parent for path in here)
    return tuple(dict.fromkeys(found))


def choose_track(config: RunConfig, dataset: Dataset, track: str | None) -> str:
    """The label track to test.

    Raises:
        UsageError: The data set does not have it.
    """
    name = track or config.split.track or next(iter(dataset.classes), "")
    if name not in dataset.classes:
        known = ", ".join(dataset.classes) or "none"
        raise UsageError(f"track must be one of {known} in {dataset.folder}, got {name!r}")
    return name


def evaluate_run(
    run: Run, cut: Cut, tracks: Sequence[str], protocols: Sequence[Protocol]
) -> Results:
    """Everything about one run; writes its head."""
    model = _on_device(run)
    untrained = _untrained(run)
    model_hash = _digest(run.folder)
    asked = [(track, protocol) for track in tracks for protocol in protocols]
    items = {
        (track, protocol): make_items(
            cut.windows,
            draw_parts(cut.windows, cut.dataset, replace(run.config.split, track=track)),
            track,
            protocol,
        )
        for track, protocol in asked
    }
    known = np.unique(np.concatenate([of.windows for of in items.values()]))
    own, start = (_Features(network, cut.windows, known) for network in (run.model, untrained))
    tasks = []
    for task in asked:
        track, protocol = task
        answers, head = _answers(run, own, start, cut, task, items[task])
        if task == (tracks[0], "split") and head is not None:
            classes = items[task].classes
            save_head(run.folder, head, track=track, classes=classes, model=model_hash)
        if task not in cut.references:
            cut.references[task] = reference_answers(cut.windows, items[task])
        answers += cut.references[task]
        tasks.append(_task(track, protocol, items[task], cut, answers))
    return Results(
        method=run.config.method,
        preset=run.config.preset,
        seed=run.config.seed,
        dataset=cut.dataset.name,
        options=unusual(run.config),
        model=model_hash,
        parts={name: len(index) for name, index in cut.parts.items()},
        channels=tuple(channel.name for channel in cut.windows.channels),
        counts=dict(cut.windows.counts),
        notes=dict(cut.dataset.notes),
        tasks=tuple(tasks),
        retrieval=_retrieval(model, untrained, cut, run.config.method, run.config.seed),
        places=_places(model, cut),
    )


def unusual(config: RunConfig) -> dict[str, str | int | float | bool | None]:
    """Options in which a run differs from its preset, machine and seed left out."""
    usual = dict(flatten(preset(config.preset)))
    pairs = ((k, v) for k, v in flatten(config) if k not in _UNEQUAL and v != usual[k])
    return {k: v if isinstance(v, str | int | float | bool | None) else str(v) for k, v in pairs}


@torch.no_grad()
def embed_sensors(
    model: Aligned, windows: Windows, index: Ints, batch: int = 512
) -> NDArray[np.float32]:
    """All that a head may see of windows [n, features], without touching the video."""
    device = next(model.parameters()).device
    parts = []
    for piece in batches(index, batch):
        samples = torch.from_numpy(windows.samples[piece]).to(device)
        parts.append(torch.cat(model.describe(samples)[1:], dim=1).cpu())
    return torch.cat(parts).numpy()


class _Features:
    """What heads may see of the windows ``known`` [n], ascending; computed when first asked for."""

    def __init__(self, network: Network | None, windows: Windows, known: Ints) -> None:
        self.network, self._windows, self._known = network, windows, known
        self._all: NDArray[np.float32] | None = None

    def of(self, index: Ints) -> NDArray[np.float32]:
        """Their rows [len(index), features]."""
        if self._all is None:
            assert isinstance(self.network, Aligned)  # noqa: S101 -- the others have none
            self._all = embed_sensors(self.network, self._windows, self._known)
        return self._all[np.searchsorted(self._known, index)]

    def answer(self, name: str, kind: Kind, items: Items, seed: int) -> tuple[Answer, LinearProbe]:
        """A probe's, on the embedding alone or on all there is, whichever validates better."""
        x = self.of(items.windows)
        assert isinstance(self.network, Aligned)  # noqa: S101 -- see above
        widths = {self.network.embedding_width, x.shape[1]}
        return probe_answer(name, kind, x, items, seed, sorted(widths))


def _answers(
    run: Run, own: _Features, start: _Features, cut: Cut, task: tuple[str, Protocol], items: Items
) -> tuple[tuple[Answer, ...], LinearProbe | None]:
    name, seed = run.config.method, run.config.seed
    if isinstance(run.model, Supervised):
        if run.classes != items.classes:
            return (), None
        said = predict(run.model, cut.windows, items.windows)
        return (
            Answer(name, "method", items.pooled(said)[items.test].astype(float), None, seed),
        ), None
    mine, head = own.answer(name, "method", items, seed)
    if start.network is None:
        return (mine,), head
    origin = _untrained_name(run.model, run.config.method)
    own_options = (run.config.imu2clip, run.config.primus, run.config.comodo, run.config.cav_mae)
    key = (task, origin, seed, run.config.encoders, run.clusters, *own_options)
    if key not in cut.untrained:
        cut.untrained[key] = start.answer(origin, "reference", items, seed)[0]
    return (mine, cut.untrained[key]), head


def _untrained_name(model: Network, method: str) -> str:
    """Networks of another shape start from other random weights."""
    return UNTRAINED if isinstance(model, Detach) else f"{UNTRAINED}, {method}"


def _task(
    track: str, protocol: Protocol, items: Items, cut: Cut, answers: tuple[Answer, ...]
) -> Task:
    test, notes = items.test, []
    if protocol == "leave-one-run-out":
        where = cut.windows.recording[cut.parts["pretrain"]]
        tested = set(items.recording.tolist())
        seen = {cut.windows.run[i] for i in np.unique(where).tolist() if i in tested}
        runs = sorted(seen)
        notes.append(f"The encoders saw these runs without labels: {', '.join(runs)}.")
    elif len(items.folds[0].val) == 0:
        notes.append("No validation part: the probe's penalty is C = 1.")
    if NOTHING in items.classes:
        notes.append(f"Windows that no annotation touches are a class: {NOTHING}.")
    return Task(
        track,
        items.classes,
        protocol,
        items.unit,
        cut.windows.recordings,
        items.recording[test],
        items.start_s[test],
        items.first[test],
        items.truth[test],
        answers,
        len(items.folds[0].train),
        tuple(notes),
    )


def _retrieval(
    model: Network, untrained: Network | None, cut: Cut, method: str, seed: int
) -> tuple[Retrieval, ...]:
    """Among all test windows, by the model and by the same network as it was before training."""
    if isinstance(model, Supervised) or untrained is None or not cut.windows.pictures:
        return ()
    test = cut.parts["test"]
    where = cut.windows.recording[test].astype(np.int64), cut.windows.start_s[test]
    found = []
    pairs: tuple[tuple[Network, str, Kind], ...] = (
        (model, method, "method"),
        (untrained, _untrained_name(untrained, method), "reference"),
    )
    for network, name, kind in pairs:
        z = embed(network, cut.windows, test)
        ranks = retrieval_ranks(z.video, z.sensor), retrieval_ranks(z.sensor, z.video)
        found.append(Retrieval(name, kind, *where, *ranks, seed))
    return tuple(found)


def _places(model: Network, cut: Cut) -> tuple[Places, ...]:
    """Nearest centroids of test windows against every track that names places."""
    if not isinstance(model, Detach):
        return ()
    found = []
    for track in (t for t in PLACE_TRACKS if t in cut.windows.labels):
        label = cut.windows.labels[track].astype(np.int64)
        test = cut.parts["test"][label[cut.parts["test"]] >= 0]
        if len(test) == 0:
            continue
        spatial = embed_sensors(model, cut.windows, test)
        spatial = spatial[:, : model.embedding_width - model.config.width]
        cluster = model.nearest(torch.from_numpy(spatial).to(model.centroids.device)).cpu().numpy()
        names = cut.windows.classes[track]
        counts = np.zeros((len(model.centroids), len(names)), dtype=np.int64)
        np.add.at(counts, (cluster, label[test]), 1)
        nmi = mutual_information(cluster.astype(np.int64), label[test])
        found.append(Places(track, names, counts, nmi))
    return tuple(found)


def _cut(run: Run, data: Path, known: dict[str, Cut], say: Callable[[str], None]) -> Cut:
    """Windows of a run's data, cut and normalised as in training."""
    c = run.config
    key = repr((data, c.windows, c.sensors, c.video, c.encoders.flow, c.split, run.stats))
    if key not in known:
        dataset = read_dataset(data)
        windows = load_windows(dataset, c, stats=run.stats, progress=say)
        parts = split_windows(windows, dataset, c.split)
        known[key] = Cut(dataset, windows, parts, {})
    return known[key]


def _untrained(run: Run) -> Network | None:
    if isinstance(run.model, Supervised):
        return None
    encoders = replace(run.config.encoders, spatial="features")  # it knows no places
    config = replace(run.config, encoders=encoders)
    fresh = build(config, len(run.stats.mean), run.clusters, len(run.classes))
    return fresh.to(next(run.model.parameters()).device).eval()


def _on_device(run: Run) -> Network:
    """Where the run was trained, or on the CPU of a machine that has no GPU."""
    wanted = "cuda" if run.config.device == "auto" else run.config.device
    return run.model.to(wanted if torch.cuda.is_available() else "cpu").eval()
