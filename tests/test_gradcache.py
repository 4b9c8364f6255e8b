"""Gradient caching: the gradients of the whole batch, with the graph of a piece."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detach import ops
from detach.gradcache import cached_backward

N, WIDTH = 24, 6


class Encoder(nn.Module):
    """Two embeddings of a window, with dropout; optionally with batch norm."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.3))
        self.norm = nn.BatchNorm1d(16) if norm else nn.LayerNorm(16)
        self.video, self.sensor = nn.Linear(16, WIDTH), nn.Linear(16, WIDTH)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.norm(self.body(x))
        return self.video(hidden), self.sensor(hidden)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(N, 8, dtype=torch.float64)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(1)
    return Encoder().double()


def contrast(video: Tensor, sensor: Tensor) -> Tensor:
    """With place features that are as long as the batch."""
    place = torch.linspace(-1, 1, N * WIDTH, dtype=video.dtype).reshape(N, WIDTH).sin()
    slow = (video.detach(), sensor.detach())
    return ops.weighted_contrastive_loss(place, video, place.flip(0), sensor, *slow)


def directly(encoder: nn.Module, pieces: list[Tensor]) -> Tensor:
    """The same pieces with one graph, so that dropout draws the same numbers."""
    video, sensor = zip(*[encoder(piece) for piece in pieces], strict=True)
    loss = contrast(torch.cat(video), torch.cat(sensor))
    loss.backward()
    return loss.detach()


def gradients(module: nn.Module) -> list[Tensor]:
    found = [p.grad for p in module.parameters()]
    assert all(x is not None for x in found)
    return [x for x in found if x is not None]


@pytest.mark.parametrize("sizes", [[24], [12, 12], [7, 1, 16], [1] * 24])
def test_same_gradients_as_the_whole_batch(x: Tensor, encoder: Encoder, sizes: list[int]) -> None:
    pieces, twin = list(x.split(sizes)), copy.deepcopy(encoder)
    torch.manual_seed(2)
    expected = directly(twin, pieces)
    expected_next = torch.rand(1)
    torch.manual_seed(2)
    loss = cached_backward(encoder, pieces, contrast)
    assert torch.rand(1) == expected_next, "random numbers go on as if nothing had been run twice"
    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(gradients(encoder), gradients(twin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_gradients_are_added(x: Tensor, encoder: Encoder) -> None:
    encoder.eval()
    pieces = list(x.split(8))
    cached_backward(encoder, pieces, contrast)
    once = [g.clone() for g in gradients(encoder)]
    cached_backward(encoder, pieces, contrast)
    for twice, first in zip(gradients(encoder), once, strict=True):
        torch.testing.assert_close(twice, 2 * first)


def test_a_learnable_temperature_and_one_embedding(x: Tensor) -> None:
    torch.manual_seed(1)
    line = nn.Linear(8, WIDTH).double()
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def loss(z: Tensor) -> Tensor:
        return ops.weighted_info_nce(z, z.flip(1), temperature=tau)

    cached_backward(line, list(x.split(5)), loss)
    found = [*gradients(line), tau.grad]
    line.zero_grad()
    tau.grad = None
    loss(line(x)).backward()
    for ours, theirs in zip(found, [*gradients(line), tau.grad], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_graph_is_that_of_one_piece(x: Tensor, encoder: Encoder) -> None:
    """Counts what is kept for backward and not yet let go."""
    kept: dict[int, int] = {}
    peaks: dict[str, int] = {}

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            kept[id(self)] = tensor.numel()
            peaks["now"] = max(peaks.get("now", 0), sum(kept.values()))

        def __del__(self) -> None:
            kept.pop(id(self), None)

    def nothing_between(video: Tensor, sensor: Tensor) -> Tensor:
        return (video * sensor).sum()

    def peak(size: int) -> int:
        peaks.clear()
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda box: box.tensor):
            cached_backward(encoder, list(x.split(size)), nothing_between)
        return peaks["now"]

    assert peak(2) < peak(24) / 4


def test_own_generators_are_wound_back(x: Tensor) -> None:
    line, generator = nn.Linear(8, WIDTH).double(), torch.Generator().manual_seed(3)
    seen: list[Tensor] = []

    def encode(piece: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn(piece.shape, generator=generator, dtype=piece.dtype)
        seen.append(noise)
        return line(piece + noise), line(piece)

    cached_backward(encode, list(x.split(12)), contrast, generators=[generator])
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])


def test_autocast_reaches_both_passes(x: Tensor) -> None:
    torch.manual_seed(1)
    encoder = Encoder().eval()
    pieces = list(x.float().split(8))
    with torch.autocast("cpu", torch.bfloat16):
        cached_backward(encoder, pieces, contrast)
    found = [g.clone() for g in gradients(encoder)]
    encoder.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        parts = [encoder(piece) for piece in pieces]
        assert parts[0][0].dtype == torch.bfloat16
        loss = contrast(*(torch.cat(z) for z in zip(*parts, strict=True)))
    loss.backward()
    for ours, theirs in zip(found, gradients(encoder), strict=True):
        # Added up in bfloat16 there, in float32 here: a few times 2^-8.
        assert (ours - theirs).norm() <= 0.02 * theirs.norm()


def test_batch_norm_statistics_move_once_a_piece(x: Tensor) -> None:
    torch.manual_seed(1)
    encoder = Encoder(norm=True).double()
    twin = copy.deepcopy(encoder)
    pieces = list(x.split(8))
    torch.manual_seed(2)
    cached_backward(encoder, pieces, contrast, modules=[encoder])
    torch.manual_seed(2)
    directly(twin, pieces)
    for ours, theirs in zip(encoder.buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    for got, expected in zip(gradients(encoder), gradients(twin), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_what_is_frozen_or_unused_gets_no_gradient(x: Tensor, encoder: Encoder) -> None:
    encoder.sensor.requires_grad_(False)
    cached_backward(encoder, list(x.split(8)), lambda video, _: video.square().sum())
    assert encoder.video.weight.grad is not None
    assert encoder.sensor.weight.grad is None


def test_no_pieces_is_an_error(encoder: Encoder) -> None:
    none: list[Any] = []
    with pytest.raises(ValueError, match="pieces must hold at least one piece, got none"):
        cached_backward(encoder, none, contrast)
