"""Depthwise-separable convolutions: the full convolution that they are, and the share of its cost that they take."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2))
def test_is_a_full_convolution_with_a_weight_of_products(seed, kernel, stride, dilation):
    rng = np.random.default_rng(seed)
    layer = nn.DepthwiseSeparableConv2d(3, 5, kernel, stride, 1, dilation, rng=rng)
    depthwise, pointwise = layer.depthwise.weight.data, layer.pointwise.weight.data
    weight = np.zeros((5, 3, kernel, kernel))
    for o, c in np.ndindex(5, 3):
        weight[o, c] = pointwise[o, c, 0, 0] * depthwise[c, 0]
    x = rng.standard_normal((2, 3, 7, 6))
    expected = F.conv2d(x, weight, layer.pointwise.bias, stride, 1, dilation)
    np.testing.assert_allclose(layer(x), expected, atol=1e-13)


@pytest.mark.parametrize("axes", [1, 2])
def test_takes_the_share_that_the_papers_count(axes):
    rng = np.random.default_rng(0)
    full, separable = (
        getattr(nn, name)(8, 16, 3, padding=1, bias=False, rng=rng)
        for name in (f"Conv{axes}d", f"DepthwiseSeparableConv{axes}d")
    )
    x = rng.standard_normal((2, 8, *(6,) * axes))
    macs = []
    for layer in (full, separable):
        with mt.cost() as c:
            layer(x)
        macs.append(c.macs)
    share = Fraction(1, 16) + Fraction(1, 3**axes)
    assert Fraction(macs[1], macs[0]) == share
    assert Fraction(nn.count_parameters(separable), nn.count_parameters(full)) == share


def test_gradients_and_parameters():
    layer = nn.DepthwiseSeparableConv1d(2, 3, 3, padding="same", padding_mode="reflect", rng=np.random.default_rng(0))
    values = {name: p.data for name, p in layer.named_parameters()}
    assert list(values) == ["depthwise.weight", "pointwise.weight", "pointwise.bias"]
    x = np.random.default_rng(1).standard_normal((1, 2, 4))
    mt.check_grads(lambda x, *v: nn.functional_call(layer, dict(zip(values, v, strict=True)), x), x, *values.values())
