"""Cross-entropy of rows of logits with classes, and what pulls its cotangents back to the logits.

    lse = log(sum_j exp(x_j)),    loss = lse - sum_j q_j x_j,    q = (1 - smoothing) onehot(class) + smoothing / V

Forward keeps two numbers a row; backward computes p = exp(x - lse) again and writes (g + h) p - g q, the one array of
the logits' size, for the cotangents g of the losses and h of lse. A class below 0 is a row that does not count: zeros.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp, largest
from minitf.kernels.pool import over_rows

#: elements that are worth a thread of their own
WORTH = 1 << 14


@jit(reorder=True)
def _class_losses_rows(start, stop, logits, target, smoothing, losses, lse):
    number = logits.dtype.type
    for i in range(start, stop):
        row = logits[i]
        if target[i] < 0:
            losses[i] = lse[i] = 0
            continue
        top = largest(row)
        if top == -np.inf:
            top = number(0)
        total = number(0)
        for j in range(row.size):
            total += exp(row[j] - top)
        lse[i] = top + math.log(total)
        chosen = row[target[i]]
        if smoothing > 0:
            total = number(0)
            for j in range(row.size):
                total += row[j]
            chosen = number(1 - smoothing) * chosen + number(smoothing) * (total / number(row.size))
        losses[i] = lse[i] - chosen


@jit
def _class_losses_vjp_rows(start, stop, g, h, logits, lse, target, smoothing, out):
    number = logits.dtype.type
    for i in range(start, stop):
        row, y = logits[i], out[i]
        if target[i] < 0:
            y[:] = 0
            continue
        weight, shift = g[i] + h[i], lse[i]
        others = number(smoothing / row.size) * g[i]
        for j in range(row.size):
            y[j] = weight * exp(row[j] - shift) - others
        y[target[i]] -= number(1 - smoothing) * g[i]


def class_losses(
    logits: np.ndarray, target: np.ndarray, *, smoothing: float, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """logits (N, V), target (N,) the class of each row or negative -> (losses, lse), each (N,)."""
    N, V = logits.shape
    losses, lse = np.empty((2, N), logits.dtype)
    arrays = (np.ascontiguousarray(logits), np.ascontiguousarray(target), smoothing, losses, lse)
    over_rows(_class_losses_rows, N, *arrays, threads=threads, least=max(1, WORTH // V))
    return losses, lse


def class_losses_vjp(
    g: np.ndarray,
    h: np.ndarray,
    logits: np.ndarray,
    lse: np.ndarray,
    target: np.ndarray,
    *,
    smoothing: float,
    threads: int,
) -> np.ndarray:
    """The cotangent of the logits (N, V) from g of the losses and h of lse, each (N,)."""
    N, V = logits.shape
    out = np.empty((N, V), logits.dtype)
    arrays = [np.ascontiguousarray(a) for a in (g, h, logits, lse, target)]
    over_rows(_class_losses_vjp_rows, N, *arrays, smoothing, out, threads=threads, least=max(1, WORTH // V))
    return out


# -- twins --------------------------------------------------------------------------------------------------------


def class_losses_twin(logits: np.ndarray, target: np.ndarray, *, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    top = np.max(logits, axis=-1, keepdims=True, initial=-math.inf)
    top[top == -math.inf] = 0
    with np.errstate(divide="ignore"):
        lse = np.log(np.sum(np.exp(logits - top), axis=-1)) + top[:, 0]
    counted = target >= 0
    chosen = np.take_along_axis(logits, np.where(counted, target, 0)[:, None], -1)[:, 0]
    if smoothing:
        chosen = (1 - smoothing) * chosen + smoothing * np.mean(logits, axis=-1)
    return np.where(counted, lse - chosen, 0), np.where(counted, lse, 0)


def class_losses_vjp_twin(
    g: np.ndarray, h: np.ndarray, logits: np.ndarray, lse: np.ndarray, target: np.ndarray, *, smoothing: float
) -> np.ndarray:
    counted = target >= 0
    q = np.full(logits.shape, smoothing / logits.shape[-1], logits.dtype)
    q[counted, target[counted]] += 1 - smoothing
    out = (g + h)[:, None] * np.exp(logits - lse[:, None]) - g[:, None] * q
    return np.where(counted[:, None], out, 0)
