"""Sums of chosen rows: the loops inside the sparse and the low-bit kernels.

    add_product(y, a, x, rows)      y += a @ x[rows]
    add_rows(y, a, x, rows)         the same for one row of y and of a
    dot_rows(y, x, rows, out)       out = x[rows] @ y, which is add_rows the other way

Rows are long and contiguous and the compiler makes vectors along them, so it does not matter where in x they are. Four rows
are added to four sums at once: then an element that was loaded is used four times, and so is one that is stored. Every
element of y is the sum in the order of ``rows``, whatever its neighbors are. For integers y and x are int32 and nothing is
rounded; a may be narrower.
"""

from __future__ import annotations

from minitf.kernels.compile import jit


@jit
def add_rows(y, a, x, rows):
    """y (n,) += sum_i a[i] x[rows[i]]."""
    number = y.dtype.type
    fours = rows.size // 4 * 4
    for i in range(0, fours, 4):
        x0, x1, x2, x3 = x[rows[i]], x[rows[i + 1]], x[rows[i + 2]], x[rows[i + 3]]
        a0, a1, a2, a3 = number(a[i]), number(a[i + 1]), number(a[i + 2]), number(a[i + 3])
        for j in range(y.size):
            y[j] = y[j] + a0 * x0[j] + a1 * x1[j] + a2 * x2[j] + a3 * x3[j]
    for i in range(fours, rows.size):
        x0, a0 = x[rows[i]], number(a[i])
        for j in range(y.size):
            y[j] = y[j] + a0 * x0[j]


@jit
def _add_rows_to_four(y, a, x, rows):
    """add_rows for the four rows of y and a."""
    number = y.dtype.type
    y0, y1, y2, y3 = y[0], y[1], y[2], y[3]
    fours = rows.size // 4 * 4
    for i in range(0, fours, 4):
        x0, x1, x2, x3 = x[rows[i]], x[rows[i + 1]], x[rows[i + 2]], x[rows[i + 3]]
        a0, a1, a2, a3 = number(a[0, i]), number(a[0, i + 1]), number(a[0, i + 2]), number(a[0, i + 3])
        b0, b1, b2, b3 = number(a[1, i]), number(a[1, i + 1]), number(a[1, i + 2]), number(a[1, i + 3])
        c0, c1, c2, c3 = number(a[2, i]), number(a[2, i + 1]), number(a[2, i + 2]), number(a[2, i + 3])
        d0, d1, d2, d3 = number(a[3, i]), number(a[3, i + 1]), number(a[3, i + 2]), number(a[3, i + 3])
        for j in range(y0.size):
            y0[j] = y0[j] + a0 * x0[j] + a1 * x1[j] + a2 * x2[j] + a3 * x3[j]
            y1[j] = y1[j] + b0 * x0[j] + b1 * x1[j] + b2 * x2[j] + b3 * x3[j]
            y2[j] = y2[j] + c0 * x0[j] + c1 * x1[j] + c2 * x2[j] + c3 * x3[j]
            y3[j] = y3[j] + d0 * x0[j] + d1 * x1[j] + d2 * x2[j] + d3 * x3[j]
    for k in range(4):
        add_rows(y[k], a[k, fours:], x, rows[fours:])


@jit
def add_product(y, a, x, rows):
    """y (m, n) += a (m, R) @ x[rows]."""
    fours = y.shape[0] // 4 * 4
    for k in range(0, fours, 4):
        _add_rows_to_four(y[k : k + 4], a[k : k + 4], x, rows)
    for k in range(fours, y.shape[0]):
        add_rows(y[k], a[k], x, rows)


@jit(reorder=True)
def dot_rows(y, x, rows, out):
    """out[i] = x[rows[i]] . y"""
    fours = rows.size // 4 * 4
    for i in range(0, fours, 4):
        x0, x1, x2, x3 = x[rows[i]], x[rows[i + 1]], x[rows[i + 2]], x[rows[i + 3]]
        s0 = s1 = s2 = s3 = y.dtype.type(0)
        for j in range(y.size):
            s0 += x0[j] * y[j]
            s1 += x1[j] * y[j]
            s2 += x2[j] * y[j]
            s3 += x3[j] * y[j]
        out[i], out[i + 1], out[i + 2], out[i + 3] = s0, s1, s2, s3
    for i in range(fours, rows.size):
        x0 = x[rows[i]]
        s0 = y.dtype.type(0)
        for j in range(y.size):
            s0 += x0[j] * y[j]
        out[i] = s0
