"""grid_sample and affine_grid: place by place in loops, the identity, shifts, gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F

OPTIONS = [(padding, align) for padding in ("zeros", "border") for align in (False, True)]


def loops(x, grid, mode, padding, align):
    """Every output value as the sum over all pixels of the tent around its place."""
    B, C, Y, X = x.shape
    out = np.zeros((B, C, *grid.shape[1:3]))
    for b, c, i, j in np.ndindex(out.shape):
        at = []
        for place, n in zip(grid[b, i, j], (X, Y), strict=True):
            a = (place + 1) / 2 * (n - 1) if align else ((place + 1) * n - 1) / 2
            a = min(max(a, 0), n - 1) if padding == "border" else a
            at.append(round(a) if mode == "nearest" else a)
        for row, column in np.ndindex(Y, X):
            out[b, c, i, j] += max(1 - abs(row - at[1]), 0) * max(1 - abs(column - at[0]), 0) * x[b, c, row, column]
    return out


@pytest.mark.parametrize(("padding", "align"), OPTIONS)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4))
def test_transcription(mode, padding, align, seed, Y, X):
    rng = np.random.default_rng(seed)
    x, grid = rng.standard_normal((2, 2, Y, X)), rng.uniform(-2, 2, (2, 2, 3, 2))
    got = F.grid_sample(x, grid, mode, padding, align)
    np.testing.assert_allclose(got, loops(x, grid, mode, padding, align), atol=1e-13)


@pytest.mark.parametrize(("padding", "align"), OPTIONS)
def test_the_identity_gives_the_image_and_a_shift_by_a_pixel_its_neighbors(padding, align):
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5))
    size = x.shape
    identity = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    np.testing.assert_allclose(
        F.grid_sample(x, F.affine_grid(identity, size, align), "bilinear", padding, align), x, atol=1e-13
    )
    step = 2 / (5 - 1) if align else 2 / 5
    right = identity + np.array([[0, 0, step], [0, 0, 0]])
    moved = F.grid_sample(x, F.affine_grid(right, size, align), padding_mode=padding, align_corners=align).data
    np.testing.assert_allclose(moved[..., :-1], x[..., 1:], atol=1e-13)
    np.testing.assert_allclose(moved[..., -1], x[..., -1] if padding == "border" else 0, atol=1e-13)


@pytest.mark.parametrize("align", [False, True])
def test_affine_grid_in_loops(align):
    theta = np.random.default_rng(0).standard_normal((2, 2, 3))
    got = F.affine_grid(theta, (2, 1, 3, 4), align).data
    for b, i, j in np.ndindex(2, 3, 4):
        x = -1 + 2 * j / 3 if align else -1 + (2 * j + 1) / 4
        y = -1 + 2 * i / 2 if align else -1 + (2 * i + 1) / 3
        want = [sum(t * v for t, v in zip(row, (x, y, 1.0), strict=True)) for row in theta[b]]
        np.testing.assert_allclose(got[b, i, j], want, atol=1e-14)


@pytest.mark.parametrize(("padding", "align"), OPTIONS)
def test_gradients(padding, align):
    """At places a tenth of a pixel or more from the lines where the slope changes, inside and outside."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 3, 4))
    pixels = rng.integers(-2, 5, (1, 2, 3, 2)) + rng.uniform(0.1, 0.9, (1, 2, 3, 2))
    n = np.array([4, 3])
    grid = pixels * 2 / (n - 1) - 1 if align else (2 * pixels + 1) / n - 1
    mt.check_grads(lambda x, g: F.grid_sample(x, g, "bilinear", padding, align), x, grid)


def test_an_affine_map_is_learned_through_both():
    """Gradients with respect to theta, to second order."""
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 4))
    theta = np.array([[[0.61, 0.17, 0.05], [-0.13, 0.73, -0.04]]])
    mt.check_grads(lambda t: F.grid_sample(x, F.affine_grid(t, (1, 1, 3, 3))), theta)


def test_infinite_pixels_do_not_reach_places_outside():
    x = np.full((1, 1, 2, 2), np.inf)
    far = np.full((1, 1, 1, 2), 50.0)
    assert F.grid_sample(x, far).data.item() == 0
