"""Convolution and batch norm as one convolution: exact in evaluation, whatever the options."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn


def trained(layer, norm, rng, *shape):
    """Statistics and parameters that are not those of the start."""
    for _ in range(3):
        layer(rng.normal(1, 2, shape))
    if norm.weight is not None:
        norm.weight.data[:], norm.bias.data[:] = rng.standard_normal((2, norm.C))
    return layer.eval()


@given(
    st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 2]), st.integers(1, 2),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
)  # fmt: skip
def test_fused_is_unfused(seed, bias, groups, stride, mode):
    rng = np.random.default_rng(seed)
    layer = nn.ConvNorm(2, 4, 3, stride, 1, groups=groups, padding_mode=mode, bias=bias, eps=1e-2, rng=rng)
    trained(layer, layer.norm, rng, 4, 2, 5, 6)
    x = rng.standard_normal((2, 2, 5, 6))
    fused = layer.fused()
    np.testing.assert_allclose(fused(x), layer(x), rtol=1e-12, atol=1e-12)
    assert [name for name, _ in fused.named_parameters()] == ["weight", "bias"]
    with mt.cost() as c:
        fused(x)
    with mt.cost() as whole:
        layer(x)
    assert c.macs == whole.macs
    assert c.flops < whole.flops


@pytest.mark.parametrize("axes", [1, 3])
def test_other_axes_and_norms_without_weights(axes):
    rng = np.random.default_rng(0)
    conv = getattr(nn, f"Conv{axes}d")(2, 3, 2, rng=rng)
    norm = getattr(nn, f"BatchNorm{axes}d")(3, affine=False)
    shape = (4, 2, *(4,) * axes)
    both = trained(nn.Sequential(conv, norm), norm, rng, *shape)
    x = rng.standard_normal(shape)
    before = conv.weight.data.copy()
    np.testing.assert_allclose(nn.fuse_conv_norm(conv, norm)(x), both(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(conv.weight, before)
    assert nn.fuse_conv_norm(conv, norm).weight is not conv.weight
