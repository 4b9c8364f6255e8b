"""The weighted contrastive loss as an operator: what torch does with it, and what it refuses."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from detach import equations, kernels, ops
from detach.ops import contrast, contrast_cpu, dispatch
from detach.ops.contrast_call import Call

CHOICES = ("cpu", "torch", "reference") if kernels.available() else ("torch", "reference")
compiled_only = pytest.mark.skipif(not kernels.available(), reason="no compiled module")


@pytest.fixture(params=CHOICES)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv("DETACH_BACKEND", name)
    return name


def make(n: int = 7, width: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, width, generator=generator, dtype=dtype) for _ in range(6)]


def learning(features: list[Tensor], which: tuple[int, ...] = (1, 3)) -> list[Tensor]:
    return [x.detach().clone().requires_grad_(i in which) for i, x in enumerate(features)]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck(reduction: Any) -> None:
    temporal = learning(make(6, 3))

    def loss(*parts: Tensor) -> Tensor:
        return ops.weighted_contrastive_loss(*parts, rows=(1, 5), reduction=reduction)

    assert torch.autograd.gradcheck(loss, temporal)
    assert torch.autograd.gradgradcheck(loss, temporal, fast_mode=True)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck_of_all_parts(normalize: bool) -> None:
    """W does not depend on features here, so that finite differences know the gradient."""
    parts = learning(make(4, 3), (0, 1, 2, 3))[:4]

    def loss(vs: Tensor, vt: Tensor, ss: Tensor, st: Tensor) -> Tensor:
        return ops.weighted_contrastive_loss(
            vs, vt, ss, st, normalize=normalize, lambda_hard=1.0, temporal="none"
        )

    assert torch.autograd.gradcheck(loss, parts)
    assert torch.autograd.gradgradcheck(loss, parts, fast_mode=True)


@pytest.mark.usefixtures("backend")
def test_a_third_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tensor in two places, whose gradients are added, and once more by autograd alone."""

    def third() -> Tensor:
        features = make()
        x = features[1].clone().requires_grad_()
        loss = ops.weighted_contrastive_loss(features[0], x, features[2], x, *features[4:])
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
        (found,) = torch.autograd.grad(second.square().sum(), x)
        return found

    found = third()
    monkeypatch.setenv("DETACH_BACKEND", "reference")
    torch.testing.assert_close(found, third())


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "reference"])
@pytest.mark.parametrize("save", [True, False])
def test_opcheck(name: str, save: bool) -> None:
    number = ops.BACKENDS.index(name)
    features = learning(make(9), (0, 1, 2, 3))
    mask = (None, torch.arange(9) // 3, torch.arange(9.0).double(), 1.5)
    save = save and name == "torch"  # what a kernel saves has gaps, which are never equal
    options = (0.1, 3.0, 1, 1, 1, True, 0, 9, 1, False, number)
    operator = torch.ops.detach.weighted_contrast.default
    torch.library.opcheck(operator, (*features, *mask, *options, save, True))
    constants = [x.detach() for x in features]
    _, sums, saved = operator(*constants, *mask, *options, save, False)
    gradient = torch.ops.detach.weighted_contrast_gradient.default
    wanted = [False, True, False, True]
    upstream = torch.tensor(1.0, dtype=torch.float64)
    torch.library.opcheck(
        gradient, (*constants, *mask, *options, sums, saved, upstream, wanted, False)
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_in_one_graph(backend: str, dynamic: bool) -> None:
    if dynamic and backend == "reference":
        pytest.skip("takes long, and is torch's own business")

    def loss(*parts: Tensor) -> Tensor:
        return 2 * ops.weighted_contrastive_loss(*parts, lambda_hard=2.0)

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for n in (5, 9, 12) if dynamic else (9,):
        ours, expected = learning(make(n)), learning(make(n))
        found = compiled(*ours)
        torch.testing.assert_close(found, loss(*expected))
        found.backward()
        loss(*expected).backward()
        for i in (1, 3):
            torch.testing.assert_close(ours[i].grad, expected[i].grad)


@pytest.mark.usefixtures("backend")
def test_shapes_are_known_without_numbers() -> None:
    with FakeTensorMode() as mode:
        parts = [mode.from_tensor(x) for x in learning(make(9, dtype=torch.float32))]
        each = ops.weighted_contrastive_loss(*parts, rows=(2, 7), reduction="none")
        gradients = torch.autograd.grad(each.sum(), [parts[1], parts[3]])
    assert (each.shape, each.dtype) == ((5,), torch.float32)
    assert [x.shape for x in gradients] == [(9, 5), (9, 5)]


@pytest.mark.usefixtures("backend")
def test_function_transforms() -> None:
    features = make()

    def loss(temporal: Tensor) -> Tensor:
        return ops.weighted_contrastive_loss(features[0], temporal, *features[2:])

    parts = learning(features, (1,))
    ops.weighted_contrastive_loss(*parts).backward()
    torch.testing.assert_close(torch.func.grad(loss)(features[1]), parts[1].grad)
    several = torch.stack([features[1], features[3]])
    expected = torch.stack([loss(features[1]), loss(features[3])])
    torch.testing.assert_close(torch.vmap(loss)(several), expected)


@pytest.mark.usefixtures("backend")
def test_autocast_leaves_it_in_float32() -> None:
    features = make(9, dtype=torch.float32)
    expected = ops.weighted_contrastive_loss(*features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ops.weighted_contrastive_loss(*features), expected)
        mixed = [x.bfloat16() if i in (1, 3) else x for i, x in enumerate(features)]
        rounded = [x.float() for x in mixed]
        found = ops.weighted_contrastive_loss(*mixed)
    assert torch.equal(found, ops.weighted_contrastive_loss(*rounded))
    with pytest.raises(TypeError, match="video_temporal must be torch.float32 as video_spatial"):
        ops.weighted_contrastive_loss(*mixed)


@pytest.mark.usefixtures("backend")
def test_any_strides() -> None:
    features = make(9, 8)
    expected = learning(features)
    ops.weighted_contrastive_loss(*expected).backward()
    wide = [torch.stack([x, x], dim=2).transpose(0, 1).contiguous() for x in features]
    views = [x.transpose(0, 1)[:, :, 1].requires_grad_(i in (1, 3)) for i, x in enumerate(wide)]
    assert not views[1].is_contiguous()
    loss = ops.weighted_contrastive_loss(*views)
    loss.backward()
    for i in (1, 3):
        torch.testing.assert_close(views[i].grad, expected[i].grad)
    mask = torch.rand(9, 9) < 0.5
    turned = ops.weighted_contrastive_loss(*features, mask=mask.T.contiguous().T)
    torch.testing.assert_close(turned, ops.weighted_contrastive_loss(*features, mask=mask))


@pytest.mark.usefixtures("backend")
def test_a_graph_that_is_kept_gives_the_same_gradient_twice() -> None:
    parts = learning(make(9))
    loss = ops.weighted_contrastive_loss(*parts)
    first = torch.autograd.grad(loss, [parts[1], parts[3]], retain_graph=True)
    second = torch.autograd.grad(loss, [parts[1], parts[3]])
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@compiled_only
@compiled_only
def test_two_graphs_at_once_keep_their_own_numbers() -> None:
    """At a size whose saved numbers lie in memory that is kept between calls."""

    def gradient(features: list[Tensor], loss: Tensor) -> Tensor:
        loss.backward()
        assert features[1].grad is not None
        return features[1].grad

    batches = [learning(make(n, 4, torch.float32)) for n in (1056, 1041)]
    alone = [gradient(x, ops.weighted_contrastive_loss(*x)).clone() for x in batches]
    again = [learning(x) for x in batches]
    losses = [ops.weighted_contrastive_loss(*x) for x in again]
    for features, loss, expected in zip(again, losses, alone, strict=True):
        assert torch.equal(gradient(features, loss), expected)


def test_frozen_parts_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[bool]] = []
    inner = contrast_cpu.gradients

    def watched(*arguments: Any) -> list[Tensor | None]:
        asked.append(arguments[-1])
        return inner(*arguments)

    monkeypatch.setattr(contrast_cpu, "gradients", watched)
    for which in ((1, 3), (0,), (0, 1, 2, 3)):
        parts = learning(make(), which)
        ops.weighted_contrastive_loss(*parts).backward()
        assert [x.grad is not None for x in parts] == [i in which for i in range(6)]
    assert asked == [[i in which for i in range(4)] for which in ((1, 3), (0,), (0, 1, 2, 3))]


@pytest.fixture
def saves(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each call kept something for the gradient."""
    seen: list[bool] = []
    inner = contrast_cpu.losses

    def watched(call: Call, *, save: bool, stats: bool) -> tuple[Tensor, Tensor, Tensor]:
        seen.append(save)
        return inner(call, save=save, stats=stats)

    monkeypatch.setattr(contrast_cpu, "losses", watched)
    return iter([seen])


@compiled_only
def test_memory(saves: Iterator[list[bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, parts = next(saves), learning(make(9))
    memories: tuple[contrast.Memory, ...] = ("auto", "saved", "recompute")
    for memory in memories:
        ops.weighted_contrastive_loss(*parts, memory=memory)
    with torch.no_grad():
        ops.weighted_contrastive_loss(*parts)
    ops.weighted_contrastive_loss(*make(9), memory="saved")  # nothing learns
    monkeypatch.setattr(contrast, "SAVED_LIMIT_BYTES", 9 * 9 * 8 - 1)
    for memory in memories[:2]:
        ops.weighted_contrastive_loss(*parts, memory=memory)
    ops.weighted_contrastive_loss(*parts, rows=(0, 4))
    halves = learning(make(9, dtype=torch.float16))  # kept as float32
    for limit in (9 * 9 * 4 - 1, 9 * 9 * 4):
        monkeypatch.setattr(contrast, "SAVED_LIMIT_BYTES", limit)
        ops.weighted_contrastive_loss(*halves)
    assert seen == [True, True, False, False, False, False, True, True, False, True]


def test_without_the_extension_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    features = make(9)
    monkeypatch.delenv("DETACH_BACKEND", raising=False)
    monkeypatch.setattr(kernels, "_missing", "no module")
    assert ops.backend(torch.device("cpu"))[0] == "torch"
    found = ops.weighted_contrastive_loss(*features)
    torch.testing.assert_close(found, equations.weighted_contrastive_loss(*features))


def test_momentum_is_not_needed_without_temporal_similarity() -> None:
    parts = make()[:4]
    expected = equations.weighted_contrastive_loss(*make(), temporal="none")
    torch.testing.assert_close(ops.weighted_contrastive_loss(*parts, temporal="none"), expected)


X = torch.zeros(4, 3)
OBLONG = torch.zeros(4, 3, dtype=torch.bool)
LONG = torch.zeros(1, 3).expand(2**31, 3)
GROUP, POSITION = torch.zeros(4, dtype=torch.int64), torch.zeros(4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"video_spatial": None}, TypeError, "video_spatial must be a tensor"),
        ({"sensor_temporal": [1.0]}, TypeError, "sensor_temporal must be a tensor, got list"),
        ({"video_momentum": None}, TypeError, "video_momentum .* temporal is 'intra', got None"),
        ({"video_spatial": X.long()}, TypeError, "video_spatial must be float32, float64"),
        ({"sensor_spatial": X.double()}, TypeError, "sensor_spatial must be torch.float32"),
        ({"sensor_spatial": X.half()}, TypeError, "sensor_spatial must be torch.float32"),
        ({"sensor_spatial": X.to("meta")}, ValueError, "sensor_spatial must be on cpu .* got meta"),
        ({"video_temporal": X[0]}, ValueError, r"video_temporal must be \[N, d\].* shape \[3\]"),
        ({"video_temporal": X[:, :0]}, ValueError, "video_temporal must be .* d >= 1"),
        ({"video_temporal": X[:3]}, ValueError, "video_temporal must have 4 windows .* got 3"),
        ({"sensor_spatial": X[:, :2]}, ValueError, "sensor_spatial must be 3 wide as video"),
        ({"sensor_momentum": X[:, :2]}, ValueError, "sensor_momentum must be 3 wide as video_mom"),
        (dict.fromkeys(Call._fields[:6], X[:0]), ValueError, "must have 1 to 2.30 windows, got 0"),
        (dict.fromkeys(Call._fields[:6], LONG), ValueError, "must have 1 to 2.30 windows, got 21"),
        ({"temperature": 0.0}, ValueError, "temperature must be > 0 and finite, got 0.0"),
        ({"temperature": math.nan}, ValueError, "temperature must be > 0 and finite, got nan"),
        ({"temperature": math.inf}, ValueError, "temperature must be > 0 and finite, got inf"),
        ({"temperature": torch.tensor(0.1)}, TypeError, "temperature must be a number, got Tensor"),
        ({"lambda_hard": 0.5}, ValueError, "lambda_hard must be >= 1 and finite, got 0.5"),
        ({"lambda_hard": math.inf}, ValueError, "lambda_hard must be >= 1 and finite"),
        ({"lambda_hard": "3"}, TypeError, "lambda_hard must be a number, got str"),
        ({"gate": "place"}, ValueError, "gate must be one of none, spatial, got 'place'"),
        ({"power": 3}, ValueError, "power must be 1 or 2, got 3"),
        ({"power": 1.0}, ValueError, "power must be 1 or 2, got 1.0"),
        ({"temporal": "both"}, ValueError, "temporal must be one of none, intra, cross"),
        ({"memory": "much"}, ValueError, "memory must be one of auto, saved, recompute"),
        ({"reduction": "max"}, ValueError, "reduction must be one of none, mean, sum"),
        ({"rows": (2, 2)}, ValueError, "rows must be .* 0 <= start < stop <= 4, got"),
        ({"rows": (-1, 2)}, ValueError, "rows must be"),
        ({"rows": (0, 5)}, ValueError, "rows must be"),
        ({"rows": 3}, ValueError, r"rows must be \(start, stop\), got 3"),
        ({"rows": (1.0, 4.0)}, ValueError, r"rows must be \(start, stop\), both whole, got"),
        ({"mask": torch.zeros(4, 4)}, TypeError, "mask must be bool, got torch.float32"),
        ({"mask": OBLONG}, ValueError, r"mask must have shape \[4, 4\]"),
        ({"mask": "near"}, TypeError, "mask must be a bool tensor or .* got str"),
        ({"mask": (GROUP, POSITION)}, TypeError, "mask must be a bool tensor or"),
        ({"mask": (GROUP.int(), POSITION, 1.0)}, TypeError, "group of mask must be int64"),
        ({"mask": (GROUP[:3], POSITION, 1.0)}, ValueError, r"group of mask must have shape \[4\]"),
        ({"mask": (GROUP, POSITION.bool(), 1.0)}, TypeError, "position of mask must be real"),
        ({"mask": (GROUP, POSITION.to("meta"), 1.0)}, ValueError, "position of mask must be on"),
        ({"mask": (GROUP, POSITION, -1.0)}, ValueError, "reach of mask must be >= 0, got -1.0"),
        ({"mask": (GROUP, POSITION, math.nan)}, ValueError, "reach of mask must be >= 0, got nan"),
        ({"mask": (GROUP, POSITION, "near")}, TypeError, "reach of mask must be a number"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {**dict.fromkeys(Call._fields[:6], X), **changes}
    with pytest.raises(error, match=message):
        ops.weighted_contrastive_loss(**arguments)


def test_a_backend_that_cannot_serve_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, message in (("cuda", "cannot serve a tensor on cpu"), ("best", "must be one of")):
        monkeypatch.setenv("DETACH_BACKEND", name)
        with pytest.raises(ValueError, match=message):
            ops.weighted_contrastive_loss(*make())


def test_float64_on_a_gpu_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETACH_BACKEND", raising=False)
    monkeypatch.setattr(dispatch, "_best", lambda _: ("cuda", "a GPU"))
    gpu = torch.device("cuda")
    assert dispatch.chosen(gpu, torch.float32) == "cuda"
    assert dispatch.chosen(gpu, torch.float64) == "torch"
    monkeypatch.setenv("DETACH_BACKEND", "cuda")
    with pytest.raises(ValueError, match="DETACH_BACKEND=cuda cannot serve float64"):
        dispatch.chosen(gpu, torch.float64)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("memory", ["saved", "recompute"])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_gpu_agrees_with_the_equations(dtype: torch.dtype, memory: Any, n: int) -> None:
    """Also a second time through the same graph, when the kernel has used up what it saved."""
    features = [torch.nn.functional.normalize(x, dim=1).to(dtype) for x in make(n, 40)]
    truth = learning([x.double() for x in features])
    expected = equations.weighted_contrastive_loss(*truth)
    wanted = torch.autograd.grad(expected, [truth[1], truth[3]])
    parts = learning([x.cuda() for x in features])
    loss = ops.weighted_contrastive_loss(*parts, memory=memory)
    limit = {torch.float16: 3e-3, torch.bfloat16: 2e-2, torch.float32: 1e-5}.get(dtype, 1e-10)
    assert loss.item() == pytest.approx(expected.item(), rel=limit, abs=1e-6)
    for keep in (True, False):
        found = torch.autograd.grad(loss, [parts[1], parts[3]], retain_graph=keep)
        for x, y in zip(found, wanted, strict=True):
            assert (x.double().cpu() - y).norm() <= limit * y.norm() + 1e-6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_neither_waits_nor_allocates_between_replays() -> None:
    parts = learning([x.cuda() for x in make(64, 32, torch.float32)])

    def step() -> tuple[Tensor, ...]:
        loss = ops.weighted_contrastive_loss(*parts)
        return loss, *torch.autograd.grad(loss, [parts[1], parts[3]])

    torch.cuda.set_sync_debug_mode("error")
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        graph.replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for x, y in zip(captured, step(), strict=True):
        assert torch.equal(x, y)
