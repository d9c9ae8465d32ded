"""Convolution layers over 1, 2 or 3 axes, and their transposes: parameters for ``functional.conv*``.

    Conv:           (*, C_in, *S) -> (*, C_out, *S'),  S' = (S + 2 padding - dilation (k - 1) - 1) // stride + 1
                    weight (C_out, C_in/groups, *K),   C_in/groups · prod(K) multiply-adds for each of the outputs
    ConvTranspose:  (*, C_in, *S) -> (*, C_out, *S'),  S' = (S - 1) stride - 2 padding + dilation (k - 1)
                    weight (C_in, C_out/groups, *K),        + output_padding + 1

The names, arguments and layouts are PyTorch's, and so are the initial values: weight and bias U(±1 / sqrt(fan_in)).
With ``init``, a function of ``minitf.nn.init``, the weight is what that draws and the bias starts at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.convolution import (
    Ints,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    lay_windows,
    per_axis,
    unfold,
)
from minitf.autodiff.ops.index import take
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn import init as initial
from minitf.nn.init import Init
from minitf.nn.module import Module, Parameter, require_sizes
from minitf.registry import reference

#: padding_mode -> NumPy's name for what lies beyond the ends
PADDING_MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _draw(
    shape: Sequence[int], size: int, bias: bool, rng: np.random.Generator, init: Init | None
) -> tuple[Parameter, Parameter | None]:
    """A weight of ``shape`` and, if there is to be one, a bias of ``size``."""
    if init is not None:
        return Parameter(init(shape, rng=rng)), Parameter(np.zeros(size)) if bias else None
    weight = Parameter(initial.fan_in_uniform(shape, rng=rng))
    fan_in, _ = initial.fans(shape)
    return weight, Parameter(initial.fan_in_bias(size, fan_in, rng=rng)) if bias else None


class _Layer(Module):
    """What convolutions and their transposes share: the number of spatial axes, and options of one value an axis."""

    axes: int
    padding: Any
    bias: Parameter | None

    def __init__(self, C_in: int, C_out: int, groups: int, kernel_size: Ints, stride: Ints, dilation: Ints):
        name = type(self).__name__
        require_sizes(name, C_in=C_in, C_out=C_out, groups=groups)
        if C_in % groups or C_out % groups:
            raise ShapeError(f"{name}: groups = {groups} must divide C_in = {C_in} and C_out = {C_out}")
        self.C_in, self.C_out, self.groups = C_in, C_out, groups
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self.axes, 1)
        self.stride = per_axis(name, "stride", stride, self.axes, 1)
        self.dilation = per_axis(name, "dilation", dilation, self.axes, 1)

    def extra_repr(self) -> str:
        told = [str(self.C_in), str(self.C_out), f"kernel_size={self.kernel_size}"]
        for name, default in self._defaults().items():
            value = getattr(self, name)
            told += [f"{name}={value!r}"] if value != default else []
        return ", ".join(told) + ("" if self.bias is not None else ", bias=False")

    def _defaults(self) -> dict[str, Any]:
        """The options that ``repr`` shows unless they have these values."""
        zeros, ones = (0,) * self.axes, (1,) * self.axes
        return {"stride": ones, "padding": zeros, "dilation": ones, "groups": 1}


class _Conv(_Layer):
    def __init__(
        self, C_in: int, C_out: int, kernel_size: Ints, stride: Ints = 1, padding: Ints | str = 0, dilation: Ints = 1,
        groups: int = 1, bias: bool = True, padding_mode: str = "zeros", *, rng: np.random.Generator,
        init: Init | None = None,
    ):  # fmt: skip
        super().__init__(C_in, C_out, groups, kernel_size, stride, dilation)
        name = type(self).__name__
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(
                f"{name}: padding must be 'same', 'valid', an integer or {self.axes} of them, got {padding!r}"
            )
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        self.padding = padding if isinstance(padding, str) else per_axis(name, "padding", padding, self.axes, 0)
        self.padding_mode = padding_mode
        self.weight, self.bias = _draw((C_out, C_in // groups, *self.kernel_size), C_out, bias, rng, init)

    def forward(self, x: ArrayLike) -> Tensor:
        return self.convolve(x, self.weight)

    def convolve(self, x: ArrayLike, weight: ArrayLike) -> Tensor:
        """What the layer does, with another weight of the same shape."""
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = self._extended(as_tensor(x)), 0
        convolution = (conv1d, conv2d, conv3d)[self.axes - 1]
        return convolution(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _extended(self, x: Tensor) -> Tensor:
        """``x`` with what windows see beyond its ends, copied from inside."""
        if x.ndim <= self.axes:
            return x  # the convolution says what is wrong with it
        size = x.shape[-self.axes :]
        windows = lay_windows(type(self).__name__, size, self.kernel_size, self.stride, self.padding, self.dilation)
        for axis, (n, low, reach) in enumerate(zip(size, windows.padding, windows.reach, strict=True), -self.axes):
            high = max(reach - low - n, 0)
            if max(low, high) > ({"reflect": n - 1, "circular": n}.get(self.padding_mode, math.inf) if n else 0):
                raise ShapeError(
                    f"{type(self).__name__}: {self.padding_mode} padding of {low} + {high} needs more values than the {n} "
                    f"of axis {axis} of {x.shape}"
                )
            if low or high:
                places = np.pad(np.arange(n), (low, high), mode=PADDING_MODES[self.padding_mode])
                x = take(x, places, axis)
        return x

    def _defaults(self) -> dict[str, Any]:
        return super()._defaults() | {"padding_mode": "zeros"}


class Conv1d(_Conv):
    """``functional.conv1d``: ``(*, C_in, X) -> (*, C_out, X')``, weight ``(C_out, C_in/groups, kx)``; see ``Conv2d``."""

    axes = 1


class Conv2d(_Conv):
    """``functional.conv2d``: ``(*, C_in, Y, X) -> (*, C_out, Y', X')``, weight ``(C_out, C_in/groups, ky, kx)``.

    padding: on both sides: a number, one an axis, "valid" (none), or "same": as many outputs as ceil(size / stride).
    padding_mode: "zeros"; "reflect" (without repeating the edge), "replicate" (the edge), "circular".
    groups: channels in as many groups that do not see each other.

    Raises ShapeError for sizes that are not positive or groups that do not divide the channels, ValueError for options.
    """

    axes = 2


class Conv3d(_Conv):
    """``functional.conv3d``: ``(*, C_in, Z, Y, X) -> (*, C_out, Z', Y', X')``, weight ``(C_out, C_in/groups, kz, ky, kx)``.

    See ``Conv2d``.
    """

    axes = 3


class _ConvTranspose(_Layer):
    def __init__(
        self, C_in: int, C_out: int, kernel_size: Ints, stride: Ints = 1, padding: Ints = 0, output_padding: Ints = 0,
        groups: int = 1, bias: bool = True, dilation: Ints = 1, *, rng: np.random.Generator, init: Init | None = None,
    ):  # fmt: skip
        super().__init__(C_in, C_out, groups, kernel_size, stride, dilation)
        self.padding = per_axis(type(self).__name__, "padding", padding, self.axes, 0)
        self.output_padding = per_axis(type(self).__name__, "output_padding", output_padding, self.axes, 0)
        self.weight, self.bias = _draw((C_in, C_out // groups, *self.kernel_size), C_out, bias, rng, init)

    def forward(self, x: ArrayLike) -> Tensor:
        transposed = (conv_transpose1d, conv_transpose2d, conv_transpose3d)[self.axes - 1]
        return transposed(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def _defaults(self) -> dict[str, Any]:
        return super()._defaults() | {"output_padding": (0,) * self.axes}


class ConvTranspose1d(_ConvTranspose):
    """``functional.conv_transpose1d``: ``(*, C_in, X) -> (*, C_out, X')``, weight ``(C_in, C_out/groups, kx)``.

    See ``ConvTranspose2d``.
    """

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """``functional.conv_transpose2d``: ``(*, C_in, Y, X) -> (*, C_out, Y', X')``, weight ``(C_in, C_out/groups, ky, kx)``.

    The transpose of the ``Conv2d`` from C_out to C_in channels with the same options; where several sizes of its input
    have the same size of output, ``output_padding`` chooses.
    """

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """``functional.conv_transpose3d``: ``(*, C_in, Z, Y, X) -> (*, C_out, Z', Y', X')``; see ``ConvTranspose2d``.

    weight ``(C_in, C_out/groups, kz, ky, kx)``.
    """

    axes = 3


# -- what the oracle asks --------------------------------------------------------------------------------------------


def convolution_2d(
    x: Any, weight: Any, bias: Any, *, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1,
    bias_first: bool = False,
) -> Tensor:  # fmt: skip
    """``conv2d`` with one number for both axes. bias_first: sums that start with the bias, as many libraries' do."""
    if not bias_first:
        return conv2d(x, weight, bias, stride, padding, dilation, groups)
    x, weight, bias = as_tensor(x), as_tensor(weight), as_tensor(bias)
    F, side = weight.shape[0], weight.shape[-1]
    Y, X = ((n + 2 * padding - dilation * (side - 1) - 1) // stride + 1 for n in x.shape[-2:])
    ones = np.ones((len(x), 1, Y * X), x.dtype)
    weight = mt.concatenate([bias[:, None], mt.reshape(weight, (F, -1))], 1)
    maps = []
    for part, rows in zip(mt.split(x, groups, 1), mt.split(weight, groups, 0), strict=True):
        columns = unfold(part, side, dilation=dilation, padding=padding, stride=stride)
        maps.append(mt.matmul(rows, mt.concatenate([ones, columns], 1)))
    return mt.reshape(mt.concatenate(maps, 1), (len(x), F, Y, X))


def _example(draw: Any, size: str, *, groups: int = 1, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    B, C, F, Y, X = {"tiny": (1, 2, 4, 5, 6), "small": (2, 4, 6, 11, 9), "medium": (2, 16, 32, 33, 30)}[size]
    weight = draw.normal((F, C // groups, 3, 3)) * (9 * C // groups) ** -0.5
    inputs = {"x": draw.normal((B, C, Y, X)), "weight": weight, "bias": draw.normal((F,))}
    return inputs, {**options, "groups": groups} if groups > 1 else options


reference(
    "nn.conv2d",
    convolution_2d,
    example=_example,
    differentiable=("x", "weight", "bias"),
    options=({}, {"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2, "padding": 1}),
    forms=({}, {"bias_first": True}),
)
