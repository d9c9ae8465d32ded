"""Kernels of RWKV's averages: their twins, any shape, keys of any size, masked tokens, threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, close

import minitf as mt
from minitf.kernels import wkv as kernels
from minitf.recurrent.rwkv import wkv4, wkv6

SEEDS, SMALL = st.integers(0, 10**6), st.integers(0, 3)
LENGTHS = st.sampled_from([0, 1, 2, 3, 4, 9, 17])


def draw4(rng, B, T, C, fresh=False, masked=0.0):
    k, v = rng.standard_normal((2, B, T, C)) * 3
    k[rng.random(k.shape) < masked] = -np.inf
    arrays = k, v, rng.uniform(0.01, 2, C), rng.standard_normal(C)
    if fresh:
        return *arrays, *np.zeros((2, B, C)), np.full((B, C), -1e38)
    return *arrays, rng.standard_normal((B, C)), rng.uniform(1, 2, (B, C)), rng.standard_normal((B, C))


def draw6(rng, B, H, T, E, M):
    r, k, w = rng.standard_normal((3, B, H, T, E))
    v, S = rng.standard_normal((B, H, T, M)), rng.standard_normal((B, H, E, M))
    return r, k, v, 1 / (1 + np.exp(-w)), rng.standard_normal((H, E)), S


def agree4(rng, arrays):
    agree(kernels.wkv4, kernels.wkv4_twin, *arrays, scale=4)
    cotangents = rng.standard_normal(arrays[0].shape), *rng.standard_normal((3, *arrays[4].shape))
    agree(kernels.wkv4_vjp, kernels.wkv4_vjp_twin, *cotangents, *arrays, scale=40)


def agree6(rng, arrays):
    agree(kernels.wkv6, kernels.wkv6_twin, *arrays, scale=4)
    cotangents = rng.standard_normal(arrays[2].shape), rng.standard_normal(arrays[5].shape)
    agree(kernels.wkv6_vjp, kernels.wkv6_vjp_twin, *cotangents, *arrays, scale=20)


@given(SEEDS, SMALL, LENGTHS, st.sampled_from([0, 1, 3, 64, 65, 130]), st.booleans())
def test_wkv4(seed, B, T, C, fresh):
    rng = np.random.default_rng(seed)
    agree4(rng, draw4(rng, B, T, C, fresh, masked=0.1))


@given(SEEDS, SMALL, SMALL, LENGTHS, st.sampled_from([0, 1, 3, 8]), st.sampled_from([0, 1, 5, 16]))
def test_wkv6(seed, B, H, T, E, M):
    rng = np.random.default_rng(seed)
    agree6(rng, draw6(rng, B, H, T, E, M))


def test_threads_share_the_rows():
    rng = np.random.default_rng(0)
    agree4(rng, draw4(rng, 2, 130, 200))
    agree6(rng, draw6(rng, 2, 3, 40, 24, 20))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keys_of_any_size(dtype):
    k, *rest = (x.astype(dtype) for x in draw4(np.random.default_rng(0), 2, 40, 70, fresh=True))
    k *= np.asarray([1, 500, 1e30, 1e-40], dtype)[np.arange(40) % 4][:, None]
    cotangents = np.ones_like(k), *np.zeros((3, 2, 70), dtype)
    for kernel, arrays in ((kernels.wkv4, (k, *rest)), (kernels.wkv4_vjp, (*cotangents, k, *rest))):
        twin = getattr(kernels, f"{kernel.__name__}_twin")
        with np.errstate(over="ignore"):
            wanted = twin(*arrays)
        for got, want in zip(kernel(*arrays, threads=2), wanted, strict=True):
            assert np.isfinite(got).all()
            close(got, want, 1e-5 if dtype == "float32" else 1e-13)


def test_masked_tokens_count_for_nothing():
    k, v, *rest = draw4(np.random.default_rng(0), 1, 6, 5, fresh=True)
    k[:, [0, 1, 3]] = -np.inf
    y, a, b, p = kernels.wkv4(k, v, *rest, threads=1)
    np.testing.assert_array_equal(y[:, :2], 0)
    v[:, [0, 1, 3]] = 7
    np.testing.assert_array_equal(kernels.wkv4(k, v, *rest, threads=1)[0], y)
    gk, gv, *_ = kernels.wkv4_vjp(np.ones_like(y), a, b, p, k, v, *rest, threads=1)
    np.testing.assert_array_equal(gk[:, [0, 1, 3]], 0)
    np.testing.assert_array_equal(gv[:, [0, 1, 3]], 0)
    assert (gv[:, [2, 4, 5]] != 0).all()


@pytest.mark.parametrize("which", [0, 1])
def test_nan_stays_in_its_channel_and_after_its_time(which):
    arrays = [x.astype(np.float32) for x in draw4(np.random.default_rng(0), 1, 6, 70)]
    clean = kernels.wkv4(*arrays, threads=1)[0]
    arrays[which][0, 2, 5] = np.nan
    y = kernels.wkv4(*arrays, threads=1)[0]
    touched = np.zeros(y.shape, bool)
    touched[0, 2:, 5] = True
    assert np.isnan(y[touched]).all()
    np.testing.assert_array_equal(y[~touched], clean[~touched])


def test_the_primitives_run_the_kernels_or_their_twins():
    rng = np.random.default_rng(0)
    four = [x.astype(np.float32) for x in draw4(rng, 1, 20, 70)]
    six = [x.astype(np.float32) for x in draw6(rng, 1, 2, 20, 16, 12)]
    run4 = lambda: wkv4(*four[:4], state=tuple(four[4:])).data
    run6 = lambda: wkv6(*six[:5], state=six[5]).data
    np.testing.assert_array_equal(run4(), kernels.wkv4(*four, threads=1)[0])
    np.testing.assert_array_equal(run6(), kernels.wkv6(*six, threads=1)[0])
    with mt.config(kernels="numpy"):
        np.testing.assert_array_equal(run4(), kernels.wkv4_twin(*four)[0])
        np.testing.assert_array_equal(run6(), kernels.wkv6_twin(*six)[0])


def test_derivatives_through_the_kernels():
    rng = np.random.default_rng(0)
    mt.check_grads(
        lambda k, v, w, u, *state: wkv4(k, v, w, u, state=state, return_state=True), *draw4(rng, 1, 4, 70), rtol=1e-5
    )
    mt.check_grads(
        lambda r, k, v, w, u, S: wkv6(r, k, v, w, u, state=S, return_state=True), *draw6(rng, 1, 2, 4, 17, 9)
    )  # fmt: skip


def test_read_only_arrays_run_the_same_code():
    arrays = [x.astype(np.float32) for x in draw6(np.random.default_rng(0), 1, 2, 4, 8, 8)]
    y = kernels.wkv6(*arrays, threads=1)[0]
    known = len(kernels._wkv6_rows.dispatcher().signatures)
    for x in arrays:
        x.flags.writeable = False
    np.testing.assert_array_equal(kernels.wkv6(*arrays, threads=1)[0], y)
    assert len(kernels._wkv6_rows.dispatcher().signatures) == known
