"""PSNR and SSIM as numbers: what ``tests/nn/test_image_losses.py`` checks, and that they are floats."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import minitf as mt
from minitf import metrics


def test_against_a_gaussian_filter():
    """The formula with SciPy's filter, whose windows inside the image are the same 11 x 11 ones."""
    x, y = np.random.default_rng(0).random((2, 1, 20, 18))
    blur = lambda image: gaussian_filter(image[0], 1.5, truncate=3.5)[5:-5, 5:-5]
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    want = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    got = metrics.ssim(x, y)
    assert type(got) is float
    assert math.isclose(got, want.mean(), rel_tol=1e-10)


def test_psnr():
    x = np.zeros((2, 3, 4, 4))
    assert math.isclose(metrics.psnr(x + 10, x, peak=100), 20, rel_tol=1e-14)
    assert metrics.psnr(x, x) == math.inf
    with pytest.raises(mt.ShapeError, match=r"psnr: needs images \(\*, C, Y, X\), got shape \(4, 4\)"):
        metrics.psnr(x[0, 0], x[0, 0])
