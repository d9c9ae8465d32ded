"""8-bit products and codes: exact against 64-bit integers, extremes, tiles of scales, error bounds of the codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import DTYPES, agree, extreme

from minitf.kernels import integer as kernels

SIZES = st.integers(0, 40)


def codes(rng, *shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


@given(st.integers(0, 10**6), SIZES, SIZES, SIZES)
def test_products_are_exact(seed, M, K, N):
    rng = np.random.default_rng(seed)
    x, w = codes(rng, M, K), codes(rng, K, N)
    agree(kernels.int_matmul, kernels.int_matmul_twin, x, w, dtypes=("float32",))
    np.testing.assert_array_equal(
        kernels.int_matmul(x, w, threads=2), np.einsum("mk,kn->mn", x.astype(object), w.astype(object)).astype(int)
    )


def test_products_of_several_tiles():
    rng = np.random.default_rng(0)
    agree(kernels.int_matmul, kernels.int_matmul_twin, codes(rng, 131, 33), codes(rng, 33, 517), dtypes=("float32",))


def test_the_longest_sum_of_int32_and_longer_ones():
    """-128 * -128 = 2^14, and 2^17 of those are one too many."""
    for K, dtype in ((2**17 - 1, np.int32), (2**17, np.int64)):
        x = np.full((1, K), -128, np.int8)
        got = kernels.int_matmul(x, x.T, threads=1)
        assert got.dtype == dtype
        assert got.item() == 2**14 * K


@pytest.mark.parametrize(("a", "b"), [(1, 1), (4, 3)])
@given(seed=st.integers(0, 10**6), M=st.integers(1, 5), slices=st.integers(1, 6), N=st.integers(1, 9))
def test_scales_of_rows_columns_slices_and_tiles(a, b, seed, M, slices, N):
    rng = np.random.default_rng(seed)
    x, w = codes(rng, M * a, slices * 6), codes(rng, slices * 6, N * b)
    for by_x in ((M, slices), (M * a, 1), (1, 1)):
        for by_w in ((slices, N), (1, N * b), (1, 1)):
            x_scale, w_scale = rng.random(by_x), rng.random(by_w)
            agree(kernels.scaled_int_matmul, kernels.scaled_int_matmul_twin, x, w, x_scale, w_scale, scale=8)


def test_scaled_products_of_several_tiles():
    rng = np.random.default_rng(0)
    x, w = codes(rng, 160, 64), codes(rng, 64, 288)
    agree(kernels.scaled_int_matmul, kernels.scaled_int_matmul_twin, x, w, rng.random((5, 2)), rng.random((2, 9)))


@given(st.integers(0, 10**6), st.lists(st.integers(0, 12), max_size=3).map(tuple), st.sampled_from([1, 7, 256]))
def test_codes_of_blocks(seed, shape, block):
    rng = np.random.default_rng(seed)
    x = np.asarray(extreme(rng, shape))
    agree(kernels.quantize_blocks, kernels.quantize_blocks_twin, x, block=block)
    got, scale = kernels.quantize_blocks(x, block=block, threads=1)
    agree(kernels.dequantize_blocks, kernels.dequantize_blocks_twin, got, scale, block=block)


def test_codes_when_threads_share_the_blocks():
    x = np.random.default_rng(0).standard_normal((300, 301))
    agree(kernels.quantize_blocks, kernels.quantize_blocks_twin, x)
    got = kernels.quantize_blocks(x, threads=1)
    agree(kernels.dequantize_blocks, kernels.dequantize_blocks_twin, *got)


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_are_within_half_a_step_and_do_not_change_when_coded_again(dtype):
    x = np.random.default_rng(0).standard_normal(5000).astype(dtype)
    got, scale = kernels.quantize_blocks(x, threads=2)
    back = kernels.dequantize_blocks(got, scale, threads=2)
    assert (np.abs(back - x) <= np.repeat(scale, 256)[:5000] / 2 * (1 + 300 * np.finfo(dtype).eps)).all()
    assert [abs(got[i : i + 256].astype(int)).max() for i in range(0, 5000, 256)] == [127] * 20
    np.testing.assert_array_equal(kernels.quantize_blocks(back, threads=1)[0], got)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_of_zeros_of_hardly_anything_and_of_infinities(dtype):
    x = np.zeros((5, 4), dtype)
    x[1] = np.finfo(dtype).smallest_subnormal
    x[2, 1], x[3, 2] = np.inf, np.nan
    x[4] = [np.finfo(dtype).max, -np.finfo(dtype).max, 0, 1]
    got, scale = kernels.quantize_blocks(x, block=4, threads=1)
    np.testing.assert_array_equal(got, [[0] * 4] * 4 + [[127, -127, 0, 0]])
    np.testing.assert_array_equal(scale[:4], [1, 1, np.nan, np.nan])
    back = kernels.dequantize_blocks(got, scale, block=4, threads=1)
    np.testing.assert_array_equal(np.isnan(back).all(1), [False, False, True, True, False])


def test_arrays_that_do_not_fit():
    x = np.ones((4, 6), np.int8)
    one = np.ones((1, 1), np.float32)
    cases = [
        ("w must be an int8 matrix, got float64", lambda: kernels.int_matmul(x, x.T.astype(float), threads=1)),
        ("inner lengths of", lambda: kernels.int_matmul(x, x, threads=1)),
        ("4 slices of 6 inputs", lambda: kernels.scaled_int_matmul(x, x.T, one, np.ones((4, 1)), threads=1)),
        ("do not cut", lambda: kernels.scaled_int_matmul(x, x.T, np.ones((3, 1)), one, threads=1)),
        ("do not cut", lambda: kernels.scaled_int_matmul(x, x.T, np.ones((1, 2)), np.ones((3, 1)), threads=1)),
        ("1 scales for 24 codes", lambda: kernels.dequantize_blocks(x, one[0], block=12, threads=1)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
