"""Modules that put others together, or stand where something else may: ``Sequential``, ``Identity``, ``Flatten``.

There is no list of modules: plain lists, tuples and dicts of modules are found in a ``Module`` as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from minitf.autodiff.errors import ShapeError
from minitf.autodiff.ops.broadcast import reshape
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.module import Module


class Sequential(Module):
    """One after another: ``Sequential(f, g, h)(x)`` is h(g(f(x))). Functions, such as ``functional.gelu``, may be among them."""

    def __init__(self, *layers: Callable[[Any], Any]):
        for layer in layers:
            if not callable(layer):
                raise TypeError(f"Sequential: layers are modules and functions, one argument each, got {layer!r:.100}")
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Callable[[Any], Any]]:
        return iter(self.layers)

    def __getitem__(self, i: int) -> Callable[[Any], Any]:
        return self.layers[i]


class Identity(Module):
    """y = x."""

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Axes ``start`` and after as one: ``(B, *) -> (B, prod(*))`` by default."""

    def __init__(self, start: int = 1):
        self.start = start

    def forward(self, x: ArrayLike) -> Tensor:
        x = as_tensor(x)
        if not 0 <= self.start < x.ndim:
            raise ShapeError(f"Flatten: x {x.shape} has no axis {self.start} to start from")
        return reshape(x, (*x.shape[: self.start], math.prod(x.shape[self.start :])))

    def extra_repr(self) -> str:
        return f"{self.start}"
