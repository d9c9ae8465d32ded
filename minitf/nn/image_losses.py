"""How alike two images are, and losses made of it.

    psnr = 10 log10(peak² / mean((x - y)²))                                                        decibels
    ssim = (2 μ_x μ_y + C1) (2 σ_xy + C2) / ((μ_x² + μ_y² + C1) (σ_x² + σ_y² + C2))               1 for equal images

μ, σ² and σ_xy are means, variances and the covariance in a Gaussian window around a pixel, one channel at a time,
C1 = (0.01 peak)², C2 = (0.03 peak)². Only windows that lie inside the image count.
"""

from __future__ import annotations

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.convolution import conv2d
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn.losses import pair, reduced


def _images(what: str, input: ArrayLike, target: ArrayLike, peak: float) -> tuple[Tensor, Tensor]:
    input, target = pair(what, input, target)
    if input.ndim < 3:
        raise ShapeError(f"{what}: needs images (*, C, Y, X), got shape {input.shape}")
    if not peak > 0:
        raise ValueError(f"{what}: peak must be positive, got {peak!r}")
    return input, target


def psnr(input: ArrayLike, target: ArrayLike, *, peak: float = 1.0, reduction: str = "mean") -> Tensor:
    """10 log10(peak² / mse) in dB, for each image ``(C, Y, X)`` of ``(*, C, Y, X)``; inf for equal images.

    peak: the largest possible value, 1 or 255. reduction: over the images; "none" gives ``(*)``.
    """
    input, target = _images("psnr", input, target, peak)
    mse = mt.mean(mt.square(input - target), (-3, -2, -1))
    exact = mse.data == 0
    decibels = 10 * mt.log10(peak**2 / mt.where(exact, 1.0, mse))
    return reduced("psnr", mt.where(exact, np.inf, decibels), reduction)


def _blur(maps: Tensor, window: int, sigma: float) -> Tensor:
    """``maps (N, 1, Y, X)`` averaged with Gaussian weights, rows and then columns; only whole windows."""
    offsets = np.arange(window) - (window - 1) / 2
    weights = np.exp(-((offsets / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).astype(maps.dtype)
    return conv2d(conv2d(maps, weights.reshape(1, 1, window, 1)), weights.reshape(1, 1, 1, window))


def ssim(
    input: ArrayLike,
    target: ArrayLike,
    *,
    peak: float = 1.0,
    window: int = 11,
    sigma: float = 1.5,
    reduction: str = "mean",
) -> Tensor:
    """The structural similarity of images ``(*, C, Y, X)``, between -1 and 1.

    peak: the largest possible value, 1 or 255. window, sigma: size and standard deviation of the window, in pixels.
    reduction: "none" gives the map ``(*, C, Y - window + 1, X - window + 1)``.
    """
    input, target = _images("ssim", input, target, peak)
    if window < 1 or not sigma > 0:
        raise ValueError(f"ssim: window must be at least 1 and sigma positive, got {window!r} and {sigma!r}")
    *lead, Y, X = input.shape
    if min(Y, X) < window:
        raise ShapeError(f"ssim: an image of {Y} x {X} pixels has no window of {window} x {window}; make it smaller")
    x, y = (mt.reshape(image, (-1, 1, Y, X)) for image in (input, target))
    moments = _blur(mt.concatenate([x, y, x * x, y * y, x * y]), window, sigma)
    mean_x, mean_y, xx, yy, xy = mt.split(moments, 5)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    products, squares = mean_x * mean_y, mt.square(mean_x) + mt.square(mean_y)
    likeness = (2 * products + c1) * (2 * (xy - products) + c2) / ((squares + c1) * (xx + yy - squares + c2))
    return reduced("ssim", mt.reshape(likeness, (*lead, Y - window + 1, X - window + 1)), reduction)


def ssim_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    peak: float = 1.0,
    window: int = 11,
    sigma: float = 1.5,
    reduction: str = "mean",
) -> Tensor:
    """1 - ``ssim``, 0 for equal images; the same arguments."""
    return 1 - ssim(input, target, peak=peak, window=window, sigma=sigma, reduction=reduction)
