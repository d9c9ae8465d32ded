"""Making arrays: constants to every transformation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.dtypes import as_dtype
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Tensor, as_tensor, plain

Shape = int | Sequence[int]


def _sizes(what: str, shape: Any) -> tuple[int, ...]:
    sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0 for n in sizes):
        raise ShapeError(f"{what}: a shape is an integer or several, none of them negative; got {shape!r}")
    return sizes


def _dtype(dtype: Any) -> np.dtype:
    return current().dtype if dtype is None else as_dtype(dtype)


def zeros(shape: Shape, dtype: Any = None) -> Tensor:
    """Zeros, of the configured dtype by default."""
    return plain(np.zeros(_sizes("zeros", shape), _dtype(dtype)))


def ones(shape: Shape, dtype: Any = None) -> Tensor:
    """Ones, of the configured dtype by default."""
    return plain(np.ones(_sizes("ones", shape), _dtype(dtype)))


def full(shape: Shape, value: float, dtype: Any = None) -> Tensor:
    """``value`` everywhere, of the configured dtype by default."""
    return plain(np.full(_sizes("full", shape), value, _dtype(dtype)))


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros with the shape and dtype of ``x``."""
    return plain(np.zeros_like(as_tensor(x).data, dtype=None if dtype is None else as_dtype(dtype)))


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones with the shape and dtype of ``x``."""
    return plain(np.ones_like(as_tensor(x).data, dtype=None if dtype is None else as_dtype(dtype)))


def arange(*bounds: float, dtype: Any = None) -> Tensor:
    """``arange(stop)``, ``arange(start, stop)`` or ``arange(start, stop, step)``: NumPy's."""
    if not 1 <= len(bounds) <= 3 or (len(bounds) == 3 and bounds[2] == 0):
        raise ValueError(f"arange: give stop, start and stop, or start, stop and a step that is not 0; got {bounds}")
    return plain(np.arange(*bounds, dtype=None if dtype is None else as_dtype(dtype)))


def linspace(start: float, stop: float, num: int, dtype: Any = None) -> Tensor:
    """``num`` equally spaced values, both ends included."""
    if isinstance(num, bool) or not isinstance(num, (int, np.integer)) or num < 0:
        raise ValueError(f"linspace: num must be an integer of at least 0, got {num!r}")
    return plain(np.linspace(start, stop, num).astype(_dtype(dtype)))


def eye(n: int, m: int | None = None, dtype: Any = None) -> Tensor:
    """The identity matrix."""
    return plain(np.eye(n, m, dtype=_dtype(dtype)))
