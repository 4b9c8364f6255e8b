"""What the imported data set says of itself: origin, what was decided, and how often."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from detach.data.recording import PRESENCE_TRACK, Recording
from detach.data.sphere_cameras import CameraModel
from detach.data.sphere_files import CAMERAS, ROOMS
from detach.data.sphere_recording import PICTURES

WINDOW_S, STRIDE_S = 2.0, 1.0
CITATION = (
    "Niall Twomey, Tom Diethe, Meelis Kull, Hao Song, Massimo Camplani, Sion Hannuna, Xenofon "
    "Fafoutis, Ni Zhu, Pete Woznowski, Peter Flach, Ian Craddock: The SPHERE Challenge: Activity "
    "Recognition with Multimodal Sensor Data, 2016, arXiv:1603.00797"
)
CLOCK = (
    "the runs follow a script: time since the start alone predicts room and activity. No absolute "
    "time is stored and none may be given to a model; compare with a clock-only predictor"
)


def summarised(recordings: Sequence[Recording], model: CameraModel) -> dict[str, Any]:
    """Facts for the report, counted from the notes of the recordings."""
    eyes = {r.name: r.notes["cameras"] for r in recordings}
    wrists = {r.name: r.notes["wrist"] for r in recordings}
    decided = [eye for eye in eyes.values() if eye["half_seconds_of_boxes"]]
    wrist_decided = [wrist for wrist in wrists.values() if wrist["samples"]]
    return {
        "pictures": PICTURES,
        "citation": CITATION,
        "clock": CLOCK,
        "simulated": False,
        "places": len(ROOMS),
        "views": list(CAMERAS),
        "cameras": {
            "counts": {
                "as named": sum(not eye["exchanged"] for eye in decided),
                "exchanged": sum(eye["exchanged"] for eye in decided),
                "of these unsure": sum(eye["unsure"] for eye in decided),
                "without a box in kitchen or living room": len(eyes) - len(decided),
            },
            "learned_from": list(model.references),
            "unsure": [name for name, eye in eyes.items() if eye["unsure"]],
        },
        "wrist": {
            "counts": {
                "as is": sum(not wrist["flipped"] for wrist in wrist_decided),
                "turned about z": sum(wrist["flipped"] for wrist in wrist_decided),
                "of these unsure": sum(wrist["unsure"] for wrist in wrist_decided),
                "without samples": len(wrists) - len(wrist_decided),
            },
            "unsure": [name for name, wrist in wrists.items() if wrist["unsure"]],
        },
        "windows": {"counts": _count_windows(recordings)},
    }


def _count_windows(recordings: Sequence[Recording]) -> dict[str, int]:
    """Windows of 2 s every 1 s with and without a person at any time in them."""
    counts = Counter({"with a person in labelled runs": 0, "with a person in the others": 0})
    for recording in recordings:
        starts = np.arange(0, recording.duration_s - WINDOW_S + 1e-6, STRIDE_S)
        person = recording.read_labels(PRESENCE_TRACK)
        seen = (person.start_s < starts[:, None] + WINDOW_S) & (person.end_s > starts[:, None])
        labelled = "activity8" in {track.name for track in recording.labels}
        part = "in labelled runs" if labelled else "in the others"
        counts[f"with a person {part}"] += int(seen.any(axis=1).sum())
        counts["without anybody"] += int((~seen.any(axis=1)).sum())
    return dict(counts)
