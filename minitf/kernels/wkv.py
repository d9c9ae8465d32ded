"""The weighted key-value averages of RWKV: version 4, one number a channel, and versions 5 and 6, a matrix a head.

    wkv4:  y_t = (a_{t-1} + e^{u + k_t} v_t) / (b_{t-1} + e^{u + k_t})
           a_t = e^{-w} a_{t-1} + e^{k_t} v_t,   b_t = e^{-w} b_{t-1} + e^{k_t}
    wkv6:  y_t = r_t (S_{t-1} + diag(u) k_tᵀ v_t)
           S_t = diag(w_t) S_{t-1} + k_tᵀ v_t

wkv4 keeps a and b divided by e^p, with p the running maximum of their exponents, so that no key overflows. A token with
k_t = -inf has no weight; where nothing has, y_t is zero.

Rows of work are blocks of channels of a sample (wkv4) and heads of a sample (wkv6), so results are the same bits for any
number of threads. Backward, states are computed again as in ``minitf.kernels.scan``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp
from minitf.kernels.pool import over_rows
from minitf.kernels.scan import BLOCK, WORTH, contiguous, copy_state, segment_length

# -- version 4 --------------------------------------------------------------------------------------------------------
# The state of a block is (3, width): a, b, p. Of e^{x-q} and e^{z-q} with q = max(x, z) one is 1, so a pair of them takes
# one exponential.


@jit(inline=True)
def _average(k, v, u, state, y):
    one, zero = k.dtype.type(1), k.dtype.type(0)
    for c in range(k.size):
        lead = u[c] + k[c] - state[2, c]
        e = exp(-abs(lead))
        old, new = (e, one) if lead > zero else (one, e)
        total = old * state[1, c] + new
        y[c] = zero if total == zero else (old * state[0, c] + new * v[c]) / total


@jit(inline=True)
def _advance(k, v, w, before, after):
    one, zero = k.dtype.type(1), k.dtype.type(0)
    for c in range(k.size):
        p = before[2, c] - w[c]
        lead = k[c] - p
        e = exp(-abs(lead))
        old, new = (e, one) if lead > zero else (one, e)
        after[0, c] = old * before[0, c] + new * v[c]
        after[1, c] = old * before[1, c] + new
        after[2, c] = k[c] if lead > zero else p


@jit(inline=True)
def _retreat(k, v, w, u, gy, before, g, gk, gv, gw, gu):
    # g (3, width): the cotangents of a, b and of a common factor e^p of both, first of the state after the step, as far as
    # they come from what is later, then of the state before it
    one, zero = k.dtype.type(1), k.dtype.type(0)
    for c in range(k.size):
        a, b, p, ga, gb = before[0, c], before[1, c], before[2, c], g[0, c], g[1, c]
        lead = k[c] - (p - w[c])
        e = exp(-abs(lead))
        old, new = (e, one) if lead > zero else (one, e)
        of_k, g[2, c] = (g[2, c], zero) if lead > zero else (zero, g[2, c])
        of_k += new * (ga * v[c] + gb)
        of_v = new * ga
        gw[c] -= old * (ga * a + gb * b) + g[2, c]
        ga, gb = old * ga, old * gb

        lead = u[c] + k[c] - p
        e = exp(-abs(lead))
        old, new = (e, one) if lead > zero else (one, e)
        total = old * b + new
        share = zero if total == zero else gy[c] / total
        y = zero if total == zero else (old * a + new * v[c]) / total
        of_bonus = new * share * (v[c] - y)
        gu[c] += of_bonus
        gk[c] = of_k + of_bonus
        gv[c] = of_v + new * share
        g[0, c] = ga + old * share
        g[1, c] = gb - old * share * y


@jit(inline=True)
def _change_factor(state, g, sign):
    # between the cotangent of p, when a and b are held, and that of the factor: a e^p and b e^p are what counts
    for c in range(state.shape[1]):
        g[2, c] += sign * (g[0, c] * state[0, c] + g[1, c] * state[1, c])


@jit
def _wkv4_rows(start, stop, k, v, w, u, h0, y, h):
    # h0, h (samples, 3, C)
    T, C = k.shape[1:]
    blocks = -(-C // BLOCK)
    table = np.empty((2, 3, BLOCK), k.dtype)
    state, after = table[0], table[1]
    for row in range(start, stop):
        i, lo = row // blocks, row % blocks * BLOCK
        hi = min(C, lo + BLOCK)
        for part in range(3):
            for c in range(hi - lo):
                state[part, c] = h0[i, part, lo + c]
        for t in range(T):
            _average(k[i, t, lo:hi], v[i, t, lo:hi], u[lo:hi], state, y[i, t, lo:hi])
            _advance(k[i, t, lo:hi], v[i, t, lo:hi], w[lo:hi], state, after)
            state, after = after, state
        for part in range(3):
            for c in range(hi - lo):
                h[i, part, lo + c] = state[part, c]


@jit(inline=True)
def _walk(first, count, lo, hi, k, v, w, states):
    # ``count`` steps of a block of one sample from states[0]; states[j + 1] is the one after step first + j
    for j in range(count):
        _advance(k[first + j, lo:hi], v[first + j, lo:hi], w[lo:hi], states[j], states[j + 1])


@jit
def _wkv4_vjp_rows(start, stop, k, v, w, u, h0, gy, gh, length, gk, gv, gw, gu, gh0):
    # gw, gu (samples, C), zeros at first: parts of what they are called
    T, C = k.shape[1:]
    blocks, segments = -(-C // BLOCK), -(-T // length)
    starts, states = np.empty((segments + 1, 3, BLOCK), k.dtype), np.empty((length + 1, 3, BLOCK), k.dtype)
    g = np.empty((3, BLOCK), k.dtype)
    for row in range(start, stop):
        i, lo = row // blocks, row % blocks * BLOCK
        hi = min(C, lo + BLOCK)
        for part in range(3):
            for c in range(hi - lo):
                starts[0, part, c], g[part, c] = h0[i, part, lo + c], gh[i, part, lo + c]
        for leg in range(2 * segments - 1):  # to the last segment, and back
            s = segments - 1 - abs(segments - 1 - leg)
            count = min(length, T - s * length)
            copy_state(starts[s], states[0])
            _walk(s * length, count, lo, hi, k[i], v[i], w, states)
            if leg < segments - 1:
                copy_state(states[length], starts[s + 1])
                continue
            if leg == segments - 1:
                _change_factor(states[count], g, -1)
            for j in range(count - 1, -1, -1):
                t = s * length + j
                _retreat(
                    k[i, t, lo:hi], v[i, t, lo:hi], w[lo:hi], u[lo:hi], gy[i, t, lo:hi], states[j], g,
                    gk[i, t, lo:hi], gv[i, t, lo:hi], gw[i, lo:hi], gu[i, lo:hi],
                )  # fmt: skip
        if T:
            _change_factor(starts[0], g, 1)
        for part in range(3):
            for c in range(hi - lo):
                gh0[i, part, lo + c] = g[part, c]


def wkv4(
    k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray, a: np.ndarray, b: np.ndarray, p: np.ndarray,
    *, threads: int,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """y (B, T, C) and the last state, a, b, p (B, C) each, from k, v (B, T, C), w, u (C,) and the state before."""
    k, v, w, u = contiguous(k, v, w, u)
    h0 = np.stack([a, b, p], axis=1)
    y, h = np.empty_like(k), np.empty_like(h0)
    _over_blocks(_wkv4_rows, k, v, w, u, h0, y, h, threads=threads)
    return y, h[:, 0], h[:, 1], h[:, 2]


def wkv4_vjp(
    gy: np.ndarray, ga: np.ndarray, gb: np.ndarray, gp: np.ndarray,
    k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray, a: np.ndarray, b: np.ndarray, p: np.ndarray,
    *, threads: int,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """The cotangents of k, v, w, u, a, b, p from those of y and of the last state."""
    gy, k, v, w, u = contiguous(gy, k, v, w, u)
    h0, gh = np.stack([a, b, p], axis=1), np.stack([ga, gb, gp], axis=1)
    gk, gv, gh0 = np.empty_like(k), np.empty_like(v), np.empty_like(h0)
    gw, gu = np.zeros((2, len(k), k.shape[2]), k.dtype)
    length = segment_length(k.shape[1])
    _over_blocks(_wkv4_vjp_rows, k, v, w, u, h0, gy, gh, length, gk, gv, gw, gu, gh0, threads=threads)
    return gk, gv, gw.sum(axis=0), gu.sum(axis=0), gh0[:, 0], gh0[:, 1], gh0[:, 2]


def _over_blocks(kernel: Any, k: np.ndarray, *rest: Any, threads: int) -> None:
    B, T, C = k.shape
    over_rows(kernel, B * -(-C // BLOCK), k, *rest, threads=threads, least=1 + WORTH // (3 * T * min(BLOCK, C) + 1))


# -- versions 5 and 6 -------------------------------------------------------------------------------------------------
# Keys have width E, values M; the state of a head is (E, M).


@jit(reorder=True, inline=True)
def _advance_head(r, k, v, w, u, state, y):
    bonus = r.dtype.type(0)
    for i in range(r.size):
        bonus += r[i] * u[i] * k[i]
    for j in range(v.size):
        y[j] = bonus * v[j]
    for i in range(r.size):
        row, r_i, k_i, w_i = state[i], r[i], k[i], w[i]
        for j in range(v.size):
            y[j] += r_i * row[j]
            row[j] = w_i * row[j] + k_i * v[j]


@jit(reorder=True, inline=True)
def _retreat_head(r, k, v, w, u, gy, before, g, gr, gk, gv, gw, gu):
    # g (E, M): the cotangent of the state after the step, from what comes later; then of the state before it
    zero = r.dtype.type(0)
    heard = bonus = zero
    for j in range(v.size):
        heard += gy[j] * v[j]
    for i in range(r.size):
        bonus += r[i] * u[i] * k[i]
    for j in range(v.size):
        gv[j] = bonus * gy[j]
    for i in range(r.size):
        row, g_row, r_i, k_i, w_i = before[i], g[i], r[i], k[i], w[i]
        of_r = of_k = of_w = zero
        for j in range(v.size):
            of_r += row[j] * gy[j]
            of_k += g_row[j] * v[j]
            of_w += g_row[j] * row[j]
            gv[j] += k_i * g_row[j]
            g_row[j] = w_i * g_row[j] + r_i * gy[j]
        gr[i], gk[i], gw[i] = of_r + u[i] * k_i * heard, of_k + r_i * u[i] * heard, of_w
        gu[i] += r_i * k_i * heard


@jit
def _wkv6_rows(start, stop, r, k, v, w, u, S, y):
    # r, k, w (rows, T, E), v, y (rows, T, M), u (rows, E); the state S (rows, E, M) is changed in place
    for row in range(start, stop):
        for t in range(r.shape[1]):
            _advance_head(r[row, t], k[row, t], v[row, t], w[row, t], u[row], S[row], y[row, t])


@jit(inline=True)
def _walk_head(first, count, k, v, w, states):
    # ``count`` steps of a head of one sample from states[0]; states[j + 1] is the one after step first + j
    for n in range(count):
        k_t, v_t, w_t, before, after = k[first + n], v[first + n], w[first + n], states[n], states[n + 1]
        for i in range(k_t.size):
            for j in range(v_t.size):
                after[i, j] = w_t[i] * before[i, j] + k_t[i] * v_t[j]


@jit
def _wkv6_vjp_rows(start, stop, length, r, k, v, w, u, S, gy, gr, gk, gv, gw, gu, g):
    # S (rows, E, M) is the state in front, g the cotangent of the last state, and in the end that of S; gu (rows, E)
    T = r.shape[1]
    segments = -(-T // length)
    starts = np.empty((segments + 1, *S.shape[1:]), r.dtype)
    states = np.empty((length + 1, *S.shape[1:]), r.dtype)
    for row in range(start, stop):
        copy_state(S[row], starts[0])
        for leg in range(2 * segments - 1):  # to the last segment, and back
            s = segments - 1 - abs(segments - 1 - leg)
            count = min(length, T - s * length)
            copy_state(starts[s], states[0])
            _walk_head(s * length, count, k[row], v[row], w[row], states)
            if leg < segments - 1:
                copy_state(states[length], starts[s + 1])
                continue
            for n in range(count - 1, -1, -1):
                t = s * length + n
                _retreat_head(
                    r[row, t], k[row, t], v[row, t], w[row, t], u[row], gy[row, t], states[n], g[row],
                    gr[row, t], gk[row, t], gv[row, t], gw[row, t], gu[row],
                )  # fmt: skip


def wkv6(
    r: np.ndarray, k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray, S: np.ndarray, *, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """y (B, H, T, M) and the last state, from r, k, w (B, H, T, E), v (B, H, T, M), u (H, E), state S (B, H, E, M)."""
    y, last = np.empty_like(v, order="C"), np.array(S, order="C")
    rows = _heads(r, k, v, w, np.broadcast_to(u, S.shape[:3]), last, y)
    over_rows(_wkv6_rows, len(last) * len(u), *rows, threads=threads, least=_least(r, v))
    return y, last


def wkv6_vjp(
    gy: np.ndarray, gS: np.ndarray, r: np.ndarray, k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray,
    S: np.ndarray, *, threads: int,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """The cotangents of r, k, v, w, u and S from those of y and of the last state."""
    gr, gk, gv, gw = (np.empty_like(x, order="C") for x in (r, k, v, w))
    gu, g, length = np.zeros(S.shape[:3], u.dtype), np.array(gS, order="C"), segment_length(r.shape[2])
    rows = _heads(r, k, v, w, np.broadcast_to(u, S.shape[:3]), S, gy, gr, gk, gv, gw, gu, g)
    over_rows(_wkv6_vjp_rows, len(S) * len(u), length, *rows, threads=threads, least=_least(r, v))
    return gr, gk, gv, gw, gu.sum(axis=0), g


def _heads(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays with (B, H) as one axis; contiguous ones share their memory with the result."""
    return [x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]) for x in contiguous(*arrays)]


def _least(r: np.ndarray, v: np.ndarray) -> int:
    return 1 + WORTH // (r.shape[2] * r.shape[3] * v.shape[3] + 1)


# -- twins ------------------------------------------------------------------------------------------------------------


def _fraction(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """over / under, and 0 where nothing has a weight."""
    return np.where(under == 0, 0, over / np.where(under == 0, 1, under))


def wkv4_twin(
    k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray, a: np.ndarray, b: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, ...]:
    y, a, b, p = np.empty_like(v), a.copy(), b.copy(), p.copy()
    for t in range(k.shape[1]):
        q = np.maximum(p, u + k[:, t])
        old, new = np.exp(p - q), np.exp(u + k[:, t] - q)
        y[:, t] = _fraction(old * a + new * v[:, t], old * b + new)
        q = np.maximum(p - w, k[:, t])
        old, new = np.exp(p - w - q), np.exp(k[:, t] - q)
        a, b, p = old * a + new * v[:, t], old * b + new, q
    return y, a, b, p


def wkv4_vjp_twin(
    gy: np.ndarray, ga: np.ndarray, gb: np.ndarray, gp: np.ndarray,
    k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray, a: np.ndarray, b: np.ndarray, p: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    states: list[tuple[np.ndarray, ...]] = [(a, b, p)]
    for t in range(k.shape[1]):
        states.append(wkv4_twin(k[:, t : t + 1], v[:, t : t + 1], w, u, *states[t])[1:])
    gk, gv, gw, gu = (np.zeros_like(x) for x in (k, v, w, u))
    of_factor = gp - ga * states[-1][0] - gb * states[-1][1]  # the cotangent of p where a e^p and b e^p are held
    for t in reversed(range(k.shape[1])):
        a, b, p = states[t]
        q = np.maximum(p - w, k[:, t])
        old, new, stays = np.exp(p - w - q), np.exp(k[:, t] - q), p - w >= k[:, t]
        gk[:, t] = new * (ga * v[:, t] + gb) + np.where(stays, 0, of_factor)
        gv[:, t] = new * ga
        of_factor = np.where(stays, of_factor, 0)
        gw -= np.sum(old * (ga * a + gb * b) + of_factor, axis=0)
        ga, gb = old * ga, old * gb

        q = np.maximum(p, u + k[:, t])
        old, new = np.exp(p - q), np.exp(u + k[:, t] - q)
        share = _fraction(gy[:, t], old * b + new)
        y = _fraction(old * a + new * v[:, t], old * b + new)
        of_bonus = new * share * (v[:, t] - y)
        gu += np.sum(of_bonus, axis=0)
        gk[:, t] += of_bonus
        gv[:, t] += new * share
        ga, gb = ga + old * share, gb - old * share * y
    return gk, gv, gw, gu, ga, gb, of_factor + ga * states[0][0] + gb * states[0][1]


def wkv6_twin(
    r: np.ndarray, k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray, S: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    y, S = np.empty_like(v), S.copy()
    for t in range(r.shape[2]):
        kv = k[:, :, t, :, None] * v[:, :, t, None]
        y[:, :, t] = np.sum(r[:, :, t, :, None] * (S + u[:, :, None] * kv), axis=2)
        S = w[:, :, t, :, None] * S + kv
    return y, S


def wkv6_vjp_twin(
    gy: np.ndarray, gS: np.ndarray, r: np.ndarray, k: np.ndarray, v: np.ndarray, w: np.ndarray, u: np.ndarray,
    S: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    states = [S]
    for t in range(r.shape[2]):
        states.append(w[:, :, t, :, None] * states[t] + k[:, :, t, :, None] * v[:, :, t, None])
    gr, gk, gv, gw, gu = (np.zeros_like(x) for x in (r, k, v, w, u))
    for t in reversed(range(r.shape[2])):
        heard = np.sum(gy[:, :, t] * v[:, :, t], axis=-1, keepdims=True)
        gr[:, :, t] = np.sum(states[t] * gy[:, :, t, None], axis=-1) + u * k[:, :, t] * heard
        gk[:, :, t] = np.sum(gS * v[:, :, t, None], axis=-1) + r[:, :, t] * u * heard
        gw[:, :, t] = np.sum(gS * states[t], axis=-1)
        bonus = np.sum(r[:, :, t] * u * k[:, :, t], axis=-1, keepdims=True)
        gv[:, :, t] = np.sum(gS * k[:, :, t, :, None], axis=2) + bonus * gy[:, :, t]
        gu += np.sum(r[:, :, t] * k[:, :, t] * heard, axis=0)
        gS = w[:, :, t, :, None] * gS + r[:, :, t, :, None] * gy[:, :, t, None]
    return gr, gk, gv, gw, gu, gS
