"""Both operators under what torch can do to a call: transforms, forward mode, default devices."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, jacobian

from detach import kernels, ops
from detach.ops import contrast_pairs

# torch's own, of make_dual
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

CHOICES = ("cpu", "torch", "reference") if kernels.available() else ("torch", "reference")


@pytest.fixture(params=CHOICES, autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETACH_BACKEND", request.param)


def make(n: int = 6, width: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, width, generator=generator, dtype=torch.float64) for _ in range(6)]


PARTS = make()


def each_loss(temporal: Tensor) -> Tensor:
    """Of the video's motion features, [N]."""
    return ops.weighted_contrastive_loss(PARTS[0], temporal, *PARTS[2:], reduction="none")


def percentile(x: Tensor) -> Tensor:
    return ops.activation_percentile(x, 0.7, 1, absolute=True)


def rows_of_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """One backward pass a row."""
    x = x.clone().requires_grad_()
    return torch.stack([torch.autograd.grad(y, x, retain_graph=True)[0] for y in function(x)])


FUNCTIONS = pytest.mark.parametrize("function", [each_loss, percentile])


@FUNCTIONS
@pytest.mark.parametrize("learned", [False, True])
def test_forward_mode_is_the_jacobian_times_the_tangent(
    function: Callable[[Tensor], Tensor], learned: bool
) -> None:
    x, tangent = PARTS[1].clone().requires_grad_(learned), PARTS[3]
    expected = (rows_of_jacobian(function, x.detach()) * tangent).sum(dim=(1, 2))
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(function(forward_ad.make_dual(x, tangent))).tangent
        assert forward_ad.unpack_dual(function(x.detach())).tangent is None
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.func.jvp(function, (x.detach(),), (tangent,))[1], expected)


@FUNCTIONS
def test_functions_of_functions(function: Callable[[Tensor], Tensor]) -> None:
    x = PARTS[1]
    expected = rows_of_jacobian(function, x)
    several, weight = torch.stack([x, PARTS[3]]), torch.arange(6, dtype=torch.float64)
    torch.testing.assert_close(torch.func.jacrev(function)(x), expected)
    torch.testing.assert_close(torch.func.jacfwd(function)(x), expected)
    found = torch.vmap(torch.func.grad(lambda y: (weight * function(y)).sum()))(several)
    wanted = [(weight[:, None, None] * rows_of_jacobian(function, y)).sum(dim=0) for y in several]
    torch.testing.assert_close(found, torch.stack(wanted))


@FUNCTIONS
def test_many_gradients_at_once(function: Callable[[Tensor], Tensor]) -> None:
    x = PARTS[1].clone().requires_grad_()
    expected = rows_of_jacobian(function, x.detach())
    each = torch.eye(6, dtype=torch.float64)
    (found,) = torch.autograd.grad(function(x), x, each, is_grads_batched=True)
    torch.testing.assert_close(found, expected)
    found = jacobian(function, x.detach(), vectorize=True)
    torch.testing.assert_close(found, expected)
    found = jacobian(function, x.detach(), vectorize=True, strategy="forward-mode")
    torch.testing.assert_close(found, expected)


def test_many_second_derivatives_at_once() -> None:
    x = PARTS[1]
    found = hessian(lambda y: each_loss(y).sum(), x, vectorize=True)
    torch.testing.assert_close(found, hessian(lambda y: each_loss(y).sum(), x))


def test_another_default_device_changes_nothing() -> None:
    def results(**options: Any) -> list[Tensor]:
        x = PARTS[1].clone().requires_grad_()
        loss, stats = ops.weighted_contrastive_loss(
            PARTS[0], x, *PARTS[2:], return_stats=True, **options
        )
        return [loss.detach(), *stats, *torch.autograd.grad(loss.sum(), x), percentile(PARTS[0])]

    for reduction in ("mean", "none"):
        expected = results(reduction=reduction)
        with torch.device("meta"):
            found = results(reduction=reduction)
        assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))
    if kernels.available():
        with torch.device("meta"):
            params = (0.1, 3.0, 1, 1, 1, True)
            found = [*contrast_pairs.sums(PARTS, None, params, save=False)]
        assert {x.device.type for x in found} == {"cpu"}


def test_what_has_no_numbers_gives_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETACH_BACKEND")
    parts = [x.to("meta").requires_grad_(i in (1, 3)) for i, x in enumerate(PARTS)]
    loss = ops.weighted_contrastive_loss(*parts, rows=(1, 4), reduction="none")
    gradients = torch.autograd.grad(loss.sum(), [parts[1], parts[3]])
    assert [x.shape for x in (loss, *gradients)] == [(3,), (6, 4), (6, 4)]
    assert loss.is_meta
