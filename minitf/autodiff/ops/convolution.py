"""Convolutions (cross-correlations, as everywhere in the field) over 1, 2 or 3 axes, with PyTorch's layouts.

x ``(..., C, *S)``, weight ``(C_out, C / groups, *K)``, out ``(..., C_out, *T)``; any leading batch axes. The columns
of a window, C/groups · K values for each of the T positions, meet the weight in one matrix product:

    out[g, o, t] = sum over c, k of  weight[g, o, c, k] · x[g, c, t · stride + k · dilation - padding]

This is one trilinear form of x, the weight and the output's cotangent; the three primitives are its three partial
maps (``convolve``, ``spread`` back to x, ``correlate`` to the weight), so that each one's derivatives are the other
two. Columns are made for a few samples at a time and are never kept: what is saved is x and the weight. Over one or two
axes and for large arrays the maps run ``minitf.kernels.conv2d``; what is here is its twin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minitf.autodiff.dispatch import compiled
from minitf.autodiff.dtypes import accumulator, is_low_precision, to_add_up
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import conj, reshape, unbroadcast
from minitf.autodiff.ops.contract import matmul
from minitf.autodiff.ops.shape import swapaxes
from minitf.autodiff.rules import defcost, defjvp, deflinear, defvjp
from minitf.autodiff.tensor import ArrayLike, Primitive, Tensor, as_tensor, bind
from minitf.kernels import conv2d as kernels

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold", "unfold"]

Ints = int | Sequence[int]

#: columns are made for as many samples at a time as keep them below this many values (at least for one)
COLUMN_VALUES = 1 << 22


@dataclass(frozen=True)
class Windows:
    """Where windows lie on the last axes of an array: one entry an axis.

    size: of the array; kernel: of a window; count: of windows; padding: before the first value.
    Windows reach as far behind the array as their count says; what is outside is zero.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    count: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """How many values the windows touch along each axis, padding included."""
        return tuple(
            (t - 1) * s + (k - 1) * d + 1 if t else 0
            for t, s, k, d in zip(self.count, self.stride, self.kernel, self.dilation, strict=True)
        )

    def overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The part of the array that windows touch, in its own coordinates and in those of the padded array."""
        inner, outer = [], []
        for n, p, r in zip(self.size, self.padding, self.reach, strict=True):
            length = max(min(n, r - p), 0)
            inner.append(slice(0, length))
            outer.append(slice(p, p + length))
        return tuple(inner), tuple(outer)

    def offsets(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Every place k in a window, with the slice of the padded array that the windows see there."""
        for k in itertools.product(*map(range, self.kernel)):
            yield (
                k,
                tuple(
                    slice(i * d, i * d + (t - 1) * s + 1 if t else 0, s)
                    for i, d, t, s in zip(k, self.dilation, self.count, self.stride, strict=True)
                ),
            )


def view(x: np.ndarray, windows: Windows, fill: Any = 0) -> np.ndarray:
    """``(..., *S) -> (..., *K, *T)``: all windows, as a read-only view of ``x`` or of its padded copy."""
    lead = x.shape[: x.ndim - len(windows.size)]
    if any(windows.padding) or any(r > n for r, n in zip(windows.reach, windows.size, strict=True)):
        padded = np.full((*lead, *windows.reach), fill, x.dtype)
        inner, outer = windows.overlap()
        padded[(..., *outer)] = x[(..., *inner)]
        x = padded
    steps = x.strides[len(lead) :]
    strides = (
        *x.strides[: len(lead)],
        *(a * d for a, d in zip(steps, windows.dilation, strict=True)),
        *(a * s for a, s in zip(steps, windows.stride, strict=True)),
    )
    shape = (*lead, *windows.kernel, *windows.count)
    if 0 in shape:
        return np.zeros(shape, x.dtype)
    bits = x.view(f"u{x.dtype.itemsize}") if is_low_precision(x.dtype) else x  # NumPy knows no strides of 8-bit floats
    return np.lib.stride_tricks.as_strided(bits, shape, strides, writeable=False).view(x.dtype)


def lay_back(columns: np.ndarray, windows: Windows) -> np.ndarray:
    """``(..., *K, *T) -> (..., *S)``: every value of every window added to where it came from; transposes ``view``."""
    n = len(windows.size)
    lead = columns.shape[: columns.ndim - 2 * n]
    padded = np.zeros((*lead, *windows.reach), accumulator(columns.dtype))
    for k, seen in windows.offsets():
        padded[(..., *seen)] += columns[(..., *k, *(slice(None),) * n)]
    inner, outer = windows.overlap()
    if inner == tuple(slice(0, m) for m in windows.size):
        return padded[(..., *outer)].astype(columns.dtype, copy=False)
    out = np.zeros((*lead, *windows.size), columns.dtype)
    out[(..., *inner)] = padded[(..., *outer)]
    return out


windows_p = Primitive("windows", view)
lay_back_p = Primitive("lay_back", lay_back)
deflinear(windows_p, lambda g, out, x, windows: bind(lay_back_p, g, windows=windows))
deflinear(lay_back_p, lambda g, out, x, windows: bind(windows_p, g, windows=windows))
defcost(lay_back_p, lambda out, x, windows: (x.size, 0))

# -- the three partial maps: x (B, G, C, *S), w (G, O, C, *K), y (B, G, O, *T) ------------------------------------


def _parts(samples: int, values: int) -> Iterator[slice]:
    """Cuts a batch so that the columns of a part have at most COLUMN_VALUES values."""
    step = max(COLUMN_VALUES // max(values, 1), 1)
    return (slice(i, min(i + step, samples)) for i in range(0, samples, step))


def _column_values(groups: int, channels: int, windows: Windows) -> int:
    return groups * channels * math.prod(windows.kernel) * math.prod(windows.count)


def _columns(x: np.ndarray, windows: Windows) -> np.ndarray:
    """``(B, G, C, *S) -> (B, G, C·K, T)``."""
    b, g, c = x.shape[:3]
    return view(x, windows).reshape(b, g, c * math.prod(windows.kernel), math.prod(windows.count))


def _convolve(x: np.ndarray, w: np.ndarray, windows: Windows) -> np.ndarray:
    (x, w), dtype = to_add_up(x, w)
    (samples, groups, channels), outs = x.shape[:3], w.shape[1]
    matrix = w.reshape(groups, outs, channels * math.prod(windows.kernel))
    out = np.empty((samples, groups, outs, math.prod(windows.count)), x.dtype)
    for part in _parts(samples, _column_values(groups, channels, windows)):
        np.matmul(matrix, _columns(x[part], windows), out=out[part])
    return out.reshape(samples, groups, outs, *windows.count).astype(dtype, copy=False)


def _spread(y: np.ndarray, w: np.ndarray, windows: Windows) -> np.ndarray:
    (y, w), dtype = to_add_up(y, w)
    (samples, groups, outs), channels = y.shape[:3], w.shape[2]
    matrix = w.reshape(groups, outs, channels * math.prod(windows.kernel)).swapaxes(-1, -2)
    rows = y.reshape(samples, groups, outs, math.prod(windows.count))
    x = np.empty((samples, groups, channels, *windows.size), y.dtype)
    for part in _parts(samples, _column_values(groups, channels, windows)):
        columns = np.matmul(matrix, rows[part])
        x[part] = lay_back(columns.reshape(len(columns), groups, channels, *windows.kernel, *windows.count), windows)
    return x.astype(dtype, copy=False)


def _correlate(x: np.ndarray, y: np.ndarray, windows: Windows) -> np.ndarray:
    (x, y), dtype = to_add_up(x, y)
    (samples, groups, channels), outs = x.shape[:3], y.shape[2]
    rows = y.reshape(samples, groups, outs, math.prod(windows.count))
    w = np.zeros((groups, outs, channels * math.prod(windows.kernel)), x.dtype)
    for part in _parts(samples, _column_values(groups, channels, windows)):
        w += np.matmul(rows[part], _columns(x[part], windows).swapaxes(-1, -2)).sum(axis=0)
    return w.reshape(groups, outs, channels, *windows.kernel).astype(dtype, copy=False)


# The same with smaller operations, for interpreters that must see every rounding.


def _as_columns(x: Tensor, windows: Windows) -> Tensor:
    x = bind(windows_p, as_tensor(x), windows=windows)
    b, g, c = x.shape[:3]
    return reshape(x, (b, g, c * math.prod(windows.kernel), math.prod(windows.count)))


def _convolve_decomposed(x: Tensor, w: Tensor, windows: Windows) -> Tensor:
    w = reshape(w, (*w.shape[:2], math.prod(w.shape[2:])))
    out = matmul(w, _as_columns(x, windows))
    return reshape(out, (*out.shape[:3], *windows.count))


def _spread_decomposed(y: Tensor, w: Tensor, windows: Windows) -> Tensor:
    channels, w = w.shape[2], swapaxes(reshape(w, (*w.shape[:2], math.prod(w.shape[2:]))), -1, -2)
    columns = matmul(w, reshape(y, (*y.shape[:3], math.prod(windows.count))))
    columns = reshape(columns, (*columns.shape[:2], channels, *windows.kernel, *windows.count))
    return bind(lay_back_p, columns, windows=windows)


def _correlate_decomposed(x: Tensor, y: Tensor, windows: Windows) -> Tensor:
    samples, groups, outs = y.shape[:3]
    positions = math.prod(windows.count)
    rows = reshape(swapaxes(reshape(y, (samples, groups * outs, positions)), 0, 1), (groups, outs, samples * positions))
    columns = _as_columns(x, windows)  # (B, G, CK, T) -> (G, BT, CK): one sum over samples and positions
    values = columns.shape[2]
    columns = reshape(swapaxes(reshape(columns, (samples, groups * values, positions)), 0, 1),
                      (groups, values, samples * positions))  # fmt: skip
    w = matmul(rows, swapaxes(columns, -1, -2))
    return reshape(w, (groups, outs, x.shape[2], *windows.kernel))


def _over_two_axes(kernel: Callable[..., Any], twin: Callable[..., Any]) -> Callable[..., Any]:
    """``kernel`` or ``twin``; kernels know no third axis."""
    either = compiled(kernel, twin)
    return lambda a, b, windows: (either if len(windows.size) <= 2 else twin)(a, b, windows=windows)


convolve_p = Primitive("convolution", _over_two_axes(kernels.convolve, _convolve), decomposition=_convolve_decomposed)
spread_p = Primitive(
    "transposed convolution", _over_two_axes(kernels.spread, _spread), decomposition=_spread_decomposed
)
correlate_p = Primitive(
    "convolution weight", _over_two_axes(kernels.correlate, _correlate), decomposition=_correlate_decomposed
)

defvjp(
    convolve_p,
    lambda g, out, x, w, windows: unbroadcast(bind(spread_p, g, conj(w), windows=windows), x),
    lambda g, out, x, w, windows: unbroadcast(bind(correlate_p, conj(x), g, windows=windows), w),
    saves=((1,), (0,)),
)
defvjp(
    spread_p,
    lambda g, out, y, w, windows: unbroadcast(bind(convolve_p, g, conj(w), windows=windows), y),
    lambda g, out, y, w, windows: unbroadcast(bind(correlate_p, g, conj(y), windows=windows), w),
    saves=((1,), (0,)),
)
defvjp(
    correlate_p,
    lambda g, out, x, y, windows: unbroadcast(bind(spread_p, conj(y), g, windows=windows), x),
    lambda g, out, x, y, windows: unbroadcast(bind(convolve_p, conj(x), g, windows=windows), y),
    saves=((1,), (0,)),
)
for _primitive in (convolve_p, spread_p, correlate_p):
    defjvp(_primitive, "linear", "linear")


def _convolve_cost(out: Any, x: np.ndarray, w: np.ndarray, windows: Windows) -> tuple[int, int]:
    macs = len(x) * w.size * math.prod(windows.count)
    return 2 * macs, macs


def _correlate_cost(out: np.ndarray, x: np.ndarray, y: Any, windows: Windows) -> tuple[int, int]:
    macs = len(x) * out.size * math.prod(windows.count)
    return 2 * macs, macs


defcost(convolve_p, _convolve_cost)
defcost(spread_p, _convolve_cost)
defcost(correlate_p, _correlate_cost)

# -- options ------------------------------------------------------------------------------------------------------


def per_axis(what: str, name: str, value: Any, axes: int, least: int) -> tuple[int, ...]:
    """``value``, one integer or one an axis, as a tuple; at least ``least``."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(values) == 1:
        values *= axes
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values)
    if len(values) != axes or not whole or min(values) < least:
        raise ValueError(f"{what}: {name} must be an integer >= {least} or {axes} of them, got {value!r}")
    return tuple(int(v) for v in values)


def _padding(
    what: str, padding: Any, size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> list[tuple[int, int]]:  # fmt: skip
    """(before, after) for each axis."""
    n = len(size)
    if not isinstance(padding, str):
        return [(p, p) for p in per_axis(what, "padding", padding, n, 0)]
    if padding == "valid":
        return [(0, 0)] * n
    if padding != "same":
        raise ValueError(f"{what}: padding must be 'same', 'valid', an integer or {n} of them, got {padding!r}")
    pairs = []
    for m, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-m // s) - 1) * s + (k - 1) * d + 1 - m, 0)
        pairs.append((total // 2, total - total // 2))
    return pairs


def lay_windows(
    what: str, size: Sequence[int], kernel: tuple[int, ...], stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Windows:
    """The windows that fit on ``size`` values an axis; raises ShapeError when not one does."""
    n, size = len(kernel), tuple(size)
    stride = per_axis(what, "stride", stride, n, 1)
    dilation = per_axis(what, "dilation", dilation, n, 1)
    pairs = _padding(what, padding, size, kernel, stride, dilation)
    counts = []
    for axis, (m, k, s, d, (low, high)) in enumerate(zip(size, kernel, stride, dilation, pairs, strict=True)):
        span = (k - 1) * d + 1
        if m and m + low + high < span:
            raise ShapeError(
                f"{what}: a kernel of {k} (spanning {span} with dilation {d}) does not fit on spatial axis {axis} "
                f"of {m} values with padding {low} + {high}"
            )
        counts.append(max((m + low + high - span) // s + 1, 0))
    return Windows(size, kernel, tuple(counts), stride, dilation, tuple(low for low, _ in pairs))


def spatial(what: str, x: ArrayLike, axes: int) -> tuple[Tensor, tuple[int, ...]]:
    """``x`` with its leading axes as one, ``(B, C, *S)``, and what they were."""
    x = as_tensor(x)
    if x.ndim < axes + 1:
        layout = ", ".join(("C", *"ZYX"[3 - axes :]))
        raise ShapeError(f"{what}: needs an array (..., {layout}), got shape {x.shape}")
    lead = x.shape[: x.ndim - axes - 1]
    return reshape(x, (math.prod(lead), *x.shape[len(lead) :])), lead


def _grouped(
    what: str, axes: int, x: ArrayLike, weight: ArrayLike, bias: Any, groups: int, transposed: bool
) -> tuple[Tensor, tuple[int, ...], Tensor, Tensor | None]:
    """x ``(B, G, C, *S)``, its leading axes, weight ``(G, O, C, *K)``, bias; all sizes checked.

    The channels of x are axis 1 of the weight of a convolution, axis 0 of a transposed one.
    """
    x, lead = spatial(what, x, axes)
    weight = as_tensor(weight)
    (groups,) = per_axis(what, "groups", groups, 1, 1)
    if weight.ndim != axes + 2:
        raise ShapeError(f"{what}: the weight needs {axes + 2} axes, {_layout(axes, transposed)}, got {weight.shape}")
    if 0 in weight.shape[2:]:
        raise ShapeError(f"{what}: the kernel must not be empty, the weight has shape {weight.shape}")
    channels, outs = x.shape[1], weight.shape[1] * groups if transposed else weight.shape[0]
    expected = weight.shape[0] if transposed else weight.shape[1] * groups
    if channels != expected:
        raise ShapeError(
            f"{what}: x has {channels} channels (shape {(*lead, *x.shape[1:])}), the weight {weight.shape} with "
            f"groups={groups} takes {expected}; its layout is {_layout(axes, transposed)}"
        )
    if weight.shape[0] % groups:
        raise ShapeError(
            f"{what}: {weight.shape[0]} channels of the weight {weight.shape} do not divide into {groups} groups"
        )
    if bias is not None:
        bias = as_tensor(bias)
        if bias.shape != (outs,):
            raise ShapeError(f"{what}: the bias needs shape ({outs},), one value an output channel, got {bias.shape}")
    x = reshape(x, (x.shape[0], groups, channels // groups, *x.shape[2:]))
    return x, lead, reshape(weight, (groups, weight.shape[0] // groups, *weight.shape[1:])), bias


def _layout(axes: int, transposed: bool) -> str:
    kernel = ", ".join(("kz", "ky", "kx")[3 - axes :])
    return f"(C_in, C_out/groups, {kernel})" if transposed else f"(C_out, C_in/groups, {kernel})"


def _finish(out: Tensor, lead: tuple[int, ...], bias: Tensor | None, axes: int) -> Tensor:
    out = reshape(out, (*lead, out.shape[1] * out.shape[2], *out.shape[3:]))
    return out if bias is None else out + reshape(bias, (-1 if bias.size else 0, *(1,) * axes))


def _conv(
    axes: int, x: ArrayLike, weight: ArrayLike, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    what = f"conv{axes}d"
    x, lead, w, bias = _grouped(what, axes, x, weight, bias, groups, transposed=False)
    windows = lay_windows(what, x.shape[3:], w.shape[3:], stride, padding, dilation)
    return _finish(bind(convolve_p, x, w, windows=windows), lead, bias, axes)


def _conv_transpose(
    axes: int, x: ArrayLike, weight: ArrayLike, bias: Any, stride: Any, padding: Any, output_padding: Any,
    groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    what = f"conv_transpose{axes}d"
    x, lead, w, bias = _grouped(what, axes, x, weight, bias, groups, transposed=True)
    stride = per_axis(what, "stride", stride, axes, 1)
    dilation = per_axis(what, "dilation", dilation, axes, 1)
    padding = per_axis(what, "padding", padding, axes, 0)
    extra = per_axis(what, "output_padding", output_padding, axes, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ValueError(f"{what}: output_padding {extra} must be below the stride {stride} or the dilation {dilation}")
    count, kernel = x.shape[3:], w.shape[3:]
    size = tuple(
        (t - 1) * s - 2 * p + (k - 1) * d + e + 1
        for t, s, p, k, d, e in zip(count, stride, padding, kernel, dilation, extra, strict=True)
    )
    if min(size) < 1:
        raise ShapeError(f"{what}: the output would have the spatial shape {size}; less padding, or a larger input")
    windows = Windows(size, kernel, count, stride, dilation, padding)
    return _finish(bind(spread_p, x, w, windows=windows), lead, bias, axes)


def conv1d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Ints = 1, padding: Ints | str = 0,
    dilation: Ints = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """x ``(..., C, X)``, weight ``(C_out, C/groups, kx)``; see ``conv2d``."""
    return _conv(1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Ints = 1, padding: Ints | str = 0,
    dilation: Ints = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """x ``(..., C, Y, X)``, weight ``(C_out, C/groups, ky, kx)``, bias ``(C_out,)`` -> ``(..., C_out, Y', X')``.

    padding: zeros on both sides (one number, or one an axis), "valid" (none), or "same": TensorFlow's rule, with which
        the output has ceil(size / stride) values, and an odd number of zeros puts the extra one behind.
    groups: channels in as many groups that do not see each other; ``groups=C`` is the depthwise convolution.

    Raises ShapeError when channels, kernel or bias do not fit.
    """
    return _conv(2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Ints = 1, padding: Ints | str = 0,
    dilation: Ints = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """x ``(..., C, Z, Y, X)``, weight ``(C_out, C/groups, kz, ky, kx)``; see ``conv2d``."""
    return _conv(3, x, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Ints = 1, padding: Ints = 0,
    output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1,
) -> Tensor:  # fmt: skip
    """x ``(..., C, X)``, weight ``(C, C_out/groups, kx)``; see ``conv_transpose2d``."""
    return _conv_transpose(1, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Ints = 1, padding: Ints = 0,
    output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1,
) -> Tensor:  # fmt: skip
    """The transpose of ``conv2d`` with the same options: x ``(..., C, Y, X)``, weight ``(C, C_out/groups, ky, kx)``.

    The output has (size - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1 values an axis.
    """
    return _conv_transpose(2, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, stride: Ints = 1, padding: Ints = 0,
    output_padding: Ints = 0, groups: int = 1, dilation: Ints = 1,
) -> Tensor:  # fmt: skip
    """x ``(..., C, Z, Y, X)``, weight ``(C, C_out/groups, kz, ky, kx)``; see ``conv_transpose2d``."""
    return _conv_transpose(3, x, weight, bias, stride, padding, output_padding, groups, dilation)


def unfold(x: ArrayLike, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1) -> Tensor:
    """The windows of images as columns: ``(..., C, Y, X) -> (..., C·ky·kx, T)``, T windows in row-major order."""
    x, lead = spatial("unfold", x, 2)
    kernel = per_axis("unfold", "kernel_size", kernel_size, 2, 1)
    windows = lay_windows("unfold", x.shape[2:], kernel, stride, padding, dilation)
    columns = bind(windows_p, x, windows=windows)
    return reshape(columns, (*lead, x.shape[1] * math.prod(kernel), math.prod(windows.count)))


def fold(
    x: ArrayLike, output_size: Ints, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1
) -> Tensor:
    """Columns ``(..., C·ky·kx, T)`` added up to images ``(..., C, *output_size)``: the transpose of ``unfold``."""
    x = as_tensor(x)
    size = per_axis("fold", "output_size", output_size, 2, 1)
    kernel = per_axis("fold", "kernel_size", kernel_size, 2, 1)
    windows = lay_windows("fold", size, kernel, stride, padding, dilation)
    places, count = math.prod(kernel), math.prod(windows.count)
    if x.ndim < 2 or x.shape[-2] % places or x.shape[-1] != count:
        raise ShapeError(
            f"fold: images of {size} have {count} windows of {places} values a channel, so x must have the shape "
            f"(..., C·{places}, {count}), got {x.shape}"
        )
    columns = reshape(x, (*x.shape[:-2], x.shape[-2] // places, *kernel, *windows.count))
    return bind(lay_back_p, columns, windows=windows)
