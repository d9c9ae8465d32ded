"""Nonlinearities. Each is a primitive f(x) with a second one for its derivative, g f'(x), computed in place.

relu(x) = max(x, 0)                  relu'(0) = 0
squared_relu(x) = max(x, 0)²
silu(x) = x sigmoid(x)               also called swish
gelu(x) = x Φ(x)                     Φ the distribution function of N(0, 1): the erf form
gelu(x) ≈ x/2 (1 + tanh(sqrt(2/π) (x + 0.044715 x³)))            approximate="tanh"
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.elementwise import erf_p
from minitf.autodiff.rules import defcost, defjvp, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, bind
from minitf.nn.softmax import real_floating


def _activation(
    name: str,
    impl: Callable[..., np.ndarray],
    slope: Callable[..., np.ndarray],
    decomposition: Callable[..., Any],
    decomposed_slope: Callable[..., Any],
    flops: tuple[int, int],
) -> tuple[Primitive, Primitive]:
    """Primitives for f and for ``slope(g, x)`` = g f'(x); ``flops`` counts an element of each, as decomposed."""
    primitive = Primitive(name, impl, decomposition=decomposition)
    backward = Primitive(f"{name}_vjp", slope, decomposition=decomposed_slope)
    defvjp(primitive, lambda g, out, x: bind(backward, g, x), saves=(0,))
    defjvp(primitive, lambda t, out, x: bind(backward, t, x))
    defcost(primitive, lambda out, x: (flops[0] * x.size, 0))
    defcost(backward, lambda out, g, x: (flops[1] * x.size, 0))
    return primitive, backward


# -- relu -------------------------------------------------------------------------------------------------------

# relu and its mask round nothing, and what is positive can be seen in the output, which the next layer keeps anyway.
relu_p = Primitive("relu", lambda x: np.maximum(x, 0))
defvjp(relu_p, lambda g, out, x: mt.where(mt.greater(out, 0), g, 0.0), saves=("out",))
defjvp(relu_p, lambda t, out, x: mt.where(mt.greater(out, 0), t, 0.0))
defcost(relu_p, lambda out, x: (x.size, 0))


def relu(x: ArrayLike) -> Tensor:
    """max(x, 0); the derivative at 0 is 0."""
    return bind(relu_p, real_floating("relu", x))


def squared_relu(x: ArrayLike) -> Tensor:
    """max(x, 0)²."""
    return mt.square(relu(real_floating("squared_relu", x)))


# -- silu -------------------------------------------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)); where the exponential overflows, its reciprocal is the right limit."""
    s = np.negative(x, out=np.empty_like(x))
    with np.errstate(over="ignore"):
        np.exp(s, out=s)
    s += 1
    return np.reciprocal(s, out=s)


def _silu(x: np.ndarray) -> np.ndarray:
    s = _sigmoid(x)
    s *= x
    return s


def _silu_slope(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    s = _sigmoid(x)  # g s (1 + x (1 - s))
    slope = np.subtract(1, s, out=np.empty_like(s))
    slope *= x
    slope += 1
    slope *= s
    slope *= g
    return slope


def _decomposed_silu_slope(g: Any, x: Any) -> Tensor:
    s = mt.sigmoid(x)
    return (1 + x * (1 - s)) * s * g


silu_p, silu_vjp_p = _activation(
    "silu", _silu, _silu_slope, lambda x: x * mt.sigmoid(x), _decomposed_silu_slope, (2, 6)
)


def silu(x: ArrayLike) -> Tensor:
    """x sigmoid(x), also called swish."""
    return bind(silu_p, real_floating("silu", x))


# -- gelu -------------------------------------------------------------------------------------------------------


def _cdf(x: np.ndarray) -> np.ndarray:
    """Φ(x) as (1 + erf(x / sqrt 2)) / 2: a fresh array."""
    phi = erf_p.impl(np.multiply(x, math.sqrt(0.5)))
    phi += 1
    phi *= 0.5
    return phi


def _gelu(x: np.ndarray) -> np.ndarray:
    out = _cdf(x)
    out *= x
    return out


def _gelu_slope(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    density = np.square(x, out=np.empty_like(x))  # g (Φ(x) + x φ(x))
    density *= -0.5
    np.exp(density, out=density)
    density *= 1 / math.sqrt(2 * math.pi)
    density *= x
    density += _cdf(x)
    density *= g
    return density


def _decomposed_gelu(x: Any) -> Tensor:
    return x * ((mt.erf(x * math.sqrt(0.5)) + 1) * 0.5)


def _decomposed_gelu_slope(g: Any, x: Any) -> Tensor:
    density = mt.exp(mt.square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))
    return (x * density + (mt.erf(x * math.sqrt(0.5)) + 1) * 0.5) * g


gelu_p, gelu_vjp_p = _activation("gelu", _gelu, _gelu_slope, _decomposed_gelu, _decomposed_gelu_slope, (5, 11))

_A, _B = math.sqrt(2 / math.pi), 0.044715


def _tanh_argument(x: np.ndarray) -> np.ndarray:
    """tanh(a (x + b x³)): a fresh array."""
    u = np.square(x, out=np.empty_like(x))
    u *= _A * _B
    u += _A
    u *= x
    return np.tanh(u, out=u)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    out = _tanh_argument(x)
    out += 1
    out *= 0.5
    out *= x
    return out


def _gelu_tanh_slope(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    tanh = _tanh_argument(x)  # g/2 (1 + tanh + x (1 - tanh²) (a + 3ab x²))
    slope = np.square(tanh, out=np.empty_like(x))
    np.subtract(1, slope, out=slope)
    inner = np.square(x, out=np.empty_like(x))
    inner *= 3 * _A * _B
    inner += _A
    slope *= inner
    slope *= x
    slope += tanh
    slope += 1
    slope *= 0.5
    slope *= g
    return slope


def _decomposed_gelu_tanh(x: Any) -> Tensor:
    return x * ((mt.tanh(x * (mt.square(x) * (_A * _B) + _A)) + 1) * 0.5)


def _decomposed_gelu_tanh_slope(g: Any, x: Any) -> Tensor:
    tanh = mt.tanh(x * (mt.square(x) * (_A * _B) + _A))
    return (x * (1 - mt.square(tanh)) * (mt.square(x) * (3 * _A * _B) + _A) + tanh + 1) * 0.5 * g


gelu_tanh_p, gelu_tanh_vjp_p = _activation(
    "gelu_tanh", _gelu_tanh, _gelu_tanh_slope, _decomposed_gelu_tanh, _decomposed_gelu_tanh_slope, (8, 16)
)


def gelu(x: ArrayLike, approximate: str = "none") -> Tensor:
    """x Φ(x). approximate: "none" for the erf form, "tanh" for GPT-2's approximation."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return bind(gelu_p if approximate == "none" else gelu_tanh_p, real_floating("gelu", x))


# -- gates and caps ---------------------------------------------------------------------------------------------


def glu(x: ArrayLike, axis: int = -1) -> Tensor:
    """a sigmoid(b) for the two halves a, b of ``x`` along ``axis``."""
    x = real_floating("glu", x)
    if x.ndim == 0 or x.shape[axis] % 2:
        raise ShapeError(f"glu: the axis that is halved must have even size, got shape {x.shape} and axis {axis}")
    a, b = mt.split(x, 2, axis)
    return a * mt.sigmoid(b)


def softcap(x: ArrayLike, cap: float) -> Tensor:
    """cap tanh(x / cap): the identity near 0, never beyond ±cap."""
    if not cap > 0:
        raise ValueError(f"softcap: the cap must be positive, got {cap!r}")
    return mt.tanh(real_floating("softcap", x) / cap) * cap
