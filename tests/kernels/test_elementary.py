"""Elementary functions: their largest error over all float32 numbers, special values, and that loops become vectors."""

import math
import platform
import re

import mpmath
import numba
import numpy as np
import pytest
import scipy.special

from minitf.kernels import elementary
from minitf.kernels.compile import jit
from minitf.kernels.elementary import erf, exp, expm1, largest, log, log1p, sigmoid, tanh

#: the float64 references
EXACT = {
    "exp": np.exp,
    "expm1": np.expm1,
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "erf": scipy.special.erf,
    "log": np.log,
    "log1p": np.log1p,
}


def stated(name):
    """The largest error in units in the last place, which the docstring states."""
    return float(re.search(r"within (\S+) units", getattr(elementary, f"{name}_float32").__doc__)[1])


@jit
def loop_exp(x, out):
    for i in range(x.size):
        out[i] = exp(x[i])


@jit
def loop_expm1(x, out):
    for i in range(x.size):
        out[i] = expm1(x[i])


@jit
def loop_log1p(x, out):
    for i in range(x.size):
        out[i] = log1p(x[i])


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


LOOPS = {
    "exp": loop_exp,
    "expm1": loop_expm1,
    "sigmoid": loop_sigmoid,
    "tanh": loop_tanh,
    "erf": loop_erf,
    "log": loop_log,
    "log1p": loop_log1p,
}


def applied(name, x):
    out = np.empty_like(x)
    LOOPS[name](x, out)
    return out


def largest_error(name, x):
    """In units in the last place of the right answer; where that is no finite float32, the two must be the same."""
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    got, finite = applied(name, x), np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    last = np.spacing(np.maximum(np.abs(rounded[finite]), np.float32(2.0**-126))).astype(np.float64)
    return float((np.abs(got[finite] - exact[finite]) / last).max(initial=0))


@pytest.mark.parametrize("name", EXACT)
def test_largest_error_over_all_float32_numbers_sampled(name):
    every = np.arange(0, 2**32, 4001, dtype=np.uint64).astype(np.uint32).view(np.float32)
    assert largest_error(name, every) <= stated(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_largest_error_over_all_float32_numbers_sampled_densely(name):
    for start in range(0, 2**32, 2**28):
        x = np.arange(start, start + 2**28, 31, dtype=np.uint64).astype(np.uint32).view(np.float32)
        assert largest_error(name, x) <= stated(name)


@pytest.mark.parametrize("name", EXACT)
def test_float64_is_as_accurate_as_the_mathematical_library(name):
    own = {"sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)), "log1p": lambda v: mpmath.log(1 + v)}
    function = own.get(name) or getattr(mpmath, name)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400) * np.exp(rng.uniform(-6, 4, 400))
    if name in ("log", "log1p"):
        x = np.abs(x)
    with mpmath.workdps(40):
        exact = [function(mpmath.mpf(float(v))) for v in x]
        errors = [
            abs((mpmath.mpf(float(g)) - w) / mpmath.mpf(float(np.spacing(abs(float(w))))))
            for g, w in zip(applied(name, x), exact, strict=True)
            if abs(w) > 1e-300
        ]
    assert max(errors) <= {"tanh": 2.5, "sigmoid": 2.5}.get(name, 1.1)  # the libraries' own tanh is no better


SPECIAL = [
    (exp, [(0.0, 1.0), (-math.inf, 0.0), (math.inf, math.inf), (1e30, math.inf), (-1e30, 0.0)]),
    (sigmoid, [(0.0, 0.5), (-math.inf, 0.0), (math.inf, 1.0), (1e30, 1.0), (-1e30, 0.0)]),
    (tanh, [(0.0, 0.0), (-math.inf, -1.0), (math.inf, 1.0), (1e-40, 1e-40), (-20.0, -1.0)]),
    (erf, [(0.0, 0.0), (-math.inf, -1.0), (math.inf, 1.0), (-7.0, -1.0)]),
    (log, [(1.0, 0.0), (0.0, -math.inf), (-0.0, -math.inf), (math.inf, math.inf), (-1.0, math.nan)]),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("function", "pairs"), SPECIAL)
def test_special_values(function, pairs, dtype):
    for x, want in [*pairs, (math.nan, math.nan)]:
        got = function(dtype(x))
        np.testing.assert_array_equal(dtype(got), dtype(want))
        if want == 0 and function in (tanh, erf):
            assert math.copysign(1, function(dtype(-0.0))) == -1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_of_many(dtype):
    rng = np.random.default_rng(0)
    for n in (0, 1, 7, 8, 33):
        x = rng.standard_normal(n).astype(dtype)
        assert largest(x) == max(x, default=-math.inf)
        assert largest(-np.abs(x)) == max(-np.abs(x), default=-math.inf)
    assert largest(np.array([-math.inf, -math.inf], dtype)) == -math.inf
    assert largest(np.array([-1.0, math.inf], dtype)) == math.inf
    assert math.isnan(largest(np.array([math.nan, math.inf], dtype)))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads the assembly of another processor")
@pytest.mark.parametrize("name", EXACT)
def test_loops_over_float32_become_vectors(name):
    LOOPS[name].dispatcher()
    fresh = numba.njit(fastmath=set(LOOPS[name].arithmetic))(LOOPS[name].function)  # what comes from disk shows no code
    fresh(*np.ones((2, 1), np.float32))
    assembly = "".join(fresh.inspect_asm().values())
    assert "mulps" in assembly or "fmadd213ps" in assembly or "fmadd231ps" in assembly
