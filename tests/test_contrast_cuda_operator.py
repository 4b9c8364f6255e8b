"""The operator's way to the CUDA kernels, which run on this CPU (``cuda_on_cpu``).

Tensors stay on the CPU and the compiled module is replaced: what is tested is which addresses,
buffers and options the operator passes, not the device.
"""

import contextlib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detach import ops
from detach.ops import contrast_cuda, contrast_pairs, dispatch

from .contrast_on_cuda import Emulated, build_emulated  # type: ignore[import-not-found]

LIMIT = {torch.float16: 1.5e-3, torch.bfloat16: 8e-3, torch.float32: 1e-6}
FORMS: list[dict[str, Any]] = [
    {},
    {"temporal": "cross"},
    {"temporal": "none"},
    {"rows": (0, 1)},
    {"mask": "near"},
    {"mask": "dense"},
    {"reduction": "none"},
]
MOTION = (1, 3)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if torch.cuda.is_available():
        pytest.skip("a GPU runs the kernels")
    found: Path | str = build_emulated(tmp_path_factory.getbasetemp())
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(autouse=True)
def emulated(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stream, module = types.SimpleNamespace(cuda_stream=0), Emulated(library)
    monkeypatch.setattr(contrast_cuda, "_C", module)
    monkeypatch.setattr(contrast_pairs, "_C", module)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(dispatch, "_best", lambda _: ("cuda", "emulated"))
    yield module
    module.set_sizes(2048, 2048, 96)


def features(n: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    widths = (20, 33, 20, 33, 24, 24)
    rows = [torch.randn(n, d, generator=generator) for d in widths]
    return [torch.nn.functional.normalize(x, dim=1).to(dtype) for x in rows]


def options_of(form: dict[str, Any], n: int) -> dict[str, Any]:
    masks = {
        "near": (torch.arange(n) // 4, torch.arange(n).double(), 2.0),
        "dense": torch.rand(n, n, generator=torch.Generator().manual_seed(0)) < 0.3,
    }
    return {**form, "mask": masks[form["mask"]]} if "mask" in form else dict(form)


def by_equations(parts: list[Tensor], options: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    exact = [x.double().requires_grad_(i in MOTION) for i, x in enumerate(parts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETACH_BACKEND", "reference")
        loss = ops.weighted_contrastive_loss(*exact, **options)
    gradients = torch.autograd.grad(loss.sum(), [exact[i] for i in MOTION])
    return loss.detach(), list(gradients)


@pytest.mark.parametrize("dtype", list(LIMIT))
@pytest.mark.parametrize("memory", ["saved", "recompute"])
@pytest.mark.parametrize("n", [1, 70])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_agrees_with_the_equations(
    dtype: torch.dtype, memory: Any, n: int, form: dict[str, Any]
) -> None:
    options = options_of(form, n)
    parts = features(n, dtype)
    expected, gradients = by_equations(parts, options)
    mine = [x.clone().requires_grad_(i in MOTION) for i, x in enumerate(parts)]
    loss = ops.weighted_contrastive_loss(*mine, memory=memory, **options)
    assert loss.dtype == torch.float32
    scale = max(1.0, float(expected.abs().max()))
    assert float((loss.detach().double() - expected).abs().max()) <= LIMIT[dtype] * scale
    for keep in (True, False):  # the second time there is nothing saved to read
        found = torch.autograd.grad(loss.sum(), [mine[i] for i in MOTION], retain_graph=keep)
        for x, y in zip(found, gradients, strict=True):
            assert x.dtype == dtype
            assert float((x.double() - y).norm()) <= LIMIT[dtype] * float(y.norm()) + 1e-7
    _, stats = ops.weighted_contrastive_loss(*parts, return_stats=True, **options)
    assert bool(stats.mean_weight.isfinite().all())


@pytest.mark.parametrize(
    ("dtype", "memory"), [(torch.float16, "saved"), (torch.float32, "recompute")]
)
@pytest.mark.parametrize("options", [{}, {"temporal": "cross"}, {"temperature": 0.01}], ids=str)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_nan_of_any_part_shows_where_the_equations_have_it(
    value: float, options: dict[str, Any], dtype: torch.dtype, memory: Any
) -> None:
    for part in range(6):
        parts = features(40, dtype)
        parts[part][3, 2] = value
        expected, gradients = by_equations(parts, {**options, "reduction": "none"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DETACH_BACKEND", "reference")
            _, truth = ops.weighted_contrastive_loss(*parts, return_stats=True, **options)
        mine = [x.clone().requires_grad_(i in MOTION) for i, x in enumerate(parts)]
        loss, stats = ops.weighted_contrastive_loss(
            *mine, memory=memory, reduction="none", return_stats=True, **options
        )
        found = torch.autograd.grad(loss.sum(), [mine[i] for i in MOTION])
        for x, y in zip((loss, *stats, *found), (expected, *truth, *gradients), strict=True):
            assert torch.equal(x.isnan(), y.isnan()), part


def test_a_compiled_gradient_can_be_taken_twice() -> None:
    torch.compiler.reset()
    parts = [x.requires_grad_(i in MOTION) for i, x in enumerate(features(50))]
    compiled = torch.compile(
        lambda *p: 2 * ops.weighted_contrastive_loss(*p), fullgraph=True, backend="aot_eager"
    )
    loss, wanted = compiled(*parts), [parts[i] for i in MOTION]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    for x, y in zip(first, torch.autograd.grad(loss, wanted), strict=True):
        assert torch.equal(x, y)


PRECISIONS = pytest.mark.parametrize(
    ("before", "after"), [("highest", "high"), ("high", "highest")]
)


@PRECISIONS
@pytest.mark.parametrize("memory", ["saved", "recompute"])
def test_a_precision_that_changes_on_the_way_back_changes_nothing(
    before: str, after: str, memory: Any, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of large batches, which differ between TF32 and float32, made to serve a small one."""
    emulated.set_sizes(0, 2048, 96)
    parts = [x.requires_grad_(i in MOTION) for i, x in enumerate(features(70))]

    def gradients(later: str) -> tuple[Tensor, ...]:
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: before)
        loss = ops.weighted_contrastive_loss(*parts, memory=memory)
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: later)
        return torch.autograd.grad(loss, [parts[i] for i in MOTION])

    for x, y in zip(gradients(after), gradients(before), strict=True):
        assert torch.equal(x, y)


class OnGpu(Tensor):
    is_cuda = True


@PRECISIONS
@pytest.mark.parametrize("save", [True, False])
def test_so_it_is_in_a_ring(
    before: str, after: str, save: bool, emulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulated.set_sizes(0, 2048, 96)
    block = [x.as_subclass(OnGpu) for x in features(70)]
    params = (0.1, 3.0, 1, 1, 1, True)

    def gradients(later: str) -> list[Tensor]:
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: before)
        table, _, saved = contrast_pairs.sums(block, None, params, save=save)
        table[:2] = torch.logaddexp(table[:2], table[2])
        table[2] = 1.0
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: later)
        found = [torch.zeros_like(x) for x in block[:4]]
        contrast_pairs.add_gradients(block, None, params, saved, (table, None), (found, None))
        return found

    found, expected = gradients(after), gradients(before)
    assert all(bool(x.isfinite().all()) and bool(x.any()) for x in expected)
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


def test_a_compiled_loss_follows_the_precision() -> None:
    torch.compiler.reset()
    parts = features(50)
    compiled = torch.compile(ops.weighted_contrastive_loss, fullgraph=True, backend="aot_eager")
    before, found = torch.get_float32_matmul_precision(), []
    try:
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            found += [compiled(*parts), ops.weighted_contrastive_loss(*parts)]
    finally:
        torch.set_float32_matmul_precision(before)
    assert [bool(x == found[0]) for x in found] == [True, True, False, False]
    assert torch.equal(found[2], found[3])


def test_float64_is_left_to_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [x.double() for x in features(5)]
    assert bool(ops.weighted_contrastive_loss(*parts).isfinite())
    monkeypatch.setenv("DETACH_BACKEND", "cuda")
    with pytest.raises(ValueError, match="cannot serve float64"):
        ops.weighted_contrastive_loss(*parts)
