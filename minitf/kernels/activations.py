"""Activations and gated activations, one pass forward and one back.

    silu(x) = x σ(x)                                     swiglu(x, y) = silu(x) y
    gelu(x) = x Φ(x)                                     geglu(x, y) = gelu(x) y
    gelu_tanh(x) = x/2 (1 + tanh(a (x + b x³)))          geglu_tanh(x, y) = gelu_tanh(x) y
    relu(x) = max(x, 0)                                  reglu(x, y) = relu(x) y
    squared_relu(x) = relu(x)²                           glu(x, y) = σ(x) y

``f_vjp(g, x)`` is g f'(x). ``f_vjp(g, x, y)`` of a gated one is the pair (g y f'(x), g f(x)). Values and slopes share
what is costly, so the pair takes little longer than one of the two. relu'(0) = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementary import erf, exp, sigmoid
from minitf.kernels.elementwise import over_elements
from minitf.kernels.erf import erf as erf_of_array

ROOT_HALF, DENSITY_AT_0 = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
A, B = math.sqrt(2 / math.pi), 0.044715


# -- value and slope at one number ------------------------------------------------------------------------------
# Φ and φ stay apart: a function of both is too long to be inlined, and no vectors are made of a loop that calls.


@jit
def _silu_at(x):
    one = type(x)(1)
    s = sigmoid(x)
    return x * s, s * (one + x * (one - s))


@jit
def _below_at(x):
    """Φ(x)."""
    number = type(x)
    return number(0.5) + number(0.5) * erf(x * number(ROOT_HALF))


@jit
def _density_at(x):
    """φ(x)."""
    number = type(x)
    return exp(x * x * number(-0.5)) * number(DENSITY_AT_0)


@jit
def _gelu_tanh_at(x):
    """(1 + tanh(u)) / 2 is σ(2u), without the cancellation far to the left."""
    number = type(x)
    one, square = number(1), x * x
    s = sigmoid(x * (number(2 * A * B) * square + number(2 * A)))
    slope = s * (one - s) * x * (number(6 * A * B) * square + number(2 * A))
    return x * s, s + slope


@jit
def _sigmoid_at(x):
    s = sigmoid(x)
    return s, s * (type(x)(1) - s)


@jit
def _relu_at(x):
    zero, one = type(x)(0), type(x)(1)
    return x if not x <= zero else zero, one if x > zero else zero


# -- loops ------------------------------------------------------------------------------------------------------
# The compiler leaves out what a loop does not use of value and slope.


@jit
def _silu(x, out):
    for i in range(x.size):
        out[i] = _silu_at(x[i])[0]


@jit
def _silu_vjp(g, x, out):
    for i in range(x.size):
        out[i] = g[i] * _silu_at(x[i])[1]


@jit
def _gelu(x, out):
    for i in range(x.size):
        out[i] = x[i] * _below_at(x[i])


@jit
def _gelu_vjp(g, x, out):
    for i in range(x.size):
        out[i] = g[i] * (_below_at(x[i]) + x[i] * _density_at(x[i]))


@jit
def _gelu_tanh(x, out):
    for i in range(x.size):
        out[i] = _gelu_tanh_at(x[i])[0]


@jit
def _gelu_tanh_vjp(g, x, out):
    for i in range(x.size):
        out[i] = g[i] * _gelu_tanh_at(x[i])[1]


@jit
def _squared_relu(x, out):
    for i in range(x.size):
        positive = _relu_at(x[i])[0]
        out[i] = positive * positive


@jit
def _squared_relu_vjp(g, x, out):
    for i in range(x.size):
        positive = _relu_at(x[i])[0]
        out[i] = g[i] * (positive + positive)


@jit
def _swiglu(x, y, out):
    for i in range(x.size):
        out[i] = _silu_at(x[i])[0] * y[i]


@jit
def _swiglu_vjp(g, x, y, of_x, of_y):
    for i in range(x.size):
        value, slope = _silu_at(x[i])
        of_x[i], of_y[i] = g[i] * y[i] * slope, g[i] * value


@jit
def _geglu(x, y, out):
    for i in range(x.size):
        out[i] = x[i] * _below_at(x[i]) * y[i]


@jit
def _geglu_vjp(g, x, y, of_x, of_y):
    for i in range(x.size):
        below = _below_at(x[i])
        of_x[i] = g[i] * y[i] * (below + x[i] * _density_at(x[i]))
        of_y[i] = g[i] * x[i] * below


@jit
def _geglu_tanh(x, y, out):
    for i in range(x.size):
        out[i] = _gelu_tanh_at(x[i])[0] * y[i]


@jit
def _geglu_tanh_vjp(g, x, y, of_x, of_y):
    for i in range(x.size):
        value, slope = _gelu_tanh_at(x[i])
        of_x[i], of_y[i] = g[i] * y[i] * slope, g[i] * value


@jit
def _reglu(x, y, out):
    for i in range(x.size):
        out[i] = _relu_at(x[i])[0] * y[i]


@jit
def _reglu_vjp(g, x, y, of_x, of_y):
    for i in range(x.size):
        value, slope = _relu_at(x[i])
        of_x[i], of_y[i] = g[i] * y[i] * slope, g[i] * value


@jit
def _glu(x, y, out):
    for i in range(x.size):
        out[i] = _sigmoid_at(x[i])[0] * y[i]


@jit
def _glu_vjp(g, x, y, of_x, of_y):
    for i in range(x.size):
        value, slope = _sigmoid_at(x[i])
        of_x[i], of_y[i] = g[i] * y[i] * slope, g[i] * value


# ``f(x, threads=...)`` and ``f(x, y, threads=...)``, all arrays of one shape.
silu, silu_vjp = partial(over_elements, _silu), partial(over_elements, _silu_vjp)
gelu, gelu_vjp = partial(over_elements, _gelu), partial(over_elements, _gelu_vjp)
gelu_tanh, gelu_tanh_vjp = partial(over_elements, _gelu_tanh), partial(over_elements, _gelu_tanh_vjp)
squared_relu, squared_relu_vjp = partial(over_elements, _squared_relu), partial(over_elements, _squared_relu_vjp)
swiglu, swiglu_vjp = partial(over_elements, _swiglu), partial(over_elements, _swiglu_vjp, outputs=2)
geglu, geglu_vjp = partial(over_elements, _geglu), partial(over_elements, _geglu_vjp, outputs=2)
geglu_tanh, geglu_tanh_vjp = partial(over_elements, _geglu_tanh), partial(over_elements, _geglu_tanh_vjp, outputs=2)
reglu, reglu_vjp = partial(over_elements, _reglu), partial(over_elements, _reglu_vjp, outputs=2)
glu, glu_vjp = partial(over_elements, _glu), partial(over_elements, _glu_vjp, outputs=2)


# -- twins ------------------------------------------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def silu_twin(x: np.ndarray) -> np.ndarray:
    return x * _sigmoid(x)


def silu_vjp_twin(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    s = _sigmoid(x)
    return (1 + x * (1 - s)) * s * g


def _below(x: np.ndarray) -> np.ndarray:
    """Φ(x)."""
    return (1 + erf_of_array(x * ROOT_HALF)) * 0.5


def gelu_twin(x: np.ndarray) -> np.ndarray:
    return x * _below(x)


def gelu_vjp_twin(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    return (_below(x) + x * np.exp(x * x * -0.5) * DENSITY_AT_0) * g


def gelu_tanh_twin(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.tanh(x * (x * x * (A * B) + A))) * 0.5


def gelu_tanh_vjp_twin(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    t = np.tanh(x * (x * x * (A * B) + A))
    return (x * (1 - t * t) * (x * x * (3 * A * B) + A) + t + 1) * 0.5 * g


def relu_twin(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def relu_vjp_twin(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, g, 0)


def squared_relu_twin(x: np.ndarray) -> np.ndarray:
    return np.square(relu_twin(x))


def squared_relu_vjp_twin(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 2 * relu_twin(x) * g


def sigmoid_vjp_twin(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    s = _sigmoid(x)
    return s * (1 - s) * g


def _gated(value: Callable[..., Any], vjp: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The twins of value(x) y and of what pulls its cotangent back."""
    return lambda x, y: value(x) * y, lambda g, x, y: (vjp(g * y, x), value(x) * g)


swiglu_twin, swiglu_vjp_twin = _gated(silu_twin, silu_vjp_twin)
geglu_twin, geglu_vjp_twin = _gated(gelu_twin, gelu_vjp_twin)
geglu_tanh_twin, geglu_tanh_vjp_twin = _gated(gelu_tanh_twin, gelu_tanh_vjp_twin)
reglu_twin, reglu_vjp_twin = _gated(relu_twin, relu_vjp_twin)
glu_twin, glu_vjp_twin = _gated(_sigmoid, sigmoid_vjp_twin)
