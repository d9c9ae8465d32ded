"""Pooling over 1, 2 or 3 axes, with PyTorch's arguments: the largest or the mean value of each window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_dtypes import finfo

from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import astype, reshape, rounded_once
from minitf.autodiff.ops.broadcast import sum as sum_
from minitf.autodiff.ops.convolution import Ints, Windows, lay_windows, per_axis, spatial, view, windows_p
from minitf.autodiff.ops.index import take_along_axis
from minitf.autodiff.ops.resample import apply_along
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, bind

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]


def _pool_windows(
    what: str, x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, axes: int
) -> Windows:
    kernel = per_axis(what, "kernel_size", kernel_size, axes, 1)
    stride = per_axis(what, "stride", kernel if stride is None else stride, axes, 1)
    padding = per_axis(what, "padding", padding, axes, 0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(
            f"{what}: padding {padding} must be at most half the kernel {kernel}, or windows would be empty"
        )
    windows = lay_windows(what, x.shape[2:], kernel, stride, padding, dilation)
    if not ceil_mode:
        return windows
    counts = []
    for n, k, s, d, p in zip(windows.size, kernel, stride, windows.dilation, padding, strict=True):
        count = -(-(n + 2 * p - (k - 1) * d - 1) // s) + 1
        counts.append(count - ((count - 1) * s >= n + p))  # a window must begin inside, or in front of, the array
    return Windows(windows.size, kernel, tuple(counts), stride, windows.dilation, padding)


def _lowest(dtype: np.dtype) -> Any:
    """What no value of ``dtype`` is below."""
    if dtype.kind in "iub":
        return np.iinfo(dtype).min if dtype.kind != "b" else False
    return -np.inf if np.isinf(dtype.type(-np.inf)) else finfo(dtype).min


def _choose(x: np.ndarray, windows: Windows) -> np.ndarray:
    """For every window the flat index (over the spatial axes) of its largest value, the lowest of several."""
    n, places = len(windows.size), math.prod(windows.kernel)
    index = np.arange(1, math.prod(windows.size) + 1).reshape(windows.size)
    index = view(index, windows).reshape(places, *windows.count)  # 0 is outside
    values = view(x, windows, _lowest(x.dtype)).reshape(*x.shape[: x.ndim - n], places, *windows.count)
    best = np.argmax(values, axis=x.ndim - n)
    chosen = np.take_along_axis(
        np.broadcast_to(index, values.shape), np.expand_dims(best, x.ndim - n), x.ndim - n
    ).squeeze(x.ndim - n)
    if any(windows.padding):  # in a window of nothing but -inf the padding came first: take the first place inside
        first = np.take_along_axis(index, np.argmax(index > 0, axis=0)[None], 0)[0]
        chosen = np.where(chosen == 0, first, chosen)
    return chosen - 1


choose_p = Primitive("max_pool", _choose)


def _max_pool(what: str, axes: int, x: ArrayLike, *options: Any) -> Tensor:
    x, lead = spatial(what, x, axes)
    windows = _pool_windows(what, x, *options, axes)  # pyright: ignore[reportCallIssue]
    chosen = bind(choose_p, x, windows=windows)
    flat = reshape(x, (*x.shape[:2], math.prod(windows.size)))
    best = take_along_axis(flat, reshape(chosen, (*x.shape[:2], math.prod(windows.count))), -1)
    return reshape(best, (*lead, x.shape[1], *windows.count))


def max_pool1d(
    x: ArrayLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """x ``(..., C, X)``; see ``max_pool2d``."""
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    x: ArrayLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """The largest value of each window of ``(..., C, Y, X)``; the gradient goes to it, to the first of several.

    stride: the kernel's size by default. padding: never chosen, at most half the kernel. ceil_mode: also windows that
    reach over the end.
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(
    x: ArrayLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """x ``(..., C, Z, Y, X)``; see ``max_pool2d``."""
    return _max_pool("max_pool3d", 3, x, kernel_size, stride, padding, dilation, ceil_mode)


def _divisors(windows: Windows, count_include_pad: bool, divisor: Any) -> Any:
    """What the sum of each window is divided by: one number, or an array where windows reach over an end."""
    if divisor is not None:
        return divisor
    counts = np.ones((), np.int64)
    for n, k, t, s, p in zip(windows.size, windows.kernel, windows.count, windows.stride, windows.padding, strict=True):
        start = np.arange(t) * s - p
        margin = p if count_include_pad else 0
        counts = counts[..., None] * (np.minimum(start + k, n + margin) - np.maximum(start, -margin))
    full = math.prod(windows.kernel)
    return full if (counts == full).all() else counts


def _avg_pool(
    what: str, axes: int, x: ArrayLike, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor: Any = None,
) -> Tensor:  # fmt: skip
    if divisor is not None and (isinstance(divisor, bool) or divisor == 0):
        raise ValueError(f"{what}: divisor_override must be a number other than 0, got {divisor!r}")
    x, lead = spatial(what, x, axes)
    windows = _pool_windows(what, x, kernel_size, stride, padding, 1, ceil_mode, axes)
    total = sum_(bind(windows_p, x, windows=windows), axis=tuple(range(2, 2 + axes)))
    out = total / _divisors(windows, count_include_pad, divisor)
    return reshape(out, (*lead, *out.shape[1:]))


@rounded_once
def avg_pool1d(
    x: ArrayLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """x ``(..., C, X)``; see ``avg_pool2d``."""
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


@rounded_once
def avg_pool2d(
    x: ArrayLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of ``(..., C, Y, X)``.

    count_include_pad: whether the zeros of the padding count in the mean (what lies beyond them never does).
    divisor_override: divide the sums by this instead.
    """
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@rounded_once
def avg_pool3d(
    x: ArrayLike, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """x ``(..., C, Z, Y, X)``; see ``avg_pool2d``."""
    return _avg_pool("avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _bins(size: int, count: int) -> np.ndarray:
    """The means over ``count`` almost equal stretches of an axis, as a matrix ``(count, size)``."""
    matrix = np.zeros((count, size))
    for i in range(count):
        start, stop = i * size // count, -(-(i + 1) * size // count)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _adaptive(what: str, axes: int, x: ArrayLike, output_size: Any) -> Tensor:
    x, lead = spatial(what, x, axes)
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * axes
    if len(wanted) != axes:
        raise ValueError(f"{what}: output_size must be an integer or {axes} of them, got {output_size!r}")
    if 0 in x.shape[2:]:
        raise ShapeError(f"{what}: the spatial axes must not be empty, got shape {(*lead, *x.shape[1:])}")
    for axis, count in enumerate(wanted):
        if count is None:  # as many as there are
            continue
        (count,) = per_axis(what, "output_size", count, 1, 1)
        if count != x.shape[2 + axis]:
            x = apply_along(_bins(x.shape[2 + axis], count), x, 2 + axis)
    return reshape(x if is_inexact(x.dtype) else astype(x, np.float64), (*lead, *x.shape[1:]))


@rounded_once
def adaptive_avg_pool1d(x: ArrayLike, output_size: int | None) -> Tensor:
    """x ``(..., C, X)``; see ``adaptive_avg_pool2d``."""
    return _adaptive("adaptive_avg_pool1d", 1, x, output_size)


@rounded_once
def adaptive_avg_pool2d(x: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over ``output_size`` almost equal rectangles of ``(..., C, Y, X)``; None keeps an axis as it is.

    Rectangle i of n covers the places floor(i·size/n) to ceil((i+1)·size/n), so neighbours may share one.
    """
    return _adaptive("adaptive_avg_pool2d", 2, x, output_size)


@rounded_once
def adaptive_avg_pool3d(x: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """x ``(..., C, Z, Y, X)``; see ``adaptive_avg_pool2d``."""
    return _adaptive("adaptive_avg_pool3d", 3, x, output_size)
