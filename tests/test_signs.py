"""Failure signatures: each is seen where it is planted and not where it is not."""

import torch

from detach import signs
from detach.config import SpatialStageConfig


def test_collapse_and_unsettled_labels() -> None:
    names = [s for s, _ in signs.of_clusters(torch.tensor([95, 5, 0]), 0.2, last_epoch=True)]
    assert names == ["cluster collapse", "unsettled labels"]
    assert not list(signs.of_clusters(torch.tensor([50, 30, 20]), 0.2, last_epoch=False))
    assert not list(signs.of_clusters(torch.tensor([50, 30, 20]), 0.01, last_epoch=True))


def test_start_share_of_the_papers_momentum() -> None:
    assert 0.43 < signs.start_share(0.999, 825, ramp=False) < 0.45
    assert signs.start_share(0.999, 825, ramp=True) < 0.01
    assert list(signs.of_momentum(0.44))
    assert not list(signs.of_momentum(0.01))


def features(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 32, generator=torch.Generator().manual_seed(seed))


def test_motion_that_repeats_the_place() -> None:
    place = torch.arange(200) % 4
    directions = features(4, 9)[place] * 5
    video, sensor = directions + features(200, 0), directions + features(200, 1)
    raw = features(200, 2)
    assert [s for s, _ in signs.of_motion(place, video, sensor, raw)] == ["motion repeats place"]
    shared = features(200, 3)
    assert not list(signs.of_motion(place, video + 3 * shared, sensor + 3 * shared, raw))


def test_false_negatives_apart() -> None:
    place = torch.zeros(60, dtype=torch.long)
    raw = features(30, 0).repeat(2, 1)
    apart = features(60, 1)
    together = features(30, 1).repeat(2, 1)
    assert signs.twin_similarity(place, apart, raw) < 0.2
    assert signs.twin_similarity(place, together, raw) > 0.99
    assert signs.twin_similarity(torch.arange(60), apart, raw) == 1.0


def test_features_that_collapsed_rank_at_chance() -> None:
    """Where all are alike the right partner is found by chance, which is no success."""
    place, random = torch.zeros(40, dtype=torch.long), features(40, 0)
    same = torch.ones(40, 32)
    for video, sensor in ((random, same), (same, random), (same, same)):
        assert abs(signs.same_place_rank(place, video, sensor) - 0.5) < 0.01
    assert signs.same_place_rank(place, random, random) == 0.0


def test_a_schedule_that_leaves_a_part_out_is_told() -> None:
    def told(epochs: int, *, stage2: bool = True) -> list[str]:
        stage = SpatialStageConfig(epochs=epochs, warmup_epochs=5, joint_epochs=3)
        return [name for name, _ in signs.of_schedule(stage, stage2=stage2)]

    assert told(5) == ["video never learned"]
    assert told(8) == ["nothing refined"]
    assert told(9) == []
    assert told(5, stage2=False) == ["nothing refined"]
