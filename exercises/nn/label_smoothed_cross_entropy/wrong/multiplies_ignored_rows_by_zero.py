"""Computes ignored rows and multiplies them with 0, which leaves NaN where they hold it."""

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
    counts = target != ignore_index
    target = np.where(counts, target, 0)
    lse = log_sum_exp(logits)
    q = smoothed(target, logits.shape[-1], label_smoothing)
    losses = lse - (q * logits).sum(axis=-1) + z_loss * lse**2
    return float((losses * counts).sum() / max(counts.sum(), 1))


def cross_entropy_gradient(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    ignore_index: int = -100,
) -> np.ndarray:
    counts = target != ignore_index
    lse = log_sum_exp(logits)[:, None]
    p = np.exp(logits - lse)
    q = smoothed(np.where(counts, target, 0), logits.shape[-1], label_smoothing)
    return counts[:, None] * (p - q + 2 * z_loss * lse * p) / max(counts.sum(), 1)
