"""Which dtype an operation computes in.

NumPy's promotion (NEP 50: Python scalars are weak), with one exception: an integer or boolean array never widens a
floating or complex one, so float32 with int64 stays float32. ``tests/autodiff/test_dtypes.py`` holds the table.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

#: the storage formats of low-precision kernels, by name
LOW_PRECISION = {name: np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")}
_EXTENDED = frozenset(LOW_PRECISION.values())


def as_dtype(dtype: Any) -> np.dtype:
    """``dtype`` as a NumPy dtype; also knows "bfloat16", "float8_e4m3fn", "float8_e5m2" and "longdouble" by name."""
    if isinstance(dtype, str) and dtype in LOW_PRECISION:
        return LOW_PRECISION[dtype]
    try:
        return np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{dtype!r} is not a dtype; allowed are NumPy's names and {', '.join(LOW_PRECISION)}") from None


def is_floating(dtype: np.dtype) -> bool:
    """True for real floating types, the low-precision formats included."""
    return dtype.kind == "f" or dtype in _EXTENDED


def is_inexact(dtype: np.dtype) -> bool:
    """True for the types that can carry a gradient: floating and complex."""
    return dtype.kind in "fc" or dtype in _EXTENDED


def is_complex(dtype: np.dtype) -> bool:
    return dtype.kind == "c"


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of the real part."""
    return np.dtype(dtype.char.lower()) if dtype.kind == "c" else dtype


def promote(*arrays: Any) -> tuple[Any, ...]:
    """Casts integer and boolean arrays among ``arrays`` to the floating dtype of the others, if there is one.

    Python scalars pass through untouched (they are weak in NumPy's own promotion).
    """
    floating = [a.dtype for a in arrays if hasattr(a, "dtype") and is_inexact(a.dtype)]
    if not floating:
        return arrays
    target = floating[0] if len(floating) == 1 else np.result_type(*floating)
    return tuple(np.asarray(a).astype(target) if hasattr(a, "dtype") and a.dtype.kind in "iub" else a for a in arrays)
