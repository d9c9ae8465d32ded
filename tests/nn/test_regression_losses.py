"""Losses of real values against loops over elements."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F


def huber(d, delta):
    return d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)


def poisson(x, t, log_input=True, full=False):
    loss = math.exp(x) - t * x if log_input else x - t * math.log(x + 1e-8)
    return loss + (t * math.log(t) - t + math.log(2 * math.pi * t) / 2 if full and t > 1 else 0)


#: name -> (loss, the same for one element)
ELEMENTWISE = {
    "mse": (F.mse_loss, lambda x, t: (x - t) ** 2),
    "l1": (F.l1_loss, lambda x, t: abs(x - t)),
    "huber": (F.huber_loss, lambda x, t: huber(x - t, 1.0)),
    "huber_wide": (lambda x, t, **k: F.huber_loss(x, t, delta=2.5, **k), lambda x, t: huber(x - t, 2.5)),
    "smooth_l1": (F.smooth_l1_loss, lambda x, t: huber(x - t, 1.0)),
    "smooth_l1_wide": (lambda x, t, **k: F.smooth_l1_loss(x, t, beta=2.5, **k), lambda x, t: huber(x - t, 2.5) / 2.5),
    "smooth_l1_of_0": (lambda x, t, **k: F.smooth_l1_loss(x, t, beta=0, **k), lambda x, t: abs(x - t)),
    "charbonnier": (lambda x, t, **k: F.charbonnier_loss(x, t, eps=0.3, **k), lambda x, t: math.hypot(x - t, 0.3)),
    "gaussian": (
        lambda x, t, **k: F.gaussian_nll_loss(x, t, 0.7, **k),
        lambda x, t: (math.log(0.7) + (x - t) ** 2 / 0.7) / 2,
    ),
    "gaussian_full": (
        lambda x, t, **k: F.gaussian_nll_loss(x, t, 0.7, full=True, **k),
        lambda x, t: -math.log(math.exp(-((x - t) ** 2) / 1.4) / math.sqrt(2 * math.pi * 0.7)),
    ),
    "poisson": (F.poisson_nll_loss, poisson),
    "poisson_full": (lambda x, t, **k: F.poisson_nll_loss(x, t, full=True, **k), lambda x, t: poisson(x, t, full=True)),
    "poisson_rate": (
        lambda x, t, **k: F.poisson_nll_loss(abs(x), t, log_input=False, **k),
        lambda x, t: poisson(abs(x), t, log_input=False),
    ),
}


def ccc(x, y):
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    vx, vy = sum((a - mx) ** 2 for a in x) / n, sum((b - my) ** 2 for b in y) / n
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / n
    return 2 * cov / (vx + vy + (mx - my) ** 2)


@pytest.mark.parametrize("name", ELEMENTWISE)
@given(st.integers(0, 10**6), st.sampled_from([(), (4,), (2, 3), (0,)]))
def test_transcription(name, seed, shape):
    loss, of_element = ELEMENTWISE[name]
    rng = np.random.default_rng(seed)
    x, t = rng.normal(0, 2, shape), rng.gamma(2.0, 1.0, shape)
    want = np.array([of_element(a, b) for a, b in zip(x.ravel(), t.ravel(), strict=True)]).reshape(shape)
    np.testing.assert_allclose(loss(x, t, reduction="none"), want, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(loss(x, t, reduction="sum"), want.sum(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(loss(x, t), want.mean() if want.size else 0.0, rtol=1e-11, atol=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_ccc_transcription(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(2, 1, (2, n, 3))
    want = [1 - ccc(a, b) for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(F.ccc_loss(x, y, reduction="none"), want, rtol=1e-11)
    np.testing.assert_allclose(F.ccc_loss(x.T, y.T, axis=-1), np.mean(want), rtol=1e-11)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gradients(name):
    rng = np.random.default_rng(0)
    t = rng.gamma(2.0, 1.0, (3, 4))
    d = rng.choice([-1, 1], t.shape) * rng.choice([0.4, 0.8, 1.7, 3.0], t.shape)  # away from kinks
    mt.check_grads(ELEMENTWISE[name][0], t + d, t)


def test_gradients_of_variances_and_concordance():
    rng = np.random.default_rng(1)
    x, t, var = rng.normal(size=(3, 4, 3))
    mt.check_grads(lambda x, t, v: F.gaussian_nll_loss(x, t, v, reduction="none"), x, t, np.exp(var))
    mt.check_grads(lambda x, t, v: F.gaussian_nll_loss(x, t, v), x, t, np.exp(var[:, :1]))
    mt.check_grads(lambda x, t: F.ccc_loss(x, t, reduction="none"), x, t)


def test_small_variances_count_as_eps():
    value, gradient = mt.value_and_grad(lambda v: F.gaussian_nll_loss(1.0, 0.0, v, eps=0.5))(0.1)
    expected, slope = mt.value_and_grad(lambda v: F.gaussian_nll_loss(1.0, 0.0, v))(0.5)
    assert value.item() == expected.item()
    assert gradient.item() == slope.item() == (1 / 0.5 - 1 / 0.5**2) / 2


def test_derivatives_at_the_kinks():
    """0 at 0, and one-sided slopes meet where huber turns into a line."""
    for loss in (F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.charbonnier_loss):
        assert mt.grad(lambda x, loss=loss: loss(x, 0.0))(0.0).item() == 0
    for x, slope in ((1.0, 1.0), (-1.0, -1.0), (1e200, 1.0), (-math.inf, -1.0)):
        assert mt.grad(lambda x: F.huber_loss(x, 0.0))(x).item() == slope


def test_an_impossible_count_costs_nothing_if_it_did_not_happen():
    loss = mt.value_and_grad(lambda x: F.poisson_nll_loss(x, np.zeros(2), reduction="sum"))
    value, gradient = loss(np.array([-math.inf, 0.0]))
    assert value.item() == 1
    assert gradient.data.tolist() == [0, 1]


def test_concordance_of_constants():
    """A constant prediction has a concordance of 0 and still a gradient; two equal constants have none."""
    truth = np.array([1.0, 2.0, 4.0])
    value, gradient = mt.value_and_grad(lambda x: F.ccc_loss(x, truth))(np.full(3, 0.1))
    assert value.item() == 1
    centered = truth - truth.mean()
    want = -2 * centered / 3 / (truth.var() + (0.1 - truth.mean()) ** 2)
    np.testing.assert_allclose(gradient, want, rtol=1e-13)
    value, gradient = mt.value_and_grad(lambda x: F.ccc_loss(x, np.full(3, 0.1)))(np.full(3, 0.1))
    assert value.item() == 1
    assert gradient.data.tolist() == [0, 0, 0]


def test_float32_stays():
    t = np.array([1, 2])
    for loss in (F.mse_loss, F.huber_loss, F.charbonnier_loss, F.poisson_nll_loss, F.ccc_loss, F.smooth_l1_loss):
        x = mt.tensor([0.5, 0.25], dtype="float32", requires_grad=True)
        loss(x, t).backward()
        assert loss(x, t).dtype == x.grad.dtype == np.float32
