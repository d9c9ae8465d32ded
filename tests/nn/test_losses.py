"""Cross-entropy and its relatives against loops over rows and classes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F
from minitf.nn import losses


def loop(logits, target, smoothing=0.0, z_loss=0.0):
    """The loss of every row; target: a class, or a list of probabilities."""
    out = []
    for row, t in zip(logits, target, strict=True):
        V = len(row)
        q = t if np.ndim(t) else [1.0 if c == t else 0.0 for c in range(V)]
        q = [(1 - smoothing) * value + smoothing / V for value in q]
        lse = math.log(sum(math.exp(v) for v in row))
        out.append(-sum(a * (v - lse) for a, v in zip(q, row, strict=True)) + z_loss * lse**2)
    return np.array(out)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 1), st.sampled_from([0.0, 0.01]))
def test_transcription(seed, V, smoothing, z_loss):
    rng = np.random.default_rng(seed)
    logits, target = rng.normal(0, 3, (6, V)), rng.integers(0, V, 6)
    options = {"label_smoothing": smoothing, "z_loss": z_loss}
    expected = loop(logits, target, smoothing, z_loss)
    got = F.cross_entropy(logits.reshape(2, 3, V), target.reshape(2, 3), reduction="none", **options)
    np.testing.assert_allclose(got, expected.reshape(2, 3), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(F.cross_entropy(logits, target, **options), expected.mean(), rtol=1e-11, atol=1e-12)
    q = rng.dirichlet(np.ones(V), 6)
    got = F.cross_entropy(logits, q, reduction="sum", **options)
    np.testing.assert_allclose(got, loop(logits, q, smoothing, z_loss).sum(), rtol=1e-11, atol=1e-12)


def test_probabilities_that_are_one_hot_are_classes():
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((4, 5)), rng.integers(0, 5, 4)
    logits[:, 4], target = -np.inf, target % 4
    classes = F.cross_entropy(logits, target)
    np.testing.assert_allclose(F.cross_entropy(logits, np.eye(5)[target]), classes, rtol=1e-14)
    np.testing.assert_allclose(F.nll_loss(F.log_softmax(logits), target), classes, rtol=1e-14)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"z_loss": 0.1}, {"label_smoothing": 0.2, "z_loss": 0.3}]
)
def test_gradients(options):
    rng = np.random.default_rng(1)
    logits, target = rng.standard_normal((2, 3, 4)), rng.integers(0, 4, (2, 3))
    target[0, 1] = -100
    for reduction in ("mean", "none"):
        mt.check_grads(lambda x, r=reduction: F.cross_entropy(x, target, reduction=r, **options), logits)
    q = rng.dirichlet(np.ones(4), (2, 3))
    mt.check_grads(lambda x, q: F.cross_entropy(x, q, **options), logits, q)
    if not options:
        mt.check_grads(lambda x: F.nll_loss(x, target), logits)
        mt.check_grads(lambda x, y: F.mse_loss(x, y), logits, q)


def test_ignored_rows_do_not_exist():
    rng = np.random.default_rng(2)
    logits, target = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    target[[1, 4]] = -1
    spoiled = logits.copy()
    spoiled[1], spoiled[4] = np.nan, np.inf
    kept = target >= 0
    loss = lambda x: F.cross_entropy(x, target, ignore_index=-1, label_smoothing=0.1)
    with np.errstate(invalid="ignore"):
        value, gradient = mt.value_and_grad(loss)(spoiled)
    few = lambda x: F.cross_entropy(x, target[kept], label_smoothing=0.1)
    expected, expected_gradient = mt.value_and_grad(few)(logits[kept])
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(gradient.data[kept], expected_gradient, rtol=1e-13)
    assert (gradient.data[~kept] == 0).all()
    nothing = F.cross_entropy(logits, np.full(6, -100))
    assert nothing.item() == 0
    assert F.cross_entropy(np.zeros((0, 4)), np.zeros(0, int)).item() == 0


def test_infinite_and_huge_logits():
    logits = np.array([[1e5, -1e5, -np.inf], [-np.inf, 3.0, -np.inf]])
    value, gradient = mt.value_and_grad(lambda x: F.cross_entropy(x, [0, 1]))(logits)
    assert value.item() == 0
    assert (gradient.data == 0).all()
    assert F.cross_entropy(logits, [2, 1], reduction="none").tolist() == [math.inf, 0.0]


@given(st.integers(0, 10**6), st.booleans())
def test_kl_div_transcription(seed, log_target):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(4), (2, 5))
    want = [[q[i, c] * (math.log(q[i, c]) - math.log(p[i, c])) for c in range(4)] for i in range(5)]
    want = np.array(want)
    target = np.log(q) if log_target else q
    for reduction, value in (("none", want), ("sum", want.sum()), ("mean", want.mean()), ("batchmean", want.sum() / 5)):
        got = F.kl_div(np.log(p), target, log_target=log_target, reduction=reduction)
        np.testing.assert_allclose(got, value, rtol=1e-9, atol=1e-12)


def test_kl_div_is_cross_entropy_minus_entropy():
    rng = np.random.default_rng(4)
    logits, q = rng.standard_normal((3, 4)), rng.dirichlet(np.ones(4), 3)
    divergence = F.kl_div(F.log_softmax(logits), q, reduction="batchmean")
    np.testing.assert_allclose(divergence, F.cross_entropy(logits, q) + (q * np.log(q)).sum() / 3, rtol=1e-13)
    mt.check_grads(lambda x, q: F.kl_div(F.log_softmax(x), q), logits, q)
    mt.check_grads(lambda x, y: F.kl_div(x, F.log_softmax(y), log_target=True, reduction="none"), logits, q)


def test_kl_div_of_what_cannot_happen():
    log_p = np.array([[0.0, -np.inf, -np.inf]])
    q = np.array([[1.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        targets = [(q, False), (np.log(q), True)]
    for target, log_target in targets:
        loss = lambda x, t=target, log=log_target: F.kl_div(x, t, log_target=log, reduction="batchmean")
        value, gradient = mt.value_and_grad(loss)(log_p)
        assert value.item() == 0
        assert gradient.data.tolist() == [[-1, 0, 0]]
    assert F.kl_div(log_p, np.array([[0.5, 0.5, 0.0]]), reduction="sum").item() == math.inf


def test_decompositions_agree():
    rng = np.random.default_rng(3)
    logits, target = rng.standard_normal((5, 4)), np.array([0, 3, -1, 2, 1])
    g, h = rng.standard_normal((2, 5))
    for smoothing in (0.0, 0.3):
        out = losses.class_losses_p.impl(logits, target, smoothing=smoothing)
        by_parts = losses.class_losses_p.decomposition(logits, target, smoothing=smoothing)
        for a, b in zip(out, by_parts, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-13)
        operands = (g, h, logits, out[1], target)
        pulled = losses.class_losses_vjp_p.impl(*operands, smoothing=smoothing)
        by_parts = losses.class_losses_vjp_p.decomposition(*operands, smoothing=smoothing)
        np.testing.assert_allclose(by_parts, pulled, rtol=1e-13, atol=1e-16)


def test_float32_stays():
    for target in (np.array([0, 1]), np.full((2, 3), 1 / 3, np.float32)):
        x = mt.tensor(np.ones((2, 3)), dtype="float32", requires_grad=True)
        loss = F.cross_entropy(x, target, label_smoothing=0.1, z_loss=1e-4)
        loss.backward()
        assert loss.dtype == x.grad.dtype == np.float32


def test_wrong_calls():
    x = np.zeros((2, 3, 4))
    with pytest.raises(ValueError, match=r"target 4 at \(1, 2\) is not a class; classes are 0 to 3"):
        F.cross_entropy(x, [[0, 1, 2], [0, 1, 4]])
    with pytest.raises(mt.ShapeError, match=r"4 classes on the last axis, so class indices must have shape \(2, 3\)"):
        F.cross_entropy(x, np.zeros((2, 4), int))
    with pytest.raises(mt.ShapeError, match=r"target probabilities must have the shape of the logits"):
        F.cross_entropy(x, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="label_smoothing must be between 0 and 1"):
        F.cross_entropy(x, np.zeros((2, 3), int), label_smoothing=2)
    with pytest.raises(ValueError, match="reduction must be one of mean, sum, none, got 'average'"):
        F.cross_entropy(x, np.zeros((2, 3), int), reduction="average")
    with pytest.raises(TypeError, match="target probabilities: needs real floating values, got bool"):
        F.cross_entropy(x, np.zeros((2, 3), bool))
    with pytest.raises(TypeError, match="class indices must be integers, got float64"):
        F.nll_loss(x, np.zeros((2, 3)))
    with pytest.raises(TypeError, match="cross_entropy: needs real floating values, got int64"):
        F.cross_entropy([[1, 2]], [0])
    with pytest.raises(mt.ShapeError, match="same shape"):
        F.mse_loss(np.zeros(3), np.zeros((3, 1)))
