"""Arrays from other libraries: anything NumPy takes, and torch and jax arrays without importing either.

NumPy has no bfloat16 and no 8-bit floats; their bits cross as integers and are viewed with ``ml_dtypes``' types.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import LOW_PRECISION


def to_numpy(data: Any) -> np.ndarray:
    """``data`` as an ndarray, sharing memory where it can.

    Raises TypeError for what is no array of numbers, ValueError for ragged nested lists.
    """
    if isinstance(data, np.ndarray):
        array = data
    elif type(data).__module__.partition(".")[0] == "torch":
        array = _from_torch(data)
    elif isinstance(data, (list, tuple)):
        try:
            array = np.asarray([np.asarray(d) if hasattr(d, "__array__") else d for d in data])
        except ValueError as error:
            raise ValueError(f"tensor: the nested sequences are ragged or mixed ({error})") from None
    else:
        array = np.asarray(data)
    if array.dtype.kind not in "biufc" and array.dtype not in LOW_PRECISION.values():
        raise TypeError(f"tensor: a {type(data).__name__} of {array.dtype} is no array of numbers")
    return array


def _from_torch(data: Any) -> np.ndarray:
    value = data.detach().cpu().resolve_conj().resolve_neg()
    name = str(value.dtype).removeprefix("torch.")
    if name in LOW_PRECISION:
        torch = sys.modules["torch"]  # it is there: the caller holds one of its arrays
        bits = torch.int16 if LOW_PRECISION[name].itemsize == 2 else torch.uint8
        return value.contiguous().view(bits).numpy().view(LOW_PRECISION[name])
    return value.numpy()
