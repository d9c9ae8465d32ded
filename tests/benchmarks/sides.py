"""What a side-by-side benchmark is made of: see ``test_side_by_side.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import minitf as mt

#: "ours", and where there is such a thing "torch" and "numpy": each runs the computation once
Sides = dict[str, Callable[[], Any]]
#: name -> what makes the sides, and what is computed
Cases = dict[str, tuple[Callable[[], Sides], str]]


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def twin(function: Callable[..., Any], *arrays: Any, **options: Any) -> Callable[[], Any]:
    """``function`` with the kernels off."""

    def run() -> Any:
        with mt.config(kernels="numpy"):
            return function(*arrays, **options)

    return run


def with_gradients(
    ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray, numpy: bool = True
) -> Sides:
    """A function and the gradients of all its arguments, forward and backward together."""

    def both(*xs: np.ndarray) -> Any:
        out, pullback = mt.vjp(ours, *xs)
        return pullback(np.ones(out.shape, out.dtype))

    leaves = [torch.tensor(x, requires_grad=True) for x in arrays]

    def eager() -> Any:
        out = theirs(*leaves)
        return torch.autograd.grad(out, leaves, torch.ones_like(out))

    sides: Sides = {"ours": lambda: both(*arrays), "torch": eager}
    return sides | {"numpy": twin(both, *arrays)} if numpy else sides
