"""Softmax and its logarithm along one axis, and what pulls cotangents back through them.

    softmax(x)_i = exp(x_i - top) / total        top = max(x),  total = sum_j exp(x_j - top)
    log_softmax(x)_i = x_i - top - log(total)

A row of nothing but -inf gives zeros (-inf for the logarithm), and zeros on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp, largest
from minitf.kernels.pool import over_rows

#: elements that are worth a thread of their own
WORTH = 1 << 14


@jit(reorder=True)
def _softmax_rows(start, stop, x, out):
    for i in range(start, stop):
        row, y = x[i], out[i]
        top = largest(row)
        if top == -np.inf:
            y[:] = 0
            continue
        total = x.dtype.type(0)
        for j in range(row.size):
            y[j] = exp(row[j] - top)
            total += y[j]
        factor = 1 / total
        for j in range(row.size):
            y[j] *= factor


@jit(reorder=True)
def _log_softmax_rows(start, stop, x, out):
    for i in range(start, stop):
        row, y = x[i], out[i]
        top = largest(row)
        if top == -np.inf:
            y[:] = -np.inf
            continue
        total = x.dtype.type(0)
        for j in range(row.size):
            total += exp(row[j] - top)
        shift = top + math.log(total)
        for j in range(row.size):
            y[j] = row[j] - shift


@jit(reorder=True)
def _softmax_vjp_rows(start, stop, g, p, out):
    for i in range(start, stop):
        total = g.dtype.type(0)
        for j in range(g.shape[1]):
            total += g[i, j] * p[i, j]
        for j in range(g.shape[1]):
            out[i, j] = (g[i, j] - total) * p[i, j]


@jit(reorder=True)
def _log_softmax_vjp_rows(start, stop, g, log_p, out):
    for i in range(start, stop):
        zero = g.dtype.type(0)
        total = zero
        for j in range(g.shape[1]):
            total += g[i, j] if log_p[i, j] != -np.inf else zero
        for j in range(g.shape[1]):
            out[i, j] = g[i, j] - exp(log_p[i, j]) * total if log_p[i, j] != -np.inf else zero


def _along(kernel: Callable[..., None], axis: int, threads: int, *arrays: np.ndarray) -> np.ndarray:
    """``kernel(start, stop, *rows, out)`` with ``axis`` as the axis of the rows."""
    moved = [np.moveaxis(x, axis, -1) for x in arrays]
    shape = moved[0].shape
    out = np.empty(shape, arrays[0].dtype)
    if out.size:
        rows = [np.ascontiguousarray(x).reshape(-1, shape[-1]) for x in moved]
        least = max(1, WORTH // shape[-1])
        over_rows(kernel, len(rows[0]), *rows, out.reshape(-1, shape[-1]), threads=threads, least=least)
    return np.moveaxis(out, -1, axis)


def softmax(x: np.ndarray, *, axis: int, threads: int) -> np.ndarray:
    return _along(_softmax_rows, axis, threads, x)


def log_softmax(x: np.ndarray, *, axis: int, threads: int) -> np.ndarray:
    return _along(_log_softmax_rows, axis, threads, x)


def softmax_vjp(g: np.ndarray, p: np.ndarray, *, axis: int, threads: int) -> np.ndarray:
    """The cotangent of x from that of p = softmax(x)."""
    return _along(_softmax_vjp_rows, axis, threads, g, p)


def log_softmax_vjp(g: np.ndarray, log_p: np.ndarray, *, axis: int, threads: int) -> np.ndarray:
    """The cotangent of x from that of log_p = log_softmax(x)."""
    return _along(_log_softmax_vjp_rows, axis, threads, g, log_p)


# -- twins --------------------------------------------------------------------------------------------------------


def _shifted(x: np.ndarray, axis: int) -> np.ndarray:
    """``x`` minus its largest entry: a fresh array whose exponentials cannot overflow."""
    top = np.max(x, axis=axis, keepdims=True, initial=-math.inf)
    top[top == -math.inf] = 0
    return x - top


def softmax_twin(x: np.ndarray, *, axis: int) -> np.ndarray:
    out = _shifted(x, axis)
    np.exp(out, out=out)
    total = np.sum(out, axis=axis, keepdims=True)
    total[total == 0] = 1
    out /= total
    return out


def log_softmax_twin(x: np.ndarray, *, axis: int) -> np.ndarray:
    out = _shifted(x, axis)
    total = np.sum(np.exp(out), axis=axis, keepdims=True)
    total[total == 0] = 1
    out -= np.log(total)
    return out


def softmax_vjp_twin(g: np.ndarray, p: np.ndarray, *, axis: int) -> np.ndarray:
    return (g - np.sum(g * p, axis=axis, keepdims=True)) * p


def log_softmax_vjp_twin(g: np.ndarray, log_p: np.ndarray, *, axis: int) -> np.ndarray:
    dead = log_p == -math.inf
    g = np.where(dead, 0, g)
    return g - np.exp(log_p) * np.sum(g, axis=axis, keepdims=True)
