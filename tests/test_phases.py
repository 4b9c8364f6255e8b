"""Phases that scripts know, and recordings whose script is told again from their seed."""

from dataclasses import replace

import numpy as np
import pytest

from detach import recipes
from detach.alignment.of_runs import LEAST, _clip
from detach.alignment.phases import PHASES, phase_at, uses_in, uses_of
from detach.data.recording import read_dataset
from detach.errors import DataError
from detach.simulate.plan import Act

ACT = Act(
    kind="use", start_s=10.0, end_s=13.0, at=(0.0, 0.0), face=(1.0, 0.0), thing=2, goal=1.0,
    name="Fridge", reach_s=0.8, release_s=0.6,
)  # fmt: skip


def test_the_movement_is_parted_in_the_middle() -> None:
    at = np.array([10.0, 10.7, 10.9, 11.5, 11.7, 12.3, 12.5, 12.9])
    # reach to 10.8, move to 11.6, move on to 12.4, let go
    assert phase_at(ACT, at).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(PHASES) == 4


def test_only_what_is_opened_or_closed_to_its_end_has_phases() -> None:
    walk, late = replace(ACT, kind="walk"), replace(ACT, start_s=19.0, end_s=22.0)
    assert uses_of([walk, ACT, late], 20.0) == [ACT]


def test_scripts_of_recordings_are_told_again_from_their_seed() -> None:
    dataset = read_dataset(recipes.models_folder() / "sample")
    for recording in dataset.recordings():
        labels, uses = recording.read_labels("action"), uses_in(dataset, recording)
        assert len(labels.name) - 1 <= len(uses) <= len(labels.name)  # the last may be cut off
        assert [a.label for a in uses] == list(labels.name[: len(uses)])
        ends = [a.end_s for a in uses]
        np.testing.assert_allclose(ends, labels.end_s[: len(uses)], atol=0.01)


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ({}, "simulated home opportunity only"),
        ({"home": "hwu", "seed": 7}, "simulated home opportunity only"),
        ({"home": "opportunity", "seed": 99}, "not those of its script"),
    ],
)
def test_other_recordings_are_refused(notes: dict[str, object], said: str) -> None:
    dataset = read_dataset(recipes.models_folder() / "sample")
    recording = replace(next(iter(dataset.recordings())), notes=notes)
    with pytest.raises(DataError, match=said):
        uses_in(dataset, recording)


def test_a_clip_is_the_windows_whose_middle_it_holds() -> None:
    middle = np.arange(8.0, 16.0, 0.2)
    name, index, phase = _clip(ACT, np.arange(100, 140), middle)[0]
    assert name == ACT.label
    assert (middle[index - 100] >= 10.0 - 1e-9).all()
    assert (middle[index - 100] < 13.0).all()
    assert len(index) in {15, 16}
    assert sorted(set(phase.tolist())) == [0, 1, 2, 3]
    assert _clip(ACT, np.arange(LEAST - 1), 10 + 0.2 * np.arange(LEAST - 1)) == []
