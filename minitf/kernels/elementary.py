"""Elementary functions that kernels call on single numbers; the compiler makes vectors of them.

A library's ``exp`` is a call that no loop can be vectorized around. Here the argument is reduced to a short interval and
a polynomial does the rest, with nothing but additions, multiplications and integer arithmetic on the exponent:

    exp(x) = 2^n exp(r),    n = round(x / ln 2),    r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2]

NaN stays NaN, overflow is infinite, underflow gradual.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.kernels.compile import ByDtype, jit

LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts; n times the first is exact.
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
SIGN_AND_REST_32 = np.int32(0x7FFFFFFF)
SIGN_AND_REST_64 = np.int64(0x7FFFFFFFFFFFFFFF)


@jit
def exp_float32(x):
    """exp(x) within 0.7 units in the last place."""
    y = min(max(x, np.float32(-104.0)), np.float32(89.0))
    n = np.float32(np.rint(y * LOG2_E))
    r = y - n * LN2_HIGH
    r = r - n * LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = (p * r) * r + r + np.float32(1.0)
    # 2^n as a product of two powers, so that subnormal results are rounded once
    whole = np.int32(n)
    half = np.int32(whole >> np.int32(1))
    p = p * _power_of_two(half) * _power_of_two(np.int32(whole - half))
    return p if x == x else x


@jit
def _power_of_two(n):
    return np.int32(np.int32(n + np.int32(127)) << np.int32(23)).view(np.float32)


@jit
def exp_float64(x):
    """The mathematical library's exp(x)."""
    return math.exp(x)


exp = ByDtype(exp_float32, exp_float64)


# -- the largest of many ------------------------------------------------------------------------------------------
# Read as integers, floating numbers of one sign are ordered as they are, and integer maxima can be vectorized. NaN with
# a positive sign is above infinity, so it wins.


@jit
def largest_float32(x):
    """The largest element of a contiguous array, -inf if there is none."""
    top = np.int32(-0x7F800001)  # what -inf becomes
    for i in range(x.size):
        bits = np.float32(x[i]).view(np.int32)
        top = max(top, np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & SIGN_AND_REST_32)))
    return np.int32(top ^ np.int32(np.int32(top >> np.int32(31)) & SIGN_AND_REST_32)).view(np.float32)


@jit
def largest_float64(x):
    """The largest element of a contiguous array, -inf if there is none."""
    top = np.int64(-0x7FF0000000000001)
    for i in range(x.size):
        bits = np.float64(x[i]).view(np.int64)
        top = max(top, np.int64(bits ^ ((bits >> np.int64(63)) & SIGN_AND_REST_64)))
    return np.int64(top ^ ((top >> np.int64(63)) & SIGN_AND_REST_64)).view(np.float64)


largest = ByDtype(largest_float32, largest_float64)
