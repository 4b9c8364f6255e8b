"""The weighted contrastive loss: every backend against the equations in float64."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detach import equations, kernels, ops
from detach.ops import contrast_plain

SIZES = (1, 2, 3, 7, 33, 100, 257)
WIDTHS = ((5, 17, 3), (1, 1, 1), (64, 5, 17), (17, 64, 64), (16, 8, 1))
BACKENDS = ("cpu", "torch", "reference") if kernels.available() else ("torch", "reference")
FORMS: list[dict[str, Any]] = [
    {},
    {"gate": "none", "power": 2},
    {"power": 2},
    {"gate": "none"},
    {"temporal": "cross"},
    {"temporal": "cross", "gate": "none", "power": 2},
    {"temporal": "none"},
    {"lambda_hard": 1.0, "temporal": "none"},
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv("DETACH_BACKEND", name)
    monkeypatch.setattr(contrast_plain, "BLOCK_NUMBERS", 8000)  # several blocks at small N
    return name


def make(n: int, widths: tuple[int, int, int] = WIDTHS[0], seed: int = 0) -> list[Tensor]:
    """Six features in float64, of windows that share places and motions; of any length."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    spatial, temporal, momentum = widths
    place = torch.randint(0, 3, (n,), generator=generator)
    each = (spatial, temporal, spatial, temporal, momentum, momentum)
    return [noise(3, width)[place] + 0.7 * noise(n, width) for width in each]


def run(
    function: Any, features: list[Tensor], dtype: torch.dtype, **options: Any
) -> tuple[float, list[Tensor]]:
    """Loss, and gradients of the four parts in float64."""
    parts = [x.detach().clone().to(dtype).requires_grad_() for x in features]
    loss = function(*parts, **options)
    loss.backward()
    found = [x.grad for x in parts]
    assert found[4] is None, "W is a constant to the gradient"
    assert found[5] is None
    return loss.item(), [x.double() for x in found[:4] if x is not None]


def off(gradients: list[Tensor], truth: list[Tensor]) -> float:
    """Error in norm, over the four parts' whole norm; parts may differ much in size."""
    whole = math.sqrt(sum(x.square().sum().item() for x in truth))
    error = math.sqrt(
        sum((x - y).square().sum().item() for x, y in zip(gradients, truth, strict=True))
    )
    return error / whole if whole else error


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_is_what_the_equations_say(n: int, form: dict[str, Any]) -> None:
    for i, normalize in enumerate((True, False)):
        features = make(n, WIDTHS[(n + i) % len(WIDTHS)], seed=n)
        if not normalize:
            features = [F.normalize(x, dim=1) for x in features]
        options = {**form, "normalize": normalize, "temperature": 0.15}
        loss, gradients = run(ops.weighted_contrastive_loss, features, torch.float64, **options)
        truth = run(equations.weighted_contrastive_loss, features, torch.float64, **options)
        assert loss == pytest.approx(truth[0], rel=1e-12, abs=1e-13)
        assert off(gradients, truth[1]) < 1e-12


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("n", [2, 7, 100, 257])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 2.0])
def test_float32_errs_at_most_twice_what_eager_errs(n: int, temperature: float) -> None:
    """And 4 eps / temperature: a logit is a sum divided by that, and keeps its rounding."""
    features = [x.float().double() for x in make(n, (64, 64, 64), seed=n)]
    slack = 4 * torch.finfo(torch.float32).eps / temperature
    for form in FORMS:
        options = {**form, "temperature": temperature}
        truth = run(equations.weighted_contrastive_loss, features, torch.float64, **options)
        eager = run(equations.weighted_contrastive_loss, features, torch.float32, **options)
        ours = run(ops.weighted_contrastive_loss, features, torch.float32, **options)
        assert abs(ours[0] - truth[0]) <= 2 * abs(eager[0] - truth[0]) + slack
        assert off(ours[1], truth[1]) <= 2 * off(eager[1], truth[1]) + slack


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype: torch.dtype) -> None:
    features = [x.to(dtype).double() for x in make(33)]
    truth = run(equations.weighted_contrastive_loss, features, torch.float64)
    parts = [x.to(dtype).requires_grad_() for x in features]
    loss = ops.weighted_contrastive_loss(*parts)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(truth[0], abs=4 * torch.finfo(torch.float32).eps / 0.1)
    loss.backward()
    for part, expected in zip(parts, truth[1], strict=False):
        assert part.grad is not None
        assert part.grad.dtype == dtype
        rounding = torch.finfo(dtype).eps  # of the result alone; the smallest are subnormal
        torch.testing.assert_close(part.grad.double(), expected, rtol=rounding, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    widths=st.tuples(*[st.integers(1, 20)] * 3),
    seed=st.integers(0, 99),
    backend=st.sampled_from(BACKENDS),
    options=st.fixed_dictionaries(
        {
            "temperature": st.floats(0.05, 5.0),
            "lambda_hard": st.floats(1.0, 9.0),
            "gate": st.sampled_from(["spatial", "none"]),
            "power": st.sampled_from([1, 2]),
            "temporal": st.sampled_from(["intra", "cross", "none"]),
            "normalize": st.booleans(),
        }
    ),
    memory=st.sampled_from(["auto", "saved", "recompute"]),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    masked=st.sampled_from(["not", "dense", "neighbours"]),
)
def test_any_options(
    n: int,
    widths: tuple[int, int, int],
    seed: int,
    backend: str,
    options: dict[str, Any],
    memory: str,
    cut: tuple[float, float],
    masked: str,
) -> None:
    features = [F.normalize(x, dim=1) for x in make(n, widths, seed)]
    start = int(min(cut) * (n - 1))
    rows = (start, min(n, start + 1 + int(max(cut) * n)))
    mask, dense = masks(n, seed)[masked]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETACH_BACKEND", backend)
        ours = run(
            ops.weighted_contrastive_loss, features, torch.float64,
            **options, memory=memory, rows=rows, mask=mask,
        )  # fmt: skip
    truth = run(by_hand, features, torch.float64, **options, rows=rows, dense=dense)
    assert ours[0] == pytest.approx(truth[0], rel=1e-11, abs=1e-12)
    assert off(ours[1], truth[1]) < 1e-11


def masks(n: int, seed: int) -> dict[str, tuple[Any, Tensor]]:
    """Masks as the loss takes them, and as a bool array."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(n, n, generator=generator) < 0.3
    group = torch.randint(0, 2, (n,), generator=generator)
    position = 9 * torch.rand(n, generator=generator)
    apart = (position[:, None].double() - position.double()).abs()
    near = (group[:, None] == group) & (apart < 2.5)
    return {
        "not": (None, torch.zeros_like(dense)),
        "dense": (dense, dense),
        "neighbours": ((group, position, 2.5), near),
    }


def by_hand(*features: Tensor, rows: tuple[int, int], dense: Tensor, **options: Any) -> Tensor:
    """The mean of the losses of some windows, from the equations."""
    vs, vt, ss, st_, vm, sm = features
    temperature, normalize = options.pop("temperature"), options.pop("normalize")
    weight = equations.negative_weight(vs, ss, vm, sm, **options).detach().masked_fill(dense, 0.0)
    video = equations.video_embedding(vs, vt, normalize=normalize)
    sensor = equations.sensor_embedding(ss, st_, normalize=normalize)
    logits = video @ sensor.T / temperature
    there = equations.directional_loss(logits, weight)
    back = equations.directional_loss(logits.T, weight.T)
    return 0.5 * (there + back)[slice(*rows)].mean()


@pytest.mark.usefixtures("backend")
def test_slices_average_to_the_whole_loss() -> None:
    features = make(24)
    whole = run(ops.weighted_contrastive_loss, features, torch.float64)
    slices = [
        run(ops.weighted_contrastive_loss, features, torch.float64, rows=(start, start + 6))
        for start in range(0, 24, 6)
    ]
    assert sum(loss for loss, _ in slices) / 4 == pytest.approx(whole[0], rel=1e-13)
    together = [torch.stack(parts).mean(0) for parts in zip(*[g for _, g in slices], strict=True)]
    assert off(together, whole[1]) < 1e-13


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("masked", ["not", "dense", "neighbours"])
@pytest.mark.parametrize("form", [{}, {"temporal": "cross"}], ids=str)
def test_stats(masked: str, form: dict[str, Any]) -> None:
    n, rows = 19, (4, 15)
    features = make(n)
    mask, dense = masks(n, 3)[masked]
    loss, stats = ops.weighted_contrastive_loss(
        *features, **form, mask=mask, rows=rows, reduction="none", return_stats=True
    )
    vs, vt, ss, st_, vm, sm = features
    own = torch.eye(n, dtype=torch.bool)
    weight = equations.negative_weight(vs, ss, vm, sm, **form).masked_fill(dense, 0.0)
    logits = equations.video_embedding(vs, vt) @ equations.sensor_embedding(ss, st_).T / 0.1
    lower = torch.stack(
        [
            (x + torch.where(own, 1.0, w).log()).logsumexp(1)
            for x, w in ((logits, weight), (logits.T, weight.T))
        ]
    )
    kept = ~dense & ~own
    mean = torch.stack([weight.sum(i) / kept.sum(i) for i in (1, 0)])
    span = slice(*rows)
    close: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(stats.log_denominator, lower[:, span], **close)
    torch.testing.assert_close(stats.loss, (lower - logits.diagonal())[:, span], **close)
    torch.testing.assert_close(stats.mean_weight, mean[:, span], **close)
    torch.testing.assert_close(loss, stats.loss.mean(0), **close)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_negatives_cost_nothing(dtype: torch.dtype) -> None:
    features = make(7)
    everything = torch.ones(7, 7, dtype=torch.bool)
    same = (torch.zeros(7, dtype=torch.int64), torch.arange(7), math.inf)
    for mask in (everything, same):
        loss, gradients = run(ops.weighted_contrastive_loss, features, dtype, mask=mask)
        assert loss == pytest.approx(0.0, abs=1e-12)
        assert all(x.abs().max() < 1e-12 for x in gradients)
    alone, gradients = run(ops.weighted_contrastive_loss, make(1), dtype)
    assert alone == pytest.approx(0.0, abs=1e-12)
    assert all(x.abs().max() < 1e-12 for x in gradients)
    _, stats = ops.weighted_contrastive_loss(*make(1), return_stats=True)
    assert stats.mean_weight.tolist() == [[0.0], [0.0]]


@pytest.mark.usefixtures("backend")
def test_reductions() -> None:
    features = make(9)
    each = ops.weighted_contrastive_loss(*features, reduction="none")
    assert each.shape == (9,)
    torch.testing.assert_close(ops.weighted_contrastive_loss(*features), each.mean())
    total = ops.weighted_contrastive_loss(*features, reduction="sum")
    torch.testing.assert_close(total, each.sum())
    share = torch.linspace(-1, 2, 9, dtype=torch.float64)
    ours, expected = ([x.clone().requires_grad_() for x in features] for _ in range(2))
    (ops.weighted_contrastive_loss(*ours, reduction="none") * share).sum().backward()
    for i, weight in enumerate(share):
        loss = by_rows(expected, (i, i + 1))
        (loss * weight).backward()
    for x, y in zip(ours[:4], expected[:4], strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-11, atol=1e-13)


def by_rows(features: list[Tensor], rows: tuple[int, int]) -> Tensor:
    nothing = torch.zeros(len(features[0]), len(features[0]), dtype=torch.bool)
    return by_hand(*features, rows=rows, dense=nothing, temperature=0.1, normalize=True)


@pytest.mark.usefixtures("backend")
def test_steep_logits_stay_finite() -> None:
    features = [30 * x for x in make(33)]
    for dtype in (torch.float64, torch.float32):
        truth = run(
            equations.weighted_contrastive_loss, [x.to(dtype).double() for x in features],
            torch.float64, normalize=False, temperature=0.01,
        )  # fmt: skip
        ours = run(
            ops.weighted_contrastive_loss, features, dtype, normalize=False, temperature=0.01
        )
        # Logits of 1e6 in float32 keep an eighth of one; the loss is a difference of them.
        assert ours[0] == pytest.approx(truth[0], rel=100 * torch.finfo(dtype).eps)
        assert all(x.isfinite().all() for x in ours[1])


@pytest.mark.usefixtures("backend")
def test_zero_rows_are_no_direction() -> None:
    features = make(7)
    features[0][2] = 0.0
    features[4][3] = 0.0
    loss, _ = run(ops.weighted_contrastive_loss, features, torch.float64)
    assert loss == pytest.approx(equations.weighted_contrastive_loss(*features).item(), rel=1e-12)


@pytest.mark.usefixtures("backend")
def test_a_broken_window_is_not_hidden() -> None:
    for part in range(6):
        features = make(7)
        features[part][2, 0] = math.nan
        assert ops.weighted_contrastive_loss(*features).isnan()


@pytest.mark.parametrize("memory", ["saved", "recompute"])
def test_bit_equal_again_and_again_and_over_threads(backend: str, memory: str) -> None:
    features = make(33, (16, 8, 4))
    options = {"memory": memory, "mask": masks(33, 1)["neighbours"][0]}
    first = run(ops.weighted_contrastive_loss, features, torch.float32, **options)

    def again() -> bool:
        loss, gradients = run(ops.weighted_contrastive_loss, features, torch.float32, **options)
        pairs = zip(gradients, first[1], strict=True)
        return loss == first[0] and all(torch.equal(x, y) for x, y in pairs)

    assert all(again() for _ in range(100))
    with ThreadPoolExecutor(2) as pool:
        assert all(future.result(timeout=60) for future in [pool.submit(again) for _ in range(8)])
    if backend != "cpu":
        return  # torch's own products do depend on the number of threads
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert again()
    finally:
        torch.set_num_threads(before)
