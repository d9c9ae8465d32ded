"""Ties, kinks, zeros, infinities and NaN: what an operation does where it has no derivative, or no number."""

from __future__ import annotations

import numpy as np
import pytest

import minitf as mt

inf, nan = np.inf, np.nan


def gradient(function, *arguments, argnum=0):
    return mt.grad(lambda *xs: mt.sum(function(*xs)), argnums=argnum)(*arguments).tolist()


# -- ties ---------------------------------------------------------------------------------------------------------

TIED = np.array([2.0, 1.0, 2.0, 1.0, 2.0])


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "bfloat16"])
def test_sorting_is_stable(dtype):
    x = mt.astype(TIED - 1, dtype)
    assert mt.argsort(x).tolist() == [1, 3, 0, 2, 4]
    assert mt.argsort(x, descending=True).tolist() == [0, 2, 4, 1, 3]
    assert mt.top_k(x, 4)[1].tolist() == [0, 2, 4, 1]
    assert mt.sort(x).tolist() == sorted(x.tolist())
    assert mt.sort(x, descending=True).dtype == x.dtype


def test_a_winner_takes_the_whole_gradient():
    assert gradient(mt.max, TIED) == [1, 0, 0, 0, 0]
    assert gradient(mt.min, TIED) == [0, 1, 0, 0, 0]
    assert gradient(lambda x: mt.top_k(x, 2)[0], TIED) == [1, 0, 1, 0, 0]
    assert gradient(mt.maximum, 1.0, 1.0) == gradient(mt.minimum, 1.0, 1.0) == 1
    assert gradient(mt.maximum, 1.0, 1.0, argnum=1) == gradient(mt.minimum, 1.0, 1.0, argnum=1) == 0
    assert (mt.argmax(TIED).item(), mt.argmin(TIED).item()) == (0, 1)


def test_top_k_of_all_and_of_none():
    values, places = mt.top_k(TIED, 5)
    assert (values.tolist(), places.tolist()) == ([2, 2, 2, 1, 1], [0, 2, 4, 1, 3])
    values, places = mt.top_k(TIED, 0)
    assert (values.shape, places.shape, places.dtype) == ((0,), (0,), np.int64)


# -- kinks and poles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "at", "slope"),
    [
        (mt.abs, 0.0, 0),
        (mt.abs, 0j, 0),
        (mt.sign, 0.0, 0),
        (lambda x: mt.clip(x, 0.0, 1.0), 0.0, 1),
        (lambda x: mt.clip(x, 0.0, 1.0), 1.0, 1),
        (lambda x: mt.clip(x, 0.0, 1.0), 1.5, 0),
        (lambda x: x**0, 0.0, 0),
        (lambda x: x**1, 0.0, 1),
        (lambda x: x**2, 0.0, 0),
        (lambda x: x**3, -2.0, 12),
        (lambda x: 0.0**x, 2.0, 0),
        (lambda x: mt.power(0.0, x), 2.0, 0),
        (lambda x: mt.power(x, np.array(0.0)), 0.0, 0),
        (mt.round, 0.5, 0),
        (lambda x: mt.mod(x, 2.0), 2.5, 1),
    ],
)
def test_slopes(function, at, slope):
    # + 0·x keeps what is constant differentiable
    assert mt.grad(lambda x: mt.real(function(x)) + 0.0 * mt.real(x))(at).item() == slope


def test_products_with_zeros_are_differentiated_exactly():
    x = np.array([2.0, 0.0, 3.0, 0.0])
    assert gradient(mt.prod, x) == [0, 0, 0, 0]
    assert gradient(mt.prod, x[:3]) == [0, 6, 0]
    assert gradient(mt.cumprod, x[:3]) == [1, 8, 0]
    assert mt.jacobian(mt.grad(mt.prod))(x)[1, 3].item() == 6
    mt.check_grads(mt.prod, x, order=3)
    mt.check_grads(mt.cumprod, x, order=2)


def test_straight_through():
    x, mask = np.array([0.4, 1.6]), np.array([True, False])
    value, g = mt.value_and_grad(lambda x: mt.sum(3 * mt.straight_through(mt.round(x), x)))(x)
    assert (value.item(), g.tolist()) == (6, [3, 3])
    assert gradient(lambda x: mt.straight_through(mt.round(x), x, mask), x) == [1, 0]
    assert mt.jvp(lambda x: mt.straight_through(mt.round(x), x, mask), (x,), (x,))[1].tolist() == [0.4, 0]
    assert mt.straight_through(np.array([1, 2]), np.ones(2, np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("y", "mask", "error", "message"),
    [
        (np.ones(3), None, mt.ShapeError,
         "straight_through: the value (3,) and what gets its gradient (2,) differ in shape"),
        (np.ones(2), np.ones(3, bool), mt.ShapeError, "straight_through: the mask (3,) does not broadcast to (2,)"),
        (np.ones(2), np.ones(2), TypeError, "straight_through: the mask must be boolean, got float64"),
    ],
)  # fmt: skip
def test_straight_through_refuses(y, mask, error, message):
    with pytest.raises(error) as caught:
        mt.straight_through(y, np.ones(2), mask)
    assert str(caught.value) == message


# -- infinities and NaN -------------------------------------------------------------------------------------------


def test_nan_is_the_largest_and_wins_extrema():
    x = np.array([1.0, nan, 2.0])
    assert mt.argsort(x).tolist() == [0, 2, 1]
    assert mt.argsort(x, descending=True).tolist() == [1, 2, 0]
    assert mt.top_k(x, 1)[1].tolist() == [1]
    assert np.isnan(mt.max(x).item())
    assert np.isnan(mt.min(x).item())
    assert np.isnan(mt.maximum(x, 3.0).tolist()).tolist() == [False, True, False]


@pytest.mark.parametrize("bad", [inf, -inf, nan])
def test_what_is_replaced_or_not_chosen_leaves_nothing_behind(bad):
    x = np.array([bad, 1.0])
    first = np.array([True, False])
    for function in (
        lambda x: mt.where(first, 5.0, x),
        lambda x: mt.index_put(x, 0, 5.0),
        lambda x: mt.index_put(x, first, 5.0),
        lambda x: mt.put_along_axis(x, [0], 5.0, 0),
    ):
        assert function(x).tolist() == [5, 1]
        assert gradient(function, x) == [0, 1]
    assert mt.diag(np.array([1.0, bad]))[0].tolist() == [1, 0]
    assert mt.tril(np.array([[1.0, bad], [1.0, 1.0]]))[0].tolist() == [1, 0]
    assert mt.index_add(np.zeros(2), 0, bad)[1].item() == 0
    assert gradient(lambda x: mt.where(first, x, 0.0)[0], np.array([2.0, bad])) == [1, 0]


def test_sums_of_exponentials():
    assert mt.logsumexp([-inf, -inf]).item() == -inf
    assert gradient(mt.logsumexp, np.array([-inf, -inf])) == [0, 0]
    assert gradient(mt.logsumexp, np.array([-inf, 0.0])) == [0, 1]
    assert mt.logsumexp([1000.0, 1000.0]).item() == 1000 + np.log(2)
    assert mt.logsumexp(np.zeros(0)).item() == -inf
    assert mt.logaddexp(-inf, -inf).item() == -inf
    assert gradient(mt.logaddexp, -inf, -inf) == 0
    assert gradient(mt.logaddexp, 1000.0, 0.0) == 1


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [(mt.sigmoid, 0.0, 1.0), (mt.softplus, 0.0, 1e4), (mt.tanh, -1.0, 1.0), (mt.erf, -1.0, 1.0)],
)
def test_functions_do_not_overflow(function, low, high):
    with np.errstate(all="raise", under="ignore"):
        assert function(np.array([-1e4, 1e4])).tolist() == [low, high]
        assert gradient(function, np.array([-1e4, 1e4])) == [0, float(function is mt.softplus)]


def test_an_empty_mean_is_nan():
    assert np.isnan(mt.mean(np.zeros((2, 0)), 1).tolist()).all()
    assert np.isnan(mt.var(np.ones(1), ddof=1).item())
    assert mt.prod(np.zeros((0, 2)), 0).tolist() == [1, 1]


def test_counts_may_be_numpy_s_integers():
    n, x = np.int64(2), np.arange(4.0)
    assert mt.reshape(x, np.int64(4)).shape == (4,)
    assert mt.broadcast_to(1.0, n).shape == (2,)
    assert mt.expand_dims(x, np.int64(0)).shape == (1, 4)
    assert [part.tolist() for part in mt.split(x, n)] == [[0, 1], [2, 3]]
    assert mt.roll(x, n).tolist() == mt.roll(x, n, np.int64(0)).tolist() == [2, 3, 0, 1]
    assert mt.repeat(x, n).shape == mt.tile(x, n).shape == (8,)
    assert mt.moveaxis(np.zeros((2, 3)), np.int64(0), np.int64(1)).shape == (3, 2)
    assert mt.top_k(x, n)[0].tolist() == [3, 2]
