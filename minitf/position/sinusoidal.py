"""Sinusoidal position codes: every coordinate pair is a clock of its own speed.

    code(p) = [sin(p ω_0), ..., sin(p ω_{D/2-1}), cos(p ω_0), ..., cos(p ω_{D/2-1})]

The speeds ω_j are those of rotary embeddings: theta**(-2j/D) ("power"), or theta**(-j/(D/2 - 1)) ("linspace", as in
Whisper). The first transformer has sin and cos side by side (``interleaved``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Tensor, as_tensor, plain
from minitf.position.rotary import rotary_frequencies


def sincos1d(
    D: int, positions: Any, theta: float = 10000.0, interleaved: bool = False, spacing: str = "power"
) -> Tensor:
    """(*, D) codes of positions (*), in float64; constants to gradients.

    interleaved: sin and cos alternate instead of standing in two halves. Raises ShapeError for an odd D.
    """
    if D < 2 or D % 2:
        raise ShapeError(f"sincos1d: D must be even and positive, got {D}")
    angle = as_tensor(positions).data[..., None] * rotary_frequencies(D, theta, spacing)
    if interleaved:
        return plain(np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(*angle.shape[:-1], D))
    return plain(np.concatenate([np.sin(angle), np.cos(angle)], axis=-1))


def sincos2d(D: int, y: Any, x: Any, theta: float = 10000.0) -> Tensor:
    """(*, D) codes of rows y (*) and columns x (*): ``sincos1d`` of the column in the first half, of the row after it.

    Raises ShapeError unless 4 divides D and y and x have the same shape.
    """
    if D < 4 or D % 4:
        raise ShapeError(f"sincos2d: D must be a positive multiple of 4, got {D}")
    y, x = as_tensor(y), as_tensor(x)
    if y.shape != x.shape:
        raise ShapeError(f"sincos2d: rows y and columns x must have the same shape, got {y.shape} and {x.shape}")
    return plain(np.concatenate([sincos1d(D // 2, part, theta).data for part in (x, y)], axis=-1))
