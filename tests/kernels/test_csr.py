"""Sparse products: twins, SciPy, the transposes that are their derivatives, patterns that are none."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, extreme

from minitf.kernels import csr as kernels

SIZES = st.integers(0, 9)


def pattern(rng, R, S, density=0.4):
    """Columns in any order, one of them twice."""
    rows = [rng.permutation(np.flatnonzero(rng.random(S) < density)) for _ in range(R)]
    if R and len(rows[0]):
        rows[0] = np.append(rows[0], rows[0][0])
    indptr = np.cumsum([0, *map(len, rows)])
    return np.concatenate([np.zeros(0, int), *rows]).astype(np.int32), indptr


@given(st.integers(0, 10**6), SIZES, SIZES, st.integers(0, 20))
def test_twins(seed, R, S, E):
    rng = np.random.default_rng(seed)
    indices, indptr = pattern(rng, R, S)
    data, x = extreme(rng, indices.shape, infinite=False), rng.standard_normal((S, E))
    agree(kernels.spmm, kernels.spmm_twin, data, indices, indptr, x, scale=4)
    q, k = extreme(rng, (R, E), infinite=False), rng.standard_normal((S, E))
    agree(kernels.sddmm, kernels.sddmm_twin, q, k, indices, indptr, scale=4)


def test_twins_when_threads_share_the_rows():
    rng = np.random.default_rng(0)
    indices, indptr = pattern(rng, 130, 90)
    data, q, k = rng.standard_normal(indices.shape), rng.standard_normal((130, 67)), rng.standard_normal((90, 67))
    agree(kernels.spmm, kernels.spmm_twin, data, indices, indptr, k, scale=16)
    agree(kernels.sddmm, kernels.sddmm_twin, q, k, indices, indptr, scale=16)


def test_scipy_and_the_masked_dense_product():
    rng = np.random.default_rng(1)
    matrix = scipy.sparse.random(40, 30, 0.2, "csr", rng=rng)
    x, q = rng.standard_normal((30, 16)), rng.standard_normal((40, 16))
    got = kernels.spmm(matrix.data, matrix.indices, matrix.indptr, x, threads=2)
    np.testing.assert_allclose(got, matrix @ x, rtol=0, atol=1e-14)
    sampled = kernels.sddmm(q, x, matrix.indices, matrix.indptr, threads=2)
    np.testing.assert_allclose(sampled, (q @ x.T)[matrix.nonzero()], rtol=0, atol=1e-14)


def test_the_transpose_is_the_derivative():
    """<g, spmm(data, x)> is linear in data and in x; sddmm and the transposed spmm are its two gradients."""
    rng = np.random.default_rng(2)
    indices, indptr = pattern(rng, 12, 9)
    data, x, g = rng.standard_normal(indices.shape), rng.standard_normal((9, 5)), rng.standard_normal((12, 5))
    value = np.sum(g * kernels.spmm(data, indices, indptr, x, threads=1))
    of_data = kernels.sddmm(g, x, indices, indptr, threads=1)
    order, *transposed = kernels.transpose(indices, indptr, 9)
    of_x = kernels.spmm(data[order], *transposed, g, threads=1)
    assert of_x.shape == x.shape
    np.testing.assert_allclose([np.sum(of_data * data), np.sum(of_x * x)], value, rtol=1e-13)
    dense = np.zeros((12, 9))
    np.add.at(dense, (kernels.rows_of(indptr), indices), data)
    np.testing.assert_allclose(of_x, dense.T @ g, rtol=0, atol=1e-13)


def test_an_entry_that_is_not_there_meets_no_infinity():
    x = np.array([[np.inf, 1.0], [2.0, 3.0]])
    got = kernels.spmm(np.ones(1), np.array([1]), np.array([0, 0, 1]), x, threads=1)
    np.testing.assert_array_equal(got, [[0, 0], [2, 3]])


@pytest.mark.parametrize(
    ("indices", "indptr", "message"),
    [
        ([0, 3], [0, 1, 2], "must be in 0 .. 2, got 0 .. 3"),
        ([-1, 0], [0, 1, 2], "must be in 0 .. 2, got -1 .. 0"),
        ([0, 1], [0, 1], "must rise from 0 to the number of indices, 2"),
        ([0, 1], [0, 3, 2], "must rise"),
        ([0, 1], [1, 2], "must rise"),
    ],
)
def test_patterns_that_are_none(indices, indptr, message):
    with pytest.raises(ValueError, match=message):
        kernels.spmm(np.ones(2), np.array(indices), np.array(indptr), np.ones((3, 4)), threads=1)


def test_arrays_that_do_not_fit():
    indices, indptr = np.array([0, 1]), np.array([0, 1, 2])
    with pytest.raises(ValueError, match="one for each"):
        kernels.spmm(np.ones(3), indices, indptr, np.ones((3, 4)), threads=1)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.sddmm(np.ones((2, 4)), np.ones((3, 5)), indices, indptr, threads=1)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.sddmm(np.ones((3, 4)), np.ones((3, 4)), indices, indptr, threads=1)
