"""Routing: dispatch and combine as GShard's one-hot products, capacity, gradients, wrong calls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.autodiff.errors import ShapeError
from minitf.feedforward.routing import assign, combine, dispatch

rng = np.random.default_rng(0)


def one_hot(experts, E, capacity):
    """GShard's dispatch mask (N, k, E, C): which place of which expert's buffer a choice has."""
    N, k = experts.shape
    mask, filled = np.zeros((N, k, E, capacity)), np.zeros(E, int)
    for choice in range(k):
        for n in range(N):
            e = experts[n, choice]
            if e >= 0:
                if filled[e] < capacity:
                    mask[n, choice, e, filled[e]] = 1
                filled[e] += 1
    return mask


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3), st.integers(1, 5), st.integers(1, 9))
def test_the_same_as_products_with_one_hot_masks(seed, N, k, E, capacity):
    rng = np.random.default_rng(seed)
    experts, x = rng.integers(-1, E, (N, k)), rng.standard_normal((N, 4))
    weights, matrices = rng.random((N, k)), rng.standard_normal((E, 4, 4))
    mask = one_hot(experts, E, capacity)
    buffers = np.einsum("nkec,nd->ecd", mask, x)
    expected = np.einsum("nkec,nk,ecd->nd", mask, weights, np.einsum("ecd,edf->ecf", buffers, matrices))

    routes = assign(experts, E, capacity=capacity)
    rows = dispatch(x, routes.tokens).data
    pieces = [rows[routes.offsets[e] : routes.offsets[e + 1]] @ matrices[e] for e in range(E)]
    got = combine(np.concatenate(pieces), routes.tokens, routes.of_rows(weights), N)
    np.testing.assert_allclose(got.data, expected, atol=1e-13)
    np.testing.assert_array_equal(routes.counts, mask.sum((0, 1, 3)))


def test_capacity_serves_first_choices_first():
    experts = np.array([[1, 0], [0, 1], [0, 1]])
    assert (assign(experts, 2, capacity=2).slots >= 0).tolist() == [[True, False], [True, True], [True, False]]
    assert assign(experts, 2, capacity=0).origins.size == 0
    assert (assign(experts, 2).slots >= 0).all()


@pytest.mark.parametrize("batch", [(), (3,)])
def test_gradients(batch):
    N, M, D = 5, 7, 3
    tokens = rng.integers(0, N, (*batch, M))
    x, weights = rng.standard_normal((*batch, N, D)), rng.standard_normal((*batch, M))
    mt.check_grads(lambda x, w: combine(mt.tanh(dispatch(x, tokens)), tokens, w, N), x, weights)


def test_gradients_through_the_kernels():
    N, M, D = 70, 140, 64
    tokens = rng.integers(0, N, M)
    mt.check_grads(lambda y, w: combine(y, tokens, w, N), rng.standard_normal((M, D)), rng.standard_normal(M))


def test_complex_rows():
    tokens = np.array([0, 0, 1])
    y = rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2))
    got = combine(y, tokens, np.array([1.0, 2.0, 3.0]), 2).data
    np.testing.assert_allclose(got, [y[0] + 2 * y[1], 3 * y[2]])


def test_what_it_costs():
    """Moves and one multiply-add an element; one-hot products would be N E C D of them."""
    N, k, E, D = 64, 2, 8, 16
    routes = assign(rng.integers(0, E, (N, k)), E)
    with mt.cost() as counted:
        combine(dispatch(rng.standard_normal((N, D)), routes.tokens), routes.tokens, rng.random(N * k), N)
    assert counted.flops == 2 * N * k * D
    assert counted.macs == 0


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: assign(np.zeros((2, 1)), 3), TypeError, "experts must be integers, got float64"),
        (lambda: assign(np.zeros(2, int), 3), ShapeError, r"need the shape \(N, k\)"),
        (lambda: assign(np.zeros((2, 0), int), 3), ShapeError, "k choices for each token"),
        (lambda: assign(np.full((2, 1), 3), 3), ValueError, "from 0 to 2, or -1 for none, got 3 to 3"),
        (lambda: assign(np.zeros((2, 1), int), 0), ValueError, "n_experts must be at least 1"),
        (lambda: assign(np.zeros((2, 1), int), 1, capacity=-1), ValueError, "capacity must be None or at least 0"),
        (lambda: assign(np.zeros((2, 1), int), 1).of_rows(np.ones(2)), ShapeError, r"need the shape \(2, 1\)"),
        (lambda: dispatch(np.ones((2, 3)), np.array([2])), IndexError, "from 0 to 1, got 2 to 2"),
        (lambda: combine(np.ones((1, 3)), np.array([-1]), np.ones(1), 2), IndexError, "from 0 to 1, got -1"),
    ],
)
def test_wrong_calls(call, error, told):
    with pytest.raises(error, match=told):
        call()
