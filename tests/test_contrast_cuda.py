"""The contrast kernels for CUDA against the equations in float64.

Where there is no GPU the kernels run on this CPU, thread by thread (``cuda_on_cpu``).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from detach import equations

from .contrast_on_cuda import (  # type: ignore[import-not-found]
    DTYPES,
    Buffer,
    Case,
    Emulated,
    Result,
    address,
    build_emulated,
    run_batch,
)

ALL = (True, True, True, True)
WIDTHS = (20, 33, 24)
# Relative errors (in norm) that rounding features and pairs once explains; both 16-bit types keep
# pairs as bfloat16.
LOSS_LIMIT = {"float16": 2e-4, "bfloat16": 2e-3, "tf32": 3e-4, "float32": 2e-7}
GRADIENT_LIMIT = {"float16": 1.2e-3, "bfloat16": 6e-3, "tf32": 1e-3, "float32": 5e-7}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path | str:
    if torch.cuda.is_available():
        return "a GPU runs the kernels"
    found: Path | str = build_emulated(tmp_path_factory.getbasetemp())
    return found


@pytest.fixture
def emulated(library: Path | str) -> Iterator[Any]:
    if isinstance(library, str):
        pytest.skip(library)
    found = Emulated(library)
    yield found
    found.set_order(late=True, backwards=False)
    found.set_sizes(2048, 2048, 96)


@pytest.fixture
def kernels(request: pytest.FixtureRequest) -> Any:
    """The compiled module on a GPU, otherwise the kernels on this CPU."""
    if not torch.cuda.is_available():
        return request.getfixturevalue("emulated")
    module = pytest.importorskip("detach._C")
    if not module.cuda_built:
        pytest.skip("built without CUDA")
    return module


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def features_of(case: Case, rows: int, widths: tuple[int, int, int] = WIDTHS) -> list[Tensor]:
    """Rows of three kinds, one of which resembles the first row."""
    generator = torch.Generator().manual_seed(rows)
    parts = []
    for part in (0, 1, 0, 1, 2, 2):
        x = torch.randn(rows, widths[part], generator=generator, dtype=torch.float64)
        x[1::3] += 2 * x[:1]
        parts.append(x.to(device(), case.dtype))
    return parts


def upstream_of(case: Case, rows: int) -> Tensor:
    count = (rows if case.stop is None else case.stop) - case.start
    return (torch.arange(count, dtype=torch.float64) % 5 + 0.5).to(device()) / rows


def left_out(case: Case, rows: int) -> Tensor:
    out = torch.eye(rows, dtype=torch.bool, device=device())
    if case.dense is not None:
        out |= case.dense
    if case.reach > 0:
        apart = (case.position[:, None] - case.position).abs()
        out |= (case.group[:, None] == case.group) & (apart < case.reach)
    return out


def truth(features: list[Tensor], upstream: Tensor, case: Case, dtype: torch.dtype) -> Result:
    """The equations in ``dtype``."""
    x = [f.to(dtype).requires_grad_() for f in features]
    rows = len(x[0])
    out = left_out(case, rows)
    weight = equations.negative_weight(
        x[0], x[2], x[4], x[5], lambda_hard=case.lambda_hard, gate=case.gate, power=case.power,
        temporal=case.temporal,
    ).detach().masked_fill(out, 0.0)  # fmt: skip
    video = equations.video_embedding(x[0], x[1], normalize=case.normalize)
    sensor = equations.sensor_embedding(x[2], x[3], normalize=case.normalize)
    logits = video @ sensor.T / case.temperature
    both = [
        equations.directional_loss(logits, weight),
        equations.directional_loss(logits.T, weight.T),
    ]
    loss = torch.stack(both)[:, case.start : case.stop]
    gradients = torch.autograd.grad((loss.sum(dim=0) * upstream.to(dtype)).sum(), x[:4])
    positive = logits.detach().diagonal()[case.start : case.stop]
    count = torch.stack([(~out).sum(dim=1), (~out).sum(dim=0)]).clamp(min=1)
    mean_weight = torch.stack([weight.sum(dim=1), weight.sum(dim=0)]) / count
    return Result(
        loss.detach(), loss.detach() + positive, mean_weight[:, case.start : case.stop], gradients
    )


def error(found: Tensor, expected: Tensor) -> float:
    """Of the norm, relative; absolute where what is expected is 0."""
    difference = float((found.double() - expected.double()).norm())
    norm = float(expected.double().norm())
    return difference / norm if norm > 1e-12 else difference


def check(found: Result, features: list[Tensor], upstream: Tensor, case: Case) -> None:
    """No result errs more than its limit, or twice what torch errs in the same type."""
    exact = truth(features, upstream, case, torch.float64)
    torchs = truth(features, upstream, case, case.dtype)

    def limit(name: str, index: int | None, least: float) -> float:
        of = [getattr(r, name) if index is None else r.gradients[index] for r in (torchs, exact)]
        error_of_torch = error(*of)
        return max(2 * error_of_torch if error_of_torch < 0.1 else 0.0, least)

    for name in ("loss", "log_denominator", "mean_weight"):
        most = limit(name, None, LOSS_LIMIT[case.precision])
        assert error(getattr(found, name), getattr(exact, name)) <= most, name
    for i, gradient in enumerate(found.gradients):
        assert (gradient is not None) == case.wanted[i]
        if gradient is not None:
            # Where sums need maxima, their logarithms pass through float on the way.
            rounded = 2.0**-24 * float(exact.log_denominator.abs().max())
            most = limit("", i, GRADIENT_LIMIT[case.precision] + rounded)
            assert error(gradient, exact.gradients[i]) <= most, f"gradient {i}"


def dense_mask(rows: int) -> Tensor:
    return (torch.rand(rows, rows, generator=torch.Generator().manual_seed(1)) < 0.3).to(device())


def near(rows: int) -> dict[str, Any]:
    position = torch.arange(rows, dtype=torch.float64, device=device()) * 0.5
    return {
        "group": torch.arange(rows, device=device()) // 40,
        "position": position,
        "reach": 3.1,
    }


# Rows and what differs from the defaults.
CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "one window": (1, {"wanted": ALL}),
    "five": (5, {"wanted": ALL}),
    "a whole block": (64, {}),
    "one row more": (65, {"wanted": ALL}),
    "across modalities": (130, {"temporal": "cross", "wanted": ALL}),
    "no motion": (70, {"temporal": "none"}),
    "plain": (70, {"temporal": "none", "lambda_hard": 1.0, "wanted": ALL}),
    "as printed": (70, {"gate": "none", "power": 2}),
    "motion alone": (70, {"gate": "none", "lambda_hard": 1.0}),
    "lengths as they are": (70, {"normalize": False, "temperature": 5.0, "wanted": ALL}),
    "out of range by length": (70, {"normalize": False, "temperature": 0.2, "wanted": ALL}),
    "out of range by temperature": (130, {"temperature": 0.01, "wanted": ALL}),
    "out of range, recomputed": (70, {"temperature": 0.005, "saved": False}),
    "out of range, some rows": (
        70,
        {"normalize": False, "temperature": 0.2, "temporal": "cross", "start": 3, "stop": 60},
    ),
    "recomputed": (130, {"saved": False, "wanted": ALL}),
    "some rows": (130, {"start": 37, "stop": 101, "wanted": ALL}),
    "last rows, recomputed": (130, {"start": 99, "saved": False, "wanted": ALL}),
    "mask": (130, {"dense": 130}),
    "mask, some rows": (130, {"dense": 130, "start": 64, "stop": 100, "temporal": "cross"}),
    "neighbours": (130, {"reach": 3.1}),
    "neighbours, some rows": (130, {"reach": 3.1, "start": 5, "stop": 77, "saved": False}),
    "nothing is left": (40, {"reach": 100.0}),
    "spatial halves only": (65, {"wanted": (True, False, False, False)}),
}


def case_of(name: str, precision: str) -> tuple[int, Case]:
    rows, changes = CASES[name]
    if "dense" in changes:
        changes = {**changes, "dense": dense_mask(rows)}
    if "reach" in changes:
        changes = {**near(rows), **changes}
    return rows, Case(precision=precision).but(**changes)


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_equations(kernels: Any, name: str, precision: str) -> None:
    rows, case = case_of(name, precision)
    features, upstream = features_of(case, rows), upstream_of(case, rows)
    check(run_batch(kernels, features, upstream, case), features, upstream, case)


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
@pytest.mark.parametrize("name", ["one row more", "across modalities", "some rows", "recomputed"])
def test_agrees_in_the_other_formats(kernels: Any, name: str, precision: str) -> None:
    rows, case = case_of(name, precision)
    features, upstream = features_of(case, rows), upstream_of(case, rows)
    check(run_batch(kernels, features, upstream, case), features, upstream, case)


@pytest.mark.parametrize("how", ["prepared", "by_hand"])
@pytest.mark.parametrize("temperature", [0.1, 0.01])
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_other_ways_to_the_gradient(
    kernels: Any, how: str, temperature: float, precision: str
) -> None:
    case = Case(precision=precision, temperature=temperature, wanted=ALL)
    features, upstream = features_of(case, 70), upstream_of(case, 70)
    result = run_batch(kernels, features, upstream, case, **{how: True})
    check(result, features, upstream, case)


@pytest.mark.parametrize("precision", list(DTYPES))
@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.01, "start": 10, "stop": 140}], ids=["batch", "rows"]
)
def test_large_tiles_and_stripes(
    emulated: Any, precision: str, saved: bool, changes: dict[str, Any]
) -> None:
    """What only large batches use, made to serve a small one."""
    stripe_rows = 64 if precision == "float32" else 128
    bytes_of_stripe = stripe_rows * Case(precision=precision).dtype.itemsize
    emulated.set_sizes(0, bytes_of_stripe, 1 if saved else 1000)
    case = Case(precision=precision, saved=saved, wanted=ALL, **changes)
    features, upstream = features_of(case, 150), upstream_of(case, 150)
    check(run_batch(emulated, features, upstream, case), features, upstream, case)


@pytest.mark.parametrize("precision", ["float16", "tf32"])
def test_the_order_of_threads_and_copies_changes_nothing(emulated: Any, precision: str) -> None:
    """Otherwise a barrier or a wait is missing."""
    emulated.set_sizes(0, 256, 1)
    for changes in ({"temporal": "cross"}, {"saved": False, "temperature": 0.01}):
        case = Case(precision=precision, wanted=ALL, **changes)
        features, upstream = features_of(case, 70), upstream_of(case, 70)
        results = []
        for late in (True, False):
            for backwards in (False, True):
                emulated.set_order(late=late, backwards=backwards)
                results.append(run_batch(emulated, features, upstream, case))
        for other in results[1:]:
            assert torch.equal(results[0].loss, other.loss)
            for a, b in zip(results[0].gradients, other.gradients, strict=True):
                assert torch.equal(a, b)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.integers(2, 90),
    widths=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70)),
    precision=st.sampled_from(list(DTYPES)),
    temporal=st.sampled_from(["none", "intra", "cross"]),
    saved=st.booleans(),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_shape(
    kernels: Any,
    rows: int,
    widths: tuple[int, int, int],
    precision: str,
    temporal: str,
    saved: bool,
    bounds: tuple[float, float],
) -> None:
    start, last = sorted(int(share * (rows - 1)) for share in bounds)
    case = Case(
        precision=precision, temporal=temporal, saved=saved, start=start, stop=last + 1,
        temperature=0.5, wanted=ALL,
    )  # fmt: skip
    features, upstream = features_of(case, rows, widths), upstream_of(case, rows)
    result = run_batch(kernels, features, upstream, case)
    exact = truth(features, upstream, case, torch.float64)
    assert error(result.loss, exact.loss) <= 4 * LOSS_LIMIT[precision]
    for i, gradient in enumerate(result.gradients):
        most = 4 * GRADIENT_LIMIT[precision]
        shortest = min(1.0, float(features[i].double().norm(dim=1).min()))  # rows are divided by it
        scale = float(exact.gradients[i].norm()) + 0.1 * float(upstream.norm()) / shortest
        assert float((gradient.double() - exact.gradients[i]).norm()) <= most * scale


def ring(kernels: Any, case: Case, features: list[Tensor], upstream: Tensor, cut: int) -> Result:
    """Both blocks with themselves and with each other, as processes of a ring do."""
    rows, widths = len(features[0]), tuple(features[i].shape[1] for i in (0, 1, 4))
    blocks = [[f[:cut].contiguous() for f in features], [f[cut:].contiguous() for f in features]]
    sizes = (cut, rows - cut)
    stream = torch.cuda.current_stream().cuda_stream if device() == "cuda" else 0
    logs, positive = [], torch.empty(rows, dtype=torch.float64, device=device())
    weights = torch.zeros(4, rows, dtype=torch.float64, device=device())
    shares = ((0, slice(0, cut)), (1, slice(cut, rows)))
    plan: list[tuple[int, int | None]] = [(0, None), (1, None), (0, 1)]
    kept = []
    for a, b in plan:
        same = b is None
        size = (case.number, sizes[a], sizes[a if b is None else b], same)
        space = Buffer(kernels.contrast_cuda_pair_workspace(*size, widths, case.saved), device())
        saved = Buffer(kernels.contrast_cuda_pair_saved_size(*size), device())
        log = torch.full((2, rows), -torch.inf, dtype=torch.float64, device=device())
        added = torch.zeros(4, rows, dtype=torch.float64, device=device())
        sums = [
            (*map(address, log[:, own]), address(positive[own]), *map(address, added[:, own]))
            for _, own in shares
        ]
        block = [(tuple(map(address, x)), len(x[0]), 0, 0) for x in blocks]
        where = (block[a], None if b is None else block[b], case.number, widths, case.params())
        at = saved.address if case.saved else 0
        kernels.contrast_cuda_sums(
            *where, (0, 0, 0, 0, 0.0), sums[a], None if b is None else sums[b], at, space.address,
            stream,
        )  # fmt: skip
        logs.append(log)
        weights += added
        kept.append((a, b, where, saved, space, at))
    log_sum = torch.logsumexp(torch.stack(logs), dim=0)
    log_denominator = torch.logaddexp(log_sum, positive)
    found = [torch.zeros(f.shape, device=device()) for f in features[:4]]
    for a, b, where, saved, space, at in kept:
        of = [(*map(address, log_denominator[:, own]), address(upstream[own])) for _, own in shares]
        to = [tuple(address(g[own]) for g in found) for _, own in shares]
        kernels.contrast_cuda_gradient(
            *where, (0, 0, 0, 0, 0.0), of[a], None if b is None else of[b], at, to[a],
            None if b is None else to[b], space.address, stream,
        )  # fmt: skip
        saved.check()
        space.check()
    mean = torch.stack([weights[0] / weights[2], weights[1] / weights[3]])
    return Result(log_denominator - positive, log_denominator, mean, found)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"saved": False, "temporal": "cross"}, {"normalize": False, "temperature": 0.2}],
    ids=["saved", "recomputed", "out of range"],
)
def test_a_ring_of_blocks_is_the_batch(
    kernels: Any, precision: str, changes: dict[str, Any]
) -> None:
    case = Case(precision=precision, wanted=ALL, **changes)
    features, upstream = features_of(case, 130), upstream_of(case, 130)
    check(ring(kernels, case, features, upstream, 47), features, upstream, case)


def test_a_nan_shows_where_the_equations_have_it(kernels: Any) -> None:
    for temperature in (0.1, 0.01):
        case = Case(temperature=temperature)
        features, upstream = features_of(case, 70), upstream_of(case, 70)
        features[1][3, 2] = torch.nan  # in the video's row, and in all columns of sensors
        loss = run_batch(kernels, features, upstream, case).loss
        expected = torch.zeros_like(loss, dtype=torch.bool)
        expected[0, 3] = expected[1] = True
        assert torch.equal(loss.isnan(), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"power": 3}, "power must be 1 or 2, got 3"),
        ({"start": 9, "stop": 9}, "rows must be 0 <= start < stop <= 9"),
        ({"stop": 10}, "rows must be 0 <= start < stop <= 9, got 0 and 10"),
    ],
)
def test_wrong_arguments_are_named(kernels: Any, changes: dict[str, Any], message: str) -> None:
    case = Case().but(**changes)
    features = features_of(case, 9)
    args = (tuple(map(address, features)), 0, 9, WIDTHS, case.params(), case.mask())
    stop = 9 if case.stop is None else case.stop
    with pytest.raises(ValueError, match=message):
        kernels.contrast_cuda_batch(*args, case.start, stop, (0, 0, 0), 0, 0, 0)
