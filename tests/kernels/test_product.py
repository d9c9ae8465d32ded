"""Matrix products on the pool: NumPy's values for every way of cutting, and BLAS as it was afterwards."""

import threading

import numpy as np
import pytest
import threadpoolctl

import minitf as mt
from minitf.kernels import pool, product

SHAPES = [
    ((300, 200), (200, 250)),  # rows are cut
    ((20, 2000), (2000, 700)),  # columns are cut
    ((9, 100, 200), (9, 200, 90)),  # matrices are dealt out
    ((9, 100, 200), (200, 90)),  # .. one factor for all
    ((1, 300, 200), (5, 200, 90)),  # .. broadcast
    ((2, 1, 400, 300), (3, 300, 400)),  # fewer matrices than threads
    ((3, 4), (4, 5)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
]


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_products_are_numpys(left, right, threads):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-9, 9, left).astype(np.float32), rng.integers(-9, 9, right).astype(np.float32)  # exact sums
    np.testing.assert_array_equal(product.matmul(x, y, threads=threads), x @ y)
    turned = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2), np.ascontiguousarray(y[..., ::-1])[..., ::-1]
    np.testing.assert_array_equal(product.matmul(*turned, threads=threads), x @ y)


@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.int64])
def test_other_dtypes(dtype):
    x = np.random.default_rng(0).integers(-9, 9, (160, 180)).astype(dtype)
    out = product.matmul(x, x.T, threads=2)
    np.testing.assert_array_equal(out, x @ x.T)
    assert out.dtype == dtype


def test_no_threads_but_the_pools():
    """BLAS is on one thread inside, for all callers at once, and as it was afterwards."""
    before = [b["num_threads"] for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"]
    inside, barrier = [], threading.Barrier(3)

    def call():
        with pool.blas_alone():
            barrier.wait()
            inside.append([b["num_threads"] for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"])
            barrier.wait()

    with threadpoolctl.threadpool_limits(2, "blas"):
        callers = [threading.Thread(target=call) for _ in range(3)]
        for c in callers:
            c.start()
        for c in callers:
            c.join()
        after = {b["num_threads"] for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"}
    assert len(inside) == 3
    assert all(set(threads) == {1} for threads in inside)
    assert after == {2}
    assert [b["num_threads"] for b in threadpoolctl.threadpool_info() if b["user_api"] == "blas"][
        : len(before)
    ] == before


def test_the_setting_counts_for_products(monkeypatch):
    x, seen = np.ones((512, 512)), []
    monkeypatch.setattr(product, "over_rows", lambda part, rows, *, threads, least: seen.append(threads))
    for threads in (2, 3):
        with mt.config(threads=threads):
            mt.matmul(x, x)
            mt.nn.functional.linear(x, x, np.ones(512))
    assert seen == [2, 2, 3, 3]
