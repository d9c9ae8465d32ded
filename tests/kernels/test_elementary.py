"""Elementary functions: largest errors, special values, vectors, the same bits everywhere, where coefficients are from."""

import math
import platform
import re
from functools import partial

import mpmath
import numba
import numpy as np
import pytest
import scipy.special
from mpmath import mp

from minitf.kernels import elementary
from minitf.kernels.compile import jit
from minitf.kernels.elementary import cos, cosines, erf, exp, expm1, largest, log, log1p, sigmoid, sin, sines, tanh

FAR = elementary.FAR
FORMATS = {"float32": elementary.FLOAT32, "float64": elementary.FLOAT64}
DTYPES = pytest.mark.parametrize("dtype", FORMATS)


@jit
def loop_exp(x, out):
    for i in range(x.size):
        out[i] = exp(x[i])


@jit
def loop_expm1(x, out):
    for i in range(x.size):
        out[i] = expm1(x[i])


@jit
def loop_sigmoid(x, out):
    for i in range(x.size):
        out[i] = sigmoid(x[i])


@jit
def loop_tanh(x, out):
    for i in range(x.size):
        out[i] = tanh(x[i])


@jit
def loop_erf(x, out):
    for i in range(x.size):
        out[i] = erf(x[i])


@jit
def loop_log(x, out):
    for i in range(x.size):
        out[i] = log(x[i])


@jit
def loop_log1p(x, out):
    for i in range(x.size):
        out[i] = log1p(x[i])


@jit
def loop_sin(x, out):
    for i in range(x.size):
        out[i] = sin(x[i])


@jit
def loop_cos(x, out):
    for i in range(x.size):
        out[i] = cos(x[i])


@jit(reorder=True)
def loop_reordered(x, out):
    for i in range(x.size):
        out[i] = exp(x[i]) + (sin(x[i]) + cos(x[i])) * 0


#: the loop, the reference for float32 (in float64), the reference for float64, and where that one's arguments are from
FUNCTIONS = {
    "exp": (loop_exp, np.exp, mpmath.exp, (-746, 710)),
    "expm1": (loop_expm1, np.expm1, mpmath.expm1, (-40, 710)),
    "sigmoid": (loop_sigmoid, scipy.special.expit, lambda x: 1 / (1 + mpmath.exp(-x)), (-746, 40)),
    "tanh": (loop_tanh, np.tanh, mpmath.tanh, (-20, 20)),
    "erf": (loop_erf, scipy.special.erf, mpmath.erf, (-6.5, 6.5)),
    "log": (loop_log, np.log, mpmath.log, (0, 1e6)),
    "log1p": (loop_log1p, np.log1p, mpmath.log1p, (-1, 1e6)),
    "sin": (loop_sin, np.sin, mpmath.sin, (-FAR, FAR)),
    "cos": (loop_cos, np.cos, mpmath.cos, (-FAR, FAR)),
}
NAMES = pytest.mark.parametrize("name", FUNCTIONS)


def applied(name, x):
    out = np.empty_like(x)
    FUNCTIONS[name][0](x, out)
    return out


def same_bits(got, want):
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


# -- accuracy -----------------------------------------------------------------------------------------------------


def stated(name, dtype):
    """The largest error, as the docstring states it."""
    return float(re.search(r"within (\S+) ulp", getattr(elementary, f"{name}_{dtype}").__doc__)[1])


def float32_error(name, bits):
    """In units in the last place of the right answer; where that is no finite float32, the two must be the same."""
    x = bits.astype(np.uint32).view(np.float32)
    if name in ("sin", "cos"):
        x = x[np.abs(x) < FAR]
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name][1](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    got, finite = applied(name, x), np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    last = np.spacing(np.abs(rounded[finite])).astype(np.float64)
    return float((np.abs(got[finite] - exact[finite]) / last).max(initial=0))


@NAMES
def test_largest_error_over_float32_numbers(name):
    assert float32_error(name, np.arange(0, 2**32, 8009)) <= stated(name, "float32")


@pytest.mark.slow
@NAMES
def test_largest_error_over_many_more_float32_numbers(name):
    for start in range(0, 2**32, 2**26):
        assert float32_error(name, np.arange(start, start + 2**26, 31)) <= stated(name, "float32")


def float64_error(name, x):
    """In units in the last place of the right answer, to 40 digits."""
    with mp.workdps(40):
        exact = [FUNCTIONS[name][2](mp.mpf(float(v))) for v in x]
        last = np.spacing([abs(float(w)) for w in exact])
        return max(abs(g - w) / u for g, w, u in zip(applied(name, x).tolist(), exact, last.tolist(), strict=True))


def float64_arguments(name, n):
    """Everywhere, of every size, and where one formula ends and the other begins."""
    low, high = FUNCTIONS[name][3]
    rng = np.random.default_rng(0)
    spread = np.copysign(np.exp(rng.uniform(-700, math.log(high), n // 3)), rng.uniform(-1, 1, n // 3))
    x = np.concatenate([rng.uniform(low, high, n // 3), spread, rng.normal(0, 1, n // 3)])
    return x[(x > low) & (x < high)]


@NAMES
@pytest.mark.parametrize("n", [1200, pytest.param(60_000, marks=pytest.mark.slow)])
def test_largest_error_in_float64(name, n):
    assert float64_error(name, float64_arguments(name, n)) <= stated(name, "float64")


@pytest.mark.parametrize(("name", "odd"), [("sin", 0), ("cos", 1)])
def test_next_to_the_zeros_of_sine_and_cosine(name, odd):
    with mp.workdps(60):
        quarter = int(mp.pi / 2 * 2**160)
    zeros = [k * quarter for k in range(2 - odd, int(FAR * 2 / math.pi), 2)]
    nearest = sorted((abs(z - int(z / 2**160 * 2.0**160)), z / 2**160) for z in zeros)
    assert float64_error(name, np.array([x for _, x in nearest[:300]])) <= stated(name, "float64")


# -- values -------------------------------------------------------------------------------------------------------

SPECIAL = [
    (exp, [(0.0, 1.0), (-math.inf, 0.0), (math.inf, math.inf), (1e30, math.inf), (-1e30, 0.0)]),
    (expm1, [(0.0, 0.0), (-math.inf, -1.0), (math.inf, math.inf), (1e30, math.inf), (-1e30, -1.0), (1e-40, 1e-40)]),
    (sigmoid, [(0.0, 0.5), (-math.inf, 0.0), (math.inf, 1.0), (1e30, 1.0), (-1e30, 0.0)]),
    (tanh, [(0.0, 0.0), (-math.inf, -1.0), (math.inf, 1.0), (1e-40, 1e-40), (-20.0, -1.0)]),
    (erf, [(0.0, 0.0), (-math.inf, -1.0), (math.inf, 1.0), (-7.0, -1.0)]),
    (log, [(1.0, 0.0), (0.0, -math.inf), (-0.0, -math.inf), (math.inf, math.inf), (-1.0, math.nan), (-math.inf, math.nan)]),
    (log1p, [(0.0, 0.0), (-1.0, -math.inf), (math.inf, math.inf), (-2.0, math.nan), (-math.inf, math.nan), (1e-40, 1e-40)]),
    (sin, [(0.0, 0.0), (math.inf, math.nan), (-math.inf, math.nan), (1e-40, 1e-40), (FAR, math.nan), (-1e30, math.nan)]),
    (cos, [(0.0, 1.0), (math.inf, math.nan), (-math.inf, math.nan), (1e-40, 1.0), (FAR, math.nan), (-1e30, math.nan)]),
]  # fmt: skip


@DTYPES
@pytest.mark.parametrize(("function", "pairs"), SPECIAL)
def test_special_values(function, pairs, dtype):
    number = np.dtype(dtype).type
    for x, want in [*pairs, (math.nan, math.nan)]:
        np.testing.assert_array_equal(number(function(number(x))), number(want))
    if pairs[0] == (0.0, 0.0):
        assert math.copysign(1, function(number(-0.0))) == -1


@DTYPES
@pytest.mark.parametrize(("name", "reference"), [("exp", np.exp), ("log", np.log), ("log1p", np.log1p)])
def test_the_ends_of_the_range(name, reference, dtype):
    limits = np.finfo(dtype)
    ends = {
        "exp": [math.log(limits.max), math.log(limits.tiny), math.log(limits.smallest_subnormal)],
        "log": [limits.max, limits.tiny, limits.smallest_subnormal],
        "log1p": [limits.max, limits.eps, limits.smallest_subnormal, -limits.epsneg],
    }[name]
    x = np.array(ends, dtype)
    with np.errstate(all="ignore"):
        x = np.concatenate([np.nextafter(x, -np.inf), x, np.nextafter(x, np.inf)])
        want = reference(x)
    np.testing.assert_array_max_ulp(applied(name, x)[want == want], want[want == want], 1)


@DTYPES
@pytest.mark.parametrize(("name", "one"), [("tanh", 20), ("erf", 6), ("sigmoid", 40)])
def test_saturation_is_monotone(name, one, dtype):
    x = np.linspace(one / 4, one, 50_001).astype(dtype)
    y = applied(name, x)
    assert np.all(y[1:] >= y[:-1])
    assert y[-1] == 1
    if name != "sigmoid":
        same_bits(applied(name, -x), -y)


@DTYPES
@pytest.mark.parametrize(("function", "name", "reference"), [(sines, "sin", np.sin), (cosines, "cos", np.cos)])
def test_sines_of_all_numbers(function, name, reference, dtype):
    rng = np.random.default_rng(0)
    near = rng.uniform(-FAR, FAR, 1000).astype(dtype)
    far = np.array([FAR, -FAR, 1e6, -3e9, 1e22, np.finfo(dtype).max, np.inf, np.nan], dtype)
    x = np.concatenate([near, far])
    out = np.empty_like(x)
    function(near, out[:1000])
    same_bits(out[:1000], applied(name, near))
    function(x, out)
    same_bits(out[:1000], applied(name, near))
    with np.errstate(invalid="ignore"):
        want = reference(far.astype(np.float64)).astype(dtype)
    np.testing.assert_allclose(out[1000:], want, rtol=np.finfo(dtype).eps)


# -- loops --------------------------------------------------------------------------------------------------------


def numbers(dtype):
    rng = np.random.default_rng(0)
    odd = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30], dtype)
    return rng.permutation(np.concatenate([odd, (8 * rng.standard_normal(1000)).astype(dtype)]))


@DTYPES
@NAMES
def test_loop_and_single_call_agree_bit_for_bit(name, dtype):
    x = numbers(dtype)
    function = getattr(elementary, f"{name}_{dtype}")
    same_bits(applied(name, x), np.array([function(v) for v in x], dtype))
    same_bits(applied(name, x[1:].copy()), applied(name, x)[1:])


@DTYPES
def test_the_order_inside_is_kept_in_loops_that_reorder(dtype):
    x = np.linspace(-80, 80, 1001).astype(dtype)
    out = np.empty_like(x)
    loop_reordered(x, out)
    same_bits(out, applied("exp", x))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the assembly of another processor")
@DTYPES
@pytest.mark.parametrize(
    "name", [n if n in ("erf", "log1p", "sin") else pytest.param(n, marks=pytest.mark.slow) for n in FUNCTIONS]
)
def test_loops_become_vectors(name, dtype):
    loop = FUNCTIONS[name][0]
    loop.dispatcher()
    fresh = numba.njit(fastmath=set(loop.arithmetic))(loop.function)  # what comes from disk shows no code
    fresh(*np.ones((2, 1), dtype))
    assert re.search(r"(mul|fn?m(add|sub)\d+)p[sd]\b.*[xyz]mm", "".join(fresh.inspect_asm().values()))


@DTYPES
def test_the_largest_of_many(dtype):
    rng = np.random.default_rng(0)
    for n in (0, 1, 7, 8, 33):
        x = rng.standard_normal(n).astype(dtype)
        assert largest(x) == max(x, default=-math.inf)
        assert largest(-np.abs(x)) == max(-np.abs(x), default=-math.inf)
    assert largest(np.array([-math.inf, -math.inf], dtype)) == -math.inf
    assert largest(np.array([-1.0, math.inf], dtype)) == math.inf
    assert math.isnan(largest(np.array([math.nan, math.inf], dtype)))


# -- coefficients -------------------------------------------------------------------------------------------------


def fitted(function, low, high, weight, n):
    """The n coefficients of the polynomial whose weighted squared error at 4n Chebyshev nodes is least."""
    nodes = [(low + high + (high - low) * mp.cospi((2 * i + 1) / mp.mpf(8 * n))) / 2 for i in range(4 * n)]
    powers = mp.matrix([[weight(x) * x**k for k in range(n)] for x in nodes])
    return list(mp.qr_solve(powers, mp.matrix([weight(x) * function(x) for x in nodes]))[0])


def series(function, terms, power):
    """(function(√z) - its first terms in √z) / √z^power"""

    def rest(z):
        s = mp.sqrt(z)
        return (function(s) - sum(c * s**k for k, c in terms.items())) / s**power

    return rest


def fits(erf_end):
    """What is fitted, from where to where, with which weight."""
    half, eighth = mp.log(2) / 2 * mp.mpf("1.001"), (mp.pi / 4) ** 2 * mp.mpf("1.001")
    return {
        "exp": (lambda r: (mp.expm1(r) - r) / r**2, -half, half, lambda r: r**2 * mp.exp(-r)),
        "log": (series(lambda s: 2 * mp.atanh(s), {1: 2}, 3), 0, ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2, abs),
        "tanh": (series(mp.tanh, {1: 1}, 3), 0, mp.mpf("0.5625") ** 2, abs),
        "erf": (series(mp.erf, {1: 1}, 1), 0, 1, lambda z: 1),
        "erfc": (lambda x: -mp.log(mp.erfc(x)), 1, erf_end, mp.erfc),
        "sine": (series(mp.sin, {1: 1}, 3), 0, eighth, abs),
        "cosine": (series(mp.cos, {0: 1, 2: mp.mpf(-1) / 2}, 4), 0, eighth, lambda z: z**2),
    }


@pytest.mark.parametrize(("dtype", "erf_end"), [("float32", 3.875), pytest.param("float64", 6, marks=pytest.mark.slow)])
def test_where_coefficients_are_from(dtype, erf_end):
    number = np.dtype(dtype).type
    with mp.workdps(50):
        for name, fit in fits(mp.mpf(erf_end)).items():
            if name in ("sine", "cosine"):
                table, number = getattr(elementary, f"{name.upper()}_{dtype[-2:]}"), np.float64
            else:
                table = getattr(FORMATS[dtype], name)
            assert table == tuple(map(number, fitted(*fit, len(table)))), name


@DTYPES
def test_constants_in_parts(dtype):
    high, low = map(float, FORMATS[dtype].ln2)
    with mp.workdps(50):
        assert abs(mp.ln2 - high - low) < abs(low) * np.finfo(dtype).eps
        assert abs(mp.pi / 2 - sum(map(mp.mpf, elementary.QUARTER))) < 1e-38
    exact = partial(math.frexp, high)
    assert (exact()[0] * 2 ** (np.finfo(dtype).nmant + 1 - (8 if dtype == "float32" else 11))).is_integer()
    for part in elementary.QUARTER[:2]:
        assert (math.frexp(part)[0] * 2**36).is_integer()
