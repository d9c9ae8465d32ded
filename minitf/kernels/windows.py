"""Attention inside the windows of a map, which may be shifted: neither the map nor its windows are copied.

    s_ij = scale q_i . k_j + bias[i - j + window - 1]       for the pixels j of the window of pixel i
    out_i = sum_j softmax(s_i)_j v_j                        lse_i = log sum_j exp(s_ij)

The windows lie side by side on the map rolled by -shift along both axes: token (i, j) of window (a, b) is the pixel
((a M_y + i + shift_y) mod Y, (b M_x + j + shift_x) mod X). The last window of an axis therefore holds pixels from both ends
of the map; they do not see each other. So every pixel sees a part of one window, as if windows had been cut on the map as
it is, beginning with ragged ones.

Shapes: q, k (B, H, Y, X, E), v (B, H, Y, X, W), bias (H, 2 M_y - 1, 2 M_x - 1) or None. Nothing beyond the results but the
tokens and logits of one window for each thread. A window owns its pixels, on the way back too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp, largest
from minitf.kernels.neighborhood import _maps
from minitf.kernels.pool import blas_alone, over_rows

#: a number for each axis of the map
Pair = tuple[int, int]

#: multiply-adds that are worth a thread of their own
WORTH = 1 << 18


@jit(inline=True)
def _pixel(token, shift, length):
    """Where the token with this number is along an axis."""
    place = token + shift
    return place - length if place >= length else place


@jit
def _gather(x, a, b, window, shift, factor, tokens):
    """tokens = factor * the pixels of window (a, b) of the map x (Y, X, E)."""
    for i in range(window[0]):
        row = x[_pixel(a * window[0] + i, shift[0], x.shape[0])]
        for j in range(window[1]):
            pixel, token = row[_pixel(b * window[1] + j, shift[1], x.shape[1])], tokens[i * window[1] + j]
            for e in range(token.size):
                token[e] = factor * pixel[e]


@jit
def _scatter(tokens, a, b, window, shift, factor, x):
    """The pixels of window (a, b) of the map x = factor * tokens."""
    for i in range(window[0]):
        row = x[_pixel(a * window[0] + i, shift[0], x.shape[0])]
        for j in range(window[1]):
            pixel, token = row[_pixel(b * window[1] + j, shift[1], x.shape[1])], tokens[i * window[1] + j]
            for e in range(token.size):
                pixel[e] = factor * token[e]


@jit
def _ends(a, b, window, shift, shape, end):
    """end = which ends of the map (Y, X) the tokens of window (a, b) are from; whether they differ."""
    cut_y = window[0] - (shift[0] if (a + 1) * window[0] == shape[0] else 0)
    cut_x = window[1] - (shift[1] if (b + 1) * window[1] == shape[1] else 0)
    for i in range(window[0]):
        for j in range(window[1]):
            end[i * window[1] + j] = 2 * (i >= cut_y) + (j >= cut_x)
    return cut_y < window[0] or cut_x < window[1]


@jit
def _finish_logits(s, bias, differ, end):
    """The products of all pairs become logits."""
    for t in range(s.shape[0]):
        row = s[t]
        if bias.size > 0:
            biases = bias[t]
            for u in range(row.size):
                row[u] += biases[u]
        if differ:
            for u in range(row.size):
                row[u] = row[u] if end[u] == end[t] else -np.inf


@jit
def _exponentials(s):
    """s = exp(s) for all pairs at once: rows are short, and what does not fill a vector is slow."""
    flat = s.reshape(-1)
    for j in range(flat.size):
        flat[j] = exp(flat[j])


@jit
def _subtract(shift, row):
    """row -= shift, unless that is the -inf of a row of nothing but -inf."""
    if shift > -np.inf:
        for u in range(row.size):
            row[u] -= shift


@jit(reorder=True)
def _sum(row):
    total = row.dtype.type(0)
    for u in range(row.size):
        total += row[u]
    return total


@jit
def _forward(begin, end, q, k, v, bias, window, shift, scale, out, lse):
    """Rows of windows begin:end, counted through all maps (R, Y, X, ...)."""
    _, Y, X, E = q.shape
    W, n, down, across = v.shape[3], window[0] * window[1], Y // window[0], X // window[1]
    one, heads = q.dtype.type(1), max(bias.shape[0], 1)
    queries, keys, values = np.empty((n, E), q.dtype), np.empty((n, E), q.dtype), np.empty((n, W), q.dtype)
    s, heard, logsum = np.empty((n, n), q.dtype), np.empty((n, W), q.dtype), np.empty((n, 1), q.dtype)
    ends = np.empty(n, np.int8)
    for row in range(begin, end):
        r, a = row // down, row % down
        for b in range(across):
            _gather(q[r], a, b, window, shift, scale, queries)
            _gather(k[r], a, b, window, shift, one, keys)
            _gather(v[r], a, b, window, shift, one, values)
            np.dot(queries, keys.T, s)
            differ = _ends(a, b, window, shift, (Y, X), ends)
            _finish_logits(s, bias[r % heads], differ, ends)
            for t in range(n):
                top = largest(s[t])
                logsum[t, 0] = top
                _subtract(top, s[t])
            _exponentials(s)
            for t in range(n):
                total = _sum(s[t])
                if total != 0:
                    logsum[t, 0] += math.log(total)
                    factor = 1 / total
                    for u in range(n):
                        s[t, u] *= factor
            np.dot(s, values, heard)
            _scatter(heard, a, b, window, shift, one, out[r])
            _scatter(logsum, a, b, window, shift, one, lse[r])


@jit(reorder=True)
def _backward(begin, end, q, k, v, bias, window, shift, scale, out, lse, g, g_lse, dq, dk, dv, d_bias):
    """The cotangents for rows of windows begin:end, counted through all maps; each row has a part of d_bias, if it has a
    size, which holds zeros."""
    _, Y, X, E = q.shape
    W, n, down, across = v.shape[3], window[0] * window[1], Y // window[0], X // window[1]
    one, heads = q.dtype.type(1), max(bias.shape[0], 1)
    queries, keys, of_tokens = np.empty((n, E), q.dtype), np.empty((n, E), q.dtype), np.empty((n, E), q.dtype)
    values, along, heard = np.empty((n, W), q.dtype), np.empty((n, W), q.dtype), np.empty((n, W), q.dtype)
    p, ds = np.empty((n, n), q.dtype), np.empty((n, n), q.dtype)
    logsum, of_logsum = np.empty((n, 1), q.dtype), np.empty((n, 1), q.dtype)
    ends = np.empty(n, np.int8)
    of_pairs = np.empty((n, n), q.dtype)
    for row in range(begin, end):
        r, a = row // down, row % down
        of_pairs[:] = 0
        for b in range(across):
            _gather(q[r], a, b, window, shift, scale, queries)
            _gather(k[r], a, b, window, shift, one, keys)
            _gather(v[r], a, b, window, shift, one, values)
            _gather(g[r], a, b, window, shift, one, along)
            _gather(out[r], a, b, window, shift, one, heard)
            _gather(lse[r], a, b, window, shift, one, logsum)
            _gather(g_lse[r], a, b, window, shift, one, of_logsum)
            np.dot(queries, keys.T, p)
            np.dot(along, values.T, ds)
            differ = _ends(a, b, window, shift, (Y, X), ends)
            _finish_logits(p, bias[r % heads], differ, ends)
            for t in range(n):
                _subtract(logsum[t, 0], p[t])
            _exponentials(p)
            for t in range(n):
                delta = -of_logsum[t, 0]
                for w in range(W):
                    delta += along[t, w] * heard[t, w]
                for u in range(n):
                    ds[t, u] = p[t, u] * (ds[t, u] - delta)
            np.dot(ds, keys, of_tokens)
            _scatter(of_tokens, a, b, window, shift, scale, dq[r])
            np.dot(ds.T, queries, of_tokens)
            _scatter(of_tokens, a, b, window, shift, one, dk[r])
            np.dot(p.T, along, heard)
            _scatter(heard, a, b, window, shift, one, dv[r])
            if d_bias.size > 0:
                for t in range(n):
                    for u in range(n):
                        of_pairs[t, u] += ds[t, u]
        if d_bias.size > 0:
            _fold(of_pairs, window, d_bias[row])


@jit
def _fold(of_pairs, window, d_bias):
    """Adds up what pairs (t, u) of tokens with the same offset have."""
    for t in range(of_pairs.shape[0]):
        for u in range(of_pairs.shape[1]):
            y, x = t // window[1] - u // window[1], t % window[1] - u % window[1]
            d_bias[y + window[0] - 1, x + window[1] - 1] += of_pairs[t, u]


# -- calling them -------------------------------------------------------------------------------------------------


def window_attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    *,
    window: Pair,
    shift: Pair,
    scale: float,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """out (B, H, Y, X, W) and lse (B, H, Y, X); see the module's docstring. Y and X are multiples of the window."""
    out, lse = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype), np.empty(q.shape[:-1], q.dtype)
    rows, least = _rows(q, window, q.shape[-1] + v.shape[-1])
    given = (*map(_maps, (q, k, v)), _of_pairs(bias, window, q.dtype), window, shift, q.dtype.type(scale))
    with blas_alone():
        over_rows(_forward, rows, *given, _maps(out), _maps(lse[..., None]), threads=threads, least=least)
    return out, lse


def window_attention_vjp(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    lse: np.ndarray,
    g: np.ndarray,
    g_lse: np.ndarray,
    *,
    window: Pair,
    shift: Pair,
    scale: float,
    of_bias: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cotangents of q, k, v and, if asked for, of the bias, from those of out and lse."""
    B, H, Y = q.shape[:3]
    of_pairs = () if bias is None else bias.shape[1:]
    dq, dk, dv = (np.empty(x.shape, x.dtype) for x in (q, k, v))
    rows, least = _rows(q, window, 3 * q.shape[-1] + 2 * v.shape[-1])
    partial = np.zeros((rows, *of_pairs) if of_bias else (0, 0, 0), q.dtype)
    given = (*map(_maps, (q, k, v)), _of_pairs(bias, window, q.dtype), window, shift, q.dtype.type(scale))
    rest = (*map(_maps, (out, lse[..., None], g, g_lse[..., None])), *map(_maps, (dq, dk, dv)), partial)
    with blas_alone():
        over_rows(_backward, rows, *given, *rest, threads=threads, least=least)
    d_bias = np.empty(0, q.dtype)
    if of_bias:
        d_bias = partial.reshape(B, H, Y // window[0], *of_pairs).sum(axis=(0, 2))
    return dq, dk, dv, d_bias


def _rows(q: np.ndarray, window: Pair, width: int) -> tuple[int, int]:
    """The number of rows of windows, and how many are worth a thread."""
    B, H, Y, X, _ = q.shape
    return B * H * (Y // window[0]), 1 + WORTH // max(1, window[0] * X * math.prod(window) * width)


def _of_pairs(bias: np.ndarray | None, window: Pair, dtype: np.dtype) -> np.ndarray:
    """The bias of every pair of tokens, (H, n, n), or nothing."""
    return np.empty((0, 0, 0), dtype) if bias is None else np.ascontiguousarray(bias[:, *offsets(window)])


# -- twins --------------------------------------------------------------------------------------------------------


def partition(x: np.ndarray, window: Pair, shift: Pair) -> np.ndarray:
    """(..., Y, X, E) as windows (..., Y / M_y, X / M_x, M_y M_x, E)."""
    (*lead, Y, X, E), (My, Mx) = x.shape, window
    x = np.roll(x, (-shift[0], -shift[1]), (-3, -2)).reshape(*lead, Y // My, My, X // Mx, Mx, E)
    return np.moveaxis(x, -3, -4).reshape(*lead, Y // My, X // Mx, My * Mx, E)


def reverse(x: np.ndarray, window: Pair, shift: Pair) -> np.ndarray:
    """The inverse of ``partition``."""
    (*lead, down, across, _, E), (My, Mx) = x.shape, window
    x = np.moveaxis(x.reshape(*lead, down, across, My, Mx, E), -4, -3).reshape(*lead, down * My, across * Mx, E)
    return np.roll(x, shift, (-3, -2))


def visible(Y: int, X: int, window: Pair, shift: Pair) -> np.ndarray:
    """(Y / M_y, X / M_x, n, n) booleans: which tokens of a window see each other: those of one cell of the grid that the
    windows' borders draw on the map as it is."""
    row, column = ((np.arange(n) + window[i] - shift[i]) // window[i] for i, n in enumerate((Y, X)))
    cell = partition((row[:, None] * (X + 1) + column)[..., None], window, shift)
    return cell == np.swapaxes(cell, -1, -2)


def offsets(window: Pair) -> tuple[np.ndarray, np.ndarray]:
    """The entry of the bias for every pair of tokens, query minus key: two index arrays (n, n)."""
    at = np.indices(window).reshape(2, -1)
    y, x = at[:, :, None] - at[:, None, :] + np.reshape(window, (2, 1, 1)) - 1
    return y, x


def _logits_twin(
    q: np.ndarray, k: np.ndarray, bias: np.ndarray | None, window: Pair, shift: Pair, scale: float
) -> np.ndarray:
    """(B, H, Y / M_y, X / M_x, n, n)"""
    s = q.dtype.type(scale) * (partition(q, window, shift) @ np.swapaxes(partition(k, window, shift), -1, -2))
    if bias is not None:
        s = s + bias[:, *offsets(window)][:, None, None]
    return np.where(visible(q.shape[2], q.shape[3], window, shift), s, q.dtype.type(-np.inf))


def window_attention_twin(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    *,
    window: Pair,
    shift: Pair,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    s = _logits_twin(q, k, bias, window, shift, scale)
    top = np.max(s, axis=-1, keepdims=True)
    p = np.exp(s - np.where(top == -np.inf, 0, top).astype(q.dtype))
    total = np.sum(p, axis=-1, keepdims=True)
    p /= np.where(total == 0, 1, total).astype(q.dtype)
    with np.errstate(divide="ignore"):
        lse = top + np.log(total)
    return reverse(p @ partition(v, window, shift), window, shift), reverse(lse, window, shift)[..., 0]


def window_attention_vjp_twin(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    lse: np.ndarray,
    g: np.ndarray,
    g_lse: np.ndarray,
    *,
    window: Pair,
    shift: Pair,
    scale: float,
    of_bias: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    cut = lambda x: partition(x, window, shift)
    lse, delta = cut(lse[..., None]), cut(np.sum(g * out, axis=-1, keepdims=True) - g_lse[..., None])
    p = np.exp(_logits_twin(q, k, bias, window, shift, scale) - np.where(lse == -np.inf, 0, lse).astype(q.dtype))
    ds = p * (cut(g) @ np.swapaxes(cut(v), -1, -2) - delta)
    dq, dk = q.dtype.type(scale) * (ds @ cut(k)), q.dtype.type(scale) * (np.swapaxes(ds, -1, -2) @ cut(q))
    d_bias = np.zeros_like(bias if of_bias else q[:0].reshape(-1))
    if of_bias:
        places: Any = (slice(None), *offsets(window))
        np.add.at(d_bias, places, np.sum(ds, axis=(0, 2, 3)))
    dq, dk, dv = (reverse(x, window, shift) for x in (dq, dk, np.swapaxes(p, -1, -2) @ cut(g)))
    return dq, dk, dv, d_bias
