"""`detach name`: what was found without labels gets names from a person, and a head from those.

Each place of stage 1 is cut into 2 to 6 clusters of temporal features; names of clusters become
classes. The head is the nearest centroid, which is linear on unit vectors: -|u - c|^2 / r^2 =
(2 c u - 1 - |c|^2) / r^2. Farther than r from every centroid the answer is "unknown", which is
one more row: -1. M clusters, D features of Eq. 6, d of the temporal half.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from detach.data.store import write_whole
from detach.errors import DataError
from detach.probe import NAMED_FILE, Head, LinearProbe, load_head, save_head
from detach.recipes import MALFORMED

CLUSTERS_FILE, NAMES_FILE = "clusters.safetensors", "names.yaml"
SCHEMA = 1
UNKNOWN, TRACK = "unknown", "names"
K_RANGE = range(2, 7)
MOST = 25
"""Names that one asks a person for."""
LEAST = 20
"""Windows that a cluster has at least; a place with fewer than twice as many stays whole."""
RADIUS_Q = 0.95
SHARPNESS = 10.0
"""What -|u - c|^2 / r^2 is multiplied by, so that softmax makes probabilities of it."""
LONGEST_NAME = 60

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Clusters:
    """What was found in the pretraining part of a run."""

    model: str
    """sha256 of the run's model.safetensors."""
    ids: tuple[str, ...]
    """``place-number``, both counted from 1 [M]."""
    place: Ints
    """[M]"""
    size: Ints
    """Windows in each [M]."""
    centroid: NDArray[np.float32]
    """Mean embeddings [M, D]."""
    label: Ints
    """Cluster of each window of the pretraining part [n]."""
    away: NDArray[np.float32]
    """Distance of each to its centroid [n]."""

    @property
    def radius(self) -> float:
        """Beyond this a window is unlike all: the 95th percentile of the distances."""
        return max(float(np.quantile(self.away, RADIUS_Q)), 1e-3)


def find_clusters(
    embedding: NDArray[np.float32],
    place: Ints,
    width: int,
    *,
    model: str,
    most: int = MOST,
    seed: int = 0,
) -> Clusters:
    """Cuts places into clusters of what happens there.

    Args:
        embedding: Eq. 6 of the windows [n, D].
        place: Nearest place of each [n].
        width: d, of the temporal half.
        model: sha256 of the model.
        most: Clusters at most, however many places would like more.
        seed: Of k-means.

    Raises:
        DataError: There are more places than ``most``.
    """
    temporal = embedding[:, -width:].astype(np.float64)
    temporal /= np.maximum(np.linalg.norm(temporal, axis=1, keepdims=True), 1e-12)
    places = np.unique(place)
    if len(places) > most:
        raise DataError(f"there are {len(places)} places, which is more than --most {most}")
    cuts = {int(p): _ways(temporal[place == p], seed) for p in places}
    chosen = choose_counts(cuts, most)
    label = np.full(len(place), -1, dtype=np.int64)
    ids: list[str] = []
    of_place: list[int] = []
    for p, k in chosen.items():
        label[place == p] = len(ids) + cuts[p][k].label
        ids += [f"{p + 1}-{j + 1}" for j in range(k)]
        of_place += [p] * k
    centroid = np.stack([embedding[label == j].mean(axis=0) for j in range(len(ids))])
    away = np.linalg.norm(embedding - centroid[label], axis=1)
    return Clusters(
        model=model,
        ids=tuple(ids),
        place=np.array(of_place, dtype=np.int64),
        size=np.bincount(label, minlength=len(ids)).astype(np.int64),
        centroid=centroid.astype(np.float32),
        label=label,
        away=away.astype(np.float32),
    )


@dataclass(frozen=True)
class Way:
    """One way to cut a place."""

    silhouette: float
    spread: float
    """Squared distances of all windows to their centroids, summed."""
    label: Ints


def _ways(rows: Floats, seed: int) -> dict[int, Way]:
    """The ways to cut a place with features [n, d], by number of clusters."""
    whole = float(((rows - rows.mean(axis=0)) ** 2).sum())
    ways = {1: Way(0.0, whole, np.zeros(len(rows), dtype=np.int64))}
    different = len(np.unique(rows.round(5), axis=0))  # quiet windows are all alike
    for k in (k for k in K_RANGE if len(rows) >= k * LEAST and different >= k):
        model = KMeans(k, n_init=5, random_state=seed)
        found = model.fit_predict(rows).astype(np.int64)
        size = min(len(rows), 1500)
        score = silhouette_score(rows, found, sample_size=size, random_state=seed)
        order = np.argsort(-np.bincount(found, minlength=k), kind="stable")  # the largest first
        ways[k] = Way(float(score), float(model.inertia_), np.argsort(order)[found])
    return ways


def choose_counts(ways: Mapping[int, Mapping[int, Way]], most: int) -> dict[int, int]:
    """Clusters of each place: those of the best silhouette, fewer where it widens them least.

    Args:
        ways: For each place, by number of clusters.
        most: The sum of the numbers at most.
    """
    chosen = {p: max(w, key=lambda k: (w[k].silhouette, -k)) for p, w in ways.items()}
    while sum(chosen.values()) > most:
        costs = {p: ways[p][k - 1].spread - ways[p][k].spread for p, k in chosen.items() if k > 1}
        chosen[min(costs, key=lambda p: costs[p])] -= 1
    return chosen


def save_clusters(folder: Path, clusters: Clusters) -> None:
    """Writes RUN/clusters.safetensors."""
    tensors: dict[str, NDArray[Any]] = {
        "place": clusters.place,
        "size": clusters.size,
        "centroid": clusters.centroid,
        "label": clusters.label,
        "away": clusters.away,
    }
    about = {
        "schema": str(SCHEMA),
        "model": clusters.model,
        "ids": json.dumps(list(clusters.ids)),
    }
    write_whole(folder / CLUSTERS_FILE, save(tensors, about))


def load_clusters(folder: Path, model: str) -> Clusters | None:
    """What `save_clusters` wrote for this model; None where there is nothing, or of another one.

    Raises:
        DataError: It is damaged, or of another schema.
    """
    path = folder / CLUSTERS_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as stored:
            about = stored.metadata() or {}
            if about.get("schema") != str(SCHEMA):
                found = about.get("schema")
                raise DataError(f"{path}: schema must be {SCHEMA}, found {found!r}; name it again")
            names = ("place", "size", "centroid", "label", "away")
            parts = [stored.get_tensor(name) for name in names]
        clusters = Clusters(about["model"], tuple(json.loads(about["ids"])), *parts)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DataError(f"{path}: damaged: {error}; remove it and name the run again") from error
    if any(len(x) != len(clusters.ids) for x in parts[:3]) or len(parts[3]) != len(parts[4]):
        raise DataError(f"{path}: its parts do not fit; remove it and name the run again")
    return clusters if clusters.model == model else None


def save_names(
    folder: Path, clusters: Clusters, names: Mapping[str, str | None], track: str
) -> Path:
    """Writes RUN/names.yaml, to be edited by hand or by the page."""
    rows = [
        {"id": i, "place": int(p) + 1, "windows": int(n), "name": names.get(i)}
        for i, p, n in zip(clusters.ids, clusters.place, clusters.size, strict=True)
    ]
    body = {"schema": SCHEMA, "model": clusters.model, "track": track, "clusters": rows}
    head = (
        "# Give each cluster a name; one name for several joins them, null leaves them out.\n"
        "# Then: detach name RUN --names THIS_FILE\n"
    )
    path = folder / NAMES_FILE
    write_whole(path, (head + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)).encode())
    return path


def read_names(path: Path, clusters: Clusters) -> tuple[dict[str, str | None], str]:
    """The names in a file, by cluster, and the track they are for.

    Raises:
        DataError: Not such a file, for another model, or a name that cannot be one.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, *MALFORMED) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    found = body.get("schema") if isinstance(body, dict) else None
    if found != SCHEMA:
        raise DataError(f"{path}: schema must be {SCHEMA}, found {found!r}; see `detach name`")
    if body.get("model") != clusters.model:
        raise DataError(
            f"{path}: these names were given to clusters of another model; name this run anew"
        )
    try:
        given = {str(row["id"]): row["name"] for row in body["clusters"]}
        track = str(body["track"])
        if len(given) < len(body["clusters"]):
            raise DataError(f"{path}: a cluster is listed twice")
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: missing or malformed entry: {error}") from error
    return check_names(given, clusters, str(path)), track


def check_names(given: Mapping[str, Any], clusters: Clusters, where: str) -> dict[str, str | None]:
    """Names without blanks around them; None is left out.

    Raises:
        DataError: A cluster that is not there, or a name that cannot be one.
    """
    if strange := [i for i in given if i not in clusters.ids]:
        raise DataError(f"{where}: there is no cluster {strange[0]!r}; {', '.join(clusters.ids)}")
    names: dict[str, str | None] = {}
    spelled: dict[str, str] = {}
    for i, name in given.items():
        if name is not None and not isinstance(name, str):
            raise DataError(f"{where}: the name of {i} must be text or null, found {name!r}")
        text = " ".join((name or "").split())
        if len(text) > LONGEST_NAME or not text.isprintable():
            raise DataError(
                f"{where}: the name of {i} must be at most {LONGEST_NAME} letters, found {text!r}"
            )
        if text.casefold() == UNKNOWN:
            raise DataError(f"{where}: {i}: {text!r} is what other windows are called; use null")
        first = spelled.setdefault(text.casefold(), text)
        if first != text:
            raise DataError(
                f"{where}: {first!r} and {text!r} differ only in capitals; write one of them, "
                "which joins the clusters"
            )
        names[i] = text or None
    return names


def make_head(
    clusters: Clusters, names: Mapping[str, str | None], track: str
) -> tuple[LinearProbe, tuple[str, ...], tuple[int, ...]]:
    """Weights, classes, and the class of each row; windows like those left out are unknown.

    Raises:
        DataError: No cluster has a name.
    """
    given = [names.get(i) for i in clusters.ids]
    classes = tuple(dict.fromkeys(name for name in given if name))
    if not classes:
        raise DataError(f"{track}: no cluster has a name yet, so there is nothing to recognise")
    centroid = clusters.centroid.astype(np.float64)
    scale = SHARPNESS / clusters.radius**2
    weight = 2 * scale * centroid
    bias = -scale * (1 + (centroid**2).sum(axis=1))
    rows = [classes.index(name) if name else len(classes) for name in given]
    weight = np.concatenate([weight, np.zeros((1, weight.shape[1]))])
    bias = np.append(bias, -SHARPNESS)
    probe = LinearProbe(weight.astype(np.float32), bias.astype(np.float32), 0.0)
    return probe, (*classes, UNKNOWN), (*rows, len(classes))


def write_head(
    folder: Path, clusters: Clusters, names: Mapping[str, str | None], track: str
) -> Head:
    """Makes the head of a run from names and keeps it, with the names, in its folder."""
    probe, classes, rows = make_head(clusters, names, track)
    save_names(folder, clusters, names, track)
    save_head(
        folder,
        probe,
        track=track,
        classes=classes,
        model=clusters.model,
        rows=rows,
        file=NAMED_FILE,
    )
    head = load_head(folder, NAMED_FILE)
    assert head is not None  # noqa: S101 -- written above
    return head


def joined(names: Mapping[str, str | None]) -> dict[str, Sequence[str]]:
    """Names that were given to several clusters, and to which."""
    found: dict[str, list[str]] = {}
    for i, name in names.items():
        if name:
            found.setdefault(name, []).append(i)
    return {name: ids for name, ids in found.items() if len(ids) > 1}
