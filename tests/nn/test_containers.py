"""Sequential, Identity and Flatten."""

import numpy as np

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


def test_one_after_another():
    rng = np.random.default_rng(0)
    first, last = nn.Linear(3, 4, rng=rng), nn.Linear(4, 2, rng=rng)
    both = nn.Sequential(first, F.gelu, last)
    x = rng.standard_normal((5, 3))
    np.testing.assert_array_equal(both(x), last(F.gelu(first(x))))
    names = ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
    assert [name for name, _ in both.named_parameters()] == names
    assert (len(both), both[2], next(iter(both))) == (3, last, first)
    assert nn.Sequential()(x) is x


def test_modes_reach_what_is_inside():
    layers = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5, rng=np.random.default_rng(0))).eval()
    x = np.random.default_rng(0).standard_normal((1, 3))
    np.testing.assert_allclose(layers(x), x / np.sqrt(1 + 1e-5), rtol=1e-15)


def test_identity_and_flatten():
    x = mt.tensor(np.arange(24.0).reshape(2, 3, 4))
    assert nn.Identity()(x) is x
    np.testing.assert_array_equal(nn.Flatten()(x), x.data.reshape(2, 12))
    np.testing.assert_array_equal(nn.Flatten(2)(x[..., None]), x)
    assert nn.Flatten(0)(x).shape == (24,)
    assert nn.Flatten()(np.ones((0, 3, 4))).shape == (0, 12)
