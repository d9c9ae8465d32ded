"""Losses of real values: ``(input, target)`` of one shape, averaged over all elements.

With d = input - target,

    mse_loss          d²
    l1_loss           |d|
    huber_loss        d² / 2 near 0, delta (|d| - delta / 2) where |d| > delta
    smooth_l1_loss    huber_loss / delta, with delta called beta; l1_loss if it is 0
    charbonnier_loss  sqrt(d² + eps²)
    gaussian_nll_loss (ln var + d² / var) / 2
    poisson_nll_loss  exp(input) - target input
    ccc_loss          1 - 2 cov(input, target) / (var(input) + var(target) + mean(d)²)
"""

from __future__ import annotations

import math

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError, fits_into
from minitf.autodiff.ops.broadcast import normalize_axes
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn.losses import expected, pair, reduced
from minitf.nn.softmax import real_floating


def positive(what: str, name: str, value: float) -> float:
    """``value``, checked: an option of a loss that must be positive."""
    if not value > 0:
        raise ValueError(f"{what}: {name} must be positive, got {value!r}")
    return value


def mse_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Tensor:
    """(input - target)²; both of the same shape."""
    input, target = pair("mse_loss", input, target)
    return reduced("mse_loss", mt.square(input - target), reduction)


def l1_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Tensor:
    """|input - target|; both of the same shape. The derivative at 0 is 0."""
    input, target = pair("l1_loss", input, target)
    return reduced("l1_loss", mt.abs(input - target), reduction)


def _huber(distance: Tensor, delta: float) -> Tensor:
    """d² / 2 up to ``delta``, then the tangent."""
    near = mt.minimum(distance, delta)
    return near * (distance - near / 2)


def huber_loss(input: ArrayLike, target: ArrayLike, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d² / 2 where |d| <= delta, delta (|d| - delta / 2) elsewhere, with d = input - target of one shape."""
    input, target = pair("huber_loss", input, target)
    return reduced("huber_loss", _huber(mt.abs(input - target), positive("huber_loss", "delta", delta)), reduction)


def smooth_l1_loss(input: ArrayLike, target: ArrayLike, *, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d² / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, with d = input - target of one shape.

    beta: at least 0; 0 gives ``l1_loss``.
    """
    input, target = pair("smooth_l1_loss", input, target)
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta!r}")
    distance = mt.abs(input - target)
    return reduced("smooth_l1_loss", _huber(distance, beta) / beta if beta else distance, reduction)


def charbonnier_loss(input: ArrayLike, target: ArrayLike, *, eps: float = 1e-3, reduction: str = "mean") -> Tensor:
    """sqrt((input - target)² + eps²): an L1 loss that is smooth at 0; both of the same shape."""
    input, target = pair("charbonnier_loss", input, target)
    squared = mt.square(input - target) + positive("charbonnier_loss", "eps", eps) ** 2
    return reduced("charbonnier_loss", mt.sqrt(squared), reduction)


def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(ln var + (input - target)² / var) / 2: the negative log-likelihood of N(input, var), in nats.

    input, target: of one shape. var: not negative, of that shape or broadcast to it.
    full: adds the constant ln(2π) / 2.
    eps: smaller variances count as ``eps``, and receive the gradient that ``eps`` would (as in PyTorch).
    """
    input, target = pair("gaussian_nll_loss", input, target)
    var = real_floating("gaussian_nll_loss, var", var)
    if not fits_into(var.shape, input.shape):
        raise ShapeError(f"gaussian_nll_loss: var {var.shape} does not broadcast to the input {input.shape}")
    if (var.data < 0).any():
        raise ValueError(f"gaussian_nll_loss: variances must not be negative, got {var.data.min()}")
    var = mt.straight_through(mt.maximum(var, positive("gaussian_nll_loss", "eps", eps)), var)
    losses = (mt.log(var) + mt.square(input - target) / var) / 2
    return reduced("gaussian_nll_loss", losses + math.log(2 * math.pi) / 2 if full else losses, reduction)


def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target input: the negative log-likelihood of counts, without ln(target!); both of one shape.

    log_input: False if ``input`` is the rate itself: input - target ln(input + eps).
    full: adds Stirling's approximation of ln(target!) where target > 1.
    """
    input, target = pair("poisson_nll_loss", input, target)
    if log_input:
        losses = mt.exp(input) - expected(target, input)
    else:
        losses = input - target * mt.log(input + eps)
    if full:
        many = target.data > 1
        n = mt.where(many, target, 1.0)
        losses = losses + mt.where(many, n * mt.log(n) - n + 0.5 * mt.log(2 * math.pi * n), 0.0)
    return reduced("poisson_nll_loss", losses, reduction)


def _mean(x: Tensor, axis: int) -> Tensor:
    """The mean along ``axis``, which stays; exactly the constant where ``x`` is one, so that no variance is left."""
    mean, least = mt.mean(x, axis, keepdims=True), np.min(x.data, axis, keepdims=True)
    return mt.straight_through(np.where(least == np.max(x.data, axis, keepdims=True), least, mean.data), mean)


def ccc_loss(input: ArrayLike, target: ArrayLike, *, axis: int = 0, reduction: str = "mean") -> Tensor:
    """1 - CCC, the concordance correlation coefficient of input and target along ``axis``; both of one shape.

    CCC = 2 cov / (var + var + (difference of means)²), with population moments. Where both are constant it is 0, and so
    is the gradient. reduction: over the other axes.
    """
    input, target = pair("ccc_loss", input, target)
    (axis,) = normalize_axes("ccc_loss", axis, input.ndim)
    if input.shape[axis] == 0:
        raise ShapeError(f"ccc_loss: no samples along axis {axis} of shape {input.shape}")
    means = [_mean(x, axis) for x in (input, target)]
    x, y = input - means[0], target - means[1]
    shift = mt.squeeze(mt.square(means[0] - means[1]), axis)
    spread = mt.mean(mt.square(x), axis) + mt.mean(mt.square(y), axis) + shift
    ccc = 2 * mt.mean(x * y, axis) / mt.where(spread.data == 0, 1.0, spread)
    return reduced("ccc_loss", 1 - ccc, reduction)
