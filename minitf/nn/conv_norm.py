"""Convolution, then batch norm; and both as one convolution, which is what they are once training is over.

    ((w * x + b) - m) γ / sqrt(v + eps) + β   =   w' * x + b'
    w'[o] = w[o] s[o],     b' = β + (b - m) s,     s = γ / sqrt(v + eps)

with the running estimates m and v: exact, whatever the convolution does at the edges, because s and m belong to the
channels that come out of it.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from minitf.nn.convolutions import Conv1d, Conv2d, Conv3d
from minitf.nn.module import Module, Parameter


class ConvNorm(Module):
    """``Conv2d``, without bias unless asked for, then ``BatchNorm2d``: ``(B, C_in, Y, X) -> (B, C_out, Y', X')``.

    eps, momentum: of the norm; all other arguments are those of ``Conv2d``.
    """

    def __init__(
        self,
        C_in: int,
        C_out: int,
        *convolution: Any,
        bias: bool = False,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        rng: np.random.Generator,
        **options: Any,
    ):
        self.conv = Conv2d(C_in, C_out, *convolution, bias=bias, rng=rng, **options)
        self.norm = BatchNorm2d(C_out, eps, momentum)

    def forward(self, x: ArrayLike) -> Tensor:
        return self.norm(self.conv(x))

    def fused(self) -> Conv2d:
        """One convolution that does in evaluation what this does."""
        return fuse_conv_norm(self.conv, self.norm)  # pyright: ignore[reportReturnType]


def fuse_conv_norm(
    conv: Conv1d | Conv2d | Conv3d, norm: BatchNorm1d | BatchNorm2d | BatchNorm3d
) -> Conv1d | Conv2d | Conv3d:
    """A new convolution with bias, equal to ``norm(conv(x))`` in evaluation.

    Raises TypeError for other layers, ShapeError when channels disagree, ValueError for a norm without estimates.
    """
    if type(conv) not in (Conv1d, Conv2d, Conv3d) or not isinstance(norm, (BatchNorm1d, BatchNorm2d, BatchNorm3d)):
        told = f"{type(conv).__name__} and {type(norm).__name__}"
        raise TypeError(f"fuse_conv_norm: needs a Conv1d, Conv2d or Conv3d and the BatchNorm behind it, got {told}")
    if conv.C_out != norm.C:
        raise ShapeError(f"fuse_conv_norm: the convolution has {conv.C_out} outputs, the norm {norm.C} channels")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            "fuse_conv_norm: the norm has no running estimates (track_running_stats=False), nothing to fuse"
        )
    scale = 1 / np.sqrt(norm.running_var.data + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.data
    bias = ((0 if conv.bias is None else conv.bias.data) - norm.running_mean.data) * scale
    if norm.bias is not None:
        bias = bias + norm.bias.data
    fused = copy.copy(conv)
    fused.weight = Parameter(conv.weight.data * scale.reshape(-1, *[1] * (conv.axes + 1)), conv.weight.dtype)
    fused.bias = Parameter(bias, conv.weight.dtype)
    return fused
