"""Block-sparse and n:m products: twins, SciPy, exact integers, both derivatives, weights that do not fit."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, extreme

from minitf.kernels import block_sparse as kernels

BLOCKS = [(1, 4), (1, 16), (4, 1), (32, 32), (2, 3), (1, 1), (3, 6)]


def weights(rng, block, rows, columns, density=0.4, dtype=float):
    r, c = block
    w, mask = rng.standard_normal((rows * r, columns * c)), rng.random((rows, columns)) < density
    w = rng.integers(-128, 128, w.shape).astype(np.int8) if dtype == np.int8 else w
    return w * np.kron(mask, np.ones(block, w.dtype)), kernels.from_dense(w, mask)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@given(seed=st.integers(0, 10**6), M=st.integers(0, 9), rows=st.integers(1, 6), columns=st.integers(1, 20))
def test_twins(block, seed, M, rows, columns):
    rng = np.random.default_rng(seed)
    dense, (data, indices, indptr) = weights(rng, block, rows, columns)
    x, g = rng.standard_normal((M, len(dense))), rng.standard_normal((M, dense.shape[1]))
    agree(kernels.matmul, kernels.matmul_twin, x, data, indices, indptr, scale=8)
    sampled, twin = (lambda *a, f=f, **k: f(*a, block, **k) for f in (kernels.sampled, kernels.sampled_twin))
    agree(sampled, twin, x, g, indices, indptr, scale=8)
    np.testing.assert_array_equal(kernels.to_dense(data, indices, indptr, len(dense)), dense)
    turned = kernels.transpose(data, indices, indptr, len(dense))
    np.testing.assert_array_equal(kernels.to_dense(*turned, dense.shape[1]), dense.T)


@pytest.mark.parametrize("block", [(1, 4), (4, 1), (32, 32)], ids=str)
def test_twins_when_threads_share_the_columns(block):
    rng = np.random.default_rng(0)
    _, blocks = weights(rng, block, 96 // block[0], 224 // block[1])
    x, g = rng.standard_normal((131, 96)), rng.standard_normal((131, 224))
    agree(kernels.matmul, kernels.matmul_twin, x, *blocks, scale=8)
    sampled, twin = (lambda *a, f=f, **k: f(*a, block, **k) for f in (kernels.sampled, kernels.sampled_twin))
    agree(sampled, twin, x, g, *blocks[1:], scale=8)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_scipy(block):
    rng = np.random.default_rng(0)
    dense, blocks = weights(rng, block, 6, 8)
    x = rng.standard_normal((5, len(dense)))
    turned = [part.swapaxes(1, 2) if i == 0 else part for i, part in enumerate(blocks)]
    bsr = scipy.sparse.bsr_matrix(tuple(turned), shape=dense.T.shape)
    np.testing.assert_allclose(kernels.matmul(x, *blocks, threads=2), (bsr @ x.T).T, rtol=0, atol=1e-13)


@given(st.integers(0, 10**6), st.sampled_from([(1, 4), (1, 16), (4, 1)]), st.integers(0, 40))
def test_integers_are_exact(seed, block, M):
    rng = np.random.default_rng(seed)
    dense, blocks = weights(rng, block, 33, 10, dtype=np.int8)
    x = rng.integers(-128, 128, (M, len(dense))).astype(np.int8)
    agree(kernels.matmul, kernels.matmul_twin, x, *blocks, dtypes=("float32",))
    got = kernels.matmul(x, *blocks, threads=1)
    np.testing.assert_array_equal(got, x.astype(np.int64) @ dense.astype(np.int64))
    assert got.dtype == np.int32


def test_derivatives():
    """<g, x @ W> is linear in x and in the blocks."""
    rng = np.random.default_rng(0)
    block = (2, 4)
    dense, (data, indices, indptr) = weights(rng, block, 5, 7)
    x, g = rng.standard_normal((6, 10)), rng.standard_normal((6, 28))
    of_data = kernels.sampled(x, g, indices, indptr, block, threads=1)
    of_x = kernels.matmul(g, *kernels.transpose(data, indices, indptr, 10), threads=1)
    np.testing.assert_allclose(of_x, g @ dense.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.sum(of_data * data), np.sum(g * (x @ dense)), rtol=1e-12)
    kept = kernels.to_dense(np.ones_like(data), indices, indptr, 10) > 0
    np.testing.assert_allclose(kernels.to_dense(of_data, indices, indptr, 10), (x.T @ g) * kept, rtol=0, atol=1e-13)


def test_what_is_pruned_meets_no_infinity():
    x = np.ones((2, 8))
    x[0, 0] = np.inf
    w = np.ones((8, 4))
    blocks = kernels.from_dense(w, np.arange(8)[:, None] >= 4)
    np.testing.assert_array_equal(kernels.matmul(x, *blocks, threads=1), 4)
    nothing = kernels.from_dense(w, np.zeros((8, 1), bool))
    np.testing.assert_array_equal(kernels.matmul(x, *nothing, threads=1), 0)


def nm(rng, K, N, n, m):
    w = rng.standard_normal((K, N))
    order = np.argsort(rng.random((K // m, m, N)), axis=1)
    return w, np.argsort(order, axis=1).reshape(K, N) < n


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 1)])
@given(seed=st.integers(0, 10**6), M=st.integers(0, 9), groups=st.integers(0, 6), N=st.integers(0, 70))
def test_n_of_every_m(n, m, seed, M, groups, N):
    rng = np.random.default_rng(seed)
    w, mask = nm(rng, groups * m, N, n, m)
    data, positions = kernels.nm_from_dense(w, mask, n=n, m=m)
    assert data.shape == positions.shape == (groups * n, N)
    assert (np.diff(positions.reshape(groups, n, N).astype(int), axis=1) > 0).all()
    np.testing.assert_array_equal(kernels.nm_to_dense(data, positions, n=n, m=m), w * mask)
    x = extreme(rng, (M, groups * m), infinite=False)
    agree(kernels.nm_matmul, kernels.nm_matmul_twin, x, data, positions, n=n, m=m, scale=4)


def test_n_of_every_m_when_threads_share_the_columns_and_in_integers():
    rng = np.random.default_rng(0)
    w, mask = nm(rng, 32, 200, 2, 4)
    data, positions = kernels.nm_from_dense(w, mask, n=2, m=4)
    agree(kernels.nm_matmul, kernels.nm_matmul_twin, rng.standard_normal((130, 32)), data, positions, n=2, m=4, scale=4)
    w, x = (rng.integers(-128, 128, shape).astype(np.int8) for shape in (w.shape, (5, 32)))
    got = kernels.nm_matmul(x, *kernels.nm_from_dense(w, mask, n=2, m=4), n=2, m=4, threads=2)
    np.testing.assert_array_equal(got, x.astype(int) @ (w * mask).astype(int))


def test_weights_that_do_not_fit():
    x, (data, indices, indptr) = np.ones((2, 8)), kernels.from_dense(np.ones((8, 4)), np.ones((4, 1), bool))
    cases = [
        ("blocks of 2 rows do not divide 7 inputs", lambda: kernels.matmul(x[:, :7], data, indices, indptr, threads=1)),
        ("must be in 0 .. 1, got 0 .. 3", lambda: kernels.matmul(x[:, :4], data, indices, indptr, threads=1)),
        ("3 blocks of data for 4 indices", lambda: kernels.matmul(x, data[:3], indices, indptr, threads=1)),
        ("int8 x needs int8 weights", lambda: kernels.matmul(x.astype(np.int8), data, indices, indptr, threads=1)),
        ("do not fit", lambda: kernels.sampled(x, x, indices, indptr, (2, 4), threads=1)),
        ("does not cut", lambda: kernels.from_dense(np.ones((8, 4)), np.ones((3, 1), bool))),
        ("does not keep 2 of every 4", lambda: kernels.nm_from_dense(x.T, np.ones((8, 2), bool), n=2, m=4)),
        ("are not 2:4", lambda: kernels.nm_matmul(x, np.ones((3, 2)), np.ones((3, 2), np.uint8), n=2, m=4, threads=1)),
        ("in 0 .. 3", lambda: kernels.nm_matmul(x, np.ones((4, 2)), np.full((4, 2), 4), n=2, m=4, threads=1)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
