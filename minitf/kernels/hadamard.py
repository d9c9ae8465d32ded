"""Rotations and what is hashed with them.

    walsh_hadamard(x)_i = sum_j (-1)^popcount(i & j) x_j          n log2(n) additions for n^2
    lsh_buckets(x, R)   = argmax [x R ; -x R]                     2b buckets by the nearest of b random axes, either way
    sign_hashes(x, P)   = sum_j [x . P_j >= 0] 2^j                one bit for each random plane

The transform has log2(n) equal stages: sums of neighbors fill the first half, differences the second. A stage replaces the
lowest bit of an index by a bit of the result's and moves it to the top, so after all of them every bit is where it was.
It is its own inverse up to the factor n, and with ``orthonormal``, divided by sqrt(n), itself.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import largest
from minitf.kernels.pool import over_rows

#: elements that are worth a thread of their own
WORTH = 1 << 14


@jit
def _stage(x, sums, differences):
    for i in range(sums.size):
        a, b = x[2 * i], x[2 * i + 1]
        sums[i], differences[i] = a + b, a - b


@jit
def _transform_rows(start, stop, x, factor, out):
    n = x.shape[1]
    half = n // 2
    here, there = np.empty(n, x.dtype), np.empty(n, x.dtype)
    for i in range(start, stop):
        for j in range(n):
            here[j] = x[i, j] * factor
        length = 1
        while length < n:
            _stage(here, there[:half], there[half:])
            here, there = there, here
            length *= 2
        for j in range(n):
            out[i, j] = here[j]


@jit
def _bucket_rows(start, stop, h, out):
    """argmax of [h ; -h]: the first h that is max|h|, or else the first -h; the first NaN if there is one."""
    b = h.shape[1]
    sizes = np.empty(b, h.dtype)
    for i in range(start, stop):
        row = h[i]
        for j in range(b):
            sizes[j] = abs(row[j])
        top = largest(sizes)
        j = 0
        if top == top:
            while j < 2 * b and (row[j] if j < b else -row[j - b]) != top:
                j += 1
        else:
            while row[j] == row[j]:
                j += 1
        out[i] = j


@jit
def _sign_rows(start, stop, h, out):
    for i in range(start, stop):
        bits = np.uint64(0)
        for j in range(h.shape[1]):
            bits |= np.uint64(h[i, j] >= 0) << np.uint64(j)
        out[i] = bits


def walsh_hadamard(x: np.ndarray, *, orthonormal: bool = False, threads: int) -> np.ndarray:
    """The transform along the last axis, in natural (Sylvester's) order: x @ H with H_ij = (-1)^popcount(i & j).

    orthonormal: divide by the root of the length. Raises ValueError unless the length is a power of two.
    """
    n = x.shape[-1]
    factor = _factor(x, orthonormal)
    out = np.empty(x.shape, x.dtype)
    rows = np.ascontiguousarray(x).reshape(-1, n)
    over_rows(_transform_rows, len(rows), rows, factor, out.reshape(-1, n), threads=threads, least=max(1, WORTH // n))
    return out


def _factor(x: np.ndarray, orthonormal: bool) -> np.floating:
    n = x.shape[-1]
    if n < 1 or n & (n - 1):
        raise ValueError(f"walsh_hadamard: the last axis must have a power of two of elements, got {n}")
    return x.dtype.type(1 / math.sqrt(n) if orthonormal else 1)


def lsh_buckets(x: np.ndarray, rotations: np.ndarray, *, threads: int) -> np.ndarray:
    """The bucket of x (*, E) in each round: argmax of [x R ; -x R], ties to the lowest, (*, rounds) in 0 .. 2b - 1.

    rotations: (E, rounds, b), normal for a random hash. Raises ValueError if the widths differ or b is 0.
    """
    h = _projected("lsh_buckets", x, rotations)
    out = np.empty(h.shape[:-1], np.int64)
    rows = h.reshape(-1, h.shape[-1])
    least = max(1, WORTH // h.shape[-1])
    over_rows(_bucket_rows, len(rows), rows, out.reshape(-1), threads=threads, least=least)
    return out


def sign_hashes(x: np.ndarray, planes: np.ndarray, *, threads: int) -> np.ndarray:
    """For x (*, E) the bits [x . planes[:, j] >= 0], j-th lowest first, as one uint64 each: (*).

    planes: (E, bits). Two hashes differ in popcount(a ^ b) bits, on average angle / pi of them.
    Raises ValueError if the widths differ or there are no planes or more than 64.
    """
    if planes.shape[-1] > 64:
        raise ValueError(f"sign_hashes: a hash has at most 64 bits, got {planes.shape[-1]} planes")
    h = _projected("sign_hashes", x, planes)
    out = np.empty(h.shape[:-1], np.uint64)
    over_rows(_sign_rows, out.size, h.reshape(-1, h.shape[-1]), out.reshape(-1), threads=threads, least=WORTH // 64)
    return out


def _projected(what: str, x: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """x (*, E) @ onto (E, *others): the one product, by BLAS, whose bits kernel and twin read."""
    if x.shape[-1] != len(onto) or not onto.shape[-1]:
        raise ValueError(f"{what}: x {x.shape} needs directions of its width and at least one, got {onto.shape}")
    flat = np.ascontiguousarray(x).reshape(-1, len(onto)) @ np.ascontiguousarray(onto, x.dtype).reshape(len(onto), -1)
    return flat.reshape(*x.shape[:-1], *onto.shape[1:])


# -- twins --------------------------------------------------------------------------------------------------------


def walsh_hadamard_twin(x: np.ndarray, *, orthonormal: bool = False) -> np.ndarray:
    i = np.arange(x.shape[-1])
    signs = 1 - 2 * (np.bitwise_count(i[:, None] & i) % 2).astype(x.dtype)
    return (x * _factor(x, orthonormal)) @ signs


def lsh_buckets_twin(x: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    h = _projected("lsh_buckets", x, rotations)
    return np.argmax(np.concatenate([h, -h], axis=-1), axis=-1)


def sign_hashes_twin(x: np.ndarray, planes: np.ndarray) -> np.ndarray:
    bits = (_projected("sign_hashes", x, planes) >= 0).astype(np.uint64)
    return bits @ (np.uint64(1) << np.arange(planes.shape[1], dtype=np.uint64))
