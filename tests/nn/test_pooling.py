"""Pooling layers pass their options on; what the functions compute is tested with them."""

import numpy as np
import pytest

from minitf import nn
from minitf.nn import functional as F

X = np.random.default_rng(0).standard_normal((2, 3, 6, 5, 7))
MAX = {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": True}
AVG = {"kernel_size": 2, "stride": 1, "padding": 1, "ceil_mode": False, "count_include_pad": False}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kind", "options"), [("Max", MAX), ("Avg", AVG), ("AdaptiveAvg", {"output_size": 2})])
def test_is_the_function_with_the_options(kind, options, axes):
    function = getattr(F, {"Max": "max", "Avg": "avg", "AdaptiveAvg": "adaptive_avg"}[kind] + f"_pool{axes}d")
    layer = getattr(nn, f"{kind}Pool{axes}d")(*options.values())
    np.testing.assert_array_equal(layer(X), function(X, **options))
    assert not list(layer.parameters())
    assert repr(layer).startswith(f"{kind}Pool{axes}d({next(iter(options))}=")


def test_strides_are_kernels_and_divisors_are_passed_on():
    np.testing.assert_array_equal(nn.MaxPool2d(2)(X), F.max_pool2d(X, 2, 2))
    for axes, layer in ((2, nn.AvgPool2d), (3, nn.AvgPool3d)):
        whole = layer(2, divisor_override=1)(X)
        np.testing.assert_allclose(whole, layer(2)(X).data * 2**axes, rtol=1e-14)
