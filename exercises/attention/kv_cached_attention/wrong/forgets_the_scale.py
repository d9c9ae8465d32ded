"""Does not divide the logits by √E."""

import numpy as np


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    H, T = q.shape[1:3]
    K, S = k.shape[1:3]
    k, v = np.repeat(k, H // K, axis=1), np.repeat(v, H // K, axis=1)
    logits = q @ k.swapaxes(-1, -2)
    # query t stands at position S - T + t
    logits = np.where(np.tri(T, S, S - T, dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def step(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, cache_k: np.ndarray, cache_v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cache_k = np.concatenate([cache_k, k], axis=2)
    cache_v = np.concatenate([cache_v, v], axis=2)
    return attend(q, cache_k, cache_v), cache_k, cache_v


def split_heads(x: np.ndarray, n_heads: int) -> np.ndarray:
    """(B, T, H E) -> (B, H, T, E)"""
    return x.reshape(*x.shape[:2], n_heads, -1).swapaxes(1, 2)


def layer(
    x: np.ndarray,
    w_q: np.ndarray,
    w_k: np.ndarray,
    w_v: np.ndarray,
    w_o: np.ndarray,
    *,
    n_heads: int,
    n_kv_heads: int,
    chunk: int,
) -> np.ndarray:
    B, T = x.shape[:2]
    cache_k = cache_v = np.zeros((B, n_kv_heads, 0, w_k.shape[1] // n_kv_heads))
    parts = []
    for start in range(0, T, chunk):
        new = x[:, start : start + chunk]
        q = split_heads(new @ w_q, n_heads)
        k, v = split_heads(new @ w_k, n_kv_heads), split_heads(new @ w_v, n_kv_heads)
        out, cache_k, cache_v = step(q, k, v, cache_k, cache_v)
        parts.append(out.swapaxes(1, 2).reshape(B, new.shape[1], -1) @ w_o)
    return np.concatenate(parts, axis=1)


def cache_bytes(B: int, S: int, n_layers: int, n_kv_heads: int, E: int, itemsize: int) -> int:
    return 2 * B * S * n_layers * n_kv_heads * E * itemsize
