"""Reductions over ragged groups: rows that carry the number of their group, in any order.

    segment_sum:      y[n] = sum of the rows of group n                 0 if there are none
    segment_max:      y[n] = the largest of the rows of group n         -inf if there are none
    segment_softmax:  p[i] = exp(x[i]) / (sum of exp(x) over the group of row i)

``segment_ids (M,)`` holds the group of every row of ``values (M, *)``, and ``n`` is the number of groups (by default
one more than the largest id). As in ``jax.ops``, a row whose id is no group, below 0 or at least n, does not
count. This is a sum over the neighbors of a node, attention over the edges of a graph, pooling of packed sequences.
"""

from __future__ import annotations

import math

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.nn.softmax import real_floating


def _segments(what: str, values: Tensor, segment_ids: ArrayLike, n: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    """The ids, which of them are groups, and the number of groups."""
    ids = as_tensor(segment_ids).data
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{what}: segment_ids must be integers, got {ids.dtype} {ids.shape}")
    if ids.ndim != 1 or values.ndim < 1 or len(ids) != values.shape[0]:
        raise ShapeError(
            f"{what}: segment_ids must be (M,), one for each row of values {values.shape}, got {ids.shape}"
        )
    if n is None:
        n = int(ids.max(initial=-1)) + 1
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"{what}: n is the number of groups, an integer that is not negative, got {n!r}")
    return ids, (ids >= 0) & (ids < n), int(n)


def segment_sum(values: ArrayLike, segment_ids: ArrayLike, n: int | None = None) -> Tensor:
    """The sum of the rows of each group: ``(M, *), (M,) -> (n, *)``."""
    values = as_tensor(values)
    ids, counts, n = _segments("segment_sum", values, segment_ids, n)
    if not counts.all():
        values, ids = values[counts], ids[counts]
    return mt.index_add(np.zeros((n, *values.shape[1:]), values.dtype), ids, values)


def _winners(values: np.ndarray, ids: np.ndarray, counts: np.ndarray, n: int) -> np.ndarray:
    """For every group and column of ``values (M, R)`` the first row that is largest; M where there is none."""
    M, R = values.shape
    top = np.full((n, R), -np.inf, values.dtype)
    np.maximum.at(top, ids[counts], values[counts])
    first = np.full((n, R), M)
    rows = np.flatnonzero(counts)
    largest = (values[rows] == top[ids[rows]]) | np.isnan(values[rows])
    np.minimum.at(first, ids[rows], np.where(largest, rows[:, None], M))
    return first


winners_p = Primitive("segment_max", _winners)


def segment_max(values: ArrayLike, segment_ids: ArrayLike, n: int | None = None) -> Tensor:
    """The largest of the rows of each group: ``(M, *), (M,) -> (n, *)``; the gradient goes to it, to the first of several."""
    values = real_floating("segment_max", values)
    ids, counts, n = _segments("segment_max", values, segment_ids, n)
    rest = values.shape[1:]
    rows = mt.reshape(values, (values.shape[0], math.prod(rest)))
    winners = bind(winners_p, rows, ids=ids, counts=counts, n=n)
    none = np.full((1, rows.shape[1]), -np.inf, rows.dtype)
    return mt.reshape(mt.take_along_axis(mt.concatenate([rows, none]), winners, 0), (n, *rest))


def segment_softmax(values: ArrayLike, segment_ids: ArrayLike, n: int | None = None) -> Tensor:
    """exp(values), divided by its sum over the row's group: ``(M, *), (M,) -> (M, *)``.

    Rows that belong to no group, and groups of nothing but -inf, are zero.
    """
    values = real_floating("segment_softmax", values)
    ids, counts, n = _segments("segment_softmax", values, segment_ids, n)
    if not n:
        return mt.zeros_like(values)
    counted = counts.reshape(-1, *[1] * (values.ndim - 1))
    values, ids = mt.where(counted, values, -np.inf), np.where(counts, ids, 0)
    top = segment_max(values, ids, n).data
    shift = np.where(np.isfinite(top), top, 0).astype(top.dtype)
    weights = mt.exp(values - shift[ids])
    total = segment_sum(weights, ids, n)
    return weights / mt.where(total.data == 0, 1.0, total)[ids]
