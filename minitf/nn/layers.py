"""The layers: parameters and their initial values; the mathematics is in ``minitf.nn.functional``.

Parameters have the configured dtype (``mt.config(dtype="float32")``). ``init`` is a function of ``minitf.nn.init``, its
options set by ``functools.partial``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import reshape
from minitf.autodiff.ops.shape import moveaxis
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn import functional, init
from minitf.nn.init import Init, fan_in_bias, fan_in_uniform
from minitf.nn.module import Module, Parameter, require_sizes


class Linear(Module):
    """y = x @ weight + bias: ``(*, D_in) -> (*, D_out)``, weight ``(D_in, D_out)``.

    init: of the weight; the bias then starts at zero. By default both are U(±1/sqrt(D_in)).
    """

    def __init__(self, D_in: int, D_out: int, bias: bool = True, *, rng: np.random.Generator, init: Init | None = None):
        require_sizes("Linear", D_in=D_in, D_out=D_out)
        self.weight = Parameter((init or fan_in_uniform)((D_in, D_out), rng=rng))
        self.bias = None
        if bias:
            self.bias = Parameter(fan_in_bias(D_out, D_in, rng=rng) if init is None else np.zeros(D_out))

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        D_in, D_out = self.weight.shape
        return f"{D_in}, {D_out}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """Rows of weight ``(V, D)`` by id: ``(*) -> (*, D)``. The rows start as N(0, 1)."""

    def __init__(self, V: int, D: int, *, rng: np.random.Generator, init: Init = init.normal):
        require_sizes("Embedding", V=V, D=D)
        self.weight = Parameter(init((V, D), rng=rng))

    def forward(self, ids: ArrayLike) -> Tensor:
        return functional.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


class LayerNorm(Module):
    """(x - mean) rsqrt(var + eps) over the last axis, of size D, then weight and bias.

    bias: False leaves the bias out; affine: False leaves out both.
    """

    def __init__(self, D: int, eps: float = 1e-5, bias: bool = True, affine: bool = True):
        require_sizes("LayerNorm", D=D)
        self.D, self.eps = D, eps
        self.weight = Parameter(np.ones(D)) if affine else None
        self.bias = Parameter(np.zeros(D)) if affine and bias else None

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        without = ", affine=False" if self.weight is None else ", bias=False" if self.bias is None else ""
        return f"{self.D}, eps={self.eps}{without}"


class RMSNorm(Module):
    """x rsqrt(mean(x²) + eps) (offset + weight) over the last axis, of size D; at first the factor is 1.

    offset: 1 makes it Gemma's parametrization, in which weight decay pulls the factor to 1.
    """

    def __init__(self, D: int, eps: float = 1e-6, affine: bool = True, offset: float = 0.0):
        require_sizes("RMSNorm", D=D)
        self.D, self.eps, self.offset = D, eps, offset
        self.weight = Parameter(np.full(D, 1.0 - offset)) if affine else None

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.rms_norm(x, self.weight, self.eps, self.offset)

    def extra_repr(self) -> str:
        options = ", affine=False" if self.weight is None else f", offset={self.offset}" if self.offset else ""
        return f"{self.D}, eps={self.eps}{options}"


class GroupNorm(Module):
    """(x - mean) rsqrt(var + eps) over each of ``groups`` groups of the C channels of ``(B, C, *)``, then weight and bias.

    affine: False leaves out both.
    """

    def __init__(self, groups: int, C: int, eps: float = 1e-5, affine: bool = True):
        require_sizes("GroupNorm", groups=groups, C=C)
        if C % groups:
            raise ShapeError(f"GroupNorm: C = {C} channels cannot form {groups} equal groups")
        self.groups, self.C, self.eps = groups, C, eps
        self.weight = Parameter(np.ones(C)) if affine else None
        self.bias = Parameter(np.zeros(C)) if affine else None

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.group_norm(x, self.groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.groups}, {self.C}, eps={self.eps}" + (", affine=False" if self.weight is None else "")


class LayerNorm2d(LayerNorm):
    """``LayerNorm`` over the C channels at every place of ``(*, C, Y, X)``."""

    def forward(self, x: ArrayLike) -> Tensor:
        return moveaxis(super().forward(moveaxis(x, -3, -1)), -1, -3)


class _InstanceNorm(Module):
    axes: int

    def __init__(self, C: int, eps: float = 1e-5, affine: bool = False):
        require_sizes(type(self).__name__, C=C)
        self.C, self.eps = C, eps
        self.weight = Parameter(np.ones(C)) if affine else None
        self.bias = Parameter(np.zeros(C)) if affine else None

    def forward(self, x: ArrayLike) -> Tensor:
        x = as_tensor(x)
        if x.ndim != self.axes + 2 or x.shape[1] != self.C:
            wanted = ", ".join(("B", "C", *"ZYX"[3 - self.axes :]))
            raise ShapeError(f"{type(self).__name__}: needs x ({wanted}) with C = {self.C}, got shape {x.shape}")
        return functional.instance_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.C}, eps={self.eps}" + (", affine=True" if self.weight is not None else "")


class InstanceNorm1d(_InstanceNorm):
    """``functional.instance_norm`` of ``(B, C, X)``: every channel of every sample by itself.

    affine: True adds a weight and a bias a channel.
    """

    axes = 1


class InstanceNorm2d(_InstanceNorm):
    """``functional.instance_norm`` of ``(B, C, Y, X)``; see ``InstanceNorm1d``."""

    axes = 2


class InstanceNorm3d(_InstanceNorm):
    """``functional.instance_norm`` of ``(B, C, Z, Y, X)``; see ``InstanceNorm1d``."""

    axes = 3


class LayerScale(Module):
    """γ ⊙ x, one γ for each of the C entries of ``axis``, all ``init`` at first: a branch that starts almost silent."""

    def __init__(self, C: int, init: float = 1e-5, axis: int = -1):
        require_sizes("LayerScale", C=C)
        self.gamma = Parameter(np.full(C, init))
        self.axis = axis

    def forward(self, x: ArrayLike) -> Tensor:
        x, C = as_tensor(x), self.gamma.size
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != C:
            raise ShapeError(f"LayerScale: axis {self.axis} must have {C} entries, got shape {x.shape}")
        behind = x.ndim - 1 - self.axis % x.ndim
        return x * reshape(self.gamma, (C, *[1] * behind))

    def extra_repr(self) -> str:
        return f"{self.gamma.size}" + (f", axis={self.axis}" if self.axis != -1 else "")


class Bilinear(Module):
    """y_o = x1ᵀ weight_o x2 + bias_o: ``(*, D1), (*, D2) -> (*, D_out)``, weight ``(D1, D2, D_out)``.

    Both start as U(±1/sqrt(D1)).
    """

    def __init__(self, D1: int, D2: int, D_out: int, bias: bool = True, *, rng: np.random.Generator):
        require_sizes("Bilinear", D1=D1, D2=D2, D_out=D_out)
        bound = 1 / np.sqrt(D1)
        self.weight = Parameter(init.uniform((D1, D2, D_out), -bound, bound, rng=rng))
        self.bias = Parameter(fan_in_bias(D_out, D1, rng=rng)) if bias else None

    def forward(self, x1: ArrayLike, x2: ArrayLike) -> Tensor:
        return functional.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape)) + ("" if self.bias is not None else ", bias=False")


class Upsample(Module):
    """``functional.interpolate`` of ``(B, C, *S)`` to ``size``, or by ``scale_factor``."""

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ):
        if (size is None) == (scale_factor is None):
            raise ValueError("Upsample: give either size or scale_factor")
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        target = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{target}, mode={self.mode!r}"


class Dropout(Module):
    """While training, zeroes elements with probability ``p`` and divides the others by 1 - p.

    rng: draws which; needed unless p is 0.
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None):
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p must be between 0 and 1, got {p!r}")
        if p:
            init.generator(rng)
        self.p, self.rng = p, rng

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.dropout(x, self.p, rng=self.rng, training=self.training)

    def extra_repr(self) -> str:
        return f"{self.p}"
