"""Matrix products: NumPy's BLAS on the pool's threads instead of its own.

A library's own threads go on spinning for some milliseconds after a product, on the processors that the next kernel was to
have. So a product is cut into parts, one for each thread of the pool, and BLAS runs alone in each.
"""

from __future__ import annotations

import numpy as np

from minitf.kernels.pool import blas_alone, over_rows

#: multiplications below which the library may do as it likes, and those that are worth a thread of the pool
FEW, WORTH = 2**20, 2**21
#: rows or columns that are not parted: what BLAS takes at once
TOGETHER = 16


def matmul(x: np.ndarray, y: np.ndarray, *, threads: int) -> np.ndarray:
    """``np.matmul`` of arrays with two axes or more, of one dtype."""
    rows, columns = x.shape[-2], y.shape[-1]
    leading = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    work = rows * columns * x.shape[-1]
    for n in leading:
        work *= n
    if work <= FEW:
        return np.matmul(x, y)
    with blas_alone(kernels=False):
        if threads == 1 or work < 2 * WORTH:
            return np.matmul(x, y)
        out = np.empty((*leading, rows, columns), x.dtype)
        if leading and leading[0] >= threads:
            axis, n, unit = 0, leading[0], 1
        else:
            axis, unit = (-2, TOGETHER) if rows >= columns else (-1, TOGETHER)
            n = out.shape[axis]

        def part(start: int, stop: int) -> None:
            here = slice(start * unit, stop * unit)
            if axis == 0:
                np.matmul(_leading(x, out, here), _leading(y, out, here), out=out[here])
            elif axis == -2:
                np.matmul(x[..., here, :], y, out=out[..., here, :])
            else:
                np.matmul(x, y[..., here], out=out[..., here])

        units, threads = -(-n // unit), min(threads, work // WORTH)
        over_rows(
            part, units, threads=threads, least=-(-units // threads)
        )  # as few parts as can be: each is packed anew
    return out


def _leading(x: np.ndarray, out: np.ndarray, here: slice) -> np.ndarray:
    """The part of an operand that belongs to a part of the first axis of the result."""
    return x[here] if x.ndim == out.ndim and len(x) > 1 else x
