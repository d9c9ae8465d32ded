"""Neighbourhood attention: every pixel of a map attends to the pixels nearest to it, of which there are always as many.

    s_ij = scale q_i . k_j + bias[(j - i) / d + size - 1]      for the keys j of query i
    out_i = sum_j softmax(s_i)_j v_j                           lse_i = log sum_j exp(s_ij)

Along one axis of L pixels the keys of query i are start(i) + t d, t = 0 .. size - 1. With r = i mod d, the pixels r, r + d,
... are a row of their own, of ceil((L - r) / d) pixels, in which i sits in the middle of its keys, or as near to it as the
borders allow: start(i) = d clip(i // d - size // 2, 0, ceil((L - r) / d) - size) + r. On a map both axes do so.

Shapes: q, k (B, H, Y, X, E), v (B, H, Y, X, W), bias (H, 2 size_y - 1, 2 size_x - 1) or None. Nothing is unfolded: beyond
the results a thread holds the logits of one query.

On the way back a query adds to the cotangents of its keys, which other queries share. Rows are cut into strips, by their
number in a row r, r + d, ... of their own: high enough that a strip shares no key with the next but one, so that every
second strip can be worked on at the same time, then the others. This is one order of summation, whoever computes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp, largest
from minitf.kernels.pool import over_rows

#: a number for each axis of the map
Pair = tuple[int, int]

#: multiply-adds that are worth a thread of their own
WORTH = 1 << 18
#: queries, at least, of a strip
STRIP = 256


@jit(inline=True)
def _start(i, length, size, dilation):
    """The first key of query i."""
    r = i % dilation
    pixels = (length - r + dilation - 1) // dilation
    return dilation * min(max(i // dilation - size // 2, 0), pixels - size) + r


@jit(inline=True, reorder=True)
def _dot(a, b):
    total = a.dtype.type(0)
    for e in range(a.size):
        total += a[e] * b[e]
    return total


@jit(inline=True)
def _logits(y, x, y0, x0, scaled, k, bias, size, dilation, s):
    """s = the logits of the query at (y, x), whose first key is at (y0, x0); k: the map of its head."""
    for i in range(size[0]):
        keys, of_row = k[y0 + i * dilation[0]], s[i * size[1] : (i + 1) * size[1]]
        for j in range(size[1]):
            of_row[j] = _dot(scaled, keys[x0 + j * dilation[1]])
        if bias.size > 0:
            biases = bias[(y0 - y) // dilation[0] + i + size[0] - 1]
            first = (x0 - x) // dilation[1] + size[1] - 1
            biases = biases[first : first + size[1]]
            for j in range(size[1]):
                of_row[j] += biases[j]


@jit(inline=True, reorder=True)
def _exponentials(s, shift):
    """s = exp(s - shift); returns the sum."""
    total = s.dtype.type(0)
    for j in range(s.size):
        s[j] = exp(s[j] - shift)
        total += s[j]
    return total


@jit
def _forward(begin, end, q, k, v, bias, size, dilation, scale, out, lse):
    """Rows begin:end of the maps, counted through all maps (R, Y, X, ...); ``out`` holds zeros."""
    _, Y, X, E = q.shape
    heads = max(bias.shape[0], 1)
    s, scaled = np.empty(size[0] * size[1], q.dtype), np.empty(E, q.dtype)
    for row in range(begin, end):
        r, y = row // Y, row % Y
        y0 = _start(y, Y, size[0], dilation[0])
        for x in range(X):
            x0 = _start(x, X, size[1], dilation[1])
            for e in range(E):
                scaled[e] = q[r, y, x, e] * scale
            _logits(y, x, y0, x0, scaled, k[r], bias[r % heads], size, dilation, s)
            top = largest(s)
            if top == -np.inf:
                lse[r, y, x] = top
                continue
            total = _exponentials(s, top)
            lse[r, y, x] = top + math.log(total)
            factor, heard = 1 / total, out[r, y, x]
            for i in range(size[0]):
                values = v[r, y0 + i * dilation[0]]
                for j in range(size[1]):
                    weight, value = s[i * size[1] + j] * factor, values[x0 + j * dilation[1]]
                    for w in range(heard.size):
                        heard[w] += weight * value[w]


@jit(reorder=True)
def _backward(
    begin, end, odd, height, strips, q, k, v, bias, size, dilation, scale, out, lse, g, g_lse, dq, dk, dv, d_bias
):
    """Every second strip of ``height`` rows, the first or (odd = 1) the second and so on; begin:end counts through all maps
    and the rows r, r + d, ... of each. dq, dk, dv and d_bias (R, d, strips, ...), if it has a size, hold zeros."""
    _, Y, X, E = q.shape
    heads, chosen = max(bias.shape[0], 1), (strips + 1 - odd) // 2
    s, scaled = np.empty(size[0] * size[1], q.dtype), np.empty(E, q.dtype)
    for unit in range(begin, end):
        strip, own = 2 * (unit % chosen) + odd, unit // chosen
        r, residue = own // dilation[0], own % dilation[0]
        first = residue + strip * height * dilation[0]
        for y in range(first, min(first + height * dilation[0], Y), dilation[0]):
            y0 = _start(y, Y, size[0], dilation[0])
            for x in range(X):
                if lse[r, y, x] == -np.inf:
                    continue
                x0 = _start(x, X, size[1], dilation[1])
                for e in range(E):
                    scaled[e] = q[r, y, x, e] * scale
                _logits(y, x, y0, x0, scaled, k[r], bias[r % heads], size, dilation, s)
                _exponentials(s, lse[r, y, x])
                along, of_query = g[r, y, x], dq[r, y, x]
                delta = _dot(along, out[r, y, x]) - g_lse[r, y, x]
                for i in range(size[0]):
                    below = y0 + i * dilation[0]
                    for j in range(size[1]):
                        beside, p = x0 + j * dilation[1], s[i * size[1] + j]
                        ds = p * (_dot(along, v[r, below, beside]) - delta)
                        s[i * size[1] + j] = ds
                        key, of_key, of_value = k[r, below, beside], dk[r, below, beside], dv[r, below, beside]
                        for e in range(E):
                            of_query[e] += ds * key[e]
                        for e in range(E):
                            of_key[e] += ds * scaled[e]
                        for w in range(along.size):
                            of_value[w] += p * along[w]
                    if d_bias.size > 0:
                        row = d_bias[r, residue, strip, (below - y) // dilation[0] + size[0] - 1]
                        left = (x0 - x) // dilation[1] + size[1] - 1
                        row = row[left : left + size[1]]
                        for j in range(size[1]):
                            row[j] += s[i * size[1] + j]
                for e in range(E):
                    of_query[e] *= scale


# -- calling them -------------------------------------------------------------------------------------------------


def na2d(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    *,
    size: Pair,
    dilation: Pair,
    scale: float,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """out (B, H, Y, X, W) and lse (B, H, Y, X); see the module's docstring. size * dilation fits into the map."""
    number = q.dtype.type
    *lead, E = q.shape
    out, lse = np.zeros((*lead, v.shape[-1]), q.dtype), np.empty(lead, q.dtype)
    row = lead[3] * math.prod(size) * (E + v.shape[-1])
    over_rows(
        _forward, math.prod(lead[:3]), *map(_maps, (q, k, v)), _table(bias, number), size, dilation, number(scale),
        _maps(out), _maps(lse), threads=threads, least=1 + WORTH // row,
    )  # fmt: skip
    return out, lse


def na2d_vjp(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    lse: np.ndarray,
    g: np.ndarray,
    g_lse: np.ndarray,
    *,
    size: Pair,
    dilation: Pair,
    scale: float,
    of_bias: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cotangents of q, k, v and, if asked for, of the bias, from those of out and lse."""
    number = q.dtype.type
    B, H, Y, X, E = q.shape
    W, rows, offsets = v.shape[-1], -(-Y // dilation[0]), () if bias is None else bias.shape[1:]
    height = strip_height(size[0], X)
    strips = -(-rows // height)
    dq, dk, dv = np.zeros_like(q, order="C"), np.zeros_like(k, order="C"), np.zeros_like(v, order="C")
    partial = np.zeros((B * H, dilation[0], strips, *offsets) if of_bias else (0,) * 5, q.dtype)
    given = (_maps(q), _maps(k), _maps(v), _table(bias, number), size, dilation, number(scale))
    rest = (*map(_maps, (out, lse, g, g_lse)), *map(_maps, (dq, dk, dv)), partial)
    strip = height * X * math.prod(size) * (3 * E + 2 * W)
    for odd in (0, 1):
        units = B * H * dilation[0] * ((strips + 1 - odd) // 2)
        over_rows(_backward, units, odd, height, strips, *given, *rest, threads=threads, least=1 + WORTH // strip)
    d_bias = np.empty(0, q.dtype)
    if of_bias:
        d_bias = partial.reshape(B, H, dilation[0] * strips, *offsets).sum(axis=(0, 2))
    return dq, dk, dv, d_bias


def strip_height(size: int, X: int) -> int:
    """Rows of a strip: a query hears size // 2 rows beyond its own, twice as many at the border, where the strip across is
    as near as ever; and enough rows of X pixels to make STRIP queries."""
    return max(1, 3 * (size // 2), -(-STRIP // X))


def _maps(x: np.ndarray) -> np.ndarray:
    """(B, H, Y, X, ...) as maps (B H, Y, X, ...), contiguous."""
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[:2]), *x.shape[2:])


def _table(bias: np.ndarray | None, number: type) -> np.ndarray:
    return np.empty((0, 0, 0), number) if bias is None else np.ascontiguousarray(bias)


# -- twins --------------------------------------------------------------------------------------------------------


def starts(length: int, size: int, dilation: int) -> np.ndarray:
    """(length,): the first key of every query along one axis."""
    i = np.arange(length)
    r = i % dilation
    pixels = (length - r + dilation - 1) // dilation
    return dilation * np.clip(i // dilation - size // 2, 0, pixels - size) + r


def places(Y: int, X: int, size: Pair, dilation: Pair) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Where the keys of every query are in the map, and their entries of the bias: index arrays of (Y, X, n)."""
    of_map, of_bias = [], []
    for axis, length in enumerate((Y, X)):
        keys = starts(length, size[axis], dilation[axis])[:, None] + dilation[axis] * np.arange(size[axis])
        offsets = (keys - np.arange(length)[:, None]) // dilation[axis] + size[axis] - 1
        for found, index in ((of_map, keys), (of_bias, offsets)):
            spread = index[:, None, :, None] if axis == 0 else index[None, :, None, :]
            found.append(np.broadcast_to(spread, (Y, X, *size)).reshape(Y, X, -1))
    return tuple(of_map), tuple(of_bias)


def _logits_twin(
    q: np.ndarray, k: np.ndarray, bias: np.ndarray | None, size: Pair, dilation: Pair, scale: float
) -> np.ndarray:
    """(B, H, Y, X, n)"""
    of_map, of_bias = places(q.shape[2], q.shape[3], size, dilation)
    s = np.sum((q * q.dtype.type(scale))[..., None, :] * k[:, :, *of_map], axis=-1)
    return s if bias is None else s + bias[:, *of_bias]


def na2d_twin(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    *,
    size: Pair,
    dilation: Pair,
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    s = _logits_twin(q, k, bias, size, dilation, scale)
    top = np.max(s, axis=-1)
    p = np.exp(s - np.where(top == -np.inf, 0, top)[..., None].astype(q.dtype))
    total = np.sum(p, axis=-1)
    p /= np.where(total == 0, 1, total)[..., None].astype(q.dtype)
    of_map, _ = places(q.shape[2], q.shape[3], size, dilation)
    with np.errstate(divide="ignore"):
        return np.sum(p[..., None] * v[:, :, *of_map], axis=-2), top + np.log(total)


def na2d_vjp_twin(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    lse: np.ndarray,
    g: np.ndarray,
    g_lse: np.ndarray,
    *,
    size: Pair,
    dilation: Pair,
    scale: float,
    of_bias: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    of_map, of_table = places(q.shape[2], q.shape[3], size, dilation)
    maps: Any = (slice(None), slice(None), *of_map)
    s = _logits_twin(q, k, bias, size, dilation, scale)
    p = np.exp(s - np.where(lse == -np.inf, 0, lse)[..., None].astype(q.dtype))
    delta = np.sum(g * out, axis=-1) - g_lse
    ds = p * (np.sum(g[..., None, :] * v[maps], axis=-1) - delta[..., None])
    dq = q.dtype.type(scale) * np.sum(ds[..., None] * k[maps], axis=-2)
    dk, dv, d_bias = np.zeros_like(k), np.zeros_like(v), np.zeros_like(bias if of_bias else q[:0].reshape(-1))
    np.add.at(dk, maps, ds[..., None] * (q * q.dtype.type(scale))[..., None, :])
    np.add.at(dv, maps, p[..., None] * g[..., None, :])
    if of_bias:
        places_of_bias: Any = (slice(None), *of_table)
        np.add.at(d_bias, places_of_bias, np.sum(ds, axis=0))
    return dq, dk, dv, d_bias
