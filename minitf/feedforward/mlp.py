"""The position-wise feed-forward layer, plain and gated.

feed_forward        act(x W1 + b1) W2 + b2
gated_feed_forward  (act(x W_gate) * (x W_up)) W_down          GLU family: SwiGLU with silu, GeGLU with gelu
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minitf.autodiff.tensor import Tensor
from minitf.nn import functional as F
from minitf.nn.layers import Linear
from minitf.nn.module import Module

ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "squared_relu": F.squared_relu,
}


def activation(name: str | Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
    """The activation of that name; a function is returned as it is."""
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def feed_forward(x: Any, w1: Any, w2: Any, b1: Any = None, b2: Any = None, *, act: str | Callable = "gelu") -> Tensor:
    """x (*, D), w1 (D, F), w2 (F, D), biases (F,) and (D,) -> (*, D)."""
    return F.linear(activation(act)(F.linear(x, w1, b1)), w2, b2)


def gated_feed_forward(x: Any, w_gate: Any, w_up: Any, w_down: Any, *, act: str | Callable = "silu") -> Tensor:
    """x (*, D), w_gate and w_up (D, F), w_down (F, D) -> (*, D)."""
    return F.linear(activation(act)(F.linear(x, w_gate)) * F.linear(x, w_up), w_down)


class FeedForward(Module):
    """``feed_forward`` with its weights."""

    def __init__(self, D: int, F_: int, act: str | Callable = "gelu", bias: bool = True, *, rng: np.random.Generator):
        super().__init__()
        self.up = Linear(D, F_, bias=bias, rng=rng)
        self.down = Linear(F_, D, bias=bias, rng=rng)
        self.act = act

    def forward(self, x: Any) -> Tensor:
        return feed_forward(x, self.up.weight, self.down.weight, self.up.bias, self.down.bias, act=self.act)


class GatedFeedForward(Module):
    """``gated_feed_forward`` with its weights; no biases."""

    def __init__(self, D: int, F_: int, act: str | Callable = "silu", *, rng: np.random.Generator):
        super().__init__()
        self.gate = Linear(D, F_, bias=False, rng=rng)
        self.up = Linear(D, F_, bias=False, rng=rng)
        self.down = Linear(F_, D, bias=False, rng=rng)
        self.act = act

    def forward(self, x: Any) -> Tensor:
        return gated_feed_forward(x, self.gate.weight, self.up.weight, self.down.weight, act=self.act)
