"""Kernels of the linear recurrence and the selective scan: their twins, any shape, extreme values, threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, close

import minitf as mt
from minitf.kernels import scan as kernels
from minitf.recurrent import linear_recurrence, mamba

SEEDS, SMALL = st.integers(0, 10**6), st.integers(0, 3)
CHANNELS = st.sampled_from([0, 1, 3, 64, 65, 130])  # around a block of 64


def draw_recurrence(rng, B, T, P):
    return rng.uniform(-1, 1, (B, T, P)), rng.standard_normal((B, T, P)), rng.standard_normal((B, P))


def draw_scan(rng, B, T, P, N, skip=True):
    u, dt, A = rng.standard_normal((B, T, P)), rng.uniform(0.01, 1, (B, T, P)), -rng.uniform(0.1, 3, (P, N))
    arrays = u, dt, A, *rng.standard_normal((2, B, T, N)), rng.standard_normal((B, P, N))
    return (*arrays, rng.standard_normal(P)) if skip else arrays


def agree_both_ways(rng, arrays, scale=4):
    (B, T, P), N = arrays[0].shape, arrays[2].shape[1]
    agree(kernels.selective_scan, kernels.selective_scan_twin, *arrays, scale=scale)
    cotangents = rng.standard_normal((B, T, P)), rng.standard_normal((B, P, N))
    agree(kernels.selective_scan_vjp, kernels.selective_scan_vjp_twin, *cotangents, *arrays, scale=10 * scale)


@given(SEEDS, SMALL, st.integers(0, 20), CHANNELS, st.booleans(), st.sampled_from([None, 1, 3, 7, 50]))
def test_linear_recurrence(seed, B, T, P, reverse, chunk):
    arrays = draw_recurrence(np.random.default_rng(seed), B, T, P)
    agree(
        kernels.linear_recurrence, kernels.linear_recurrence_twin, *arrays, scale=2, reverse=reverse, chunk=chunk
    )  # fmt: skip


@given(SEEDS, SMALL, st.sampled_from([0, 1, 2, 3, 4, 9, 17]), CHANNELS, st.integers(0, 5), st.booleans())
def test_selective_scan(seed, B, T, P, N, skip):
    rng = np.random.default_rng(seed)
    agree_both_ways(rng, draw_scan(rng, B, T, P, N, skip))


def test_threads_share_the_blocks():
    rng = np.random.default_rng(0)
    arrays = draw_recurrence(rng, 2, 300, 130)
    for chunk in (None, 64):
        agree(kernels.linear_recurrence, kernels.linear_recurrence_twin, *arrays, scale=2, chunk=chunk)
    agree_both_ways(rng, draw_scan(rng, 2, 100, 130, 5))


def test_a_chunk_of_all_steps_is_the_kernel_without_chunks():
    arrays = draw_recurrence(np.random.default_rng(0), 2, 30, 7)
    whole = kernels.linear_recurrence(*arrays, threads=1)
    np.testing.assert_array_equal(kernels.linear_recurrence(*arrays, chunk=30, threads=1), whole)
    assert (kernels.linear_recurrence(*arrays, chunk=29, threads=1) != whole).any()  # rounded otherwise


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_small_and_vanishing_steps(dtype):
    rng = np.random.default_rng(0)
    u, dt, A, B, C, h0, D = draw_scan(rng, 2, 12, 70, 3)
    dt[:, 2], dt[:, 5], dt[:, 7] = 0.0, 1e30, 1e-38  # keep the state, forget it, all but keep it
    u[:, 5] = 1e-30
    u[0, 8], h0[1, 0] = 1e-40, 1e25
    arrays = [x.astype(dtype) for x in (u, dt, A, B, C, h0, D)]
    for got, want in zip(kernels.selective_scan(*arrays, threads=2), kernels.selective_scan_twin(*arrays), strict=True):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-5)
    gradients = kernels.selective_scan_vjp(np.ones_like(arrays[0]), np.ones_like(arrays[5]), *arrays, threads=2)
    wanted = kernels.selective_scan_vjp_twin(np.ones_like(arrays[0]), np.ones_like(arrays[5]), *arrays)
    for got, want in zip(gradients, wanted, strict=True):
        close(got, want, 1e-5 if dtype == "float32" else 1e-12)


def test_nan_stays_in_its_channel_and_after_its_time():
    rng = np.random.default_rng(0)
    u, *rest = (x.astype(np.float32) for x in draw_scan(rng, 1, 6, 70, 3))
    clean = kernels.selective_scan(u, *rest, threads=1)[0]
    u[0, 2, 5] = np.nan
    y = kernels.selective_scan(u, *rest, threads=1)[0]
    touched = np.zeros(y.shape, bool)
    touched[0, 2:, 5] = True
    assert np.isnan(y[touched]).all()
    np.testing.assert_array_equal(y[~touched], clean[~touched])


def test_errors_in_float32_do_not_grow_with_length():
    arrays = draw_scan(np.random.default_rng(0), 1, 3000, 8, 4)
    exact = kernels.selective_scan_twin(*arrays)[0]
    rounded = kernels.selective_scan(*(x.astype(np.float32) for x in arrays), threads=1)[0]
    error = np.abs(rounded - exact).reshape(10, -1).max(axis=1)
    assert error.max() < 3e-6 * np.abs(exact).max()


def test_the_primitives_run_the_kernels_or_their_twins():
    rng = np.random.default_rng(0)
    arrays = [x.astype(np.float32) for x in draw_scan(rng, 1, 40, 70, 3)]
    u, dt, A, B, C, h0, D = arrays
    run = lambda: mamba.selective_scan(u, dt, A, B, C, D, state=h0).data
    np.testing.assert_array_equal(run(), kernels.selective_scan(*arrays, threads=1)[0])
    a, b, start = (x.astype(np.float32) for x in draw_recurrence(rng, 1, 40, 70))
    recur = lambda: linear_recurrence.gated_linear_recurrence(a, b, state=start).data
    np.testing.assert_array_equal(recur(), kernels.linear_recurrence(a, b, start, threads=1))
    with mt.config(kernels="numpy"):
        np.testing.assert_array_equal(run(), kernels.selective_scan_twin(*arrays)[0])
        np.testing.assert_array_equal(recur(), kernels.linear_recurrence_twin(a, b, start))


def test_derivatives_through_the_kernels():
    rng = np.random.default_rng(0)
    u, dt, A, B, C, h0, D = draw_scan(rng, 1, 5, 67, 2)
    mt.check_grads(
        lambda u, dt, A, B, C, D, h0: mamba.selective_scan(u, dt, A, B, C, D, state=h0, return_state=True),
        u, dt, A, B, C, D, h0,
    )  # fmt: skip
    a, b, start = draw_recurrence(rng, 1, 5, 67)
    mt.check_grads(
        lambda a, b, h: linear_recurrence.gated_linear_recurrence(a, b, state=h, form="chunked", chunk=2), a, b, start
    )


def test_read_only_arrays_run_the_same_code():
    arrays = [x.astype(np.float32) for x in draw_scan(np.random.default_rng(0), 1, 4, 8, 2)]
    y = kernels.selective_scan(*arrays, threads=1)[0]
    known = len(kernels._scan_rows.dispatcher().signatures)
    for x in arrays:
        x.flags.writeable = False
    np.testing.assert_array_equal(kernels.selective_scan(*arrays, threads=1)[0], y)
    assert len(kernels._scan_rows.dispatcher().signatures) == known
