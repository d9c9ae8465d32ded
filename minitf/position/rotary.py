"""Rotary position embedding: queries and keys turn with their position, so that scores depend on distances.

    (a, b) at position p  ->  (a cos - b sin, b cos + a sin) of the angle p freq_j        for pair j = 0 ... E/2 - 1

The layout says which coordinates form pair j of E: "half" pairs j with j + E/2, "interleaved" pairs 2j with 2j + 1.
With n < E/2 frequencies the first 2n coordinates turn, as if they were all, and the rest pass through (partial rotary).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_floating
from minitf.autodiff.errors import ShapeError, fits_into
from minitf.autodiff.ops import elementwise as ew
from minitf.autodiff.ops.broadcast import reshape
from minitf.autodiff.ops.shape import concatenate, expand_dims, stack
from minitf.autodiff.tensor import Tensor, as_tensor, plain
from minitf.registry import reference

LAYOUTS = ("half", "interleaved")
SPACINGS = ("power", "linspace")


def rotary_frequencies(E: int, theta: float = 10000.0, spacing: str = "power") -> np.ndarray:
    """(E/2,) angles per position: theta**(-2j/E) ("power"), or theta**(-linspace(0, 1, E/2)) ("linspace")."""
    if E < 2 or E % 2:
        raise ShapeError(f"rotary_frequencies: E must be even and positive, got {E}")
    if not theta > 0:
        raise ValueError(f"rotary_frequencies: theta must be positive, got {theta!r}")
    if spacing not in SPACINGS:
        raise ValueError(f"rotary_frequencies: spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    return theta ** -(np.arange(0, E, 2) / E if spacing == "power" else np.linspace(0, 1, E // 2))


def apply_rotary(x: Any, positions: Any, freqs: np.ndarray, layout: str = "half") -> Tensor:
    """Rotates x (*, T, E) by its positions (T,) or (*, T), broadcast over heads.

    positions: (B, T) for x (B, H, T, E) get a head axis. freqs: (n,) with 2n <= E. Both are constants to gradients.

    Raises ShapeError when they do not fit x, TypeError unless x is floating.
    """
    x, positions, freqs = as_tensor(x), as_tensor(positions).data, as_tensor(freqs).data
    if layout not in LAYOUTS:
        raise ValueError(f"apply_rotary: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if not is_floating(x.dtype):
        raise TypeError(f"apply_rotary: x must be floating, got {x.dtype}")
    width = 2 * freqs.size
    if x.ndim < 2 or freqs.ndim != 1 or width > x.shape[-1]:
        raise ShapeError(f"apply_rotary: freqs (n,) turn 2n of the E of x (*, T, E), got {freqs.shape} for x {x.shape}")
    if 1 < positions.ndim == x.ndim - 2:
        positions = positions[..., None, :]
    if positions.shape[-1:] != x.shape[-2:-1] or not fits_into(positions.shape, x.shape[:-1]):
        raise ShapeError(
            f"apply_rotary: positions must be (T,) or (*, T), heads left out, for x (*, T, E); got {positions.shape} "
            f"for x {x.shape}"
        )
    angle = positions[..., None] * freqs
    cos, sin = (plain(f(angle).astype(x.dtype)) for f in (np.cos, np.sin))
    return _turn(x, cos, sin, layout)


def _turn(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    """Pair j of x (*, T, E) turned by the angle with this cosine and sine (*, T, n); what is behind 2n passes through."""
    width = 2 * cos.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    if layout == "half":
        a, b = turned[..., : width // 2], turned[..., width // 2 :]
        out = concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    else:
        a, b = turned[..., 0::2], turned[..., 1::2]
        out = reshape(stack([a * cos - b * sin, b * cos + a * sin], axis=-1), turned.shape)
    return out if width == x.shape[-1] else concatenate([out, rest], axis=-1)


# -- what the oracle asks --------------------------------------------------------------------------------------------


def rotary_with_rounded_angles(x: Any, positions: Any, freqs: Any, *, layout: str = "half") -> Tensor:
    """``apply_rotary`` of x (B, H, T, E) and positions (B, T), with p freq, its cosine and sine as operations.

    The angle's rounding error grows with the position, and is most of the error of kernels that compute it in float32.
    """
    angle = expand_dims(as_tensor(positions), (1, 3)) * as_tensor(freqs)
    return _turn(as_tensor(x), ew.cos(angle), ew.sin(angle), layout)


def _example(draw: Any, size: str, *, partial: bool = False, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    B, H, T, E = {"tiny": (1, 1, 3, 4), "small": (2, 3, 17, 16), "medium": (2, 4, 129, 64)}[size]
    freqs = rotary_frequencies(E // 2 if partial else E)
    positions = draw.integers((B, 1), 0, 200) + np.arange(T)
    return {"x": draw.normal((B, H, T, E)), "positions": positions, "freqs": freqs}, options


reference(
    "position.rotary",
    rotary_with_rounded_angles,
    example=_example,
    differentiable=("x",),
    options=({}, {"layout": "interleaved"}, {"partial": True}),
)
