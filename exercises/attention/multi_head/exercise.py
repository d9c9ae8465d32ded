"""Multi-head attention: see README.md for the task."""

import numpy as np


def split_heads(x: np.ndarray, n_heads: int) -> np.ndarray:
    """(B, T, H E) -> (B, H, T, E); a head's columns are neighbors."""
    raise NotImplementedError


def merge_heads(x: np.ndarray) -> np.ndarray:
    """(B, H, T, E) -> (B, T, H E), the inverse of ``split_heads``."""
    raise NotImplementedError


def pack_heads(w_q: np.ndarray, w_k: np.ndarray, w_v: np.ndarray) -> np.ndarray:
    """Three times (H, D, E) -> (D, 3 H E): columns of all queries, of all keys, of all values."""
    raise NotImplementedError


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
    """The whole layer.

    x (B, T, D); w_qkv (D, 3 D); b_qkv (3 D,); w_o (D, D); b_o (D,); mask (T, T) or (B, T, T), True = may attend.
    Returns (B, T, D).
    """
    raise NotImplementedError
