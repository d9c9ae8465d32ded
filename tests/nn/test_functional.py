"""linear, embedding, one_hot, repeat_kv and dropout."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 3), max_size=3), st.integers(1, 4), st.integers(1, 4))
def test_linear_transcription(seed, leading, D_in, D_out):
    rng = np.random.default_rng(seed)
    x, w, b = rng.standard_normal((*leading, D_in)), rng.standard_normal((D_in, D_out)), rng.standard_normal(D_out)
    expected = np.zeros((*leading, D_out))
    for index in np.ndindex(*leading):
        for o in range(D_out):
            expected[(*index, o)] = sum(x[(*index, i)] * w[i, o] for i in range(D_in)) + b[o]
    np.testing.assert_allclose(F.linear(x, w, b), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(F.linear(x, w), expected - b, rtol=1e-12, atol=1e-14)


def test_linear_gradients_and_dtypes():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 5)), rng.standard_normal(5)
    mt.check_grads(F.linear, x, w, b, rtol=1e-5)
    mt.check_grads(F.linear, x, w)
    small = mt.tensor(x, dtype="float32", requires_grad=True)
    out = F.linear(small, w.astype(np.float32), b.astype(np.float32))
    assert out.dtype == np.float32
    mixed = F.linear(small, w, b)
    mt.sum(mixed).backward()
    assert mixed.dtype == np.float64
    assert small.grad.dtype == np.float32


def test_embedding():
    weight = np.random.default_rng(1).standard_normal((5, 3))
    ids = np.array([[4, 0], [0, 0]])
    np.testing.assert_array_equal(F.embedding(ids, weight), np.array([[weight[i] for i in row] for row in ids]))
    mt.check_grads(lambda w: F.embedding(ids, w), weight)
    gradient = mt.grad(lambda w: mt.sum(F.embedding(ids, w)))(weight)
    assert gradient.data[:, 0].tolist() == [3, 0, 0, 0, 1]
    assert F.one_hot(ids, 5).data.sum(-1).tolist() == [[1, 1], [1, 1]]
    np.testing.assert_array_equal(F.one_hot(ids, 5) @ weight, F.embedding(ids, weight))
    assert F.one_hot([0], 2, dtype="float32").dtype == np.float32
    assert F.embedding(np.zeros((0, 2), int), weight).shape == (0, 2, 3)


def test_repeat_kv():
    x = np.random.default_rng(2).standard_normal((2, 3, 4, 5))
    out = F.repeat_kv(x, 6)
    for h in range(6):
        np.testing.assert_array_equal(out.data[:, h], x[:, h // 2])
    mt.check_grads(lambda x: F.repeat_kv(x, 6), x)


def test_dropout_given_a_mask():
    x = np.random.default_rng(3).standard_normal((4, 5))
    mask = np.random.default_rng(4).random((4, 5)) < 0.5
    np.testing.assert_allclose(F.dropout(x, 0.2, mask=mask), np.where(mask, x / 0.8, 0), rtol=1e-15)
    np.testing.assert_array_equal(F.dropout(x, 0.2, mask=mask[:1]).data == 0, np.broadcast_to(~mask[:1], x.shape))
    mt.check_grads(lambda x: F.dropout(x, 0.2, mask=mask), x)
    assert (F.dropout(np.full((3,), np.inf), 1.0, rng=np.random.default_rng(0)).data == 0).all()


def test_dropout_draws():
    x = mt.tensor(np.ones(20_000), dtype="float32")
    out = F.dropout(x, 0.3, rng=np.random.default_rng(0)).data
    assert out.dtype == np.float32
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((out == 0).mean() - 0.3) < 5 * (0.21 / 20_000) ** 0.5
    assert F.dropout(x, 0.3, training=False) is x
    assert F.dropout(x, 0.0) is x


def test_dropout_repeats_inside_checkpoint():
    x = np.random.default_rng(5).standard_normal((6, 7))

    def loss(x, rng, through):
        f = lambda x: mt.sum(F.dropout(mt.tanh(x), 0.5, rng=rng) ** 2)
        return through(f)(x)

    plain = mt.grad(lambda x: loss(x, np.random.default_rng(0), lambda f: f))(x)
    again = mt.grad(lambda x: loss(x, np.random.default_rng(0), mt.checkpoint))(x)
    np.testing.assert_array_equal(plain, again)


def test_wrong_calls():
    x = np.ones((2, 3))
    with pytest.raises(
        mt.ShapeError, match=r"\(D_in, D_out\) with D_in the last axis of x; x is \(2, 3\), weight \(2, 3\)"
    ):
        F.linear(x, np.ones((2, 3)))
    with pytest.raises(mt.ShapeError, match=r"bias must be \(D_out,\) = \(4,\), got \(3,\)"):
        F.linear(x, np.ones((3, 4)), np.ones(3))
    with pytest.raises(ValueError, match="ids must be between 0 and 4, got -1 to 5"):
        F.embedding([-1, 5], np.ones((5, 2)))
    with pytest.raises(TypeError, match="ids must be integers, got float64"):
        F.embedding([1.0], np.ones((5, 2)))
    with pytest.raises(mt.ShapeError, match="K a divisor of H = 4"):
        F.repeat_kv(np.ones((1, 3, 2, 2)), 4)
    with pytest.raises(
        TypeError, match=r"rng must be a numpy.random.Generator such as np.random.default_rng\(0\), got 0"
    ):
        F.dropout(x, 0.1, rng=0)
    with pytest.raises(ValueError, match=r"p must be between 0 and 1, got 1.5"):
        F.dropout(x, 1.5)
    with pytest.raises(TypeError, match="mask must be boolean, True = kept"):
        F.dropout(x, 0.5, mask=np.ones((2, 3)))
    with pytest.raises(mt.ShapeError, match="does not broadcast"):
        F.dropout(x, 0.5, mask=np.ones(2, bool))
