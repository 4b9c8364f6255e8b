"""The phases of a simulated action, as its script knows them: reach, move, move on, let go.

The hand's movement is parted at half of its time. Scripts follow from a home's seed, so phases of
recordings that are long written can still be had.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detach.data.recording import Dataset, Recording
from detach.errors import DataError
from detach.scores import Ints
from detach.simulate.levels import load_level
from detach.simulate.plan import Act
from detach.simulate.script import write_scripts

PHASES = ("reach", "move", "move on", "let go")
TRACK = "action"
CLOSE_S = 0.01
HOME = "opportunity"


def phase_at(act: Act, t_s: NDArray[np.floating]) -> Ints:
    """Phase of the act at times [n] within it."""
    grab, drop = act.start_s + act.reach_s, act.end_s - act.release_s
    edges = np.array([grab, (grab + drop) / 2, drop])
    return np.asarray(np.searchsorted(edges, t_s, side="right"), dtype=np.int64)


def uses_of(acts: Sequence[Act], duration_s: float) -> list[Act]:
    """What is opened and closed, from beginning to end."""
    return [a for a in acts if a.kind == "use" and a.end_s <= duration_s]


def uses_in(dataset: Dataset, recording: Recording) -> list[Act]:
    """What is opened and closed in a simulated recording, with phases.

    Raises:
        DataError: It is not of that home, with one person, or this version's scripts are not those
            it was made from.
    """
    notes = recording.notes
    if notes.get("home") != HOME or not isinstance(notes.get("seed"), int):
        raise DataError(
            f"{recording.folder}: phases are known of recordings of the simulated home {HOME} "
            "only; its notes name no such home and seed"
        )
    level = load_level(str(dataset.notes.get("level", "default")))
    number = int("".join(c for c in recording.name if c.isdigit()) or 0)
    rng = np.random.default_rng([int(notes["seed"]), number, 0])
    script = write_scripts([rng], level, recording.duration_s)[0]
    uses = uses_of(script, recording.duration_s)
    _check(recording, uses)
    return uses


def _check(recording: Recording, uses: Sequence[Act]) -> None:
    """That labels and script tell the same.

    Raises:
        DataError: They do not.
    """
    labels = recording.read_labels(TRACK)
    told = sorted(zip(labels.start_s.tolist(), labels.name, strict=True))
    for act in uses:
        if not any(abs(s - act.start_s) < CLOSE_S and n == act.label for s, n in told):
            raise DataError(
                f"{recording.folder}: its labels are not those of its script (no {act.label} at "
                f"{act.start_s:.2f} s): simulate the home again with this version"
            )
