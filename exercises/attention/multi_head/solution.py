"""Multi-head attention in NumPy."""

import numpy as np


def split_heads(x: np.ndarray, n_heads: int) -> np.ndarray:
    B, T, width = x.shape
    return x.reshape(B, T, n_heads, width // n_heads).swapaxes(1, 2)


def merge_heads(x: np.ndarray) -> np.ndarray:
    B, H, T, E = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * E)


def pack_heads(w_q: np.ndarray, w_k: np.ndarray, w_v: np.ndarray) -> np.ndarray:
    return np.concatenate([*w_q, *w_k, *w_v], axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows that sum to 1, and a row of zeros for one of -inf."""
    largest = logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(largest), largest, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0.0, 1.0, total)


def multi_head_attention(
    x: np.ndarray,
    w_qkv: np.ndarray,
    b_qkv: np.ndarray,
    w_o: np.ndarray,
    b_o: np.ndarray,
    *,
    n_heads: int,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    q, k, v = (split_heads(part, n_heads) for part in np.split(x @ w_qkv + b_qkv, 3, axis=-1))
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        logits = np.where(mask[..., None, :, :], logits, -np.inf)  # an axis for the heads
    return merge_heads(softmax(logits) @ v) @ w_o + b_o
