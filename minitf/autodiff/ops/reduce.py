"""Reductions and scans other than ``sum``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import accumulator, is_inexact
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops import elementwise as ew
from minitf.autodiff.ops.broadcast import Axes, astype, conj, normalize_axes, real, reshape, rounded_once
from minitf.autodiff.ops.broadcast import sum as sum_
from minitf.autodiff.ops.index import take_along_axis
from minitf.autodiff.ops.shape import concatenate, expand_dims, flip, moveaxis, pad, squeeze, swapaxes
from minitf.autodiff.rules import defcost, defjvp, deflinear, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axes)


@rounded_once
def mean(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The mean over ``axis``; integers give float64. An empty mean is NaN."""
    x = as_tensor(x)
    axes = normalize_axes("mean", axis, x.ndim)
    total, count = sum_(x, axes, keepdims), _count(x, axes)
    return total / count if count else total * math.nan


@rounded_once
def var(x: ArrayLike, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """The mean of |x - mean|², divided by N - ``ddof`` instead of N."""
    x = as_tensor(x)
    axes = normalize_axes("var", axis, x.ndim)
    centered = x - mean(x, axes, keepdims=True)
    squares = ew.square(centered) if x.dtype.kind != "c" else real(centered * conj(centered))
    count = _count(x, axes) - ddof
    total = sum_(squares, axes, keepdims)
    return total / count if count > 0 else total * math.nan


@rounded_once
def std(x: ArrayLike, axis: Axes = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """The square root of ``var``."""
    return ew.sqrt(var(x, axis, keepdims, ddof))


# -- extrema: a gather at the winner, ties to the lowest index --------------------------------------------------

argmax_p = Primitive("argmax", lambda x, axis, keepdims: np.argmax(x, axis=axis, keepdims=keepdims))
argmin_p = Primitive("argmin", lambda x, axis, keepdims: np.argmin(x, axis=axis, keepdims=keepdims))


def argmax(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest element (the lowest of several), of the flattened array by default."""
    return bind(argmax_p, _nonempty("argmax", as_tensor(x), axis), axis=axis, keepdims=keepdims)


def argmin(x: ArrayLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest element (the lowest of several), of the flattened array by default."""
    return bind(argmin_p, _nonempty("argmin", as_tensor(x), axis), axis=axis, keepdims=keepdims)


def _nonempty(what: str, x: Tensor, axis: Axes) -> Tensor:
    axes = normalize_axes(what, axis, x.ndim)
    if any_zero(x.shape, axes):
        raise ShapeError(f"{what}: nothing to choose from along axis {axis} of shape {x.shape}")
    return x


def _extremum(what: str, choose: Any, x: ArrayLike, axis: Axes, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    axes = normalize_axes(what, axis, x.ndim)
    _nonempty(what, x, axes)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    lines = moveaxis(x, axes, tuple(range(x.ndim - len(axes), x.ndim)))
    lines = reshape(lines, (*(n for i, n in enumerate(x.shape) if i not in axes), _count(x, axes)))
    best = squeeze(take_along_axis(lines, choose(lines, -1, True), -1), -1)
    return reshape(best, kept) if keepdims else best


def max(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:  # NumPy's name
    """The largest element; the gradient goes to it, to the first of several."""
    return _extremum("max", argmax, x, axis, keepdims)


def min(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:  # NumPy's name
    """The smallest element; the gradient goes to it, to the first of several."""
    return _extremum("min", argmin, x, axis, keepdims)


any_p = Primitive("any", lambda x, axis, keepdims: np.any(x, axis=axis, keepdims=keepdims))
all_p = Primitive("all", lambda x, axis, keepdims: np.all(x, axis=axis, keepdims=keepdims))


def any(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:  # NumPy's name
    """True where some element along ``axis`` is."""
    x = as_tensor(x)
    return bind(any_p, x, axis=normalize_axes("any", axis, x.ndim), keepdims=keepdims)


def all(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:  # NumPy's name
    """True where every element along ``axis`` is."""
    x = as_tensor(x)
    return bind(all_p, x, axis=normalize_axes("all", axis, x.ndim), keepdims=keepdims)


# -- products: trees of multiplications, so that derivatives are exact where factors are zero --------------------


def _factors(x: ArrayLike) -> Tensor:
    """``x`` to be multiplied up: integers and booleans in the dtype that they are summed in."""
    x = as_tensor(x)
    return astype(x, np.uint64 if x.dtype.kind == "u" else np.int64) if x.dtype.kind in "iub" else x


def prod(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The product over ``axis``; an empty product is 1."""
    x = _factors(x)
    axes = normalize_axes("prod", axis, x.ndim)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    rest = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    y = reshape(moveaxis(x, axes, tuple(range(len(axes)))), (_count(x, axes), *rest))
    if y.shape[0] == 0:
        return as_tensor(np.ones(kept if keepdims else rest, y.dtype))
    while y.shape[0] > 1:
        half = y.shape[0] // 2
        pairs = y[:half] * y[half : 2 * half]
        y = concatenate([pairs, y[2 * half :]]) if y.shape[0] % 2 else pairs
    return reshape(y, kept if keepdims else rest)


def cumprod(x: ArrayLike, axis: int = -1) -> Tensor:
    """Running products along ``axis``."""
    x = _factors(x)
    (axis,) = normalize_axes("cumprod", axis, x.ndim)
    y, step = swapaxes(x, 0, axis), 1
    while step < y.shape[0]:
        y = concatenate([y[:step], y[step:] * y[:-step]])
        step *= 2
    return swapaxes(y, 0, axis)


def _cumsum(x: np.ndarray, axis: int) -> np.ndarray:
    wide = accumulator(x.dtype)
    return np.cumsum(x, axis) if wide is x.dtype else np.cumsum(x, axis, dtype=wide).astype(x.dtype)


cumsum_p = Primitive("cumsum", _cumsum)
deflinear(cumsum_p, lambda g, out, x, axis: flip(bind(cumsum_p, flip(g, axis), axis=axis), axis))
defcost(cumsum_p, lambda out, x, axis: (out.size - (out.size // out.shape[axis] if out.size else 0), 0))


def cumsum(x: ArrayLike, axis: int | None = None, exclusive: bool = False) -> Tensor:
    """Running sums along ``axis`` (of the flattened array by default); ``exclusive`` leaves out the element itself."""
    x = as_tensor(x)
    if axis is None:
        x, axis = reshape(x, (-1,) if x.size else (0,)), 0
    (axis,) = normalize_axes("cumsum", axis, x.ndim)
    if exclusive:
        widths = [(1, 0) if i == axis else (0, 0) for i in range(x.ndim)]
        x = pad(x, widths)[(slice(None),) * axis + (slice(0, -1),)]
    return bind(cumsum_p, x, axis=axis)


# -- logsumexp ----------------------------------------------------------------------------------------------------


def _logsumexp(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> Any:
    if any_zero(x.shape, axis):
        return np.sum(x, axis=axis, keepdims=keepdims) - np.inf
    top = np.max(x, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore"):
        total = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return total if keepdims else np.squeeze(total, axis=axis)


def any_zero(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """True when the elements reduced over ``axes`` are none."""
    return 0 in [shape[a] for a in axes]


def _decomposed_logsumexp(x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    top = np.max(as_tensor(x).data, axis=axis, keepdims=True)
    shift = as_tensor(np.where(np.isfinite(top), top, 0).astype(top.dtype))
    total = ew.log(sum_(ew.exp(x - shift), axis, True)) + shift
    return total if keepdims else squeeze(total, axis)


logsumexp_p = Primitive("logsumexp", _logsumexp, decomposition=_decomposed_logsumexp)


def _softmax_of(out: Tensor, x: Any, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    if not keepdims:
        out = expand_dims(out, axis)
    return ew._share(x, out)


defvjp(
    logsumexp_p,
    lambda g, out, x, axis, keepdims: (g if keepdims else expand_dims(g, axis)) * _softmax_of(out, x, axis, keepdims),
)
defjvp(
    logsumexp_p,
    lambda t, out, x, axis, keepdims: sum_(t * _softmax_of(out, x, axis, keepdims), axis, keepdims),
)
defcost(logsumexp_p, lambda out, x, axis, keepdims: (3 * x.size + out.size, 0))


@rounded_once
def logsumexp(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow; -inf (with zero gradients) where all elements are -inf or there are none."""
    x = as_tensor(x)
    if not is_inexact(x.dtype):
        x = as_tensor(x.data.astype(np.float64))
    return bind(logsumexp_p, x, axis=normalize_axes("logsumexp", axis, x.ndim), keepdims=keepdims)
