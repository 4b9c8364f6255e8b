"""Which of two box files is the kitchen's: the files of kitchen and living room may be exchanged.

No labels are used. Two witnesses speak, for each half second with a box and each second of motion:
where and how large a person stands at which distance, which differs from camera to camera, and
whether the motion sensor of that room is on. In runs 1 to 6 of the published data they agree
with the file names; those boxes, one a second, are the model: a kernel density for each camera.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detach.data.sphere_files import Measured

KITCHEN, LIVING = "kitchen", "living_room"
ROOM_OF = {KITCHEN: "kitchen", LIVING: "living"}

SCALE = np.array([25.0, 20.0, 20.0, 25.0, 250.0])
"""Units of the density: box centre x, bottom, width, height on the grid, and distance in mm.
Distance over bottom edge is the floor as that camera sees it: the strongest sign by far."""
WIDTH = 0.7
FLOOR = 1e-4
"""Density that is left where the model has seen nothing, so that no single box decides."""
LOOK_S = 0.5
LOOK_WEIGHT = 0.2
MOTION_WEIGHT = 0.4
"""What a look and a second of motion count. They are not independent of their neighbours: the
weights make the posterior honest on 10 to 30 s pieces of the labelled runs, each left out of the
model in turn."""
SURE = 0.95
BLOCK = 256


@dataclass(frozen=True)
class CameraModel:
    """Boxes seen by each of the two cameras: features [n, 5] and the run of each [n]."""

    features: Mapping[str, NDArray[np.float64]]
    runs: Mapping[str, NDArray[np.str_]]

    def without(self, run: str) -> "CameraModel":
        """The model as if ``run`` had not been there, to judge that run."""
        kept = {camera: self.runs[camera] != run for camera in self.features}
        return CameraModel(
            {c: x[kept[c]] for c, x in self.features.items()},
            {c: x[kept[c]] for c, x in self.runs.items()},
        )

    @property
    def learned(self) -> bool:
        """Whether both cameras have been seen."""
        return all(len(x) > 0 for x in self.features.values())

    @property
    def references(self) -> tuple[str, ...]:
        """The runs it was learned from."""
        return tuple(sorted({str(run) for x in self.runs.values() for run in np.unique(x)}))


@dataclass(frozen=True)
class Exchange:
    """What was decided for one sequence, and on what."""

    exchanged: bool
    probability: float
    """That the files are exchanged, given the evidence and even odds before it."""
    looks: int
    motion_s: int
    decided_by: str = "evidence"

    @property
    def unsure(self) -> bool:
        """Whether there was something to decide and it was decided on thin evidence."""
        weighed = self.looks + self.motion_s > 0 and self.decided_by == "evidence"
        return weighed and max(self.probability, 1 - self.probability) < SURE

    def note(self) -> dict[str, Any]:
        """For recording.json."""
        return {
            "exchanged": self.exchanged,
            "probability": round(self.probability, 4),
            "unsure": self.unsure,
            "half_seconds_of_boxes": self.looks,
            "seconds_of_motion": self.motion_s,
            "decided_by": self.decided_by if self.looks else "nothing to decide: no boxes",
        }


def learn_cameras(runs: Mapping[str, Measured]) -> CameraModel:
    """Learns both cameras from whole runs whose motion sensors do not contradict their names."""
    trusted = {name: run for name, run in runs.items() if motion_votes(run).sum() <= 0}
    features, owners = {}, {}
    for camera in (KITCHEN, LIVING):
        looks = {name: _thinned(run.boxes[camera], 1.0) for name, run in trusted.items()}
        rows = [_features(boxes) for boxes in looks.values()]
        features[camera] = np.concatenate([np.zeros((0, len(SCALE))), *rows])
        owners[camera] = np.repeat(list(looks), [len(boxes) for boxes in looks.values()])
    return CameraModel(features, owners)


def decide_exchange(measured: Measured, model: CameraModel) -> Exchange:
    """Decides whether the kitchen's and the living room's files are exchanged."""
    looks = np.concatenate(
        [
            _log_ratio(measured.boxes[KITCHEN], model),
            -_log_ratio(measured.boxes[LIVING], model),
        ]
    )
    votes = motion_votes(measured)
    score = LOOK_WEIGHT * looks.sum() + MOTION_WEIGHT * votes.sum()
    probability = float(1 / (1 + np.exp(-np.clip(score, -50, 50))))
    return Exchange(probability > 0.5, probability, len(looks), len(votes))


def motion_votes(measured: Measured) -> NDArray[np.int64]:
    """A vote for each second in which one of the two cameras sees somebody and one room moves.

    Returns:
        +1 (exchanged) or -1 (as named) for each such second.
    """
    seconds = int(np.ceil(measured.duration_s)) + 1
    seen = {c: _seconds_seen(measured.boxes[c], seconds) for c in ROOM_OF}
    moving = {c: _seconds_on(measured.motion[room], seconds) for c, room in ROOM_OF.items()}
    telling = (seen[KITCHEN] != seen[LIVING]) & (moving[KITCHEN] != moving[LIVING])
    return np.where((seen[KITCHEN] == moving[KITCHEN])[telling], -1, 1)


def _log_ratio(boxes: NDArray[np.float64], model: CameraModel) -> NDArray[np.float64]:
    """How much more each look resembles the living room's camera than the kitchen's."""
    x = _features(_thinned(boxes, LOOK_S))
    if not model.learned:
        return np.zeros(len(x))
    living, kitchen = _density(x, model.features[LIVING]), _density(x, model.features[KITCHEN])
    return np.log((living + FLOOR) / (kitchen + FLOOR))


def _density(x: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean Gaussian kernel between looks [n, 5] and what a camera has seen [m, 5], blockwise."""
    density = np.zeros(len(x))
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        squares = (block**2).sum(axis=1)[:, None] + (seen**2).sum(axis=1) - 2 * block @ seen.T
        density[start : start + BLOCK] = np.exp(-squares / (2 * WIDTH**2)).mean(axis=1)
    return density


def _features(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    _, left, top, right, bottom, _, distance_mm = boxes.T
    centre = (left + right) / 2
    rows = np.stack([centre, bottom, right - left, bottom - top, distance_mm], axis=1)
    return np.asarray(rows / SCALE, dtype=np.float64)


def _thinned(boxes: NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    """The first box of each ``step_s``: neighbours at 32 Hz say the same thing again."""
    _, first = np.unique(np.floor(boxes[:, 0] / step_s), return_index=True)
    return boxes[first]


def _seconds_seen(boxes: NDArray[np.float64], seconds: int) -> NDArray[np.bool_]:
    seen = np.zeros(seconds, dtype=bool)
    seen[boxes[:, 0].astype(int)] = True
    return seen


def _seconds_on(stretches: NDArray[np.float64], seconds: int) -> NDArray[np.bool_]:
    on = np.zeros(seconds, dtype=bool)
    for start, end in stretches:
        on[int(start) : int(end) + 1] = True
    return on
