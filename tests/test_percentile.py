"""The activation percentile: every implementation against NumPy's in float64."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from detach import equations, kernels, ops

LENGTHS = (1, 2, 3, 7, 8, 9, 16, 17, 60, 100, 101, 128, 201, 700, 1100)
QUANTILES = (0.0, 0.01, 0.05, 0.3, 0.5, 0.75, 0.95, 0.99, 1.0)
WIDTHS = (1, 2, 3, 4, 5, 8, 9, 34, 65, 130)
BACKENDS = ("cpu", "torch", "reference") if kernels.available() else ("torch", "reference")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv("DETACH_BACKEND", name)
    return name


def noise(*shape: int, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def ulps(result: NDArray[Any], expected: NDArray[np.float64]) -> float:
    """Largest error, in units of the last place of what was computed with."""
    spacing = np.spacing(np.abs(expected).astype(result.dtype)).astype(np.float64)
    return float(np.max(np.abs(result.astype(np.float64) - expected) / spacing, initial=0.0))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("width", WIDTHS)
def test_float32_is_within_two_ulp_of_numpy_in_float64(length: int, width: int) -> None:
    x = noise(3, length, width)
    for q in QUANTILES:
        for values, absolute in ((x, False), (np.abs(x), True)):
            expected = np.quantile(values.astype(np.float64), q, axis=1)
            assert ulps(kernels.activation_percentile(x, q, 1, absolute=absolute), expected) <= 2
            rows = np.ascontiguousarray(x.transpose(0, 2, 1))
            assert ulps(kernels.activation_percentile(rows, q, absolute=absolute), expected) <= 2


@pytest.mark.parametrize("length", LENGTHS)
def test_float64_agrees_with_numpy(length: int) -> None:
    x = noise(5, length, 34, dtype=np.float64)
    for q in QUANTILES:
        for axis in (0, 1, 2):
            expected = np.quantile(x, q, axis=axis)
            result = kernels.activation_percentile(x, q, axis)
            np.testing.assert_allclose(result, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("length", [5, 60, 101, 2000])
@pytest.mark.parametrize("q", [0.0, 0.02, 0.5, 0.99, 1.0])
def test_nan_makes_its_own_row_nan_and_no_other(length: int, q: float) -> None:
    x = noise(4, length, 34)
    x[1, length // 2, 7] = np.nan
    x[2, length - 1, 33] = np.nan
    expected = np.zeros((4, 34), bool)
    expected[1, 7] = expected[2, 33] = True
    rows = np.ascontiguousarray(x.transpose(0, 2, 1))
    assert np.array_equal(np.isnan(kernels.activation_percentile(x, q, 1)), expected)
    assert np.array_equal(np.isnan(kernels.activation_percentile(rows, q)), expected)


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([np.inf, np.inf], 0.5, np.inf),
        ([-np.inf, -np.inf, 1.0], 0.25, -np.inf),
        ([1.0, np.inf], 0.5, np.inf),
        ([1.0, np.inf], 0.0, 1.0),
        ([-np.inf, 1.0], 0.75, -np.inf),
        ([-np.inf, np.inf], 0.5, np.nan),
        ([2.0, 2.0, 2.0], 0.4, 2.0),
        ([7.0], 0.31, 7.0),
    ],
)
def test_infinities_ties_and_single_values(values: list[float], q: float, expected: float) -> None:
    for dtype in (np.float32, np.float64):
        result = kernels.activation_percentile(np.array(values, dtype), q)
        assert np.array_equal(result, np.array(expected, dtype), equal_nan=True)


def test_values_too_far_apart_to_subtract() -> None:
    top = np.finfo(np.float64).max
    assert kernels.activation_percentile(np.array([-top, top]), 0.5) == 0.0


@settings(max_examples=60, deadline=None)
@given(
    x=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    q=st.floats(0, 1),
)
def test_lies_between_its_two_neighbours(x: NDArray[np.float32], q: float) -> None:
    result = kernels.activation_percentile(x, q, 0)
    ordered = np.sort(x, axis=0)
    low = int(q * (len(x) - 1))
    assert (ordered[low] <= result).all()
    assert (result <= ordered[min(low + 1, len(x) - 1)]).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "bool", "float16"])
def test_small_types_are_computed_in_float32(dtype: str) -> None:
    x = (noise(4, 60, 5) * 9).astype(dtype)
    expected = np.quantile(x.astype(np.float64), 0.99, axis=1)
    result = kernels.activation_percentile(x, 0.99, 1)
    assert result.dtype == (np.float16 if dtype == "float16" else np.float32)
    assert ulps(result, expected) <= 2


def test_any_strides() -> None:
    x = noise(6, 8, 10, 4)
    for view in (x[::2], x[:, ::-1], x.transpose(2, 0, 3, 1), x[..., 1:3], x[:1].repeat(2, 0)):
        for axis in range(4):
            result = kernels.activation_percentile(view, 0.9, axis)
            assert ulps(result, np.quantile(view.astype(np.float64), 0.9, axis)) <= 2
            tensor = ops.activation_percentile(torch.from_numpy(view.copy()), 0.9, axis)
            assert ulps(tensor.numpy(), np.quantile(view.astype(np.float64), 0.9, axis)) <= 2


def test_empty_batches_stay_empty() -> None:
    assert kernels.activation_percentile(np.empty((0, 60, 34)), 0.99, 1).shape == (0, 34)
    assert ops.activation_percentile(torch.empty(3, 60, 0), 0.99, 1).shape == (3, 0)


def test_threads_change_nothing() -> None:
    for q in (0.99, 0.5):
        for x in (noise(300, 60, 34), noise(2, 60, 9000), noise(9000, 60, 1)):
            alone = kernels.activation_percentile(x, q, 1)
            assert np.array_equal(kernels.activation_percentile(x, q, 1, threads=3), alone)


def test_callers_from_several_threads() -> None:
    x = noise(300, 60, 34)
    expected = kernels.activation_percentile(x, 0.99, 1)
    start = threading.Barrier(4)

    def work() -> bool:
        start.wait()
        return all(
            np.array_equal(kernels.activation_percentile(x, 0.99, 1, threads=2), expected)
            for _ in range(20)
        )

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work) for _ in range(4)]
        assert all(future.result(timeout=60) for future in futures)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_use_threads() -> None:
    """In a process of its own, which has no other threads that forking could upset."""
    program = """
import os, signal
import numpy as np
from detach.kernels import activation_percentile
x = np.random.default_rng(0).standard_normal((300, 60, 34))
expected = activation_percentile(x, 0.99, 1, threads=2)
child = os.fork()
if child == 0:
    signal.alarm(20)
    same = np.array_equal(activation_percentile(x, 0.99, 1, threads=2), expected)
    os._exit(0 if same else 1)
raise SystemExit(os.waitpid(child, 0)[1])
"""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], env=environment, timeout=60, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q": 1.01}, "q must be in"),
        ({"q": -0.1}, "q must be in"),
        ({"q": float("nan")}, "q must be in"),
        ({"axis": 3}, "axis must be in"),
        ({"axis": 1, "x": np.zeros((2, 0, 3))}, "must not be empty"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernels.activation_percentile(**{"x": noise(2, 5, 3), **arguments})


def test_wrong_types_are_named() -> None:
    with pytest.raises(TypeError, match="x must hold real numbers"):
        kernels.activation_percentile(np.zeros(3, complex))
    with pytest.raises(TypeError, match="x must be floating point or int16"):
        ops.activation_percentile(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="dim must be in"):
        ops.activation_percentile(torch.zeros(3), dim=1)


def test_without_the_extension_numpy_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(4, 60, 7)
    x[1, 2, 3] = np.nan
    expected = kernels.activation_percentile(x, 0.3, 1, absolute=True)
    monkeypatch.setattr(kernels, "_missing", "no module")
    assert kernels.info()["extension"] is False
    result = kernels.activation_percentile(x, 0.3, 1, absolute=True)
    np.testing.assert_allclose(result, expected, rtol=2e-7)


def test_self_test_passes() -> None:
    assert kernels.self_test() <= 2


@pytest.mark.parametrize("q", [0.0, 0.03, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("absolute", [False, True])
def test_operator_agrees_with_the_equation(backend: str, q: float, absolute: bool) -> None:
    # The equation itself rounds differences to float32; the kernels interpolate in double.
    rtol, atol = (2e-6, 2e-7) if backend == "reference" else (2e-7, 1e-9)
    x = torch.from_numpy(noise(5, 60, 34))
    x[1, 3, 2] = torch.nan
    for dim in (0, 1, 2, -1):
        truth = equations.activation_percentile(x.double(), q, dim, absolute)
        result = ops.activation_percentile(x, q, dim, absolute=absolute)
        assert result.is_contiguous()
        torch.testing.assert_close(result.double(), truth, rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("q", [0.99, 0.5, 1.0])
def test_gradient_is_that_of_torch_quantile(q: float) -> None:
    ours = torch.from_numpy(noise(4, 60, 7, dtype=np.float64)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    torch.manual_seed(0)
    incoming = torch.randn(4, 7, dtype=torch.float64)
    ops.activation_percentile(ours, q, 1, absolute=True).backward(incoming)
    torch.quantile(theirs.abs(), q, dim=1).backward(incoming)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_gradcheck() -> None:
    x = torch.from_numpy(noise(3, 11, 4, dtype=np.float64)).requires_grad_()
    for q in (0.99, 0.4):
        assert torch.autograd.gradcheck(lambda x, q=q: ops.activation_percentile(x, q, 1), [x])
        assert torch.autograd.gradgradcheck(lambda x, q=q: ops.activation_percentile(x, q, 1), [x])


def test_compiles_in_one_graph() -> None:
    x = torch.from_numpy(noise(3, 60, 4)).requires_grad_()

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return 2 * ops.activation_percentile(x, 0.99, 1, absolute=True)

    compiled = torch.compile(scaled, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), scaled(x))
    (compiled_grad,) = torch.autograd.grad(compiled(x).sum(), x)
    (eager_grad,) = torch.autograd.grad(scaled(x).sum(), x)
    torch.testing.assert_close(compiled_grad, eager_grad)


def test_backend_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.delenv("DETACH_BACKEND", raising=False)
    assert ops.backend(cpu)[0] == ("cpu" if kernels.available() else "torch")
    monkeypatch.setenv("DETACH_BACKEND", "reference")
    assert ops.backend(cpu) == ("reference", "DETACH_BACKEND=reference")
    monkeypatch.setenv("DETACH_BACKEND", "fastest")
    with pytest.raises(ValueError, match="must be one of cuda, cpu, torch, reference"):
        ops.activation_percentile(torch.zeros(3))
    monkeypatch.setenv("DETACH_BACKEND", "cuda")
    with pytest.raises(ValueError, match="cannot serve a tensor on cpu"):
        ops.activation_percentile(torch.zeros(3))
