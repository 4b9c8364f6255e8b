"""Calls of the contrastive loss' CPU kernels on raw addresses, and the same by equations.py."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from detach import equations

_C = pytest.importorskip("detach._C")

Features = list[Tensor]  # video and sensor: spatial and temporal; then both momentum
ALL = (True, True, True, True)
TEMPORAL = (False, True, False, True)
TOLERANCE = {torch.float64: 2e-12, torch.float32: 5e-6}


@dataclass(frozen=True)
class Form:
    """Arguments of the loss, as the equations name them."""

    temperature: float = 0.1
    lambda_hard: float = 3.0
    gate: str = "spatial"
    power: int = 1
    temporal: str = "intra"
    normalize: bool = True

    def params(self) -> tuple[float, float, int, int, int, bool]:
        temporal = ("none", "intra", "cross").index(self.temporal)
        gate = int(self.gate == "spatial")
        return self.temperature, self.lambda_hard, gate, self.power, temporal, self.normalize


FORMS = [
    Form(),
    Form(gate="none", power=2),
    Form(power=2, temporal="cross", lambda_hard=2.0),
    Form(gate="none", temporal="cross", normalize=False, temperature=0.5),
    Form(temporal="none"),
    Form(temporal="none", lambda_hard=1.0),
    Form(gate="none", lambda_hard=1.0, temperature=0.07),
    Form(normalize=False, temperature=1.0),
]


@dataclass
class Mask:
    """Which pairs are left out."""

    dense: Tensor | None = None
    group: Tensor | None = None
    position: Tensor | None = None
    reach: float = 0.0

    def matrix(self, n: int) -> Tensor:
        out = torch.zeros(n, n, dtype=torch.bool)
        if self.dense is not None:
            out |= self.dense
        if self.group is not None and self.position is not None:
            near = (self.position[:, None] - self.position).abs() < self.reach
            out |= near & (self.group[:, None] == self.group)
        return out & ~torch.eye(n, dtype=torch.bool)


@dataclass
class Result:
    """What a call returns: [2, rows] each, and one gradient per half (None: not wanted)."""

    loss: Tensor
    log_denominator: Tensor
    mean_weight: Tensor
    gradients: list[Tensor | None]


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def make(
    n: int, widths: Sequence[int] = (17, 33, 7), seed: int = 0, alike: float = 0.5
) -> Features:
    """Features of windows that have something in common, so that weights are not all the same."""
    generator = torch.Generator().manual_seed(seed)

    def rows(width: int) -> Tensor:
        own = torch.randn(n, width, generator=generator, dtype=torch.float64)
        return own + alike * torch.randn(width, generator=generator, dtype=torch.float64)

    spatial, temporal, momentum = widths
    return [rows(w) for w in (spatial, temporal, spatial, temporal, momentum, momentum)]


def widths_of(features: Features) -> tuple[int, int, int]:
    return features[0].shape[1], features[1].shape[1], features[4].shape[1]


def kernel(
    features: Features,
    form: Form,
    *,
    dtype: torch.dtype = torch.float64,
    mask: Mask | None = None,
    rows: tuple[int, int] | None = None,
    wanted: Sequence[bool] = ALL,
    saved: bool = True,
    threads: int = 1,
) -> Result:
    """Loss and gradient of its mean over the batch's windows, by the extension."""
    mask = mask or Mask()
    inputs = [x.to(dtype).contiguous() for x in features]
    n = len(inputs[0])
    start, stop = rows or (0, n)
    stats = torch.full((3, 2, stop - start), -7.0, dtype=torch.float64)
    size = _C.contrast_batch_saved_size(n, start, stop)
    memory = torch.full((size,), torch.nan, dtype=dtype) if saved else None
    masks = (address(mask.dense), address(mask.group), address(mask.position), mask.reach)
    common: tuple[Any, ...] = (
        tuple(address(x) for x in inputs),
        dtype == torch.float64,
        n,
        widths_of(features),
        form.params(),
        masks,
        start,
        stop,
    )
    _C.contrast_batch(*common, tuple(address(x) for x in stats), address(memory), threads)
    upstream = torch.full((stop - start,), 0.5 / n, dtype=torch.float64)
    gradients = [
        torch.full_like(x, torch.nan) if want else None
        for x, want in zip(inputs[:4], wanted, strict=True)
    ]
    _C.contrast_batch_gradient(
        *common,
        address(stats[1]),
        address(upstream),
        address(memory),
        tuple(address(x) for x in gradients),
        threads,
    )
    return Result(stats[0], stats[1], stats[2], gradients)


def reference(
    features: Features, form: Form, mask: Mask | None = None, dtype: torch.dtype = torch.float64
) -> Result:
    """The same by the equations and autograd."""
    inputs = [x.to(dtype).clone().requires_grad_(i < 4) for i, x in enumerate(features)]
    video_spatial, video_temporal, sensor_spatial, sensor_temporal, *momentum = inputs
    n = len(video_spatial)
    out = (mask or Mask()).matrix(n)
    weight = equations.negative_weight(
        video_spatial,
        sensor_spatial,
        *momentum,
        lambda_hard=form.lambda_hard,
        gate=form.gate,  # type: ignore[arg-type]
        power=form.power,
        temporal=form.temporal,  # type: ignore[arg-type]
    )
    weight = weight.detach().masked_fill(out, 0.0)
    video = equations.video_embedding(video_spatial, video_temporal, normalize=form.normalize)
    sensor = equations.sensor_embedding(sensor_spatial, sensor_temporal, normalize=form.normalize)
    logits = video @ sensor.T / form.temperature
    loss = torch.stack(
        [
            equations.directional_loss(logits, weight),
            equations.directional_loss(logits.T, weight.T),
        ]
    )
    loss.mean().backward()
    count = (~out).sum(dim=1) - 1, (~out).sum(dim=0) - 1
    mean = [weight.sum(dim=d) / count[i].clamp(min=1) for i, d in enumerate((1, 0))]
    loss = loss.detach()
    return Result(
        loss,
        loss + logits.detach().diagonal(),
        torch.stack(mean),
        [x.grad for x in inputs[:4]],
    )


def assert_close(actual: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    """In norm; absolute below 1e-2, where results are differences of larger numbers."""
    assert actual is not None
    assert expected is not None
    error = (actual.double() - expected.double()).norm()
    assert error <= tolerance * max(float(expected.double().norm()), 1e-2)


def assert_same(actual: Result, expected: Result, tolerance: float) -> None:
    assert_close(actual.loss, expected.loss, tolerance)
    assert_close(actual.log_denominator, expected.log_denominator, tolerance)
    assert_close(actual.mean_weight, expected.mean_weight, tolerance)
    for a, b in zip(actual.gradients, expected.gradients, strict=True):
        assert_close(a, b, tolerance)


def assert_equal(actual: Result, expected: Result) -> None:
    """Bit for bit."""
    assert torch.equal(actual.loss, expected.loss)
    assert torch.equal(actual.mean_weight, expected.mean_weight)
    for a, b in zip(actual.gradients, expected.gradients, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)  # type: ignore[arg-type]


def masks(n: int) -> dict[str, Mask]:
    generator = torch.Generator().manual_seed(n)
    dense = torch.rand(n, n, generator=generator) < 0.3
    group = torch.randint(0, 3, (n,), generator=generator)
    position = 9 * torch.rand(n, generator=generator, dtype=torch.float64)
    return {
        "dense": Mask(dense=dense),
        "reach": Mask(group=group, position=position, reach=2.0),
        "both": Mask(dense, group, position, reach=2.0),
    }


def pair_mask(mask: Mask, rows: slice, columns: slice, n: int) -> tuple[int, int, int, int, float]:
    dense = back = 0
    if mask.dense is not None:
        dense = address(mask.dense) + rows.start * n + columns.start
        back = address(mask.dense) + columns.start * n + rows.start
    return dense, n, back, n, mask.reach


def ring(features: Features, form: Form, mask: Mask, cuts: Sequence[int], *, saved: bool) -> Result:
    """The batch in blocks, as a ring of processes has it: each pair of blocks is visited once."""
    n = len(features[0])
    blocks = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    parts = [[x[block].contiguous() for x in features] for block in blocks]
    common = (True, widths_of(features), form.params())

    def block(k: int) -> tuple[tuple[int, ...], int, int, int]:
        start = blocks[k].start
        group = address(mask.group[start:]) if mask.group is not None else 0
        position = address(mask.position[start:]) if mask.position is not None else 0
        return tuple(address(x) for x in parts[k]), len(parts[k][0]), group, position

    sums = [torch.full((len(p[0]), 7, len(blocks)), torch.nan).double() for p in parts]
    memory = {}
    for i in range(len(blocks)):
        for j in range(i, len(blocks)):
            a, b = (torch.zeros(7, len(parts[k][0]), dtype=torch.float64) for k in (i, j))
            size = _C.contrast_saved_size(len(parts[i][0]), len(parts[j][0]), i == j)
            memory[i, j] = torch.empty(size, dtype=torch.float64) if saved else None
            _C.contrast_sums(
                block(i),
                None if i == j else block(j),
                *common,
                pair_mask(mask, blocks[i], blocks[j], n),
                tuple(address(x) for x in a),
                None if i == j else tuple(address(x) for x in b),
                address(memory[i, j]),
                1,
            )
            sums[i][:, :, j] = a.T
            if i != j:
                sums[j][:, :, i] = b.T
    positive = [s[:, 2, k] for k, s in enumerate(sums)]
    logs = [
        torch.stack([torch.cat([s[:, q], p[:, None]], 1).logsumexp(1) for q in (0, 1)])
        for s, p in zip(sums, positive, strict=True)
    ]
    upstream = torch.full((n,), 0.5 / n, dtype=torch.float64)
    gradients = [[torch.zeros_like(x) for x in p[:4]] for p in parts]
    for (i, j), tiles in memory.items():
        of = [(address(logs[k][0]), address(logs[k][1]), address(upstream)) for k in (i, j)]
        to = [tuple(address(g) for g in gradients[k]) for k in (i, j)]
        same = i == j
        _C.contrast_gradient(
            block(i),
            None if same else block(j),
            *common,
            pair_mask(mask, blocks[i], blocks[j], n),
            of[0],
            None if same else of[1],
            address(tiles),
            to[0],
            None if same else to[1],
            1,
        )
    log_denominator = torch.cat(logs, dim=1)
    weight = torch.cat([s[:, 3:].sum(dim=2) for s in sums]).T
    return Result(
        log_denominator - torch.cat(positive),
        log_denominator,
        weight[:2] / weight[2:],
        [torch.cat([g[half] for g in gradients]) for half in range(4)],
    )
