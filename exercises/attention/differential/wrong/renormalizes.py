"""Divides each row of the difference by its sum, as if it had to be a distribution again."""

import numpy as np


def lambda_init(layer: int) -> float:
    return 0.8 - 0.6 * np.exp(-0.3 * layer)


def lambda_value(
    lambda_q1: np.ndarray, lambda_k1: np.ndarray, lambda_q2: np.ndarray, lambda_k2: np.ndarray, layer: int
) -> float:
    return np.exp(lambda_q1 @ lambda_k1) - np.exp(lambda_q2 @ lambda_k2) + lambda_init(layer)


def attention_map(q: np.ndarray, k: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """softmax(q kᵀ / √E) over the keys that may be attended; a row of zeros where there are none."""
    logits = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        logits = np.where(mask, logits, -np.inf)
    # The largest logit is subtracted so that exp cannot overflow; in an empty row it is -inf, and 0 serves as well.
    largest = logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(largest), largest, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0.0, 1.0, total)


def differential_attention(
    q1: np.ndarray,
    k1: np.ndarray,
    q2: np.ndarray,
    k2: np.ndarray,
    v: np.ndarray,
    *,
    lambda_: float,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    weights = attention_map(q1, k1, mask) - lambda_ * attention_map(q2, k2, mask)
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0.0, 1.0, total) @ v


def split_heads(x: np.ndarray, n_heads: int) -> np.ndarray:
    """(B, T, D) -> (B, H, T, D / H)"""
    return np.swapaxes(x.reshape(*x.shape[:-1], n_heads, -1), -2, -3)


def differential_layer(
    x: np.ndarray,
    w_q: np.ndarray,
    w_k: np.ndarray,
    w_v: np.ndarray,
    w_o: np.ndarray,
    lambda_q1: np.ndarray,
    lambda_k1: np.ndarray,
    lambda_q2: np.ndarray,
    lambda_k2: np.ndarray,
    norm_weight: np.ndarray,
    *,
    n_heads: int,
    layer: int,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    q, k, v = split_heads(x @ w_q, 2 * n_heads), split_heads(x @ w_k, 2 * n_heads), split_heads(x @ w_v, n_heads)
    lambda_ = lambda_value(lambda_q1, lambda_k1, lambda_q2, lambda_k2, layer)
    o = differential_attention(q[:, 0::2], k[:, 0::2], q[:, 1::2], k[:, 1::2], v, lambda_=lambda_, mask=mask)
    o = o / np.sqrt(np.mean(o**2, axis=-1, keepdims=True) + 1e-5) * norm_weight * (1 - lambda_init(layer))
    return np.swapaxes(o, -2, -3).reshape(x.shape) @ w_o
