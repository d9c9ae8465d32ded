"""A checkpoint file: nested dicts, lists and tuples of arrays and plain values, exactly, in one ``.npz``.

Arrays are members of the archive, named by a number and the path that leads to them; the member ``tree`` is JSON and says
what is where. Nothing is pickled, so a file of a stranger can do no more than be wrong. A file is written beside its place
and moved there when all of it is on the disk (``minitf.files``): a crash at any point, or a full disk, leaves what was there
before. Every member has a checksum, so a damaged file is refused, whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import as_dtype, is_low_precision
from minitf.files import replacing


def write_checkpoint(path: str | os.PathLike[str], tree: Any) -> None:
    """Writes ``tree`` to ``path`` in one step.

    tree: dicts, lists and tuples of arrays, NumPy scalars, and what JSON has: numbers, strings, booleans, None.

    Raises TypeError for anything else, with the path that leads there; nothing is written then.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_packed(tree, "", arrays))
    arrays["tree"] = np.frombuffer(text.encode(), np.uint8)
    with replacing(path) as scratch, scratch.open("wb") as stream:
        np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """What ``write_checkpoint`` was given.

    Raises ValueError for a file that is damaged or of another kind, FileNotFoundError where there is none.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _unpacked(json.loads(arrays["tree"].tobytes()), arrays)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged archive makes its reader stumble in many ways
        raise ValueError(f"{path} is damaged, or no checkpoint: {error}") from error


def _packed(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """``value`` as JSON that says what each part is; arrays go to ``arrays`` under their path."""
    if isinstance(value, dict):
        return {"dict": [[key, _packed(item, f"{path}/{key}", arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_packed(item, f"{path}/{i}", arrays) for i, item in enumerate(value)]}
    if isinstance(value, np.ndarray | np.generic):
        name, array = f"{len(arrays)}{path}", np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"a checkpoint cannot hold {path[1:]}: an array of Python objects")
        arrays[name] = array.view(f"u{array.itemsize}") if is_low_precision(array.dtype) else array
        return {"array" if isinstance(value, np.ndarray) else "scalar": [name, array.dtype.name]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"a checkpoint cannot hold {path[1:]}: {type(value).__name__}; arrays, numbers, strings, None, and dicts, "
        "lists and tuples of them can be kept"
    )


def _unpacked(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, items),) = value.items()
    if kind == "dict":
        return {key: _unpacked(item, arrays) for key, item in items}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_unpacked(item, arrays) for item in items)
    name, dtype = items
    array = arrays[name]
    array = array.view(as_dtype(dtype)) if is_low_precision(as_dtype(dtype)) else array
    return array if kind == "array" else array[()]
