"""The layers: parameters and their initial values; the mathematics is in ``minitf.nn.functional``.

Parameters have the configured dtype (``mt.config(dtype="float32")``). ``init`` is a function of ``minitf.nn.init``, its
options set by ``functools.partial``.
"""

from __future__ import annotations

import math

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn import functional, init
from minitf.nn.init import Init
from minitf.nn.module import Module, Parameter


def _sizes(layer: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ShapeError(f"{layer}: {name} must be a positive integer, got {size!r}")


class Linear(Module):
    """y = x @ weight + bias: ``(*, D_in) -> (*, D_out)``, weight ``(D_in, D_out)``.

    init: of the weight; the bias then starts at zero. By default both are U(±1/sqrt(D_in)).
    """

    def __init__(self, D_in: int, D_out: int, bias: bool = True, *, rng: np.random.Generator, init: Init | None = None):
        _sizes("Linear", D_in=D_in, D_out=D_out)
        self.weight = Parameter((init or _linear_init)((D_in, D_out), rng=rng))
        self.bias = None
        if bias:
            self.bias = Parameter(_bias(D_in, D_out, rng) if init is None else np.zeros(D_out))

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        D_in, D_out = self.weight.shape
        return f"{D_in}, {D_out}" + ("" if self.bias is not None else ", bias=False")


def _linear_init(shape: tuple[int, int], *, rng: np.random.Generator) -> np.ndarray:
    return init.kaiming_uniform(shape, math.sqrt(1 / 3), rng=rng)


def _bias(D_in: int, D_out: int, rng: np.random.Generator) -> np.ndarray:
    bound = 1 / math.sqrt(D_in)
    return init.uniform((D_out,), -bound, bound, rng=rng)


class Embedding(Module):
    """Rows of weight ``(V, D)`` by id: ``(*) -> (*, D)``. The rows start as N(0, 1)."""

    def __init__(self, V: int, D: int, *, rng: np.random.Generator, init: Init = init.normal):
        _sizes("Embedding", V=V, D=D)
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
        _sizes("LayerNorm", D=D)
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
        _sizes("RMSNorm", D=D)
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
        _sizes("GroupNorm", groups=groups, C=C)
        if C % groups:
            raise ShapeError(f"GroupNorm: C = {C} channels cannot form {groups} equal groups")
        self.groups, self.C, self.eps = groups, C, eps
        self.weight = Parameter(np.ones(C)) if affine else None
        self.bias = Parameter(np.zeros(C)) if affine else None

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.group_norm(x, self.groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.groups}, {self.C}, eps={self.eps}" + (", affine=False" if self.weight is None else "")


class Dropout(Module):
    """While training, zeroes elements with probability ``p`` and divides the others by 1 - p.

    rng: draws which; needed unless p is 0.
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be between 0 and 1, got {p!r}")
        if p:
            init.generator(rng)
        self.p, self.rng = p, rng

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.dropout(x, self.p, rng=self.rng, training=self.training)

    def extra_repr(self) -> str:
        return f"{self.p}"
