"""Depthwise-separable convolution: every channel is convolved by itself, then the channels are mixed at every place.

    u[c]    = w_c * x[c]                      depthwise:  C_in K multiply-adds a place, K the values of a window
    y[o]    = sum_c  P[o, c] u[c] + b[o]      pointwise:  C_in C_out

A full convolution takes C_in C_out K, so this takes the share 1/C_out + 1/K of it, in multiply-adds and in weights: it
is the full convolution whose weight is the product P[o, c] w_c[k]. Nothing stands between the two maps (networks of the
MobileNet kind put a norm and an activation there), so only the second has a bias.
"""

from __future__ import annotations

import numpy as np

from minitf.autodiff.ops.convolution import Ints
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn.convolutions import Conv1d, Conv2d
from minitf.nn.module import Module


class _DepthwiseSeparable(Module):
    convolution: type[Conv1d | Conv2d]

    def __init__(
        self, C_in: int, C_out: int, kernel_size: Ints, stride: Ints = 1, padding: Ints | str = 0, dilation: Ints = 1,
        bias: bool = True, padding_mode: str = "zeros", *, rng: np.random.Generator,
    ):  # fmt: skip
        self.depthwise = self.convolution(
            C_in,
            C_in,
            kernel_size,
            stride,
            padding,
            dilation,
            groups=C_in,
            bias=False,
            padding_mode=padding_mode,
            rng=rng,
        )
        self.pointwise = self.convolution(C_in, C_out, 1, bias=bias, rng=rng)

    def forward(self, x: ArrayLike) -> Tensor:
        return self.pointwise(self.depthwise(x))


class DepthwiseSeparableConv1d(_DepthwiseSeparable):
    """``(*, C_in, X) -> (*, C_out, X')``: a ``Conv1d`` with one group a channel, then one with kernel size 1."""

    convolution = Conv1d


class DepthwiseSeparableConv2d(_DepthwiseSeparable):
    """``(*, C_in, Y, X) -> (*, C_out, Y', X')``: a ``Conv2d`` with one group a channel, then one with kernel size 1."""

    convolution = Conv2d
