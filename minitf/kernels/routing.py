"""Tokens to experts and back: who gets which row, and the weighted sums of rows.

``assign`` counts; the sums are the three partial maps of one trilinear form, sum_m of w_m <y_m, g_n(m)>, where n(m) is the
token of row m:

    combine:  out_n = sum over m with n(m) = n, in order of m, of  w_m y_m
    share:    out_m = w_m g_n(m)
    meet:     out_m = <y_m, g_n(m)>
"""

from __future__ import annotations

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.embedding import _sort
from minitf.kernels.pool import over_rows

#: elements that are worth a thread of their own
WORTH = 1 << 14


@jit
def _assign(experts, capacity, offsets, slots, origins):
    # the first `rows` of origins are filled
    N, k = experts.shape
    counts = np.zeros(offsets.size - 1, np.int64)
    for choice in range(k):
        for n in range(N):
            e = experts[n, choice]
            slots[n, choice] = -1
            if e >= 0 and counts[e] < capacity:
                counts[e] += 1
                slots[n, choice] = 0
    rows = 0
    for e in range(counts.size):
        offsets[e] = rows
        rows += counts[e]
        counts[e] = offsets[e]
    offsets[counts.size] = rows
    for n in range(N):
        for choice in range(k):
            if slots[n, choice] == 0:
                e = experts[n, choice]
                slots[n, choice], origins[counts[e]] = counts[e], n * k + choice
                counts[e] += 1
    return rows


@jit
def _combine_rows(start, stop, y, w, starts, order, out):
    for n in range(start, stop):
        total = out[n]
        total[:] = 0
        for i in range(starts[n], starts[n + 1]):
            m = order[i]
            row, a = y[m], w[m]
            for j in range(row.size):
                total[j] += a * row[j]


@jit
def _share_rows(start, stop, g, w, tokens, out):
    for m in range(start, stop):
        row, a, shared = g[tokens[m]], w[m], out[m]
        for j in range(row.size):
            shared[j] = a * row[j]


@jit(reorder=True)
def _meet_rows(start, stop, y, g, tokens, out):
    for m in range(start, stop):
        row, other, total = y[m], g[tokens[m]], y.dtype.type(0)
        for j in range(row.size):
            total += row[j] * other[j]
        out[m] = total


def assign(
    experts: np.ndarray, *, E: int, capacity: int, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """experts (N, k) from 0 to E - 1 or -1 -> slots (N, k), origins (M,), offsets (E + 1,), all int64.

    slots: the row of each choice, -1 if it has none. origins: the choice of each row, as a position in the flattened
    ``experts``. offsets: where the rows of each expert begin. An expert takes at most ``capacity`` choices, all first
    choices before all second, in order of tokens; its rows are in order of tokens. One thread counts; it is soon done.
    """
    slots, offsets, origins = (
        np.empty(experts.shape, np.int64),
        np.empty(E + 1, np.int64),
        np.empty(experts.size, np.int64),
    )
    rows = _assign(np.ascontiguousarray(experts, np.int64), capacity, offsets, slots, origins)
    return slots, origins[:rows].copy(), offsets


def combine(y: np.ndarray, w: np.ndarray, *, tokens: np.ndarray, N: int, threads: int) -> np.ndarray:
    """y (M, D), w (M,), tokens (M,) from 0 to N - 1 -> (N, D)."""
    out = np.empty((N, y.shape[1]), y.dtype)
    starts, order = np.empty(N + 1, np.int64), np.empty(len(tokens), np.int64)
    _sort(np.ascontiguousarray(tokens, np.int64), starts, order)
    arrays = (np.ascontiguousarray(y), np.ascontiguousarray(w), starts, order, out)
    over_rows(_combine_rows, N, *arrays, threads=threads, least=max(1, WORTH * N // max(y.size + out.size, 1)))
    return out


def share(g: np.ndarray, w: np.ndarray, *, tokens: np.ndarray, threads: int) -> np.ndarray:
    """g (N, D), w (M,), tokens (M,) -> (M, D)."""
    out = np.empty((len(tokens), g.shape[1]), g.dtype)
    arrays = (np.ascontiguousarray(g), np.ascontiguousarray(w), np.ascontiguousarray(tokens, np.int64), out)
    over_rows(_share_rows, len(out), *arrays, threads=threads, least=1 + WORTH // max(g.shape[1], 1))
    return out


def meet(y: np.ndarray, g: np.ndarray, *, tokens: np.ndarray, threads: int) -> np.ndarray:
    """y (M, D), g (N, D), tokens (M,) -> (M,)."""
    out = np.empty(len(tokens), y.dtype)
    arrays = (np.ascontiguousarray(y), np.ascontiguousarray(g), np.ascontiguousarray(tokens, np.int64), out)
    over_rows(_meet_rows, len(out), *arrays, threads=threads, least=1 + WORTH // max(g.shape[1], 1))
    return out


# -- twins --------------------------------------------------------------------------------------------------------


def assign_twin(experts: np.ndarray, *, E: int, capacity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    N, k = experts.shape
    chosen = experts.T.reshape(-1, 1) == np.arange(E)  # all first choices, then all second
    kept = (chosen & (np.cumsum(chosen, axis=0) <= capacity)).any(axis=1).reshape(k, N).T
    destination = np.where(kept, experts, E).reshape(-1)
    origins = np.argsort(destination, kind="stable")[: np.count_nonzero(kept)]
    slots = np.full(N * k, -1)
    slots[origins] = np.arange(len(origins))
    return slots.reshape(N, k), origins, np.searchsorted(destination[origins], np.arange(E + 1))


def combine_twin(y: np.ndarray, w: np.ndarray, *, tokens: np.ndarray, N: int) -> np.ndarray:
    out = np.zeros((N, y.shape[1]), y.dtype)
    np.add.at(out, tokens, w[:, None] * y)
    return out


def share_twin(g: np.ndarray, w: np.ndarray, *, tokens: np.ndarray) -> np.ndarray:
    return w[:, None] * g[tokens]


def meet_twin(y: np.ndarray, g: np.ndarray, *, tokens: np.ndarray) -> np.ndarray:
    return (y * g[tokens]).sum(axis=-1)
