"""Batch norm: the equations in loops, running estimates, evaluation, gradients that flow through the statistics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


def loops(x, w, b, eps):
    """One channel at a time; also its mean and its unbiased variance."""
    out, means, variances = np.zeros(x.shape), [], []
    for c in range(x.shape[1]):
        values = [v for image in x[:, c] for v in np.ravel(image)]
        N = len(values)
        mean = sum(values) / N
        squares = sum((v - mean) ** 2 for v in values)
        out[:, c] = (x[:, c] - mean) / math.sqrt(squares / N + eps) * w[c] + b[c]
        means.append(mean)
        variances.append(squares / (N - 1))
    return out, np.array(means), np.array(variances)


@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from([(), (3,), (2, 2), (1, 2, 1)]))
def test_transcription(seed, B, place):
    rng = np.random.default_rng(seed)
    x, (w, b) = rng.normal(1, 2, (B, 3, *place)), rng.standard_normal((2, 3))
    layer = [nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][len(place)](3, eps=0.1, momentum=0.25)
    layer.weight.data[:], layer.bias.data[:] = w, b
    expected, mean, variance = loops(x, w, b, 0.1)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.25 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * variance, rtol=1e-12)
    np.testing.assert_allclose(F.batch_norm(x, weight=w, bias=b, eps=0.1), expected, rtol=1e-11, atol=1e-12)


def test_no_momentum_is_the_plain_average_of_all_batches():
    batches = np.random.default_rng(0).normal(3, 2, (4, 6, 2))
    layer = nn.BatchNorm1d(2, momentum=None)
    for x in batches:
        layer(x)
    np.testing.assert_allclose(layer.running_mean, batches.mean((0, 1)), rtol=1e-13)
    np.testing.assert_allclose(layer.running_var, batches.var(1, ddof=1).mean(0), rtol=1e-13)
    assert layer.num_batches_tracked.item() == 4


def test_evaluation_sees_every_sample_by_itself_and_remembers_nothing():
    rng = np.random.default_rng(0)
    layer = nn.BatchNorm2d(3)
    for _ in range(3):
        layer(rng.normal(2, 3, (4, 3, 2, 2)))
    before = layer.eval().state_dict()
    x = rng.standard_normal((4, 3, 2, 2))
    np.testing.assert_array_equal(layer(x).data[1:2], layer(x[1:2]))
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    mean, var = layer.running_mean, layer.running_var
    np.testing.assert_array_equal(layer(x), F.batch_norm(x, mean, var, layer.weight, layer.bias))
    assert layer(x[:1, :, :1, :1]).shape == (1, 3, 1, 1)
    without = nn.BatchNorm2d(3, track_running_stats=False)
    np.testing.assert_array_equal(without(x), without.eval()(x))
    assert list(without.state_dict()) == ["weight", "bias"]


def test_the_estimates_are_not_recorded():
    layer, x = nn.BatchNorm1d(2), np.random.default_rng(0).standard_normal((5, 2))
    leaf = mt.tensor(x, requires_grad=True)
    layer(leaf)
    assert not layer.running_mean.requires_grad
    assert not layer.running_var.requires_grad
    with mt.cost() as c:
        nn.BatchNorm1d(2)(x)
    with mt.cost() as plain:
        F.batch_norm(x, weight=np.ones(2), bias=np.zeros(2))
    assert c.flops == plain.flops
    values = {name: p.data for name, p in layer.named_parameters()}
    mt.jvp(lambda x: nn.functional_call(layer, values, x), (x,), (x,))
    mt.hvp(lambda x: mt.sum(nn.functional_call(layer, values, x) ** 3), (x,), (x,))
    assert layer.num_batches_tracked.item() == 3
    assert type(layer.running_var) is nn.Buffer


def test_replaced_estimates_are_put_back():
    layer, x = nn.BatchNorm1d(2), np.random.default_rng(0).standard_normal((5, 2))
    before = layer.running_mean
    nn.functional_call(layer, {"running_mean": np.ones(2)}, x)
    assert layer.running_mean is before


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_gradients(training, affine):
    layer = nn.BatchNorm2d(2, eps=1e-3, affine=affine).train(training)
    names = [name for name, _ in layer.named_parameters()]
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(2) for _ in names]
    x = rng.standard_normal((3, 2, 2, 2))
    mt.check_grads(lambda x, *v: nn.functional_call(layer, dict(zip(names, v, strict=True)), x), x, *values, rtol=1e-5)


def test_gradients_with_respect_to_given_statistics():
    rng = np.random.default_rng(0)
    x, mean, var, w, b = (
        rng.standard_normal((3, 2)),
        *rng.standard_normal((1, 2)),
        *rng.uniform(0.5, 2, (1, 2)),
        *np.ones((2, 2)),
    )
    mt.check_grads(F.batch_norm, x, mean, var, w, b)


def test_half_precision_and_dtypes():
    layer = nn.BatchNorm1d(2).astype("float32")
    out = layer(np.random.default_rng(0).standard_normal((4, 2)).astype("float32"))
    assert out.dtype == layer.running_mean.dtype == layer.running_var.dtype == np.float32
    assert layer.num_batches_tracked.dtype == np.int64
