"""softmax and log_softmax against loops, with masks and infinities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F

BOTH = pytest.mark.parametrize("function", [F.softmax, F.log_softmax])


def loop(x, mask):
    """Row by row, entry by entry, over the last axis."""
    p = np.zeros(x.shape)
    for index in np.ndindex(x.shape[:-1]):
        row = [math.exp(v) if m else 0.0 for v, m in zip(x[index], mask[index], strict=True)]
        total = sum(row)
        for i, e in enumerate(row):
            p[(*index, i)] = e / total if total else 0.0
    return p


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(1, 6))
def test_transcription(seed, rows, columns):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, (2, rows, columns))
    x[rng.random(x.shape) < 0.1] = -np.inf
    mask = rng.random(x.shape) < 0.7
    p = loop(x, mask)
    np.testing.assert_allclose(F.softmax(x, where=mask), p, atol=1e-15)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(F.log_softmax(x, where=mask), np.log(p), atol=1e-13)
    moved = F.softmax(np.moveaxis(x, -1, 0), axis=0, where=np.moveaxis(mask, -1, 0)).data
    np.testing.assert_allclose(np.moveaxis(moved, 0, -1), p, atol=1e-15)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1e4, 1e4))
def test_invariant_to_a_shift_and_sums_to_one(seed, shift):
    x = np.random.default_rng(seed).normal(0, 2, (3, 5))
    np.testing.assert_allclose(F.softmax(x + shift), F.softmax(x), rtol=1e-10)
    np.testing.assert_allclose(mt.sum(F.softmax(x * 1e300), -1), 1.0, rtol=1e-14)


@BOTH
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients(function, axis):
    rng = np.random.default_rng(0)
    mt.check_grads(lambda x: function(x, axis=axis), rng.standard_normal((3, 4, 2)), order=3)


def test_gradients_with_masks():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 5))
    mask = rng.random((4, 5)) < 0.6
    mask[2] = False
    mt.check_grads(lambda x: F.softmax(x, where=mask), x)
    # log-probabilities of what is masked are -inf; the others are checked
    mt.check_grads(lambda x: mt.where(mask, F.log_softmax(x, where=mask), 0.0), x)


@BOTH
def test_what_is_masked_has_no_gradient(function):
    x = np.array([[1.0, np.nan, 3.0], [np.inf, np.nan, 2.0], [-np.inf, -np.inf, -np.inf]])
    mask = np.array([[True, False, True], [False, False, False], [True, True, True]])
    out, pullback = mt.vjp(lambda x: function(x, where=mask), x)
    dead = np.array([[False, True, False], [True] * 3, [True] * 3])
    assert (out.data[dead] == (0 if function is F.softmax else -np.inf)).all()
    (gradient,) = pullback(np.random.default_rng(0).standard_normal(x.shape))
    assert (gradient.data[dead] == 0).all()
    assert (gradient.data[~dead] != 0).all()
    tangent = mt.jvp(lambda x: function(x, where=mask), (x,), (np.ones(x.shape),))[1]
    assert (tangent.data[dead] == 0).all()


@BOTH
def test_decomposition_agrees(function):
    from minitf.nn import softmax

    primitive = getattr(softmax, f"{function.__name__}_p")
    backward = getattr(softmax, f"{function.__name__}_vjp_p")
    rng = np.random.default_rng(2)
    x, g = rng.standard_normal((2, 3, 4))
    mask = np.array([[True, True, False, True], [False] * 4, [True] * 4])
    for operands in [(x,), (x, mask)]:
        out = primitive.impl(*operands, axis=-1)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(primitive.decomposition(*operands, axis=-1), out, rtol=1e-14)
        np.testing.assert_allclose(
            backward.decomposition(g, out, axis=-1), backward.impl(g, out, axis=-1), rtol=1e-13, atol=1e-16
        )


@BOTH
def test_dtypes_and_empty_arrays(function):
    x = mt.tensor(np.ones((2, 3)), dtype="float32", requires_grad=True)
    out = function(x, where=np.array([True, False, True]))
    assert out.dtype == np.float32
    mt.sum(mt.where(mt.isfinite(out), out, 0.0)).backward()
    assert x.grad.dtype == np.float32
    assert function(np.zeros((2, 0))).shape == (2, 0)
    assert function(np.zeros((0, 2))).shape == (0, 2)
    assert function(np.ones((4, 1, 3)), where=np.ones((5, 3), bool)).shape == (4, 5, 3)
    np.testing.assert_allclose(
        function(np.arange(12.0).reshape(3, 4)[::-1, ::2]), function(np.array([[8.0, 10], [4, 6], [0, 2]]))
    )


@BOTH
def test_wrong_calls(function):
    with pytest.raises(TypeError, match="needs real floating values, got int64"):
        function([1, 2])
    with pytest.raises(TypeError, match="where must be boolean, True where an entry takes part"):
        function([1.0, 2.0], where=[1, 0])
    with pytest.raises(mt.ShapeError, match=r"do not broadcast: axis -1 has sizes \[2, 3\]"):
        function([1.0, 2.0], where=[True, False, True])
    with pytest.raises(mt.ShapeError, match="axis 1 is out of range"):
        function([1.0, 2.0], axis=1)
