"""MASA as we read it, and CASA: index maps, losses, and what both learn on a toy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detach.alignment.skeletons import JOINTS, MIRRORED, Skeleton, joints_of
from detach.alignment.train import embedded, embedded_so_far, fit_masa, together, untrained
from detach.baseline_config import MasaConfig
from detach.baselines.masa import (
    Clips,
    Masa,
    View,
    drawn_view,
    matches,
    matching_loss,
    plain_view,
)
from detach.errors import DataError

TINY = MasaConfig(width=16, heads=2, layers=1, frames=8, steps=3, batch_size=4)
MIRROR = torch.tensor(MIRRORED)


def moving(count: int, frames: int = 40) -> torch.Tensor:
    """Clips whose first joint walks from 0 to 1 along x, [N, L, 17, 3]."""
    joints = torch.zeros(count, frames, len(JOINTS), 3)
    joints[:, :, 0, 0] = torch.linspace(0, 1, frames)
    return joints


def whole(joints: torch.Tensor) -> Clips:
    """Clips that are all as long as the tensor is."""
    return Clips(joints, torch.full((len(joints),), joints.shape[1]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_composed_maps_find_the_same_moment() -> None:
    one = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    other = torch.tensor([[0.2, 0.4, 0.6]])
    time, there = matches(one, other)
    assert there.tolist() == [[False, True, True, False]]
    torch.testing.assert_close(time[0, 1:3], torch.tensor([0.125, 0.75]))
    back, seen = matches(other, one)
    assert seen.all()
    torch.testing.assert_close(back, torch.tensor([[0.8 / 3, 1.6 / 3, 2.2 / 3]]))


def test_views_come_from_where_their_map_says() -> None:
    still = replace(TINY, chance=0.0)
    clips = whole(moving(5))
    view = drawn_view(clips, MIRROR, still, generator())
    assert view.joints.shape == (5, 8, len(JOINTS), 3)
    assert (view.at.diff(dim=1) > 0).all()
    assert (view.at >= 0).all()
    assert (view.at <= 1).all()
    torch.testing.assert_close(view.joints[:, :, 0, 0], view.at)
    assert not torch.equal(view.at[0], view.at[1])
    torch.testing.assert_close(plain_view(clips, 8).joints[:, :, 0, 0], plain_view(clips, 8).at)


def test_a_mirror_exchanges_sides_and_turns_y() -> None:
    assert [MIRRORED[i] for i in MIRRORED] == list(range(len(JOINTS)))
    for i, j in enumerate(MIRRORED):
        assert JOINTS[i].replace("left", "right") == JOINTS[j].replace("left", "right")
    clips = whole(torch.rand(3, 10, len(JOINTS), 3, generator=generator()))
    always = replace(TINY, chance=1.0, unsteady=0.0, place=0.0, speed=0.0, cut=0.0)
    seen = drawn_view(clips, MIRROR, always, generator()).joints
    straight = plain_view(clips, 8).joints
    torch.testing.assert_close(seen[..., 1], -straight[:, :, MIRROR][..., 1])
    torch.testing.assert_close(seen[..., 2], straight[:, :, MIRROR][..., 2])


def test_the_loss_is_the_squared_error_of_expected_times() -> None:
    y = torch.tensor([[[0.0], [10.0], [20.0]]])
    x = torch.tensor([[[10.0], [20.0]]])
    time, there = torch.tensor([[0.5, 0.6]]), torch.tensor([[True, True]])
    # nearest frames stand at 0.5 and 1.0: errors 0 and 0.4
    assert matching_loss(x, y, time, there, 0.1).item() == pytest.approx(0.08, abs=1e-5)
    first = torch.tensor([[True, False]])
    assert matching_loss(x, y, time, first, 0.1).item() == pytest.approx(0.0, abs=1e-5)
    flat = matching_loss(torch.zeros(1, 2, 1), torch.zeros(1, 3, 1), time, there, 0.1)
    assert flat.item() == pytest.approx((0.0 + 0.1**2) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({}, {"match", "cluster"}),
        ({"cluster_weight": 0.0}, {"match"}),
        ({"form": "casa"}, {"match"}),
    ],
)
def test_each_form_has_its_terms(changes: dict[str, object], terms: set[str]) -> None:
    model = Masa(len(JOINTS), replace(TINY, **changes))  # type: ignore[arg-type]
    losses = model.losses(whole(moving(4)), MIRROR, generator())
    assert set(losses) == terms
    torch.stack(list(losses.values())).sum().backward()
    touched = {n for n, p in model.named_parameters() if p.grad is not None}
    assert ("cluster.weight" in touched) == ("cluster" in terms)


def test_both_ways_weigh_alike() -> None:
    model = Masa(len(JOINTS), TINY)
    one, other = (drawn_view(whole(moving(4)), MIRROR, TINY, generator(i)) for i in (0, 1))
    there = model._matched(one, other, both=True)
    torch.testing.assert_close(there, model._matched(other, one, both=True))
    apart = model._matched(one, other, both=False) + model._matched(other, one, both=False)
    torch.testing.assert_close(there, apart / 2)


def test_a_clip_is_embedded_by_itself_at_any_length() -> None:
    model = untrained(TINY, 0)
    for frames in (5, 40):
        assert model.embed(moving(2, frames)).shape == (2, frames, 16)
    torch.testing.assert_close(model.embed(moving(2))[:1], model.embed(moving(1)))
    view = View(moving(2), torch.linspace(0, 1, 40).expand(2, 40), torch.arange(40.0).expand(2, 40))
    torch.testing.assert_close(model.context(view, view)[1], model.embed(moving(2)))


def test_the_position_of_a_frame_is_its_time_and_not_its_share_of_the_clip() -> None:
    model = untrained(TINY, 0)
    short, long = (
        model._begin(torch.zeros(1, n, len(JOINTS), 3), torch.arange(n)) for n in (8, 40)
    )
    torch.testing.assert_close(long[:, :8], short)
    assert not torch.allclose(long[:, 8:16], short)
    began = []
    model.own[0].register_forward_pre_hook(lambda _, args: began.append(args[0]))
    for n in (8, 40):
        model.embed(torch.zeros(1, n, len(JOINTS), 3))
    torch.testing.assert_close(began, [short, long])


def test_what_is_embedded_so_far_does_not_change_with_what_follows() -> None:
    def skeleton(joints: torch.Tensor) -> Skeleton:
        return Skeleton("open", joints.numpy(), np.zeros(len(joints), dtype=np.int64))

    joints = torch.randn(30, len(JOINTS), 3, generator=generator())
    model = untrained(TINY, 0)
    both = [skeleton(joints), skeleton(joints[:12])]
    whole_clip, beginning = (c.features for c in embedded_so_far(model, both))
    np.testing.assert_allclose(whole_clip[:12], beginning, atol=1e-5)
    np.testing.assert_allclose(whole_clip[-1], embedded(model, both)[0].features[-1], atol=1e-5)
    assert not np.allclose(embedded(model, both)[0].features[:12], beginning, atol=1e-3)


def test_views_keep_the_time_and_the_length_of_their_clip() -> None:
    still = replace(TINY, chance=0.0)
    clips = together(
        [Skeleton("open", moving(1, n)[0].numpy(), np.zeros(n, dtype=np.int64)) for n in (15, 40)]
    )
    assert clips.lengths.tolist() == [15, 40]
    plain = plain_view(clips, 8)
    torch.testing.assert_close(plain.joints[:, -1, 0, 0], torch.ones(2))  # not what pads the first
    torch.testing.assert_close(plain.clock[:, 1:2] * 7, torch.tensor([[14.0], [39.0]]))
    steady = drawn_view(clips, MIRROR, replace(still, speed=0.0), generator())
    torch.testing.assert_close(
        steady.clock, (steady.at - steady.at[:, :1]) * (clips.lengths[:, None] - 1)
    )
    quick = drawn_view(clips, MIRROR, replace(still, cut=0.0), generator())
    lasts = quick.clock[:, -1] / (clips.lengths - 1)
    assert not torch.allclose(lasts, torch.ones(2), atol=0.05)  # another speed takes another time


def test_the_similarity_is_that_of_casa() -> None:
    x, y = torch.randn(2, 1, 5, 4, generator=generator())
    time, there = torch.zeros(1, 5), torch.ones(1, 5, dtype=torch.bool)
    logits = -(torch.cdist(x, y) / 2) / (0.1 * 4)  # features by the root of d = 4, then by d
    expected = logits.softmax(dim=2) @ torch.linspace(0, 1, 5)
    torch.testing.assert_close(matching_loss(x, y, time, there, 0.1), expected.square().mean())


def test_casa_has_four_pairs_of_layers() -> None:
    model = Masa(len(JOINTS), MasaConfig(form="casa"))
    assert len(model.own) == len(model.other) == 4


def skeletons(count: int) -> list[Skeleton]:
    phase = np.repeat([0, 1, 2, 3], 10)
    rng, joints = np.random.default_rng(0), moving(1)[0].numpy()
    apart = 0.02 * rng.normal(size=(count, 1, *joints.shape[1:])).astype(np.float32)
    return [Skeleton("open", joints + own, phase) for own in apart]


def test_training_lowers_the_loss_and_is_the_same_again() -> None:
    some = skeletons(8)
    settings = replace(TINY, steps=40, learning_rate=1e-2)
    model = fit_masa(some, settings, seed=1, say=lambda _: None)
    views = [drawn_view(together(some), MIRROR, settings, generator(i)) for i in (3, 4)]
    with torch.no_grad():
        before = untrained(settings, 1)._matched(*views, both=True)
        assert model._matched(*views, both=True) < 0.5 * before
    again = fit_masa(some, settings, seed=1, say=lambda _: None)
    pairs = zip(embedded(model, some), embedded(again, some), strict=True)
    assert all(np.array_equal(a.features, b.features) for a, b in pairs)


def test_one_clip_teaches_nothing() -> None:
    with pytest.raises(DataError, match="at least 2 clips"):
        fit_masa(skeletons(1), TINY, seed=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 20, "heads": 8}, "width must be a multiple of 2 heads"),
        ({"cut": 0.5}, "cut must"),
        ({"heads": 0}, "heads must be >= 1"),
        ({"speed": -1.0}, "speed must"),
        ({"learning_rate": -1.0}, "learning_rate must"),
        ({"cluster_weight": float("nan")}, "cluster_weight must"),
        ({"unsteady": -0.1}, "unsteady must"),
        ({"place": float("inf")}, "place must"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MasaConfig(**changes)  # type: ignore[arg-type]


def test_joints_are_the_ends_of_the_limbs_that_are_drawn() -> None:
    pytest.importorskip("mujoco")
    from detach.simulate.opportunity_room import OPPORTUNITY
    from detach.simulate.path import Path
    from detach.simulate.person import subject_body
    from detach.simulate.plan import Act

    still = np.zeros(1)
    path = Path(np.zeros((1, 2)), still, still, still, np.zeros(1, dtype=np.int64))
    act = Act(kind="stand", start_s=0.0, end_s=4.0, at=(0.0, 0.0), face=(1.0, 0.0))
    body = subject_body(0, np.random.default_rng(0))
    limbs = body.figure(OPPORTUNITY, path, 0, act, 2.0, None).limbs
    found = dict(zip(JOINTS, joints_of(limbs), strict=True))
    assert found["head"][2] > found["chest"][2] > found["pelvis"][2] > found["left knee"][2]
    assert found["left knee"][2] > found["left ankle"][2] > 0
    for part in ("hip", "knee", "shoulder", "hand"):
        assert found[f"left {part}"][1] > 0 > found[f"right {part}"][1]
    assert found["left toe"][0] > found["left ankle"][0]
