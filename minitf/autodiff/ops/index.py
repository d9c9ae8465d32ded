"""Reading and writing by index. The transpose of reading is adding into zeros, exactly, also where an index repeats."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import broadcast_to, normalize_axes, unbroadcast
from minitf.autodiff.rules import defcost, deflinear
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind, plain


def _is_basic(index: Any) -> bool:
    """True when NumPy returns a view: integers, slices, Ellipsis and None only."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice, np.integer)) for p in parts)


def _add_at(target: np.ndarray, index: Any, values: np.ndarray) -> np.ndarray:
    """``target[index] += values``, adding once for every occurrence of an index."""
    if _is_basic(index):
        target[index] += values
        return target
    rows = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    if isinstance(rows, np.ndarray) and rows.dtype.kind in "iu" and target.ndim > 1 and rows.size:
        return _add_rows(target, rows, values)
    np.add.at(target, index, values)
    return target


def _add_rows(target: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adds ``values[i]`` to ``target[rows[i]]``: sorted by row, every row's sum in the order of its occurrences."""
    flat = rows.reshape(-1) % len(target)
    parts = np.broadcast_to(values, (*rows.shape, *target.shape[1:])).reshape(flat.size, *target.shape[1:])
    order = np.argsort(flat, kind="stable")
    present, starts = np.unique(flat[order], return_index=True)
    target[present] += np.add.reduceat(parts[order], starts, axis=0)
    return target


def _scatter(x: np.ndarray, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    return _add_at(np.zeros(shape, x.dtype), index, x)


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
    x, values = as_tensor(x), as_tensor(values)
    where = _plain_index(index)
    shape = (
        np.empty(0).reshape(0).shape if x.size == 0 else np.broadcast_to(np.zeros((), np.bool_), x.shape)[where].shape
    )
    return x + bind(scatter_p, broadcast_to(values, shape), index=where, shape=x.shape)


def index_put(x: ArrayLike, index: Any, values: ArrayLike) -> Tensor:
    """``x`` with ``x[index]`` replaced by ``values``. The index must not name an element twice."""
    x, values = as_tensor(x), as_tensor(values)
    where = _plain_index(index)
    hits = _scatter(np.ones(np.broadcast_to(np.zeros((), np.int8), x.shape)[where].shape, np.int64), where, x.shape)
    if hits.size and hits.max() > 1:
        raise IndexError("index_put: the index names an element twice, so the result would depend on an order")
    kept = as_tensor(np.where(hits == 0, 1, 0).astype(x.dtype))
    return index_add(x * kept, where, values)


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
    full = np.zeros(shape, values.dtype)
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    np.add.at(full, tuple(grid), values)
    return full


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
    where, axis = _along("put_along_axis", x, indices, axis)
    ordered = np.sort(where % max(x.shape[axis], 1), axis=axis)
    if (np.diff(ordered, axis=axis) == 0).any():
        raise IndexError("put_along_axis: an index repeats along the axis, so the result would depend on an order")
    new = broadcast_to(as_tensor(values), where.shape)
    full = tuple(where.shape[i] if i == axis else n for i, n in enumerate(x.shape))
    if where.shape != full:
        raise ShapeError(f"put_along_axis: indices {where.shape} must match {x.shape} on all axes but axis {axis}")
    kept = plain(1 - _put_along(np.ones(where.shape, np.int8), where, axis, x.shape))
    return x * kept.data.astype(x.dtype) + bind(put_along_p, new, indices=where, axis=axis, shape=x.shape)
