"""Attention kernels: their twins over shapes and options, extreme logits, any number of threads, memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

from minitf.kernels import attention as kernels
from minitf.kernels.attention import Extra, Shape


def nothing(R, dtype=np.float64):
    return Extra(np.empty((0, 0, 0), dtype), np.zeros(R, np.int64))


def problem(seed, R, T, S, E, W, group, *, reach="all", masked="", biased="", softcap=0.0, sinks=False):
    """(q, k, v, bias values, mask, sinks), the maps of rows, and the Shape."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.standard_normal(shape)
    q, k, v = draw(R, T, E), draw(R // group, S, E), draw(R // group, S, W)
    sizes = {"rows": (R, T, S), "queries": (1, T, S), "keys": (R // group, 1, S)}
    bias = draw(*sizes[biased]) if biased else np.empty((0, 0, 0))
    mask = rng.random(sizes[masked]) < 0.7 if masked else np.empty((0, 0, 0), bool)
    if masked == "queries":
        mask[:, -1:] = False
    maps = {"rows": np.arange(R), "queries": np.zeros(R, int), "keys": np.arange(R) // group, "": np.zeros(R, int)}
    nearest, farthest = {"all": (-T, S), "causal": (0, S), "window": (0, 3), "around": (-2, 2)}[reach]
    shape = Shape(group, E**-0.5, softcap, nearest, farthest)
    return (q, k, v, bias, mask, draw(R) if sinks else np.empty(0)), (maps[biased], maps[masked]), shape


def forward(function, maps, shape):
    return lambda q, k, v, bias, mask, sinks, **threads: function(
        q, k, v, Extra(bias, maps[0]), Extra(mask, maps[1]), sinks, shape=shape, **threads
    )


def backward(function, maps, shape, logits):
    return lambda q, k, v, bias, mask, lse, delta, g, **threads: function(
        q, k, v, Extra(bias, maps[0]), Extra(mask, maps[1]), lse, delta, g, shape=shape, logits=logits, **threads
    )


def check(seed, *sizes, **options):
    arrays, maps, shape = problem(seed, *sizes, **options)
    q, k, v, bias, mask, _ = arrays
    agree(forward(kernels.attention, maps, shape), forward(kernels.attention_twin, maps, shape), *arrays, scale=4)
    out, lse = forward(kernels.attention_twin, maps, shape)(*arrays)
    g = np.random.default_rng(seed).standard_normal(out.shape)
    delta = (g * out).sum(-1)
    agree(
        *(backward(f, maps, shape, bias.size > 0) for f in (kernels.attention_vjp, kernels.attention_vjp_twin)),
        q, k, v, bias, mask, np.where(np.isfinite(lse), lse, -np.inf), delta, g, scale=8,
    )  # fmt: skip


OPTIONS = {
    "reach": st.sampled_from(["all", "causal", "window", "around"]),
    "masked": st.sampled_from(["", "rows", "queries", "keys"]),
    "biased": st.sampled_from(["", "rows", "queries", "keys"]),
    "softcap": st.sampled_from([0.0, 2.0]),
    "sinks": st.booleans(),
}


@given(
    st.integers(0, 10**6),
    st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3), (2, 2)]),
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9), st.integers(1, 9)),
    st.fixed_dictionaries(OPTIONS),
)
def test_twins(seed, rows, sizes, options):
    check(seed, rows[0], *sizes, rows[1], **options)


@pytest.mark.parametrize(("reach", "rows", "group"), [("causal", 8, 1), ("around", 2, 2), ("all", 1, 1)])
def test_twins_over_several_blocks(reach, rows, group):
    check(0, rows, 300, 555, 8, 5, group, reach=reach, masked="queries", biased="keys", softcap=3.0)


def test_few_queries_against_many_keys():
    for T, group in ((1, 1), (1, 4), (3, 2)):
        for reach in ("causal", "window"):
            check(1, 4, T, 9000, 8, 6, group, reach=reach, masked="keys")


@pytest.mark.parametrize("T", [3, 300])
def test_extreme_logits_and_masked_rows(T):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 8, T, 4))
    q[0], k[1], q[2] = 1e30, -1e8, -np.inf
    q[3], k[3] = 1e-40, 1e-40
    bias, mask = np.zeros((8, 1, T)), np.ones((1, T, T), bool)
    bias[4], bias[5, 0, ::2], mask[0, 1] = -np.inf, -np.inf, False
    maps = np.arange(8), np.zeros(8, int)
    shape = Shape(1, 0.5, 0.0, -T, T)
    k[2] = np.abs(k[2])
    arrays = q, k, v, bias, mask, np.empty(0)
    both = forward(kernels.attention, maps, shape), forward(kernels.attention_twin, maps, shape)
    agree(*both, *arrays, dtypes=("float64",), scale=4)
    out, lse = both[0](*arrays, threads=1)
    for empty in (2, 4):
        assert not out[empty].any()
        assert (lse[empty] == -np.inf).all()
    assert not out[:, 1].any()
    assert np.isfinite(out).all()


def test_memory_beyond_the_results_is_a_small_part_of_the_weights():
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 4096, 8)).astype(np.float32)
    shape, empty = Shape(1, 1.0, 0.0, 0, 4096), Extra(np.empty((0, 0, 0), bool), np.zeros(1, int))
    none = nothing(1, np.float32)

    def both():
        out, lse = kernels.attention(q, k, v, none, empty, np.empty(0, np.float32), shape=shape, threads=1)
        kernels.attention_vjp(q, k, v, none, empty, lse, lse, out, shape=shape, logits=False, threads=1)

    both()
    tracemalloc.start()
    both()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.05 * 4096 * 4096 * 4


def test_visited_counts_what_the_blocks_hold():
    for T, S, shape in ((16, 16, Shape(1, 1.0, 0, 0, 16)), (1000, 1300, Shape(1, 1.0, 0, 0, 100))):
        assert kernels.visited(T, S, shape) >= sum(
            min(S, S - T + i + 1) - max(0, S - T + i - shape.farthest) for i in range(T)
        )
        assert kernels.visited(T, S, shape) <= T * S
    assert kernels.visited(300, 300, Shape(1, 1.0, 0, -300, 300)) == 300 * 300
    assert kernels.visited(300, 300, Shape(1, 1.0, 0, -300, 300), back=True) == 300 * 300


def test_decoding_reads_a_growing_cache_in_place():
    rng = np.random.default_rng(0)
    buffers = rng.standard_normal((2, 6, 100, 8)).astype(np.float32)
    q = rng.standard_normal((6, 1, 8)).astype(np.float32)
    given = nothing(6, np.float32), nothing(6, bool), np.empty(0, np.float32)
    for held in (slice(0, 1), slice(0, 40), slice(3, 40), slice(0, 100)):
        k, v = buffers[:, :, held]
        assert np.shares_memory(kernels._grown(k), k)
        shape = Shape(1, 1.0, 0.0, 0, 100)
        in_place = kernels.attention(q, k, v, *given, shape=shape, threads=1)
        copied = kernels.attention(q, k.copy(), v.copy(), *given, shape=shape, threads=1)
        np.testing.assert_array_equal(in_place[0], copied[0])
        np.testing.assert_array_equal(in_place[1], copied[1])
    assert not np.shares_memory(kernels._grown(buffers[0, :, :40, ::2]), buffers)
