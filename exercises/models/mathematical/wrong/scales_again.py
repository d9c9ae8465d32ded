"""Divides the exponents by √K, which belongs to the maps here."""

import numpy as np


def attention_weights(X: np.ndarray, U_q: np.ndarray, U_k: np.ndarray, *, causal: bool = False) -> np.ndarray:
    exponents = (U_k @ X).T @ (U_q @ X) / np.sqrt(len(U_q))
    if causal:
        exponents = np.where(np.triu(np.ones(exponents.shape, bool)), exponents, -np.inf)
    # The largest exponent of each column is subtracted so that exp cannot overflow.
    weights = np.exp(exponents - exponents.max(axis=0))
    return weights / weights.sum(axis=0)


def multi_head(
    X: np.ndarray,
    U_q: np.ndarray,
    U_k: np.ndarray,
    W_val: np.ndarray,
    W_out: np.ndarray,
    *,
    causal: bool = False,
) -> np.ndarray:
    Y = np.zeros(X.shape)
    for h in range(len(W_val)):
        A = attention_weights(X, U_q[h], U_k[h], causal=causal)
        Y += W_out[h] @ W_val[h] @ X @ A
    return Y


def from_rows(
    W_q: np.ndarray, W_k: np.ndarray, W_v: np.ndarray, W_o: np.ndarray, n_heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    D, width = W_q.shape
    E = width // n_heads
    U_q, U_k, W_val = (W.T.reshape(n_heads, E, D) for W in (W_q, W_k, W_v))
    W_out = np.swapaxes(W_o.reshape(n_heads, E, D), -1, -2)
    return U_q * E**-0.25, U_k * E**-0.25, W_val, W_out
