"""The transpose of a look-up: rows that share an id are added up.

    out_v = sum of x_n over all n with ids_n = v, in the order of n

Ids are first sorted (by counting, which keeps the order of equals), so that whoever owns a row of the table finds what
belongs into it.
"""

from __future__ import annotations

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.pool import over_rows

#: elements that are worth a thread of their own
WORTH = 1 << 14


@jit
def _sort(ids, starts, order):
    """order: the positions of the ids, sorted; starts (V + 1,): where in it those of each id start."""
    ends = np.zeros(starts.size, np.int64)
    for n in range(ids.size):
        ends[ids[n]] += 1
    total = 0
    for v in range(starts.size):
        starts[v] = total
        total += ends[v]
        ends[v] = starts[v]
    for n in range(ids.size):
        order[ends[ids[n]]] = n
        ends[ids[n]] += 1


@jit
def _add_rows(start, stop, x, starts, order, out):
    for v in range(start, stop):
        y = out[v]
        y[:] = 0
        for n in range(starts[v], starts[v + 1]):
            row = x[order[n]]
            for j in range(row.size):
                y[j] += row[j]


def add_rows(x: np.ndarray, ids: np.ndarray, *, V: int, threads: int) -> np.ndarray:
    """x (N, D), ids (N,) from 0 to V - 1 -> (V, D)."""
    out = np.empty((V, x.shape[1]), x.dtype)
    starts, order = np.empty(V + 1, np.int64), np.empty(len(ids), np.int64)
    _sort(np.ascontiguousarray(ids, np.int64), starts, order)
    least = max(1, WORTH * V // max(x.size + out.size, 1))
    over_rows(_add_rows, V, np.ascontiguousarray(x), starts, order, out, threads=threads, least=least)
    return out


# -- twin ---------------------------------------------------------------------------------------------------------


def add_rows_twin(x: np.ndarray, ids: np.ndarray, *, V: int) -> np.ndarray:
    out = np.zeros((V, x.shape[1]), x.dtype)
    np.add.at(out, ids, x)
    return out
