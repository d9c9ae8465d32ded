"""Layer and root-mean-square normalization over the last axis.

    layer_norm:  x̂ = (x - mean(x)) rsqrt(var(x) + eps),   y = x̂ w + b
    rms_norm:    x̂ = x rsqrt(mean(x²) + eps),             y = x̂ (offset + w)

The variance is biased. With g' = g w the gradient is x̄ = r (g' - [mean(g')] - x̂ mean(g' x̂)), where r is the reciprocal
root and the bracket belongs to layer_norm alone; the backward sweep computes x̂ again from x instead of keeping it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.rules import defcost, defvjp_all
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.nn.softmax import real_floating


def _mean_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """mean(a b) over the last axis, kept, without an array of products."""
    if a.dtype.kind == "V":  # einsum does not know the low-precision formats
        return np.mean(a * b, axis=-1, keepdims=True)
    total = np.einsum("...d,...d->...", a, b)[..., None]
    total /= a.shape[-1]
    return total


def _standardize(x: np.ndarray, eps: float, center: bool) -> tuple[np.ndarray, np.ndarray]:
    """x̂ (a fresh array) and r."""
    y = x - np.mean(x, axis=-1, keepdims=True) if center else x
    r = _mean_product(y, y)
    r += eps
    np.sqrt(r, out=r)
    np.reciprocal(r, out=r)
    return np.multiply(y, r, out=y if center else None), r


def _norm(x: np.ndarray, weight: Any, bias: Any = None, *, eps: float, center: bool, offset: float) -> np.ndarray:
    y, _ = _standardize(x, eps, center)
    if weight is not None:
        y *= weight + offset if offset else weight
    if bias is not None:
        y += bias
    return y


def _norm_vjp(
    g: np.ndarray, x: np.ndarray, weight: Any, *, eps: float, center: bool, offset: float
) -> tuple[np.ndarray, ...]:
    """The cotangents of x and, if there is one, of the weight."""
    y, r = _standardize(x, eps, center)
    others = ()
    if weight is None:
        scaled = g.copy()
    else:
        others = (_row_sum_of_product(g, y),)
        scaled = g * (weight + offset if offset else weight)
    y *= _mean_product(scaled, y)
    if center:
        scaled -= np.mean(scaled, axis=-1, keepdims=True)
    scaled -= y
    scaled *= r
    return scaled, *others


def _row_sum_of_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum(a b) over all axes but the last."""
    if a.dtype.kind == "V":
        return np.sum(a * b, axis=tuple(range(a.ndim - 1)))
    return np.einsum("nd,nd->d", a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))


def _decomposed_standardize(x: Any, eps: float, center: bool) -> tuple[Tensor, Tensor]:
    y = x - mt.mean(x, axis=-1, keepdims=True) if center else x
    r = mt.rsqrt(mt.mean(mt.square(y), axis=-1, keepdims=True) + eps)
    return y * r, r


def _decomposed_norm(x: Any, weight: Any, bias: Any = None, *, eps: float, center: bool, offset: float) -> Tensor:
    y, _ = _decomposed_standardize(x, eps, center)
    if weight is not None:
        y = y * (weight + offset if offset else weight)
    return y if bias is None else y + bias


def _decomposed_norm_vjp(g: Any, x: Any, weight: Any, *, eps: float, center: bool, offset: float) -> tuple[Tensor, ...]:
    y, r = _decomposed_standardize(x, eps, center)
    others = () if weight is None else (mt.sum(g * y, tuple(range(g.ndim - 1))),)
    scaled = g if weight is None else g * (weight + offset if offset else weight)
    of_x = scaled - y * mt.mean(scaled * y, axis=-1, keepdims=True)
    if center:
        of_x = of_x - mt.mean(scaled, axis=-1, keepdims=True)
    return of_x * r, *others


norm_p = Primitive("norm", _norm, decomposition=_decomposed_norm)
norm_vjp_p = Primitive("norm_vjp", _norm_vjp, outputs="many", decomposition=_decomposed_norm_vjp)


def _pull_norm(g: Any, out: Any, x: Any, weight: Any, bias: Any = None, **options: Any) -> tuple[Tensor | None, ...]:
    of_x, *others = bind(norm_vjp_p, g, x, weight, **options)
    of_weight = others[0] if others else None
    return of_x, of_weight, None if bias is None else mt.sum(g, tuple(range(g.ndim - 1)))


defvjp_all(norm_p, _pull_norm, saves=(0, 1))


# As the decompositions do it: operations on all elements, on one number a row, and on the weight.
def _norm_cost(
    out: Any, x: np.ndarray, weight: Any, bias: Any = None, *, center: bool, offset: float, **_: Any
) -> tuple[int, int]:
    each = 3 + 2 * center + (weight is not None) + (bias is not None)
    D = x.shape[-1]
    return each * x.size + 2 * (x.size // D) + (D if weight is not None and offset else 0), 0


def _norm_vjp_cost(
    out: Any, g: Any, x: np.ndarray, weight: Any, *, center: bool, offset: float, **_: Any
) -> tuple[int, int]:
    each = 8 + 4 * center + 3 * (weight is not None)
    D = x.shape[-1]
    return each * x.size + 2 * (x.size // D) - (D if weight is not None and not offset else 0), 0


defcost(norm_p, _norm_cost)
defcost(norm_vjp_p, _norm_vjp_cost)


def _operands(what: str, x: ArrayLike, weight: Any, bias: Any) -> list[Tensor | None]:
    """The arguments checked and cast to their common dtype."""
    x = real_floating(what, x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(f"{what}: needs a last axis with something to normalize, got shape {x.shape}")
    operands: list[Tensor | None] = [x]
    for name, value in (("weight", weight), ("bias", bias)):
        value = None if value is None else as_tensor(value)
        if value is not None and value.shape != x.shape[-1:]:
            raise ShapeError(
                f"{what}: {name} must have the shape of the last axis of x {x.shape}, {x.shape[-1:]}, not {value.shape}"
            )
        operands.append(value)
    dtype = np.result_type(*(o.dtype for o in operands if o is not None and o.dtype.kind not in "iub"))
    return [None if o is None else mt.astype(o, dtype) for o in operands]


def layer_norm(
    x: ArrayLike, weight: ArrayLike | None = None, bias: ArrayLike | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) rsqrt(var + eps) over the last axis, times ``weight (D,)``, plus ``bias (D,)``, if given."""
    operands = _operands("layer_norm", x, weight, bias)
    return bind(norm_p, *operands, eps=eps, center=True, offset=0.0)


def rms_norm(x: ArrayLike, weight: ArrayLike | None = None, eps: float = 1e-6, offset: float = 0.0) -> Tensor:
    """x rsqrt(mean(x²) + eps) over the last axis, times ``offset + weight``, weight ``(D,)``, if given."""
    operands = _operands("rms_norm", x, weight, None)[:2]
    return bind(norm_p, *operands, eps=eps, center=False, offset=offset)
