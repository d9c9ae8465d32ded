"""Attention with a key/value cache: see README.md for the task."""

import numpy as np


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal attention of the last T of S positions.

    q (B, H, T, E); k, v (B, K, S, E); returns (B, H, T, E).
    """
    raise NotImplementedError


def step(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, cache_k: np.ndarray, cache_v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The output for T new positions, and the cache with their keys and values behind the old ones.

    q (B, H, T, E); k, v (B, K, T, E); cache_k, cache_v (B, K, S, E); returns (B, H, T, E) and twice (B, K, S + T, E).
    """
    raise NotImplementedError


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
    """The whole layer, ``chunk`` positions at a time.

    x (B, T, D); w_q (D, H E); w_k, w_v (D, K E); w_o (H E, D); returns (B, T, D).
    """
    raise NotImplementedError


def cache_bytes(B: int, S: int, n_layers: int, n_kv_heads: int, E: int, itemsize: int) -> int:
    """Bytes of the keys and values of S positions in all layers, at ``itemsize`` bytes a number."""
    raise NotImplementedError
