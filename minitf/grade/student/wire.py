"""The binary format between the grader and a submission: frames of plain data, never of code.

A frame is a fixed head, a header in JSON and the bytes of its arrays:

    offset  size  content
         0     4  b"MTF1"
         4     4  length of the header, unsigned, little-endian, at most 1 MiB
         8     8  length of the payload, unsigned, little-endian, at most what the reader allows
        16        header  {"arrays": [[dtype, shape], ...], "value": tree}
                  payload the arrays one after another, C order, little-endian, nothing between them

One frame carries one value. In the tree, ``null``, ``true``, ``false``, strings and integers stand for themselves; the
rest is an object of one key: ``{"float": "0x1.8p+1"}`` (hexadecimal: exact, and infinities and NaN have a spelling),
``{"array": index}``, ``{"list": [...]}``, ``{"tuple": [...]}`` and ``{"dict": {...}}`` with strings for keys.

Neither side trusts the other: every length is checked before anything is allocated, every dtype and shape before an
array is made, and whatever does not fit raises ``WireError``.
"""

from __future__ import annotations

import json
import math
import struct
from typing import IO, Any

import numpy as np

HEAD = struct.Struct("<4sIQ")
MAGIC = b"MTF1"
MAX_HEADER = 1 << 20
MAX_DEPTH = 16
MAX_NDIM = 32
#: what an array may be made of; a name has the same meaning on every machine, and is little-endian on the wire
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}


class WireError(ValueError):
    """A value that cannot be sent, or bytes that are not a frame."""


class Closed(WireError):
    """The other side closed the connection before a frame was complete."""


def send(stream: IO[bytes], value: Any) -> None:
    """Writes one frame."""
    stream.write(pack(value))
    stream.flush()


def receive(stream: IO[bytes], max_payload: int) -> Any:
    """Reads one frame; raises ``Closed`` when there is none, ``WireError`` when it is not one."""
    magic, header_size, payload_size = HEAD.unpack(_exactly(stream, HEAD.size))
    if magic != MAGIC:
        raise WireError("the reply is not a frame of the grading protocol")
    if header_size > MAX_HEADER or payload_size > max_payload:
        raise WireError(
            f"the reply announces {header_size} + {payload_size} bytes; allowed are {MAX_HEADER} + {max_payload}"
        )
    header = _exactly(stream, header_size)
    return unpack(header, _exactly(stream, payload_size))


def pack(value: Any) -> bytes:
    """The frame of a value; raises ``WireError`` when the value is not plain data."""
    arrays: list[np.ndarray] = []
    header = json.dumps({"value": _tree(value, arrays, 0), "arrays": [[a.dtype.name, list(a.shape)] for a in arrays]})
    if len(header) > MAX_HEADER:
        raise WireError("too many numbers outside of arrays; put them into a NumPy array")
    payload = b"".join(a.astype(DTYPES[a.dtype.name], copy=False).tobytes() for a in arrays)
    return HEAD.pack(MAGIC, len(header), len(payload)) + header.encode() + payload


def unpack(header: bytes, payload: bytes) -> Any:
    """The value of a frame; its arrays are fresh and writable. Raises ``WireError`` on anything unexpected."""
    try:
        fields = json.loads(header, parse_constant=_refuse, parse_float=_refuse)
        arrays, start = [], 0
        for name, shape in fields["arrays"]:
            dtype = DTYPES[name]
            if len(shape) > MAX_NDIM or any(type(length) is not int or length < 0 for length in shape):
                raise WireError(f"not the shape of an array: {shape!r:.100}")
            size = math.prod(shape)
            if size * dtype.itemsize > len(payload) - start:
                raise WireError("the arrays are longer than the payload")
            data = np.frombuffer(payload, dtype, count=size, offset=start).reshape(shape)
            arrays.append(data.astype(dtype.newbyteorder("=")))
            start += data.nbytes
        if start != len(payload):
            raise WireError(f"{len(payload) - start} bytes of the payload belong to no array")
        return _value(fields["value"], arrays, 0)
    except WireError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise WireError(f"the frame is malformed ({type(error).__name__})") from error


def _tree(value: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WireError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.name not in DTYPES:
            raise WireError(f"an array of dtype {array.dtype}; allowed are {', '.join(DTYPES)}")
        arrays.append(array)
        return {"array": len(arrays) - 1}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return {"float": float(value).hex()}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_tree(item, arrays, depth + 1) for item in value]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise WireError("a dict whose keys are not all strings")
        return {"dict": {str(key): _tree(item, arrays, depth + 1) for key, item in value.items()}}
    raise WireError(
        f"an object of type {type(value).__name__}; "
        "allowed are NumPy arrays, numbers, bools, strings, None, and lists, tuples and dicts of these"
    )


def _value(tree: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WireError(f"nested more than {MAX_DEPTH} deep")
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise WireError("a list outside of a node")
        return tree
    ((kind, content),) = tree.items()
    if kind == "float":
        return float.fromhex(content)
    if kind == "array":
        if type(content) is not int or content < 0:
            raise WireError("not the index of an array")
        return arrays[content]
    if kind in ("list", "tuple") and isinstance(content, list):
        items = [_value(item, arrays, depth + 1) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict" and isinstance(content, dict):
        return {key: _value(item, arrays, depth + 1) for key, item in content.items()}
    raise WireError(f"an unknown kind of node: {kind!r:.100}")


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise Closed("the connection was closed")
    return data


def _refuse(text: str) -> Any:
    raise WireError(f"a bare number {text:.100} where only integers are bare")
