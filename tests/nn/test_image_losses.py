"""PSNR and SSIM against loops over windows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minitf as mt
from minitf.nn import functional as F


def ssim_loop(x, y, peak, window, sigma):
    """The map of two channels (Y, X), with centered moments in every window."""
    at = [i - (window - 1) / 2 for i in range(window)]
    weights = np.array([[math.exp(-(a * a + b * b) / (2 * sigma**2)) for b in at] for a in at])
    weights /= weights.sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    out = np.zeros((x.shape[0] - window + 1, x.shape[1] - window + 1))
    for i, j in np.ndindex(*out.shape):
        a, b = x[i : i + window, j : j + window], y[i : i + window, j : j + window]
        ma, mb = (weights * a).sum(), (weights * b).sum()
        va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
        cov = (weights * (a - ma) * (b - mb)).sum()
        out[i, j] = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return out


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 255.0]), st.sampled_from([(11, 1.5), (4, 0.8), (1, 1.0)]))
def test_ssim_transcription(seed, peak, options):
    rng = np.random.default_rng(seed)
    x, y = peak * rng.random((2, 2, 2, 12, 13))
    want = [[ssim_loop(x[b, c], y[b, c], peak, *options) for c in range(2)] for b in range(2)]
    window, sigma = options
    got = F.ssim(x, y, peak=peak, window=window, sigma=sigma, reduction="none")
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)
    got = F.ssim_loss(x, y, peak=peak, window=window, sigma=sigma)
    np.testing.assert_allclose(got, 1 - np.mean(want), rtol=1e-9, atol=1e-11)


@given(st.integers(0, 10**6), st.sampled_from([1.0, 255.0]))
def test_psnr_transcription(seed, peak):
    rng = np.random.default_rng(seed)
    x, y = peak * rng.random((2, 3, 2, 4, 5))
    rows = [(x[i].ravel(), y[i].ravel()) for i in range(3)]
    want = [10 * math.log10(peak**2 / np.mean([(u - v) ** 2 for u, v in zip(a, b, strict=True)])) for a, b in rows]
    np.testing.assert_allclose(F.psnr(x, y, peak=peak, reduction="none"), want, rtol=1e-12)
    np.testing.assert_allclose(F.psnr(x, y, peak=peak), np.mean(want), rtol=1e-12)
    np.testing.assert_allclose(F.psnr(x[0], y[0], peak=peak, reduction="none"), want[0], rtol=1e-12)


def test_invariants():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 1, 3, 14, 14))
    np.testing.assert_allclose(F.ssim(x, x, reduction="none"), np.ones((1, 3, 4, 4)), rtol=1e-13)
    assert F.psnr(x, x).item() == math.inf
    assert (mt.grad(lambda x: F.psnr(x, x.data))(x).data == 0).all()
    np.testing.assert_allclose(F.ssim(x, y), F.ssim(y, x), rtol=1e-13)
    np.testing.assert_allclose(F.ssim(255 * x, 255 * y, peak=255), F.ssim(x, y), rtol=1e-12)
    np.testing.assert_allclose(F.psnr(x, x + 0.1), 20, rtol=1e-12)
    # a shift of the mean alone: structure and contrast stay, luminance does not
    flat, other = np.full((1, 11, 11), 0.4), np.full((1, 11, 11), 0.6)
    want = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(F.ssim(flat, other), want, rtol=1e-11)


def test_gradients():
    x, y = np.random.default_rng(1).random((2, 1, 2, 6, 7))
    mt.check_grads(lambda x, y: F.ssim(x, y, window=5, sigma=1.0, reduction="none"), x, y)
    mt.check_grads(lambda x, y: F.ssim_loss(x, y, window=5), x, y)
    mt.check_grads(lambda x, y: F.psnr(x, y), x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_stays(dtype):
    x = mt.tensor(np.random.default_rng(2).random((1, 12, 12)), dtype=dtype, requires_grad=True)
    loss = F.ssim_loss(x, np.zeros((1, 12, 12), dtype)) - F.psnr(x, np.zeros((1, 12, 12), dtype))
    loss.backward()
    assert loss.dtype == x.grad.dtype == dtype
