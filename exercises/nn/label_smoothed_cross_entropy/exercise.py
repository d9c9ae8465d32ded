"""Label-smoothed cross-entropy: see README.md for the task."""

import numpy as np


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """log(sum(exp(row))) of every row: (N, V) -> (N,)."""
    raise NotImplementedError


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
) -> float:
    """The mean loss of the rows that count.

    logits (N, V); target (N,), classes 0 to V - 1, or ignore_index where a row does not count.
    """
    raise NotImplementedError


def cross_entropy_gradient(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
) -> np.ndarray:
    """The derivative of ``cross_entropy`` with respect to the logits, (N, V)."""
    raise NotImplementedError
