"""Pixel shuffle: where every value goes, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn
from minitf.nn import functional as F


@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 3), st.integers(1, 3), st.sampled_from([(), (2,), (2, 1)]))
def test_transcription_and_inverse(r, C, Y, X, lead):
    x = np.random.default_rng(0).standard_normal((*lead, C * r * r, Y, X))
    y = F.pixel_shuffle(x, r)
    assert y.shape == (*lead, C, r * Y, r * X)
    for c, row, column in np.ndindex(C, r * Y, r * X):
        source = x[..., c * r * r + row % r * r + column % r, row // r, column // r]
        np.testing.assert_array_equal(y[..., c, row, column], source)
    np.testing.assert_array_equal(F.pixel_unshuffle(y, r), x)
    np.testing.assert_array_equal(nn.PixelUnshuffle(r)(nn.PixelShuffle(r)(x)), x)


@pytest.mark.parametrize("move", [F.pixel_shuffle, F.pixel_unshuffle])
def test_gradients_and_cost(move):
    x = np.random.default_rng(0).standard_normal((1, 4, 2, 4))
    mt.check_grads(lambda x: move(x, 2) ** 2, x)
    with mt.cost() as c:
        move(x, 2)
    assert c.flops == 0
