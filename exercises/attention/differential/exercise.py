"""Differential attention: see README.md for the task."""

import numpy as np


def lambda_init(layer: int) -> float:
    """The value that λ starts from in this layer (0 is the first)."""
    raise NotImplementedError


def lambda_value(
    lambda_q1: np.ndarray, lambda_k1: np.ndarray, lambda_q2: np.ndarray, lambda_k2: np.ndarray, layer: int
) -> float:
    """λ from its four vectors (E,)."""
    raise NotImplementedError


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
    """The difference of two attention maps, applied to values.

    q1, q2 (..., T, E); k1, k2 (..., S, E); v (..., S, W); mask (..., T, S), True = may attend. Returns (..., T, W).
    """
    raise NotImplementedError


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
    """The whole layer.

    x (B, T, D); w_q, w_k, w_v, w_o (D, D); lambda_* (E,) with E = D / (2 n_heads); norm_weight (2E,);
    mask (T, T), True = may attend. Returns (B, T, D).
    """
    raise NotImplementedError
