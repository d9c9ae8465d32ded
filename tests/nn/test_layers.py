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
