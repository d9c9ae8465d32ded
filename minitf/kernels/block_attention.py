"""Attention in which blocks of queries see some blocks of keys, and nothing is computed of the others.

    s_ij = scale q_i . k_j       where the block of (i, j) is listed, the mask allows it, and causally j is not after i
    out_i = sum_j softmax(s_i)_j v_j                    lse_i = log sum_j exp(s_ij)

The keys of the listed blocks are gathered, in their order, until there are KEYS of them, and meet the whole block of
queries in one product, however small blocks are; the rest is as in ``minitf.kernels.attention``.

Shapes: q (R, T, E), k (R / group, S, E), v (R / group, S, W), R and ``group`` as there; query i is at position S - T + i.
Blocks are of ``block`` tokens, the last ones of what is left. ``blocks`` and ``mask`` are ``Extra`` arrays that repeat
against (R, T / block, S / block), rounded up, and (R, T, S). Nothing beyond the results but some blocks for each thread.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minitf.kernels import attention
from minitf.kernels.attention import (
    MANY,
    Extra,
    _add_to,
    _clear,
    _contiguous,
    _divide,
    _exponentials,
    _hear,
    _scaled,
)
from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp
from minitf.kernels.pool import blas_alone, over_rows

#: tokens that are gathered at a time, or a block if that has more: what the second cache of a core holds beside the rest
KEYS = 512


class Shape(NamedTuple):
    """The choices of a call. group: rows of q that share keys. block: tokens of a block."""

    group: int
    block: int
    causal: bool
    scale: float


# -- the listed tokens ----------------------------------------------------------------------------------------------


@jit
def _collect(listed, b, block, end, tokens):
    """tokens = those of the listed blocks from b on, as many blocks as fit; returns their number and the next block."""
    n = 0
    while b < listed.size and n + block <= tokens.size:
        if listed[b]:
            for token in range(b * block, min((b + 1) * block, end)):
                tokens[n] = token
                n += 1
        b += 1
    return n, b


@jit
def gather(x, tokens, factor, out):
    """out[a] = factor * x[tokens[a]]."""
    for a in range(tokens.size):
        row, to = x[tokens[a]], out[a]
        for e in range(row.size):
            to[e] = factor * row[e]


@jit
def _within(listed, reach, block, causal):
    """The blocks that begin before ``reach``, causally."""
    return listed[: (max(reach, 0) + block - 1) // block] if causal else listed


@jit
def _hide(s, mask, r, i, tokens):
    """-inf where the mask hides a key from query i of row r."""
    if mask.values.size > 0:
        seen = mask.values[mask.of_row[r], i if mask.values.shape[1] > 1 else 0]
        for j in range(s.size):
            s[j] = s[j] if seen[tokens[j]] else -np.inf


@jit
def _until(tokens, n, last, causal):
    """How many of the first n tokens, which ascend, are not after ``last``."""
    while causal and n > 0 and tokens[n - 1] > last:
        n -= 1
    return n


@jit
def centered(p, ds, delta):
    """Products ds = g . v become the cotangents p (ds - delta) of the logits of one query."""
    for j in range(ds.size):
        ds[j] = p[j] * (ds[j] - delta)


# -- forward --------------------------------------------------------------------------------------------------------


@jit
def _forward(begin, end, q, k, v, shape, blocks, mask, out, lse):
    """Blocks begin:end of queries, counted through all rows; ``out`` holds zeros."""
    T, S, E, W = q.shape[1], k.shape[1], q.shape[2], v.shape[2]
    number = q.dtype.type
    count, size, most = blocks.values.shape[1], shape.block, max(KEYS, shape.block)
    tokens = np.empty(most, np.int64)
    queries = np.empty((size, E), q.dtype)
    keys, values = np.empty((most, E), q.dtype), np.empty((most, W), q.dtype)
    memory, heard = np.empty(size * most, q.dtype), np.empty((size, W), q.dtype)
    top, total = np.empty(size, q.dtype), np.empty(size, q.dtype)
    for block in range(begin, end):
        r, start = block // count, (block % count) * size
        stop = min(start + size, T)
        t, kv, position, b = stop - start, r // shape.group, S - T + start, 0
        _scaled(q[r], start, stop, number(shape.scale), queries)
        top[:], total[:] = -np.inf, 0
        listed = _within(blocks.values[blocks.of_row[r], block % count], position + t, size, shape.causal)
        while True:
            n, b = _collect(listed, b, size, S, tokens)
            if n == 0:
                break
            gather(k[kv], tokens[:n], number(1), keys)
            gather(v[kv], tokens[:n], number(1), values)
            s = memory[: t * n].reshape(t, n)
            np.dot(queries[:t], keys[:n].T, s)
            high = n
            for i in range(t - 1, -1, -1):
                high = _until(tokens, high, position + i, shape.causal)
                _clear(s[i, high:])
                _hide(s[i, :high], mask, r, start + i, tokens)
                _hear(s[i, :high], out[r, start + i], top, total, i)
            np.dot(s, values[:n], heard[:t])
            _add_to(out, r, start, heard, t, number(1))
        for i in range(t):
            _divide(out[r, start + i], top[i], total[i], lse, r, start + i)


# -- backward -------------------------------------------------------------------------------------------------------


@jit
def add_rows(x, tokens, factor, total):
    """total[tokens[a]] += factor * x[a]."""
    for a in range(tokens.size):
        row, to = x[a], total[tokens[a]]
        for e in range(row.size):
            to[e] += factor * row[e]


@jit
def _backward_queries(begin, end, one_pass, q, k, v, shape, blocks, mask, lse, delta, g, dq, dk, dv):
    """The cotangents, which hold zeros, of blocks begin:end of queries, counted through all rows; or in one pass of rows
    begin:end of k, which finds those of keys and values too."""
    T, S, E, W = q.shape[1], k.shape[1], q.shape[2], v.shape[2]
    number = q.dtype.type
    count, size, most = blocks.values.shape[1], shape.block, max(KEYS, shape.block)
    each = count * shape.group if one_pass else 1
    tokens = np.empty(most, np.int64)
    queries, of_queries = np.empty((size, E), q.dtype), np.empty((size, E), q.dtype)
    keys, values = np.empty((most, E), q.dtype), np.empty((most, W), q.dtype)
    of_keys, of_values = np.empty((most, E), q.dtype), np.empty((most, W), q.dtype)
    p_memory, ds_memory = np.empty(size * most, q.dtype), np.empty(size * most, q.dtype)
    for block in range(begin * each, end * each):
        r, start = block // count, (block % count) * size
        stop = min(start + size, T)
        t, kv, position, b = stop - start, r // shape.group, S - T + start, 0
        _scaled(q[r], start, stop, number(shape.scale), queries)
        listed = _within(blocks.values[blocks.of_row[r], block % count], position + t, size, shape.causal)
        while True:
            n, b = _collect(listed, b, size, S, tokens)
            if n == 0:
                break
            gather(k[kv], tokens[:n], number(1), keys)
            gather(v[kv], tokens[:n], number(1), values)
            p, ds = p_memory[: t * n].reshape(t, n), ds_memory[: t * n].reshape(t, n)
            np.dot(queries[:t], keys[:n].T, p)
            np.dot(g[r, start:stop], values[:n].T, ds)
            high = n
            for i in range(t - 1, -1, -1):
                high = _until(tokens, high, position + i, shape.causal)
                seen = high if lse[r, start + i] > -np.inf else 0
                _clear(p[i, seen:])
                _hide(p[i, :seen], mask, r, start + i, tokens)
                _exponentials(p[i, :seen], lse[r, start + i])
                centered(p[i], ds[i], delta[r, start + i])
            np.dot(ds, keys[:n], of_queries[:t])
            _add_to(dq, r, start, of_queries, t, number(shape.scale))
            if one_pass:
                np.dot(p.T, g[r, start:stop], of_values[:n])
                add_rows(of_values, tokens[:n], number(1), dv[kv])
                np.dot(ds.T, queries[:t], of_keys[:n])
                add_rows(of_keys, tokens[:n], number(1), dk[kv])


@jit
def _weights_and_cotangents(p, ds, lse, delta):
    """Products with one key become weights p and cotangents ds of its logits; a query of lse inf sees nothing."""
    for a in range(p.size):
        p[a] = exp(p[a] - lse[a])
        ds[a] = p[a] * (ds[a] - delta[a])


@jit
def _backward_keys(begin, end, q, k, v, shape, blocks, mask, lse, delta, g, dk, dv):
    """The cotangents, which hold zeros, of blocks begin:end of keys and values, counted through all rows of k: the blocks
    of queries that list them are gathered."""
    T, S, E, W = q.shape[1], k.shape[1], q.shape[2], v.shape[2]
    number = q.dtype.type
    count, size, most = blocks.values.shape[2], shape.block, max(KEYS, shape.block)
    tokens = np.empty(most, np.int64)
    queries, back = np.empty((most, E), q.dtype), np.empty((most, W), q.dtype)
    lses, deltas = np.empty(most, q.dtype), np.empty(most, q.dtype)
    of_keys, of_values = np.empty((size, E), q.dtype), np.empty((size, W), q.dtype)
    p_memory, ds_memory = np.empty(size * most, q.dtype), np.empty(size * most, q.dtype)
    for block in range(begin, end):
        kv, first = block // count, (block % count) * size
        last = min(first + size, S)
        n = last - first
        for r in range(kv * shape.group, (kv + 1) * shape.group):
            listed = blocks.values[blocks.of_row[r], :, block % count]
            b = max(first - (S - T), 0) // size if shape.causal else 0
            while True:
                t, b = _collect(listed, b, size, T, tokens)
                if t == 0:
                    break
                gather(q[r], tokens[:t], number(shape.scale), queries)
                gather(g[r], tokens[:t], number(1), back)
                for a in range(t):
                    lses[a], deltas[a] = lse[r, tokens[a]], delta[r, tokens[a]]
                    if lses[a] == -np.inf:
                        lses[a] = np.inf
                p, ds = p_memory[: n * t].reshape(n, t), ds_memory[: n * t].reshape(n, t)
                np.dot(k[kv, first:last], queries[:t].T, p)
                np.dot(v[kv, first:last], back[:t].T, ds)
                low = 0
                for j in range(n):
                    while shape.causal and low < t and S - T + tokens[low] < first + j:
                        low += 1
                    p[j, :low] = -np.inf
                    if mask.values.size > 0:
                        seen = mask.values[mask.of_row[r]]
                        for a in range(low, t):
                            if not seen[tokens[a] if seen.shape[0] > 1 else 0, first + j]:
                                p[j, a] = -np.inf
                    _weights_and_cotangents(p[j], ds[j], lses, deltas)
                np.dot(p, back[:t], of_values[:n])
                _add_to(dv, kv, first, of_values, n, number(1))
                np.dot(ds, queries[:t], of_keys[:n])
                _add_to(dk, kv, first, of_keys, n, number(1))


# -- calling them ---------------------------------------------------------------------------------------------------


def block_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, blocks: Extra, mask: Extra, *, shape: Shape, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """out (R, T, W) and lse (R, T), the logarithm of each row's sum of exponentials; see the module's docstring."""
    q, k, v, blocks, mask = _contiguous(q, k, v, blocks, mask)
    (R, T, _), W = q.shape, v.shape[2]
    out, lse = np.zeros((R, T, W), q.dtype), np.empty((R, T), q.dtype)
    shape = _fitted(shape, T, k.shape[1])
    with blas_alone():
        over_rows(_forward, R * -(-T // shape.block), q, k, v, shape, blocks, mask, out, lse, threads=threads)
    return out, lse


def block_attention_vjp(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    blocks: Extra,
    mask: Extra,
    lse: np.ndarray,
    delta: np.ndarray,
    g: np.ndarray,
    *,
    shape: Shape,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cotangents of q, k and v.

    g: (R, T, W), the cotangent of out. delta: (R, T), sum(g out) - g_lse.
    """
    q, k, v, blocks, mask, lse, delta, g = _contiguous(q, k, v, blocks, mask, lse, delta, g)
    (R, T, _), (rows, S, _) = q.shape, k.shape
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    shape = _fitted(shape, T, S)
    given = (q, k, v, shape, blocks, mask, lse, delta, g)
    with blas_alone():
        if one_pass(rows):
            over_rows(_backward_queries, rows, True, *given, dq, dk, dv, threads=threads)
        else:
            over_rows(_backward_queries, R * -(-T // shape.block), False, *given, dq, dk, dv, threads=threads)
            over_rows(_backward_keys, rows * -(-S // shape.block), *given, dk, dv, threads=threads)
    return dq, dk, dv


def one_pass(rows: int) -> bool:
    """Whether so many rows of keys keep the threads busy, each owned by one, which saves two products of seven."""
    return rows >= MANY


def _fitted(shape: Shape, T: int, S: int) -> Shape:
    """A block is not larger than what there is, for it is a size of memory."""
    return shape._replace(block=max(1, min(shape.block, max(T, S))))


def visited(blocks: Extra, T: int, S: int, shape: Shape) -> int:
    """The logits that are computed, of all rows of q: those of listed blocks that are not wholly after their queries."""
    starts, keys = np.arange(0, T, shape.block), np.arange(0, S, shape.block)
    stops = np.minimum(starts + shape.block, T)
    pairs = (stops - starts)[:, None] * np.minimum(S - keys, shape.block)
    if shape.causal:
        pairs = pairs * (keys < S - T + stops[:, None])
    return int((blocks.values * pairs).sum((1, 2))[blocks.of_row].sum())


# -- twins ----------------------------------------------------------------------------------------------------------


def expanded(blocks: np.ndarray, T: int, S: int, block: int) -> np.ndarray:
    """(*, T, S): the listed blocks (*, T / block, S / block), token by token."""
    return blocks.repeat(block, -2)[..., :T, :].repeat(block, -1)[..., :S]


def _densely(q: np.ndarray, k: np.ndarray, blocks: Extra, mask: Extra, shape: Shape) -> tuple[Extra, attention.Shape]:
    """The mask and the Shape with which ``minitf.kernels.attention`` computes the same."""
    (R, T, _), S = q.shape, k.shape[1]
    seen = expanded(blocks.values, T, S, shape.block)[blocks.of_row]
    if mask.values.size:
        seen = seen & mask.values[mask.of_row]
    return Extra(seen, np.arange(R)), attention.Shape(shape.group, shape.scale, 0.0, 0 if shape.causal else -T, S)


def block_attention_twin(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, blocks: Extra, mask: Extra, *, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    seen, dense = _densely(q, k, blocks, mask, shape)
    nothing = Extra(np.empty((0, 0, 0), q.dtype), seen.of_row)
    return attention.attention_twin(q, k, v, nothing, seen, np.empty(0, q.dtype), shape=dense)


def block_attention_vjp_twin(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    blocks: Extra,
    mask: Extra,
    lse: np.ndarray,
    delta: np.ndarray,
    g: np.ndarray,
    *,
    shape: Shape,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seen, dense = _densely(q, k, blocks, mask, shape)
    nothing = Extra(np.empty((0, 0, 0), q.dtype), seen.of_row)
    return attention.attention_vjp_twin(q, k, v, nothing, seen, lse, delta, g, shape=dense, logits=False)[:3]
