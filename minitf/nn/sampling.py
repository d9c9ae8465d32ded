"""Reading an image between its pixels: affine grids, and sampling at the places of a grid.

A place is (x, y) = (column, row), -1 at one end of the image and 1 at the other. What lies there: with ``align_corners``
the centers of the outermost pixels, otherwise their outer edges,

    column = (x + 1) / 2 · (X - 1)        or        column = ((x + 1) X - 1) / 2        and rows alike.

The value at a place between four pixels is their mean, weighted by the area of the opposite rectangle:

    y = sum over the corners (i, j) of  (1 - |row - i|) (1 - |column - j|) x[i, j]

so it is differentiable in the image, and in the places wherever they are not on the lines between pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.dtypes import common_dtype
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn.softmax import real_floating

MODES = ("bilinear", "nearest")
PADDING_MODES = ("zeros", "border")


def affine_grid(theta: ArrayLike, size: tuple[int, int, int, int], align_corners: bool = False) -> Tensor:
    """The places theta · (x, y, 1) of all pixels: theta ``(B, 2, 3)``, size (B, C, Y, X) -> ``(B, Y, X, 2)``.

    Raises ShapeError when theta or size are not of this form.
    """
    theta = real_floating("affine_grid", theta)
    if len(size) != 4 or min(size) < 1 or theta.shape != (size[0], 2, 3):
        raise ShapeError(
            f"affine_grid: needs theta (B, 2, 3) and size (B, C, Y, X), got {theta.shape} and {tuple(size)}"
        )
    columns, rows = (_centers(n, align_corners) for n in (size[3], size[2]))
    base = np.stack([*np.meshgrid(columns, rows), np.ones((size[2], size[3]))], -1).astype(theta.dtype)
    return mt.einsum("yxi,bji->byxj", base, theta)


def _centers(n: int, align_corners: bool) -> np.ndarray:
    """Where the ``n`` pixels of an axis are, between -1 and 1."""
    ends = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    return ends if align_corners else (2 * np.arange(n) + 1) / n - 1


def grid_sample(
    x: ArrayLike,
    grid: ArrayLike,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """``x (B, C, Y, X)`` at the places ``grid (B, *T, 2)`` -> ``(B, C, *T)``.

    mode: "bilinear", or "nearest" (halves to even), which has no gradient with respect to the grid.
    padding_mode: "zeros": pixels outside the image are 0; "border": places outside are moved to its edge.

    Raises ShapeError when batches disagree or the image is empty, ValueError for unknown modes.
    """
    x, grid = real_floating("grid_sample", x), real_floating("grid_sample", grid)
    if mode not in MODES:
        raise ValueError(f"grid_sample: mode must be one of {', '.join(MODES)}, got {mode!r}")
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"grid_sample: padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
    if x.ndim != 4 or 0 in x.shape[2:] or grid.ndim < 3 or (grid.shape[0], grid.shape[-1]) != (x.shape[0], 2):
        raise ShapeError(f"grid_sample: needs x (B, C, Y, X) and grid (B, *T, 2), got {x.shape} and {grid.shape}")
    dtype = common_dtype(x.dtype, grid.dtype)
    x, grid = mt.astype(x, dtype), mt.astype(grid, dtype)
    B, C, Y, X = x.shape
    pixels = mt.reshape(mt.moveaxis(x, 1, -1), (B * Y * X, C))
    images = np.arange(B).reshape(B, *[1] * (grid.ndim - 2))

    out: Any = 0
    for row, row_weight in _neighbors(grid[..., 1], Y, mode, padding_mode, align_corners):
        for column, column_weight in _neighbors(grid[..., 0], X, mode, padding_mode, align_corners):
            inside = (row >= 0) & (row < Y) & (column >= 0) & (column < X)
            place = (images * Y + np.clip(row, 0, Y - 1)) * X + np.clip(column, 0, X - 1)
            value = mt.where(inside[..., None], mt.take(pixels, place, 0), 0.0)
            out = out + mt.expand_dims(row_weight * column_weight, -1) * value
    return mt.moveaxis(out, -1, 1)


def _neighbors(
    place: Tensor, n: int, mode: str, padding_mode: str, align_corners: bool
) -> list[tuple[np.ndarray, Tensor]]:
    """The pixels (of ``n`` along an axis) that a place reads, each with its weight."""
    at = (place + 1) * ((n - 1) / 2) if align_corners else ((place + 1) * n - 1) / 2
    if padding_mode == "border":
        at = mt.clip(at, 0, n - 1)
    if mode == "nearest":
        return [(_index(np.rint(at.data), n), mt.ones_like(at))]
    low = np.floor(at.data)
    weight = at - low
    return [(_index(low, n), 1 - weight), (_index(low + 1, n), weight)]


def _index(place: np.ndarray, n: int) -> np.ndarray:
    """As integers; whatever is far outside (or NaN) is just outside."""
    return np.nan_to_num(np.clip(place, -1, n), nan=-1).astype(np.int64)
