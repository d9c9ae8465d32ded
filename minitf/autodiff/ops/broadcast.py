"""Sums, broadcasts, reshapes and casts: the linear operations that every other rule needs.

``unbroadcast`` is the transpose of broadcasting: it brings a cotangent back to the shape and dtype of an argument.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import accumulator, as_dtype, is_complex
from minitf.autodiff.errors import ShapeError, fits_into
from minitf.autodiff.rules import defcost, defjvp, deflinear, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind

Axes = int | Sequence[int] | None


def normalize_axes(what: str, axis: Axes, ndim: int) -> tuple[int, ...]:
    """``axis`` as a sorted tuple of non-negative axes; None means all of them.

    Raises ShapeError for an axis that is not there or is named twice, TypeError for what is no integer.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    found = []
    for a in axes:
        if isinstance(a, bool) or not hasattr(a, "__index__"):
            raise TypeError(f"{what}: an axis must be an integer, got {a!r}")
        a = a.__index__()  # pyright: ignore
        if not -ndim <= a < ndim:
            raise ShapeError(f"{what}: axis {a} is out of range for an array of {ndim} dimensions")
        found.append(a % ndim)
    if len(set(found)) != len(found):
        raise ShapeError(f"{what}: axis {axis} names an axis twice")
    return tuple(sorted(found))


# -- sum and broadcast_to, each the other's transpose -----------------------------------------------------------


def _sum(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> Any:
    wide = accumulator(x.dtype)
    if wide is x.dtype:
        return np.sum(x, axis=axis, keepdims=keepdims)
    return np.sum(x, axis=axis, dtype=wide, keepdims=keepdims).astype(x.dtype)


sum_p = Primitive("sum", _sum)
broadcast_p = Primitive("broadcast_to", lambda x, shape: np.broadcast_to(x, shape))


def _sum_vjp(g: Tensor, out: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    if not keepdims:
        g = reshape(g, tuple(1 if i in axis else n for i, n in enumerate(x.shape)))
    return broadcast_to(g, x.shape)


deflinear(sum_p, _sum_vjp)
deflinear(broadcast_p, lambda g, out, x, shape: unbroadcast(g, x))
defcost(sum_p, lambda out, x, axis, keepdims: (max(x.size - out.size, 0), 0))


def sum(x: ArrayLike, axis: Axes = None, keepdims: bool = False) -> Tensor:  # NumPy's name
    """Sum over ``axis`` (all by default); signed integers and booleans sum to int64, floats keep their dtype."""
    x = as_tensor(x)
    return bind(sum_p, x, axis=normalize_axes("sum", axis, x.ndim), keepdims=keepdims)


def broadcast_to(x: ArrayLike, shape: int | Sequence[int]) -> Tensor:
    """``x`` repeated along new and size-1 axes to ``shape``; a view."""
    x = as_tensor(x)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if x.shape == shape:
        return x
    if not fits_into(x.shape, shape):
        raise ShapeError(
            f"broadcast_to: {x.shape} does not broadcast to {shape}; aligned from the right, sizes must be equal or 1"
        )
    return bind(broadcast_p, x, shape=shape)


def unbroadcast(g: Tensor, like: Any) -> Tensor:
    """The cotangent ``g`` of a broadcast (and promoted) copy of ``like``, as a cotangent of ``like``."""
    if isinstance(like, Tensor):
        like = like.data
    shape, dtype = like.shape, like.dtype
    given = g.data.shape
    if given != shape:
        extra = len(given) - len(shape)
        axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and given[i + extra] != 1)
        if axes:
            g = bind(sum_p, g, axis=axes, keepdims=False)
        g = reshape(g, shape)
    return g if g.data.dtype is dtype or g.data.dtype == dtype else astype(g, dtype)


# -- reshape ----------------------------------------------------------------------------------------------------

reshape_p = Primitive("reshape", lambda x, shape: np.reshape(x, shape))
deflinear(reshape_p, lambda g, out, x, shape: reshape(g, x.shape))


def reshape(x: ArrayLike, shape: int | Sequence[int]) -> Tensor:
    """``x`` in row-major order under another shape; one entry may be -1."""
    x = as_tensor(x)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if x.shape == shape:
        return x
    if -1 in shape:
        known = math.prod(n for n in shape if n != -1)
        if shape.count(-1) > 1 or (known == 0 and x.size) or (known and x.size % known):
            raise ShapeError(f"reshape: cannot turn shape {x.shape} ({x.size} elements) into {shape}")
    elif math.prod(shape) != x.size or min(shape, default=0) < 0:
        raise ShapeError(f"reshape: cannot turn shape {x.shape} ({x.size} elements) into {shape}")
    return bind(reshape_p, x, shape=shape)


# -- dtypes and complex parts -----------------------------------------------------------------------------------


def _astype(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if x.dtype.kind == "c" and dtype.kind != "c":
        x = np.real(x)
    return x.astype(dtype)


astype_p = Primitive("astype", _astype)
deflinear(astype_p, lambda g, out, x, dtype: astype(g, x.dtype))
real_p = Primitive("real", lambda x: np.real(x))
deflinear(real_p, lambda g, out, x: astype(g, x.dtype))
imag_p = Primitive("imag", lambda x: np.imag(x))
deflinear(imag_p, lambda g, out, x: astype(g, x.dtype) * 1j)
conj_p = Primitive("conj", np.conjugate)
defvjp(conj_p, lambda g, out, x: conj(g), saves=())
defjvp(conj_p, "linear")


def astype(x: ArrayLike, dtype: Any) -> Tensor:
    """``x`` cast to ``dtype``; from complex to real keeps the real part. Casts to integers are constants."""
    x = as_tensor(x)
    dtype = as_dtype(dtype)
    if x.dtype == dtype:
        return x
    if dtype.kind in "iub":
        return Tensor(_astype(x.data, dtype))
    return bind(astype_p, x, dtype=dtype)


def rounded_once(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``operation(x, ...)`` for 16- and 8-bit floats too: computed in float32, the result rounded to their dtype."""

    @functools.wraps(operation)
    def wide(x: ArrayLike, *args: Any, **kwargs: Any) -> Tensor:
        x = as_tensor(x)
        working = accumulator(x.dtype)
        if working is x.dtype:
            return operation(x, *args, **kwargs)
        return astype(operation(astype(x, working), *args, **kwargs), x.dtype)

    return wide


def real(x: ArrayLike) -> Tensor:
    """The real part."""
    x = as_tensor(x)
    return bind(real_p, x) if is_complex(x.dtype) else x


def imag(x: ArrayLike) -> Tensor:
    """The imaginary part; zeros for real input."""
    x = as_tensor(x)
    return bind(imag_p, x) if is_complex(x.dtype) else Tensor(np.zeros_like(x.data))


def conj(x: Any) -> Any:
    """The complex conjugate; real Tensors and Python scalars are returned as they are."""
    if not isinstance(x, Tensor):
        if isinstance(x, (bool, int, float, complex)) and not isinstance(x, np.generic):
            return x.conjugate()
        x = as_tensor(x)
    return bind(conj_p, x) if x.data.dtype.kind == "c" else x
