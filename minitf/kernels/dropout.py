"""Dropout, given what is kept: y = x factor where ``keep``, else 0, whatever x is there."""

from __future__ import annotations

import numpy as np

from minitf.kernels.compile import jit
from minitf.kernels.elementwise import over_elements


@jit
def _dropout(x, keep, factor, out):
    factor, zero = x.dtype.type(factor), x.dtype.type(0)
    for i in range(x.size):
        out[i] = x[i] * factor if keep[i] else zero


def dropout(x: np.ndarray, *, keep: np.ndarray, factor: float, threads: int) -> np.ndarray:
    """x (*), keep (*) boolean -> (*)."""
    return over_elements(_dropout, x, keep, options=(factor,), threads=threads)


def dropout_twin(x: np.ndarray, *, keep: np.ndarray, factor: float) -> np.ndarray:
    return np.where(keep, x, x.dtype.type(0)) * x.dtype.type(factor)
