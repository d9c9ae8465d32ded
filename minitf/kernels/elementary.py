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
    """exp(x) within 1 unit in the last place."""
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


# -- functions made of exp and polynomials ------------------------------------------------------------------------
# Coefficients: least squares at 400 Chebyshev nodes in float64, weighted by the relative error of the function and
# reweighted towards the smallest maximum (Lawson).


@jit
def sigmoid_float32(x):
    """1 / (1 + exp(-x)) within 2.3 units in the last place."""
    e = exp_float32(-abs(x))
    return (np.float32(1.0) if x >= 0 else e) / (np.float32(1.0) + e)


@jit
def sigmoid_float64(x):
    """1 / (1 + exp(-x)), from the mathematical library's exponential."""
    e = math.exp(-abs(x))
    return (1.0 if x >= 0 else e) / (1.0 + e)


sigmoid = ByDtype(sigmoid_float32, sigmoid_float64)


@jit
def tanh_float32(x):
    """tanh(x) within 1.3 units in the last place: an odd polynomial below 0.625, 1 - 2 / (1 + exp(2 |x|)) above."""
    a = abs(x)
    z = a * a
    p = np.float32(2.1475368478e-03)
    p = p * z + np.float32(-8.1826738438e-03)
    p = p * z + np.float32(2.1702967100e-02)
    p = p * z + np.float32(-5.3947204268e-02)
    p = p * z + np.float32(1.3333209764e-01)
    p = p * z + np.float32(-3.3333330907e-01)
    near = a + a * (z * p)
    far = np.float32(1.0) - np.float32(2.0) / (np.float32(1.0) + exp_float32(np.float32(2.0) * a))
    return np.copysign(near if a < np.float32(0.625) else far, x)


@jit
def tanh_float64(x):
    """The mathematical library's tanh(x)."""
    return math.tanh(x)


tanh = ByDtype(tanh_float32, tanh_float64)


@jit
def erf_float32(x):
    """The error function within 2.2 units in the last place: x P(x²) below 1, 1 - exp(-Q(|x|)) above, 1 from 4 on."""
    a = abs(x)
    z = a * a
    p = np.float32(-9.6415161340e-06)
    p = p * z + np.float32(1.1256947929e-04)
    p = p * z + np.float32(-8.4828288489e-04)
    p = p * z + np.float32(5.2209454332e-03)
    p = p * z + np.float32(-2.6865400042e-02)
    p = p * z + np.float32(1.1283781974e-01)
    p = p * z + np.float32(-3.7612638435e-01)
    near = a * (p * z) + a * np.float32(1.1283791671)
    b = min(a, np.float32(4.0))
    q = np.float32(2.1496113953e-05)
    q = q * b + np.float32(-4.3910637713e-04)
    q = q * b + np.float32(4.1936111066e-03)
    q = q * b + np.float32(-2.5178967851e-02)
    q = q * b + np.float32(1.0837247866e-01)
    q = q * b + np.float32(6.3326261213e-01)
    q = q * b + np.float32(1.1295568304)
    q = q * b + np.float32(-1.8344415318e-04)
    far = np.float32(1.0) - exp_float32(-q)
    y = np.copysign(near if a < np.float32(1.0) else far, x)
    return y if x == x else x


@jit
def erf_float64(x):
    """The mathematical library's erf(x)."""
    return math.erf(x)


erf = ByDtype(erf_float32, erf_float64)


@jit
def log_float32(x):
    """log(x) within 0.8 units in the last place: x = 2^n m with m in [sqrt(1/2), sqrt(2)), a polynomial in m - 1."""
    y = x * np.float32(2.0**25) if x < np.float32(2.0**-126) else x  # subnormal numbers
    bits = np.float32(y).view(np.int32)
    n = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    m = np.int32(bits - np.int32(n << np.int32(23))).view(np.float32)
    e = np.float32(n) - (np.float32(25.0) if x < np.float32(2.0**-126) else np.float32(0.0))
    f = m - np.float32(1.0)
    z = f * f
    p = np.float32(6.7466013382e-02)
    p = p * f + np.float32(-1.1675641364e-01)
    p = p * f + np.float32(1.1888174627e-01)
    p = p * f + np.float32(-1.2405591407e-01)
    p = p * f + np.float32(1.4219550903e-01)
    p = p * f + np.float32(-1.6667995668e-01)
    p = p * f + np.float32(2.0002118733e-01)
    p = p * f + np.float32(-2.5000009604e-01)
    p = p * f + np.float32(3.3333312603e-01)
    small = f * z * p + e * LN2_LOW
    result = f + (small - np.float32(0.5) * z) + e * LN2_HIGH
    if x == np.float32(np.inf) or x != x:
        return x
    if x > 0:
        return result
    return np.float32(-np.inf) if x == 0 else np.float32(np.nan)


@jit
def log_float64(x):
    """The mathematical library's log(x)."""
    if x > 0:
        return math.log(x)
    return -np.inf if x == 0 else np.nan


log = ByDtype(log_float32, log_float64)


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
