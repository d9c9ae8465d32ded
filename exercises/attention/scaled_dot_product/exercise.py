"""Scaled dot-product attention: see README.md for the task."""

import numpy as np


def attention_weights(
    q: np.ndarray,
    k: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """What every query listens to: (..., T, S), rows that sum to 1, or to 0 where nothing may be attended.

    q (..., T, E); k (..., S, E); mask, True = may attend, and bias broadcast to (..., T, S); scale is 1 / √E if None.
    """
    raise NotImplementedError


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """What every query hears: the weights times the values v (..., S, W). Returns (..., T, W)."""
    raise NotImplementedError
