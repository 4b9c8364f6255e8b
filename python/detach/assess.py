"""What is known of one run: its heads, retrieval and places. Never trains an encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from detach.config import RunConfig, flatten, preset
from detach.data.labels import NOTHING
from detach.data.recording import Dataset
from detach.data.splits import draw_parts
from detach.data.windows import Windows
from detach.model import (
    Aligned,
    Detach,
    Network,
    Run,
    Supervised,
    batches,
    build,
    embed,
    predict,
    weights_digest,
)
from detach.probe import LinearProbe, save_head
from detach.results import (
    UNTRAINED,
    Answer,
    Kind,
    Places,
    Protocol,
    Results,
    Retrieval,
    Task,
)
from detach.scores import Ints, mutual_information, retrieval_ranks
from detach.tasks import Items, make_items, probe_answer, reference_answers

PLACE_TRACKS = ("place", "places", "room", "rooms")
_UNEQUAL = {"seed", "split.labels_seed", "device", "threads", "precision", "checkpoints", "method",
            "preset"}  # fmt: skip


@dataclass
class Cut:
    """Windows that several runs share, their parts, and what the references said of them."""

    dataset: Dataset
    windows: Windows
    parts: Mapping[str, Ints]
    references: dict[tuple[str, Protocol], tuple[Answer, ...]]
    untrained: dict[tuple[object, ...], Answer] = field(default_factory=dict)
    """Runs of one seed and shape start from the same weights."""


def assess(run: Run, cut: Cut, tracks: Sequence[str], protocols: Sequence[Protocol]) -> Results:
    """Everything about one run; writes its head."""
    model = _on_device(run)
    untrained = _untrained(run)
    model_hash = weights_digest(run.folder)
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
        settings=_settings(run.config),
    )


def unusual(config: RunConfig) -> dict[str, str | int | float | bool | None]:
    """Options in which a run differs from its preset, machine and seed left out."""
    usual = _settings(preset(config.preset))
    return {k: v for k, v in _settings(config).items() if v != usual[k]}


def _settings(config: RunConfig) -> dict[str, str | int | float | bool | None]:
    """Every option, machine and seed left out."""
    pairs = ((k, v) for k, v in flatten(config) if k not in _UNEQUAL)
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
    else:
        notes += _lacks(items)
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


def _lacks(items: Items) -> list[str]:
    """What the only fold's parts are without."""
    fold, notes = items.folds[0], []
    if len(fold.val) == 0:
        notes.append("No validation part: the probe's penalty is C = 1.")
    tested = items.truth[fold.test]
    absent = np.setdiff1d(tested, items.truth[fold.train])
    if len(absent):
        names = ", ".join(items.classes[k] for k in absent)
        count = int(np.isin(tested, absent).sum())
        notes.append(
            f"The training part has nothing of {names}: no probe can get {count} of "
            f"{len(tested)} test {items.unit} right."
        )
    return notes


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
