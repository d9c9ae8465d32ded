"""Products with a sparse matrix in compressed rows, and products sampled at its entries.

    spmm(data, indices, indptr, x)_i = sum_p data_p x[indices_p]        p in indptr_i .. indptr_{i+1}
    sddmm(q, k, indices, indptr)_p   = q_i . k[indices_p]               for the row i that p belongs to

Names and layout are SciPy's: row i has its entries at indptr[i]:indptr[i + 1], in the columns ``indices``, in any order;
a column that occurs twice counts twice. A batch is a block-diagonal matrix: R matrices (T, S) have R T rows, and the
columns of the r-th start at r S.

Each is the other's derivative. With y = spmm(data, indices, indptr, x) and the cotangent g of y, that of data is
sddmm(g, x, indices, indptr), and that of x is spmm of the transpose:

    order, *pattern = transpose(indices, indptr, len(x));    spmm(data[order], *pattern, g)

A row sums in the order of its entries. Used by: spt (sparse attention).
"""

from __future__ import annotations

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.gathered import add_rows, dot_rows
from minitf.kernels.pool import over_rows

#: multiply-adds that are worth a thread of their own
WORTH = 1 << 16


@jit
def _spmm_rows(start, stop, data, indices, indptr, x, out):
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        out[i] = 0
        add_rows(out[i], data[first:last], x, indices[first:last])


@jit
def _sddmm_rows(start, stop, q, k, indices, indptr, out):
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        dot_rows(q[i], k, indices[first:last], out[first:last])


def spmm(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, x: np.ndarray, *, threads: int) -> np.ndarray:
    """A (R, S) @ x (S, E) with A sparse: data and indices (entries,), indptr (R + 1,). Returns (R, E).

    Raises ValueError if the pattern is none, or has columns that x has no rows for.
    """
    indices, indptr = checked_pattern("spmm", indices, indptr, len(x))
    if data.shape != indices.shape:
        raise ValueError(f"spmm: {data.shape} data for {indices.shape} indices; there must be one for each")
    out = np.empty((indptr.size - 1, x.shape[1]), x.dtype)
    least = worth(len(out), indices.size * x.shape[1])
    arrays = np.ascontiguousarray(data), indices, indptr, np.ascontiguousarray(x)
    over_rows(_spmm_rows, len(out), *arrays, out, threads=threads, least=least)
    return out


def sddmm(q: np.ndarray, k: np.ndarray, indices: np.ndarray, indptr: np.ndarray, *, threads: int) -> np.ndarray:
    """The entries of q (R, E) @ k.T (E, S) at the pattern: (entries,).

    Raises ValueError if the pattern is none, or has rows or columns beyond q and k.
    """
    indices, indptr = checked_pattern("sddmm", indices, indptr, len(k))
    if len(q) != indptr.size - 1 or q.shape[1] != k.shape[1]:
        raise ValueError(f"sddmm: q {q.shape} and k {k.shape} do not fit each other and {indptr.size - 1} rows")
    out = np.empty(indices.size, q.dtype)
    least = worth(len(q), indices.size * q.shape[1])
    arrays = np.ascontiguousarray(q), np.ascontiguousarray(k), indices, indptr
    over_rows(_sddmm_rows, len(q), *arrays, out, threads=threads, least=least)
    return out


def worth(rows: int, products: int) -> int:
    """How many of the rows are worth a thread of their own, if all of them take so many multiply-adds."""
    return WORTH * rows // max(1, products)


def checked_pattern(what: str, indices: np.ndarray, indptr: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The pattern as the kernels take it, int32 and int64: they read whatever memory it tells them to."""
    indices, indptr = np.ascontiguousarray(indices, np.int32), np.ascontiguousarray(indptr, np.int64)
    if indptr.size < 1 or indptr[0] != 0 or indptr[-1] != indices.size or (np.diff(indptr) < 0).any():
        raise ValueError(f"{what}: indptr must rise from 0 to the number of indices, {indices.size}")
    if indices.size and not 0 <= indices.min() <= indices.max() < columns:
        raise ValueError(f"{what}: indices must be in 0 .. {columns - 1}, got {indices.min()} .. {indices.max()}")
    return indices, indptr


def rows_of(indptr: np.ndarray) -> np.ndarray:
    """The row of every entry."""
    return np.repeat(np.arange(indptr.size - 1), np.diff(indptr))


def transpose(indices: np.ndarray, indptr: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(order, indices, indptr) of the transpose, whose data are data[order]; its rows keep the order of ours."""
    order = np.argsort(indices, kind="stable")
    return order, rows_of(indptr)[order], np.concatenate([[0], np.cumsum(np.bincount(indices, minlength=columns))])


# -- twins --------------------------------------------------------------------------------------------------------


def spmm_twin(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = np.zeros((indptr.size - 1, x.shape[1]), x.dtype)
    np.add.at(out, rows_of(indptr), data[:, None] * x[indices])
    return out


def sddmm_twin(q: np.ndarray, k: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    return np.sum(q[rows_of(indptr)] * k[indices], axis=1)
