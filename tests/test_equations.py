"""The reference itself: numbers worked out by hand, limits, and identities."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from detach import equations as eq


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)


def features(n: int = 7, d: int = 5) -> list[torch.Tensor]:
    return [unit(n, d, seed) for seed in range(6)]


@pytest.mark.parametrize(
    ("place", "motion", "printed", "gated"),
    [(0.0, 0.9, 0.19, 1.00), (0.9, 0.3, 2.548, 2.044), (0.9, 0.9, 0.532, 0.532)],
)
def test_the_two_readings_of_the_temporal_weight(
    place: float, motion: float, printed: float, gated: float
) -> None:
    s, t = torch.tensor(place), torch.tensor(motion)
    hard = eq.spatial_weight(s, lambda_hard=3.0)
    as_printed = hard * eq.temporal_weight(t, s, gate="none", power=2)
    as_coded = hard * eq.temporal_weight(t, s, gate="spatial", power=1)
    assert as_printed.item() == pytest.approx(printed, abs=1e-6)
    assert as_coded.item() == pytest.approx(gated, abs=1e-6)


def test_gated_weight_is_one_elsewhere_and_not_monotone_in_place() -> None:
    one = torch.tensor(1.0)
    at = {
        s: (eq.spatial_weight(torch.tensor(s)) * eq.temporal_weight(one, torch.tensor(s))).item()
        for s in (0.0, 0.25, 0.5, 1.0)
    }
    assert at == pytest.approx({0.0: 1.0, 0.25: 1.125, 0.5: 1.0, 1.0: 0.0})


def test_unit_weights_are_symmetric_cross_entropy() -> None:
    video, sensor = unit(9, 6, 0), unit(9, 6, 1)
    weight = 1.0 - torch.eye(9, dtype=torch.float64)
    logits = video @ sensor.T / 0.1
    target = torch.arange(9)
    expected = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
    assert eq.contrast_loss(video, sensor, weight).item() == pytest.approx(expected.item(), 1e-12)


def test_no_negatives_cost_nothing() -> None:
    logits = torch.tensor([[3.0, 900.0], [-2.0, 5.0]], dtype=torch.float64)
    assert eq.directional_loss(logits, torch.zeros(2, 2)).abs().max().item() < 1e-12


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[0.0, 2000.0], [0.0, 1000.0]])
    loss = eq.directional_loss(logits, 1.0 - torch.eye(2))
    assert loss.tolist() == pytest.approx([2000.0, 0.0])


def test_loss_against_loops() -> None:
    vs, vt, ss, st, vm, sm = features()
    tau, hard, n = 0.2, 2.5, len(vs)

    def cos(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a @ b)

    def weight(i: int, j: int) -> float:
        s = max(0.0, cos(vs[i], vs[j]), cos(ss[i], ss[j]))
        t = 0.5 * (cos(vm[i], vm[j]) + cos(sm[i], sm[j]))
        return (1 + (hard - 1) * s) * (1 - s * max(0.0, t))

    def logit(i: int, j: int) -> float:
        return 0.5 * (cos(vs[i], ss[j]) + cos(vt[i], st[j])) / tau

    total = 0.0
    for i in range(n):
        there = sum(weight(i, j) * math.exp(logit(i, j)) for j in range(n) if j != i)
        back = sum(weight(j, i) * math.exp(logit(j, i)) for j in range(n) if j != i)
        total += math.log1p(there / math.exp(logit(i, i)))
        total += math.log1p(back / math.exp(logit(i, i)))
    found = eq.weighted_contrastive_loss(vs, vt, ss, st, vm, sm, temperature=tau, lambda_hard=hard)
    assert found.item() == pytest.approx(total / (2 * n), rel=1e-12)


def test_weight_is_symmetric_within_and_not_across_modalities() -> None:
    vs, _, ss, _, vm, sm = features()
    place = eq.spatial_similarity(vs, ss)
    within = eq.temporal_weight(eq.temporal_similarity(vm, sm), place)
    across = eq.temporal_weight(eq.temporal_similarity_cross(vm, sm), place)
    assert torch.allclose(within, within.T, rtol=0, atol=1e-15)
    assert not torch.allclose(across, across.T)


def test_weight_has_gradient_only_when_asked() -> None:
    parts = [x.clone().requires_grad_() for x in features()]
    eq.weighted_contrastive_loss(*parts).backward()
    assert parts[4].grad is None
    assert parts[1].grad is not None
    eq.weighted_contrastive_loss(*parts, detach_weight=False).backward()
    assert parts[4].grad is not None


def test_cluster_loss_divides_by_windows_and_scales_weights() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]))
    label, size = torch.tensor([0, 1, 0]), torch.tensor([400, 100])
    weight = torch.tensor([1 / 20, 1 / 10]) / 0.075
    by_hand = -(2 * weight[0] * math.log(0.5) + weight[1] * math.log(0.75)) / 3
    assert eq.cluster_loss(logits, label, size).item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_cluster_sizes_may_be_beyond_float16() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    label, size = torch.arange(6) % 3, torch.tensor([70_000, 80_000, 300])
    exact = eq.cluster_loss(logits, label, size).item()
    assert eq.cluster_loss(logits.half(), label, size).item() == pytest.approx(exact, rel=5e-3)


def test_cluster_loss_of_no_windows_is_nothing() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert eq.cluster_loss(torch.zeros(0, 2), none, torch.tensor([4, 1])).item() == 0.0


def test_masked_losses_ignore_other_windows() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    label, chosen = torch.tensor([0, 1, 2, 0]), torch.tensor([True, False, True, False])
    expected = F.cross_entropy(logits[chosen], label[chosen])
    assert eq.video_spatial_loss(logits, label, chosen).item() == pytest.approx(expected.item())
    assert eq.refine_loss(logits, logits, ~chosen & chosen).item() == 0.0


def test_confident_is_the_lower_share_of_each_cluster() -> None:
    distance = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 20.0])
    label = torch.tensor([0, 0, 0, 0, 1, 1])
    assert eq.confident(distance, label, 0.75).tolist() == [True, True, True, False, True, False]
    assert eq.confident(distance, label, 1.0).all()


@pytest.mark.parametrize("length", [1, 2, 60, 100, 101, 128])
@pytest.mark.parametrize("q", [0.0, 0.5, 0.75, 0.99, 1.0])
def test_percentile_is_numpys(length: int, q: float) -> None:
    x = unit(6, length, 3)
    found = eq.activation_percentile(x, q)
    np.testing.assert_allclose(found, np.percentile(x, 100 * q, axis=-1), rtol=1e-14, atol=1e-15)
    across = eq.activation_percentile(x, q, dim=0, absolute=True)
    np.testing.assert_allclose(across, np.percentile(x.abs(), 100 * q, axis=0), rtol=1e-14)


def test_percentile_of_nan_and_infinity() -> None:
    x = torch.tensor([[1.0, math.nan, 2.0], [math.inf, math.inf, math.inf]])
    found = eq.activation_percentile(x, 0.99)
    assert math.isnan(found[0])
    assert found[1] == math.inf
