"""Loops over elements: flat arrays are cut into pieces, and threads share the pieces.

Cuts are at multiples of a vector's length, so that an element is computed by the same instructions (the loop's vectors,
or what is left over after them) for any number of threads. A kernel that is handed its pieces as arrays counts from 0;
the compiler does not make vectors of a loop whose indices it believes may be negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.kernels.pool import over_rows

#: elements of a piece
PIECE = 1 << 14


def over_elements(
    kernel: Callable[..., None], *arrays: np.ndarray, options: tuple[Any, ...] = (), outputs: int = 1, threads: int
) -> Any:
    """The outputs of ``kernel(*arrays, *options, *outputs)``: one of the first array's shape and dtype, or a tuple.

    The arrays are of one shape, which the kernel does not see: it gets flat pieces.
    """
    shape, dtype = arrays[0].shape, arrays[0].dtype
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    out = [np.empty(flat[0].size, dtype) for _ in range(outputs)]

    def some(start: int, stop: int) -> None:
        part = slice(start * PIECE, stop * PIECE)
        kernel(*(a[part] for a in flat), *options, *(o[part] for o in out))

    over_rows(some, -(-flat[0].size // PIECE), threads=threads)
    shaped = tuple(o.reshape(shape) for o in out)
    return shaped if outputs > 1 else shaped[0]
