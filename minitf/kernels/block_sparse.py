"""Products with a weight of which only some blocks are kept, or n of every m entries.

A weight W (K, N) acts on the right, y = x @ W. It is cut into blocks of r inputs by c outputs, and of each column of blocks
the kept ones are listed:

    data (blocks, r, c), indices (blocks,), indptr (N / c + 1,)     blocks of column b are indptr[b] .. indptr[b + 1] - 1,
                                                                    and ``indices`` says which r rows of W they cover

This is SciPy's ``bsr_matrix`` of Wᵀ, whose blocks are (c, r). What papers that write W as (outputs, inputs) call
4x1 or 16x1 is r = 1 and c = 4 or 16 here.

The product works on xᵀ: a kept row of a block adds a multiple of one row of xᵀ to c rows of yᵀ, and vectors run along
the tokens. So it takes exactly 2 M r c FLOPs a block, whatever the block's shape is; c should be a multiple of 4
(``minitf.kernels.gathered``). With int8 data and x it is exact in int32.

With y = matmul(x, data, indices, indptr) and the cotangent g of y, that of data is sampled(x, g, indices, indptr, (r, c))
and that of x is matmul(g, *transpose(data, indices, indptr, K)).

An n:m weight keeps n of every m consecutive inputs of each output, all outputs alike: data (K n / m, N) and, as large,
``positions``, which of its group of m each entry is. Used by: sparse-cpu-inference, gpusq-vit.
"""

from __future__ import annotations

import numpy as np

from minitf.kernels import csr
from minitf.kernels.compile import jit
from minitf.kernels.gathered import add_product, add_rows, dot_rows
from minitf.kernels.integer import LONGEST
from minitf.kernels.pool import over_rows

#: tokens whose products are in the cache at the same time, and outputs written together
TOKENS, OUTPUTS = 128, 64


@jit
def _matmul_columns(start, stop, xt, data, rows, bounds, out):
    """Columns of blocks; data is (kept rows, c), and ``rows`` says which rows of xt (K, M) they meet."""
    c, M = data.shape[1], xt.shape[1]
    together = max(1, OUTPUTS // c)
    yt = np.empty((together * c, M), out.dtype)
    for begin in range(start, stop, together):
        end = min(begin + together, stop)
        yt[:] = 0
        for b in range(begin, end):
            first, last = bounds[b], bounds[b + 1]
            add_product(yt[(b - begin) * c : (b - begin + 1) * c], data[first:last].T, xt, rows[first:last])
        for m in range(M):
            for n in range((end - begin) * c):
                out[m, begin * c + n] = yt[n, m]


@jit
def _sampled_columns(start, stop, xt, gt, indices, indptr, out):
    _, r, c = out.shape
    every = np.arange(c)
    for b in range(start, stop):
        for p in range(indptr[b], indptr[b + 1]):
            for i in range(r):
                dot_rows(xt[indices[p] * r + i], gt[b * c : (b + 1) * c], every, out[p, i])


@jit
def _nm_columns(start, stop, xt, data, positions, n, m, out):
    entries, M = data.shape[0], xt.shape[1]
    yt = np.empty((OUTPUTS, M), out.dtype)
    values, rows = np.empty(entries, data.dtype), np.empty(entries, np.int64)
    for begin in range(start, stop, OUTPUTS):
        end = min(begin + OUTPUTS, stop)
        yt[:] = 0
        for column in range(begin, end):
            for i in range(entries):
                values[i] = data[i, column]
                rows[i] = i // n * m + positions[i, column]
            add_rows(yt[column - begin], values, xt, rows)
        for t in range(M):
            for column in range(begin, end):
                out[t, column] = yt[column - begin, t]


def _summed(data: np.ndarray, x: np.ndarray) -> np.dtype:
    """The dtype of the product."""
    if x.dtype != np.int8:
        return x.dtype
    if data.dtype != np.int8 or x.shape[1] > LONGEST:
        raise ValueError(f"int8 x needs int8 weights and at most {LONGEST} inputs, got {data.dtype} and {x.shape[1]}")
    return np.dtype(np.int32)


def matmul(x: np.ndarray, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, *, threads: int) -> np.ndarray:
    """x (M, K) @ W, with W (K, N) in blocks: (M, N), of x's dtype, or int32 for int8.

    Raises ValueError if the blocks are not blocks of a matrix with K rows.
    """
    _, r, c = data.shape
    K = x.shape[1]
    indices, indptr = _pattern("matmul", indices, indptr, K, r)
    if len(data) != indices.size:
        raise ValueError(f"matmul: {len(data)} blocks of data for {indices.size} indices")
    dtype = _summed(data, x)
    out = np.empty((len(x), (indptr.size - 1) * c), dtype)
    data = np.ascontiguousarray(data).reshape(len(data) * r, c)
    rows = (r * indices.astype(np.int64)[:, None] + np.arange(r)).reshape(-1)
    columns = indptr.size - 1
    least = csr.worth(columns, data.size * min(len(x), TOKENS))
    for first in range(0, len(x), TOKENS):
        part = slice(first, first + TOKENS)
        xt = np.ascontiguousarray(x[part].T, dtype)
        arrays = xt, data, rows, r * indptr, out[part]
        over_rows(_matmul_columns, columns, *arrays, threads=threads, least=least)
    return out


def sampled(
    x: np.ndarray, g: np.ndarray, indices: np.ndarray, indptr: np.ndarray, block: tuple[int, int], *, threads: int
) -> np.ndarray:
    """The blocks (r, c) of x.T (K, M) @ g (M, N) at the pattern: (blocks, r, c).

    Raises ValueError if x, g and the pattern do not fit each other.
    """
    r, c = block
    indices, indptr = _pattern("sampled", indices, indptr, x.shape[1], r)
    if len(x) != len(g) or g.shape[1] != (indptr.size - 1) * c:
        raise ValueError(f"sampled: x {x.shape}, g {g.shape} and {indptr.size - 1} columns of {block} do not fit")
    out = np.empty((indices.size, r, c), x.dtype)
    xt, gt = np.ascontiguousarray(x.T), np.ascontiguousarray(g.T)
    columns = indptr.size - 1
    least = csr.worth(columns, out.size * len(x))
    over_rows(_sampled_columns, columns, xt, gt, indices, indptr, out, threads=threads, least=least)
    return out


def nm_matmul(x: np.ndarray, data: np.ndarray, positions: np.ndarray, *, n: int, m: int, threads: int) -> np.ndarray:
    """x (M, K) @ W with n of every m inputs of W (K, N) kept: data and positions (K n / m, N). Returns (M, N).

    Raises ValueError if the shapes do not fit or a position is not below m.
    """
    if data.shape != positions.shape or x.shape[1] * n != len(data) * m or x.shape[1] % m:
        raise ValueError(f"nm_matmul: x {x.shape}, data {data.shape} and positions {positions.shape} are not {n}:{m}")
    if positions.max(initial=0) >= m or positions.min(initial=0) < 0:
        raise ValueError(f"nm_matmul: positions must be in 0 .. {m - 1}")
    dtype = _summed(data, x)
    out = np.empty((len(x), data.shape[1]), dtype)
    data, positions = np.ascontiguousarray(data), np.ascontiguousarray(positions, np.uint8)
    for first in range(0, len(x), TOKENS):
        part = slice(first, first + TOKENS)
        xt = np.ascontiguousarray(x[part].T, dtype)
        over_rows(_nm_columns, data.shape[1], xt, data, positions, n, m, out[part], threads=threads, least=OUTPUTS)
    return out


# -- the formats --------------------------------------------------------------------------------------------------


def _pattern(what: str, indices: np.ndarray, indptr: np.ndarray, K: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    if K % r:
        raise ValueError(f"{what}: blocks of {r} rows do not divide {K} inputs")
    return csr.checked_pattern(what, indices, indptr, K // r)


def from_dense(w: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(data, indices, indptr) of the blocks of w (K, N) that mask (K / r, N / c) keeps."""
    (K, N), (rows, columns) = w.shape, mask.shape
    if not rows or not columns or K % rows or N % columns:
        raise ValueError(f"from_dense: a mask {mask.shape} does not cut {w.shape} into equal blocks")
    blocks = w.reshape(rows, K // rows, columns, N // columns).transpose(2, 0, 1, 3)
    column, indices = np.nonzero(mask.T)
    return blocks[column, indices], indices, np.concatenate([[0], np.cumsum(mask.sum(0))])


def to_dense(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, K: int) -> np.ndarray:
    """The matrix (K, N); blocks that occur twice are added."""
    _, r, c = data.shape
    columns = indptr.size - 1
    blocks = np.zeros((columns, K // r, r, c), data.dtype)
    np.add.at(blocks, (csr.rows_of(indptr), indices), data)
    return blocks.transpose(1, 2, 0, 3).reshape(K, columns * c)


def transpose(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, K: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(data, indices, indptr) of Wᵀ (N, K), in blocks (c, r)."""
    order, indices, indptr = csr.transpose(indices, indptr, K // data.shape[1])
    return data[order].swapaxes(1, 2), indices, indptr


def nm_from_dense(w: np.ndarray, mask: np.ndarray, *, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """(data, positions) of w (K, N), of which mask (K, N) keeps n of every m inputs.

    Raises ValueError if it keeps more or fewer.
    """
    K, N = w.shape
    groups = K // m
    if K % m or (mask.reshape(groups, m, N).sum(1) != n).any():
        raise ValueError(f"nm_from_dense: the mask does not keep {n} of every {m} of {K} inputs")
    positions = np.argsort(~mask.reshape(groups, m, N), axis=1, kind="stable")[:, :n]
    data = np.take_along_axis(w.reshape(groups, m, N), positions, axis=1)
    return data.reshape(groups * n, N), positions.reshape(groups * n, N).astype(np.uint8)


def nm_to_dense(data: np.ndarray, positions: np.ndarray, *, n: int, m: int) -> np.ndarray:
    """The matrix (K, N)."""
    groups, N = len(data) // n, data.shape[1]
    w = np.zeros((groups, m, N), data.dtype)
    at = positions.reshape(groups, n, N).astype(np.intp)
    np.put_along_axis(w, at, data.reshape(groups, n, N), axis=1)
    return w.reshape(groups * m, N)


# -- twins --------------------------------------------------------------------------------------------------------


def matmul_twin(x: np.ndarray, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    return x.astype(_summed(data, x)) @ to_dense(data, indices, indptr, x.shape[1])


def sampled_twin(
    x: np.ndarray, g: np.ndarray, indices: np.ndarray, indptr: np.ndarray, block: tuple[int, int]
) -> np.ndarray:
    r, c = block
    blocks = (x.T @ g).reshape(x.shape[1] // r, r, indptr.size - 1, c)
    return blocks.transpose(0, 2, 1, 3)[indices, csr.rows_of(indptr)]


def nm_matmul_twin(x: np.ndarray, data: np.ndarray, positions: np.ndarray, *, n: int, m: int) -> np.ndarray:
    return x.astype(_summed(data, x)) @ nm_to_dense(data, positions, n=n, m=m)
