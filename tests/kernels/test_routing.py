"""Routing kernels: rows counted one by one, the three sums and their twins, any number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree

from minitf.kernels import routing as kernels


def one_by_one(experts, E, capacity):
    """The rows of each expert, as (token, choice): first choices before second ones, then in order of tokens."""
    kept = [[] for _ in range(E)]
    for choice in range(experts.shape[1]):
        for n, e in enumerate(experts[:, choice]):
            if e >= 0 and len(kept[e]) < capacity:
                kept[e].append((n, choice))
    return [sorted(rows) for rows in kept]


@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 4), st.integers(1, 9), st.integers(0, 12))
def test_rows_one_by_one(seed, N, k, E, capacity):
    experts = np.random.default_rng(seed).integers(-1, E, (N, k))
    slots, origins, offsets = kernels.assign(experts, E=E, capacity=capacity)
    for got, want in zip((slots, origins, offsets), kernels.assign_twin(experts, E=E, capacity=capacity), strict=True):
        np.testing.assert_array_equal(got, want)
    expected = one_by_one(experts, E, capacity)
    assert np.diff(offsets).tolist() == [len(rows) for rows in expected]
    assert [divmod(i, k) for i in origins.tolist()] == [row for rows in expected for row in rows]
    assert all(slots[n, choice] == m for m, (n, choice) in enumerate(row for rows in expected for row in rows))
    assert (slots >= 0).sum() == len(origins)


def test_float_like_layouts_and_small_integers():
    experts = np.arange(24, dtype=np.int8).reshape(4, 6)[::-1, ::2] % 3
    got = kernels.assign(experts, E=3, capacity=2)
    for mine, other in zip(got, kernels.assign_twin(experts, E=3, capacity=2), strict=True):
        np.testing.assert_array_equal(mine, other)


def sums_agree(seed, M, N, D, **options):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, N, M)
    y, g, w = rng.standard_normal((M, D)), rng.standard_normal((N, D)), rng.standard_normal(M)
    agree(kernels.combine, kernels.combine_twin, y, w, tokens=tokens, N=N, **options)
    agree(kernels.share, kernels.share_twin, g, w, tokens=tokens, **options)
    agree(kernels.meet, kernels.meet_twin, y, g, tokens=tokens, **options)


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 12), st.integers(0, 20))
def test_sums(seed, M, N, D):
    sums_agree(seed, M, N, D, scale=4)


@pytest.mark.parametrize(("M", "N", "D"), [(3000, 900, 65), (700, 1, 130), (40, 5000, 33)])
def test_sums_when_threads_share_the_rows(M, N, D):
    sums_agree(0, M, N, D, scale=30)


def test_no_tokens():
    empty = np.zeros((0, 5), np.float32)
    none = np.zeros(0, np.int64)
    assert kernels.combine(empty, np.zeros(0, np.float32), tokens=none, N=0, threads=2).shape == (0, 5)
    assert kernels.combine(empty, np.zeros(0, np.float32), tokens=none, N=3, threads=2).tolist() == [[0] * 5] * 3
