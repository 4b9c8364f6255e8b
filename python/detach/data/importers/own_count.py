"""How many windows imported recordings hold, to be told beside what others counted in them."""

from collections import Counter

import numpy as np

from detach.config import preset
from detach.data import labels as labelling
from detach.data.cutting import starts_of
from detach.data.recording import Dataset


def count_windows(dataset: Dataset, track: str) -> tuple[int, int]:
    """Windows of 2 s every 1 s that recordings and films cover, and those with a label of a track.

    Sensors are not looked at: training also leaves out windows in which none has data.
    """
    config = preset("recommended")
    total = labelled = 0
    for recording in dataset.recordings():
        start_s = starts_of(recording, config, Counter())
        weight = labelling.mean_weight(
            recording.read_labels(track), dataset.classes[track], start_s, config.windows.seconds
        )
        label, _ = labelling.window_labels(weight)
        total += len(start_s)
        labelled += int(np.count_nonzero(label >= 0))
    return total, labelled
