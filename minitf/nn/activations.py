"""Nonlinearities, alone and as gates. Each is a primitive with a second one that pulls its cotangent back, one pass each.

relu(x) = max(x, 0)                  relu'(0) = 0
squared_relu(x) = max(x, 0)²
silu(x) = x sigmoid(x)               also called swish
gelu(x) = x Φ(x)                     Φ the distribution function of N(0, 1): the erf form
gelu(x) ≈ x/2 (1 + tanh(sqrt(2/π) (x + 0.044715 x³)))            approximate="tanh"

swiglu(gate, up) = silu(gate) up, and so are geglu, reglu and glu with gelu, relu and sigmoid: the GLU family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dispatch import compiled, widened
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.rules import defcost, defjvp, defvjp, defvjp_all
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, bind
from minitf.kernels import activations as kernels
from minitf.kernels.activations import DENSITY_AT_0, ROOT_HALF, A, B
from minitf.nn.softmax import real_floating
from minitf.registry import reference

Function = Callable[..., Any]


def _implementation(name: str) -> Function:
    return widened(compiled(getattr(kernels, name), getattr(kernels, f"{name}_twin")))


def _activation(
    name: str, decomposition: Function, decomposed_slope: Function, flops: tuple[int, int]
) -> tuple[Primitive, Primitive]:
    """Primitives for f and for g f'(x) of (g, x); ``flops`` counts an element of each, as decomposed."""
    primitive = Primitive(name, _implementation(name), decomposition=decomposition)
    backward = Primitive(f"{name}_vjp", _implementation(f"{name}_vjp"), decomposition=decomposed_slope)
    defvjp(primitive, lambda g, out, x: bind(backward, g, x), saves=(0,))
    defjvp(primitive, lambda t, out, x: bind(backward, t, x))
    defcost(primitive, lambda out, x: (flops[0] * x.size, 0))
    defcost(backward, lambda out, g, x: (flops[1] * x.size, 0))
    return primitive, backward


def _gated(name: str, value: Function, slope: Function, flops: tuple[int, int]) -> tuple[Primitive, Primitive]:
    """Primitives for f(x) y and its cotangents; ``value`` is f, ``slope`` is g f'(x) of (g, x), with their ``flops``."""
    primitive = Primitive(name, _implementation(name), decomposition=lambda x, y: value(x) * y)
    backward = Primitive(
        f"{name}_vjp",
        _implementation(f"{name}_vjp"),
        outputs="many",
        decomposition=lambda g, x, y: (slope(g * y, x), g * value(x)),
    )
    defvjp_all(primitive, lambda g, out, x, y: bind(backward, g, x, y), saves=(0, 1))
    defjvp(primitive, lambda t, out, x, y: slope(t * y, x), lambda t, out, x, y: value(x) * t)
    defcost(primitive, lambda out, x, y: ((flops[0] + 1) * x.size, 0))
    defcost(backward, lambda out, g, x, y: ((sum(flops) + 2) * x.size, 0))
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


squared_relu_p, squared_relu_vjp_p = _activation(
    "squared_relu", lambda x: mt.square(relu(x)), lambda g, x: relu(x) * 2 * g, (2, 3)
)


def squared_relu(x: ArrayLike) -> Tensor:
    """max(x, 0)²."""
    return bind(squared_relu_p, real_floating("squared_relu", x))


# -- silu -------------------------------------------------------------------------------------------------------


def _decomposed_silu_slope(g: Any, x: Any) -> Tensor:
    s = mt.sigmoid(x)
    return (1 + x * (1 - s)) * s * g


silu_p, silu_vjp_p = _activation("silu", lambda x: x * mt.sigmoid(x), _decomposed_silu_slope, (2, 6))


def silu(x: ArrayLike) -> Tensor:
    """x sigmoid(x), also called swish."""
    return bind(silu_p, real_floating("silu", x))


# -- gelu -------------------------------------------------------------------------------------------------------


def _decomposed_gelu(x: Any) -> Tensor:
    return x * ((mt.erf(x * ROOT_HALF) + 1) * 0.5)


def _decomposed_gelu_slope(g: Any, x: Any) -> Tensor:
    density = mt.exp(mt.square(x) * -0.5) * DENSITY_AT_0
    return (x * density + (mt.erf(x * ROOT_HALF) + 1) * 0.5) * g


gelu_p, gelu_vjp_p = _activation("gelu", _decomposed_gelu, _decomposed_gelu_slope, (5, 11))


def _decomposed_gelu_tanh(x: Any) -> Tensor:
    return x * ((mt.tanh(x * (mt.square(x) * (A * B) + A)) + 1) * 0.5)


def _decomposed_gelu_tanh_slope(g: Any, x: Any) -> Tensor:
    tanh = mt.tanh(x * (mt.square(x) * (A * B) + A))
    return (x * (1 - mt.square(tanh)) * (mt.square(x) * (3 * A * B) + A) + tanh + 1) * 0.5 * g


gelu_tanh_p, gelu_tanh_vjp_p = _activation("gelu_tanh", _decomposed_gelu_tanh, _decomposed_gelu_tanh_slope, (8, 16))


def gelu(x: ArrayLike, approximate: str = "none") -> Tensor:
    """x Φ(x). approximate: "none" for the erf form, "tanh" for GPT-2's approximation."""
    return bind(_form("gelu", approximate, gelu_p, gelu_tanh_p), real_floating("gelu", x))


def _form(what: str, approximate: str, exact: Primitive, tanh: Primitive) -> Primitive:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"{what}: approximate must be 'none' or 'tanh', got {approximate!r}")
    return exact if approximate == "none" else tanh


# -- gates ------------------------------------------------------------------------------------------------------


def _decomposed_sigmoid_slope(g: Any, x: Any) -> Tensor:
    s = mt.sigmoid(x)
    return s * (1 - s) * g


swiglu_p, swiglu_vjp_p = _gated("swiglu", silu, lambda g, x: bind(silu_vjp_p, g, x), (2, 6))
geglu_p, geglu_vjp_p = _gated("geglu", gelu, lambda g, x: bind(gelu_vjp_p, g, x), (5, 11))
geglu_tanh_p, geglu_tanh_vjp_p = _gated(
    "geglu_tanh", lambda x: bind(gelu_tanh_p, x), lambda g, x: bind(gelu_tanh_vjp_p, g, x), (8, 16)
)
reglu_p, reglu_vjp_p = _gated("reglu", relu, lambda g, x: mt.where(mt.greater(x, 0), g, 0.0), (1, 0))
glu_p, glu_vjp_p = _gated("glu", mt.sigmoid, _decomposed_sigmoid_slope, (1, 4))


def _gate(what: str, primitive: Primitive, gate: ArrayLike, up: ArrayLike) -> Tensor:
    gate, up = real_floating(what, gate), real_floating(what, up)
    if gate.shape != up.shape:
        raise ShapeError(f"{what}: gate and up must have the same shape, got {gate.shape} and {up.shape}")
    dtype = np.result_type(gate.dtype, up.dtype)
    return bind(primitive, mt.astype(gate, dtype), mt.astype(up, dtype))


def swiglu(gate: ArrayLike, up: ArrayLike) -> Tensor:
    """silu(gate) * up, both of the same shape."""
    return _gate("swiglu", swiglu_p, gate, up)


def geglu(gate: ArrayLike, up: ArrayLike, approximate: str = "none") -> Tensor:
    """gelu(gate, approximate) * up, both of the same shape."""
    return _gate("geglu", _form("geglu", approximate, geglu_p, geglu_tanh_p), gate, up)


def reglu(gate: ArrayLike, up: ArrayLike) -> Tensor:
    """relu(gate) * up, both of the same shape."""
    return _gate("reglu", reglu_p, gate, up)


def glu(x: ArrayLike, axis: int = -1) -> Tensor:
    """a sigmoid(b) for the two halves a, b of ``x`` along ``axis``."""
    x = real_floating("glu", x)
    if x.ndim == 0 or x.shape[axis] % 2:
        raise ShapeError(f"glu: the axis that is halved must have even size, got shape {x.shape} and axis {axis}")
    a, b = mt.split(x, 2, axis)
    return bind(glu_p, b, a)


# -- caps -------------------------------------------------------------------------------------------------------


def check_cap(cap: float) -> None:
    if not cap > 0:
        raise ValueError(f"softcap: the cap must be positive, got {cap!r}")


def softcap(x: ArrayLike, cap: float) -> Tensor:
    """cap tanh(x / cap): the identity near 0, never beyond ±cap."""
    check_cap(cap)
    return mt.tanh(real_floating("softcap", x) / cap) * cap


# -- what the oracle asks --------------------------------------------------------------------------------------------


def _example(draw: Any, size: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    shape = {"tiny": (3, 5), "small": (7, 33), "medium": (65, 514)}[size]
    x = 2 * draw.normal(shape)
    x[0, :3] = 0.0, 30.0, -30.0
    return {"x": x}, options


reference("nn.gelu", gelu, example=_example, differentiable=("x",), options=({}, {"approximate": "tanh"}))
reference("nn.silu", silu, example=_example, differentiable=("x",))
