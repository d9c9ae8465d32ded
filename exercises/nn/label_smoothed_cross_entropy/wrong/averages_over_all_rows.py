"""Divides by N, ignored rows included."""

import numpy as np


def log_sum_exp(logits: np.ndarray) -> np.ndarray:
    # With the largest logit subtracted, exp cannot overflow and the sum is at least 1.
    largest = logits.max(axis=-1)
    return largest + np.log(np.exp(logits - largest[:, None]).sum(axis=-1))


def smoothed(target: np.ndarray, V: int, label_smoothing: float) -> np.ndarray:
    """The target distributions (N, V)."""
    return (1 - label_smoothing) * np.eye(V)[target] + label_smoothing / V


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
) -> float:
    counts, N = target != ignore_index, len(target)
    logits, target = logits[counts], target[counts]
    if target.size == 0:
        return 0.0
    lse = log_sum_exp(logits)
    q = smoothed(target, logits.shape[-1], label_smoothing)
    return float(np.sum(lse - (q * logits).sum(axis=-1) + z_loss * lse**2)) / N


def cross_entropy_gradient(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
) -> np.ndarray:
    gradient = np.zeros(logits.shape)
    counts, N = target != ignore_index, len(target)
    logits, target = logits[counts], target[counts]
    if target.size:
        lse = log_sum_exp(logits)[:, None]
        p = np.exp(logits - lse)
        q = smoothed(target, logits.shape[-1], label_smoothing)
        gradient[counts] = (p - q + 2 * z_loss * lse * p) / N
    return gradient
