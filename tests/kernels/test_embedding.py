"""Adding rows by id: the twin, bit for bit, any number of threads; ids that repeat, that never occur, that are many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernel_twins import agree, same_bits

import minitf as mt
from minitf.kernels import embedding as kernels
from minitf.nn import functional as F


@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 9), st.integers(0, 5))
def test_twins(seed, N, V, D):
    rng = np.random.default_rng(seed)
    agree(kernels.add_rows, kernels.add_rows_twin, rng.standard_normal((N, D)), rng.integers(0, V, N), V=V)


def test_the_order_of_additions_is_the_order_of_ids():
    """The same bits as adding row after row, though numbers of such different sizes do not add up the same."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3000, 33)) * 10.0 ** rng.integers(-8, 8, (3000, 1))).astype(np.float32)
    ids = np.minimum(rng.zipf(1.3, 3000), 50) - 1
    for threads in (1, 2, 5):
        got = kernels.add_rows(x, ids, V=60, threads=threads)
        same_bits([got], [kernels.add_rows_twin(x, ids, V=60)])
    assert (got[50:] == 0).all()


def test_gradients_of_a_look_up_run_the_kernel(monkeypatch):
    rng = np.random.default_rng(0)
    table, ids = rng.standard_normal((30, 17)), rng.integers(0, 30, (3, 100))
    weights = rng.standard_normal((3, 100, 17))
    mt.check_grads(lambda table: F.embedding(ids, table) ** 2 * weights, table)
    gradient = lambda: mt.grad(lambda table: mt.sum(F.embedding(ids, table) * weights))(table).data
    fast = gradient()
    with mt.config(kernels="numpy"):
        same_bits([fast], [gradient()])
    monkeypatch.setattr(kernels, "_add_rows", lambda start, stop, x, starts, order, out: out.fill(7.0))
    assert (gradient() == 7).all()


def test_negative_indices_count_from_the_end():
    x = np.random.default_rng(0).standard_normal((50, 100))
    gradient = mt.grad(lambda x: mt.sum(x[np.array([-1] * 60)]))(x).data
    np.testing.assert_array_equal(gradient[-1], 60)
    np.testing.assert_array_equal(gradient[:-1], 0)
