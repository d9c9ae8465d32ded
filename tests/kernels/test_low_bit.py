"""Products with packed weights: twins, exact integers, the order of the sum, every code, packing and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import DTYPES, agree

from minitf.kernels import low_bit as kernels

SMALL = st.integers(0, 6)
#: rows on either side of the one that BLAS begins with
ROWS = [1, 5, kernels.ROWS - 1, kernels.ROWS + 3]


def int4(rng, K, N, groups):
    codes = rng.integers(0, 16, (K, N))
    return codes, kernels.pack_int4(codes), rng.standard_normal((groups, N)), rng.uniform(0, 15, (groups, N))


def ternary(rng, K, N):
    codes = rng.integers(-1, 2, (K, N)).astype(np.int8)
    return codes, kernels.pack_ternary(codes)


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 3), SMALL, st.integers(0, 40))
def test_four_bits(seed, M, groups, length, N):
    rng, K = np.random.default_rng(seed), groups * length
    codes, packed, scale, zero = int4(rng, K, N, groups)
    assert packed.shape == ((K + 1) // 2, N)
    np.testing.assert_array_equal(kernels.unpack_int4(packed, K), codes)
    agree(kernels.int4_matmul, kernels.int4_matmul_twin, rng.standard_normal((M, K)), packed, scale, zero)


@pytest.mark.parametrize("M", ROWS)
def test_four_bits_of_several_panels(M):
    rng = np.random.default_rng(0)
    _, *weights = int4(rng, 70, 1100, 5)
    agree(kernels.int4_matmul, kernels.int4_matmul_twin, rng.standard_normal((M, 70)), *weights, scale=4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("M", ROWS)
def test_every_code_at_either_end_of_a_byte(M, dtype):
    """The unit matrix brings out the weights, exactly."""
    codes = np.stack([np.arange(16), np.arange(15, -1, -1)], axis=0).repeat(20, 0)
    scale, zero = np.full((1, 16), 0.25, dtype), np.full((1, 1), 8, dtype)
    x = np.eye(40, dtype=dtype)[np.arange(M) % 40]
    got = kernels.int4_matmul(x, kernels.pack_int4(codes), scale, zero, threads=1)
    np.testing.assert_array_equal(got, (0.25 * (codes - 8.0))[np.arange(M) % 40])


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(0, 20), st.integers(0, 40))
def test_three_values(seed, M, K, N):
    rng = np.random.default_rng(seed)
    codes, packed = ternary(rng, K, N)
    assert packed.shape == (K, (N + 3) // 4)
    np.testing.assert_array_equal(kernels.unpack_ternary(packed, N), codes)
    x = rng.standard_normal((M, K))
    for scale in (None, rng.random(()), rng.random(N), rng.random((M, 1))):
        agree(kernels.ternary_matmul, kernels.ternary_matmul_twin, x, packed, N, scale)
    x = rng.integers(-128, 128, (M, K)).astype(np.int8)
    agree(kernels.ternary_matmul, kernels.ternary_matmul_twin, x, packed, N, rng.random(N))
    got = kernels.ternary_matmul(x, packed, N, threads=1)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, x.astype(int) @ codes)


@pytest.mark.parametrize("M", ROWS)
def test_three_values_of_several_panels(M):
    rng = np.random.default_rng(0)
    codes, packed = ternary(rng, 70, 1101)
    agree(kernels.ternary_matmul, kernels.ternary_matmul_twin, rng.standard_normal((M, 70)), packed, 1101, scale=4)
    x = rng.integers(-128, 128, (M, 70)).astype(np.int8)
    np.testing.assert_array_equal(kernels.ternary_matmul(x, packed, 1101, threads=2), x.astype(int) @ codes)


def test_the_layout_of_a_byte():
    """bitnet-b158, with outputs for rows: byte[r] = sum_i (W[r + i R / 4] + 1) 4^i."""
    codes = np.array([[-1, 0, 1, -1, 1, 1, 0, 0]])
    packed = [[0 + 2 * 4 + 2 * 16 + 1 * 64, 1 + 0 * 4 + 2 * 16 + 1 * 64]]
    np.testing.assert_array_equal(kernels.pack_ternary(codes), packed)
    np.testing.assert_array_equal(kernels.pack_int4(np.array([[3], [15], [9]])), [[3 + 16 * 15], [9]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_ternary_sums_are_additions_in_order(dtype):
    """The bits of a loop that adds and subtracts, whatever rows are beside it."""
    rng = np.random.default_rng(0)
    codes, packed = ternary(rng, 53, 37)
    x = rng.standard_normal((9, 53)).astype(dtype)
    want = np.zeros((9, 37), dtype)
    for k in range(53):
        want[:, codes[k] == 1] += x[:, k, None]
        want[:, codes[k] == -1] -= x[:, k, None]
    np.testing.assert_array_equal(kernels.ternary_matmul(x, packed, 37, threads=1), want)


def test_the_bits_of_a_row_do_not_depend_on_its_neighbors():
    rng = np.random.default_rng(0)
    _, *weights = int4(rng, 64, 300, 2)
    x = rng.standard_normal((11, 64))
    whole = kernels.int4_matmul(x, *weights, threads=2)
    for i in range(11):
        np.testing.assert_array_equal(kernels.int4_matmul(x[i : i + 1], *weights, threads=1)[0], whole[i])


def test_arrays_that_do_not_fit():
    x, packed, one = np.ones((2, 6)), np.zeros((3, 4), np.uint8), np.ones((1, 4))
    cases = [
        ("codes must be in 0 .. 15, got 0 .. 16", lambda: kernels.pack_int4(np.array([[0, 16]]))),
        ("codes must be -1, 0 or 1, got 0 .. 2", lambda: kernels.pack_ternary(np.array([[0, 2]]))),
        ("do not fit", lambda: kernels.int4_matmul(x[:, :4], packed, one, one, threads=1)),
        ("do not fit", lambda: kernels.int4_matmul(x, packed, one[:, :3], one, threads=1)),
        ("do not fit", lambda: kernels.int4_matmul(x, packed, np.ones((4, 4)), one, threads=1)),
        ("do not fit", lambda: kernels.ternary_matmul(x, packed, 16, threads=1)),
        ("do not fit each other and N = 17", lambda: kernels.ternary_matmul(x[:, :3], packed, 17, threads=1)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
