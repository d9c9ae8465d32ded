"""Making arrays: constants to every transformation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.dtypes import as_dtype
from minitf.autodiff.tensor import Tensor, as_tensor, plain

Shape = int | Sequence[int]


def _dtype(dtype: Any) -> np.dtype:
    return current().dtype if dtype is None else as_dtype(dtype)


def zeros(shape: Shape, dtype: Any = None) -> Tensor:
    """Zeros, of the configured dtype by default."""
    return plain(np.zeros(shape, _dtype(dtype)))


def ones(shape: Shape, dtype: Any = None) -> Tensor:
    """Ones, of the configured dtype by default."""
    return plain(np.ones(shape, _dtype(dtype)))


def full(shape: Shape, value: float, dtype: Any = None) -> Tensor:
    """``value`` everywhere, of the configured dtype by default."""
    return plain(np.full(shape, value, _dtype(dtype)))


def zeros_like(x: Any, dtype: Any = None) -> Tensor:
    """Zeros with the shape and dtype of ``x``."""
    return plain(np.zeros_like(as_tensor(x).data, dtype=None if dtype is None else as_dtype(dtype)))


def ones_like(x: Any, dtype: Any = None) -> Tensor:
    """Ones with the shape and dtype of ``x``."""
    return plain(np.ones_like(as_tensor(x).data, dtype=None if dtype is None else as_dtype(dtype)))


def arange(*bounds: float, dtype: Any = None) -> Tensor:
    """``arange(stop)``, ``arange(start, stop)`` or ``arange(start, stop, step)``: NumPy's."""
    return plain(np.arange(*bounds, dtype=None if dtype is None else as_dtype(dtype)))


def linspace(start: float, stop: float, num: int, dtype: Any = None) -> Tensor:
    """``num`` equally spaced values, both ends included."""
    return plain(np.linspace(start, stop, num).astype(_dtype(dtype)))


def eye(n: int, m: int | None = None, dtype: Any = None) -> Tensor:
    """The identity matrix."""
    return plain(np.eye(n, m, dtype=_dtype(dtype)))
