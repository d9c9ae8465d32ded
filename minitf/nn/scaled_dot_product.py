"""Scaled dot-product attention: the one implementation that everything calls.

    logits  = scale * q kᵀ + bias
    logits  = softcap * tanh(logits / softcap)          if softcap is given
    weights = normalizer(logits, mask)                  over the keys
    out     = weights v

A query that may attend to nothing gets a row of zero weights, so its output and all its gradients are zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minitf.autodiff.checked import checked
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.shape import repeat, swapaxes
from minitf.autodiff.precision import store
from minitf.autodiff.tensor import Tensor, as_tensor
from minitf.nn.activations import softcap as cap
from minitf.nn.softmax import softmax

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Normalizer = Callable[[Tensor, Tensor | None], Tensor]


def attendable(T: int, S: int, mask: Any = None, *, causal: bool = False, window: int | None = None) -> Tensor | None:
    """The boolean mask of all restrictions together, or None when there are none.

    Queries are the last T of the S positions: with ``causal``, query i sees keys up to S - T + i, the alignment of a
    cache that already holds the queries' own keys. ``window`` keeps 0 <= i - j < window (causal) or |i - j| <= window.
    """
    if mask is not None:
        mask = as_tensor(mask)
        if mask.dtype != np.bool_:
            raise TypeError(
                f"attention: mask must be boolean (True = may attend), got {mask.dtype}; "
                "an additive mask is a bias: pass it as bias="
            )
    if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise ValueError(f"attention: window must be a positive integer or None, got {window!r}")
    if not causal and window is None:
        return mask
    distance = np.arange(S - T, S)[:, None] - np.arange(S)
    if causal:
        allowed = distance >= 0
        if window is not None:
            allowed &= distance < window
    else:
        allowed = np.abs(distance) <= window
    return as_tensor(allowed) if mask is None else as_tensor(mask.data & allowed)


@checked
def scaled_dot_product_attention(
    q: Float[Tensor, "... T E"],
    k: Float[Tensor, "... S E"],
    v: Float[Tensor, "... S W"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    normalizer: str | Normalizer = "softmax",
    return_weights: bool = False,
) -> Any:
    """softmax(scale q kᵀ + bias) v over the keys that ``mask`` allows.

    q: (*, H, T, E) queries. k: (*, K, S, E) keys, v: (*, K, S, W) values; K divides H, query head h reads head
        h // (H/K). Heads and leading axes may be left out together: (T, E), (S, E), (S, W).
    mask: boolean, True = may attend, broadcast against (*, H, T, S).
    bias: added to the scaled logits, before ``softcap`` and ``mask``.
    causal, window: see ``attendable``.
    scale: default E**-0.5.
    softcap: logits become softcap * tanh(logits / softcap).
    normalizer: "softmax", or a function (logits, mask or None) -> weights.
    return_weights: return (out, weights) with weights (*, H, T, S).

    Returns out (*, H, T, W). Raises ShapeError when shapes disagree, TypeError for a mask that is not boolean.
    """
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    if q.ndim == 2:
        H = K = 1
    else:
        H, K = q.shape[-3], k.shape[-3]
    if K == 0 or H % K:
        raise ShapeError(f"scaled_dot_product_attention: K = {K} key/value heads must divide H = {H} query heads")
    if H != K:
        k, v = repeat(k, H // K, axis=-3), repeat(v, H // K, axis=-3)
    T, S = q.shape[-2], k.shape[-2]
    logits = matmul(q * (q.shape[-1] ** -0.5 if scale is None else scale), swapaxes(k, -1, -2))
    allowed = attendable(T, S, mask, causal=causal, window=window)
    for name, extra in (("mask", allowed), ("bias", bias)):
        _fits(name, extra, logits.shape)
    if bias is not None:
        logits = logits + bias
    if softcap is not None:
        logits = cap(logits, softcap)
    weights = store(_normalize(logits, allowed, normalizer))  # kernels multiply with v in the storage format
    out = matmul(weights, v)
    return (out, weights) if return_weights else out


def _fits(name: str, extra: Any, shape: tuple[int, ...]) -> None:
    if extra is None:
        return
    given = as_tensor(extra).shape
    try:
        fits = np.broadcast_shapes(given, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"scaled_dot_product_attention: {name} of shape {given} does not broadcast to the logits (*, H, T, S) = {shape}"
        )


def _normalize(logits: Tensor, mask: Tensor | None, normalizer: str | Normalizer) -> Tensor:
    if callable(normalizer):
        return normalizer(logits, mask)
    if normalizer != "softmax":
        raise ValueError(
            f"scaled_dot_product_attention: normalizer must be 'softmax' or a function (logits, mask) -> weights, "
            f"got {normalizer!r}"
        )
    return softmax(logits, axis=-1, where=mask)
