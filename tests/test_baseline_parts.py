"""What makes each rival that rival: its queue, its views, its spectrogram, its hidden patches."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detach.baseline_config import CavMaeConfig, ComodoConfig, PrimusConfig
from detach.baselines import cav_mae, primus
from detach.baselines.batch import Batch
from detach.baselines.comodo import Comodo
from detach.config import EncoderConfig
from detach.errors import UsageError
from detach.key_queue import KeyQueue


def test_the_queue_forgets_the_oldest_and_knows_whose_keys_it_holds() -> None:
    queue = KeyQueue(4, 2)
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert queue.nearest(keys, torch.arange(3)) is None
    queue.push(keys, torch.arange(3))
    assert queue.filled.shape == (3, 2)
    near = queue.nearest(torch.tensor([[1.0, 0.1]]), torch.tensor([7]))
    assert near is not None
    assert near.tolist() == [0]
    other = queue.nearest(torch.tensor([[1.0, 0.1]]), torch.tensor([0]))
    assert other is not None
    assert other.tolist() == [1]
    queue.push(10 * keys[:2], torch.tensor([8, 9]))
    assert sorted(queue.window.tolist()) == [1, 2, 8, 9]
    again = KeyQueue(4, 2)
    again.load_state_dict(queue.state_dict())
    queue.push(keys[:1], torch.tensor([5]))
    again.push(keys[:1], torch.tensor([5]))
    assert torch.equal(queue.keys, again.keys)


def test_the_nearest_key_is_the_same_under_autocast() -> None:
    queue = KeyQueue(500, 16)
    queue.push(torch.randn(500, 16, generator=generator()), torch.arange(500))
    query = torch.randn(200, 16, generator=torch.Generator().manual_seed(1))
    found = queue.nearest(query, torch.arange(500, 700))
    with torch.autocast("cpu", torch.bfloat16):
        again = queue.nearest(query, torch.arange(500, 700))
    assert found is not None
    assert again is not None
    assert torch.equal(found, again)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def batch(n: int = 6, length: int = 60, channels: int = 3) -> Batch:
    samples = torch.randn(n, length, channels, generator=generator())
    video = torch.rand(n, 6, 16, 20, 3, generator=generator())
    return Batch(torch.arange(n), samples, samples, video, generator(), 0)


def test_views_are_what_their_names_say() -> None:
    x = batch().samples
    assert torch.equal(primus.changed(x, ("negate",), generator()), -x)
    assert torch.equal(primus.changed(x, ("reverse",), generator()), x.flip(1))
    mixed = primus.changed(x, ("permute",), generator())
    assert torch.equal(mixed.sort(dim=1).values, x.sort(dim=1).values)
    steps = (mixed[:, :, :1] == x[:, None, :, 0]).float().argmax(dim=2)
    orders = torch.stack([row.argsort() for row in mixed[:, :, 0]])
    assert len({tuple(o.tolist()) for o in orders}) == len(x)
    jumps = (steps.diff(dim=1) != 1).sum(dim=1)
    assert jumps.max() <= 3
    scaled = primus.changed(x, ("scale",), generator()) / x
    assert torch.allclose(scaled.std(dim=1), torch.zeros(()), atol=1e-4)  # one factor a channel
    assert scaled[:, 0].std() > 0.1
    noisy = primus.changed(x, ("noise",), generator()) - x
    assert abs(float(noisy.std()) - 0.1) < 0.02


def test_what_primus_remembers_changes_its_loss() -> None:
    config = EncoderConfig(width=16, video_scale=0.125, sensor_scale=0.125)
    found = {}
    cases: dict[str, dict[str, Any]] = {
        "plain": {"neighbours": False},
        "near": {},
        "negatives": {"negatives": "queue", "neighbours": False},
        "no views": {"self_share": 0.0},
    }
    for name, changes in cases.items():
        torch.manual_seed(0)
        settings = PrimusConfig(samples=200, queue=12, **changes)
        model = primus.Primus(3, config, settings)
        memory = primus.Memory(model, 24)
        for start in (10, 20):
            before = batch()
            memory.remember(dataclasses.replace(before, window=before.window + start))
        found[name] = {k: float(v.detach()) for k, v in model.losses(batch(), memory).items()}
    assert found["near"]["contrast"] > found["plain"]["contrast"] + 0.1
    assert found["near"]["views"] > found["plain"]["views"] + 0.1
    assert found["negatives"]["contrast"] > found["plain"]["contrast"] + 0.05
    assert set(found["no views"]) == {"contrast"}


def test_slow_copies_follow() -> None:
    config = EncoderConfig(width=16, video_scale=0.125, sensor_scale=0.125)
    model = primus.Primus(3, config, PrimusConfig(samples=200, momentum=0.5))
    memory = primus.Memory(model, 24)
    slow, fast = (h.get_parameter("bias") for h in (memory.slow[2], model.to_views))
    with torch.no_grad():
        fast.add_(1.0)
    before = slow.clone()
    memory.remember(dataclasses.replace(batch(), step=100))
    torch.testing.assert_close(slow - before, torch.full_like(slow, 0.5))


def test_comodo_can_be_probed_at_its_head() -> None:
    config = EncoderConfig(width=16, video_scale=0.125, sensor_scale=0.125)
    model = Comodo(3, config, ComodoConfig(hidden=32, output=16, probe="head")).eval()
    assert model.describe(batch().samples)[1].shape == (6, 16)
    assert model.embedding_width == 16
    kept = Comodo(3, config, ComodoConfig(hidden=32, output=16)).eval()
    assert kept.describe(batch().samples)[1].shape == (6, 32)


def test_comodo_compares_in_full_precision() -> None:
    model = Comodo(3, EncoderConfig(width=16), ComodoConfig(output=30))
    model.add_module("sensor", nn.Flatten())
    model.add_module("student_head", nn.Identity())
    taught = F.normalize(torch.randn(20, 30, generator=generator()), dim=1)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(model.losses(batch(length=10), taught, KeyQueue(9, 30))["distil"])
    assert torch.equal(*found)


def test_a_spectrogram_shows_the_pitch() -> None:
    settings = CavMaeConfig()
    t = torch.arange(128) / 128
    tones = torch.stack([torch.sin(2 * torch.pi * f * t) for f in (8.0, 32.0, 56.0)])
    made = cav_mae.Spectrogram(1, settings).eval()(tones[:, :, None])
    assert made.shape == (3, 1, 32, 32)
    loudest = made[:, 0, :, 8:24].mean(dim=2).argmax(dim=1).tolist()
    expected = [f / 64 * 31 for f in (8.0, 32.0, 56.0)]
    np.testing.assert_allclose(loudest, expected, atol=1.1)


def test_a_channel_that_never_stirred_does_not_explode() -> None:
    made = cav_mae.Spectrogram(2, CavMaeConfig())
    still = torch.randn(8, 128, 2, generator=generator())
    still[:, :, 1] = 0.0
    for _ in range(200):
        made(still)
    made.eval()
    before = made(still)
    stirred = still.clone()
    stirred[:, :, 1] = still[:, :, 0]
    assert made(stirred)[:, 1].abs().max() <= cav_mae.LOUDEST
    assert torch.equal(made(stirred)[:, 0], before[:, 0])
    rare = torch.zeros(64, 128, 2)
    rare[0, 64, 0] = 1.0
    assert made.train()(rare).max() > cav_mae.LOUDEST  # in training nothing is cut off


def test_patches_hold_every_pixel_once_and_know_their_place() -> None:
    picture = torch.arange(2 * 3 * 4 * 8 * 8.0).reshape(2, 3, 4, 8, 8)
    patches, place = cav_mae._cut(picture, (2, 4, 4), 32)
    assert patches.shape == (2, 8, 3 * 2 * 4 * 4)
    assert torch.equal(patches.flatten(1).sort(dim=1).values, picture.flatten(1).sort(1).values)
    corner = picture[0, :, :2, :4, :4]
    assert set(patches[0, 0].tolist()) == set(corner.flatten().tolist())
    assert len({tuple(row.tolist()) for row in place}) == 8


def test_no_patch_is_left_twice_and_one_is_always_hidden() -> None:
    left = cav_mae._left(5, 20, 0.75, generator())
    assert left.shape == (5, 5)
    assert all(len(set(row.tolist())) == 5 for row in left)
    assert cav_mae._left(5, 2, 0.01, generator()).shape == (5, 1)
    assert cav_mae._left(5, 20, 0.99, generator()).shape == (5, 1)


def test_a_video_of_one_patch_is_refused_and_of_two_is_not() -> None:
    config = EncoderConfig(width=16)
    for tubelet, patches in ((6, 1), (3, 2)):
        settings = CavMaeConfig(depth=1, samples=64, bins=64, hop=1, patch=32, tubelet=tubelet)
        model = cav_mae.CavMae(3, config, settings)
        assert model._patches("video", batch().video)[0].shape[1] == patches
        if patches > 1:
            assert model.losses(batch())["masked"].isfinite()
            continue
        with pytest.raises(UsageError, match=r"got 1 of 6 frames of 16 x 20 pixels; lower either"):
            model.losses(batch())


def test_a_masked_autoencoder_learns_to_draw() -> None:
    settings = CavMaeConfig(depth=1, samples=64, window=16, bins=16)
    torch.manual_seed(0)
    model = cav_mae.CavMae(3, EncoderConfig(width=16), settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    found = []
    for _ in range(30):
        terms = model.losses(batch())
        optimizer.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        optimizer.step()
        found.append(float(terms["masked"].detach()))
    assert found[-1] < 0.9 * found[0]
