"""Rotary position embedding: queries and keys turn with their position, so that scores depend on distances.

A pair (a, b) of coordinates at position p becomes (a cos - b sin, b cos + a sin) of the angle p * freq_j. The layout
says which coordinates form pair j of E: "half" pairs j with j + E/2, "interleaved" pairs 2j with 2j + 1. With fewer
than E/2 frequencies the remaining coordinates pass through (partial rotary).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import reshape
from minitf.autodiff.ops.shape import concatenate, stack
from minitf.autodiff.tensor import Tensor, as_tensor, plain

LAYOUTS = ("half", "interleaved")


def rotary_frequencies(E: int, theta: float = 10000.0, spacing: str = "power") -> np.ndarray:
    """(E/2,) angles per position: theta**(-2j/E) ("power"), or theta**(-linspace(0, 1, E/2)) ("linspace")."""
    if E < 2 or E % 2:
        raise ShapeError(f"rotary_frequencies: E must be even and positive, got {E}")
    if spacing == "power":
        return theta ** (-np.arange(0, E, 2) / E)
    if spacing == "linspace":
        return theta ** -np.linspace(0, 1, E // 2)
    raise ValueError(f"rotary_frequencies: spacing must be 'power' or 'linspace', got {spacing!r}")


def apply_rotary(x: Any, positions: Any, freqs: np.ndarray, layout: str = "half") -> Tensor:
    """Rotates x (*, T, E) by its positions (T,) or (*, T), broadcast over heads.

    positions (B, T) for x (B, H, T, E) get a head axis. Raises ShapeError when there are more than E/2 frequencies.
    """
    x = as_tensor(x)
    positions = as_tensor(positions).data
    if layout not in LAYOUTS:
        raise ValueError(f"apply_rotary: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    width = 2 * len(freqs)
    if width > x.shape[-1]:
        raise ShapeError(f"apply_rotary: {len(freqs)} frequencies need E >= {width}, got x of shape {x.shape}")
    if positions.shape[-1:] != x.shape[-2:-1]:
        raise ShapeError(f"apply_rotary: positions {positions.shape} must end in T = {x.shape[-2]} of x {x.shape}")
    if positions.ndim == x.ndim - 2 and positions.ndim > 1:
        positions = positions[..., None, :]
    angle = positions[..., None] * freqs
    cos, sin = (plain(f(angle).astype(x.dtype)) for f in (np.cos, np.sin))
    turned, rest = x[..., :width], x[..., width:]
    if layout == "half":
        a, b = turned[..., : width // 2], turned[..., width // 2 :]
        out = concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    else:
        a, b = turned[..., 0::2], turned[..., 1::2]
        out = reshape(stack([a * cos - b * sin, b * cos + a * sin], axis=-1), turned.shape)
    return out if width == x.shape[-1] else concatenate([out, rest], axis=-1)
