"""Convolution over two axes and its two transposes, in the layout of ``minitf.autodiff.ops.convolution``.

    convolve:   y[g, o, t] = sum over c, k of  w[g, o, c, k] · x[g, c, t · stride + k · dilation - padding]
    spread:     back to x     from y and w
    correlate:  to the weight from x and y, summed over samples

x (B, G, C, *S), w (G, O, C, *K), y (B, G, O, *T), one or two spatial axes, ``windows`` as made by ``lay_windows``. Each has
one of three ways:

- *Patches* that tile the image (stride = kernel, no padding): x is a matrix of patches after one transposition, which single
  values do without, and what is left is one product.
- *One channel a group* (depthwise): an image is laid out in phases, by the remainders of its padded coordinates modulo the
  stride, so that every place k of the windows sees one contiguous piece, at its own offset: a sum of shifted lines, whatever
  stride and dilation are. Lines run on from row to row, through a margin: there results of ``convolve`` are dropped, and y is
  zero for the two others. Zero times infinity is NaN, so an x that is not finite can make NaN of more entries of the gradient
  of w than it enters, and such a w of more entries of that of x.
- *Dense*: columns of a few hundred positions at a time, and a product for each; never those of a whole image.

The twins are in ``minitf.autodiff.ops.convolution``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.kernels import product
from minitf.kernels.compile import jit
from minitf.kernels.pool import blas_alone, over_rows

#: positions whose columns are made at a time, values of a shifted line at a time
TILE, LINE = 512, 2048
#: channels of one row of work in ``spread`` and ``correlate``; rows below which ``correlate`` cuts positions into parts too
CHANNELS, PARTS = 32, 16
#: multiply-adds that are worth a thread of their own
WORTH = 1 << 19

# -- dense: columns of a tile of positions ------------------------------------------------------------------------


@jit(inline=True)
def _move(x, channel, columns, first, g, back):
    """x (C, Y, X) from a channel on to columns (C' K, n) of the positions from ``first`` on; back: adds those to x instead.

    Always a whole x, for of a part the compiler would not know that its lines are contiguous."""
    width, k_y, k_x, s_y, s_x, d_y, d_x, p_y, p_x = g
    Y, X = x.shape[1:]
    n, line, start = columns.shape[1], first // width, first % width
    for row in range(columns.shape[0]):
        c, i, j = channel + row // (k_y * k_x), row // k_x % k_y, row % k_x
        before = p_x - j * d_x  # position u of a line sees column u s_x - before of x, inside for low <= u < high
        low, high = max(0, (before + s_x - 1) // s_x), min(width, (X - 1 + before) // s_x + 1)
        y, column, t = line * s_y + i * d_y - p_y, start, 0
        values, image = columns[row], x[c]
        while t < n:
            count = min(width - column, n - t)
            lo = min(max(low - column, 0), count)
            hi = max(lo, min(high - column, count)) if 0 <= y < Y else lo
            if not back:
                values[t : t + lo] = 0
                values[t + hi : t + count] = 0
            if hi > lo:
                at = (column + lo) * s_x - before
                inside, seen = values[t + lo : t + hi], image[y, at : at + (hi - lo - 1) * s_x + 1]
                if back and s_x == 1:
                    for u in range(inside.size):
                        seen[u] += inside[u]
                elif back:
                    for u in range(inside.size):
                        seen[u * s_x] += inside[u]
                elif s_x == 1:
                    inside[:] = seen
                else:
                    for u in range(inside.size):
                        inside[u] = seen[u * s_x]
            t, column, y = t + count, 0, y + s_y


@jit
def _convolve_tiles(start, stop, x, w, out, g, tile):
    # x (B, G C, Y, X), w (G, O, CK), out (B, G, O, T); a row is a tile of positions of one group of one sample
    G, O, T = out.shape[1:]
    C, tiles = x.shape[1] // G, -(-T // tile)
    space, result = np.empty(w.shape[2] * tile, x.dtype), np.empty(O * tile, x.dtype)
    for row in range(start, stop):
        b, group, first = row // tiles // G, row // tiles % G, row % tiles * tile
        n = min(tile, T - first)
        columns, y = space[: w.shape[2] * n].reshape(w.shape[2], n), result[: O * n].reshape(O, n)
        _move(x[b], group * C, columns, first, g, False)
        np.dot(w[group], columns, y)
        out[b, group, :, first : first + n] = y


@jit
def _spread_tiles(start, stop, y, w, out, g, tile, together):
    # w (G, CK, O), y (B, G, O, T), out (B, G C, Y, X); a row is some channels of one group of one sample
    G, O, T = y.shape[1:]
    C = out.shape[1] // G
    K, blocks = w.shape[1] // C, -(-C // together)
    space, piece = np.empty(together * K * tile, y.dtype), np.empty(O * tile, y.dtype)
    for row in range(start, stop):
        b, group, low = row // blocks // G, row // blocks % G, row % blocks * together
        high = min(C, low + together)
        matrix = w[group, low * K : high * K]
        out[b, group * C + low : group * C + high] = 0
        for first in range(0, T, tile):
            n = min(tile, T - first)
            columns, part = space[: (high - low) * K * n].reshape((high - low) * K, n), piece[: O * n].reshape(O, n)
            part[:] = y[b, group, :, first : first + n]
            np.dot(matrix, part, columns)
            _move(out[b], group * C + low, columns, first, g, True)


@jit
def _correlate_tiles(start, stop, x, y, out, g, tile, together):
    # x (B, G C, Y, X), y (B, G, O, T), out (parts, G, O, CK); a row is some channels of one group, over one part of the
    # tiles of all samples
    G, O, T = y.shape[1:]
    C, parts, tiles = x.shape[1] // G, out.shape[0], -(-T // tile)
    K, blocks = out.shape[3] // C, -(-C // together)
    space, piece = np.empty(together * K * tile, x.dtype), np.empty(O * tile, x.dtype)
    result = np.empty(O * together * K, x.dtype)
    for row in range(start, stop):
        part, group, low = row // blocks // G, row // blocks % G, row % blocks * together
        high = min(C, low + together)
        values = (high - low) * K
        w, product = out[part, group, :, low * K : high * K], result[: O * values].reshape(O, values)
        w[:] = 0
        for i in range(y.shape[0] * tiles * part // parts, y.shape[0] * tiles * (part + 1) // parts):
            b, first = i // tiles, i % tiles * tile
            n = min(tile, T - first)
            columns, y_n = space[: values * n].reshape(values, n), piece[: O * n].reshape(O, n)
            _move(x[b], group * C + low, columns, first, g, False)
            y_n[:] = y[b, group, :, first : first + n]
            np.dot(y_n, columns.T, product)
            w += product


def _tile(windows: Any) -> int:
    """Positions of a tile: whole lines if they are short, else equal parts of a line."""
    lines, width = math.prod(windows.count[:-1]), windows.count[-1]
    if width > TILE:
        return -(-width // -(-width // TILE))
    return width * -(-lines // -(-lines * width // TILE))


# -- one channel a group: sums of shifted lines -------------------------------------------------------------------


@jit(inline=True)
def _lay(image, phases, padding, stride, back):
    """image (Y, X) to its phases (s_y, s_x, Y_q, X_q), whose margins are left as they are; back: the other way."""
    (s_y, s_x), (p_y, p_x) = stride, padding
    Y, X = min(image.shape[0], phases.shape[2] * s_y - p_y), min(image.shape[1], phases.shape[3] * s_x - p_x)
    for y in range(Y):
        rows = phases[(y + p_y) % s_y, :, (y + p_y) // s_y]
        for phase in range(s_x):
            first = (phase - p_x) % s_x
            if first >= X:
                continue
            seen, q = image[y, first:X], (first + p_x) // s_x
            line = rows[phase, q : q + (X - first + s_x - 1) // s_x]
            if back:
                for u in range(line.size):
                    seen[u * s_x] = line[u]
            else:
                for u in range(line.size):
                    line[u] = seen[u * s_x]


@jit(inline=True)
def _add_shifted(source, offsets, w, base, out):
    """out[i] += sum over k of w[k] source[base + offsets[k] + i], eight places at a time."""
    n, K = out.size, offsets.size
    for k in range(0, K - 7, 8):
        w0, w1, w2, w3, w4, w5, w6, w7 = w[k], w[k + 1], w[k + 2], w[k + 3], w[k + 4], w[k + 5], w[k + 6], w[k + 7]
        x0, x1 = source[base + offsets[k] :][:n], source[base + offsets[k + 1] :][:n]
        x2, x3 = source[base + offsets[k + 2] :][:n], source[base + offsets[k + 3] :][:n]
        x4, x5 = source[base + offsets[k + 4] :][:n], source[base + offsets[k + 5] :][:n]
        x6, x7 = source[base + offsets[k + 6] :][:n], source[base + offsets[k + 7] :][:n]
        for i in range(n):
            near = w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i]
            out[i] += near + (w4 * x4[i] + w5 * x5[i] + w6 * x6[i] + w7 * x7[i])
    for k in range(K - K % 8, K):
        w0, x0 = w[k], source[base + offsets[k] :][:n]
        for i in range(n):
            out[i] += w0 * x0[i]


@jit(reorder=True, inline=True)
def _add_products(source, offsets, y, base, out):
    """out[k] += sum over i of source[base + offsets[k] + i] y[i], four places at a time."""
    n, K = y.size, offsets.size
    zero = y.dtype.type(0)
    for k in range(0, K - 3, 4):
        x0, x1 = source[base + offsets[k] :][:n], source[base + offsets[k + 1] :][:n]
        x2, x3 = source[base + offsets[k + 2] :][:n], source[base + offsets[k + 3] :][:n]
        a0, a1, a2, a3 = zero, zero, zero, zero
        for i in range(n):
            a0 += x0[i] * y[i]
            a1 += x1[i] * y[i]
            a2 += x2[i] * y[i]
            a3 += x3[i] * y[i]
        out[k] += a0
        out[k + 1] += a1
        out[k + 2] += a2
        out[k + 3] += a3
    for k in range(K - K % 4, K):
        x0, a0 = source[base + offsets[k] :][:n], zero
        for i in range(n):
            a0 += x0[i] * y[i]
        out[k] += a0


@jit
def _convolve_lines(start, stop, x, w, out, shape, padding, stride, offsets, line):
    # x (BG, Y, X), w (G, O, K), out (BG, O, Y', X'); a row is an image
    T_y, T_x = out.shape[2:]
    X_q = shape[3]
    phases = np.zeros(shape, x.dtype)
    flat, total = phases.reshape(-1), np.empty(line * X_q, x.dtype)
    for row in range(start, stop):
        _lay(x[row], phases, padding, stride, False)
        for o in range(w.shape[1]):
            for y in range(0, T_y, line):
                lines = min(line, T_y - y)
                some = total[: (lines - 1) * X_q + T_x]
                some[:] = 0
                _add_shifted(flat, offsets, w[row % w.shape[0], o], y * X_q, some)
                for i in range(lines):
                    out[row, o, y + i] = some[i * X_q : i * X_q + T_x]


@jit
def _spread_lines(start, stop, y, w, out, shape, padding, stride, offsets, firsts, line):
    # y (BG, O, Y', X'), w (G, O, K), places sorted by phase; offsets go back from the end of a margin of zeros
    T_y, T_x = y.shape[2:]
    Y_q, X_q = shape[2:]
    phases, behind = np.empty(shape, y.dtype), Y_q * X_q
    flat, padded = phases.reshape(-1), np.zeros((w.shape[1], 2 * behind), y.dtype)
    for row in range(start, stop):
        for o in range(w.shape[1]):
            for i in range(T_y):
                padded[o, behind + i * X_q : behind + i * X_q + T_x] = y[row, o, i]
        flat[:] = 0
        for phase in range(firsts.size - 1):
            places = slice(firsts[phase], firsts[phase + 1])
            for first in range(0, behind, line * X_q):
                last = min(behind, first + line * X_q)
                some = flat[phase * behind + first : phase * behind + last]
                for o in range(w.shape[1]):
                    _add_shifted(padded[o], offsets[places], w[row % w.shape[0], o, places], first, some)
        out[row] = 0
        _lay(out[row], phases, padding, stride, True)


@jit
def _correlate_lines(start, stop, x, y, out, shape, padding, stride, offsets, line):
    # x (BG, Y, X), y (BG, O, Y', X'), out (G, O, K); a row is a group
    T_y, T_x = y.shape[2:]
    G, O = out.shape[:2]
    X_q = shape[3]
    phases, padded = np.zeros(shape, x.dtype), np.zeros(line * X_q, x.dtype)
    flat = phases.reshape(-1)
    for group in range(start, stop):
        out[group] = 0
        for row in range(group, x.shape[0], G):
            _lay(x[row], phases, padding, stride, False)
            for o in range(O):
                for first in range(0, T_y, line):
                    lines = min(line, T_y - first)
                    for i in range(lines):
                        padded[i * X_q : i * X_q + T_x] = y[row, o, first + i]
                    some = padded[: (lines - 1) * X_q + T_x]
                    _add_products(flat, offsets, some, first * X_q, out[group, o])


class _Lines:
    """Where the places of windows see an image that is laid out in phases."""

    def __init__(self, windows: Any):
        kernel, stride, dilation, reach = (_two(v) for v in (
            windows.kernel, windows.stride, windows.dilation, windows.reach))  # fmt: skip
        self.stride, self.padding = stride, _two(windows.padding, 0)
        self.size, self.count = _two(windows.size), _two(windows.count)
        self.shape = (*stride, *(-(-r // s) for r, s in zip(reach, stride, strict=True)))
        y, x = np.arange(kernel[0])[:, None] * dilation[0], np.arange(kernel[1]) * dilation[1]
        self.phase = (y % stride[0] * stride[1] + x % stride[1]).reshape(-1)
        self.inside = (y // stride[0] * self.shape[3] + x // stride[1]).reshape(-1)
        self.area = self.shape[2] * self.shape[3]
        self.line = max(1, LINE // self.shape[3])


def _two(values: tuple[int, ...], before: int = 1) -> tuple[int, int]:
    """One axis is two, the first of them with one value."""
    y, x = (before, *values)[-2:]
    return y, x


# -- patches: one product -----------------------------------------------------------------------------------------


def tiles_whole(windows: Any) -> bool:
    """Whether the windows are patches that cover the array, each value once."""
    return (
        windows.stride == windows.kernel
        and not any(windows.padding)
        and all(d == 1 or k == 1 for d, k in zip(windows.dilation, windows.kernel, strict=True))
        and all(n == t * k for n, t, k in zip(windows.size, windows.count, windows.kernel, strict=True))
    )


def _patches(x: np.ndarray, windows: Any) -> np.ndarray:
    """x (B, G, C, *S) -> (B, G, T, CK)."""
    B, G, C = x.shape[:3]
    (k_y, k_x), (t_y, t_x) = _two(windows.kernel), _two(windows.count)
    x = np.ascontiguousarray(x).reshape(B, G, C, t_y, k_y, t_x, k_x).transpose(0, 1, 3, 5, 2, 4, 6)
    return x.reshape(B, G, t_y * t_x, C * k_y * k_x)


def _from_patches(rows: np.ndarray, windows: Any) -> np.ndarray:
    """Transposes ``_patches``."""
    B, G = rows.shape[:2]
    (k_y, k_x), (t_y, t_x) = _two(windows.kernel), _two(windows.count)
    x = rows.reshape(B, G, t_y, t_x, -1, k_y, k_x).transpose(0, 1, 4, 2, 5, 3, 6)
    return np.ascontiguousarray(x.reshape(B, G, -1, *windows.size))


# -- the three maps -----------------------------------------------------------------------------------------------


def _geometry(windows: Any) -> tuple[int, ...]:
    parts = (windows.kernel, windows.stride, windows.dilation)
    return (windows.count[-1], *(n for part in parts for n in _two(part)), *_two(windows.padding, 0))


def _images(x: np.ndarray, windows: Any) -> np.ndarray:
    """(B, G, C, *S) -> (B, G C, Y, X), contiguous."""
    return np.ascontiguousarray(x).reshape(len(x), x.shape[1] * x.shape[2], *_two(windows.size))


def convolve(x: np.ndarray, w: np.ndarray, *, windows: Any, threads: int) -> np.ndarray:
    (B, G, C), O, T = x.shape[:3], w.shape[1], math.prod(windows.count)
    out = np.empty((B, G, O, *windows.count), x.dtype)
    if 0 in out.shape or 0 in x.shape:
        out[:] = 0
        return out
    matrix = np.ascontiguousarray(w).reshape(G, O, -1)
    work = O * matrix.shape[2]
    if tiles_whole(windows):
        return product.matmul(matrix, _patches(x, windows).swapaxes(-1, -2), threads=threads).reshape(out.shape)
    if C == 1 < G:
        n = _Lines(windows)
        offsets = n.phase * n.area + n.inside
        images, y = np.ascontiguousarray(x).reshape(B * G, *n.size), out.reshape(B * G, O, *n.count)
        rest = (n.shape, n.padding, n.stride, offsets, n.line)
        over_rows(_convolve_lines, B * G, images, matrix, y, *rest, threads=threads, least=1 + WORTH // (work * T))
        return out
    tile = _tile(windows)
    rows, least = B * G * -(-T // tile), 1 + WORTH // (work * tile)
    rest = (matrix, out.reshape(B, G, O, T), _geometry(windows), tile)
    with blas_alone():
        over_rows(_convolve_tiles, rows, _images(x, windows), *rest, threads=threads, least=least)
    return out


def spread(y: np.ndarray, w: np.ndarray, *, windows: Any, threads: int) -> np.ndarray:
    (B, G, O), C, T = y.shape[:3], w.shape[2], math.prod(windows.count)
    x = np.empty((B, G, C, *windows.size), y.dtype)
    if 0 in y.shape or 0 in x.shape:
        x[:] = 0
        return x
    y, matrix = np.ascontiguousarray(y).reshape(B, G, O, T), np.ascontiguousarray(w).reshape(G, O, -1)
    work = O * math.prod(windows.kernel) * T
    if tiles_whole(windows):
        columns = product.matmul(matrix.swapaxes(-1, -2), y, threads=threads)
        return _from_patches(columns.swapaxes(-1, -2), windows)
    if C == 1 < G:
        n = _Lines(windows)
        order = np.argsort(n.phase, kind="stable")
        firsts = np.searchsorted(n.phase[order], np.arange(n.shape[0] * n.shape[1] + 1))
        matrix = np.ascontiguousarray(matrix[..., order])
        rest = (n.shape, n.padding, n.stride, n.area - n.inside[order], firsts, n.line)
        arrays = (y.reshape(B * G, O, *n.count), matrix, x.reshape(B * G, *n.size))
        over_rows(_spread_lines, B * G, *arrays, *rest, threads=threads, least=1 + WORTH // work)
        return x
    together = min(C, CHANNELS)
    rows, least = B * G * -(-C // together), 1 + WORTH // (work * together)
    arrays = (y, np.ascontiguousarray(matrix.swapaxes(-1, -2)), x.reshape(B, G * C, *_two(windows.size)))
    with blas_alone():
        rest = (_geometry(windows), _tile(windows), together)
        over_rows(_spread_tiles, rows, *arrays, *rest, threads=threads, least=least)
    return x


def correlate(x: np.ndarray, y: np.ndarray, *, windows: Any, threads: int) -> np.ndarray:
    (B, G, C), O, T = x.shape[:3], y.shape[2], math.prod(windows.count)
    K = math.prod(windows.kernel)
    if 0 in y.shape or 0 in x.shape:
        return np.zeros((G, O, C, *windows.kernel), x.dtype)
    y = np.ascontiguousarray(y).reshape(B, G, O, T)
    if tiles_whole(windows):
        rows = np.ascontiguousarray(_patches(x, windows).swapaxes(0, 1)).reshape(G, B * T, C * K)
        columns = np.ascontiguousarray(y.transpose(1, 2, 0, 3)).reshape(G, O, B * T)
        return product.matmul(columns, rows, threads=threads).reshape(G, O, C, *windows.kernel)
    if C == 1 < G:
        n = _Lines(windows)
        w = np.empty((G, O, K), x.dtype)
        images, y = np.ascontiguousarray(x).reshape(B * G, *n.size), y.reshape(B * G, O, *n.count)
        rest = (n.shape, n.padding, n.stride, n.phase * n.area + n.inside, n.line)
        over_rows(_correlate_lines, G, images, y, w, *rest, threads=threads, least=1 + WORTH // (B * O * K * T))
        return w.reshape(G, O, 1, *windows.kernel)
    tile, together = _tile(windows), min(C, CHANNELS)
    rows = G * -(-C // together)
    parts = min(B * -(-T // tile), -(-PARTS // rows))
    w = np.empty((parts, G, O, C * K), x.dtype)
    with blas_alone():
        rest = (y, w, _geometry(windows), tile, together)
        least = 1 + WORTH * parts // (B * O * together * K * T)
        over_rows(_correlate_tiles, parts * rows, _images(x, windows), *rest, threads=threads, least=least)
    return w.sum(axis=0).reshape(G, O, C, *windows.kernel)
