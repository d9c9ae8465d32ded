"""Pooling layers: the options of ``functional.max_pool*``, ``avg_pool*`` and ``adaptive_avg_pool*``, kept.

The names and arguments are PyTorch's. Layers with 1d act on ``(*, C, X)``, 2d on ``(*, C, Y, X)``, 3d on
``(*, C, Z, Y, X)``; what they compute is told by the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minitf.autodiff.ops import pooling
from minitf.autodiff.ops.convolution import Ints
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn.module import Module


class _Pool(Module):
    pool: Callable[..., Tensor]

    def __init__(self, **options: Any):
        self.options = options

    def forward(self, x: ArrayLike) -> Tensor:
        return type(self).pool(x, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
    ):
        super().__init__(
            kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
        )


class MaxPool1d(_MaxPool):
    """``functional.max_pool1d``; the stride is the kernel's size by default."""

    pool = staticmethod(pooling.max_pool1d)


class MaxPool2d(_MaxPool):
    """``functional.max_pool2d``; the stride is the kernel's size by default."""

    pool = staticmethod(pooling.max_pool2d)


class MaxPool3d(_MaxPool):
    """``functional.max_pool3d``; the stride is the kernel's size by default."""

    pool = staticmethod(pooling.max_pool3d)


class AvgPool1d(_Pool):
    """``functional.avg_pool1d``; the stride is the kernel's size by default."""

    pool = staticmethod(pooling.avg_pool1d)

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )


class _AvgPool(AvgPool1d):
    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.options["divisor_override"] = divisor_override


class AvgPool2d(_AvgPool):
    """``functional.avg_pool2d``; the stride is the kernel's size by default."""

    pool = staticmethod(pooling.avg_pool2d)


class AvgPool3d(_AvgPool):
    """``functional.avg_pool3d``; the stride is the kernel's size by default."""

    pool = staticmethod(pooling.avg_pool3d)


class _AdaptiveAvgPool(_Pool):
    def __init__(self, output_size: int | Sequence[int | None] | None):
        super().__init__(output_size=output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """``functional.adaptive_avg_pool1d``: means over ``output_size`` almost equal stretches."""

    pool = staticmethod(pooling.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """``functional.adaptive_avg_pool2d``: means over ``output_size`` almost equal rectangles; 1 is global pooling."""

    pool = staticmethod(pooling.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """``functional.adaptive_avg_pool3d``: means over ``output_size`` almost equal boxes."""

    pool = staticmethod(pooling.adaptive_avg_pool3d)
