"""Window attention kernels: their twins over windows and shifts, extreme logits, any number of threads, memory."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

from minitf.kernels import windows as kernels

#: side of a window, windows, shift
AXIS = st.integers(1, 4).flatmap(lambda M: st.tuples(st.just(M), st.integers(0, 3), st.integers(0, M - 1)))


def check(seed, B, H, axes, E, W, *, biased, scale=4.0):
    rng = np.random.default_rng(seed)
    lead = (B, H, *(M * count for M, count, _ in axes))
    q, k, v = rng.standard_normal((*lead, E)), rng.standard_normal((*lead, E)), rng.standard_normal((*lead, W))
    bias = rng.standard_normal((H, *(2 * a[0] - 1 for a in axes))) if biased else None
    choices = {"window": tuple(a[0] for a in axes), "shift": tuple(a[2] for a in axes), "scale": E**-0.5}
    both = (partial(f, **choices) for f in (kernels.window_attention, kernels.window_attention_twin))
    agree(*both, q, k, v, bias, scale=scale)
    out, lse = kernels.window_attention_twin(q, k, v, bias, **choices)
    g, g_lse = rng.standard_normal(out.shape), rng.standard_normal(lse.shape)
    back = kernels.window_attention_vjp, kernels.window_attention_vjp_twin
    both = (partial(f, **choices, of_bias=biased) for f in back)
    agree(*both, q, k, v, bias, out, lse, g, g_lse, scale=2 * scale)


@given(
    st.integers(0, 10**6), st.integers(0, 2), st.integers(1, 3), st.tuples(AXIS, AXIS), st.integers(1, 9),
    st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_twins(seed, B, H, axes, E, W, biased):
    check(seed, B, H, axes, E, W, biased=biased)


@pytest.mark.parametrize("shift", [0, 3])
def test_twins_when_threads_share_the_windows(shift):
    check(0, 2, 3, ((7, 5, shift), (7, 4, shift)), 16, 8, biased=True, scale=8)


def test_extreme_logits_and_queries_that_see_nothing():
    rng = np.random.default_rng(0)
    q, k, v, g = rng.standard_normal((4, 1, 5, 8, 8, 4))
    q[0, 0], k[0, 1], q[0, 2] = 1e30, -1e8, 1e-40
    bias = np.zeros((5, 7, 7))
    bias[3], bias[4, 2:] = -np.inf, -np.inf
    choices = {"window": (4, 4), "shift": (2, 1), "scale": 0.5}
    both = (partial(f, **choices) for f in (kernels.window_attention, kernels.window_attention_twin))
    agree(*both, q, k, v, bias, dtypes=("float64",), scale=4)
    out, lse = kernels.window_attention(q, k, v, bias, **choices, threads=1)
    assert not out[0, 3].any()
    assert (lse[0, 3] == -np.inf).all()
    assert np.isfinite(out).all()
    nothing = np.zeros_like(lse)
    back = kernels.window_attention_vjp(q, k, v, bias, out, lse, g, nothing, **choices, of_bias=True, threads=1)
    assert all(np.isfinite(x).all() for x in back)
    assert not any(x[0, 3].any() for x in back[:3])
    assert not back[3][3].any()


def test_partition_and_its_inverse():
    x = np.arange(2 * 6 * 8).reshape(2, 6, 8, 1)
    windows = kernels.partition(x, (3, 2), (1, 1))
    assert windows.shape == (2, 2, 4, 6, 1)
    np.testing.assert_array_equal(windows[0, 0, 0, :, 0], [9, 10, 17, 18, 25, 26])
    np.testing.assert_array_equal(windows[0, 1, 3, :, 0], [39, 32, 47, 40, 7, 0])
    np.testing.assert_array_equal(kernels.reverse(windows, (3, 2), (1, 1)), x)


def test_memory_is_that_of_the_maps():
    q, k, v, g = np.random.default_rng(0).standard_normal((4, 1, 2, 56, 56, 16)).astype(np.float32)
    bias, choices = np.zeros((2, 13, 13), np.float32), {"window": (7, 7), "shift": (3, 3), "scale": 1.0}

    def both():
        out, lse = kernels.window_attention(q, k, v, bias, **choices, threads=1)
        kernels.window_attention_vjp(q, k, v, bias, out, lse, g, lse, **choices, of_bias=True, threads=1)

    both()
    tracemalloc.start()
    both()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * q.nbytes  # out, three cotangents, lse, a window; the logits alone would be 49 / 16
