"""Gumbel-softmax: samples of a categorical distribution that are differentiable.

    y = softmax((logits + g) / tau),  g = -ln(-ln u),  u ~ U(0, 1)

The largest entry of logits + g is distributed as softmax(logits), whatever tau; y tends to its one-hot vector as tau
goes to 0. "hard" returns that vector and takes the gradient of y (straight through).
"""

from __future__ import annotations

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import normalize_axes
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.init import generator
from minitf.nn.softmax import real_floating, softmax


def gumbel_softmax(
    logits: ArrayLike,
    tau: float = 1.0,
    hard: bool = False,
    *,
    axis: int = -1,
    rng: np.random.Generator | None = None,
    noise: ArrayLike | None = None,
) -> Tensor:
    """softmax((logits + g) / tau) along ``axis`` with Gumbel noise g; of the shape of the logits.

    logits: ``(*, V)``; -inf is never chosen. tau: positive.
    hard: the one-hot vector of the largest entry (the first of several), with the gradient of the soft sample.
    rng: draws g; noise: g, given instead of drawn.
    """
    logits = real_floating("gumbel_softmax", logits)
    (axis,) = normalize_axes("gumbel_softmax", axis, logits.ndim)
    if not tau > 0:
        raise ValueError(f"gumbel_softmax: tau must be positive, got {tau!r}")
    g = generator(rng).gumbel(size=logits.shape) if noise is None else as_tensor(noise).data
    if g.shape != logits.shape:
        raise ShapeError(f"gumbel_softmax: noise must have the shape of the logits, {logits.shape}, got {g.shape}")
    soft = softmax((logits + g.astype(logits.dtype)) / tau, axis)
    if not hard:
        return soft
    one_hot = np.zeros_like(soft.data)
    np.put_along_axis(one_hot, np.argmax(soft.data, axis, keepdims=True), 1, axis)
    return mt.straight_through(one_hot, soft)
