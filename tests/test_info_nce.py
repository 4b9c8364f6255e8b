"""Weighted InfoNCE: each loss it stands for, written out by itself."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detach import equations, ops
from detach.ops import info_nce

TAU = 0.2


def unit(n: int, d: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def pair(n: int = 7, d: int = 6) -> tuple[Tensor, Tensor]:
    return unit(n, d, 0), unit(n, d, 1)


def off_diagonal(n: int) -> Tensor:
    return ~torch.eye(n, dtype=torch.bool)


def exponentials(query: Tensor, key: Tensor, tau: float = TAU) -> tuple[Tensor, Tensor]:
    """exp(l_ii) [N], and exp(l_ij) of the negatives, [N, N - 1]."""
    whole = (query @ key.T / tau).exp()
    n = len(query)
    return whole.diagonal(), whole[off_diagonal(n)].reshape(n, n - 1)


def info_nce_by_cross_entropy(q: Tensor, k: Tensor) -> Tensor:
    return F.cross_entropy(q @ k.T / TAU, torch.arange(len(q)))


def clip(q: Tensor, k: Tensor) -> Tensor:
    logits, target = q @ k.T / TAU, torch.arange(len(q))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def decoupled(q: Tensor, k: Tensor) -> Tensor:
    positive, negative = exponentials(q, k)
    return -(positive / negative.sum(1)).log().mean()


def debiased(q: Tensor, k: Tensor, tau_plus: float = 0.1) -> Tensor:
    positive, negative = exponentials(q, k)
    m = negative.shape[1]
    rest = (negative.sum(1) - tau_plus * m * positive) / (1 - tau_plus)
    rest = rest.clamp(min=m * math.exp(-1 / TAU))
    return -(positive / (positive + rest)).log().mean()


def hcl(q: Tensor, k: Tensor, beta: float = 1.0, tau_plus: float = 0.1) -> Tensor:
    positive, negative = exponentials(q, k)
    m = negative.shape[1]
    importance = negative**beta
    reweighted = (importance * negative).sum(1) / importance.mean(1)
    rest = (reweighted - tau_plus * m * positive) / (1 - tau_plus)
    rest = rest.clamp(min=m * math.exp(-1 / TAU))
    return -(positive / (positive + rest)).log().mean()


def hn_nce(q: Tensor, k: Tensor, alpha: float = 0.7, beta: float = 0.5) -> Tensor:
    positive, negative = exponentials(q, k)
    weight = negative.shape[1] * negative**beta / (negative**beta).sum(1, keepdim=True)
    return -(positive / (alpha * positive + (weight * negative).sum(1))).log().mean()


def soft_info_nce(q: Tensor, k: Tensor) -> Tensor:
    positive, negative = exponentials(q, k)
    weight = soft_weight(len(q))[off_diagonal(len(q))].reshape(negative.shape)
    return -(positive / (positive + (weight * negative).sum(1))).log().mean()


def soft_weight(n: int) -> Tensor:
    return (1.0 - unit(n, 4, 5) @ unit(n, 4, 6).T).clamp(min=0.1)


def additive(q: Tensor, k: Tensor, alpha: float = 5.0) -> Tensor:
    similar = q @ k.T
    logits = similar / TAU + alpha * similar.detach() * off_diagonal(len(q))
    return F.cross_entropy(logits, torch.arange(len(q)))


def dropped(q: Tensor, k: Tensor) -> Tensor:
    logits = (q @ k.T / TAU).masked_fill(drop(len(q)), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(q)))


def drop(n: int) -> Tensor:
    chosen = torch.rand(n, n, generator=torch.Generator().manual_seed(7)) < 0.5
    chosen[0] = True  # a row that has no negative left
    return chosen & off_diagonal(n)


def queue(q: Tensor, k: Tensor) -> Tensor:
    logits = torch.cat([q @ k.T, q @ unit(11, 6, 9).T], dim=1) / TAU
    return F.cross_entropy(logits, torch.arange(len(q)))


CASES: list[tuple[Any, dict[str, Any]]] = [
    (info_nce_by_cross_entropy, {}),
    (clip, {"symmetric": True}),
    (decoupled, {"positive": 0.0}),
    (debiased, {"debias": 0.1}),
    (hcl, {"debias": 0.1, "hardness": 1.0}),
    (hn_nce, {"positive": 0.7, "hardness": 0.5}),
    (soft_info_nce, {"weight": soft_weight(7)}),
    (additive, {"hardness": 5.0, "hardness_form": "additive"}),
    (dropped, {"mask": drop(7)}),
    (dropped, {"weight": (~drop(7)).double()}),
    (queue, {"extra_keys": unit(11, 6, 9)}),
    (queue, {"extra_keys": unit(11, 6, 9), "extra_weight": torch.ones(7, 11).double()}),
]


@pytest.fixture(params=["whole", "blocks"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows at once, or three at a time, computed again for the gradient."""
    if request.param == "blocks":
        monkeypatch.setattr(info_nce, "BLOCK_NUMBERS", 22)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(("theirs", "options"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_is_the_loss_it_stands_for(theirs: Any, options: dict[str, Any]) -> None:
    ours, expected = ([x.clone().requires_grad_() for x in pair()] for _ in range(2))
    loss = ops.weighted_info_nce(*ours, temperature=TAU, **options)
    truth = theirs(*expected)
    assert loss.item() == pytest.approx(truth.item(), rel=1e-12)
    loss.backward()
    truth.backward()
    for x, y in zip(ours, expected, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-12)


def test_debiased_is_at_its_floor_where_positives_are_expected_everywhere() -> None:
    query, key = unit(7), unit(7)  # equal: more positives are expected than there are negatives
    found = ops.weighted_info_nce(query, key, temperature=TAU, debias=0.9)
    floor = 6 * math.exp(-1 / TAU)
    assert found.item() == pytest.approx(math.log1p(floor / math.exp(1 / TAU)), rel=1e-12)


@pytest.mark.usefixtures("memory")
def test_is_detach_with_its_weight_given() -> None:
    parts = [unit(7, 5, seed) for seed in range(6)]
    vs, vt, ss, st, vm, sm = parts
    options: dict[str, Any] = {"lambda_hard": 2.0, "temporal": "cross"}
    expected = equations.weighted_contrastive_loss(*parts, temperature=TAU, **options)
    weight = equations.negative_weight(vs, ss, vm, sm, **options)
    query, key = equations.video_embedding(vs, vt), equations.sensor_embedding(ss, st)
    found = ops.weighted_info_nce(query, key, weight, temperature=TAU, symmetric=True)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_limits_meet() -> None:
    query, key = pair()
    plain = ops.weighted_info_nce(query, key, temperature=TAU).item()
    for options in ({"debias": 1e-13}, {"hardness": 1e-13}, {"weight": torch.ones(7, 7).double()}):
        found = ops.weighted_info_nce(query, key, temperature=TAU, **options)
        assert found.item() == pytest.approx(plain, rel=1e-11)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("options", [options for _, options in CASES[:-3]])
def test_gradients_of_everything(options: dict[str, Any]) -> None:
    query, key = (x.requires_grad_() for x in pair())
    tau = torch.full((7,), TAU, dtype=torch.float64).requires_grad_()
    if options.get("hardness_form") == "additive":
        options = {}  # its constant weights are no constants to finite differences
    if "weight" in options:
        weight = (options["weight"] + 0.1).requires_grad_()
    else:
        weight = (0.5 + torch.rand(7, 7, dtype=torch.float64)).requires_grad_()
    rest = {name: value for name, value in options.items() if name != "weight"}

    def loss(q: Tensor, k: Tensor, w: Tensor, t: Tensor) -> Tensor:
        return ops.weighted_info_nce(q, k, w, temperature=t, reduction="none", **rest)

    assert torch.autograd.gradcheck(loss, (query, key, weight, tau), fast_mode=True)


def test_gradient_of_a_zero_weight() -> None:
    query, key = pair(3)
    weight = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    ops.weighted_info_nce(query, key, weight, temperature=TAU, reduction="sum").backward()
    logits = query @ key.T / TAU
    expected = (logits - logits.diagonal()[:, None]).exp() * off_diagonal(3)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, expected, rtol=1e-10, atol=0)


def test_learnable_temperature_and_second_derivatives() -> None:
    query, key = (x.requires_grad_() for x in pair(4))
    tau = torch.tensor(TAU, dtype=torch.float64, requires_grad=True)

    def loss(q: Tensor, k: Tensor, t: Tensor) -> Tensor:
        return ops.weighted_info_nce(q, k, temperature=t, debias=0.05, hardness=0.5)

    assert torch.autograd.gradcheck(loss, (query, key, tau))
    assert torch.autograd.gradgradcheck(loss, (query, key, tau))


@pytest.mark.parametrize("positive", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("debias", [0.0, 0.1])
@pytest.mark.parametrize("hardness", [0.0, 1.0])
def test_rows_without_negatives(positive: float, debias: float, hardness: float) -> None:
    query, key = (x.requires_grad_() for x in pair(3))
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[1] = True
    loss = ops.weighted_info_nce(
        query, key, temperature=TAU, positive=positive, debias=debias, hardness=hardness,
        mask=mask, reduction="none",
    )  # fmt: skip
    assert loss[1].item() == pytest.approx(math.log(positive) if positive else 0.0, abs=1e-12)
    loss.sum().backward()
    assert query.grad is not None
    assert query.grad.isfinite().all()
    assert query.grad[1].abs().max() < 1e-12
    assert query.grad[0].abs().max() > 0


def test_one_row_and_a_queue() -> None:
    query, key = pair(1)
    assert ops.weighted_info_nce(query, key, temperature=TAU).item() == 0.0
    extra = unit(3, 6, 4)
    found = ops.weighted_info_nce(query, key, temperature=TAU, extra_keys=extra)
    logits = torch.cat([query @ key.T, query @ extra.T], dim=1) / TAU
    assert found.item() == pytest.approx(F.cross_entropy(logits, torch.tensor([0])).item())


@pytest.mark.parametrize("tau", [0.001, 100.0])
def test_steep_and_flat_temperatures(tau: float) -> None:
    query, key = (20 * x for x in pair())
    single = ops.weighted_info_nce(query.float(), key.float(), temperature=tau)
    target = torch.arange(7)
    truth = F.cross_entropy(query @ key.T / tau, target)
    assert single.item() == pytest.approx(truth.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype: torch.dtype) -> None:
    query, key = (x.to(dtype).requires_grad_() for x in pair())
    loss = ops.weighted_info_nce(query, key, temperature=TAU, weight=soft_weight(7).to(dtype))
    assert loss.dtype == torch.float32
    exact = ops.weighted_info_nce(
        query.detach().double(), key.detach().double(), soft_weight(7).to(dtype).double(),
        temperature=TAU,
    )  # fmt: skip
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    loss.backward()
    assert query.grad is not None
    assert query.grad.dtype == dtype


def test_autocast_leaves_it_in_float32() -> None:
    query, key = (x.float() for x in pair())
    expected = ops.weighted_info_nce(query, key, temperature=TAU)
    with torch.autocast("cpu", torch.bfloat16):
        found = ops.weighted_info_nce(query, key, temperature=TAU)
    assert torch.equal(found, expected)


def test_reductions_agree() -> None:
    query, key = pair()
    options: dict[str, Any] = {"temperature": TAU, "symmetric": True}
    each = ops.weighted_info_nce(query, key, reduction="none", **options)
    assert each.shape == (7,)
    torch.testing.assert_close(ops.weighted_info_nce(query, key, **options), each.mean())
    total = ops.weighted_info_nce(query, key, reduction="sum", **options)
    torch.testing.assert_close(total, each.sum())


@pytest.mark.usefixtures("memory")
def test_functions_of_functions() -> None:
    query, key = pair()

    def loss(q: Tensor) -> Tensor:
        return ops.weighted_info_nce(q, key, temperature=TAU)

    learned = query.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(learned), learned)
    torch.testing.assert_close(torch.func.grad(loss)(query), expected)
    found = torch.vmap(torch.func.grad(loss))(torch.stack([query, query]))
    torch.testing.assert_close(found, torch.stack([expected, expected]))


def test_compiles_and_maps() -> None:
    query, key = pair()

    def loss(q: Tensor, k: Tensor) -> Tensor:
        return ops.weighted_info_nce(q, k, temperature=TAU, hardness=0.5, debias=0.1)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(query, key), loss(query, key))
    several = torch.vmap(loss)(torch.stack([query, key]), torch.stack([key, query]))
    torch.testing.assert_close(several, torch.stack([loss(query, key), loss(key, query)]))


Q = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"query": torch.zeros(3, 4, dtype=torch.int64)}, TypeError, "query must be float32"),
        ({"query": [1.0]}, TypeError, "query must be a tensor, got list"),
        ({"query": torch.zeros(3)}, ValueError, r"query must be \[N, d\], got shape \[3\]"),
        ({"key": Q.double()}, TypeError, "key must be torch.float32 as query is"),
        ({"key": Q[:2]}, ValueError, "key must have 3 rows as query has, got 2"),
        ({"key": Q[:, :2]}, ValueError, "key must be 4 wide as query is, got 2"),
        ({"key": Q.to("meta")}, ValueError, "key must be on cpu"),
        ({"query": Q[:0], "key": Q[:0]}, ValueError, "query must have at least one row"),
        ({"weight": Q}, ValueError, r"weight must have shape \[3, 3\], got \[3, 4\]"),
        ({"weight": -torch.ones(3, 3)}, ValueError, "weight must be >= 0, got -1"),
        ({"weight": torch.full((3, 3), math.nan)}, ValueError, "weight must be >= 0, got nan"),
        ({"mask": torch.zeros(3, 3)}, TypeError, "mask must be bool"),
        ({"temperature": 0.0}, ValueError, "temperature must be > 0 and finite, got 0.0"),
        ({"temperature": math.nan}, ValueError, "temperature must be > 0"),
        ({"temperature": torch.tensor(-1.0)}, ValueError, "temperature must be > 0, got -1"),
        ({"temperature": torch.ones(2)}, ValueError, "temperature must be one number or one a row"),
        ({"temperature": "warm"}, TypeError, "temperature must be a number or a tensor, got str"),
        ({"debias": 1.0}, ValueError, r"debias must be in \[0, 1\), got 1.0"),
        ({"positive": -1.0}, ValueError, "positive must be >= 0"),
        ({"hardness": math.inf}, ValueError, "hardness must be >= 0 and finite"),
        ({"hardness": None}, TypeError, "hardness must be a number"),
        ({"hardness_form": "soft"}, ValueError, "hardness_form must be one of hcl, additive"),
        ({"reduction": "max"}, ValueError, "reduction must be one of mean, sum, none"),
        ({"extra_weight": Q}, ValueError, "extra_weight must be None"),
        ({"extra_keys": Q[:, :2]}, ValueError, "extra_keys must be 4 wide"),
        ({"extra_keys": Q, "symmetric": True}, ValueError, "symmetric must be False"),
    ],
)
def test_wrong_arguments_are_named(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.weighted_info_nce(**{"query": Q, "key": Q, "temperature": TAU, **changes})


def test_memory_stays_small() -> None:
    """What the gradient keeps is the inputs, not N x N arrays."""
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    query, key = (unit(2100, 4, seed, torch.float32).requires_grad_() for seed in (0, 1))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = ops.weighted_info_nce(query, key, temperature=TAU)
    assert max(kept, default=0) <= query.numel()
    loss.backward()
    assert query.grad is not None
