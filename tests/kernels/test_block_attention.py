"""Block-sparse attention kernels: their twins over shapes and options, extreme logits, any number of threads, memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

from minitf.kernels import block_attention as kernels
from minitf.kernels.attention import Extra
from minitf.kernels.block_attention import Shape


def forward(function, maps, shape):
    return lambda q, k, v, blocks, mask, **threads: function(
        q, k, v, Extra(blocks, maps[0]), Extra(mask, maps[1]), shape=shape, **threads
    )


def backward(function, maps, shape):
    return lambda q, k, v, blocks, mask, *rest, **threads: function(
        q, k, v, Extra(blocks, maps[0]), Extra(mask, maps[1]), *rest, shape=shape, **threads
    )


def check(seed, R, group, T, S, E, W, block, *, causal, masked="", density=0.5, scale=1.0):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(s) for s in ((R, T, E), (R // group, S, E), (R // group, S, W)))
    blocks = rng.random((R, -(-T // block), -(-S // block))) < density
    mask = rng.random({"": (0, 0, 0), "rows": (R, T, S), "keys": (1, 1, S)}[masked]) < 0.7
    maps = np.arange(R), np.arange(R) if masked == "rows" else np.zeros(R, int)
    shape = Shape(group, block, causal, E**-0.5)
    arrays = q, k, v, blocks, mask
    agree(
        *(forward(f, maps, shape) for f in (kernels.block_attention, kernels.block_attention_twin)),
        *arrays,
        scale=scale,
    )
    with np.errstate(divide="ignore"):
        out, lse = forward(kernels.block_attention_twin, maps, shape)(*arrays)
    g, g_lse = rng.standard_normal(out.shape), rng.standard_normal(lse.shape)
    agree(
        *(backward(f, maps, shape) for f in (kernels.block_attention_vjp, kernels.block_attention_vjp_twin)),
        *arrays, lse, (g * out).sum(-1) - g_lse, g, scale=4 * scale,
    )  # fmt: skip


@given(
    st.integers(0, 10**6),
    st.sampled_from([(1, 1), (2, 2), (4, 2), (8, 1), (16, 2)]),
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 9), st.integers(1, 9), st.integers(1, 50)),
    st.booleans(),
    st.sampled_from(["", "rows", "keys"]),
)
def test_twins(seed, rows, sizes, causal, masked):
    check(seed, *rows, *sizes, causal=causal, masked=masked, scale=4)


@pytest.mark.parametrize(("R", "group", "T", "S", "causal"), [(8, 1, 70, 700, True), (2, 2, 600, 50, False)])
def test_twins_when_more_blocks_are_listed_than_are_gathered_at_a_time(R, group, T, S, causal):
    check(0, R, group, T, S, 4, 3, 24, causal=causal, masked="keys", density=0.9, scale=8)


@pytest.mark.parametrize("rows", [1, 8])
def test_extreme_logits_and_queries_that_see_nothing(rows):
    rng = np.random.default_rng(0)
    q, k, v, g = rng.standard_normal((4, rows, 12, 4))
    q[0, :3], q[0, 3:6], k[0, 6:] = 1e30, 1e-40, -1e8
    blocks, mask = np.ones((1, 4, 4), bool), np.ones((1, 12, 12), bool)
    blocks[0, 1], mask[0, 11] = False, False
    maps, shape = (np.zeros(rows, int),) * 2, Shape(1, 3, True, 0.5)
    both = [forward(f, maps, shape) for f in (kernels.block_attention, kernels.block_attention_twin)]
    agree(*both, q, k, v, blocks, mask, dtypes=("float64",), scale=4)
    out, lse = both[0](q, k, v, blocks, mask, threads=1)
    back = backward(kernels.block_attention_vjp, maps, shape)(
        q, k, v, blocks, mask, lse, (g * out).sum(-1), g, threads=1
    )
    for empty in (slice(3, 6), slice(11, 12)):
        assert not out[:, empty].any()
        assert (lse[:, empty] == -np.inf).all()
        assert not back[0][:, empty].any()
    assert all(np.isfinite(x).all() for x in (out, *back))


@pytest.mark.parametrize("rows", [2, 8])
def test_unlisted_blocks_are_not_read(rows):
    q, k, v = np.random.default_rng(0).standard_normal((3, rows, 64, 4))
    k[:, 16:32] = v[:, 16:32] = np.nan
    blocks = np.ones((1, 4, 4), bool)
    blocks[:, :, 1] = False
    maps, shape = (np.zeros(rows, int),) * 2, Shape(1, 16, False, 1.0)
    given = q, k, v, blocks, np.empty((0, 0, 0), bool)
    out, lse = forward(kernels.block_attention, maps, shape)(*given, threads=1)
    back = backward(kernels.block_attention_vjp, maps, shape)(*given, lse, lse, out, threads=1)
    assert all(np.isfinite(x).all() for x in (out, lse, *back))


def test_memory_is_that_of_the_results():
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 4096, 8)).astype(np.float32)
    blocks, shape = Extra(np.ones((1, 128, 128), bool), np.zeros(2, int)), Shape(1, 32, False, 1.0)
    none = Extra(np.empty((0, 0, 0), bool), np.zeros(2, int))

    def both():
        out, lse = kernels.block_attention(q, k, v, blocks, none, shape=shape, threads=1)
        kernels.block_attention_vjp(q, k, v, blocks, none, lse, lse, out, shape=shape, threads=1)

    both()
    tracemalloc.start()
    both()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 * q.nbytes  # out, three cotangents, and some blocks; the logits alone would be 512


def test_visited_counts_the_pairs_of_listed_blocks():
    rng = np.random.default_rng(0)
    for T, S, causal in ((13, 13, False), (13, 13, True), (5, 22, True), (22, 9, True)):
        values, of_row = rng.random((2, -(-T // 4), -(-S // 4))) < 0.5, np.array([1, 0, 1])
        seen = kernels.expanded(values, T, S, 4)[of_row]
        if causal:  # a block is computed whole if the last of its queries sees its first key
            ends = np.minimum(np.arange(T) // 4 * 4 + 4, T) - 1 + S - T
            seen = seen & (np.arange(S) // 4 * 4 <= ends[:, None])
        assert kernels.visited(Extra(values, of_row), T, S, Shape(1, 4, causal, 1.0)) == seen.sum()
