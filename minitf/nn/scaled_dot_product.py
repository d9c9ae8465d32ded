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
from minitf.autodiff.errors import ShapeError, broadcast_message, fits_into
from minitf.autodiff.ops.broadcast import broadcast_to
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.elementwise import where
from minitf.autodiff.ops.reduce import logsumexp
from minitf.autodiff.ops.shape import repeat, swapaxes
from minitf.autodiff.precision import store
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor, plain
from minitf.nn.activations import softcap as cap
from minitf.nn.fused_attention import attention
from minitf.nn.softmax import softmax

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Normalizer = Callable[[Tensor, Tensor | None], Tensor]


def check_window(window: Any) -> None:
    """Raises ValueError unless ``window`` is a positive integer or None."""
    if window is not None and (isinstance(window, bool) or not isinstance(window, (int, np.integer)) or window < 1):
        raise ValueError(f"attention: window must be a positive integer or None, got {window!r}")


def reach(T: int, S: int, causal: bool, window: int | None) -> tuple[int, int]:
    """The smallest and the largest distance i - j that ``band`` allows, the T queries being the last of S positions."""
    if window is None:
        return (0 if causal else -T, S)
    return (0, int(window) - 1) if causal else (-int(window), int(window))


def band(T: int, S: int, *, causal: bool = True, window: int | None = None, offset: int | None = None) -> np.ndarray:
    """(T, S) booleans: may the query at position offset + i attend to the key at position j?

    causal: to positions up to its own, and with ``window`` to the last that many of them, 0 <= i - j < window.
    Not causal: to |i - j| <= window. offset: default S - T: the queries are the last T positions, as with a cache that
    already holds their own keys.
    """
    check_window(window)
    distance = np.arange(T)[:, None] + (S - T if offset is None else offset) - np.arange(S)
    if window is None:
        return distance >= 0 if causal else np.ones((T, S), bool)
    return (distance >= 0) & (distance < window) if causal else np.abs(distance) <= window


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
    scale: float | Tensor | None = None,
    softcap: float | None = None,
    normalizer: str | Normalizer = "softmax",
    dropout: Callable[[Tensor], Tensor] | ArrayLike | None = None,
    return_weights: bool = False,
) -> Any:
    """softmax(scale q kᵀ + bias) v over the keys that ``mask`` allows.

    q: (*, H, T, E) queries. k: (*, K, S, E) keys, v: (*, K, S, W) values; K divides H, query head h reads head
        h // (H/K). Heads and leading axes may be left out together: (T, E), (S, E), (S, W).
    mask: boolean, True = may attend, broadcast against (*, H, T, S).
    bias: added to the scaled logits, before ``softcap`` and ``mask``.
    causal, window: see ``band``; on top of ``mask``.
    scale: a number, or an array that broadcasts against q, such as (H, 1, 1); default E**-0.5.
    softcap: logits become softcap * tanh(logits / softcap).
    normalizer: "softmax", or a function (logits, mask or None) -> weights.
    dropout: what the weights pass before they multiply the values, such as a ``nn.Dropout``, or factors (*, H, T, S) for
        them: 0, or 1 / (1 - p), where the draw is somebody else's.
    return_weights: return (out, weights) with weights (*, H, T, S).

    Returns out (*, H, T, W). Raises ShapeError when shapes disagree, TypeError for a mask that is not boolean.
    """
    q, k, v = as_tensor(q), as_tensor(k), as_tensor(v)
    H, K = _heads(q, k, v)
    T, S, E = q.shape[-2], k.shape[-2], q.shape[-1]
    if softcap is not None and not softcap > 0:
        raise ValueError(f"scaled_dot_product_attention: softcap must be positive or None, got {softcap!r}")
    if scale is None:
        scale = float(E**-0.5)
    elif isinstance(scale, (Tensor, np.ndarray)):  # a learned temperature, of every head perhaps
        q, scale = q * scale, 1.0
    lead = np.broadcast_shapes(*(x.shape[:-3] for x in (q, k, v))) if q.ndim > 2 else ()
    shape = (*lead, *q.shape[-3:-2], T, S)
    mask, bias = _fitting("mask", mask, shape), _fitting("bias", bias, shape)
    factors = None if callable(dropout) else _fitting("dropout", dropout, shape)
    check_window(window)
    if normalizer == "softmax" and dropout is None and not return_weights and _fusible(q, k, v, bias):
        q, k, v = (x if x.shape[:-3] == lead else broadcast_to(x, (*lead, *x.shape[-3:])) for x in (q, k, v))
        nearest, farthest = reach(T, S, causal, window)
        return attention(q, k, v, bias, mask, scale=scale, softcap=softcap, nearest=nearest, farthest=farthest)[0]
    logits = _logits(q * scale, k, bias, softcap)
    mask = _allowed(T, S, mask, causal, window)
    weights = store(_normalize(logits, mask, normalizer))  # kernels multiply with v in the storage format
    if callable(dropout):
        dropped = dropout(weights)
    else:
        dropped = weights if factors is None else weights * factors
    out = store(matmul(dropped, repeat(v, H // K, axis=-3) if H != K else v))
    return (out, weights) if return_weights else out


@checked
def attention_log_sum_exp(
    q: Float[Tensor, "... T E"],
    k: Float[Tensor, "... S E"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """(*, H, T) logarithms of the denominators of the softmax, -inf for a query that may attend to nothing.

    With them two results over different keys make one over both: each is weighted by exp(its - that of both). Arguments as
    in ``scaled_dot_product_attention``.
    """
    q, k = as_tensor(q), as_tensor(k)
    _heads(q, k, k)
    T, S, E = q.shape[-2], k.shape[-2], q.shape[-1]
    check_window(window)
    mask, bias = (_fitting(name, x, (*q.shape[:-1], S)) for name, x in (("mask", mask), ("bias", bias)))
    logits = _logits(q * (float(E**-0.5) if scale is None else scale), k, bias, softcap)
    allowed = _allowed(T, S, mask, causal, window)
    return logsumexp(logits if allowed is None else where(allowed, logits, -np.inf), axis=-1)


def _logits(q: Tensor, k: Tensor, bias: Tensor | None, softcap: float | None) -> Tensor:
    """(*, H, T, S) from queries that are scaled."""
    if q.ndim > 2 and q.shape[-3] != k.shape[-3]:
        k = repeat(k, q.shape[-3] // k.shape[-3], axis=-3)
    logits = matmul(q, swapaxes(k, -1, -2))
    if bias is not None:
        logits = logits + bias
    return logits if softcap is None else cap(logits, softcap)


def _allowed(T: int, S: int, mask: Tensor | None, causal: bool, window: int | None) -> Tensor | None:
    """The mask and the band together."""
    if not causal and window is None:
        return mask
    allowed = band(T, S, causal=causal, window=window)
    return plain(allowed if mask is None else mask.data & allowed)


def _fusible(*arrays: Tensor | None) -> bool:
    """Whether there are kernels for these: all float32, or all float64."""
    kinds = {x.dtype.char for x in arrays if x is not None}
    return kinds in ({"f"}, {"d"})


def _heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, int]:
    """H and K, (1, 1) where there are no heads."""
    told = f"got q {q.shape}, k {k.shape}, v {v.shape}"
    if q.shape[-1] == 0:
        raise ShapeError(f"scaled_dot_product_attention: the head width E must be at least 1, {told}")
    if q.ndim == k.ndim == v.ndim == 2:
        return 1, 1
    if 2 in (q.ndim, k.ndim, v.ndim):
        raise ShapeError(
            "scaled_dot_product_attention: q (*, H, T, E), k (*, K, S, E) and v (*, K, S, W) all have heads, or q (T, E), "
            f"k (S, E) and v (S, W) none; {told}"
        )
    H, K = q.shape[-3], k.shape[-3]
    if K == 0 or H % K or v.shape[-3] != K:
        raise ShapeError(
            f"scaled_dot_product_attention: k and v must have the same K heads, and K must divide the H = {H} heads of "
            f"q; {told}"
        )
    if reason := broadcast_message([x.shape[:-3] for x in (q, k, v)]):
        raise ShapeError(f"scaled_dot_product_attention: the axes in front of the heads do not fit: {reason}; {told}")
    return H, K


def _fitting(name: str, extra: Any, shape: tuple[int, ...]) -> Tensor | None:
    """A mask or a bias as a Tensor that broadcasts to the logits."""
    if extra is None:
        return None
    extra = as_tensor(extra)
    if not fits_into(extra.shape, shape):
        hint = "; valid tokens (B, S) become a mask by attention.masks.padding_mask" if name == "mask" else ""
        raise ShapeError(
            f"scaled_dot_product_attention: {name} of shape {extra.shape} does not broadcast to the logits "
            f"(*, H, T, S) = {shape}{hint}"
        )
    return extra


def _normalize(logits: Tensor, mask: Tensor | None, normalizer: str | Normalizer) -> Tensor:
    if normalizer == "softmax":
        return softmax(logits, axis=-1, where=mask)
    if not callable(normalizer):
        raise ValueError(
            "scaled_dot_product_attention: normalizer must be 'softmax' or a function (logits, mask) -> weights, "
            f"got {normalizer!r}"
        )
    weights = as_tensor(normalizer(logits, mask))
    if weights.shape != logits.shape:
        raise ShapeError(
            f"scaled_dot_product_attention: the normalizer must return weights of the shape of the logits, "
            f"{logits.shape}, it returned {weights.shape}"
        )
    return weights
