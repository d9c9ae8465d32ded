"""Attention of tokens to those that were hashed into their neighborhood, without sorted copies.

    k_j = qk_j / sqrt(|qk_j|² + eps E)                     one vector is a token's query, and after this its key
    s_ij = scale qk_i . k_j
    out_i = sum over rounds r and keys j that i sees in r of softmax(s_i)_j v_j              lse_i = log sum exp(s_i)
    out_i = v_i,  lse_i = -inf                                                               if it sees nothing

Each round has an order of all tokens, cut into chunks. The chunks of all rounds one after another are a ring (or each
round is one), and the queries of a chunk see the keys of their own chunk and of the one before. A key met m times counts m
times, or with ``once`` as one: its logits get -log(m) each. Sums run over all rounds at once, online, which is the same as
softmax in every round and averages weighted by the rounds' sums of exponentials.

Of what the chunks hold, a token sees the others if both are ``valid``, causally those before it, and if buckets are given,
those of its own.

Shapes: qk (R, T, E), v (R, T, W), order (R, rounds, T): the token at each place; valid (R, T); buckets (R, rounds, T) of
tokens, that no two rounds share, or (0, 0, 0). A row is one head of one sequence and has one thread; beyond the results
there are T (E + rounds) numbers and some chunks for each.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minitf.kernels.attention import _clear, _contiguous, _divide, _exponentials, _hear
from minitf.kernels.block_attention import add_rows, centered, gather
from minitf.kernels.compile import jit
from minitf.kernels.pool import blas_alone, over_rows


class Held(NamedTuple):
    """Two chunks of a row beside each other, the newer one in either half."""

    tokens: np.ndarray
    numbers: np.ndarray
    buckets: np.ndarray
    keys: np.ndarray
    values: np.ndarray


class Shape(NamedTuple):
    """The choices of a call. chunk: tokens of a chunk, dividing T. ring: whether all rounds make one ring."""

    chunk: int
    ring: bool
    causal: bool
    once: bool
    scale: float
    eps: float


# -- a row: its keys, and who is where ------------------------------------------------------------------------------


@jit(reorder=True)
def _dot(x, y):
    total = x.dtype.type(0)
    for e in range(x.size):
        total += x[e] * y[e]
    return total


@jit
def _normalize(qk, eps, keys, inverse):
    """keys = qk * inverse, which is 0 for a vector that has no direction."""
    for i in range(qk.shape[0]):
        square = _dot(qk[i], qk[i]) + qk.dtype.type(eps * qk.shape[1])
        inverse[i] = 1 / np.sqrt(square) if square > 0 else 0
        row, key = qk[i], keys[i]
        for e in range(row.size):
            key[e] = row[e] * inverse[i]


@jit
def _before(c, chunks, rounds, ring):
    """The chunk before chunk c, counted through all rounds."""
    if ring:
        return c - 1 if c > 0 else rounds * chunks - 1
    return c - 1 if c % chunks > 0 else c + chunks - 1


@jit
def _locate(order, chunk, where):
    """where[round, token] = its chunk, counted through all rounds."""
    chunks = order.shape[1] // chunk
    for a in range(order.shape[0]):
        for place in range(order.shape[1]):
            where[a, order[a, place]] = a * chunks + place // chunk


@jit
def _load(held, half, c, size, keys, v, order, valid, buckets):
    """Chunk c takes a half. Invalid tokens get numbers behind all others, where nobody sees them."""
    T = v.shape[0]
    a, place, begin, end = c // (T // size), c % (T // size) * size, half * size, (half + 1) * size
    for j in range(size):
        token = order[a, place + j]
        held.tokens[begin + j] = token
        held.numbers[begin + j] = token if valid[token] else T + token
        held.buckets[begin + j] = buckets[a, token] if buckets.size > 0 else 0
    gather(keys, held.tokens[begin:end], v.dtype.type(1), held.keys[begin:end])
    gather(v, held.tokens[begin:end], v.dtype.type(1), held.values[begin:end])


# -- logits ---------------------------------------------------------------------------------------------------------


@jit
def _hide(s, numbers, number, last):
    """Of the logits of one query -inf for itself and those after ``last``."""
    for j in range(s.size):
        s[j] = s[j] if (numbers[j] <= last) & (numbers[j] != number) else -np.inf


@jit
def _hide_others(s, buckets, bucket):
    for j in range(s.size):
        s[j] = s[j] if buckets[j] == bucket else -np.inf


@jit
def _meet(times, where, chunk, buckets, bucket):
    """times += 1 for keys that are in this chunk and bucket."""
    for j in range(times.size):
        times[j] += np.int32((where[j] == chunk) & (buckets[j] == bucket))


@jit
def _subtract_logs(s, times, logs):
    for j in range(s.size):
        s[j] -= logs[times[j]]


@jit
def _take(x, tokens, out):
    """out[:, j] = x[:, tokens[j]]."""
    for a in range(x.shape[0]):
        row, to = x[a], out[a]
        for j in range(tokens.size):
            to[j] = row[tokens[j]]


@jit
def _finish_logits(s, half, held, where, buckets, shape, wheres, groups, times, logs):
    """Products of the queries of a half with both chunks become logits; the last four arrays are memory for ``once``."""
    rounds, T = where.shape
    size, chunks = shape.chunk, T // shape.chunk
    if shape.once:
        _take(where, held.tokens, wheres)
        if buckets.size > 0:
            _take(buckets, held.tokens, groups)
    for i in range(size):
        at = half * size + i
        token, number = held.tokens[at], held.numbers[at]
        last = np.int32(-1 if number >= T else number if shape.causal else T - 1)
        _hide(s[i], held.numbers, number, last)
        if buckets.size > 0:
            _hide_others(s[i], held.buckets, held.buckets[at])
        if shape.once:
            times[:] = 0
            for a in range(rounds):
                here = where[a, token]
                before = np.int32(_before(here, chunks, rounds, shape.ring))
                bucket = buckets[a, token] if buckets.size > 0 else np.int32(0)
                _meet(times, wheres[a], here, groups[a], bucket)
                _meet(times, wheres[before // chunks], before, groups[before // chunks], bucket)
            _subtract_logs(s[i], times, logs)


@jit
def _logarithms(logs):
    """log(m) of the index m, and 0 for none."""
    logs[0] = 0
    for m in range(1, logs.size):
        logs[m] = math.log(m)


# -- forward --------------------------------------------------------------------------------------------------------


@jit
def _forward(begin, end, qk, v, order, valid, buckets, shape, out, lse):
    """Rows begin:end; ``out`` holds zeros."""
    (_, T, E), W, rounds, size = qk.shape, v.shape[2], order.shape[1], shape.chunk
    number, chunks = qk.dtype.type, T // size
    keys, inverse = np.empty((T, E), qk.dtype), np.empty(T, qk.dtype)
    two, four = 2 * size, 2 * size if shape.once else 0
    held = Held(
        np.empty(two, np.int64), np.empty(two, np.int32), np.empty(two, np.int32),
        np.empty((two, E), qk.dtype), np.empty((two, W), qk.dtype),
    )  # fmt: skip
    where, wheres = np.empty((rounds, T), np.int32), np.empty((rounds, four), np.int32)
    groups, times = np.zeros((rounds, four), np.int32), np.empty(four, np.int32)
    logs = np.empty(2 * rounds + 1, qk.dtype)
    queries, s, heard = np.empty((size, E), qk.dtype), np.empty((size, two), qk.dtype), np.empty((size, W), qk.dtype)
    top, total = np.empty(T, qk.dtype), np.empty(T, qk.dtype)
    _logarithms(logs)
    for r in range(begin, end):
        _normalize(qk[r], shape.eps, keys, inverse)
        _locate(order[r], size, where)
        top[:], total[:] = -np.inf, 0
        for c in range(rounds * chunks):
            half = c % 2
            if c == 0 or (c % chunks == 0 and not shape.ring):
                before = _before(c, chunks, rounds, shape.ring)
                _load(held, 1 - half, before, size, keys, v[r], order[r], valid[r], buckets[r])
            _load(held, half, c, size, keys, v[r], order[r], valid[r], buckets[r])
            tokens = held.tokens[half * size : (half + 1) * size]
            gather(qk[r], tokens, number(shape.scale), queries)
            np.dot(queries, held.keys.T, s)
            _finish_logits(s, half, held, where, buckets[r], shape, wheres, groups, times, logs)
            for i in range(size):
                _hear(s[i], out[r, tokens[i]], top, total, tokens[i])
            np.dot(s, held.values, heard)
            add_rows(heard, tokens, number(1), out[r])
        for i in range(T):
            _divide(out[r, i], top[i], total[i], lse, r, i)
            if total[i] == 0:
                out[r, i] = v[r, i]


# -- backward -------------------------------------------------------------------------------------------------------


@jit
def _add_of_keys(d_keys, keys, inverse, dqk):
    """dqk += the cotangents of keys, taken back through the division by their length."""
    for i in range(dqk.shape[0]):
        along, d_key, key, to = _dot(d_keys[i], keys[i]), d_keys[i], keys[i], dqk[i]
        for e in range(to.size):
            to[e] += (d_key[e] - along * key[e]) * inverse[i]


@jit
def _backward(begin, end, qk, v, order, valid, buckets, shape, lse, delta, g, dqk, dv):
    """The cotangents, which hold zeros, of rows begin:end."""
    (_, T, E), W, rounds, size = qk.shape, v.shape[2], order.shape[1], shape.chunk
    number, chunks = qk.dtype.type, T // size
    keys, d_keys, inverse = np.empty((T, E), qk.dtype), np.empty((T, E), qk.dtype), np.empty(T, qk.dtype)
    two, four = 2 * size, 2 * size if shape.once else 0
    held = Held(
        np.empty(two, np.int64), np.empty(two, np.int32), np.empty(two, np.int32),
        np.empty((two, E), qk.dtype), np.empty((two, W), qk.dtype),
    )  # fmt: skip
    where, wheres = np.empty((rounds, T), np.int32), np.empty((rounds, four), np.int32)
    groups, times = np.zeros((rounds, four), np.int32), np.empty(four, np.int32)
    logs = np.empty(2 * rounds + 1, qk.dtype)
    queries, back = np.empty((size, E), qk.dtype), np.empty((size, W), qk.dtype)
    p, ds = np.empty((size, two), qk.dtype), np.empty((size, two), qk.dtype)
    of_queries, of_keys, of_values = (
        np.empty((size, E), qk.dtype),
        np.empty((two, E), qk.dtype),
        np.empty((two, W), qk.dtype),
    )
    _logarithms(logs)
    for r in range(begin, end):
        _normalize(qk[r], shape.eps, keys, inverse)
        _locate(order[r], size, where)
        d_keys[:] = 0
        for c in range(rounds * chunks):
            half = c % 2
            if c == 0 or (c % chunks == 0 and not shape.ring):
                before = _before(c, chunks, rounds, shape.ring)
                _load(held, 1 - half, before, size, keys, v[r], order[r], valid[r], buckets[r])
            _load(held, half, c, size, keys, v[r], order[r], valid[r], buckets[r])
            tokens = held.tokens[half * size : (half + 1) * size]
            gather(qk[r], tokens, number(shape.scale), queries)
            gather(g[r], tokens, number(1), back)
            np.dot(queries, held.keys.T, p)
            np.dot(back, held.values.T, ds)
            _finish_logits(p, half, held, where, buckets[r], shape, wheres, groups, times, logs)
            for i in range(size):
                token = tokens[i]
                if lse[r, token] > -np.inf:
                    _exponentials(p[i], lse[r, token])
                else:
                    _clear(p[i])
                centered(p[i], ds[i], delta[r, token])
            np.dot(ds, held.keys, of_queries)
            add_rows(of_queries, tokens, number(shape.scale), dqk[r])
            np.dot(ds.T, queries, of_keys)
            add_rows(of_keys, held.tokens, number(1), d_keys)
            np.dot(p.T, back, of_values)
            add_rows(of_values, held.tokens, number(1), dv[r])
        _add_of_keys(d_keys, keys, inverse, dqk[r])
        for i in range(T):
            if lse[r, i] == -np.inf:
                for w in range(W):
                    dv[r, i, w] += g[r, i, w]


# -- calling them ---------------------------------------------------------------------------------------------------


def lsh_attention(
    qk: np.ndarray,
    v: np.ndarray,
    order: np.ndarray,
    valid: np.ndarray,
    buckets: np.ndarray,
    *,
    shape: Shape,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """out (R, T, W) and lse (R, T); see the module's docstring."""
    qk, v, order, valid, buckets = _arrays(qk, v, order, valid, buckets)
    out, lse = np.zeros(v.shape, v.dtype), np.empty(v.shape[:2], v.dtype)
    with blas_alone():
        over_rows(_forward, len(qk), qk, v, order, valid, buckets, shape, out, lse, threads=threads)
    return out, lse


def lsh_attention_vjp(
    qk: np.ndarray,
    v: np.ndarray,
    order: np.ndarray,
    valid: np.ndarray,
    buckets: np.ndarray,
    lse: np.ndarray,
    delta: np.ndarray,
    g: np.ndarray,
    *,
    shape: Shape,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The cotangents of qk and v.

    g: (R, T, W), the cotangent of out. delta: (R, T), sum(g out) - g_lse.
    """
    qk, v, order, valid, buckets = _arrays(qk, v, order, valid, buckets)
    lse, delta, g = _contiguous(lse, delta, g)
    dqk, dv = np.zeros_like(qk), np.zeros_like(v)
    given = (qk, v, order, valid, buckets, shape, lse, delta, g)
    with blas_alone():
        over_rows(_backward, len(qk), *given, dqk, dv, threads=threads)
    return dqk, dv


def _arrays(
    qk: np.ndarray, v: np.ndarray, order: np.ndarray, valid: np.ndarray, buckets: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Contiguous, and buckets of no rounds for every row if there are none."""
    if not buckets.size:
        buckets = np.empty((len(qk), 0, 0))
    return *_contiguous(qk, v), *_contiguous(order.astype(np.int64), valid, buckets.astype(np.int32))


# -- twins ----------------------------------------------------------------------------------------------------------


def meetings(order: np.ndarray, valid: np.ndarray, buckets: np.ndarray, shape: Shape) -> np.ndarray:
    """(R, T, T): how often query i sees key j."""
    R, rounds, T = order.shape
    chunks = T // shape.chunk
    where = np.argsort(order, axis=-1) // shape.chunk + chunks * np.arange(rounds)[:, None]
    row, token = np.arange(R)[:, None], np.arange(T)
    met = np.zeros((R, T, T), np.int64)
    for a in range(rounds):
        here = where[:, a]
        if shape.ring:
            before = (here - 1) % (rounds * chunks)
        else:
            before = (here - 1) % chunks + chunks * a
        for chunk in (here, before):
            sees = where[row, chunk // chunks] == chunk[..., None]
            if buckets.size:
                sees = sees & (buckets[row, chunk // chunks] == buckets[:, a, :, None])
            met += sees
    others = token[:, None] > token if shape.causal else token[:, None] != token
    return met * (valid[:, :, None] & valid[:, None] & others)


def _logits_twin(
    qk: np.ndarray, order: np.ndarray, valid: np.ndarray, buckets: np.ndarray, shape: Shape
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (R, T, T) with the logarithms of repeated meetings, keys (R, T, E), and their factors (R, T, 1)."""
    length = np.sqrt(np.sum(qk * qk, axis=-1, keepdims=True) + qk.dtype.type(shape.eps * qk.shape[-1]))
    inverse = np.where(length > 0, 1 / np.where(length > 0, length, 1), 0).astype(qk.dtype)
    keys = qk * inverse
    s = (qk * qk.dtype.type(shape.scale)) @ keys.swapaxes(1, 2)
    met = meetings(order, valid, buckets, shape)
    if not shape.once:
        s = s + np.log(np.maximum(met, 1)).astype(qk.dtype)
    return np.where(met > 0, s, qk.dtype.type(-np.inf)), keys, inverse


def lsh_attention_twin(
    qk: np.ndarray, v: np.ndarray, order: np.ndarray, valid: np.ndarray, buckets: np.ndarray, *, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    s, _, _ = _logits_twin(qk, order, valid, buckets, shape)
    top = np.max(s, axis=-1, keepdims=True)
    p = np.exp(s - np.where(top == -np.inf, 0, top).astype(qk.dtype))
    total = p.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]
    return np.where(total == 0, v, p @ v / np.where(total == 0, 1, total)).astype(qk.dtype), lse


def lsh_attention_vjp_twin(
    qk: np.ndarray,
    v: np.ndarray,
    order: np.ndarray,
    valid: np.ndarray,
    buckets: np.ndarray,
    lse: np.ndarray,
    delta: np.ndarray,
    g: np.ndarray,
    *,
    shape: Shape,
) -> tuple[np.ndarray, np.ndarray]:
    s, keys, inverse = _logits_twin(qk, order, valid, buckets, shape)
    p = np.exp(s - np.where(lse == -np.inf, 0, lse).astype(qk.dtype)[..., None])
    ds = p * (g @ v.swapaxes(1, 2) - delta[..., None])
    scale = qk.dtype.type(shape.scale)
    d_keys = scale * ds.swapaxes(1, 2) @ qk
    dqk = scale * ds @ keys + (d_keys - keys * np.sum(keys * d_keys, axis=-1, keepdims=True)) * inverse
    return dqk, p.swapaxes(1, 2) @ g + g * (lse == -np.inf)[..., None]
