"""The places of the k largest entries of every row, largest first; of equal ones the lowest place, NaN above everything.

The k best so far are kept in order. A block of entries none of which beats the last of them, which is nearly every block
when k is small, costs one comparison an entry; what does beat it moves up to its place.
"""

from __future__ import annotations

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.pool import over_rows

#: entries of a row that are compared at a time, and entries that are worth a thread of their own
BLOCK, WORTH = 64, 1 << 15
#: up to this k insertion is faster than sorting, even where every entry beats the ones before
FEW = 32


@jit(inline=True)
def _beats(a, b):
    return a > b or (a != a and b == b)


@jit
def _top_k_rows(start, stop, x, out):
    n, k = x.shape[1], out.shape[1]
    best = np.empty(k, x.dtype)
    for i in range(start, stop):
        row, places = x[i], out[i]
        filled = 0
        for first in range(0, n, BLOCK):
            block = row[first : first + BLOCK]
            if filled == k:
                last = best[k - 1]
                if last != last:  # nothing beats NaN
                    break
                promising = 0
                for j in range(block.size):
                    promising |= not block[j] <= last
                if not promising:
                    continue
            for j in range(block.size):
                value = block[j]
                if filled == k:
                    if not _beats(value, best[k - 1]):
                        continue
                else:
                    filled += 1
                p = filled - 1
                while p > 0 and _beats(value, best[p - 1]):
                    best[p], places[p] = best[p - 1], places[p - 1]
                    p -= 1
                best[p], places[p] = value, first + j


def top_k(x: np.ndarray, *, k: int, threads: int) -> np.ndarray:
    """x (..., N) -> places (..., k), int64."""
    if k == 0 or k > FEW or x.size == 0:
        return top_k_twin(x, k=k)
    out = np.empty((*x.shape[:-1], k), np.int64)
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    least = 1 + WORTH // x.shape[-1]
    over_rows(_top_k_rows, len(rows), rows, out.reshape(-1, k), threads=threads, least=least)
    return out


# -- twin ---------------------------------------------------------------------------------------------------------


def top_k_twin(x: np.ndarray, *, k: int) -> np.ndarray:
    # a stable sort of the reversed row, read backwards, keeps equal ones in order
    order = np.argsort(x[..., ::-1], axis=-1, kind="stable")
    return x.shape[-1] - 1 - order[..., ::-1][..., :k]
