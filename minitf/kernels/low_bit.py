"""Products with weights of four bits, or of three values, as they are packed.

    int4_matmul      x @ W,  W_kn = scale_gn (code_kn - zero_gn)      codes 0 .. 15, g the group of inputs that has k
    ternary_matmul   x @ W,  W_kn = scale_n code_kn                   codes -1, 0, 1

The float matrix never exists as a whole. For one row of x (decoding) a weight is used as it is unpacked; for a few, a strip
of weights is unpacked into the innermost cache, used for all rows and forgotten. Sums run in the order of k, and the bits of
a row do not depend on the rows beside it. A product with -1, 0 or 1 is exact, so the ternary sum is one of additions and
subtractions: exact in int32 for int8 x, and for floats rounded as the sum in this order is. From ROWS rows on, panels of
columns are unpacked for BLAS.

Two 4-bit codes share a byte, of consecutive inputs: code[2j] + 16 code[2j + 1], packed (⌈K / 2⌉, N). Four ternary ones do,
of outputs ⌈N / 4⌉ apart: sum_i (code[:, n + i ⌈N / 4⌉] + 1) 4^i, packed (K, ⌈N / 4⌉), which is the transpose of the layout
that bitnet-b158 has for W as (outputs, inputs). Either way neighbors in a row of bytes stay neighbors.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.gathered import add_product
from minitf.kernels.integer import LONGEST
from minitf.kernels.pool import over_rows
from minitf.kernels.product import matmul

#: rows of x from which it pays to unpack for BLAS, and the columns that are unpacked for it, or used for a single row
ROWS, PANEL = 12, 512
#: inputs and outputs of a strip of weights
STRIP, WIDE = 16, 256


# -- four bits ----------------------------------------------------------------------------------------------------


@jit
def _unpack_int4(first, last, packed, scale, zero, group, n, w):
    """Rows first:last of W, columns from n on, into the first rows of w."""
    number = w.dtype.type
    for k in range(first, last):
        codes, s, z = packed[k // 2, n:], scale[k // group, n:], zero[k // group, n:]
        row = w[k - first]
        if k % 2 == 0:
            for j in range(row.size):
                row[j] = (number(codes[j] & 15) - z[j]) * s[j]
        else:
            for j in range(row.size):
                row[j] = (number(codes[j] >> 4) - z[j]) * s[j]


@jit
def _int4_columns(start, stop, x, packed, scale, zero, group, out):
    """Panels of WIDE columns of the output."""
    M, K = x.shape
    N = packed.shape[1]
    every = np.arange(STRIP)
    for panel in range(start, stop):
        n = panel * WIDE
        wide = min(WIDE, N - n)
        y, strip = np.zeros((M, wide), x.dtype), np.empty((STRIP, wide), x.dtype)
        for k in range(0, K, STRIP):
            last = min(k + STRIP, K)
            _unpack_int4(k, last, packed, scale, zero, group, n, strip)
            add_product(y, x[:, k:last], strip, every[: last - k])
        for i in range(M):
            for j in range(wide):
                out[i, n + j] = y[i, j]


@jit
def _int4_one(start, stop, x, packed, scale, zero, group, out):
    """Panels of PANEL columns for one row of x, whose weights are used as they come."""
    number, N = x.dtype.type, packed.shape[1]
    for panel in range(start, stop):
        here = slice(panel * PANEL, min((panel + 1) * PANEL, N))
        y = out[here]
        y[:] = 0
        for k in range(x.size):
            codes, s, z, x_k = packed[k // 2, here], scale[k // group, here], zero[k // group, here], x[k]
            if k % 2 == 0:
                for j in range(codes.size):
                    y[j] += x_k * ((number(np.int32(codes[j] & 15)) - z[j]) * s[j])
            else:
                for j in range(codes.size):
                    y[j] += x_k * ((number(np.int32(codes[j] >> 4)) - z[j]) * s[j])


@jit
def _int4_rows(start, stop, packed, scale, zero, group, n, w):
    """Rows of W, columns from n on, for BLAS."""
    _unpack_int4(start, stop, packed, scale, zero, group, n, w[start:])


def pack_int4(codes: np.ndarray) -> np.ndarray:
    """Codes 0 .. 15 (K, N), two a byte: (⌈K / 2⌉, N).

    Raises ValueError for other codes.
    """
    if codes.size and not 0 <= codes.min() <= codes.max() <= 15:
        raise ValueError(f"pack_int4: codes must be in 0 .. 15, got {codes.min()} .. {codes.max()}")
    codes = np.pad(codes.astype(np.uint8), ((0, len(codes) % 2), (0, 0)))
    return codes[0::2] | codes[1::2] << 4


def unpack_int4(packed: np.ndarray, K: int) -> np.ndarray:
    """The codes (K, N)."""
    return np.stack([packed & 15, packed >> 4], axis=1).reshape(2 * len(packed), packed.shape[1])[:K]


def int4_matmul(x: np.ndarray, packed: np.ndarray, scale: np.ndarray, zero: np.ndarray, *, threads: int) -> np.ndarray:
    """x (M, K) @ W (K, N), from codes packed (⌈K / 2⌉, N): (M, N).

    scale: (groups, N), each for K / groups consecutive inputs. zero: the code that stands for 0, broadcast against scale and
    not necessarily whole; 8 for codes of signed numbers.
    Raises ValueError if the shapes do not fit.
    """
    (M, K), N, groups = x.shape, packed.shape[1], len(scale)
    if len(packed) != math.ceil(K / 2) or scale.shape[1] != N or not groups or K % groups:
        raise ValueError(f"int4_matmul: x {x.shape}, packed {packed.shape} and scale {scale.shape} do not fit")
    group = max(K // groups, 1)
    zero = np.ascontiguousarray(np.broadcast_to(zero, scale.shape), x.dtype)
    weights = np.ascontiguousarray(packed), np.ascontiguousarray(scale, x.dtype), zero, group
    x, out = np.ascontiguousarray(x), np.empty((M, N), x.dtype)
    if M == 1:
        over_rows(_int4_one, math.ceil(N / PANEL), x[0], *weights, out[0], threads=threads)
        return out
    if M < ROWS:
        over_rows(_int4_columns, math.ceil(N / WIDE), x, *weights, out, threads=threads)
        return out
    space = np.empty(K * min(PANEL, N), x.dtype)
    for n in range(0, N, PANEL):
        w = space[: K * min(PANEL, N - n)].reshape(K, -1)
        over_rows(_int4_rows, K, *weights, n, w, threads=threads, least=STRIP)
        out[:, n : n + PANEL] = matmul(x, w, threads=threads)
    return out


# -- three values -------------------------------------------------------------------------------------------------


@jit
def _unpack_ternary(first, last, packed, n, w):
    """Rows first:last of the codes, bytes from n on, into the first rows of w (rows, 4, bytes)."""
    number = w.dtype.type
    for k in range(first, last):
        codes = packed[k, n:]
        for quarter in range(4):
            row = w[k - first, quarter]
            for j in range(row.size):
                row[j] = number((codes[j] >> 2 * quarter & 3) - 1)


@jit
def _ternary_columns(start, stop, x, packed, out):
    """Panels of WIDE columns of the output (M, 4, ⌈N / 4⌉)."""
    M, K = x.shape
    every = np.arange(STRIP)
    for panel in range(start, stop):
        n = panel * (WIDE // 4)
        wide = min(WIDE // 4, packed.shape[1] - n)
        y, strip = np.zeros((M, 4 * wide), out.dtype), np.empty((STRIP, 4, wide), out.dtype)
        for k in range(0, K, STRIP):
            last = min(k + STRIP, K)
            _unpack_ternary(k, last, packed, n, strip)
            add_product(y, x[:, k:last], strip.reshape(STRIP, 4 * wide), every[: last - k])
        for i in range(M):
            for quarter in range(4):
                for j in range(wide):
                    out[i, quarter, n + j] = y[i, quarter * wide + j]


@jit
def _ternary_one(start, stop, x, packed, out):
    """Panels of PANEL columns for one row of x, whose weights are used as they come; out (4, ⌈N / 4⌉)."""
    number = out.dtype.type
    for panel in range(start, stop):
        here = slice(panel * (PANEL // 4), min((panel + 1) * (PANEL // 4), packed.shape[1]))
        total = np.zeros((4, PANEL // 4), out.dtype)
        for k in range(x.size):
            codes, x_k = packed[k, here], number(x[k])
            for j in range(codes.size):
                code = np.int32(codes[j])
                total[0, j] += x_k * number(np.int32((code & 3) - 1))
                total[1, j] += x_k * number(np.int32((code >> 2 & 3) - 1))
                total[2, j] += x_k * number(np.int32((code >> 4 & 3) - 1))
                total[3, j] += x_k * number(np.int32((code >> 6) - 1))
        out[:, here] = total[:, : packed[0, here].size]


@jit
def _ternary_rows(start, stop, packed, n, w):
    """Rows of the codes, bytes from n on, for BLAS."""
    _unpack_ternary(start, stop, packed, n, w[start:])


def pack_ternary(codes: np.ndarray) -> np.ndarray:
    """Codes -1, 0, 1 (K, N), four a byte: (K, ⌈N / 4⌉).

    Raises ValueError for other codes.
    """
    if not np.isin(codes, (-1, 0, 1)).all():
        raise ValueError(f"pack_ternary: codes must be -1, 0 or 1, got {codes.min()} .. {codes.max()}")
    K, N = codes.shape
    codes = np.pad((codes + 1).astype(np.uint8), ((0, 0), (0, -N % 4))).reshape(K, 4, math.ceil(N / 4))
    return codes[:, 0] | codes[:, 1] << 2 | codes[:, 2] << 4 | codes[:, 3] << 6


def unpack_ternary(packed: np.ndarray, N: int) -> np.ndarray:
    """The codes (K, N), int8."""
    codes = np.concatenate([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    return codes[:, :N].astype(np.int8) - np.int8(1)


def _summed(x: np.ndarray) -> np.dtype:
    """What x's sums are kept in."""
    if x.dtype != np.int8:
        return x.dtype
    if x.shape[1] > LONGEST:
        raise ValueError(f"ternary_matmul: int32 holds sums of at most {LONGEST} inputs, got {x.shape[1]}")
    return np.dtype(np.int32)


def ternary_matmul(
    x: np.ndarray, packed: np.ndarray, N: int, scale: np.ndarray | None = None, *, threads: int
) -> np.ndarray:
    """x (M, K) @ codes (K, N) * scale, from codes packed (K, ⌈N / 4⌉): (M, N).

    x: floating, or int8, whose sums are int32 until a scale makes them its dtype. scale: broadcast against (M, N): a number
    for the whole weight, (N,) for a scale each column, or with those of x already in it.
    Raises ValueError if the shapes do not fit.
    """
    (M, K), quarter = x.shape, packed.shape[1]
    if len(packed) != K or quarter != math.ceil(N / 4):
        raise ValueError(f"ternary_matmul: x {x.shape} and packed {packed.shape} do not fit each other and N = {N}")
    x, packed, dtype = np.ascontiguousarray(x), np.ascontiguousarray(packed), _summed(x)
    out = np.empty((M, 4, quarter), dtype)
    if M == 1:
        over_rows(_ternary_one, math.ceil(4 * quarter / PANEL), x[0], packed, out[0], threads=threads)
    elif M < ROWS or dtype == np.int32:
        panels = math.ceil(4 * quarter / WIDE)
        over_rows(_ternary_columns, panels, x, packed, out, threads=threads)
    else:
        wide = PANEL // 4
        space = np.empty(K * 4 * min(wide, quarter), dtype)
        for n in range(0, quarter, wide):
            w = space[: K * 4 * min(wide, quarter - n)].reshape(K, 4, -1)
            over_rows(_ternary_rows, K, packed, n, w, threads=threads, least=STRIP)
            out[:, :, n : n + wide] = matmul(x, w.reshape(K, -1), threads=threads).reshape(M, 4, -1)
    y = out.reshape(M, 4 * quarter)[:, :N]
    return np.ascontiguousarray(y) if scale is None else y * scale


# -- twins --------------------------------------------------------------------------------------------------------


def int4_matmul_twin(x: np.ndarray, packed: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    K, groups = x.shape[1], len(scale)
    scale, zero = (np.repeat(np.broadcast_to(a, scale.shape), K // groups, axis=0) for a in (scale, zero))
    return x @ (scale * (unpack_int4(packed, K) - zero)).astype(x.dtype)


def ternary_matmul_twin(x: np.ndarray, packed: np.ndarray, N: int, scale: np.ndarray | None = None) -> np.ndarray:
    y = x.astype(_summed(x)) @ unpack_ternary(packed, N).astype(_summed(x))
    return y if scale is None else y * scale
