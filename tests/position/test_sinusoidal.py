"""Sinusoidal codes: one number at a time, their variants, and shifts that are rotations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.position.rotary import apply_rotary, rotary_frequencies
from minitf.position.sinusoidal import sincos1d, sincos2d


@given(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=2), st.booleans())
def test_one_number_at_a_time(half, shape, interleaved):
    positions = np.random.default_rng(0).integers(0, 1000, shape)
    code = sincos1d(2 * half, positions, 100.0, interleaved).data
    assert code.shape == (*shape, 2 * half)
    for index in np.ndindex(*shape):
        for j in range(half):
            angle = positions[index] / 100.0 ** (2 * j / (2 * half))
            sin, cos = (2 * j, 2 * j + 1) if interleaved else (j, j + half)
            assert code[index][sin] == pytest.approx(math.sin(angle), abs=1e-12)
            assert code[index][cos] == pytest.approx(math.cos(angle), abs=1e-12)


def test_evenly_spaced_speeds():
    """Whisper's: 10000^(-j/(D/2 - 1)), sines first."""
    code = sincos1d(8, np.arange(5), spacing="linspace").data
    for p, j in np.ndindex(5, 4):
        angle = p * 10000 ** (-j / 3)
        np.testing.assert_allclose(code[p, [j, j + 4]], [math.sin(angle), math.cos(angle)], rtol=0, atol=1e-15)


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_a_shift_is_a_rotation(p, shift):
    """[cos, sin] of p + shift is [cos, sin] of p, turned: why a linear map can find the neighbour."""
    swap = lambda code: np.roll(code, 3, axis=-1)  # [sin, cos] to [cos, sin]
    turned = apply_rotary(swap(sincos1d(6, [p]).data), [shift], rotary_frequencies(6)).data
    np.testing.assert_allclose(turned, swap(sincos1d(6, [p + shift]).data), rtol=0, atol=1e-12)


def test_every_pair_has_length_one_and_similarity_depends_on_distance():
    code = sincos1d(8, np.arange(20)).data
    similarity = code @ code.T
    np.testing.assert_allclose(np.diag(similarity), 4, rtol=1e-15)
    for distance in range(20):
        np.testing.assert_allclose(np.diag(similarity, distance), similarity[0, distance], rtol=0, atol=1e-13)


def test_two_dimensions_have_the_column_first():
    y, x = (part.ravel() for part in np.mgrid[:3, :4])
    code = sincos2d(8, y, x).data
    np.testing.assert_array_equal(code[:, :4], sincos1d(4, x).data)
    np.testing.assert_array_equal(code[:, 4:], sincos1d(4, y).data)
    np.testing.assert_array_equal(sincos2d(8, y, x, 10.0).data[:, :4], sincos1d(4, x, 10.0).data)


def test_codes_are_constants():
    assert not sincos1d(4, mt.tensor([1.0, 2.0], requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sincos1d(5, [0]), mt.ShapeError, "sincos1d: D must be even and positive, got 5"),
        (lambda: sincos1d(4, [0], theta=-1.0), ValueError, "theta must be positive, got -1.0"),
        (lambda: sincos1d(4, [0], spacing="even"), ValueError, "spacing must be one of power, linspace, got 'even'"),
        (lambda: sincos2d(6, [0], [0]), mt.ShapeError, "sincos2d: D must be a positive multiple of 4, got 6"),
        (lambda: sincos2d(8, [0, 1], [0]), mt.ShapeError, r"must have the same shape, got \(2,\) and \(1,\)"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()
