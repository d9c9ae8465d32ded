"""Neighbourhood attention kernels: their twins over sizes, dilations and borders, extreme logits, threads, memory."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

from minitf.kernels import neighborhood as kernels

#: kernel size, dilation and pixels in excess of their product, along one axis
AXIS = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(0, 7))


def check(seed, B, H, axes, E, W, *, biased, scale=4.0):
    rng = np.random.default_rng(seed)
    size, dilation = tuple(a[0] for a in axes), tuple(a[1] for a in axes)
    lead = (B, H, *(a[0] * a[1] + a[2] for a in axes))
    q, k, v = rng.standard_normal((*lead, E)), rng.standard_normal((*lead, E)), rng.standard_normal((*lead, W))
    bias = rng.standard_normal((H, *(2 * s - 1 for s in size))) if biased else None
    choices = {"size": size, "dilation": dilation, "scale": E**-0.5}
    both = (partial(f, **choices) for f in (kernels.na2d, kernels.na2d_twin))
    agree(*both, q, k, v, bias, scale=scale)
    out, lse = kernels.na2d_twin(q, k, v, bias, **choices)
    g, g_lse = rng.standard_normal(out.shape), rng.standard_normal(lse.shape)
    both = (partial(f, **choices, of_bias=biased) for f in (kernels.na2d_vjp, kernels.na2d_vjp_twin))
    agree(*both, q, k, v, bias, out, lse, g, g_lse, scale=2 * scale)


@given(
    st.integers(0, 10**6), st.integers(0, 2), st.integers(1, 3), st.tuples(AXIS, AXIS), st.integers(1, 9),
    st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_twins(seed, B, H, axes, E, W, biased):
    check(seed, B, H, axes, E, W, biased=biased)


@pytest.mark.parametrize(
    "axes",
    [
        ((7, 1, 61), (3, 1, 45)),  # many strips of 9 rows
        ((9, 3, 57), (1, 1, 20)),  # of 13, in each of three residues
        ((3, 1, 700), (1, 1, 0)),  # a sequence, strips of 256
        ((15, 1, 38), (15, 1, 0)),  # all columns, and strips of 21 rows, the last of 11
        ((33, 1, 20), (1, 1, 5)),  # two strips, the second within reach of the last keys
    ],
)
def test_twins_when_threads_share_the_strips(axes):
    check(0, 1, 2, axes, 8, 5, biased=True, scale=8)


@pytest.mark.parametrize("size", [3, 5, 7, 21])
@pytest.mark.parametrize("X", [1, 16, 300])
def test_strips_of_one_turn_share_no_key(size, X):
    """What ``na2d_vjp`` rests on, for every length up to some strips."""
    height = kernels.strip_height(size, X)
    for length in range(size, 6 * height, max(1, height // 7)):
        first = kernels.starts(length, size, 1)
        strips = [first[s : s + height] for s in range(0, length, height)]
        for one, next_but_one in zip(strips, strips[2:], strict=False):
            assert one.max() + size <= next_but_one.min()


def test_extreme_logits_and_queries_that_see_nothing():
    rng = np.random.default_rng(0)
    q, k, v, g = rng.standard_normal((4, 1, 6, 9, 9, 4))
    q[0, 0], k[0, 1], q[0, 2] = 1e30, -1e8, 1e-40
    bias = np.zeros((6, 5, 5))
    bias[3], bias[4, 2:], bias[5, :, ::2] = -np.inf, -np.inf, -np.inf
    choices = {"size": (3, 3), "dilation": (2, 1), "scale": 0.5}
    both = (partial(f, **choices) for f in (kernels.na2d, kernels.na2d_twin))
    agree(*both, q, k, v, bias, dtypes=("float64",), scale=4)
    out, lse = kernels.na2d(q, k, v, bias, **choices, threads=1)
    assert not out[0, 3].any()
    assert (lse[0, 3] == -np.inf).all()
    assert np.isfinite(out).all()
    back = kernels.na2d_vjp(q, k, v, bias, out, lse, g, np.zeros_like(lse), **choices, of_bias=True, threads=1)
    assert all(np.isfinite(x).all() for x in back)
    assert not any(x[0, 3].any() for x in back[:3])
    assert not back[3][3].any()


def test_what_no_query_sees_spoils_only_those_that_see_it():
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 1, 9, 9, 4))
    v[0, 0, 0, 0] = np.nan
    out, _ = kernels.na2d(q, k, v, None, size=(3, 3), dilation=(1, 1), scale=1.0, threads=1)
    spoiled = np.isnan(out[0, 0]).any(-1)
    np.testing.assert_array_equal(np.argwhere(spoiled), [[0, 0], [0, 1], [1, 0], [1, 1]])


def test_memory_is_that_of_the_maps():
    q, k, v, g = np.random.default_rng(0).standard_normal((4, 1, 2, 40, 40, 8)).astype(np.float32)
    bias, choices = np.zeros((2, 13, 13), np.float32), {"size": (7, 7), "dilation": (1, 1), "scale": 1.0}

    def both():
        out, lse = kernels.na2d(q, k, v, bias, **choices, threads=1)
        kernels.na2d_vjp(q, k, v, bias, out, lse, g, lse, **choices, of_bias=True, threads=1)

    both()
    tracemalloc.start()
    both()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * q.nbytes  # out, three cotangents, lse, parts of the bias; keys beside each other would be 49
