"""What was found in a run, to be looked at and named: film strips, traces, and how pure it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from markupsafe import Markup

from detach import __version__
from detach.assess import embed_sensors
from detach.data.recording import read_dataset
from detach.data.splits import draw_parts
from detach.data.windows import Windows, load_windows
from detach.errors import DataError
from detach.model import Detach, load_run, weights_digest
from detach.naming import (
    CLUSTERS_FILE,
    NAMES_FILE,
    TRACK,
    Clusters,
    Ints,
    find_clusters,
    load_clusters,
    read_names,
    save_clusters,
)
from detach.probe import NAMED_FILE
from detach.report.strips import Sample, film, traces, usual_motion

TYPICAL = (0.05, 0.3, 0.6, 0.9)
"""Quantiles of the distance to the centroid of the examples shown."""
LANE_WIDTH_PX, LANE_NAME_PX, FRAMES = 480, 190, 4
PAGE_FILE = "names.html"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """The clusters of a run, and what is known of them."""

    folder: Path
    dataset: str
    track: str
    clusters: Clusters
    names: Mapping[str, str | None]
    """What was given so far."""
    windows: Windows
    part: Ints
    """Windows of the pretraining part [n], whose clusters ``clusters.label`` names."""

    def members(self, number: int) -> Ints:
        """The windows of a cluster."""
        return np.asarray(self.part[self.clusters.label == number])

    def purity(self, number: int) -> dict[str, tuple[str, float, int]]:
        """For each track with labels: the commonest class, its share, and how many have one."""
        found = {}
        for track, names in self.windows.classes.items():
            label = self.windows.labels[track][self.members(number)]
            label = label[label >= 0]
            if len(label):
                counts = np.bincount(label, minlength=len(names))
                best = int(counts.argmax())
                found[track] = (names[best], float(counts[best] / len(label)), len(label))
        return found


def find(
    folder: Path,
    data: Path | None = None,
    *,
    most: int,
    again: bool = False,
    track: str | None = None,
    video: bool = True,
    say: Say | None = None,
) -> Found:
    """The clusters of a run: those found before, or new ones.

    Args:
        folder: A finished run of the method detach.
        data: Its data set, where that has moved.
        most: Clusters at most, where new ones are made.
        again: Whether clusters are made anew. Names and head of other clusters are kept beside, as
            names.yaml.old.
        track: What the names are names of; None takes ``names``, or what the file says.
        video: Whether pictures will be wanted.
        say: Told in words what is being done.

    Raises:
        DataError: The run or its data are not there, damaged, or name no places.
    """
    run = load_run(folder)
    if not isinstance(run.model, Detach):
        raise DataError(
            f"{folder}: only runs of the method detach have places to name; this is "
            f"{run.config.method}"
        )
    dataset = read_dataset(data or run.data)
    windows = load_windows(dataset, run.config, stats=run.stats, video=video, progress=say)
    part = draw_parts(windows, dataset, run.config.split)["pretrain"]
    model = weights_digest(folder)
    clusters = None if again else load_clusters(folder, model)
    if clusters is not None and len(clusters.label) != len(part):
        raise DataError(
            f"{folder / CLUSTERS_FILE}: {len(clusters.label)} windows were clustered, the data "
            f"have {len(part)} now; give --again to start over"
        )
    names: Mapping[str, str | None] = {}
    if clusters is None:
        (say or (lambda _: None))(f"clustering {len(part)} windows")
        features = embed_sensors(run.model, windows, part)[:, : run.model.embedding_width]
        spatial = torch.from_numpy(features[:, : -run.model.config.width])
        place = run.model.nearest(spatial).numpy().astype(np.int64)
        clusters = find_clusters(features, place, run.model.config.width, model=model, most=most)
        for stale in (NAMES_FILE, NAMED_FILE):
            _set_aside(folder / stale, say or (lambda _: None))
        save_clusters(folder, clusters)
    elif (folder / NAMES_FILE).is_file():
        names, written = read_names(folder / NAMES_FILE, clusters)
        track = track or written
    return Found(folder, dataset.name, track or TRACK, clusters, names, windows, part)


def _set_aside(path: Path, say: Say) -> None:
    """Renames a file of other clusters to NAME.old, .old1 and so on: somebody wrote the names."""
    if path.is_file():
        tries = (path.with_name(f"{path.name}.old{n or ''}") for n in count())
        aside = next(other for other in tries if not other.exists())
        path.rename(aside)
        say(f"{path.name} belongs to clusters that are no more; it is kept as {aside.name}")


def render(found: Found, *, nonce: str = "", token: str = "") -> str:
    """The page as HTML; without a token it can only be looked at."""
    folder = resources.files("detach.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    text = folder.joinpath("naming.html.j2").read_text(encoding="utf-8")
    page = folder.joinpath("page.html.j2").read_text(encoding="utf-8")
    style = page[page.index("<style>") + len("<style>") : page.index("</style>")]
    usual = usual_motion(found.windows.samples[:: max(1, len(found.windows) // 500)])
    cards = [_card(found, j, usual) for j in range(len(found.clusters.ids))]
    return environment.from_string(text).render(
        version=__version__,
        style=Markup(style),  # noqa: S704  our own
        nonce=nonce,
        token=token,
        title=found.folder.resolve().name,
        dataset=found.dataset,
        places=[
            (place, [card for card in cards if card["place"] == place])
            for place in dict.fromkeys(card["place"] for card in cards)
        ],
        count=len(cards),
        windows=len(found.part),
        labelled=any(card["purity"] for card in cards),
        names_file=NAMES_FILE,
    )


def _card(found: Found, number: int, usual: Any) -> dict[str, Any]:
    clusters = found.clusters
    shown = []
    for index in _examples(found, number).tolist():
        sample = _sample(found.windows, index, usual)
        lanes = traces(sample, LANE_WIDTH_PX, LANE_NAME_PX)
        shown.append(
            {
                "film": film(sample, FRAMES) if found.windows.pictures else "",
                "traces": Markup(lanes),  # noqa: S704  drawn here
                "where": f"{sample.recording} at {sample.start_s:.0f} s",
            }
        )
    return {
        "id": clusters.ids[number],
        "place": int(clusters.place[number]) + 1,
        "size": int(clusters.size[number]),
        "share": float(clusters.size[number] / max(len(found.part), 1)),
        "name": found.names.get(clusters.ids[number]) or "",
        "shown": shown,
        "purity": found.purity(number),
    }


def _examples(found: Found, number: int) -> Ints:
    """Windows of a cluster from typical to odd, of different recordings where there are some."""
    members = found.members(number)
    away = found.clusters.away[found.clusters.label == number]
    order = members[np.argsort(away, kind="stable")]
    chosen: list[int] = []
    for quantile in TYPICAL:
        start = int(quantile * (len(order) - 1))
        seen = {int(found.windows.recording[i]) for i in chosen}
        near = [int(i) for i in order[start : start + 8] if int(i) not in chosen]
        fresh = [i for i in near if int(found.windows.recording[i]) not in seen]
        chosen += (fresh or near)[:1]
    return np.array(chosen, dtype=np.int64)


def _sample(windows: Windows, index: int, usual: Any) -> Sample:
    no_frames = np.zeros((0, 0, 0, 3), dtype=np.uint8)
    return Sample(
        frames=windows.frames(np.array([index]))[0] if windows.pictures else no_frames,
        samples=windows.samples[index],
        usual=usual,
        channels=tuple(channel.name for channel in windows.channels),
        binary=tuple(channel.binary for channel in windows.channels),
        truth="",
        said="",
        confidence=0.0,
        recording=windows.recordings[int(windows.recording[index])],
        start_s=float(windows.start_s[index]),
        seconds=windows.seconds,
    )
