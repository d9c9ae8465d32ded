"""Recurrences with a diagonal state: the gated linear one, and the selective scan of Mamba.

    linear_recurrence:  h_t = a_t h_{t-1} + b_t                                             every channel by itself
    selective_scan:     h_t[p,n] = exp(dt_t[p] A[p,n]) h_{t-1}[p,n] + dt_t[p] B_t[n] u_t[p]
                        y_t[p]   = sum_n C_t[n] h_t[p,n] + D[p] u_t[p]

Channels do not touch each other. A row of work is one block of channels of one sample, whose state stays in the cache
while time goes by; the compiler makes vectors of neighbouring channels. Blocks are cut by the number of channels alone,
so results are the same bits for any number of threads.

Backward through the selective scan, states are computed again. A first walk keeps the state at the start of every
segment of sqrt(T) steps, a second one, last segment first, all states of one segment: 3 sqrt(T) states a thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import exp
from minitf.kernels.pool import over_rows

#: channels of one row of work
BLOCK = 64
#: state updates that are worth a thread of their own
WORTH = 1 << 14


def segment_length(T: int) -> int:
    """The steps between two states that the first walk keeps."""
    return max(1, math.isqrt(T))


def steps_repeated(T: int) -> int:
    """The steps that both walks take together: all in the second, all but those of the last segment in the first."""
    length = segment_length(T)
    return T + max(-(-T // length) - 1, 0) * length


def contiguous(*arrays: np.ndarray) -> list[np.ndarray]:
    """Writable as well: to the compiler, a read-only array is of another type."""
    return [np.require(x, None, ["C", "W"]) for x in arrays]


def _blocks(P: int) -> int:
    return -(-P // BLOCK)


# -- h_t = a_t h_{t-1} + b_t ------------------------------------------------------------------------------------------


@jit
def _recurrence_rows(start, stop, a, b, h0, chunk, reverse, h):
    # h0 (samples, chunks, P): the state in front of every chunk; a row is a block of channels of one of them
    T, P = a.shape[1:]
    blocks = -(-P // BLOCK)
    for row in range(start, stop):
        piece, block = divmod(row, blocks)
        i, c = divmod(piece, h0.shape[1])
        before = h0[i, c]
        for step in range(c * chunk, min(T, (c + 1) * chunk)):
            t = T - 1 - step if reverse else step
            a_t, b_t, h_t = a[i, t], b[i, t], h[i, t]
            for p in range(block * BLOCK, min(P, (block + 1) * BLOCK)):
                h_t[p] = a_t[p] * before[p] + b_t[p]
            before = h_t


@jit
def _total_rows(start, stop, a, b, chunk, reverse, decay, end):
    # what a whole chunk does to a state: h -> decay h + end
    T, P = a.shape[1:]
    blocks = -(-P // BLOCK)
    for row in range(start, stop):
        piece, block = divmod(row, blocks)
        i, c = divmod(piece, decay.shape[1])
        d, e = decay[i, c], end[i, c]
        for step in range(c * chunk, min(T, (c + 1) * chunk)):
            t = T - 1 - step if reverse else step
            a_t, b_t = a[i, t], b[i, t]
            for p in range(block * BLOCK, min(P, (block + 1) * BLOCK)):
                d[p] *= a_t[p]
                e[p] = a_t[p] * e[p] + b_t[p]


def linear_recurrence(
    a: np.ndarray, b: np.ndarray, h0: np.ndarray, *, reverse: bool = False, chunk: int | None = None, threads: int
) -> np.ndarray:
    """All states h (B, T, P) of h_t = a_t h_{t-1} + b_t, from a, b (B, T, P) and the state in front of them, h0 (B, P).

    reverse: time runs backwards, h_t = a_t h_{t+1} + b_t, and h0 is the state behind the last step.
    chunk: cut time into chunks of this length, find what each does to a state, and then compute all of them side by
        side: 5/2 of the work, and parallel in time. Rounds differently from None, which goes step by step.
    """
    a, b, h0 = contiguous(a, b, h0)
    (B, T, P), blocks = a.shape, _blocks(a.shape[2])
    h, length = np.empty_like(a), max(T, 1) if chunk is None else chunk
    chunks = -(-T // length)
    starts, rows, least = h0[:, None], B * chunks * blocks, 1 + WORTH // (min(length, T) * min(BLOCK, P) + 1)
    if chunks > 1:
        decay, end = np.ones((B, chunks, P), a.dtype), np.zeros((B, chunks, P), a.dtype)
        over_rows(_total_rows, rows, a, b, length, reverse, decay, end, threads=threads, least=least)
        ends = linear_recurrence(decay, end, h0, threads=threads)
        starts = np.concatenate([starts, ends[:, :-1]], axis=1)
    over_rows(_recurrence_rows, rows, a, b, starts, length, reverse, h, threads=threads, least=least)
    return h


# -- the selective scan -----------------------------------------------------------------------------------------------


@jit(inline=True)
def _advance(x, dt, A, B, before, drive, decay, after):
    # one step of a block's state (N, width); drive = dt u
    for p in range(x.size):
        drive[p] = dt[p] * x[p]
    for n in range(B.size):
        for p in range(x.size):
            decay[n, p] = exp(dt[p] * A[n, p])
        for p in range(x.size):
            after[n, p] = decay[n, p] * before[n, p] + drive[p] * B[n]


@jit
def _scan_rows(start, stop, u, dt, A, B, C, D, h0, y, h):
    # A (N, P), h0 and h (samples, N, P): channels last
    T, N, P = u.shape[1], A.shape[0], A.shape[1]
    blocks = -(-P // BLOCK)
    table, drive = np.empty((4, N, BLOCK), u.dtype), np.empty(BLOCK, u.dtype)
    rates, state, after, decay = table[0], table[1], table[2], table[3]
    for row in range(start, stop):
        i, lo = row // blocks, row % blocks * BLOCK
        hi = min(P, lo + BLOCK)
        for n in range(N):
            for p in range(hi - lo):
                rates[n, p], state[n, p] = A[n, lo + p], h0[i, n, lo + p]
        for t in range(T):
            x, out = u[i, t, lo:hi], y[i, t, lo:hi]
            _advance(x, dt[i, t, lo:hi], rates, B[i, t], state, drive, decay, after)
            state, after = after, state
            out[:] = 0
            for p in range(min(hi, D.size) - lo):  # none if there is no D
                out[p] = D[lo + p] * x[p]
            for n in range(N):
                c = C[i, t, n]
                for p in range(hi - lo):
                    out[p] += c * state[n, p]
        for n in range(N):
            for p in range(hi - lo):
                h[i, n, lo + p] = state[n, p]


@jit(inline=True)
def copy_state(state, out):
    for n in range(state.shape[0]):
        for p in range(state.shape[1]):
            out[n, p] = state[n, p]


@jit(inline=True)
def _walk(first, count, lo, hi, u, dt, A, B, drive, decays, states):
    # ``count`` steps of a block of one sample from states[0]; states[j + 1] is the one after step first + j
    for j in range(count):
        t = first + j
        _advance(u[t, lo:hi], dt[t, lo:hi], A, B[t], states[j], drive, decays[j], states[j + 1])


@jit(reorder=True, inline=True)
def _retreat(x, dt, A, B, C, gy, before, decay, after, drive, g, of_A, of_drive, of_dt, of_B, of_C):
    # g: the cotangent of the state after the step, from what comes later; then of the state before it
    for p in range(x.size):
        drive[p], of_drive[p], of_dt[p] = dt[p] * x[p], 0, 0
    for n in range(B.size):
        b, c = B[n], C[n]
        gb = gc = x.dtype.type(0)
        for p in range(x.size):
            g[n, p] += c * gy[p]
            gc += gy[p] * after[n, p]
            gb += g[n, p] * drive[p]
            of_drive[p] += g[n, p] * b
        for p in range(x.size):
            g[n, p] *= decay[n, p]
            q = g[n, p] * before[n, p]
            of_A[n, p] += q * dt[p]
            of_dt[p] += q * A[n, p]
        of_B[n], of_C[n] = gb, gc
    for p in range(x.size):
        of_dt[p] += of_drive[p] * x[p]


@jit
def _scan_vjp_rows(start, stop, u, dt, A, B, C, D, h0, gy, gh, length, gu, gdt, gA, gB, gC, gD, gh0):
    # gA (samples, N, P), gB and gC (blocks, samples, T, N), gD (samples, P): parts of what they are called
    T, N, P = u.shape[1], A.shape[0], A.shape[1]
    blocks, segments = -(-P // BLOCK), -(-T // length)
    starts, states = np.empty((segments + 1, N, BLOCK), u.dtype), np.empty((length + 1, N, BLOCK), u.dtype)
    decays, table, line = np.empty_like(states), np.empty((3, N, BLOCK), u.dtype), np.empty((3, BLOCK), u.dtype)
    (rates, g, of_A), (drive, of_drive) = (table[0], table[1], table[2]), (line[0], line[1])
    for row in range(start, stop):
        i, block = row // blocks, row % blocks
        lo, hi = block * BLOCK, min(P, (block + 1) * BLOCK)
        for n in range(N):
            for p in range(hi - lo):
                rates[n, p], starts[0, n, p] = A[n, lo + p], h0[i, n, lo + p]
                g[n, p], of_A[n, p] = gh[i, n, lo + p], 0
        for p in range(lo, hi):
            gD[i, p] = 0
        for leg in range(2 * segments - 1):  # to the last segment, and back
            k = segments - 1 - abs(segments - 1 - leg)
            count = min(length, T - k * length)
            copy_state(starts[k], states[0])
            _walk(k * length, count, lo, hi, u[i], dt[i], rates, B[i], drive, decays, states)
            if leg < segments - 1:
                copy_state(states[length], starts[k + 1])
                continue
            for j in range(count - 1, -1, -1):
                t = k * length + j
                x, step, g_y = u[i, t, lo:hi], dt[i, t, lo:hi], gy[i, t, lo:hi]
                _retreat(
                    x, step, rates, B[i, t], C[i, t], g_y, states[j], decays[j], states[j + 1], drive, g, of_A,
                    of_drive, gdt[i, t, lo:hi], gB[block, i, t], gC[block, i, t],
                )  # fmt: skip
                for p in range(hi - lo):
                    gu[i, t, lo + p] = of_drive[p] * step[p]
                for p in range(min(hi, D.size) - lo):
                    gu[i, t, lo + p] += D[lo + p] * g_y[p]
                    gD[i, lo + p] += g_y[p] * x[p]
        for n in range(N):
            for p in range(hi - lo):
                gh0[i, n, lo + p], gA[i, n, lo + p] = g[n, p], of_A[n, p]


def selective_scan(
    u: np.ndarray, dt: np.ndarray, A: np.ndarray, B: np.ndarray, C: np.ndarray, h0: np.ndarray,
    D: np.ndarray | None = None, *, threads: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """y (B, T, P) and the last state (B, P, N), from u, dt (B, T, P), A (P, N), B, C (B, T, N), h0 (B, P, N), D (P,)."""
    u, dt, A, B, C, D, h0 = _arranged(u, dt, A, B, C, D, h0)
    y, h = np.empty_like(u), np.empty_like(h0)
    _over_blocks(_scan_rows, u, dt, A, B, C, D, h0, y, h, threads=threads)
    return y, np.swapaxes(h, 1, 2)


def selective_scan_vjp(
    gy: np.ndarray, gh: np.ndarray, u: np.ndarray, dt: np.ndarray, A: np.ndarray, B: np.ndarray, C: np.ndarray,
    h0: np.ndarray, D: np.ndarray | None = None, *, threads: int,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """The cotangents of u, dt, A, B, C, h0 and, if there is one, D, from those of y and of the last state."""
    skip = D is not None
    u, dt, A, B, C, D, h0 = _arranged(u, dt, A, B, C, D, h0)
    gy, gh = contiguous(gy, np.swapaxes(gh, 1, 2))
    samples, T, P = u.shape
    gu, gdt, gh0, gA = np.empty_like(u), np.empty_like(u), np.empty_like(h0), np.empty_like(h0)
    gB, gC = (np.empty((_blocks(P), *B.shape), u.dtype) for _ in range(2))
    gD = np.zeros((samples, P), u.dtype)
    outs = gu, gdt, gA, gB, gC, gD, gh0
    _over_blocks(_scan_vjp_rows, u, dt, A, B, C, D, h0, gy, gh, segment_length(T), *outs, threads=threads)
    gradients = gu, gdt, gA.sum(axis=0).T, gB.sum(axis=0), gC.sum(axis=0), np.swapaxes(gh0, 1, 2)
    return (*gradients, gD.sum(axis=0)) if skip else gradients


def _arranged(u: Any, dt: Any, A: Any, B: Any, C: Any, D: Any, h0: Any) -> list[np.ndarray]:
    """What the kernels read: channels last everywhere, no D as an empty one."""
    D = np.empty(0, u.dtype) if D is None else D
    return contiguous(u, dt, A.T, B, C, D, np.swapaxes(h0, 1, 2))


def _over_blocks(
    kernel: Callable[..., None], u: np.ndarray, dt: np.ndarray, A: np.ndarray, *rest: Any, threads: int
) -> None:
    (samples, T, P), N = u.shape, len(A)
    least = 1 + WORTH // (T * N * min(BLOCK, P) + 1)
    over_rows(kernel, samples * _blocks(P), u, dt, A, *rest, threads=threads, least=least)


# -- twins ------------------------------------------------------------------------------------------------------------


def linear_recurrence_twin(
    a: np.ndarray, b: np.ndarray, h0: np.ndarray, *, reverse: bool = False, chunk: int | None = None
) -> np.ndarray:
    h, out = h0, np.empty_like(b)
    for t in reversed(range(a.shape[1])) if reverse else range(a.shape[1]):
        h = out[:, t] = a[:, t] * h + b[:, t]
    return out


def selective_scan_twin(
    u: np.ndarray, dt: np.ndarray, A: np.ndarray, B: np.ndarray, C: np.ndarray, h0: np.ndarray,
    D: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    h, y = h0.copy(), np.zeros_like(u) if D is None else D * u
    for t in range(u.shape[1]):
        h = np.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
        y[:, t] += np.sum(h * C[:, t, None], axis=-1)
    return y, h


def selective_scan_vjp_twin(
    gy: np.ndarray, gh: np.ndarray, u: np.ndarray, dt: np.ndarray, A: np.ndarray, B: np.ndarray, C: np.ndarray,
    h0: np.ndarray, D: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    decay, drive, states = np.exp(dt[..., None] * A), (dt * u)[..., None], [h0]
    for t in range(u.shape[1]):
        states.append(decay[:, t] * states[t] + drive[:, t] * B[:, t, None])
    gu, gdt, gA, gB, gC = (np.zeros_like(x) for x in (u, dt, A, B, C))
    for t in reversed(range(u.shape[1])):
        gC[:, t] = np.sum(gy[:, t, :, None] * states[t + 1], axis=1)
        gh = gh + gy[:, t, :, None] * C[:, t, None]
        gB[:, t] = np.sum(gh * drive[:, t], axis=1)
        gdrive = np.sum(gh * B[:, t, None], axis=-1)
        gh = gh * decay[:, t]
        gA += np.sum(gh * states[t] * dt[:, t, :, None], axis=0)
        gdt[:, t] = gdrive * u[:, t] + np.sum(gh * states[t] * A, axis=-1)
        gu[:, t] = gdrive * dt[:, t]
    if D is None:
        return gu, gdt, gA, gB, gC, gh
    return gu + D * gy, gdt, gA, gB, gC, gh, np.sum(gy * u, axis=(0, 1))
