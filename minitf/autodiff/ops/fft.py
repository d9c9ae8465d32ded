"""Fourier transforms, ``mt.fft``: NumPy's names and meaning (``n``, ``axis``, ``norm``).

The adjoint of a transform is the unscaled opposite one, so each is the other's rule. Real input has a real gradient.
16-bit floats are computed in complex64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_complex, is_inexact
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import astype, normalize_axes
from minitf.autodiff.ops.shape import pad
from minitf.autodiff.rules import defcost, deflinear
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind

__all__ = ["fft", "fft2", "fftn", "ifft", "ifft2", "ifftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftn"]

Sizes = Sequence[int] | None
Transform = Callable[..., Tensor]

#: a norm that scales one direction; the adjoint has the scale on the other
_OPPOSITE = {"backward": "forward", "ortho": "ortho", "forward": "backward"}

fft_p = Primitive("fft", lambda x, axis, norm: np.fft.fft(x, axis=axis, norm=norm))
ifft_p = Primitive("ifft", lambda x, axis, norm: np.fft.ifft(x, axis=axis, norm=norm))
rfft_p = Primitive("rfft", lambda x, axis, norm: np.fft.rfft(x, axis=axis, norm=norm))
irfft_p = Primitive("irfft", lambda x, n, axis, norm: np.fft.irfft(x, n, axis=axis, norm=norm))


def _ends(n: int, axis: int, ndim: int, middle: float, dtype: np.dtype) -> np.ndarray:
    """1 at the frequencies that a real spectrum holds once (0 and, for even ``n``, n/2), ``middle`` at the others."""
    weights = np.full(n // 2 + 1, middle, dtype)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    return weights.reshape((-1,) + (1,) * (ndim - 1 - axis))


def _rfft_vjp(g: Tensor, out: Any, x: Any, axis: int, norm: str) -> Tensor:
    n = x.shape[axis]
    half = g * _ends(n, axis, g.ndim, 0.5, x.dtype)
    return bind(irfft_p, half, n=n, axis=axis, norm=_OPPOSITE[norm])


def _irfft_vjp(g: Tensor, out: Any, x: Any, n: int, axis: int, norm: str) -> Tensor:
    return bind(rfft_p, g, axis=axis, norm=_OPPOSITE[norm]) * _ends(n, axis, g.ndim, 2.0, g.dtype)


deflinear(fft_p, lambda g, out, x, axis, norm: astype(bind(ifft_p, g, axis=axis, norm=_OPPOSITE[norm]), x.dtype))
deflinear(ifft_p, lambda g, out, x, axis, norm: astype(bind(fft_p, g, axis=axis, norm=_OPPOSITE[norm]), x.dtype))
deflinear(rfft_p, _rfft_vjp)
deflinear(irfft_p, _irfft_vjp)


def _flops(n: int, size: int, factor: float) -> int:
    """``factor`` n log2 n for each line of ``n`` values, ``size`` values in all."""
    return round(factor * size * math.log2(n)) if n > 1 else 0


defcost(fft_p, lambda out, x, axis, norm: (_flops(out.shape[axis], out.size, 5), 0))
defcost(ifft_p, lambda out, x, axis, norm: (_flops(out.shape[axis], out.size, 5), 0))
defcost(rfft_p, lambda out, x, axis, norm: (_flops(x.shape[axis], x.size, 2.5), 0))
defcost(irfft_p, lambda out, x, n, axis, norm: (_flops(n, out.size, 2.5), 0))


def _values(what: str, x: ArrayLike, real_only: bool = False) -> Tensor:
    x = as_tensor(x)
    if real_only and is_complex(x.dtype):
        raise TypeError(f"{what}: needs real values, got {x.dtype} {x.shape}; use {what.replace('r', '', 1)}")
    if not is_inexact(x.dtype):
        return Tensor(x.data.astype(np.float64))
    return astype(x, np.float32) if x.dtype.itemsize <= 2 else x


def _norm(what: str, norm: str | None) -> str:
    if norm is not None and norm not in _OPPOSITE:
        raise ValueError(f"{what}: norm must be 'backward', 'ortho' or 'forward', got {norm!r}")
    return norm or "backward"


def _resize(x: Tensor, n: int, axis: int) -> Tensor:
    """``x`` cut, or filled with zeros, to ``n`` values along ``axis``."""
    have = x.shape[axis]
    if n < have:
        return x[(slice(None),) * axis + (slice(0, n),)]
    return pad(x, [(0, n - have if i == axis else 0) for i in range(x.ndim)]) if n > have else x


def _line(what: str, x: Tensor, n: int | None, axis: int, default: int | None = None) -> tuple[int, int]:
    """The axis, and the length of the signal along it."""
    (axis,) = normalize_axes(what, axis, x.ndim)
    n = (x.shape[axis] if default is None else default) if n is None else n
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ShapeError(
            f"{what}: the signal's length must be a positive integer, got {n!r} (axis {axis} of {x.shape})"
        )
    return axis, int(n)


def fft(x: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The discrete Fourier transform along ``axis``, of ``n`` values (cut or filled with zeros)."""
    return _complex("fft", fft_p, x, n, axis, norm)


def ifft(x: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of ``fft``."""
    return _complex("ifft", ifft_p, x, n, axis, norm)


def _complex(what: str, primitive: Primitive, x: ArrayLike, n: int | None, axis: int, norm: str | None) -> Tensor:
    x = _values(what, x)
    axis, n = _line(what, x, n, axis)
    return bind(primitive, _resize(x, n, axis), axis=axis, norm=_norm(what, norm))


def rfft(x: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The n//2 + 1 non-negative frequencies of the transform of real values."""
    x = _values("rfft", x, real_only=True)
    axis, n = _line("rfft", x, n, axis)
    return bind(rfft_p, _resize(x, n, axis), axis=axis, norm=_norm("rfft", norm))


def irfft(x: ArrayLike, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of ``rfft``; ``n`` real values, by default 2(m - 1) of m frequencies."""
    x = _values("irfft", x)
    (line,) = normalize_axes("irfft", axis, x.ndim)
    axis, n = _line("irfft", x, n, axis, default=2 * (x.shape[line] - 1))
    if not is_complex(x.dtype):
        x = astype(x, np.result_type(x.dtype, np.complex64))
    return bind(irfft_p, _resize(x, n // 2 + 1, axis), n=n, axis=axis, norm=_norm("irfft", norm))


def _axes(what: str, x: Tensor, s: Sizes, axes: Sizes) -> tuple[list[Any], list[int]]:
    """Sizes (None: as it is) and axes of a transform over several."""
    if axes is None:
        if s is not None and len(s) > x.ndim:
            raise ShapeError(f"{what}: {len(s)} sizes for an array of {x.ndim} dimensions")
        axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
    found = [normalize_axes(what, a, x.ndim)[0] for a in axes]
    if len(set(found)) != len(found) or not found:
        raise ShapeError(f"{what}: axes must name at least one axis, and each once, got {tuple(axes)}")
    sizes = [None] * len(found) if s is None else list(s)
    if len(sizes) != len(found):
        raise ShapeError(f"{what}: {len(sizes)} sizes for {len(found)} axes")
    return sizes, found


def _over(what: str, first: Transform, rest: Transform, x: ArrayLike, s: Sizes, axes: Sizes, norm: Any) -> Tensor:
    """``first`` along the last of ``axes``, ``rest`` along the others; what makes real values goes last."""
    x = _values(what, x, real_only=first is rfft)
    *others, last = zip(*_axes(what, x, s, axes), strict=True)
    steps = [(rest, *other) for other in others]
    steps.insert(len(steps) if first is irfft else 0, (first, *last))
    for transform, n, axis in steps:
        x = transform(x, n, axis, norm)
    return x


def fftn(x: ArrayLike, s: Sizes = None, axes: Sizes = None, norm: str | None = None) -> Tensor:
    """``fft`` along every one of ``axes`` (all by default)."""
    return _over("fftn", fft, fft, x, s, axes, norm)


def ifftn(x: ArrayLike, s: Sizes = None, axes: Sizes = None, norm: str | None = None) -> Tensor:
    """The inverse of ``fftn``."""
    return _over("ifftn", ifft, ifft, x, s, axes, norm)


def rfftn(x: ArrayLike, s: Sizes = None, axes: Sizes = None, norm: str | None = None) -> Tensor:
    """``rfft`` along the last of ``axes``, ``fft`` along the others."""
    return _over("rfftn", rfft, fft, x, s, axes, norm)


def irfftn(x: ArrayLike, s: Sizes = None, axes: Sizes = None, norm: str | None = None) -> Tensor:
    """The inverse of ``rfftn``."""
    return _over("irfftn", irfft, ifft, x, s, axes, norm)


def fft2(x: ArrayLike, s: Sizes = None, axes: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """``fftn`` over the last two axes."""
    return _over("fft2", fft, fft, x, s, axes, norm)


def ifft2(x: ArrayLike, s: Sizes = None, axes: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """``ifftn`` over the last two axes."""
    return _over("ifft2", ifft, ifft, x, s, axes, norm)


def rfft2(x: ArrayLike, s: Sizes = None, axes: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """``rfftn`` over the last two axes."""
    return _over("rfft2", rfft, fft, x, s, axes, norm)


def irfft2(x: ArrayLike, s: Sizes = None, axes: Sizes = (-2, -1), norm: str | None = None) -> Tensor:
    """``irfftn`` over the last two axes."""
    return _over("irfft2", irfft, ifft, x, s, axes, norm)
