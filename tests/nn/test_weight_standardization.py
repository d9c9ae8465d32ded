"""Weight standardization: filters in loops, what they no longer depend on, gradients."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.nn import functional as F

WEIGHT = np.random.default_rng(0).normal(1, 3, (4, 2, 3, 2))


def test_transcription():
    expected = np.zeros(WEIGHT.shape)
    for o, filter_ in enumerate(WEIGHT):
        values = list(filter_.ravel())
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        for index in np.ndindex(filter_.shape):
            expected[(o, *index)] = (filter_[index] - mean) / math.sqrt(variance + 1e-2)
    np.testing.assert_allclose(F.standardize_weight(WEIGHT, 1e-2), expected, rtol=1e-12)


def test_neither_offset_nor_scale_of_a_filter_matter():
    once = F.standardize_weight(WEIGHT, 0.0).data
    scale, offset = np.array([0.5, 2.0, 3.0, 7.0]).reshape(4, 1, 1, 1), np.arange(4.0).reshape(4, 1, 1, 1)
    np.testing.assert_allclose(F.standardize_weight(WEIGHT * scale + offset, 0.0), once, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(F.standardize_weight(once, 0.0), once, rtol=1e-12, atol=1e-13)


def test_the_gradient_is_orthogonal_to_what_does_not_matter():
    g = mt.grad(lambda w: mt.sum(mt.exp(F.standardize_weight(w, 0.0))))(WEIGHT).data
    np.testing.assert_allclose(g.sum((1, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose((g * WEIGHT).sum((1, 2, 3)), 0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"padding": 1, "padding_mode": "circular", "bias": False}])
def test_the_layer_is_the_convolution_with_that_weight(options):
    rng = np.random.default_rng(1)
    layer = nn.WeightStandardizedConv2d(3, 4, 2, **options, eps=1e-3, rng=rng)
    plain = nn.Conv2d(3, 4, 2, **options, rng=rng)
    plain.weight, plain.bias = nn.Parameter(F.standardize_weight(layer.weight.data, 1e-3)), layer.bias
    x = rng.standard_normal((2, 3, 5, 5))
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-13, atol=1e-14)
    assert repr(layer).endswith("eps=0.001)")


def test_gradients():
    layer = nn.WeightStandardizedConv2d(2, 3, 2, rng=np.random.default_rng(1))
    x, (w, b) = np.random.default_rng(2).standard_normal((1, 2, 3, 3)), (p.data for p in layer.parameters())
    mt.check_grads(lambda x, w, b: nn.functional_call(layer, {"weight": w, "bias": b}, x), x, w, b, rtol=1e-5)
