"""The CPU kernels of the weighted contrastive loss, on raw addresses, against equations.py."""

import math
import threading
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .contrast_calls import (  # type: ignore[import-not-found]
    _C,
    FORMS,
    TOLERANCE,
    Form,
    Mask,
    Result,
    assert_close,
    assert_equal,
    assert_same,
    kernel,
    make,
    masks,
    reference,
    ring,
)

TEMPORAL = (False, True, False, True)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("n", [1, 2, 5, 47, 97, 130])
def test_is_what_the_equations_say(n: int, dtype: torch.dtype, form: Form) -> None:
    features = [x / 4 if not form.normalize else x for x in make(n, seed=n)]
    expected = reference(features, form)
    for saved in (True, False):
        assert_same(kernel(features, form, dtype=dtype, saved=saved), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("widths", [(2, 3, 1), (16, 1, 100), (256, 256, 256), (300, 7, 520)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_any_width(widths: Sequence[int], dtype: torch.dtype) -> None:
    features = make(53, widths)
    for form in (FORMS[0], FORMS[2]):
        assert_same(
            kernel(features, form, dtype=dtype), reference(features, form), TOLERANCE[dtype]
        )


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 60),
    widths=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 1000),
)
def test_any_shape(n: int, widths: tuple[int, int, int], form: Form, seed: int) -> None:
    features = [x / 4 if not form.normalize else x for x in make(n, widths, seed)]
    result = kernel(features, form)
    expected = reference(features, form)
    assert_close(result.loss, expected.loss, 1e-12)
    for a, b, x in zip(result.gradients, expected.gradients, features, strict=False):
        # Short rows have large derivatives across, which cancel along.
        assert_close(a, b, 1e-12 / min(1.0, float(x.norm(dim=1).min())))


@pytest.mark.parametrize("n", [1024, 1100])  # tiles of 48 and of 96 rows
def test_many_windows(n: int) -> None:
    features = make(n, (24, 16, 8))
    expected = reference(features, FORMS[0])
    assert_same(kernel(features, FORMS[0]), expected, 1e-12)
    single = kernel(features, FORMS[0], dtype=torch.float32)
    assert abs(single.loss.mean() / expected.loss.mean() - 1) <= 1.2e-7
    for a, b in zip(single.gradients, expected.gradients, strict=True):
        assert_close(a, b, 5e-7)


def test_float32_errs_at_most_twice_what_torch_errs() -> None:
    features = make(257, (256, 256, 256))
    expected = reference(features, FORMS[0])
    torch_result = reference(features, FORMS[0], dtype=torch.float32)
    result = kernel(features, FORMS[0], dtype=torch.float32)
    for ours, theirs, truth in zip(
        [result.loss, *result.gradients],
        [torch_result.loss, *torch_result.gradients],
        [expected.loss, *expected.gradients],
        strict=True,
    ):
        assert ours is not None
        assert theirs is not None
        assert truth is not None
        assert (ours - truth).norm() <= 2 * (theirs - truth).norm() + 1e-9 * truth.norm()


@pytest.mark.parametrize("saved", [True, False])
def test_only_what_is_wanted_is_computed(saved: bool) -> None:
    features = make(101)
    everything = kernel(features, FORMS[0], saved=saved)
    for wanted in (TEMPORAL, (True, False, False, False), (False, False, True, True)):
        some = kernel(features, FORMS[0], saved=saved, wanted=wanted)
        for a, b, want in zip(some.gradients, everything.gradients, wanted, strict=True):
            assert (a is None) == (not want)
            if want:  # computed again, tiles come in other groups
                assert_close(a, b, 0.0 if saved else 1e-14)


@pytest.mark.parametrize(
    ("form", "saved"), [(FORMS[0], True), (FORMS[2], False), (Form(temperature=0.004), True)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_number_of_threads_changes_no_bit(form: Form, saved: bool, dtype: torch.dtype) -> None:
    features = make(301)
    one = kernel(features, form, dtype=dtype, saved=saved)
    for threads in (2, 3):
        assert_equal(kernel(features, form, dtype=dtype, saved=saved, threads=threads), one)


@pytest.mark.parametrize("name", ["dense", "reach", "both"])
@pytest.mark.parametrize("n", [3, 50, 97])
def test_pairs_are_left_out(n: int, name: str) -> None:
    features = make(n)
    mask = masks(n)[name]
    for form in (FORMS[0], FORMS[2], Form(temperature=0.003)):
        expected = reference(features, form, mask)
        for saved in (True, False):
            assert_same(kernel(features, form, mask=mask, saved=saved), expected, 2e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.001])
def test_a_window_without_negatives_has_no_loss(temperature: float) -> None:
    mask = Mask(dense=torch.ones(60, 60, dtype=torch.bool))
    form = Form(temperature=temperature)
    result = kernel(make(60), form, mask=mask, dtype=torch.float32)
    assert torch.equal(result.loss, torch.zeros(2, 60, dtype=torch.float64))
    assert torch.equal(result.mean_weight, torch.zeros(2, 60, dtype=torch.float64))
    for gradient in result.gradients:
        assert gradient is not None
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("rows", [(0, 40), (40, 97), (96, 97), (0, 97), (10, 10)])
@pytest.mark.parametrize("name", ["dense", "both"])
def test_some_rows_against_all(rows: tuple[int, int], name: str) -> None:
    features, n = make(97), 97
    start, stop = rows
    mask = masks(n)[name]
    for form in (FORMS[0], FORMS[2]):
        whole = kernel(features, form, mask=mask)
        for saved in (True, False):
            pieces = [
                kernel(features, form, mask=mask, rows=r, saved=saved)
                for r in ((0, start), (start, stop), (stop, n))
            ]
            assert_close(torch.cat([p.loss for p in pieces], dim=1), whole.loss, 1e-13)
            mean = torch.cat([p.mean_weight for p in pieces], dim=1)
            assert_close(mean, whole.mean_weight, 1e-13)
            for half, gradient in enumerate(whole.gradients):
                parts = [p.gradients[half] for p in pieces]
                assert_close(sum(parts[1:], parts[0]), gradient, 1e-12)


@pytest.mark.parametrize("cuts", [(0, 97), (0, 50, 97), (0, 1, 49, 97), (0, 10, 60, 61, 97)])
@pytest.mark.parametrize("form", [FORMS[0], FORMS[2], FORMS[7], Form(temperature=0.004)], ids=str)
def test_pairs_of_blocks_add_up_to_the_batch(cuts: Sequence[int], form: Form) -> None:
    features = make(97)
    mask = masks(97)["both"]
    whole = reference(features, form, mask)
    for saved in (True, False):
        assert_same(ring(features, form, mask, cuts, saved=saved), whole, 2e-12)


@pytest.mark.parametrize("temperature", [0.03, 0.02, 1e-2, 1e-3])
@pytest.mark.parametrize("n", [5, 97])
def test_low_temperature(n: int, temperature: float) -> None:
    features = make(n, alike=2.0)
    for form in (Form(temperature=temperature), Form(temperature=temperature, temporal="cross")):
        expected = reference(features, form)
        assert_same(kernel(features, form), expected, 1e-11)
        for dtype in (torch.float32, torch.float64):
            result = kernel(features, form, dtype=dtype)
            error = 4e-7 / temperature if dtype == torch.float32 else 1e-11
            assert_close(result.loss, expected.loss, error)
            for a, b in zip(result.gradients, expected.gradients, strict=True):
                assert_close(a, b, 4 * error)


@pytest.mark.parametrize("length", [1e-3, 30.0, 1e4])
def test_features_of_any_length(length: float) -> None:
    form = Form(normalize=False, temperature=1.0)
    features = [x * length for x in make(60)]
    # Logits of 1e10 have an absolute error of 1e-6 in float64.
    tolerance = max(1e-12, 2e-14 * length**2)
    assert_same(kernel(features, form), reference(features, form), tolerance)


@pytest.mark.parametrize("length", [1e-15, 30.0, 1e5, 1e12, 1e17])
def test_features_of_any_length_stay_finite(length: float) -> None:
    form = Form(normalize=False, temperature=1.0)
    features = [(x * length).float() for x in make(60)]
    result = kernel(features, form, dtype=torch.float32)
    assert_close(result.loss, reference(features, form).loss, 1e-5)
    assert all(g is not None and bool(g.isfinite().all()) for g in result.gradients)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.1, 0.003])
@pytest.mark.parametrize("half", range(6))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_nan_is_not_lost(value: float, temperature: float, half: int, dtype: torch.dtype) -> None:
    features = make(60)
    features[half][7, 3] = value
    for form in (Form(temperature=temperature), Form(temperature=temperature, temporal="none")):
        expected = reference(features, form)
        for saved in (True, False):
            result = kernel(features, form, dtype=dtype, saved=saved)
            assert torch.equal(result.loss.isnan(), expected.loss.isnan())
            for a, b in zip(result.gradients, expected.gradients, strict=True):
                assert a is not None
                assert b is not None
                assert torch.equal(a.isnan(), b.isnan())


def test_a_bad_window_that_is_left_out_hurts_only_itself() -> None:
    features = make(60)
    clean = make(60)
    features[1][7] = math.nan
    dense = torch.zeros(60, 60, dtype=torch.bool)
    dense[7] = dense[:, 7] = True
    mask = Mask(dense=dense)
    result, expected = kernel(features, FORMS[0], mask=mask), kernel(clean, FORMS[0], mask=mask)
    others = torch.arange(60) != 7
    assert_close(result.loss[:, others], expected.loss[:, others], 1e-15)
    assert bool(result.loss[:, 7].isnan().all())


@pytest.mark.parametrize("length", [0.0, 1e-13, 1e-12, 1e-11])
@pytest.mark.parametrize("halves", [(0,), (1,), (0, 1), (0, 1, 2, 3), (4,)])
@pytest.mark.parametrize("wanted", [(True,) * 4, TEMPORAL])
def test_rows_of_no_length(halves: Sequence[int], length: float, wanted: Sequence[bool]) -> None:
    features = make(60)
    for half in halves:
        row = features[half][9]
        features[half][9] = row / row.norm() * length
    expected = reference(features, FORMS[0])
    for saved in (True, False):
        result = kernel(features, FORMS[0], saved=saved, wanted=wanted)
        assert_close(result.loss, expected.loss, 1e-12)
        for a, b in zip(result.gradients, expected.gradients, strict=True):
            if a is not None:
                assert b is not None
                assert_close(a[9], b[9], 1e-9)
                assert_close(a[:9], b[:9], 1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_two_callers_at_once(threads: int) -> None:
    batches = [make(n, seed=n) for n in (150, 97)]
    alone = [kernel(f, FORMS[0], dtype=torch.float32) for f in batches]
    found: list[list[Result]] = [[], []]

    def work(k: int) -> None:
        for _ in range(8):
            result = kernel(batches[k], FORMS[0], dtype=torch.float32, threads=threads)
            found[k].append(result)

    callers = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for k in (0, 1):
        assert len(found[k]) == 8
        for result in found[k]:
            assert_equal(result, alone[k])


@pytest.mark.parametrize("n", [1, 64, 100, 257, 1000, 1100, 4096])
def test_saved_exponentials_are_few(n: int) -> None:
    few = 48 * n + 64  # lengths, and rows padded to whole registers
    assert n * n <= _C.contrast_batch_saved_size(n, 0, n) <= 1.02 * n * n + few
    rows = n // 2 - n // 4
    assert _C.contrast_batch_saved_size(n, n // 4, n // 2) <= 1.02 * 2 * n * rows + 2 * few


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (Form(temperature=0.0), "temperature"),
        (Form(temperature=math.nan), "temperature"),
        (Form(lambda_hard=-1.0), "lambda_hard"),
        (Form(power=3), "power"),
    ],
)
def test_arguments_out_of_range_are_named(form: Form, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        kernel(make(3), form)


def test_shapes_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="threads"):
        kernel(make(3), FORMS[0], threads=0)
    with pytest.raises(ValueError, match="rows"):
        _C.contrast_batch_saved_size(3, 2, 4)
    with pytest.raises(ValueError, match="width"):
        kernel(make(3, (4, 0, 4)), FORMS[0])
    with pytest.raises(ValueError, match="reach"):
        kernel(make(3), FORMS[0], mask=Mask(reach=1.0))


def test_says_what_it_runs_with() -> None:
    assert _C.contrast_simd() in ("avx2", "neon", "plain")
