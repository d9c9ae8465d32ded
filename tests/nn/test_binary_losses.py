"""Losses of yes or no against loops over elements."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F


def sigma(x):
    return 1 / (1 + math.exp(-x))


def bce_loop(logits, target, pos_weight=1.0):
    terms = zip(logits.ravel(), target.ravel(), strict=True)
    out = [-pos_weight * t * math.log(sigma(x)) - (1 - t) * math.log(1 - sigma(x)) for x, t in terms]
    return np.reshape(out, logits.shape)


def focal_loop(logits, target, alpha, gamma):
    out = []
    for x, t, loss in zip(logits.ravel(), target.ravel(), bce_loop(logits, target).ravel(), strict=True):
        p_t = sigma(x) * t + (1 - sigma(x)) * (1 - t)
        alpha_t = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
        out.append(alpha_t * (1 - p_t) ** gamma * loss)
    return np.reshape(out, logits.shape)


def dice_loop(p, target, smooth):
    out = []
    for row, truth in zip(p, target, strict=True):
        both = total = 0.0
        for a, b in zip(row.ravel(), truth.ravel(), strict=True):
            both, total = both + a * b, total + a + b
        out.append(1 - (2 * both + smooth) / (total + smooth))
    return np.array(out)


def draw(seed, shape=(3, 4)):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, shape), rng.random(shape), rng.uniform(0.5, 2, shape)


@given(st.integers(0, 10**6), st.sampled_from([(), (5,), (2, 3), (0, 2)]))
def test_cross_entropy_transcription(seed, shape):
    x, t, w = draw(seed, shape)
    want = bce_loop(x, t, 1.7)
    got = F.binary_cross_entropy_with_logits(x, t, pos_weight=1.7, weight=w, reduction="none")
    np.testing.assert_allclose(got, w * want, rtol=1e-12)
    got = F.binary_cross_entropy(F.sigmoid(x), t, weight=w, reduction="sum")
    np.testing.assert_allclose(got, (w * bce_loop(x, t)).sum(), rtol=1e-12)


@given(st.integers(0, 10**6), st.sampled_from([None, 0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_focal_and_dice_transcription(seed, alpha, gamma):
    x, t, _ = draw(seed)
    want = focal_loop(x, t, alpha, gamma)
    np.testing.assert_allclose(F.focal_loss(x, t, alpha=alpha, gamma=gamma), want.mean(), rtol=1e-11)
    p = 1 / (1 + np.exp(-x))
    for smooth in (1.0, 0.1):
        want = dice_loop(p, t, smooth)
        np.testing.assert_allclose(F.dice_loss(p, t, smooth=smooth, reduction="none"), want, rtol=1e-12)


def test_invariants():
    x, t, _ = draw(0)
    bce = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    flipped = F.binary_cross_entropy_with_logits(-x, 1 - t, reduction="none")
    np.testing.assert_allclose(flipped, bce, rtol=1e-14)
    two_classes = F.cross_entropy(np.stack([x, np.zeros_like(x)], -1), np.stack([t, 1 - t], -1), reduction="none")
    np.testing.assert_allclose(two_classes, bce, rtol=1e-13)
    np.testing.assert_array_equal(F.focal_loss(x, t, alpha=None, gamma=0, reduction="none"), bce)
    masks = np.array([[[1, 0], [1, 1]], [[0, 0], [0, 0]]])
    assert F.dice_loss(masks.astype(float), masks, reduction="none").tolist() == [0.0, 0.0]
    assert F.dice_loss(1.0 - masks, masks, smooth=0, reduction="none").tolist() == [1.0, 1.0]


def test_integer_and_boolean_targets():
    x = np.array([1.0, -2.0])
    for loss in (F.binary_cross_entropy_with_logits, F.focal_loss):
        expected = loss(x, np.array([1.0, 0.0])).item()
        assert loss(x, np.array([1, 0])).item() == loss(x, np.array([True, False])).item() == expected


@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=2.0), "x"),
        (lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, weight=w, pos_weight=w, reduction="none"), "xw"),
        (lambda p, t, w: F.binary_cross_entropy(p, t, weight=w), "pw"),
        (lambda x, t: F.focal_loss(x, t, reduction="none"), "x"),
        (lambda x, t: F.focal_loss(x, t, gamma=0.5), "x"),
        (lambda p, t: F.dice_loss(p, t, reduction="none"), "p"),
    ],
)
def test_gradients(loss, inputs):
    x, t, w = draw(1)
    arrays = [x if inputs[0] == "x" else np.clip(1 / (1 + np.exp(-x)), 0.05, 0.95), np.clip(t, 0.05, 0.95)]
    mt.check_grads(loss, *arrays, *([w] if "w" in inputs else []))


def test_huge_and_infinite_logits():
    x = np.array([1e5, -1e5, np.inf, -np.inf, 1e5, np.inf])
    t = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    for loss in (F.binary_cross_entropy_with_logits, lambda *a, **k: F.focal_loss(*a, alpha=None, gamma=0.5, **k)):
        assert loss(x, t, reduction="none").tolist() == [0, 0, 0, 0, 1e5, np.inf]
    gradient = mt.grad(lambda x: F.binary_cross_entropy_with_logits(x, t, reduction="sum"))(x)
    assert gradient.data.tolist() == [0, 0, 0, 0, 1, 1]
    gradient = mt.grad(lambda x: F.focal_loss(x, t, alpha=None, gamma=0.5, reduction="sum"))(x)
    assert gradient.data.tolist() == [0, 0, 0, 0, 1, 1]
    # far in the tail, where 1 - sigmoid(x) has no digits left
    assert math.isclose(F.focal_loss(50.0, 1.0, alpha=None, gamma=1).item(), math.exp(-100), rel_tol=1e-14)


def test_certain_probabilities():
    p, t = np.array([0.0, 0.0, 1.0, 1.0, 1e-50]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    value, gradient = mt.value_and_grad(lambda p: F.binary_cross_entropy(p, t, reduction="sum"))(p)
    assert value.item() == 300
    assert gradient.data.tolist() == [1, 0, -1, 0, 0]


def test_float32_stays():
    x = mt.tensor([0.5, 0.2], dtype="float32", requires_grad=True)
    losses = [F.binary_cross_entropy_with_logits(x, [1, 0]), F.binary_cross_entropy(x, [1, 0]), F.focal_loss(x, [1, 0])]
    for loss in [*losses, F.dice_loss(x[None], [[1, 0]])]:
        loss.backward()
        assert loss.dtype == x.grad.dtype == np.float32
