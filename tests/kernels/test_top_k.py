"""The largest entries of rows: sorted one by one, ties and NaN, any k, any dtype, any number of threads."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, same_bits

import minitf as mt
from minitf.kernels import top_k as kernels


def one_by_one(row, k):
    """NaN before everything, then by size, then by place."""
    return sorted(range(len(row)), key=lambda i: (not math.isnan(row[i]), -row[i] if row[i] == row[i] else 0, i))[:k]


def tied(rng, *shape):
    return rng.choice([0.0, -0.0, 1.0, -1.0, 1e30, 1e-40, np.inf, -np.inf, np.nan], shape)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 4), max_size=2), st.integers(0, 200), st.integers(0, 200))
def test_twins(seed, lead, n, k):
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((*lead, n)) < rng.random(), tied(rng, *lead, n), rng.standard_normal((*lead, n)))
    agree(kernels.top_k, kernels.top_k_twin, x, k=min(k, n))
    agree(kernels.top_k, kernels.top_k_twin, x, k=min(k % 8, n))


@given(st.integers(0, 10**6), st.integers(1, 150), st.integers(0, 9))
def test_one_by_one(seed, n, k):
    rng = np.random.default_rng(seed)
    row = tied(rng, n)
    want = one_by_one(row, min(k, n))
    assert kernels.top_k(row, k=min(k, n), threads=1).tolist() == want
    assert kernels.top_k_twin(row, k=min(k, n)).tolist() == want


ROWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "rising": lambda rng, shape: np.sort(rng.standard_normal(shape)),
    "falling": lambda rng, shape: -np.sort(rng.standard_normal(shape)),
    "all the same": lambda rng, shape: np.ones(shape),
    "NaN far behind": lambda rng, shape: np.where(
        np.arange(shape[1]) > shape[1] - 3, np.nan, rng.standard_normal(shape)
    ),
    "all NaN": lambda rng, shape: np.full(shape, np.nan),
    "all but nothing": lambda rng, shape: np.full(shape, -np.inf),
}


@pytest.mark.parametrize("k", [1, 8, kernels.FEW, kernels.FEW + 1])
@pytest.mark.parametrize("rows", ROWS)
def test_twins_when_threads_share_the_rows(rows, k):
    agree(kernels.top_k, kernels.top_k_twin, ROWS[rows](np.random.default_rng(0), (130, 1001)), k=k)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool", "float16", "bfloat16", "longdouble"])
def test_every_dtype(dtype):
    x = mt.astype(np.random.default_rng(0).integers(0, 9, (20, 300)), dtype)
    values, places = mt.top_k(x, 5)
    want = [one_by_one(row, 5) for row in x.tolist()]
    assert places.tolist() == want
    assert (values.dtype, places.dtype) == (x.dtype, np.int64)
    np.testing.assert_array_equal(values.data, np.take_along_axis(x.data, np.array(want), 1))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_primitive_runs_the_kernel_or_its_twin(axis, monkeypatch):
    x = np.random.default_rng(0).integers(0, 30, (21, 22, 23)).astype(np.float32)
    fast = mt.top_k(x, 4, axis)
    with mt.config(kernels="numpy"):
        slow = mt.top_k(x, 4, axis)
    same_bits([f.data for f in fast], [s.data for s in slow])
    np.testing.assert_array_equal(np.moveaxis(mt.argsort(x, axis, descending=True).data, axis, 0)[:4],
                                  np.moveaxis(fast[1].data, axis, 0))  # fmt: skip
    monkeypatch.setattr(kernels, "_top_k_rows", lambda start, stop, x, out: out.fill(3))
    assert (mt.top_k(x, 4, axis)[1].data == 3).all()


def test_gradients_go_to_the_chosen():
    x = np.random.default_rng(0).permutation(5000).astype(float).reshape(5, 1000)
    mt.check_grads(lambda x: mt.top_k(x / 1000, 7)[0] ** 2, x)
    got = mt.grad(lambda x: mt.sum(mt.top_k(x, 7)[0]))(x).data
    np.testing.assert_array_equal(got, x >= np.sort(x)[:, -7:-6])
