"""Arrays from other libraries: anything NumPy takes, and torch and jax arrays without importing either.

NumPy has no bfloat16 and no 8-bit floats; their bits cross as integers and are viewed with ``ml_dtypes``' types.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import LOW_PRECISION, is_low_precision


def to_numpy(data: Any) -> np.ndarray:
    """``data`` as an ndarray in the machine's byte order, sharing memory where it can.

    Raises TypeError for what is no array of numbers and for a list of Tensors that are being differentiated, ValueError
    for ragged nested lists.
    """
    if _is_torch(data):
        array = _from_torch(data)
    elif isinstance(data, (list, tuple)):
        array = _from_sequence(data)
    else:
        array = np.asarray(data)
    if array.dtype.kind not in "biufc" and not is_low_precision(array.dtype):
        raise TypeError(f"tensor: a {type(data).__name__} of {array.dtype} is no array of numbers")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _from_sequence(data: Any) -> np.ndarray:
    """Nested lists and tuples of numbers and arrays."""
    if any(getattr(getattr(part, "trace", None), "active", False) for part in data):
        raise TypeError(
            "tensor: a list of Tensors that are being differentiated would lose their derivative; use mt.stack"
        )
    parts = [to_numpy(part) if hasattr(part, "__array__") or isinstance(part, (list, tuple)) else part for part in data]
    try:
        return np.asarray(parts)
    except ValueError as error:
        raise ValueError(f"tensor: the nested sequences are ragged or mixed ({error})") from None


def _is_torch(data: Any) -> bool:
    torch = sys.modules.get("torch")  # whoever holds a torch array has imported it
    return torch is not None and isinstance(data, getattr(torch, "Tensor", ()))


def _from_torch(data: Any) -> np.ndarray:
    value = data.detach().cpu().resolve_conj().resolve_neg()
    name = str(value.dtype).removeprefix("torch.")
    if name in LOW_PRECISION:
        torch = sys.modules["torch"]
        bits = torch.int16 if LOW_PRECISION[name].itemsize == 2 else torch.uint8
        return value.view(bits).numpy().view(LOW_PRECISION[name])
    return value.numpy()
