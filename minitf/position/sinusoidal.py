"""Sinusoidal position codes: every coordinate pair is a clock of its own speed."""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import Tensor, as_tensor, plain


def sincos1d(D: int, positions: Any, theta: float = 10000.0, interleaved: bool = False) -> Tensor:
    """(*, T, D) codes of positions (*, T): [sin, cos] halves of the angles p / theta**(2j/D).

    interleaved: sin and cos alternate, as in the first transformer. Raises ShapeError for an odd D.
    """
    if D < 2 or D % 2:
        raise ShapeError(f"sincos1d: D must be even and positive, got {D}")
    angle = as_tensor(positions).data[..., None] * theta ** (-np.arange(0, D, 2) / D)
    if interleaved:
        return plain(np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(*angle.shape[:-1], D))
    return plain(np.concatenate([np.sin(angle), np.cos(angle)], axis=-1))
