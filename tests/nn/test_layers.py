"""Layers: what they compute is tested in the functions; here their parameters, defaults and messages."""

from functools import partial

import numpy as np
import pytest

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


def test_linear():
    layer = nn.Linear(3, 5, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((2, 4, 3))
    np.testing.assert_allclose(layer(x), x @ layer.weight.data + layer.bias.data, rtol=1e-14)
    wide = nn.Linear(100, 400, rng=np.random.default_rng(0))
    assert np.abs(wide.weight.data).max() <= 0.1
    assert np.isclose(wide.weight.data.std(), 0.1 / np.sqrt(3), rtol=0.02)
    assert np.abs(wide.bias.data).max() <= 0.1
    custom = nn.Linear(3, 5, rng=np.random.default_rng(0), init=partial(nn.init.normal, std=0.02))
    assert (custom.bias.data == 0).all()
    assert nn.Linear(3, 5, bias=False, rng=np.random.default_rng(0)).bias is None


def test_embedding_and_norms():
    layer = nn.Embedding(6, 3, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(layer([[5, 0]]), layer.weight.data[[[5, 0]]])
    x = np.random.default_rng(1).standard_normal((2, 4))
    np.testing.assert_array_equal(nn.LayerNorm(4)(x), F.layer_norm(x))
    assert [n for n, _ in nn.LayerNorm(4, bias=False).named_parameters()] == ["weight"]
    assert not list(nn.LayerNorm(4, affine=False).parameters())
    for offset in (0.0, 1.0):
        norm = nn.RMSNorm(4, offset=offset)
        assert (norm.weight.data == 1 - offset).all()
        np.testing.assert_array_equal(norm(x), F.rms_norm(x))
    assert not list(nn.RMSNorm(4, affine=False).parameters())


def test_group_norm():
    x = np.random.default_rng(0).standard_normal((2, 6, 5))
    layer = nn.GroupNorm(3, 6, eps=1e-3)
    np.testing.assert_array_equal(layer(x), F.group_norm(x, 3, eps=1e-3))
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]
    assert not list(nn.GroupNorm(3, 6, affine=False).parameters())
    assert repr(nn.GroupNorm(3, 6, affine=False)) == "GroupNorm(3, 6, eps=1e-05, affine=False)"
    with pytest.raises(mt.ShapeError, match="GroupNorm: C = 6 channels cannot form 4 equal groups"):
        nn.GroupNorm(4, 6)


def test_dropout_works_while_training_only():
    layer = nn.Dropout(0.5, rng=np.random.default_rng(0))
    x = mt.tensor(np.ones((8, 8)))
    assert (layer(x).data == 0).any()
    assert layer.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x


def test_wrong_calls():
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match="rng"):
        nn.Linear(3, 4)
    with pytest.raises(
        TypeError, match=r"rng must be a numpy.random.Generator such as np.random.default_rng\(0\), got 0"
    ):
        nn.Linear(3, 4, rng=0)
    with pytest.raises(mt.ShapeError, match="Linear: D_out must be a positive integer, got 0"):
        nn.Linear(3, 0, rng=rng)
    with pytest.raises(mt.ShapeError, match=r"Embedding: V must be a positive integer, got 2.5"):
        nn.Embedding(2.5, 3, rng=rng)
    with pytest.raises(TypeError, match="rng must be"):
        nn.Dropout(0.5)
    with pytest.raises(ValueError, match="p must be between 0 and 1"):
        nn.Dropout(-0.5, rng=rng)
    with pytest.raises(mt.ShapeError, match=r"linear: .* x is \(2, 5\), weight \(3, 4\)"):
        nn.Linear(3, 4, rng=rng)(np.ones((2, 5)))


def test_layer_norm_of_channels_and_instance_norm():
    x = np.random.default_rng(0).normal(2, 3, (2, 4, 3, 5))
    channels = nn.LayerNorm2d(4, eps=1e-3)
    channels.weight.data[:], channels.bias.data[:] = np.random.default_rng(1).standard_normal((2, 4))
    for b, i, j in np.ndindex(2, 3, 5):
        one = F.layer_norm(x[b, :, i, j], channels.weight, channels.bias, 1e-3)
        np.testing.assert_allclose(channels(x)[b, :, i, j], one, rtol=1e-12)
    norm = nn.InstanceNorm2d(4, affine=True)
    norm.weight.data[:], norm.bias.data[:] = np.random.default_rng(2).standard_normal((2, 4))
    for b, c in np.ndindex(2, 4):
        image = x[b, c]
        one = (image - image.mean()) / np.sqrt(image.var() + 1e-5) * norm.weight.data[c] + norm.bias.data[c]
        np.testing.assert_allclose(norm(x)[b, c], one, rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(nn.InstanceNorm1d(4)(x[..., 0]), F.instance_norm(x[..., 0]))
    np.testing.assert_array_equal(nn.InstanceNorm3d(4)(x[..., None]), F.instance_norm(x[..., None]))
    assert repr(nn.InstanceNorm2d(4)) == "InstanceNorm2d(4, eps=1e-05)"
    mt.check_grads(nn.InstanceNorm1d(4), x[..., 0], rtol=1e-5)


def test_layer_scale():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    for axis in (-1, 1, 0):
        layer = nn.LayerScale(x.shape[axis], 0.5, axis)
        layer.gamma.data[:] = np.arange(1.0, 1 + x.shape[axis])
        for c in range(x.shape[axis]):
            np.testing.assert_array_equal(np.take(layer(x).data, c, axis), np.take(x, c, axis) * (c + 1))
    assert (nn.LayerScale(4).gamma.data == 1e-5).all()


def test_bilinear():
    layer = nn.Bilinear(3, 2, 4, rng=np.random.default_rng(0))
    x, y = (np.random.default_rng(n).standard_normal((2, 5, n)) for n in (3, 2))
    expected = np.einsum("bti,ijo,btj->bto", x, layer.weight.data, y) + layer.bias.data
    np.testing.assert_allclose(layer(x, y), expected, rtol=1e-12)
    with mt.cost() as c:
        layer(x, y)
    assert c.macs == 2 * 5 * 3 * 2 * 4
    mt.check_grads(F.bilinear, x, y, layer.weight.data, layer.bias.data)


def test_upsample_is_interpolate():
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 4))
    np.testing.assert_array_equal(nn.Upsample((5, 6))(x), F.interpolate(x, (5, 6)))
    layer = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    np.testing.assert_array_equal(layer(x), F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
    assert repr(layer) == "Upsample(scale_factor=2, mode='bilinear')"
