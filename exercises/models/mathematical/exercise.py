"""Attention in columns: see README.md for the task."""

import numpy as np


def attention_weights(X: np.ndarray, U_q: np.ndarray, U_k: np.ndarray, *, causal: bool = False) -> np.ndarray:
    """A (N, N), whose column n says how much token n takes from each token.

    X (D, N); U_q, U_k (K, D).
    """
    raise NotImplementedError


def multi_head(
    X: np.ndarray,
    U_q: np.ndarray,
    U_k: np.ndarray,
    W_val: np.ndarray,
    W_out: np.ndarray,
    *,
    causal: bool = False,
) -> np.ndarray:
    """The sum of V_h X A_h over the heads.

    X (D, N); U_q, U_k (H, K, D); W_val (H, E, D); W_out (H, D, E). Returns (D, N).
    """
    raise NotImplementedError


def from_rows(
    W_q: np.ndarray, W_k: np.ndarray, W_v: np.ndarray, W_o: np.ndarray, n_heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(U_q, U_k, W_val, W_out) for ``multi_head`` from the weights of a layer that has tokens in rows.

    W_q, W_k, W_v (D, H E); W_o (H E, D). Returns arrays (H, E, D), (H, E, D), (H, E, D) and (H, D, E).
    """
    raise NotImplementedError
