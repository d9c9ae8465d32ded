"""``softmax`` and ``log_softmax``, with masks.

    softmax(x)_i = exp(x_i) / sum_j exp(x_j)

Entries where ``where`` is False do not take part: they get probability 0 (log-probability -inf) and no gradient. A row
without any entry left is all zeros (all -inf), also with zero gradients. ``-inf`` is a legal input and means the same.

The backward rules are primitives too (``minitf.kernels.softmax``):

    softmax:      x̄ = p ∘ (g - sum(g ∘ p))
    log_softmax:  x̄ = g - p sum(g)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dispatch import compiled
from minitf.autodiff.dtypes import is_floating
from minitf.autodiff.errors import ShapeError, broadcast_message
from minitf.autodiff.ops.broadcast import normalize_axes
from minitf.autodiff.rules import defcost, defjvp, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import softmax as kernels
from minitf.registry import reference


def _masked(function: Any) -> Any:
    """``function(x, axis=...)`` with an optional mask: what it leaves out is -inf."""
    return lambda x, mask=None, *, axis: function(x if mask is None else np.where(mask, x, -math.inf), axis=axis)


def _decomposed_shift(x: Any, mask: Any, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Exponents, their exponentials and the sum of those (1 where that is 0), by public operations."""
    x = as_tensor(x)
    if mask is not None:
        x = mt.where(mask, x, -math.inf)
    top = np.max(x.data, axis=axis, keepdims=True, initial=-math.inf)
    exponents = x - np.where(top == -math.inf, 0, top).astype(top.dtype)
    exponentials = mt.exp(exponents)
    total = mt.sum(exponentials, axis, keepdims=True)
    return exponents, exponentials, mt.where(mt.equal(total, 0), 1.0, total)


def _decomposed_softmax(x: Any, mask: Any = None, *, axis: int) -> Tensor:
    _, exponentials, total = _decomposed_shift(x, mask, axis)
    return exponentials / total


def _decomposed_log_softmax(x: Any, mask: Any = None, *, axis: int) -> Tensor:
    exponents, _, total = _decomposed_shift(x, mask, axis)
    return exponents - mt.log(total)


softmax_p = Primitive(
    "softmax", _masked(compiled(kernels.softmax, kernels.softmax_twin)), decomposition=_decomposed_softmax
)
log_softmax_p = Primitive(
    "log_softmax",
    _masked(compiled(kernels.log_softmax, kernels.log_softmax_twin)),
    decomposition=_decomposed_log_softmax,
)


# -- derivatives ------------------------------------------------------------------------------------------------


softmax_vjp_p = Primitive(
    "softmax_vjp",
    compiled(kernels.softmax_vjp, kernels.softmax_vjp_twin),
    decomposition=lambda g, p, *, axis: (g - mt.sum(g * p, axis, keepdims=True)) * p,
)
# The Jacobian is symmetric: the same function pushes tangents forward.
defvjp(softmax_p, lambda g, out, *args, axis: bind(softmax_vjp_p, g, out, axis=axis), None, saves=("out",))
defjvp(softmax_p, lambda t, out, *args, axis: bind(softmax_vjp_p, t, out, axis=axis), None)


def _decomposed_log_softmax_vjp(g: Any, out: Any, *, axis: int) -> Tensor:
    g = mt.where(mt.equal(out, -math.inf), 0.0, g)
    return g - mt.exp(out) * mt.sum(g, axis, keepdims=True)


def _log_softmax_jvp(t: Any, out: Any, *args: Any, axis: int) -> Tensor:
    return mt.where(mt.equal(out, -math.inf), 0.0, t - mt.sum(t * mt.exp(out), axis, keepdims=True))


log_softmax_vjp_p = Primitive(
    "log_softmax_vjp",
    compiled(kernels.log_softmax_vjp, kernels.log_softmax_vjp_twin),
    decomposition=_decomposed_log_softmax_vjp,
)
defvjp(log_softmax_p, lambda g, out, *args, axis: bind(log_softmax_vjp_p, g, out, axis=axis), None, saves=("out",))
defjvp(log_softmax_p, _log_softmax_jvp, None)


# Subtractions, exponentials, sums and divisions (logarithms), as the decompositions do them.
def _rows(x: np.ndarray, axis: int) -> int:
    return x.size // x.shape[axis] if x.size else 0


defcost(softmax_p, lambda out, x, *mask, axis: (4 * x.size - _rows(x, axis), 0))
defcost(log_softmax_p, lambda out, x, *mask, axis: (4 * x.size, 0))
defcost(softmax_vjp_p, lambda out, g, p, axis: (4 * p.size - _rows(p, axis), 0))
defcost(log_softmax_vjp_p, lambda out, g, p, axis: (4 * p.size - _rows(p, axis), 0))


def _operands(what: str, x: ArrayLike, axis: int, where: ArrayLike | None) -> tuple[list[Tensor], int]:
    x = real_floating(what, x)
    if where is None:
        return [x], normalize_axes(what, axis, x.ndim)[0]
    mask = as_tensor(where)
    if mask.dtype != np.bool_:
        raise TypeError(f"{what}: where must be boolean, True where an entry takes part, got {mask.dtype}")
    try:
        shape = np.broadcast_shapes(x.shape, mask.shape)
    except ValueError:
        reason = broadcast_message([x.shape, mask.shape])
        raise ShapeError(f"{what}: the values and where do not fit: {reason}") from None
    return [mt.broadcast_to(x, shape), mask], normalize_axes(what, axis, len(shape))[0]


def real_floating(what: str, x: ArrayLike) -> Tensor:
    """``x`` as a Tensor. Raises TypeError unless it is real and floating."""
    x = as_tensor(x)
    if not is_floating(x.dtype):
        raise TypeError(f"{what}: needs real floating values, got {x.dtype} {x.shape}")
    return x


def softmax(x: ArrayLike, axis: int = -1, where: ArrayLike | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along ``axis``, without overflow.

    where: boolean, broadcast against ``x``; entries where it is False get probability 0. Rows with none left are zero.
    """
    operands, axis = _operands("softmax", x, axis, where)
    return bind(softmax_p, *operands, axis=axis)


def log_softmax(x: ArrayLike, axis: int = -1, where: ArrayLike | None = None) -> Tensor:
    """The logarithm of ``softmax``; -inf, with a zero gradient, where the probability is zero by mask or by input."""
    operands, axis = _operands("log_softmax", x, axis, where)
    return bind(log_softmax_p, *operands, axis=axis)


# -- what the oracle asks --------------------------------------------------------------------------------------------


def _example(
    draw: Any, size: str, *, masked: bool = False, large: bool = False, axis: int = -1
) -> tuple[dict[str, Any], dict[str, Any]]:
    B, T, V = {"tiny": (1, 3, 5), "small": (2, 9, 37), "medium": (3, 65, 514)}[size]
    x = 2 * draw.normal((B, T, V))
    if large:
        x[0, 0] *= 40  # one probability is 1, most others are too small for any format
    options: dict[str, Any] = {} if axis == -1 else {"axis": axis}
    if masked:
        where = draw.boolean((B, T, V), 0.7)
        where[0, -1] = False
        options["where"] = where
    return {"x": x}, options


_CASES: tuple[dict[str, Any], ...] = ({}, {"masked": True}, {"large": True}, {"axis": 1})
reference("nn.softmax", softmax, example=_example, differentiable=("x",), options=_CASES)
reference("nn.log_softmax", log_softmax, example=_example, differentiable=("x",), options=_CASES)
