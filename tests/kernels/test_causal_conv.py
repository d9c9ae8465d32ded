"""Kernels of the causal convolution: their twins, any shape, threads; each is the transpose of the others."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

import minitf as mt
from minitf.kernels import causal_conv as kernels
from minitf.nn.functional import causal_conv1d


def draw(rng, B, T, C, W):
    return rng.standard_normal((B, T + W - 1, C)), rng.standard_normal((C, W)), rng.standard_normal((B, T, C))


def agree_all(x, w, y):
    agree(kernels.convolve, kernels.convolve_twin, x, w, scale=2)
    agree(kernels.spread, kernels.spread_twin, y, w, scale=2)
    agree(kernels.correlate, kernels.correlate_twin, x, y, scale=10)


@given(
    st.integers(0, 10**6), st.integers(0, 3), st.integers(0, 9), st.sampled_from([0, 1, 3, 64, 65, 130]),
    st.integers(1, 6),
)  # fmt: skip
def test_twins(seed, B, T, C, W):
    agree_all(*draw(np.random.default_rng(seed), B, T, C, W))


def test_threads_share_the_rows():
    agree_all(*draw(np.random.default_rng(0), 2, 260, 300, 4))


def test_large_small_and_missing_values():
    x, w, _ = draw(np.random.default_rng(0), 1, 20, 70, 4)
    x[0, 3], x[0, 9, 5], x[0, 12, 6], x[0, 15, 7] = 1e-40, np.inf, np.nan, 1e30
    agree(kernels.convolve, kernels.convolve_twin, x, w)
    y = kernels.convolve(x, w, threads=1)
    seen = np.zeros(y.shape, bool)
    seen[0, 9 - 3 : 10, 5] = seen[0, 12 - 3 : 13, 6] = True  # four windows each
    np.testing.assert_array_equal(np.isfinite(y), ~seen)


def test_each_is_the_transpose_of_the_others():
    x, w, y = draw(np.random.default_rng(0), 2, 50, 70, 4)
    form = np.sum(kernels.convolve(x, w, threads=2) * y)
    np.testing.assert_allclose(np.sum(kernels.spread(y, w, threads=2) * x), form, rtol=1e-12)
    np.testing.assert_allclose(np.sum(kernels.correlate(x, y, threads=2) * w), form, rtol=1e-12)


def test_the_primitive_runs_the_kernel_or_its_twin():
    x, w, _ = (a.astype(np.float32) for a in draw(np.random.default_rng(0), 1, 97, 70, 4))
    run = lambda: causal_conv1d(x[:, 3:], w, state=x[:, :3]).data
    np.testing.assert_array_equal(run(), kernels.convolve(x, w, threads=1))
    with mt.config(kernels="numpy"):
        np.testing.assert_array_equal(run(), kernels.convolve_twin(x, w))


def test_derivatives_through_the_kernels():
    x, w, _ = draw(np.random.default_rng(0), 1, 60, 70, 3)
    mt.check_grads(lambda x, w: causal_conv1d(x, w), x, w)
