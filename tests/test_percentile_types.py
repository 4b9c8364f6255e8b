"""The activation percentile of every number type, in every layout, against NumPy in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detach import equations, kernels, ops

LENGTHS = (1, 2, 3, 7, 8, 9, 16, 17, 60, 100, 101, 128, 201, 700, 1024, 1025, 1100)
QUANTILES = (0.0, 0.03, 0.4, 0.5, 0.8, 0.99, 1.0)
BACKENDS = ("cpu", "torch", "reference") if kernels.available() else ("torch", "reference")

# Digits, least exponent, largest error in units of the last place. Rounded once, from double, which
# gives half a unit; float64 itself adds the rounding of two products and a sum.
DTYPES = {
    torch.float32: (23, -126, 0.5001),
    torch.float64: (52, -1022, 2.0),
    torch.float16: (10, -14, 0.5001),
    torch.bfloat16: (7, -126, 0.5001),
    torch.int16: (23, -126, 0.5001),  # the result is float32
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv("DETACH_BACKEND", name)
    return name


def last_place(dtype: torch.dtype, values: NDArray[np.float64]) -> NDArray[np.float64]:
    digits, least, _ = DTYPES[dtype]
    exponent = np.maximum(np.frexp(np.abs(values))[1] - 1, least)
    place: NDArray[np.float64] = np.ldexp(1.0, exponent - digits)
    return place


def drawn(dtype: torch.dtype, ties: bool, shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
    if dtype == torch.int16:
        values = values * (3 if ties else 9000)
    elif ties:
        values = (values * 3).round() / 2
    return values.clamp(-30000, 30000).to(dtype)


@pytest.mark.parametrize("ties", [False, True], ids=["apart", "ties"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_layout_and_rank(backend: str, dtype: torch.dtype, ties: bool) -> None:
    limit = 2.0 if backend == "reference" else DTYPES[dtype][2]
    for length in LENGTHS if backend == "cpu" else (1, 17, 60):
        for width in (1, 3, 11, 34):
            x = drawn(dtype, ties, (3, length, width))
            layouts = (x, x.transpose(1, 2).contiguous().transpose(1, 2))
            for q in QUANTILES:
                magnitudes = np.abs(x.double().numpy())
                expected = np.quantile(magnitudes, q, axis=1)
                larger = np.quantile(magnitudes, q, axis=1, method="higher")
                place = last_place(dtype, larger if dtype == torch.float64 else expected)
                for layout in layouts:
                    result = ops.activation_percentile(layout, q, 1, absolute=True)
                    assert result.dtype == (torch.float32 if dtype == torch.int16 else dtype)
                    error = np.abs(result.double().numpy() - expected)
                    assert (error <= limit * place).all()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("length", [9, 60, 1100])
def test_nan_and_infinity_of_every_type(dtype: torch.dtype, length: int) -> None:
    x = drawn(dtype, False, (4, length, 11))
    x[0, length // 2, 3] = torch.nan
    x[1, 0, 4] = -torch.tensor(torch.nan)
    x[2, :, 5] = torch.inf
    x[3, :, 6] = -torch.inf
    for q in (0.0, 0.5, 0.99):
        for values in (x, x.transpose(1, 2).contiguous().transpose(1, 2)):
            result = ops.activation_percentile(values, q, 1)
            expected = torch.zeros(4, 11, dtype=torch.bool)
            expected[0, 3] = expected[1, 4] = True
            assert torch.equal(result.isnan(), expected)
            assert torch.equal(result.isinf().nonzero(), torch.tensor([[2, 5], [3, 6]]))
            assert result[2, 5] > 0 > result[3, 6]


@pytest.mark.skipif(not kernels.available(), reason="no extension")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_number_is_sorted_rightly(dtype: Any, data: st.DataObject) -> None:
    """Numbers next to each other, subnormal, of both signs and infinite: exact order statistics."""
    numbers = st.floats(allow_nan=False, width=np.dtype(dtype).itemsize * 8)
    length = data.draw(st.integers(1, 70))
    pool = data.draw(st.lists(numbers, min_size=1, max_size=length))
    x = np.random.default_rng(length).choice(np.array(pool, dtype), (length, 9))
    rank = data.draw(st.integers(0, length - 1))
    q = rank / max(length - 1, 1)
    if q * (length - 1) == rank:
        assert np.array_equal(kernels.activation_percentile(x, q, 0), np.sort(x, axis=0)[rank])
        assert np.array_equal(
            kernels.activation_percentile(x.T.copy(), q), np.sort(x, axis=0)[rank]
        )


def test_smallest_int16_has_a_magnitude(backend: str) -> None:
    x = torch.full((20, 9), -32768, dtype=torch.int16)
    for q in (0.5, 1.0):
        result = ops.activation_percentile(x, q, 0, absolute=True)
        assert torch.equal(result, torch.full((9,), 32768.0)), backend


def test_more_values_than_torch_quantile_takes() -> None:
    """2^24 + 4096 of them, in many rows and in one."""
    x = torch.arange(-2048, 2049, dtype=torch.int16)[:4096].repeat(4097, 1)
    assert x.numel() > 2**24
    assert torch.equal(ops.activation_percentile(x, 0.5), torch.full((4097,), -0.5))
    whole = ops.activation_percentile(x.view(-1), 1.0, absolute=True)
    assert whole == 2048
    assert ops.activation_percentile(x.view(-1), 0.5) == -0.5


def test_small_types_on_numpy_without_a_copy() -> None:
    """Not in the machine's byte order, read only, or of another type: converted instead."""
    x = drawn(torch.float32, False, (4, 60, 9)).numpy() * 40
    for given_type in ("<f2", ">f2", ">i2", "<i2", ">f4", ">f8", "i8"):
        values = x.astype(given_type)
        values.flags.writeable = False
        expected = np.quantile(values.astype(np.float64), 0.4, axis=1)
        result = kernels.activation_percentile(values, 0.4, 1)
        assert result.dtype.isnative
        np.testing.assert_allclose(result, expected, rtol=np.finfo(result.dtype).eps, atol=1e-7)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradient_of_small_types(dtype: torch.dtype) -> None:
    x = drawn(dtype, False, (5, 60, 9)).requires_grad_()
    truth = x.detach().double().requires_grad_()
    ops.activation_percentile(x, 0.99, 1).sum().backward()
    equations.activation_percentile(truth, 0.99, 1).sum().backward()
    assert x.grad is not None
    assert truth.grad is not None
    assert x.grad.dtype == dtype
    # Which of two equal values gets the share is open: compare the shares.
    ours, theirs = (g.double().sort(dim=1).values for g in (x.grad, truth.grad))
    torch.testing.assert_close(ours, theirs, rtol=2**-7, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_opcheck(dtype: torch.dtype, dim: int) -> None:
    x = drawn(dtype, False, (3, 11, 4))
    for view in (x, x.transpose(1, 2)):
        values = view.detach().requires_grad_(dtype.is_floating_point)
        op = torch.ops.detach.activation_percentile.default
        torch.library.opcheck(op, (values, 0.9, dim, True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("length", [1, 2, 9, 60, 101, 256, 257, 700, 1024, 1025, 3000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gpu_agrees_with_the_equation(length: int, dtype: torch.dtype) -> None:
    x = drawn(dtype, length == 101, (5, length, 34)).to("cuda")
    if dtype != torch.int16:
        x[1, length // 2, 2] = torch.nan
    place = {torch.float16: 2**-11, torch.bfloat16: 2**-8}.get(dtype, 1e-7)
    for q in QUANTILES:
        for dim in (0, 1, 2):
            for layout in (x, x.transpose(1, 2).contiguous().transpose(1, 2)):
                truth = equations.activation_percentile(x.double(), q, dim, absolute=True)
                result = ops.activation_percentile(layout, q, dim, absolute=True).double()
                torch.testing.assert_close(
                    result, truth, rtol=1.001 * place, atol=1e-7, equal_nan=True
                )
