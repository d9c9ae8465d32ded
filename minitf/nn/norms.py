"""Layer and root-mean-square normalization over the last axis, group normalization over groups of channels.

    layer_norm:  x̂ = (x - mean(x)) rsqrt(var(x) + eps),   y = x̂ w + b
    rms_norm:    x̂ = x rsqrt(mean(x²) + eps),             y = x̂ (offset + w)
    group_norm:  layer_norm's x̂ for all elements of a group, w and b for each channel

The variance is biased. With g' = g w the gradient is x̄ = r (g' - [mean(g')] - x̂ mean(g' x̂)), where r is the reciprocal
root and the bracket is not rms_norm's; the backward sweep computes x̂ again from x instead of keeping it
(``minitf.kernels.norms``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dispatch import compiled, widened
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.rules import defcost, defvjp_all
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import norms as kernels
from minitf.nn.softmax import real_floating
from minitf.registry import reference


def _decomposed_standardize(x: Any, eps: float, center: bool) -> tuple[Tensor, Tensor]:
    y = x - mt.mean(x, axis=-1, keepdims=True) if center else x
    r = mt.rsqrt(mt.mean(mt.square(y), axis=-1, keepdims=True) + eps)
    return y * r, r


def _decomposed_norm(x: Any, weight: Any, bias: Any = None, *, eps: float, center: bool, offset: float) -> Tensor:
    y, _ = _decomposed_standardize(x, eps, center)
    if weight is not None:
        y = y * (weight + offset if offset else weight)
    return y if bias is None else y + bias


def _decomposed_norm_vjp(
    g: Any, x: Any, weight: Any, *, eps: float, center: bool, offset: float, bias: bool = False
) -> tuple[Tensor, ...]:
    y, r = _decomposed_standardize(x, eps, center)
    rows = tuple(range(g.ndim - 1))
    pulled = g if weight is None else g * (weight + offset if offset else weight)
    of_x = _decomposed_standardize_vjp(pulled, y, r, center)
    return of_x, *(() if weight is None else (mt.sum(g * y, rows),)), *((mt.sum(g, rows),) if bias else ())


def _decomposed_standardize_vjp(g: Any, y: Any, r: Any, center: bool) -> Tensor:
    of_x = g - y * mt.mean(g * y, axis=-1, keepdims=True)
    return (of_x - mt.mean(g, axis=-1, keepdims=True) if center else of_x) * r


norm_p = Primitive("norm", widened(compiled(kernels.norm, kernels.norm_twin)), decomposition=_decomposed_norm)
norm_vjp_p = Primitive(
    "norm_vjp",
    widened(compiled(kernels.norm_vjp, kernels.norm_vjp_twin)),
    outputs="many",
    decomposition=_decomposed_norm_vjp,
)


def _pull(backward: Primitive) -> Any:
    """The vjp rule of a norm: ``backward`` returns the cotangents of what there is of x, weight and bias."""

    def pull(g: Any, out: Any, x: Any, weight: Any, bias: Any = None, **options: Any) -> tuple[Tensor | None, ...]:
        cotangents = iter(bind(backward, g, x, weight, bias=bias is not None, **options))
        return tuple(None if a is None else next(cotangents) for a in (x, weight, bias))

    return pull


defvjp_all(norm_p, _pull(norm_vjp_p), saves=(0, 1))


# -- groups of channels -----------------------------------------------------------------------------------------


def _rows_of_groups(x: Any, groups: int) -> Tensor:
    return mt.reshape(x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups))


def _each(channels: Any, x: Any) -> Tensor:
    """(C,) so that it broadcasts against x (B, C, *)."""
    return mt.reshape(channels, (-1, *[1] * (x.ndim - 2)))


def _decomposed_group_norm(x: Any, weight: Any, bias: Any = None, *, groups: int, eps: float) -> Tensor:
    y = mt.reshape(_decomposed_standardize(_rows_of_groups(x, groups), eps, True)[0], x.shape)
    y = y if weight is None else y * _each(weight, x)
    return y if bias is None else y + _each(bias, x)


def _decomposed_group_norm_vjp(
    g: Any, x: Any, weight: Any, *, groups: int, eps: float, bias: bool = False
) -> tuple[Tensor, ...]:
    y, r = _decomposed_standardize(_rows_of_groups(x, groups), eps, True)
    pulled = _rows_of_groups(g if weight is None else g * _each(weight, x), groups)
    of_x = mt.reshape(_decomposed_standardize_vjp(pulled, y, r, True), x.shape)
    others = (0, *range(2, x.ndim))
    of_weight = () if weight is None else (mt.sum(g * mt.reshape(y, x.shape), others),)
    return of_x, *of_weight, *((mt.sum(g, others),) if bias else ())


group_norm_p = Primitive(
    "group_norm", widened(compiled(kernels.group_norm, kernels.group_norm_twin)), decomposition=_decomposed_group_norm
)
group_norm_vjp_p = Primitive(
    "group_norm_vjp",
    widened(compiled(kernels.group_norm_vjp, kernels.group_norm_vjp_twin)),
    outputs="many",
    decomposition=_decomposed_group_norm_vjp,
)
defvjp_all(group_norm_p, _pull(group_norm_vjp_p), saves=(0, 1))


# -- what they cost ---------------------------------------------------------------------------------------------
# As the decompositions do it: operations on all elements, on one number a row, and on the weight.


def _flops(x: np.ndarray, rows: int, weight: Any, bias: Any, center: bool) -> int:
    return (3 + 2 * center + (weight is not None) + (bias is not None)) * x.size + 2 * rows


def _vjp_flops(x: np.ndarray, rows: int, D: int, weight: Any, bias: bool, center: bool) -> int:
    return (8 + 4 * center) * x.size + 2 * rows + (weight is not None) * (3 * x.size - D) + bias * (x.size - D)


def _norm_cost(
    out: Any, x: np.ndarray, weight: Any, bias: Any = None, *, center: bool, offset: float, **_: Any
) -> tuple[int, int]:
    D = x.shape[-1]
    return _flops(x, x.size // D, weight, bias, center) + (D if weight is not None and offset else 0), 0


def _norm_vjp_cost(
    out: Any, g: Any, x: np.ndarray, weight: Any, *, center: bool, offset: float, bias: bool = False, **_: Any
) -> tuple[int, int]:
    D = x.shape[-1]
    return _vjp_flops(x, x.size // D, D, weight, bias, center) + (D if weight is not None and offset else 0), 0


defcost(norm_p, _norm_cost)
defcost(norm_vjp_p, _norm_vjp_cost)
defcost(
    group_norm_p,
    lambda out, x, weight, bias=None, *, groups, eps: (_flops(x, x.shape[0] * groups, weight, bias, True), 0),
)
defcost(
    group_norm_vjp_p,
    lambda out, g, x, weight, *, groups, eps, bias=False: (
        _vjp_flops(x, x.shape[0] * groups, x.shape[1], weight, bias, True),
        0,
    ),
)


def _operands(what: str, x: Tensor, axis: int, weight: Any, bias: Any) -> list[Tensor | None]:
    """The arguments checked and cast to their common dtype; weight and bias have the size of ``axis``."""
    operands: list[Tensor | None] = [x]
    for name, value in (("weight", weight), ("bias", bias)):
        value = None if value is None else as_tensor(value)
        if value is not None and value.shape != (x.shape[axis],):
            where = "the last axis" if axis == -1 else "axis 1"
            raise ShapeError(
                f"{what}: {name} must have the shape of {where} of x {x.shape}, ({x.shape[axis]},), not {value.shape}"
            )
        operands.append(value)
    dtype = np.result_type(*(o.dtype for o in operands if o is not None and o.dtype.kind not in "iub"))
    return [None if o is None else mt.astype(o, dtype) for o in operands]


def _rows(what: str, x: ArrayLike) -> Tensor:
    x = real_floating(what, x)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(f"{what}: needs a last axis with something to normalize, got shape {x.shape}")
    return x


def layer_norm(
    x: ArrayLike, weight: ArrayLike | None = None, bias: ArrayLike | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) rsqrt(var + eps) over the last axis, times ``weight (D,)``, plus ``bias (D,)``, if given."""
    operands = _operands("layer_norm", _rows("layer_norm", x), -1, weight, bias)
    return bind(norm_p, *operands, eps=eps, center=True, offset=0.0)


def rms_norm(x: ArrayLike, weight: ArrayLike | None = None, eps: float = 1e-6, offset: float = 0.0) -> Tensor:
    """x rsqrt(mean(x²) + eps) over the last axis, times ``offset + weight``, weight ``(D,)``, if given."""
    operands = _operands("rms_norm", _rows("rms_norm", x), -1, weight, None)[:2]
    return bind(norm_p, *operands, eps=eps, center=False, offset=offset)


def group_norm(
    x: ArrayLike,
    groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) rsqrt(var + eps) over the elements of each of ``groups`` groups of neighboring channels.

    x: ``(B, C, *)``, C a multiple of ``groups``. One group is layer norm over all of an image, C groups are instance
    norm. The result is multiplied by ``weight (C,)``, and ``bias (C,)`` is added, if given.
    """
    x = real_floating("group_norm", x)
    if x.ndim < 2 or math.prod(x.shape[1:]) == 0:
        raise ShapeError(f"group_norm: needs (B, C, *) with something to normalize, got shape {x.shape}")
    if groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"group_norm: the {x.shape[1]} channels of x {x.shape} cannot form {groups} equal groups")
    return bind(group_norm_p, *_operands("group_norm", x, 1, weight, bias), groups=groups, eps=eps)


def instance_norm(
    x: ArrayLike, weight: ArrayLike | None = None, bias: ArrayLike | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) rsqrt(var + eps) over the places of each channel of each sample: ``group_norm`` with C groups.

    x: ``(B, C, *)`` with at least two places, of which one alone has no variance.
    """
    x = real_floating("instance_norm", x)
    if x.ndim < 3 or math.prod(x.shape[2:]) < 2:
        raise ShapeError(f"instance_norm: needs (B, C, *) with at least 2 places a channel, got shape {x.shape}")
    return group_norm(x, x.shape[1], weight, bias, eps)


# -- what the oracle asks --------------------------------------------------------------------------------------------


def layer_norm_of(x: Any, weight: Any, bias: Any, *, eps: float = 1e-5, scaled_first: bool = False) -> Tensor:
    """``layer_norm``. scaled_first: as x r - mean r, one multiply-add for each element."""
    if not scaled_first:
        return layer_norm(x, weight, bias, eps)
    x = as_tensor(x)
    mean = mt.mean(x, axis=-1, keepdims=True)
    r = mt.rsqrt(mt.mean(mt.square(x - mean), axis=-1, keepdims=True) + eps)
    return (x * r - mean * r) * weight + bias


def group_norm_of(x: Any, weight: Any, bias: Any, *, groups: int, eps: float = 1e-5) -> Tensor:
    """``group_norm`` with its arrays in front and its choices by name."""
    return group_norm(x, groups, weight, bias, eps)


def _drawn(draw: Any, shape: tuple[int, ...], D: int, bias: bool, flat: bool) -> dict[str, Any]:
    """x off center and weights around 1; ``flat``: the first row hardly varies, and its mean has to be right.

    It varies a little: the mean of equal numbers may be free of rounding errors in all evaluations of a tolerance.
    """
    x = 0.5 + draw.normal(shape)
    if flat:
        x[0, 0] = draw.normal(()) + 0.02 * x[0, 0]
    inputs = {"x": x, "weight": 1 + draw.normal((D,)) / 4}
    return {**inputs, "bias": draw.normal((D,))} if bias else inputs


_ROWS = {"tiny": (1, 3, 5), "small": (2, 9, 37), "medium": (2, 65, 258)}
_MAPS = {"tiny": (1, 4, 3), "small": (2, 12, 5, 7), "medium": (2, 48, 17, 15)}


def _example(draw: Any, size: str, *, flat: bool = False, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return _drawn(draw, _ROWS[size], _ROWS[size][-1], True, flat), options


def _example_without_bias(
    draw: Any, size: str, *, flat: bool = False, **options: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    return _drawn(draw, _ROWS[size], _ROWS[size][-1], False, flat), options


def _example_of_maps(
    draw: Any, size: str, *, groups: int = 2, flat: bool = False, **options: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    return _drawn(draw, _MAPS[size], _MAPS[size][1], True, flat), {"groups": groups, **options}


reference(
    "nn.layer_norm",
    layer_norm_of,
    example=_example,
    differentiable=("x", "weight", "bias"),
    options=({}, {"eps": 1e-2}, {"flat": True}),
    forms=({}, {"scaled_first": True}),
)
reference(
    "nn.rms_norm",
    rms_norm,
    example=_example_without_bias,
    differentiable=("x", "weight"),
    options=({}, {"eps": 1e-2}, {"offset": 1.0}, {"flat": True}),
)
reference(
    "nn.group_norm",
    group_norm_of,
    example=_example_of_maps,
    differentiable=("x", "weight", "bias"),
    options=({}, {"groups": 4}, {"groups": 1, "eps": 1e-2}, {"flat": True}),
)
