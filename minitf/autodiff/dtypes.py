"""Which dtype an operation computes in.

NumPy's promotion (NEP 50: Python scalars are weak), except that

- an integer or boolean array never widens a floating or complex one: float32 with int64 stays float32;
- a Python scalar never widens bfloat16 or an 8-bit float either, as NumPy lets a ``float`` do;
- bfloat16 and the 8-bit floats meet one another, and float16, in float32: NumPy has no common type for most of them.

What adds up many values of a 16- or 8-bit floating type does so in float32 and rounds the result once.
``tests/autodiff/test_dtypes.py`` holds the table.
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


def is_low_precision(dtype: np.dtype) -> bool:
    """True for the formats that NumPy does not have itself."""
    return dtype in _EXTENDED


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


def common_dtype(*dtypes: np.dtype) -> np.dtype:
    """The dtype in which arrays of ``dtypes`` meet."""
    floating = {dtype for dtype in dtypes if is_inexact(dtype)} or set(dtypes)
    if len(floating) == 1:
        return floating.pop()
    return np.result_type(*(np.float32 if dtype in _EXTENDED else dtype for dtype in floating))


def promote(*arrays: Any) -> tuple[Any, ...]:
    """``arrays`` so that NumPy's own promotion gives the dtype that this page promises.

    Casts integers and booleans to the floating dtype of the others, if there is one, and the formats of ``ml_dtypes``
    where they meet another; Python scalars are touched only beside those.
    """
    floating = {a.dtype for a in arrays if hasattr(a, "dtype") and is_inexact(a.dtype)}
    if not floating:
        return arrays
    target, extended = common_dtype(*floating), not _EXTENDED.isdisjoint(floating)

    def cast(a: Any) -> Any:
        if not hasattr(a, "dtype"):
            return np.asarray(a, np.complex64 if isinstance(a, complex) else target) if extended else a
        moved = a.dtype.kind in "iub" or (extended and a.dtype in _EXTENDED)
        return np.asarray(a).astype(target, copy=False) if moved else a

    return tuple(cast(a) for a in arrays)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The dtype that values of ``dtype`` are added up in: float32 for 16- and 8-bit floats, else the same."""
    return np.dtype(np.float32) if dtype.itemsize <= 2 and is_floating(dtype) else dtype


def to_add_up(*arrays: np.ndarray) -> tuple[list[np.ndarray], np.dtype]:
    """``arrays`` in one dtype, the ``accumulator`` of the result's, and the result's dtype."""
    arrays = promote(*arrays)
    dtype = np.result_type(*arrays)
    return [a.astype(accumulator(dtype), copy=False) for a in arrays], dtype
