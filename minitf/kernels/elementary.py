"""Elementary functions that kernels call on single numbers; the compiler makes vectors of them.

A library's ``exp`` is a call that no loop can be vectorized around. Here the argument is reduced to a short interval and
a polynomial does the rest, with nothing but additions, multiplications and integer arithmetic on the exponent:

    exp(x) = 2^n exp(r),    n = round(x / ln 2),    r = x - n ln 2 in [-ln 2 / 2, ln 2 / 2]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.kernels.compile import ByDtype, jit

_f, _i, _u = np.float32, np.int32, np.uint32


def _float32(*coefficients: float) -> tuple[Any, ...]:
    return tuple(np.float32(c) for c in coefficients)


LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts; n times the first is exact.
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.1219444005469058e-4)

EXP_32 = _float32(0.5, 0.1666666716337204, 0.041666463017463684, 0.00833331048488617, 0.0013933731243014336,
                  0.000198910798644647)  # fmt: skip
LOG_32 = _float32(0.3333333134651184, -0.2499999701976776, 0.20000715553760529, -0.1666780263185501, 0.14249058067798615,
                  -0.12425687164068222, 0.11685419827699661, -0.11479733884334564, 0.06971611827611923)  # fmt: skip
TANH_32 = _float32(-0.3333333134651184, 0.13333113491535187, -0.05390942841768265, 0.021309388801455498,
                   -0.00661022774875164)  # fmt: skip
ERF_32 = _float32(0.12837916612625122, -0.3761262595653534, 0.11283594369888306, -0.02685421146452427,
                  0.005189087241888046, -0.000801686430349946, 7.875874871388078e-05)  # fmt: skip
ERFC_32 = _float32(-0.00034092654823325574, 1.1303210258483887, 0.6316697597503662, 0.11023420840501785,
                   -0.026513073593378067, 0.004793608095496893, -0.000604437489528209, 4.700934368884191e-05,
                   -1.6876732615855872e-06)  # fmt: skip

SIGN_AND_REST_32 = np.int32(0x7FFFFFFF)
SIGN_AND_REST_64 = np.int64(0x7FFFFFFFFFFFFFFF)


@jit
def polynomial(x, coefficients):
    """The sum of coefficients[k] x^k."""
    total = coefficients[len(coefficients) - 1]
    for k in range(len(coefficients) - 2, -1, -1):
        total = total * x + coefficients[k]
    return total


@jit
def _power_of_two_float32(n):
    """2^(n - 127), n in 1..254."""
    return _u(_u(n) << _u(23)).view(np.float32)


@jit
def exp_float32(x):
    """exp(x) within 0.85 units in the last place."""
    y = min(max(x, _f(-104)), _f(89))
    n = np.rint(y * LOG2_E)
    high, low = y - n * LN2_HIGH, n * LN2_LOW
    r = high - low
    total = _f(1) + high
    p = total + (((_f(1) - total) + high - low) + r * r * polynomial(r, EXP_32))
    # 2^n as a product of two powers, so that subnormal results are rounded once
    exponent = _u(_i(n) + _i(254))
    half = _u(exponent >> _u(1))
    p = p * _power_of_two_float32(half) * _power_of_two_float32(_u(exponent - half))
    return p if x == x else x


@jit
def expm1_float32(x):
    """exp(x) - 1 within 1.1 units in the last place."""
    y = min(max(x, _f(-18)), _f(89))
    n = np.rint(y * LOG2_E)
    high, low = y - n * LN2_HIGH, n * LN2_LOW
    r = high - low
    # half of everything, for 2^128 is no number
    power = _power_of_two_float32(_i(n) + _i(126))
    whole, part = power - _f(0.5), power * high
    total = whole + part
    p = total + (((whole - total) + part) + power * (r * r * polynomial(r, EXP_32) - low))
    return p + p if abs(x) > _f(1e-30) else x


@jit
def tanh_float32(x):
    """tanh(x) within 1.6 units in the last place."""
    size = abs(x)
    z = x * x
    near = x + x * (z * polynomial(z, TANH_32))
    far = _f(1) - _f(2) / (exp_float32(size + size) + _f(1))
    return np.copysign(near if size < _f(0.55) else far, x)


@jit
def log1p_float32(x):
    """log(1 + x) within 1.0 units in the last place."""
    y = _f(1) + x
    bits = _f(y).view(np.int32)
    n = _i(_i(bits - _i(0x3F3504F3)) >> _i(23))
    back = y - _f(1)
    lost = ((_f(1) - (y - back)) + (x - back)) * _power_of_two_float32(_i(127) - min(n, _i(126)))
    high = _i(bits - _i(n << _i(23))).view(np.float32) - _f(1)
    r = high + lost
    lost = (high - r) + lost
    power = _f(n)
    p = r + (r * r * (r * polynomial(r, LOG_32) - _f(0.5)) + (lost + power * LN2_LOW)) + power * LN2_HIGH
    p = p if x > -1 else _f(-np.inf) if x == -1 else _f(np.nan)
    return p if abs(x) > _f(1e-30) and x < _f(np.inf) else x


@jit
def sigmoid_float32(x):
    """1 / (1 + exp(-x)) within 2.4 units in the last place."""
    t = exp_float32(-abs(x))
    return (_f(1) if x >= 0 else t) / (_f(1) + t)


@jit
def log_float32(x):
    """log(x) within 0.9 units in the last place."""
    tiny = x < _f(1.1754943508222875e-38)
    y = x * _f(8388608) if tiny else x
    bits = _f(y).view(np.int32)
    n = _i(_i(bits - _i(0x3F3504F3)) >> _i(23))
    r = _i(bits - _i(n << _i(23))).view(np.float32) - _f(1)
    power = _f(_i(n - _i(23)) if tiny else n)
    p = r + (r * r * (r * polynomial(r, LOG_32) - _f(0.5)) + power * LN2_LOW) + power * LN2_HIGH
    p = p if x > 0 else _f(-np.inf) if x == 0 else _f(np.nan)
    return p if x < _f(np.inf) else x


@jit
def erf_float32(x):
    """erf(x) within 1.1 units in the last place."""
    size = abs(x)
    near = x + x * polynomial(x * x, ERF_32)
    far = _f(1) - exp_float32(-polynomial(min(size, _f(4)), ERFC_32))
    return near if size < _f(1) else np.copysign(far, x)


@jit
def exp_float64(x):
    """The mathematical library's."""
    return math.exp(x)


@jit
def expm1_float64(x):
    """The mathematical library's."""
    return math.expm1(x)


@jit
def tanh_float64(x):
    """The mathematical library's."""
    return math.tanh(x)


@jit
def sigmoid_float64(x):
    """The mathematical library's."""
    t = math.exp(-abs(x))
    return (1 if x >= 0 else t) / (1 + t)


@jit
def log_float64(x):
    """The mathematical library's."""
    return math.log(x)


@jit
def log1p_float64(x):
    """The mathematical library's."""
    return math.log1p(x)


@jit
def erf_float64(x):
    """The mathematical library's."""
    return math.erf(x)


exp = ByDtype(exp_float32, exp_float64)
expm1 = ByDtype(expm1_float32, expm1_float64)
tanh = ByDtype(tanh_float32, tanh_float64)
sigmoid = ByDtype(sigmoid_float32, sigmoid_float64)
log = ByDtype(log_float32, log_float64)
log1p = ByDtype(log1p_float32, log1p_float64)
erf = ByDtype(erf_float32, erf_float64)


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
