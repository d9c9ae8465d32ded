"""Products of 8-bit integers, exact, and 8-bit codes of blocks of numbers.

    int_matmul(x, w)_mn = sum_k x_mk w_kn                                   int8 in, int32 out
    scaled_int_matmul   = sum_s float(sum_{k in slice s} x_mk w_kn) X_ms W_sn

The second is the product of two quantized matrices, dequantized: an exact sum inside each slice of inputs, one float
multiplication a slice, slices added in order. One slice with scales a row of x and a column of w is the usual W8A8 product,
one slice for 32 inputs with scales a 32x32 tile is Jetfire's, and one for a group of weights is MixPE's.

Block-wise codes cut an array of any shape into blocks of consecutive elements with one scale each, for optimizer states:

    scale = max|x| / 127,   code = rint(x * (127 / max|x|))        |scale code - x| <= scale / 2, up to rounding

A block of zeros, or of numbers so small that 127 / max|x| overflows, has scale 1 and codes 0. One with an infinity or a
NaN has scale NaN and codes 0, so that it comes back as NaN.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import largest
from minitf.kernels.gathered import add_product
from minitf.kernels.pool import over_rows

#: products of two int8 numbers whose sum cannot leave int32
LONGEST = (2**31 - 1) // 128**2
#: a tile of the output, and the rows of w that are made int32 at a time for it
TALL, WIDE, STRIP = 128, 256, 16
#: elements that are worth a thread of their own when each is touched once
WORTH = 1 << 15


@jit
def _tile(x, w, first, last, n, strip, y):
    """y (m, columns) = x[:, first:last] @ w[first:last, n : n + columns] in int32; strip is scratch space."""
    every = np.arange(STRIP)
    y[:] = 0
    for k in range(first, last, STRIP):
        rows = min(STRIP, last - k)
        for i in range(rows):
            for j in range(y.shape[1]):
                strip[i, j] = w[k + i, n + j]
        add_product(y, x[:, k : k + rows], strip, every[:rows])


@jit
def _int_tiles(start, stop, x, w, out):
    M, N = out.shape
    across = (N + WIDE - 1) // WIDE
    strip, space = np.empty((STRIP, WIDE), np.int32), np.empty(TALL * WIDE, np.int32)
    for tile in range(start, stop):
        m, n = tile // across * TALL, tile % across * WIDE
        tall, wide = min(TALL, M - m), min(WIDE, N - n)
        y = space[: tall * wide].reshape(tall, wide)
        _tile(x[m : m + tall], w, 0, w.shape[0], n, strip, y)
        for i in range(tall):
            for j in range(wide):
                out[m + i, n + j] = y[i, j]


@jit
def _scaled_tiles(start, stop, x, w, x_scale, w_scale, out):
    M, N = out.shape
    slices = w_scale.shape[0]
    length = x.shape[1] // slices
    across = (N + WIDE - 1) // WIDE
    strip, space = np.empty((STRIP, WIDE), np.int32), np.empty(TALL * WIDE, np.int32)
    for tile in range(start, stop):
        m, n = tile // across * TALL, tile % across * WIDE
        tall, wide = min(TALL, M - m), min(WIDE, N - n)
        y = space[: tall * wide].reshape(tall, wide)
        for i in range(tall):
            out[m + i, n : n + wide] = 0
        for s in range(slices):
            _tile(x[m : m + tall], w, s * length, (s + 1) * length, n, strip, y)
            for i in range(tall):
                for j in range(wide):
                    out[m + i, n + j] += out.dtype.type(y[i, j]) * (x_scale[m + i, s] * w_scale[s, n + j])


def _tiles(M: int, N: int) -> int:
    return math.ceil(M / TALL) * math.ceil(N / WIDE)


def _checked(what: str, x: np.ndarray, w: np.ndarray) -> None:
    for name, a in (("x", x), ("w", w)):
        if a.dtype != np.int8 or a.ndim != 2:
            raise ValueError(f"{what}: {name} must be an int8 matrix, got {a.dtype} {a.shape}")
    if x.shape[1] != len(w):
        raise ValueError(f"{what}: the inner lengths of {x.shape} @ {w.shape} differ")


def int_matmul(x: np.ndarray, w: np.ndarray, *, threads: int) -> np.ndarray:
    """x (M, K) @ w (K, N), exact: int32, or int64 where K > 131071 and int32 might be too narrow.

    Raises ValueError unless x and w are int8 matrices that fit.
    """
    _checked("int_matmul", x, w)
    M, K, N = *x.shape, w.shape[1]
    if K > LONGEST:
        total = np.zeros((M, N), np.int64)
        for k in range(0, K, LONGEST):
            total += int_matmul(x[:, k : k + LONGEST], w[k : k + LONGEST], threads=threads)
        return total
    out = np.empty((M, N), np.int32)
    over_rows(_int_tiles, _tiles(M, N), np.ascontiguousarray(x), np.ascontiguousarray(w), out, threads=threads)
    return out


def _each(scale: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Scales of equal cells as an array (rows, columns)."""
    a, b = scale.shape
    if not a or not b or rows % a or columns % b:
        raise ValueError(f"scaled_int_matmul: scales {scale.shape} do not cut ({rows}, {columns}) into equal cells")
    return np.repeat(np.repeat(scale, rows // a, 0), columns // b, 1)


def scaled_int_matmul(
    x: np.ndarray, w: np.ndarray, x_scale: np.ndarray, w_scale: np.ndarray, *, threads: int
) -> np.ndarray:
    """The product of x (M, K) and w (K, N), int8, with scales of cells: (M, N) in the scales' dtype.

    x_scale (a, s) and w_scale (s, b): a divides M, b divides N, and s, which divides K, is the number of slices; an s of 1
    goes with any other. (M, 1) is a scale for each row, (M / 32, K / 32) one for each 32x32 tile.
    Raises ValueError if the shapes do not fit.
    """
    _checked("scaled_int_matmul", x, w)
    M, K, N = *x.shape, w.shape[1]
    slices = max(x_scale.shape[1], w_scale.shape[0])
    if not slices or K % slices or K // slices > LONGEST:
        raise ValueError(f"scaled_int_matmul: {slices} slices of {K} inputs; they must be equal, and at most {LONGEST}")
    scales = _each(x_scale, M, slices), _each(w_scale, slices, N)
    out = np.empty((M, N), x_scale.dtype)
    arrays = np.ascontiguousarray(x), np.ascontiguousarray(w), *scales
    over_rows(_scaled_tiles, _tiles(M, N), *arrays, out, threads=threads)
    return out


# -- codes of blocks ----------------------------------------------------------------------------------------------


@jit
def _quantize_blocks(start, stop, x, block, codes, scale):
    number = x.dtype.type
    sizes = np.empty(block, x.dtype)
    for b in range(start, stop):
        part, code = x[b * block : (b + 1) * block], codes[b * block : (b + 1) * block]
        for i in range(part.size):
            sizes[i] = abs(part[i])
        top = largest(sizes[: part.size])
        if not top < np.inf:
            scale[b] = np.nan
            code[:] = 0
            continue
        inverse = number(127) / top if top > 0 else number(0)
        if not inverse < np.inf:
            inverse = number(0)
        for i in range(part.size):
            code[i] = np.int8(np.rint(part[i] * inverse))
        scale[b] = top / number(127) if inverse > 0 else number(1)


@jit
def _dequantize_blocks(start, stop, codes, scale, block, out):
    for b in range(start, stop):
        for i in range(b * block, min((b + 1) * block, codes.size)):
            out[i] = scale[b] * scale.dtype.type(codes[i])


def quantize_blocks(x: np.ndarray, *, block: int = 256, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """(codes, scale) of x: int8 of x's shape, and a scale for every ``block`` elements in row-major order."""
    codes, scale = np.empty(x.shape, np.int8), np.empty(math.ceil(x.size / block), x.dtype)
    flat = np.ascontiguousarray(x).reshape(-1), block, codes.reshape(-1)
    over_rows(_quantize_blocks, scale.size, *flat, scale, threads=threads, least=WORTH // block)
    return codes, scale


def dequantize_blocks(codes: np.ndarray, scale: np.ndarray, *, block: int = 256, threads: int) -> np.ndarray:
    """scale times codes, of codes' shape and scale's dtype.

    Raises ValueError unless there is one scale for every ``block`` codes.
    """
    if scale.size != math.ceil(codes.size / block):
        raise ValueError(f"dequantize_blocks: {scale.size} scales for {codes.size} codes in blocks of {block}")
    out = np.empty(codes.shape, scale.dtype)
    arrays = np.ascontiguousarray(codes).reshape(-1), np.ascontiguousarray(scale), block, out.reshape(-1)
    over_rows(_dequantize_blocks, scale.size, *arrays, threads=threads, least=WORTH // block)
    return out


# -- twins --------------------------------------------------------------------------------------------------------


def int_matmul_twin(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (x.astype(np.int64) @ w.astype(np.int64)).astype(np.int32 if x.shape[1] <= LONGEST else np.int64)


def scaled_int_matmul_twin(x: np.ndarray, w: np.ndarray, x_scale: np.ndarray, w_scale: np.ndarray) -> np.ndarray:
    slices = max(x_scale.shape[1], w_scale.shape[0])
    x_scale, w_scale = _each(x_scale, len(x), slices), _each(w_scale, slices, w.shape[1])
    out = np.zeros((len(x), w.shape[1]), x_scale.dtype)
    for a, b, s, t in zip(np.split(x, slices, 1), np.split(w, slices), x_scale.T, w_scale, strict=True):
        out += int_matmul_twin(a, b).astype(out.dtype) * np.outer(s, t)
    return out


def quantize_blocks_twin(x: np.ndarray, *, block: int = 256) -> tuple[np.ndarray, np.ndarray]:
    codes, scale = np.zeros(x.size, np.int8), np.ones(math.ceil(x.size / block), x.dtype)
    for b in range(scale.size):
        part = x.reshape(-1)[b * block : (b + 1) * block]
        top = np.max(np.abs(part))
        inverse = x.dtype.type(127) / top
        if not np.isfinite(top):
            scale[b] = np.nan
        elif np.isfinite(inverse):
            scale[b] = top / 127
            codes[b * block : (b + 1) * block] = np.rint(part * inverse)
    return codes.reshape(x.shape), scale


def dequantize_blocks_twin(codes: np.ndarray, scale: np.ndarray, *, block: int = 256) -> np.ndarray:
    return np.repeat(scale, block)[: codes.size].reshape(codes.shape) * codes.astype(scale.dtype)
