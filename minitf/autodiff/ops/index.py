"""Reading and writing by index. The transpose of reading is adding into zeros, exactly, also where an index repeats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf.autodiff.dispatch import compiled
from minitf.autodiff.dtypes import accumulator, is_floating
from minitf.autodiff.errors import ShapeError, fits_into
from minitf.autodiff.ops.broadcast import broadcast_to, normalize_axes, unbroadcast
from minitf.autodiff.ops.elementwise import where
from minitf.autodiff.rules import defcost, deflinear
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import embedding as kernels


def _is_basic(index: Any) -> bool:
    """True when NumPy returns a view: integers, slices, Ellipsis and None only."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice, np.integer)) for p in parts)


_add_rows = compiled(kernels.add_rows, kernels.add_rows_twin)


def _scatter(x: np.ndarray, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros with ``x`` added at ``index``, once for every occurrence of an index."""
    ids = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and ids.size and is_floating(x.dtype):
        D = math.prod(shape[1:])
        rows = np.broadcast_to(x, (*ids.shape, *shape[1:])).reshape(ids.size, D)
        out = _add_rows(rows.astype(accumulator(x.dtype), copy=False), ids.reshape(-1) % shape[0], V=shape[0])
        return out.reshape(shape).astype(x.dtype, copy=False)
    target = np.zeros(shape, accumulator(x.dtype))
    if _is_basic(index):
        target[index] += x
    else:
        np.add.at(target, index, x)
    return target.astype(x.dtype, copy=False)


index_p = Primitive("index", lambda x, index: x[index])
scatter_p = Primitive("scatter_add", _scatter)
deflinear(index_p, lambda g, out, x, index: bind(scatter_p, g, index=index, shape=x.shape))
deflinear(scatter_p, lambda g, out, x, index, shape: unbroadcast(bind(index_p, g, index=index), x))
defcost(scatter_p, lambda out, x, index, shape: (0 if _is_basic(index) else x.size, 0))


def _plain_index(index: Any) -> Any:
    """``index`` with Tensors and lists as integer or boolean ndarrays, checked."""
    if isinstance(index, tuple):
        return tuple(_plain_index(part) for part in index)
    if isinstance(index, Tensor):
        index = index.data
    if isinstance(index, list):
        index = np.asarray(index) if index else np.zeros(0, np.intp)
    if isinstance(index, np.ndarray) and index.dtype.kind not in "iub":
        raise TypeError(f"an index must be integer or boolean, got {index.dtype} {index.shape}")
    if isinstance(index, (float, complex, str, dict)):
        raise TypeError(
            f"an index must be an integer, a slice, None, Ellipsis, an integer or a boolean array, got {index!r}"
        )
    return index


def index(x: ArrayLike, index: Any) -> Tensor:
    """``x[index]``, basic and advanced, with NumPy's meaning."""
    return bind(index_p, as_tensor(x), index=_plain_index(index))


def index_add(x: ArrayLike, index: Any, values: ArrayLike) -> Tensor:
    """``x`` with ``values`` added at ``index``; a repeated index adds every time."""
    x = as_tensor(x)
    return x + _placed("index_add", x, _plain_index(index), as_tensor(values))


def index_put(x: ArrayLike, index: Any, values: ArrayLike) -> Tensor:
    """``x`` with ``x[index]`` replaced by ``values``. The index must not name an element twice."""
    x, index = as_tensor(x), _plain_index(index)
    new = _placed("index_put", x, index, as_tensor(values))
    hits = _scatter(np.asarray(1), index, x.shape)
    if hits.max(initial=0) > 1:
        raise IndexError("index_put: the index names an element twice, so the result would depend on an order")
    return where(hits > 0, new, x)


def _placed(what: str, x: Tensor, index: Any, values: Tensor) -> Tensor:
    """Zeros of the shape of ``x`` with ``values`` added at ``index``."""
    try:
        shape = np.broadcast_to(False, x.shape)[index].shape
    except IndexError as error:
        raise IndexError(f"{what}: {error} (an array of shape {x.shape})") from None
    if not fits_into(values.shape, shape):
        raise ShapeError(f"{what}: values of shape {values.shape} do not broadcast to x[index] of shape {shape}")
    return bind(scatter_p, broadcast_to(values, shape), index=index, shape=x.shape)


def take(x: ArrayLike, indices: ArrayLike, axis: int | None = None) -> Tensor:
    """Elements of ``x`` at integer ``indices`` along ``axis`` (of the flattened array by default)."""
    x = as_tensor(x)
    if axis is None:
        from minitf.autodiff.ops.shape import ravel

        return take(ravel(x), indices, 0)
    (axis,) = normalize_axes("take", axis, x.ndim)
    return index(x, (slice(None),) * axis + (as_tensor(indices),))


def _along(what: str, x: Tensor, indices: Any, axis: int) -> tuple[np.ndarray, int]:
    where = as_tensor(indices).data
    (axis,) = normalize_axes(what, axis, x.ndim)
    if where.dtype.kind not in "iu":
        raise TypeError(f"{what}: indices must be integers, got {where.dtype}")
    if where.ndim != x.ndim:
        raise ShapeError(f"{what}: indices of shape {where.shape} need as many dimensions as the array {x.shape}")
    return where, axis


def _put_along(values: np.ndarray, indices: np.ndarray, axis: int, shape: tuple[int, ...]) -> np.ndarray:
    full = np.zeros(shape, accumulator(values.dtype))
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    np.add.at(full, tuple(grid), values)
    return full.astype(values.dtype, copy=False)


take_along_p = Primitive("take_along_axis", lambda x, indices, axis: np.take_along_axis(x, indices, axis))
put_along_p = Primitive("scatter_add_along_axis", _put_along)
deflinear(
    take_along_p,
    lambda g, out, x, indices, axis: bind(put_along_p, g, indices=indices, axis=axis, shape=x.shape),
)
deflinear(put_along_p, lambda g, out, x, indices, axis, shape: bind(take_along_p, g, indices=indices, axis=axis))
defcost(put_along_p, lambda out, x, indices, axis, shape: (x.size, 0))


def take_along_axis(x: ArrayLike, indices: ArrayLike, axis: int) -> Tensor:
    """``out[..., i, ...] = x[..., indices[..., i, ...], ...]``; the other axes of ``indices`` match or broadcast."""
    x = as_tensor(x)
    where, axis = _along("take_along_axis", x, indices, axis)
    common = tuple(
        n if i == axis else max(n, m) if min(n, m) else min(n, m)
        for i, (n, m) in enumerate(zip(x.shape, where.shape, strict=True))
    )
    target = (*common[:axis], x.shape[axis], *common[axis + 1 :])
    where = np.broadcast_to(where, (*common[:axis], where.shape[axis], *common[axis + 1 :]))
    return bind(take_along_p, broadcast_to(x, target), indices=where, axis=axis)


def put_along_axis(x: ArrayLike, indices: ArrayLike, values: ArrayLike, axis: int) -> Tensor:
    """A copy of ``x`` with the elements at ``indices`` along ``axis`` replaced; no index may repeat in a line."""
    x = as_tensor(x)
    places, axis = _along("put_along_axis", x, indices, axis)
    values = as_tensor(values)
    if places.shape != tuple(m if i == axis else n for i, (n, m) in enumerate(zip(x.shape, places.shape, strict=True))):
        raise ShapeError(f"put_along_axis: indices {places.shape} must match {x.shape} on all axes but axis {axis}")
    if not fits_into(values.shape, places.shape):
        raise ShapeError(f"put_along_axis: values {values.shape} do not broadcast to the indices {places.shape}")
    new = bind(put_along_p, broadcast_to(values, places.shape), indices=places, axis=axis, shape=x.shape)
    hits = _put_along(np.broadcast_to(1, places.shape), places, axis, x.shape)
    if hits.max(initial=0) > 1:
        raise IndexError("put_along_axis: an index repeats along the axis, so the result would depend on an order")
    return where(hits > 0, new, x)
