"""Losses of distances: what belongs together is drawn close, what does not is pushed apart.

    info_nce               cross-entropy of a bᵀ / τ, where row i should find b_i among all of b
    triplet_margin_loss    max(0, d(a, p) - d(a, n) + margin)
    cosine_embedding_loss  1 - cos(a, b) if they belong together, max(0, cos(a, b) - margin) if not
    margin_ranking_loss    max(0, margin - y (a - b)), where y = 1 says that a should be the larger
    hinge_embedding_loss   the distance itself if they belong together, max(0, margin - distance) if not

Vectors lie along the last axis.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError, broadcast_message
from minitf.autodiff.ops.broadcast import normalize_axes
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.activations import relu
from minitf.nn.losses import cross_entropy, reduced
from minitf.nn.softmax import real_floating


def _vectors(what: str, axis: int, **arrays: ArrayLike) -> tuple[list[Tensor], int]:
    """Floating Tensors whose vectors along ``axis`` (made non-negative) have one length, checked."""
    vectors = [real_floating(f"{what}, {name}", array) for name, array in arrays.items()]
    message = broadcast_message([x.shape for x in vectors])
    if message or len({x.ndim for x in vectors}) > 1:
        told = message or "they have different numbers of axes: " + ", ".join(str(x.shape) for x in vectors)
        raise ShapeError(f"{what}: {', '.join(arrays)} do not fit together: {told}")
    (axis,) = normalize_axes(what, axis, vectors[0].ndim)
    if len({x.shape[axis] for x in vectors}) > 1:
        told = " and ".join(str(x.shape) for x in vectors)
        raise ShapeError(f"{what}: {', '.join(arrays)} need vectors of one length along axis {axis}, got {told}")
    return vectors, axis


def _unit(x: Tensor, axis: int, eps: float) -> Tensor:
    return x * mt.rsqrt(mt.maximum(mt.sum(mt.square(x), axis, keepdims=True), eps**2))


def normalize(x: ArrayLike, axis: int = -1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|, eps), with the Euclidean length along ``axis``."""
    (x,), axis = _vectors("normalize", axis, x=x)
    return _unit(x, axis, eps)


def cosine_similarity(x1: ArrayLike, x2: ArrayLike, axis: int = -1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along ``axis``; the other axes broadcast."""
    (x1, x2), axis = _vectors("cosine_similarity", axis, x1=x1, x2=x2)
    return mt.sum(_unit(x1, axis, eps) * _unit(x2, axis, eps), axis)


def pairwise_distance(x1: ArrayLike, x2: ArrayLike, eps: float = 1e-6) -> Tensor:
    """|x1 - x2 + eps| over the last axis: ``(*, D), (*, D) -> (*)``; ``eps`` keeps it smooth where they are equal."""
    (x1, x2), axis = _vectors("pairwise_distance", -1, x1=x1, x2=x2)
    return mt.sqrt(mt.sum(mt.square(x1 - x2 + eps), axis))


def info_nce(
    a: ArrayLike,
    b: ArrayLike,
    temperature: ArrayLike = 0.07,
    *,
    normalize: bool = True,
    symmetric: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """The cross-entropy of a bᵀ / temperature with the diagonal: row i of ``a`` belongs to row i of ``b``.

    a: ``(B, D)``. b: ``(S, D)`` with S >= B; the rows from B on belong to nobody (hard negatives).
    temperature: positive; a Tensor if it is learned.
    normalize: compare directions, that is cosines; otherwise dot products.
    symmetric: the mean of this loss and of the one in which the first B rows of ``b`` look for theirs in ``a``.
    reduction: over the B pairs.
    """
    a, b = real_floating("info_nce, a", a), real_floating("info_nce, b", b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or a.shape[0] > b.shape[0]:
        raise ShapeError(f"info_nce: needs a (B, D) and b (S, D) with S at least B, got {a.shape} and {b.shape}")
    if not (as_tensor(temperature).data > 0).all():
        raise ValueError(f"info_nce: temperature must be positive, got {temperature!r}")
    if normalize:
        a, b = _unit(a, 1, 1e-12), _unit(b, 1, 1e-12)
    scores, target = mt.matmul(a, b.T) / temperature, np.arange(a.shape[0])
    losses = cross_entropy(scores, target, reduction="none")
    if symmetric:
        losses = (losses + cross_entropy(scores[:, : a.shape[0]].T, target, reduction="none")) / 2
    return reduced("info_nce", losses, reduction)


def triplet_margin_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    margin: float = 1.0,
    distance: Callable[[Tensor, Tensor], Tensor] = pairwise_distance,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) of vectors ``(*, D)``.

    margin: positive. swap: measures the negative from the anchor or the positive, whichever is nearer to it.
    distance: ``(*, D), (*, D) -> (*)``; ``lambda x, y: 1 - cosine_similarity(x, y)`` compares directions.
    """
    (a, p, n), _ = _vectors("triplet_margin_loss", -1, anchor=anchor, positive=positive, negative=negative)
    if not margin > 0:
        raise ValueError(f"triplet_margin_loss: margin must be positive, got {margin!r}")
    far = distance(a, n)
    if swap:
        far = mt.minimum(far, distance(p, n))
    return reduced("triplet_margin_loss", relu(distance(a, p) - far + margin), reduction)


def _signs(what: str, target: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    target = as_tensor(target).data
    if target.shape != shape:
        raise ShapeError(f"{what}: target must have the shape {shape}, one sign each, got {target.shape}")
    others = target[(target != 1) & (target != -1)]
    if others.size:
        raise ValueError(f"{what}: targets are 1 and -1, got {others[0]}")
    return target


def cosine_embedding_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, *, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1.

    input1, input2: vectors ``(*, D)``. target: 1 or -1, ``(*)``. margin: between -1 and 1.
    """
    if not -1 <= margin <= 1:
        raise ValueError(f"cosine_embedding_loss: margin must be between -1 and 1, got {margin!r}")
    (x1, x2), _ = _vectors("cosine_embedding_loss", -1, input1=input1, input2=input2)
    cosine = cosine_similarity(x1, x2)
    together = _signs("cosine_embedding_loss", target, cosine.shape) == 1
    return reduced("cosine_embedding_loss", mt.where(together, 1 - cosine, relu(cosine - margin)), reduction)


def margin_ranking_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, *, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target (input1 - input2)): scores ``(*)`` of one shape, target 1 if the first should be larger."""
    x1, x2 = (real_floating("margin_ranking_loss", x) for x in (input1, input2))
    if x1.shape != x2.shape:
        raise ShapeError(f"margin_ranking_loss: scores must have the same shape, got {x1.shape} and {x2.shape}")
    sign = _signs("margin_ranking_loss", target, x1.shape)
    return reduced("margin_ranking_loss", relu(margin - sign * (x1 - x2)), reduction)


def hinge_embedding_loss(
    input: ArrayLike, target: ArrayLike, *, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """input where the target is 1, max(0, margin - input) where it is -1: distances ``(*)`` and signs ``(*)``."""
    input = real_floating("hinge_embedding_loss", input)
    together = _signs("hinge_embedding_loss", target, input.shape) == 1
    return reduced("hinge_embedding_loss", mt.where(together, input, relu(margin - input)), reduction)
