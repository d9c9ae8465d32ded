"""Rotations and hashes: twins, SciPy's matrix, the inverse, ties and NaN, the angle that bits measure."""

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import DTYPES, agree, extreme

from minitf.kernels import hadamard as kernels

LEADING = st.lists(st.integers(0, 5), max_size=2).map(tuple)


@given(st.integers(0, 10**6), LEADING, st.integers(0, 7), st.booleans())
def test_transform(seed, leading, log_n, orthonormal):
    x = extreme(np.random.default_rng(seed), (*leading, 2**log_n), infinite=False)
    agree(kernels.walsh_hadamard, kernels.walsh_hadamard_twin, x, orthonormal=orthonormal, scale=8)


def test_transform_when_threads_share_the_rows():
    x = np.random.default_rng(0).standard_normal((300, 256))
    agree(kernels.walsh_hadamard, kernels.walsh_hadamard_twin, x, scale=8)


@pytest.mark.parametrize("n", [1, 2, 8, 512])
def test_scipys_matrix_in_natural_order(n):
    got = kernels.walsh_hadamard(np.eye(n), threads=1)
    np.testing.assert_array_equal(got, scipy.linalg.hadamard(n))


@pytest.mark.parametrize("dtype", DTYPES)
def test_twice_is_the_identity_and_lengths_are_kept(dtype):
    x = np.random.default_rng(0).standard_normal((7, 1024)).astype(dtype)
    once = kernels.walsh_hadamard(x, orthonormal=True, threads=1)
    tolerance = 40 * np.finfo(dtype).eps
    np.testing.assert_allclose(kernels.walsh_hadamard(once, orthonormal=True, threads=1), x, rtol=0, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(once, axis=1), np.linalg.norm(x, axis=1), rtol=tolerance)


@pytest.mark.parametrize("n", [0, 3, 12])
def test_other_lengths(n):
    with pytest.raises(ValueError, match=f"power of two of elements, got {n}"):
        kernels.walsh_hadamard(np.ones((2, n)), threads=1)


@given(st.integers(0, 10**6), LEADING, st.integers(1, 6), st.integers(1, 3), st.integers(1, 5))
def test_buckets_and_bits(seed, leading, E, rounds, b):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (*leading, E)).astype(float)  # whole numbers: ties, and products without rounding
    rotations = rng.integers(-2, 3, (E, rounds, b)).astype(float)
    agree(kernels.lsh_buckets, kernels.lsh_buckets_twin, x, rotations)
    agree(kernels.sign_hashes, kernels.sign_hashes_twin, x, rotations[:, 0])


def test_hashes_when_threads_share_the_rows():
    rng = np.random.default_rng(0)
    x, rotations = rng.standard_normal((2000, 8)), rng.standard_normal((8, 4, 16))
    agree(kernels.lsh_buckets, kernels.lsh_buckets_twin, x, rotations)
    agree(kernels.sign_hashes, kernels.sign_hashes_twin, x, rotations.reshape(8, 64))


def test_ties_zeros_infinities_and_nan():
    axes = np.eye(3)[:, None]
    x = np.array([[0, 0, 0], [1, 1, -1], [-1, 1, 0], [0, -2, 2], [0, -2, -2]], float)
    np.testing.assert_array_equal(kernels.lsh_buckets(x, axes, threads=1), [[0], [0], [1], [2], [4]])
    np.testing.assert_array_equal(kernels.sign_hashes(x, axes[:, 0], threads=1), [7, 3, 6, 5, 1])
    x, axis = np.array([[np.inf], [-np.inf], [np.nan]]), np.ones((1, 1, 1))
    np.testing.assert_array_equal(kernels.lsh_buckets(x, axis, threads=1), [[0], [1], [0]])
    np.testing.assert_array_equal(kernels.sign_hashes(x, axis[0], threads=1), [1, 0, 0])
    with np.errstate(invalid="ignore"):  # inf * 0 is NaN, and the first NaN wins
        np.testing.assert_array_equal(kernels.lsh_buckets(np.array([[-np.inf, 0, 1]]), axes, threads=1), [[1]])


def test_differing_bits_measure_the_angle():
    rng = np.random.default_rng(0)
    planes = rng.standard_normal((2, 64 * 400)).reshape(2, 400, 64)
    a, b = np.array([1.0, 0.0]), np.array([math.cos(1), math.sin(1)])
    bits = [np.array([kernels.sign_hashes(v, planes[:, i], threads=1) for i in range(400)]) for v in (a, b)]
    share = np.bitwise_count(bits[0] ^ bits[1]).mean() / 64
    assert abs(share - 1 / math.pi) < 4 * math.sqrt(1 / math.pi * (1 - 1 / math.pi) / (64 * 400))


def test_arrays_that_do_not_fit():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="directions of its width"):
        kernels.lsh_buckets(x, np.ones((4, 1, 2)), threads=1)
    with pytest.raises(ValueError, match="at least one"):
        kernels.lsh_buckets(x, np.ones((3, 1, 0)), threads=1)
    with pytest.raises(ValueError, match="at most 64 bits, got 65"):
        kernels.sign_hashes(x, np.ones((3, 65)), threads=1)
