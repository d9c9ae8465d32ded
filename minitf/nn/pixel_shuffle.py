"""Pixel shuffle: r² channels become one of r times the height and width, and back.

    y[c, r i + a, r j + b] = x[r² c + r a + b, i, j]              x (*, C r², Y, X),  y (*, C, r Y, r X)

A convolution in front of it computes a larger image at the smaller size's cost: no zeros are convolved, as a transposed
convolution does. Nothing is computed here; the values only move.
"""

from __future__ import annotations

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.module import Module, require_sizes


def pixel_shuffle(x: ArrayLike, r: int) -> Tensor:
    """``(*, C·r², Y, X) -> (*, C, r·Y, r·X)``: channel c·r² + a·r + b goes to the pixels (r·i + a, r·j + b)."""
    x = as_tensor(x)
    require_sizes("pixel_shuffle", r=r)
    if x.ndim < 3 or x.shape[-3] % r**2:
        raise ShapeError(f"pixel_shuffle: needs (*, C·r², Y, X) with r = {r}, got shape {x.shape}")
    *lead, channels, Y, X = x.shape
    C = channels // r**2
    y = mt.reshape(x, (*lead, C, r, r, Y, X))
    y = mt.moveaxis(y, (-2, -4, -1, -3), (-4, -3, -2, -1))
    return mt.reshape(y, (*lead, C, r * Y, r * X))


def pixel_unshuffle(x: ArrayLike, r: int) -> Tensor:
    """``(*, C, r·Y, r·X) -> (*, C·r², Y, X)``: undoes ``pixel_shuffle``."""
    x = as_tensor(x)
    require_sizes("pixel_unshuffle", r=r)
    if x.ndim < 3 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(f"pixel_unshuffle: needs (*, C, r·Y, r·X) with r = {r}, got shape {x.shape}")
    *lead, C, Y, X = x.shape
    y = mt.reshape(x, (*lead, C, Y // r, r, X // r, r))
    y = mt.moveaxis(y, (-4, -3, -2, -1), (-2, -4, -1, -3))
    return mt.reshape(y, (*lead, C * r**2, Y // r, X // r))


class PixelShuffle(Module):
    """``pixel_shuffle`` by ``r``: ``(*, C·r², Y, X) -> (*, C, r·Y, r·X)``."""

    def __init__(self, r: int):
        require_sizes("PixelShuffle", r=r)
        self.r = r

    def forward(self, x: ArrayLike) -> Tensor:
        return pixel_shuffle(x, self.r)

    def extra_repr(self) -> str:
        return f"{self.r}"


class PixelUnshuffle(Module):
    """``pixel_unshuffle`` by ``r``: ``(*, C, r·Y, r·X) -> (*, C·r², Y, X)``."""

    def __init__(self, r: int):
        require_sizes("PixelUnshuffle", r=r)
        self.r = r

    def forward(self, x: ArrayLike) -> Tensor:
        return pixel_unshuffle(x, self.r)

    def extra_repr(self) -> str:
        return f"{self.r}"
