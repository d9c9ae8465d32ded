"""Which implementation a primitive runs: the compiled kernel, or its twin in plain NumPy.

    softmax_p = Primitive("softmax", compiled(kernels.softmax, kernels.softmax_twin), decomposition=...)

The kernel is called with ``threads`` of ``mt.config``. The twin runs under ``mt.config(kernels="numpy")``, for dtypes
that kernels are not compiled for (all but float32 and float64), and for arrays so small that it is as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.dtypes import accumulator

#: elements of the largest array below which the twin runs
SMALL = 4096


def compiled(kernel: Callable[..., Any], twin: Callable[..., Any], *, small: int = SMALL) -> Callable[..., Any]:
    """What a primitive evaluates: ``kernel(*arrays, threads=..., **params)`` or ``twin(*arrays, **params)``."""

    def evaluate(*arrays: Any, **params: Any) -> Any:
        settings = current()
        if settings.kernels == "numpy" or not _suits(arrays, small):
            return twin(*arrays, **params)
        return kernel(*arrays, threads=settings.threads, **params)

    return evaluate


def widened(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """``evaluate`` also for 16- and 8-bit floats: in float32, and floating results are rounded once.

    The first array has the dtype of all that are floating, and of the results.
    """

    def evaluate_widely(first: np.ndarray, *others: Any, **params: Any) -> Any:
        dtype, wide = first.dtype, accumulator(first.dtype)
        if wide == dtype:
            return evaluate(first, *others, **params)
        arrays = [a.astype(wide) if isinstance(a, np.ndarray) and a.dtype == dtype else a for a in (first, *others)]
        out = evaluate(*arrays, **params)
        return tuple(o.astype(dtype) for o in out) if isinstance(out, tuple) else out.astype(dtype)

    return evaluate_widely


def _suits(arrays: tuple[Any, ...], small: int) -> bool:
    """Whether all floating arrays are float32 or all are float64, and one array is large enough."""
    largest, kind = 0, ""
    for a in arrays:
        if isinstance(a, np.ndarray):
            largest = max(largest, a.size)
            if a.dtype.kind not in "iub":
                if a.dtype.char not in "fd" or kind not in ("", a.dtype.char):
                    return False
                kind = a.dtype.char
    return largest >= small
