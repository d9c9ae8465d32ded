"""Resizing images and sequences: one small matrix an axis, PyTorch's coordinates and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import astype, rounded_once
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.index import take
from minitf.autodiff.ops.shape import swapaxes
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor, plain

__all__ = ["interpolate"]

#: mode -> how many spatial axes it is for (None: any number), the filter's half width
_MODES: dict[str, tuple[int | None, int]] = {
    "nearest": (None, 0),
    "nearest-exact": (None, 0),
    "linear": (1, 1),
    "bilinear": (2, 1),
    "trilinear": (3, 1),
    "bicubic": (2, 2),
}


def apply_along(matrix: np.ndarray, x: Tensor, axis: int) -> Tensor:
    """``matrix`` (out, in) applied to the lines of ``x`` along ``axis``."""
    weights = plain(matrix.astype(x.dtype if is_inexact(x.dtype) else np.float64))
    axis %= x.ndim
    if axis == x.ndim - 1:
        return matmul(x, plain(weights.data.T))
    if axis == x.ndim - 2:
        return matmul(weights, x)
    return swapaxes(matmul(weights, swapaxes(x, axis, -2)), axis, -2)


def _kernel(distance: np.ndarray, width: int, a: float) -> np.ndarray:
    """The linear (triangle) or cubic (Keys, parameter ``a``) filter."""
    d = np.abs(distance)
    if width == 1:
        return np.maximum(1 - d, 0)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _matrix(size: int, count: int, step: float, width: int, align_corners: bool, antialias: bool) -> np.ndarray:
    """``(count, size)``: each row the weights of one output value; ``step`` input places lie between two of them."""
    i = np.arange(count)
    matrix = np.zeros((count, size))
    if antialias:
        scale = max(step, 1.0)
        centers, support = (i + 0.5) * step, width * scale
        for row, center in zip(matrix, centers, strict=True):
            low, high = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), size)
            weights = _kernel((np.arange(low, high) - center + 0.5) / scale, width, -0.5)
            row[low:high] = weights / weights.sum()
        return matrix
    places = i * step if align_corners else (i + 0.5) * step - 0.5
    if width == 1 and not align_corners:
        places = np.maximum(places, 0.0)
    first = np.floor(places).astype(int)
    for tap in range(1 - width, width + 1):
        weights = _kernel(places - (first + tap), width, -0.75)
        np.add.at(matrix, (i, np.clip(first + tap, 0, size - 1)), weights)
    return matrix


def _sources(size: int, count: int, scale: float | None, exact: bool) -> np.ndarray:
    """The input place that each of ``count`` output values copies."""
    i = np.arange(count)
    if scale is None:  # in integers: floor(i size / count), or floor((i + 1/2) size / count)
        places = ((2 * i + 1) * size) // (2 * count) if exact else i * size // count
    else:
        places = np.floor((i + 0.5 * exact) / scale).astype(int)
    return np.minimum(places, size - 1)


def _sizes(
    shape: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool
) -> tuple[tuple[int, ...], list[float | None]]:
    """Output sizes, and the factor to place values by (None: that of the sizes)."""
    n = len(shape)
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    name, value = ("size", size) if scale_factor is None else ("scale_factor", scale_factor)
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * n
    kinds = (int, np.integer) if size is not None else (int, float, np.integer, np.floating)
    if len(values) != n or not all(isinstance(v, kinds) and not isinstance(v, bool) and v > 0 for v in values):
        kind = "integer" if size is not None else "number"
        raise ValueError(f"interpolate: {name} must be a positive {kind} or {n} of them, got {value!r}")
    if size is not None:
        return tuple(int(v) for v in values), [None] * n
    counts = tuple(math.floor(m * v) for m, v in zip(shape, values, strict=True))
    if min(counts) < 1:
        raise ShapeError(f"interpolate: scale_factor {value!r} leaves nothing of the spatial shape {shape}")
    return counts, [None] * n if recompute else [float(v) for v in values]


@rounded_once
def interpolate(
    x: ArrayLike,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """``x (B, C, *S)`` resized to ``size``, or by ``scale_factor`` (the output has floor(size · factor) values).

    mode: "nearest", "nearest-exact", "linear" (one spatial axis), "bilinear" or "bicubic" (two; a = -0.75),
        "trilinear" (three).
    align_corners: whether the centers of the first and last values, rather than their outer edges, stay in place.
    recompute_scale_factor: place values by the ratio of the sizes instead of by the given factor.
    antialias: widen the filter when shrinking (bilinear and bicubic, a = -0.5; not with ``align_corners``).
    """
    x = as_tensor(x)
    if mode not in _MODES:
        raise ValueError(f"interpolate: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    axes, width = _MODES[mode]
    if x.ndim < 3 or (axes is not None and x.ndim != axes + 2):
        wanted = {None: "at least one spatial axis", 1: "one spatial axis"}.get(axes, f"{axes} spatial axes")
        raise ShapeError(f"interpolate: mode {mode!r} needs x (B, C, ...) with {wanted}, got shape {x.shape}")
    if align_corners is not None and not width:
        raise ValueError(f"interpolate: align_corners has no meaning for mode {mode!r}; leave it out")
    if antialias and (mode not in ("bilinear", "bicubic") or align_corners):
        raise ValueError("interpolate: antialias is for modes bilinear and bicubic without align_corners")
    if 0 in x.shape[2:]:
        raise ShapeError(f"interpolate: the spatial axes must not be empty, got shape {x.shape}")
    counts, scales = _sizes(x.shape[2:], size, scale_factor, bool(recompute_scale_factor))
    for axis, (n, count, scale) in enumerate(zip(x.shape[2:], counts, scales, strict=True), start=2):
        if not width:
            x = take(x, _sources(n, count, scale, mode == "nearest-exact"), axis)
            continue
        if align_corners:
            step = (n - 1) / (count - 1) if count > 1 else 0.0
        else:
            step = n / count if scale is None else 1 / scale
        if n != count or step != 1.0:
            x = apply_along(_matrix(n, count, step, width, bool(align_corners), antialias), x, axis)
    return x if is_inexact(x.dtype) or not width else astype(x, np.float64)
