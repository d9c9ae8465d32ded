"""Elementary functions that kernels call on single numbers; the compiler makes vectors of loops that do.

No loop can be vectorized around a call of a library's function. Here the argument is reduced to a short interval where a
polynomial does the rest, without branches, by arithmetic on numbers and on their bits:

    exp(x) = 2^n exp(r)                 n = round(x / ln 2),  r = x - n ln 2
    log(x) = n ln 2 + log(1 + r)        x = 2^n (1 + r),  1 + r in [sqrt(1/2), sqrt(2))
    sin(x) = ±sin(r) or ±cos(r)         k = round(x / (π/2)),  r = x - k π/2
    tanh(x) = x + x³ p(x²),             far from 0: 1 - 2 / (exp(2x) + 1)
    erf(x) = x + x p(x²),               far from 0: 1 - exp(-q(x))

A function is written once for both formats and gets what differs as a ``Format``. NaN, infinities, signed zeros, subnormal
numbers are what IEEE 754 says. Largest errors are in units in the last place, ulp, of the right result; those in float32 are
over all 2^32 numbers.

Polynomials are least-squares fits at Chebyshev nodes, in 50 digits, weighted by what their error does to the result:
``fitted`` in tests/kernels/test_elementary.py, which computes every coefficient again. The lowest power comes first.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minitf.kernels.compile import ByDtype, jit


class Format(NamedTuple):
    """What depends on the format: patterns of bits (uint64 for both formats), numbers, coefficients."""

    width: np.uint64  # of the fraction, in bits
    fraction: np.uint64  # its bits
    bias: np.uint64  # of the exponent
    one: np.uint64  # the pattern of 1
    root_half: np.uint64  # the pattern of sqrt(1/2)
    integers: np.uint64  # the pattern of 2^width: or-ed to a small integer m, that of 2^width + m
    rounder: Any  # added to x, leaves round(x) + 2 bias in the lowest bits
    normal: Any  # the least normal number
    lift: Any  # 2^width makes a subnormal number normal
    negligible: Any  # 1 + x² is 1, amply
    log2_e: Any
    ln2: tuple[Any, Any]  # in two parts; a whole exponent times the first is exact
    limits: tuple[Any, Any]  # exp is 0 below, infinite above
    exp: tuple[Any, ...]
    log: tuple[Any, ...]
    tanh: tuple[Any, ...]
    erf: tuple[Any, ...]
    erfc: tuple[Any, ...]


def _format(number: Any, pattern: Any, **tables: tuple[float, ...]) -> Format:
    width, bias = np.finfo(number).nmant, np.finfo(number).maxexp - 1
    patterns = (width, 2**width - 1, bias, *(number(x).view(pattern) for x in (1, 0.5**0.5, 2.0**width)))
    numbers = (1.5 * 2.0**width + 2 * bias, 2.0 ** (1 - bias), 2.0**width, 2.0 ** -(width + 5), 1 / math.log(2))
    fixed: list[Any] = [*map(np.uint64, patterns), *map(number, numbers)]
    return Format(*fixed, **{name: tuple(map(number, table)) for name, table in tables.items()})


FLOAT32 = _format(
    np.float32,
    np.uint32,
    ln2=(0.693359375, -0.00021219444005469057),
    limits=(-104.0, 89.0),
    exp=(0.49999988079071045, 0.166665181517601, 0.04166954383254051, 0.00836898759007454, 0.0013751150108873844),
    log=(0.6666677594184875, 0.3997734487056732, 0.29876095056533813),
    tanh=(-0.3333331346511841, 0.13332445919513702, -0.05383696034550667, 0.021006036549806595, -0.006178273353725672),
    erf=(0.12837916612625122, -0.3761262595653534, 0.11283597350120544, -0.02685432881116867, 0.005189312156289816,
         -0.0008018855005502701, 7.882497448008507e-05),
    erfc=(-0.0001911711151478812, 1.1295924186706543, 0.6331934928894043, 0.1084456518292427, -0.02522457204759121,
          0.004210335202515125, -0.00044244687887839973, 2.1776386347482912e-05),
)  # fmt: skip
FLOAT64 = _format(
    np.float64,
    np.uint64,
    ln2=(0.6931471805598903, 5.497923018708371e-14),
    limits=(-746.0, 710.0),
    exp=(0.5, 0.16666666666666685, 0.041666666666665776, 0.008333333333316597, 0.001388888888922092,
         0.00019841269897334714, 2.480158676867849e-05, 2.755723400105895e-06, 2.755769193962958e-07,
         2.5112314553413735e-08, 2.0797638664678626e-09),
    log=(0.6666666666666736, 0.3999999999940507, 0.2857142874413889, 0.22222198419192385, 0.1818357138419732,
         0.15313888042339555, 0.1479743510950102),
    tanh=(-0.33333333333333276, 0.13333333333323025, -0.05396825396168748, 0.021869488326648003, -0.008863231631258829,
          0.0035920822189843813, -0.0014554795669901738, 0.0005881836945117115, -0.00023271696287566462,
          8.236262561358165e-05, -1.89052813355841e-05),
    erf=(0.12837916709551256, -0.37612638903183543, 0.1128379167094513, -0.026866170643256995, 0.005223977607269946,
         -0.0008548325982543225, 0.00012055295112667001, -1.4924740785377576e-05, 1.6447471190594618e-06,
         -1.6208829856810202e-07, 1.3721520406351094e-08, -7.798543850549947e-10),
    erfc=(5.25530610055349e-07, 1.1283738752344383, 0.6366445675882951, 0.1027008999186594, -0.01898544054561009,
          -0.0004171020651739851, 0.001922650075452321, -0.0007760226343185617, 0.00013843208229647933,
          1.8591234887288997e-05, -2.2168398241704738e-05, 8.46709272682243e-06, -2.0883233454373484e-06,
          3.648123420213575e-07, -4.530923031074751e-08, 3.833569578436844e-09, -1.9889327194207288e-10,
          4.7841387941070134e-12),
)  # fmt: skip

FAR = 2.0**17
#: π/2 in three parts; k times the first two is exact, up to FAR
QUARTER = (1.5707963267923333, 2.5633441515839558e-12, 1.0562999066987428e-23)
#: ``Format.rounder``, without the bias
ROUNDER = 1.5 * 2.0**52
SINE_32 = (-0.16666666640854103, 0.00833332931756719, -0.00019839316661256668, 2.7181614070561434e-06)
COSINE_32 = (0.041666646175557244, -0.0013887338404663823, 2.4435488561819194e-05)
SINE_64 = (-0.1666666666666663, 0.008333333333322163, -0.00019841269829635886, 2.7557313638646975e-06,
           -2.5050750457922032e-08, 1.5896380489058125e-10)  # fmt: skip
COSINE_64 = (0.041666666666666595, -0.0013888888888873544, 2.480158728915706e-05, -2.755731426635828e-07,
             2.0875712413598632e-09, -1.1359119378157048e-11)  # fmt: skip


# -- bits ---------------------------------------------------------------------------------------------------------


@jit(inline=True)
def _bits_float32(x):
    return np.uint64(np.float32(x).view(np.uint32))


@jit(inline=True)
def _bits_float64(x):
    return np.float64(x).view(np.uint64)


@jit(inline=True)
def _from_bits_float32(like, bits):
    return np.uint32(bits).view(np.float32)


@jit(inline=True)
def _from_bits_float64(like, bits):
    return np.uint64(bits).view(np.float64)


bits_of = ByDtype(_bits_float32, _bits_float64)
#: the number with these bits, in the format of the first argument
from_bits = ByDtype(_from_bits_float32, _from_bits_float64)


@jit(inline=True)
def polynomial(x, coefficients):
    """The sum of coefficients[k] x^k."""
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


# -- exponentials -------------------------------------------------------------------------------------------------


@jit(inline=True)
def _between(x, low, high):
    """The nearest number of the interval; NaN stays NaN, which min and max would lose."""
    x = low if x < low else x
    return high if x > high else x


@jit(inline=True)
def _by_ln2(x, f):
    """n + 2 bias, high, low, rest of x = n ln 2 + (high - low) and exp(high - low) = 1 + (high - low) + rest."""
    shifted = x * f.log2_e + f.rounder
    n = shifted - f.rounder
    high, low = x - n * f.ln2[0], n * f.ln2[1]
    r = high - low
    return bits_of(shifted) & np.uint64(0xFFF), high, low, r * r * polynomial(r, f.exp)


@jit(inline=True)
def _exp(x, f):
    one = type(x)(1)
    exponent, high, low, rest = _by_ln2(_between(x, f.limits[0], f.limits[1]), f)
    total = one + high
    p = total + (((one - total) + high - low) + rest)
    # 2^n as a product of two powers, so that subnormal results are rounded once
    half = exponent >> np.uint64(1)
    return p * from_bits(x, half << f.width) * from_bits(x, (exponent - half) << f.width)


@jit(inline=True)
def _expm1(x, f):
    number = type(x)
    exponent, high, low, rest = _by_ln2(_between(x, number(-40), f.limits[1]), f)
    # half of everything, for the largest power of two is no number
    power = from_bits(x, (exponent - f.bias - np.uint64(1)) << f.width)
    whole, part = power - number(0.5), power * high
    total = whole + part
    p = total + (((whole - total) + part) + power * (rest - low))
    return p + p if abs(x) > f.negligible else x


@jit(inline=True)
def _sigmoid(x, f):
    one = type(x)(1)
    t = _exp(-abs(x), f)
    return (one if x >= 0 else t) / (one + t)


@jit(inline=True)
def _tanh(x, f):
    number = type(x)
    size = abs(x)
    z = x * x
    near = x + x * (z * polynomial(z, f.tanh))
    far = number(1) - number(2) / (_exp(size + size, f) + number(1))
    return np.copysign(near if size < number(0.5625) else far, x)


@jit(inline=True)
def _erf(x, f):
    number = type(x)
    size = min(abs(x), number(6))
    z = size * size
    near = x + x * polynomial(z, f.erf)
    far = number(1) - _exp(-(polynomial(z, f.erfc[::2]) + size * polynomial(z, f.erfc[1::2])), f)
    return near if size < number(1) else np.copysign(far, x)


# -- logarithms ---------------------------------------------------------------------------------------------------


@jit(inline=True)
def _split(x, f):
    """Of positive x = 2^n (1 + r), 1 + r in [sqrt(1/2), sqrt(2)): n + bias as an integer and n, r as numbers."""
    number = type(x)
    bits = bits_of(x) - f.root_half + f.one
    exponent = bits >> f.width
    n = from_bits(x, exponent | f.integers) - (f.lift + number(f.bias))
    return exponent, n, from_bits(x, (bits & f.fraction) + f.root_half) - number(1)


@jit(inline=True)
def _log_of(n, r, lost, f):
    """n ln 2 + log(1 + r + lost), lost within a rounding error of r; s is tanh(log(1 + r) / 2)."""
    number = type(r)
    half = number(0.5) * r * r
    s = r / (number(2) + r)
    z = s * s
    return n * f.ln2[0] + (r - (half - (s * (half + z * polynomial(z, f.log)) + (n * f.ln2[1] + lost))))


@jit(inline=True)
def _log(x, f):
    number = type(x)
    subnormal = x < f.normal
    _, n, r = _split(x * f.lift if subnormal else x, f)
    p = _log_of(n - number(f.width) if subnormal else n, r, number(0), f)
    p = p if x > 0 else number(-np.inf) if x == 0 else number(np.nan)
    return p if x < np.inf else x


@jit(inline=True)
def _log1p(x, f):
    number = type(x)
    one = number(1)
    y = one + x
    exponent, n, high = _split(y, f)
    back = y - one
    # what the sum has lost, times 2^-n
    lost = ((one - (y - back)) + (x - back)) * from_bits(x, (f.bias + f.bias - exponent) << f.width)
    lost = lost if x < f.lift else number(0)
    r = high + lost
    p = _log_of(n, r, (high - r) + lost, f)
    p = p if x > -1 else number(-np.inf) if x == -1 else number(np.nan)
    return p if abs(x) > f.negligible and x < np.inf else x


# -- sine and cosine, in float64 ------------------------------------------------------------------------------------
# They are NaN from FAR on, where a reduction would need hundreds of digits of π; ``sines`` and ``cosines`` know no limit.


@jit(inline=True)
def _quarters(x):
    """|x|, the number k of quarter turns nearest to it, and k as an integer in the lowest bits."""
    size = abs(x) if abs(x) < FAR else np.nan
    shifted = size * (2 / math.pi) + ROUNDER
    return size, shifted - ROUNDER, bits_of(shifted)


@jit(inline=True)
def _turned(r, low, quarters, sine, cosine):
    """sin(r + low + quarters π/2), low within a rounding error of r."""
    z = r * r
    half = 0.5 * z
    whole = 1 - half
    s = r + (r * (z * polynomial(z, sine)) + low * whole)
    c = whole + (((1 - whole) - half) + (z * z * polynomial(z, cosine) - r * low))
    p = c if quarters & np.uint64(1) else s
    return from_bits(p, bits_of(p) ^ ((quarters & np.uint64(2)) << np.uint64(62)))


@jit(inline=True)
def _sin_of_size_float32(x, quarters):
    """sin(|x| + quarters π/2)."""
    size, k, turns = _quarters(np.float64(x))
    r = (size - k * QUARTER[0]) - k * (QUARTER[1] + QUARTER[2])
    return _turned(r, 0.0, turns + quarters, SINE_32, COSINE_32)


@jit(inline=True)
def _sin_of_size_float64(x, quarters):
    """sin(|x| + quarters π/2)."""
    size, k, turns = _quarters(x)
    high = size - k * QUARTER[0]
    middle = high - k * QUARTER[1]
    low = ((high - middle) - k * QUARTER[1]) - k * QUARTER[2]
    r = middle + low
    return _turned(r, (middle - r) + low, turns + quarters, SINE_64, COSINE_64)


@jit
def sines(x, out):
    """out = sin(x) for arrays, all numbers allowed; those from FAR on are the library's, and slow."""
    far = False
    for i in range(x.size):
        out[i] = sin(x[i])
        far |= abs(x[i]) >= FAR
    if far:
        for i in range(x.size):
            if abs(x[i]) >= FAR:
                out[i] = math.sin(np.float64(x[i]))


@jit
def cosines(x, out):
    """out = cos(x) for arrays, all numbers allowed; those from FAR on are the library's, and slow."""
    far = False
    for i in range(x.size):
        out[i] = cos(x[i])
        far |= abs(x[i]) >= FAR
    if far:
        for i in range(x.size):
            if abs(x[i]) >= FAR:
                out[i] = math.cos(np.float64(x[i]))


# -- by name ------------------------------------------------------------------------------------------------------


@jit(inline=True)
def exp_float32(x):
    """exp(x) within 0.79 ulp"""
    return _exp(x, FLOAT32)


@jit(inline=True)
def exp_float64(x):
    """exp(x) within 0.68 ulp"""
    return _exp(x, FLOAT64)


@jit(inline=True)
def expm1_float32(x):
    """exp(x) - 1 within 1.1 ulp"""
    return _expm1(x, FLOAT32)


@jit(inline=True)
def expm1_float64(x):
    """exp(x) - 1 within 1.1 ulp"""
    return _expm1(x, FLOAT64)


@jit(inline=True)
def sigmoid_float32(x):
    """1 / (1 + exp(-x)) within 2.41 ulp"""
    return _sigmoid(x, FLOAT32)


@jit(inline=True)
def sigmoid_float64(x):
    """1 / (1 + exp(-x)) within 2.4 ulp"""
    return _sigmoid(x, FLOAT64)


@jit(inline=True)
def tanh_float32(x):
    """tanh(x) within 1.46 ulp"""
    return _tanh(x, FLOAT32)


@jit(inline=True)
def tanh_float64(x):
    """tanh(x) within 1.45 ulp"""
    return _tanh(x, FLOAT64)


@jit(inline=True)
def erf_float32(x):
    """erf(x) within 1.3 ulp"""
    return _erf(x, FLOAT32)


@jit(inline=True)
def erf_float64(x):
    """erf(x) within 1.4 ulp"""
    return _erf(x, FLOAT64)


@jit(inline=True)
def log_float32(x):
    """log(x) within 0.85 ulp"""
    return _log(x, FLOAT32)


@jit(inline=True)
def log_float64(x):
    """log(x) within 0.8 ulp"""
    return _log(x, FLOAT64)


@jit(inline=True)
def log1p_float32(x):
    """log(1 + x) within 0.9 ulp"""
    return _log1p(x, FLOAT32)


@jit(inline=True)
def log1p_float64(x):
    """log(1 + x) within 0.85 ulp"""
    return _log1p(x, FLOAT64)


@jit(inline=True)
def sin_float32(x):
    """sin(x) within 0.51 ulp, for |x| < FAR."""
    return np.float32(np.copysign(1.0, x) * _sin_of_size_float32(x, np.uint64(0)))


@jit(inline=True)
def sin_float64(x):
    """sin(x) within 0.8 ulp, for |x| < FAR."""
    return np.copysign(1.0, x) * _sin_of_size_float64(x, np.uint64(0))


@jit(inline=True)
def cos_float32(x):
    """cos(x) within 0.51 ulp, for |x| < FAR."""
    return np.float32(_sin_of_size_float32(x, np.uint64(1)))


@jit(inline=True)
def cos_float64(x):
    """cos(x) within 0.8 ulp, for |x| < FAR."""
    return _sin_of_size_float64(x, np.uint64(1))


exp = ByDtype(exp_float32, exp_float64)
expm1 = ByDtype(expm1_float32, expm1_float64)
sigmoid = ByDtype(sigmoid_float32, sigmoid_float64)
tanh = ByDtype(tanh_float32, tanh_float64)
erf = ByDtype(erf_float32, erf_float64)
log = ByDtype(log_float32, log_float64)
log1p = ByDtype(log1p_float32, log1p_float64)
sin = ByDtype(sin_float32, sin_float64)
cos = ByDtype(cos_float32, cos_float64)


# -- the largest of many ------------------------------------------------------------------------------------------
# Read as integers, floating numbers of one sign are ordered as they are, and integer maxima can be vectorized. NaN with
# a positive sign is above infinity, so it wins.


SIGN_AND_REST_32 = np.int32(0x7FFFFFFF)
SIGN_AND_REST_64 = np.int64(0x7FFFFFFFFFFFFFFF)


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
