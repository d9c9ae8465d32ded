"""Losses of yes or no: ``(input, target)`` of one shape, targets between 0 and 1.

    binary_cross_entropy_with_logits   -t log σ(x) - (1 - t) log σ(-x)
    binary_cross_entropy               the same of probabilities p = σ(x)
    focal_loss                         α_t (1 - p_t)^γ times the cross-entropy, p_t the probability of what is true
    dice_loss                          1 - (2 Σ p t + 1) / (Σ p + Σ t + 1)

Logits may be of any size, infinite ones included; probabilities near 1 have lost their last digits already.
"""

from __future__ import annotations

import math

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError, fits_into
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.losses import expected, pair, reduced


def _weighted(what: str, name: str, weight: ArrayLike | None, losses: Tensor) -> Tensor:
    if weight is None:
        return losses
    weight = as_tensor(weight)
    if not fits_into(weight.shape, losses.shape):
        raise ShapeError(f"{what}: {name} {weight.shape} does not broadcast to the input {losses.shape}")
    return weight * losses


def _probabilities(what: str, p: Tensor) -> Tensor:
    if ((p.data < 0) | (p.data > 1)).any():
        told = f"got values from {p.data.min()} to {p.data.max()}"
        raise ValueError(f"{what}: input must be probabilities between 0 and 1, {told}")
    return p


def _cross_entropies(what: str, input: ArrayLike, target: ArrayLike, pos_weight: ArrayLike | None) -> Tensor:
    input, target = pair(what, input, target)
    yes, no = expected(target, mt.softplus(-input)), expected(1 - target, mt.softplus(input))
    return no + _weighted(what, "pos_weight", pos_weight, yes)


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-t log σ(x) - (1 - t) log σ(-x), in nats, for any logits x, infinite ones included.

    input: logits ``(*)``. target: t, of the same shape.
    weight, pos_weight: factors that broadcast to the input, of each loss and of its first term. The mean is over the
    number of losses, not over the weights.
    """
    what = "binary_cross_entropy_with_logits"
    losses = _cross_entropies(what, input, target, pos_weight)
    return reduced(what, _weighted(what, "weight", weight, losses), reduction)


def _log(p: Tensor) -> Tensor:
    """log p, -100 (with a zero gradient) where it would be less."""
    tiny = p.data <= math.exp(-100)
    return mt.where(tiny, -100.0, mt.log(mt.where(tiny, 1.0, p)))


def binary_cross_entropy(
    input: ArrayLike, target: ArrayLike, *, weight: ArrayLike | None = None, reduction: str = "mean"
) -> Tensor:
    """-t log p - (1 - t) log(1 - p), in nats; logits are more accurate (``binary_cross_entropy_with_logits``).

    input: probabilities p ``(*)``. target: t, of the same shape. weight: factors that broadcast to the input.
    Logarithms are cut at -100, as in PyTorch: an impossible event costs 100, and there the gradient is zero.
    """
    what = "binary_cross_entropy"
    input, target = pair(what, input, target)
    _probabilities(what, input)
    losses = -(target * _log(input) + (1 - target) * _log(1 - input))
    return reduced(what, _weighted(what, "weight", weight, losses), reduction)


def focal_loss(
    input: ArrayLike, target: ArrayLike, *, alpha: float | None = 0.25, gamma: float = 2.0, reduction: str = "mean"
) -> Tensor:
    """α_t (1 - p_t)^γ times the binary cross-entropy, p_t = t σ(x) + (1 - t) σ(-x): easy examples count less.

    input: logits x ``(*)``. target: t, of the same shape.
    alpha: weight of the positives, the negatives have 1 - alpha; None for no weights (torchvision: a negative number).
    gamma: at least 0; 0 leaves the cross-entropy.
    """
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"focal_loss: alpha must be between 0 and 1, or None, got {alpha!r}")
    if not gamma >= 0:
        raise ValueError(f"focal_loss: gamma must not be negative, got {gamma!r}")
    input, target = pair("focal_loss", input, target)
    losses = _cross_entropies("focal_loss", input, target, None)
    if gamma:
        missed = target * mt.sigmoid(-input) + (1 - target) * mt.sigmoid(input)  # 1 - p_t without a difference
        missed = mt.where(np.isinf(losses.data), missed.data, missed)  # σ is flat at an infinite logit
        sure = missed.data == 0
        losses = losses * mt.where(sure, 0.0, mt.where(sure, 1.0, missed) ** gamma)
    if alpha is not None:
        losses = losses * (alpha * target + (1 - alpha) * (1 - target))
    return reduced("focal_loss", losses, reduction)


def dice_loss(input: ArrayLike, target: ArrayLike, *, smooth: float = 1.0, reduction: str = "mean") -> Tensor:
    """1 - (2 Σ p t + smooth) / (Σ p + Σ t + smooth), the sums over each mask.

    input: probabilities p ``(B, *)``, ``sigmoid`` of the logits. target: t, of the same shape. reduction: over B.
    """
    input, target = pair("dice_loss", input, target)
    if input.ndim < 2:
        raise ShapeError(f"dice_loss: needs masks (B, *) with at least two axes, got shape {input.shape}")
    if not smooth >= 0:
        raise ValueError(f"dice_loss: smooth must not be negative, got {smooth!r}")
    axes = tuple(range(1, input.ndim))
    both = mt.sum(_probabilities("dice_loss", input) * target, axes)
    either = mt.sum(input, axes) + mt.sum(target, axes) + smooth
    return reduced("dice_loss", 1 - (2 * both + smooth) / either, reduction)
