"""Sums of chosen rows: against NumPy, in the stated order, whatever is computed beside them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitf.kernels import gathered

DTYPES = {"float32": 1e-5, "float64": 1e-13, "int32": 0}


def draw(rng, shape, dtype):
    return (rng.integers(-128, 128, shape) if dtype == "int32" else rng.standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 10**6), m=st.integers(0, 9), R=st.integers(0, 13), n=st.integers(0, 40))
def test_sums_of_chosen_rows(dtype, seed, m, R, n):
    rng = np.random.default_rng(seed)
    y, a, x = (draw(rng, shape, dtype) for shape in ((m, n), (m, R), (11, n)))
    rows, got = rng.integers(0, 11, R), y.copy()
    gathered.add_product(got, a, x, rows)
    np.testing.assert_allclose(got, y + a @ x[rows], rtol=0, atol=50 * DTYPES[dtype])
    if m:
        alone = y[0].copy()
        gathered.add_rows(alone, a[0], x, rows)
        np.testing.assert_array_equal(alone, got[0])
        if dtype != "int32":
            out = np.full(R, np.nan, dtype)
            gathered.dot_rows(y[0], x, rows, out)
            np.testing.assert_allclose(out, x[rows] @ y[0], rtol=0, atol=50 * DTYPES[dtype])


def test_additions_are_in_the_order_of_the_rows():
    """1e30 + 1 - 1e30 + 1 is 1 in this order and 0 or 2 in another, also where sums are cut in fours."""
    x = np.ones((4, 37), np.float32)
    for m in (1, 4, 5):
        y = np.zeros((m, 37), np.float32)
        gathered.add_product(y, np.tile(np.float32([2, 1e30, 1, -1e30, 1]), (m, 1)), x, np.array([0, 1, 2, 3, 0]))
        np.testing.assert_array_equal(y, 1)
