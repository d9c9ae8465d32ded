"""Depthwise convolution along time, without padding, and its two transposes.

    convolve:   y[t, c] = sum_j w[c, j] x[t + j, c]         x (B, T + W - 1, C), w (C, W) -> y (B, T, C)
    spread:     x[s, c] = sum_j w[c, j] y[s - j, c]         y, w -> x
    correlate:  w[c, j] = sum_t x[t + j, c] y[t, c]         x, y -> w, summed over the samples too

With W - 1 earlier inputs in front of x the first is causal. All three are linear in each argument. Every sum goes from its
first to its last term, those of correlate sample by sample.
"""

from __future__ import annotations

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.pool import over_rows
from minitf.kernels.scan import contiguous

#: channels of one row of work in ``correlate``
BLOCK = 64
#: multiply-adds that are worth a thread of their own
WORTH = 1 << 16


@jit
def _convolve_rows(start, stop, x, w, y):
    # w (W, C); a row is one sample at one time
    T = y.shape[1]
    for row in range(start, stop):
        i, t = row // T, row % T
        y_t = y[i, t]
        y_t[:] = 0
        for j in range(w.shape[0]):
            w_j, x_j = w[j], x[i, t + j]
            for c in range(y_t.size):
                y_t[c] += w_j[c] * x_j[c]


@jit
def _spread_rows(start, stop, y, w, x):
    T, S = y.shape[1], x.shape[1]
    for row in range(start, stop):
        i, s = row // S, row % S
        x_s = x[i, s]
        x_s[:] = 0
        for j in range(max(0, s - T + 1), min(s + 1, w.shape[0])):
            w_j, y_j = w[j], y[i, s - j]
            for c in range(x_s.size):
                x_s[c] += w_j[c] * y_j[c]


@jit
def _correlate_rows(start, stop, x, y, w):
    # w (samples, W, C), zeros at first; a row is a block of channels of one sample
    T, C = y.shape[1:]
    blocks = -(-C // BLOCK)
    for row in range(start, stop):
        i, lo = row // blocks, row % blocks * BLOCK
        hi = min(C, lo + BLOCK)
        for t in range(T):
            y_t = y[i, t, lo:hi]
            for j in range(w.shape[1]):
                w_j, x_j = w[i, j, lo:hi], x[i, t + j, lo:hi]
                for c in range(hi - lo):
                    w_j[c] += x_j[c] * y_t[c]


def convolve(x: np.ndarray, w: np.ndarray, *, threads: int) -> np.ndarray:
    x, w = contiguous(x, w.T)
    (B, S, C), W = x.shape, len(w)
    y = np.empty((B, S - W + 1, C), x.dtype)
    over_rows(_convolve_rows, B * y.shape[1], x, w, y, threads=threads, least=1 + WORTH // (W * C + 1))
    return y


def spread(y: np.ndarray, w: np.ndarray, *, threads: int) -> np.ndarray:
    y, w = contiguous(y, w.T)
    (B, T, C), W = y.shape, len(w)
    x = np.empty((B, T + W - 1, C), y.dtype)
    over_rows(_spread_rows, B * x.shape[1], y, w, x, threads=threads, least=1 + WORTH // (W * C + 1))
    return x


def correlate(x: np.ndarray, y: np.ndarray, *, threads: int) -> np.ndarray:
    x, y = contiguous(x, y)
    (B, T, C), W = y.shape, x.shape[1] - y.shape[1] + 1
    w = np.zeros((B, W, C), x.dtype)
    rows, least = B * -(-C // BLOCK), 1 + WORTH // (T * W * min(C, BLOCK) + 1)
    over_rows(_correlate_rows, rows, x, y, w, threads=threads, least=least)
    return w.sum(axis=0).T


# -- twins ------------------------------------------------------------------------------------------------------------


def convolve_twin(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    T = x.shape[1] - w.shape[1] + 1
    return sum(w[:, j] * x[:, j : j + T] for j in range(w.shape[1]))  # pyright: ignore[reportReturnType]


def spread_twin(y: np.ndarray, w: np.ndarray) -> np.ndarray:
    (B, T, C), W = y.shape, w.shape[1]
    x = np.zeros((B, T + W - 1, C), y.dtype)
    for j in range(W):
        x[:, j : j + T] += w[:, j] * y
    return x


def correlate_twin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    T = y.shape[1]
    return np.stack([np.sum(x[:, j : j + T] * y, axis=(0, 1)) for j in range(x.shape[1] - T + 1)], axis=-1)
