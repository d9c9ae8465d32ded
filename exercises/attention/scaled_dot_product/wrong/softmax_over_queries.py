"""Normalizes over the queries: the columns sum to 1."""

import numpy as np


def attention_weights(
    q: np.ndarray,
    k: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
) -> np.ndarray:
    if scale is None:
        scale = 1 / np.sqrt(q.shape[-1])
    logits = scale * (q @ np.swapaxes(k, -1, -2))
    if bias is not None:
        logits = logits + bias
    if mask is not None:
        logits = np.where(mask, logits, -np.inf)
    # The largest logit is subtracted so that exp cannot overflow; in an empty row it is -inf, and 0 serves as well.
    largest = logits.max(axis=-2, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(largest), largest, 0.0))
    total = weights.sum(axis=-2, keepdims=True)
    return weights / np.where(total == 0.0, 1.0, total)


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
) -> np.ndarray:
    return attention_weights(q, k, mask=mask, bias=bias, scale=scale) @ v
