"""LSH attention kernels: their twins over options, tokens that see nothing, any number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

from minitf.kernels import lsh_attention as kernels
from minitf.kernels.lsh_attention import Shape


def problem(seed, R, chunk, chunks, rounds, E, W, *, padded, bucketed):
    rng = np.random.default_rng(seed)
    T = chunk * chunks
    buckets = rng.integers(0, chunks, (R, rounds, T)) + chunks * np.arange(rounds)[:, None]
    order = np.argsort(buckets, axis=-1, kind="stable")
    valid = rng.random((R, T)) < (0.7 if padded else 2)
    seen = buckets if bucketed else np.empty((0, 0, 0), np.int64)
    return rng.standard_normal((R, T, E)), rng.standard_normal((R, T, W)), order, valid, seen


def check(seed, *sizes, scale=4.0, padded=False, bucketed=False, ring=True, causal=True, once=False):
    arrays = problem(seed, *sizes, padded=padded, bucketed=bucketed)
    shape = Shape(sizes[1], ring, causal, once, sizes[4] ** -0.5, 1e-6)
    agree(kernels.lsh_attention, kernels.lsh_attention_twin, *arrays, shape=shape, scale=scale)
    out, lse = kernels.lsh_attention_twin(*arrays, shape=shape)
    g, g_lse = np.random.default_rng(seed).standard_normal(out.shape), np.ones(lse.shape)
    given = *arrays, lse, (g * out).sum(-1) - g_lse, g
    agree(kernels.lsh_attention_vjp, kernels.lsh_attention_vjp_twin, *given, shape=shape, scale=4 * scale)


OPTIONS = {name: st.booleans() for name in ("padded", "bucketed", "ring", "causal", "once")}


@given(
    st.integers(0, 10**6),
    st.tuples(*(st.integers(1, n) for n in (3, 6, 4, 3, 6, 6))),
    st.fixed_dictionaries(OPTIONS),
)
def test_twins(seed, sizes, options):
    check(seed, *sizes, **options)


def test_twins_when_threads_share_the_rows():
    check(0, 9, 16, 8, 3, 16, 8, scale=8)


@pytest.mark.parametrize("causal", [True, False])
def test_tokens_that_see_nothing_keep_their_value(causal):
    qk, v, order, valid, none = problem(0, 2, 4, 3, 2, 4, 3, padded=False, bucketed=False)
    qk[1], valid[0, 5] = 0, False
    shape = Shape(4, True, causal, False, 0.5, 0.0)
    out, lse = kernels.lsh_attention(qk, v, order, valid, none, shape=shape, threads=1)
    np.testing.assert_array_equal(out[0, 5], v[0, 5])
    assert lse[0, 5] == -np.inf
    dqk, dv = kernels.lsh_attention_vjp(qk, v, order, valid, none, lse, (out * v).sum(-1), v, shape=shape, threads=1)
    assert not dqk[0, 5].any()
    np.testing.assert_array_equal(dv[0, 5], v[0, 5])
    assert np.isfinite(dqk).all()
