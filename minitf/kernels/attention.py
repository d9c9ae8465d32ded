"""Attention block by block: softmax(scale q kᵀ + bias) v without an array of T x S weights.

A block of queries meets one block of keys after the other and keeps three things a row: the largest logit so far, the sum
of exponentials relative to it, and the same sum weighted by values. A larger logit rescales what is there:

    m' = max(m, max_j s_j),   l' = l exp(m - m') + sum_j exp(s_j - m'),   o' = o exp(m - m') + sum_j exp(s_j - m') v_j

In the end out = o / l and lse = m + log(l), and these are all that the way back needs: weights are computed again,
p = exp(s - lse), and the cotangent of the logits is p (g vᵀ - delta) with delta_i = sum(g_i out_i) - g_lse_i.

Shapes: q (R, T, E), k (R / group, S, E), v (R / group, S, W). A row of q is one head of one sequence, and ``group``
consecutive rows share keys and values. Query i is at position S - T + i; the distance of a query to a key, the
difference of their positions, has to lie between ``nearest`` and ``farthest``, inclusively: (0, S) is causal, (-T, S) no
restriction. Blocks without a key in reach are skipped.

Memory beyond the results: blocks of BLOCK_T x BLOCK_S for each thread. Only the gradient of a bias needs more, because
it is an array of logits itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp, largest, tanh
from minitf.kernels.pool import blas_alone, over_rows

#: queries, at most, and keys of a block: what a core's second cache holds
BLOCK_T, BLOCK_S = 256, 512
#: on the way back, where there are two arrays of that size
BACK_T, BACK_S = 256, 256
#: queries up to which a row of keys is read by few and no matrix product pays, and the keys of one part then
FEW, PART_S = 16, 4096
#: rows of keys from which one pass over the blocks keeps the threads busy
MANY = 8


class Extra(NamedTuple):
    """An array that broadcasts against the logits (R, T, S), without its repetitions.

    values: (n, 1 or T, S), or (0, 0, 0) for none. of_row: (R,), which of the n belongs to a row of q.
    """

    values: np.ndarray
    of_row: np.ndarray


class Shape(NamedTuple):
    """The choices of a call. group: rows of q that share keys. softcap: 0 for none."""

    group: int
    scale: float
    softcap: float
    nearest: int
    farthest: int


# -- one block ----------------------------------------------------------------------------------------------------


@jit
def _scaled(q, start, stop, scale, out):
    """out = scale * q[start:stop]."""
    for i in range(start, stop):
        for e in range(q.shape[1]):
            out[i - start, e] = q[i, e] * scale


@jit
def _reach(first, nearest, farthest, n):
    """The keys low:high of a block within the distances, for a query at distance ``first`` to the block's first key."""
    low = min(max(first - farthest, 0), n)
    return low, min(max(first - nearest + 1, low), n)


@jit
def _finish_logits(s, softcap, slope, bias, mask, r, i, first):
    """Products of query i of row r with keys from ``first`` on: biased, capped, masked.

    With a cap, ``slope`` becomes its derivative.
    """
    if bias.values.size > 0:
        biases = bias.values[bias.of_row[r], i if bias.values.shape[1] > 1 else 0, first : first + s.size]
        for j in range(s.size):
            s[j] += biases[j]
    if softcap > 0:
        for j in range(s.size):
            c = tanh(s[j] / softcap)
            s[j] = softcap * c
            slope[j] = 1 - c * c
    if mask.values.size > 0:
        seen = mask.values[mask.of_row[r], i if mask.values.shape[1] > 1 else 0, first : first + s.size]
        for j in range(s.size):
            s[j] = s[j] if seen[j] else -np.inf


@jit(reorder=True)
def _exponentials(s, shift):
    """s = exp(s - shift); returns the sum."""
    total = s.dtype.type(0)
    for j in range(s.size):
        s[j] = exp(s[j] - shift)
        total += s[j]
    return total


@jit
def _clear(s):
    for j in range(s.size):
        s[j] = 0


@jit
def _hear(s, o, top, total, i):
    """Turns logits of row i into exponentials and brings ``o``, ``top`` and ``total`` to the new largest logit."""
    peak = max(top[i], largest(s))
    if peak == -np.inf:
        _clear(s)
        return
    more = _exponentials(s, peak)
    if peak != top[i]:
        factor = exp(top[i] - peak)
        total[i] *= factor
        for w in range(o.size):
            o[w] *= factor
        top[i] = peak
    total[i] += more


@jit
def _divide(o, top, total, lse, r, i):
    """The end of a row: out = o / total, or zeros if it met nothing."""
    if total == 0:
        lse[r, i] = -np.inf
        return
    factor = 1 / total
    for w in range(o.size):
        o[w] *= factor
    lse[r, i] = top + math.log(total)


# -- forward ------------------------------------------------------------------------------------------------------


@jit
def _forward(begin, end, size, q, k, v, shape, bias, mask, sinks, out, lse):
    """Blocks begin:end of ``size`` queries, counted through all rows; ``out`` holds zeros."""
    T, S, E, W = q.shape[1], k.shape[1], q.shape[2], v.shape[2]
    number = q.dtype.type
    scale, softcap = number(shape.scale), number(shape.softcap)
    blocks = (T + size - 1) // size
    scaled = np.empty((size, E), q.dtype)
    memory = np.empty(size * BLOCK_S, q.dtype)
    heard = np.empty((size, W), q.dtype)
    slope = np.empty(BLOCK_S, q.dtype)
    top = np.empty(size, q.dtype)
    total = np.empty(size, q.dtype)
    for block in range(begin, end):
        r, start = block // blocks, (block % blocks) * size
        stop = min(start + size, T)
        t, kv, position = stop - start, r // shape.group, S - T + start
        _scaled(q[r], start, stop, scale, scaled)
        for i in range(t):
            top[i] = sinks[r] if sinks.size > 0 else -np.inf
            total[i] = 1 if sinks.size > 0 else 0
        low = max(position - shape.farthest, 0)
        for first in range(low - low % BLOCK_S, min(position + t - shape.nearest, S), BLOCK_S):
            last = min(first + BLOCK_S, position + t - shape.nearest, S)
            n = last - first
            s = memory[: t * n].reshape(t, n)
            np.dot(scaled[:t], k[kv, first:last].T, s)
            for i in range(t):
                lo, hi = _reach(position + i - first, shape.nearest, shape.farthest, n)
                _clear(s[i, :lo])
                _clear(s[i, hi:])
                _finish_logits(s[i, lo:hi], softcap, slope, bias, mask, r, start + i, first + lo)
                _hear(s[i, lo:hi], out[r, start + i], top, total, i)
            np.dot(s, v[kv, first:last], heard[:t])
            for i in range(t):
                for w in range(W):
                    out[r, start + i, w] += heard[i, w]
        for i in range(t):
            _divide(out[r, start + i], top[i], total[i], lse, r, start + i)


# -- few queries against many keys --------------------------------------------------------------------------------


@jit(reorder=True)
def _products(q, k, first, n, s):
    """s[i, j] = q[i] . k[first + j]: every key is read once."""
    for j in range(n):
        for i in range(q.shape[0]):
            total = q.dtype.type(0)
            for e in range(q.shape[1]):
                total += q[i, e] * k[first + j, e]
            s[i, j] = total


@jit
def _partials(begin, end, q, k, v, S, shape, bias, mask, tops, totals, sums):
    """Parts begin:end of the first S keys, counted through all rows: what the queries hear in each, relative to its
    largest logit."""
    T, E, W = q.shape[1], q.shape[2], v.shape[2]
    number = q.dtype.type
    scale, softcap = number(shape.scale), number(shape.softcap)
    parts = (S + PART_S - 1) // PART_S
    scaled = np.empty((T, E), q.dtype)
    s = np.empty((T, BLOCK_S), q.dtype)
    slope = np.empty(BLOCK_S, q.dtype)
    for part in range(begin, end):
        r, here = part // parts, (part % parts) * PART_S
        kv = r // shape.group
        _scaled(q[r], 0, T, scale, scaled)
        for first in range(here, min(here + PART_S, S), BLOCK_S):
            n = min(first + BLOCK_S, S) - first
            if first > S - 1 - shape.nearest or first + n - 1 < S - T - shape.farthest:
                continue
            _products(scaled, k[kv], first, n, s)
            for i in range(T):
                lo, hi = _reach(S - T + i - first, shape.nearest, shape.farthest, n)
                _clear(s[i, :lo])
                _clear(s[i, hi:n])
                _finish_logits(s[i, lo:hi], softcap, slope, bias, mask, r, i, first + lo)
                _hear(s[i, lo:hi], sums[part, i], tops[part], totals[part], i)
            for j in range(n):
                for i in range(T):
                    for w in range(W):
                        sums[part, i, w] += s[i, j] * v[kv, first + j, w]


@jit
def _merge(begin, end, parts, sinks, tops, totals, sums, out, lse):
    """Rows begin:end from their parts, in the order of the keys; ``out`` holds zeros."""
    for r in range(begin, end):
        for i in range(out.shape[1]):
            peak = out.dtype.type(-np.inf)
            if sinks.size > 0:
                peak = sinks[r]
            for part in range(r * parts, (r + 1) * parts):
                peak = max(peak, tops[part, i])
            total = out.dtype.type(0)
            if peak > -np.inf:
                if sinks.size > 0:
                    total += exp(sinks[r] - peak)
                for part in range(r * parts, (r + 1) * parts):
                    factor = exp(tops[part, i] - peak)
                    total += factor * totals[part, i]
                    for w in range(out.shape[2]):
                        out[r, i, w] += factor * sums[part, i, w]
            _divide(out[r, i], peak, total, lse, r, i)


# -- backward -----------------------------------------------------------------------------------------------------


@jit
def _weights(p, slope, shape, softcap, bias, mask, lse, r, start, distance, first):
    """Products p (t, n) become weights, by lse; ``distance``: of the first query and the first key."""
    for i in range(p.shape[0]):
        if lse[r, start + i] == -np.inf:
            _clear(p[i])
            continue
        lo, hi = _reach(distance + i, shape.nearest, shape.farthest, p.shape[1])
        _clear(p[i, :lo])
        _clear(p[i, hi:])
        _finish_logits(p[i, lo:hi], softcap, slope[i, lo:hi], bias, mask, r, start + i, first + lo)
        _exponentials(p[i, lo:hi], lse[r, start + i])


@jit
def _logit_cotangents(p, ds, delta, r, start, first, dlogits, softcap, slope):
    """Products ds = g vᵀ become p (ds - delta), times the slope of the cap; copied to dlogits if that has a size."""
    for i in range(p.shape[0]):
        of_row = delta[r, start + i]
        for j in range(p.shape[1]):
            ds[i, j] = p[i, j] * (ds[i, j] - of_row)
        if softcap > 0:  # where nothing was computed the slope is unknown, and p zero
            for j in range(p.shape[1]):
                ds[i, j] = ds[i, j] * slope[i, j] if p[i, j] != 0 else 0
        if dlogits.size > 0:
            for j in range(p.shape[1]):
                dlogits[r, start + i, first + j] = ds[i, j]


@jit
def _add_to(total, r, start, part, count, factor):
    """total[r, start + i] += factor * part[i]."""
    for i in range(count):
        for e in range(part.shape[1]):
            total[r, start + i, e] += factor * part[i, e]


@jit
def _backward(begin, end, one_pass, size, q, k, v, shape, bias, mask, lse, delta, g, dq, dk, dv, dlogits):
    """The cotangents of keys and values, which hold zeros: of rows begin:end of k in one pass, which finds those of
    the queries too, or of blocks begin:end of keys, counted through all rows. Keys meet ``size`` queries at a time;
    dlogits is filled if it has a size."""
    T, S, E, W = q.shape[1], k.shape[1], q.shape[2], v.shape[2]
    number = q.dtype.type
    scale, softcap = number(shape.scale), number(shape.softcap)
    blocks = (S + BACK_S - 1) // BACK_S
    scaled = np.empty((size, E), q.dtype)
    p_memory = np.empty(size * BACK_S, q.dtype)
    ds_memory = np.empty(size * BACK_S, q.dtype)
    slope = np.empty((size, BACK_S), q.dtype)
    of_keys = np.empty((BACK_S, E), q.dtype)
    of_values = np.empty((BACK_S, W), q.dtype)
    of_queries = np.empty((size, E), q.dtype)
    for block in range(begin * blocks if one_pass else begin, end * blocks if one_pass else end):
        kv, first = block // blocks, (block % blocks) * BACK_S
        end_of_keys = min(first + BACK_S, S)
        for r in range(kv * shape.group, (kv + 1) * shape.group):
            # queries at positions first + nearest to end_of_keys - 1 + farthest
            low = max(first + shape.nearest - (S - T), 0)
            for start in range(low - low % size, min(end_of_keys + shape.farthest - (S - T), T), size):
                stop = min(start + size, T)
                last = min(end_of_keys, S - T + stop - shape.nearest)
                t, n = stop - start, last - first
                p = p_memory[: t * n].reshape(t, n)
                ds = ds_memory[: t * n].reshape(t, n)
                _scaled(q[r], start, stop, scale, scaled)
                np.dot(scaled[:t], k[kv, first:last].T, p)
                _weights(p, slope, shape, softcap, bias, mask, lse, r, start, S - T + start - first, first)
                np.dot(p.T, g[r, start:stop], of_values[:n])
                _add_to(dv, kv, first, of_values, n, number(1))
                np.dot(g[r, start:stop], v[kv, first:last].T, ds)
                _logit_cotangents(p, ds, delta, r, start, first, dlogits, softcap, slope)
                np.dot(ds.T, scaled[:t], of_keys[:n])
                _add_to(dk, kv, first, of_keys, n, number(1))
                if one_pass:
                    np.dot(ds, k[kv, first:last], of_queries[:t])
                    _add_to(dq, r, start, of_queries, t, scale)


@jit
def _backward_queries(begin, end, size, q, k, v, shape, bias, mask, lse, delta, g, dq):
    """The cotangents of blocks begin:end of ``size`` queries, counted through all rows; dq holds zeros."""
    T, S, E = q.shape[1], k.shape[1], q.shape[2]
    number = q.dtype.type
    scale, softcap = number(shape.scale), number(shape.softcap)
    blocks = (T + size - 1) // size
    scaled = np.empty((size, E), q.dtype)
    p_memory = np.empty(size * BACK_S, q.dtype)
    ds_memory = np.empty(size * BACK_S, q.dtype)
    slope = np.empty((size, BACK_S), q.dtype)
    of_queries = np.empty((size, E), q.dtype)
    nowhere = np.empty((0, 0, 0), q.dtype)
    for block in range(begin, end):
        r, start = block // blocks, (block % blocks) * size
        stop = min(start + size, T)
        t, kv, position = stop - start, r // shape.group, S - T + start
        _scaled(q[r], start, stop, scale, scaled)
        low = max(position - shape.farthest, 0)
        for first in range(low - low % BACK_S, min(position + t - shape.nearest, S), BACK_S):
            last = min(first + BACK_S, position + t - shape.nearest, S)
            n = last - first
            p = p_memory[: t * n].reshape(t, n)
            ds = ds_memory[: t * n].reshape(t, n)
            np.dot(scaled[:t], k[kv, first:last].T, p)
            _weights(p, slope, shape, softcap, bias, mask, lse, r, start, position - first, first)
            np.dot(g[r, start:stop], v[kv, first:last].T, ds)
            _logit_cotangents(p, ds, delta, r, start, first, nowhere, softcap, slope)
            np.dot(ds, k[kv, first:last], of_queries[:t])
            _add_to(dq, r, start, of_queries, t, scale)


# -- calling them -------------------------------------------------------------------------------------------------


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: Extra,
    mask: Extra,
    sinks: np.ndarray,
    *,
    shape: Shape,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """out (R, T, W) and lse (R, T), the logarithm of each row's sum of exponentials; see the module's docstring.

    sinks: (R,) logits of a key without a value that every query of the row sees, or (0,) for none.
    """
    (R, T, E), S, W = q.shape, k.shape[1], v.shape[2]
    if T == 1 and shape.group > 1 and sinks.size == 0 and _shared(bias, shape) and _shared(mask, shape):
        # One query a head: those that share keys read them together, as queries of one row at one position.
        reach = slice(max(S - 1 - shape.farthest, 0), max(S - shape.nearest, 0))
        bias, mask = (Extra(x.values[..., reach], x.of_row[:: shape.group]) for x in (bias, mask))
        together = Shape(1, shape.scale, shape.softcap, -shape.group, S)
        q = q.reshape(-1, shape.group, E)
        out, lse = attention(q, k[:, reach], v[:, reach], bias, mask, sinks, shape=together, threads=threads)
        return out.reshape(R, 1, W), lse.reshape(R, 1)
    out, lse = np.zeros((R, T, W), q.dtype), np.empty((R, T), q.dtype)
    if T <= FEW:
        q, bias, mask, sinks = _contiguous(q, bias, mask, sinks)
        k, v = _grown(k), _grown(v)
        parts = -(-S // PART_S)
        tops, totals = np.full((R * parts, T), -np.inf, q.dtype), np.zeros((R * parts, T), q.dtype)
        sums = np.zeros((R * parts, T, W), q.dtype)
        over_rows(_partials, R * parts, q, k, v, S, shape, bias, mask, tops, totals, sums, threads=threads)
        over_rows(_merge, R, parts, sinks, tops, totals, sums, out, lse)
        return out, lse
    q, k, v, bias, mask, sinks = _contiguous(q, k, v, bias, mask, sinks)
    with blas_alone():
        size = _queries(T, BLOCK_T)
        over_rows(_forward, R * -(-T // size), size, q, k, v, shape, bias, mask, sinks, out, lse, threads=threads)
    return out, lse


def attention_vjp(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: Extra,
    mask: Extra,
    lse: np.ndarray,
    delta: np.ndarray,
    g: np.ndarray,
    *,
    shape: Shape,
    logits: bool,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The cotangents of q, k, v and, if asked for, of scale q kᵀ + bias (R, T, S).

    g: (R, T, W), the cotangent of out. delta: (R, T), sum(g out) - g_lse.
    """
    q, k, v, bias, mask, lse, delta, g = _contiguous(q, k, v, bias, mask, lse, delta, g)
    (R, T, _), (rows, S, _) = q.shape, k.shape
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    dlogits = np.zeros((R, T, S) if logits else (0, 0, 0), q.dtype)
    given = (q, k, v, shape, bias, mask, lse, delta, g)
    size = _queries(T, BACK_T)
    with blas_alone():
        if rows >= MANY:
            over_rows(_backward, rows, True, size, *given, dq, dk, dv, dlogits, threads=threads)
        else:
            blocks = rows * -(-S // BACK_S)
            over_rows(_backward, blocks, False, size, *given, dq, dk, dv, dlogits, threads=threads)
            over_rows(_backward_queries, R * -(-T // size), size, *given, dq, threads=threads)
    return dq, dk, dv, dlogits if logits else None


def _queries(T: int, most: int) -> int:
    """Of a block: fewer when there are few in all, for half of a block on the diagonal is computed in vain."""
    return min(most, max(T // 2, 64))


def _shared(x: Extra, shape: Shape) -> bool:
    """Whether rows that share keys share this as well, all their queries alike."""
    of_row = x.of_row.reshape(-1, shape.group)
    return x.values.shape[1] <= 1 and bool((of_row == of_row[:, :1]).all())


def _grown(x: np.ndarray) -> np.ndarray:
    """The contiguous array (R, room, E) of which x (R, S, E) is the front: a cache, which no step should copy."""
    row, size = x.shape[2] * x.itemsize, x.strides[0]
    front = x.strides[1:] == (row, x.itemsize) and size > x.shape[1] * row > 0 and size % row == 0
    if front and len(x) > 1 and x.flags.writeable:
        return as_strided(x, (len(x), size // row, x.shape[2]))
    return np.ascontiguousarray(x)


def _contiguous(*arrays: Any) -> Iterator[Any]:
    for x in arrays:
        yield Extra(np.ascontiguousarray(x.values), x.of_row) if isinstance(x, Extra) else np.ascontiguousarray(x)


def visited(T: int, S: int, shape: Shape, back: bool = False) -> int:
    """The logits of one row of q that the forward (or backward) kernel computes, those of skipped blocks left out."""
    if T <= FEW and not back:
        return T * S
    most, block_s = (BACK_T, BACK_S) if back else (BLOCK_T, BLOCK_S)
    block_t = _queries(T, most)
    total = 0
    for start in range(0, T, block_t):
        t = min(block_t, T - start)
        low = max(S - T + start - shape.farthest, 0)
        high = min(S - T + start + t - shape.nearest, S)
        if high > low:
            first = low - low % block_s
            total += t * (high - first)
    return total


# -- twins --------------------------------------------------------------------------------------------------------


def _logits_twin(
    q: np.ndarray, k: np.ndarray, bias: Extra, mask: Extra, shape: Shape
) -> tuple[np.ndarray, np.ndarray | float]:
    """The logits (R, T, S), -inf where masked, and the derivative of the cap."""
    (_, T, _), S = q.shape, k.shape[1]
    logits = (q * q.dtype.type(shape.scale)) @ np.repeat(k, shape.group, axis=0).swapaxes(1, 2)
    slope = 1.0
    if bias.values.size:
        logits = logits + bias.values[bias.of_row]
    if shape.softcap:
        capped = np.tanh(logits / q.dtype.type(shape.softcap))
        logits, slope = q.dtype.type(shape.softcap) * capped, 1 - capped * capped
    distance = np.arange(S - T, S)[:, None] - np.arange(S)
    allowed = (shape.nearest <= distance) & (distance <= shape.farthest)
    if mask.values.size:
        allowed = allowed & mask.values[mask.of_row]
    return np.where(allowed, logits, q.dtype.type(-np.inf)), slope


def attention_twin(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: Extra, mask: Extra, sinks: np.ndarray, *, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    logits, _ = _logits_twin(q, k, bias, mask, shape)
    top = np.max(logits, axis=-1, initial=-np.inf)
    if sinks.size:
        top = np.maximum(top, sinks[:, None])
    shift = np.where(top == -np.inf, 0, top).astype(q.dtype)
    p = np.exp(logits - shift[..., None])
    total = p.sum(axis=-1)
    if sinks.size:
        total = total + np.exp(sinks[:, None] - shift)
    p /= np.where(total == 0, 1, total).astype(q.dtype)[..., None]
    with np.errstate(divide="ignore"):
        return p @ np.repeat(v, shape.group, axis=0), shift + np.log(total)


def attention_vjp_twin(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: Extra,
    mask: Extra,
    lse: np.ndarray,
    delta: np.ndarray,
    g: np.ndarray,
    *,
    shape: Shape,
    logits: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    s, slope = _logits_twin(q, k, bias, mask, shape)
    p = np.exp(s - np.where(lse == -np.inf, 0, lse).astype(q.dtype)[..., None])
    ds = p * (g @ np.repeat(v, shape.group, axis=0).swapaxes(1, 2) - delta[..., None]) * slope
    scale = q.dtype.type(shape.scale)
    of_keys = lambda x: x.reshape(len(k), shape.group, *x.shape[1:]).sum(axis=1)
    dk, dv = of_keys(ds.swapaxes(1, 2) @ (scale * q)), of_keys(p.swapaxes(1, 2) @ g)
    return scale * (ds @ np.repeat(k, shape.group, axis=0)), dk, dv, ds if logits else None
