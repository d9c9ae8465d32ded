"""Sorting and choosing by size: permutations are constants, values are gathered.

Ties go to the lowest index; NaN counts as the largest, as in NumPy.
"""

from __future__ import annotations

import numpy as np

from minitf.autodiff.dispatch import compiled
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import normalize_axes
from minitf.autodiff.ops.index import take_along_axis
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import top_k as kernels

_top_places = compiled(kernels.top_k, kernels.top_k_twin)


def _top_k(x: np.ndarray, k: int, axis: int) -> np.ndarray:
    return np.moveaxis(_top_places(np.moveaxis(x, axis, -1), k=k), -1, axis)


def _argsort(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    return _top_k(x, x.shape[axis], axis) if descending else np.argsort(x, axis=axis, kind="stable")


top_k_p = Primitive("top_k", _top_k)
argsort_p = Primitive("argsort", _argsort)


def argsort(x: ArrayLike, axis: int = -1, descending: bool = False) -> Tensor:
    """The indices that sort ``x`` along ``axis``, stably."""
    x = as_tensor(x)
    (axis,) = normalize_axes("argsort", axis, x.ndim)
    return bind(argsort_p, x, axis=axis, descending=descending)


def sort(x: ArrayLike, axis: int = -1, descending: bool = False) -> Tensor:
    """``x`` in ascending (or descending) order along ``axis``; the gradient follows the permutation."""
    x = as_tensor(x)
    (axis,) = normalize_axes("sort", axis, x.ndim)
    return take_along_axis(x, argsort(x, axis, descending), axis)


def top_k(x: ArrayLike, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The ``k`` largest values along ``axis``, descending, and their indices; the gradient goes to the chosen entries."""
    x = as_tensor(x)
    (axis,) = normalize_axes("top_k", axis, x.ndim)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k <= x.shape[axis]:
        raise ShapeError(f"top_k: k must be an integer from 0 to {x.shape[axis]} (axis {axis} of {x.shape}), got {k!r}")
    indices = bind(top_k_p, x, k=int(k), axis=axis)
    return take_along_axis(x, indices, axis), indices
