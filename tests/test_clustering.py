"""Online clustering: bank, centroids, refilling, confidence, state."""

import pytest
import torch
import torch.nn.functional as F

from detach.clustering import OnlineClustering
from detach.config import SpatialStageConfig


def blobs(sizes: tuple[int, ...], spread: float = 0.05, d: int = 16) -> torch.Tensor:
    """Unit features around as many orthogonal directions."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        torch.eye(d)[k].expand(n, d) + spread * torch.randn(n, d, generator=generator)
        for k, n in enumerate(sizes)
    ]
    return F.normalize(torch.cat(rows), dim=1)


def purity(label: torch.Tensor, sizes: tuple[int, ...]) -> float:
    truth = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    hits = sum(int(torch.bincount(truth[label == k]).max()) for k in label.unique())
    return hits / len(label)


def test_start_finds_the_blobs() -> None:
    sizes = (40, 30, 20)
    state = OnlineClustering.start(blobs(sizes), 3, seed=0)
    assert purity(state.label, sizes) == 1.0
    assert sorted(state.sizes.tolist()) == sorted(sizes)
    members = state.memory_bank.rows[state.label == 0]
    torch.testing.assert_close(state.centroids[0], members.mean(dim=0))


def test_more_clusters_than_windows_is_refused() -> None:
    with pytest.raises(
        ValueError, match="clusters must be at most the number of windows, 4, got 5"
    ):
        OnlineClustering.start(torch.randn(4, 3), 5, seed=0)


def test_update_moves_only_the_named_rows_and_relabels_them() -> None:
    state = OnlineClustering.start(blobs((20, 20)), 2, seed=0)
    bank = state.memory_bank
    before = bank.rows.clone()
    other = state.label[-1]
    assert state.label[0] != other
    for _ in range(20):
        state.update(torch.tensor([0]), state.centroids[other][None], momentum=0.5)
    assert state.label[0] == other
    assert torch.equal(bank.rows[1:], before[1:])
    assert bank.rows[0].norm().item() == pytest.approx(1.0, abs=1e-6)


def test_small_clusters_are_refilled_from_the_largest() -> None:
    state = OnlineClustering.start(blobs((60, 60)), 3, seed=0)
    state.label = torch.cat([torch.zeros(119), torch.ones(1)]).long()
    state.centroids[2] = -state.centroids[0]
    state.update_centroids()
    assert state.refill_small(10, seed=0) == 2
    assert int(state.sizes.min()) >= 10
    assert int(state.sizes.sum()) == 120


def test_confident_share_and_change_rate() -> None:
    features = blobs((100, 100))
    state = OnlineClustering.start(features, 2, seed=0)
    changed, refilled = state.end_epoch(SpatialStageConfig(), seed=0)
    assert (changed, refilled) == (0.0, 0)
    assert state.confident.float().mean().item() == pytest.approx(0.75, abs=0.02)
    state.update(torch.arange(10), features[-10:], momentum=1.0)
    changed, _ = state.end_epoch(SpatialStageConfig(), seed=0)
    assert changed == pytest.approx(10 / 200)


def test_state_goes_round() -> None:
    state = OnlineClustering.start(blobs((20, 20)), 2, seed=0)
    other = OnlineClustering.start(blobs((20, 20), spread=0.5), 2, seed=1)
    for ours, theirs in ((state, other), (state.memory_bank, other.memory_bank)):
        theirs.load_state_dict(ours.state_dict())
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    other.memory_bank.rows.zero_()
    assert state.memory_bank.rows.abs().sum() > 0
    third = OnlineClustering.start(blobs((20, 21)), 2, seed=0)
    with pytest.raises(ValueError, match="the bank has 40 windows, expected 41"):
        third.memory_bank.load_state_dict(state.memory_bank.state_dict())


def test_logits_give_gradient_to_features_only() -> None:
    state = OnlineClustering.start(blobs((20, 20)), 2, seed=0)
    features = blobs((3, 3)).requires_grad_()
    state.logits(features, 0.1).sum().backward()
    assert features.grad is not None
    assert not state.centroids.requires_grad


def test_cosines_are_exact_under_autocast() -> None:
    state = OnlineClustering.start(blobs((30, 20)), 2, seed=0)
    features = blobs((5, 5))
    exact = state.logits(features, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(state.logits(features, 0.1), exact)
        assert state.logits(features.bfloat16(), 0.1).dtype == torch.float32


def test_windows_that_are_all_alike_are_halved_too() -> None:
    state = OnlineClustering.start(blobs((60, 30)), 3, seed=0)
    state.memory_bank.rows = torch.eye(16)[:1].expand(90, 16).clone()
    state.label = torch.zeros(90, dtype=torch.long)
    state.update_centroids()
    assert state.refill_small(10, seed=0) == 2
    assert int(state.sizes.min()) >= 10
