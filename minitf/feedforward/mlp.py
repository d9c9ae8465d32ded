"""The position-wise feed-forward layer, plain and gated.

    feed_forward        act(x W1 + b1) W2 + b2
    gated_feed_forward  (act(x W_gate) * (x W_up)) W_down          GLU family: SwiGLU with silu, GeGLU with gelu

A token costs 2 D F multiply-adds, 3 D F if gated: a gated layer of width 2F/3 costs the same, and has as many weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn.functional import geglu, gelu, linear, reglu, relu, silu, squared_relu, swiglu
from minitf.nn.layers import Dropout, Linear
from minitf.nn.module import Module
from minitf.registry import reference

#: the name of an activation, or any function of one array
Activation: TypeAlias = str | Callable[[Any], Tensor]

ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
    "silu": silu,
    "squared_relu": squared_relu,
}
#: act(gate) * up in one pass, for those activations that have it
GATES: dict[Callable[[Any], Tensor], Callable[[Any, Any], Tensor]] = {
    relu: reglu,
    gelu: geglu,
    ACTIVATIONS["gelu_tanh"]: lambda gate, up: geglu(gate, up, approximate="tanh"),
    silu: swiglu,
}


def activation(name: Activation) -> Callable[[Any], Tensor]:
    """The activation of that name; a function is returned as it is."""
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: act must be a function or one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def feed_forward(
    x: ArrayLike,
    w1: ArrayLike,
    w2: ArrayLike,
    b1: ArrayLike | None = None,
    b2: ArrayLike | None = None,
    *,
    act: Activation = "gelu",
    dropout: Callable[[Any], Any] | None = None,
) -> Tensor:
    """x (*, D), w1 (D, F), w2 (F, D), biases (F,) and (D,) -> (*, D). dropout: a function of the F activations."""
    y = activation(act)(linear(x, w1, b1))
    return linear(y if dropout is None else dropout(y), w2, b2)


def gated_feed_forward(
    x: ArrayLike,
    w_gate: ArrayLike,
    w_up: ArrayLike,
    w_down: ArrayLike,
    b_gate: ArrayLike | None = None,
    b_up: ArrayLike | None = None,
    b_down: ArrayLike | None = None,
    *,
    act: Activation = "silu",
    dropout: Callable[[Any], Any] | None = None,
) -> Tensor:
    """x (*, D), w_gate and w_up (D, F), w_down (F, D), biases (F,), (F,) and (D,) -> (*, D).

    dropout: a function of the F products.
    """
    # matrix products leave their results in memory, and the last one reads its operand there
    act, gate, up = activation(act), mt.store(linear(x, w_gate, b_gate)), mt.store(linear(x, w_up, b_up))
    y = mt.store(GATES[act](gate, up) if act in GATES else act(gate) * up)
    return mt.store(linear(y if dropout is None else dropout(y), w_down, b_down))


class FeedForward(Module):
    """``feed_forward`` with its weights: D -> F -> D. dropout: probability, of the F activations while training."""

    def __init__(
        self,
        D: int,
        F: int,
        act: Activation = "gelu",
        bias: bool = True,
        *,
        dropout: float = 0.0,
        rng: np.random.Generator,
    ):
        super().__init__()
        self.up = Linear(D, F, bias=bias, rng=rng)
        self.down = Linear(F, D, bias=bias, rng=rng)
        self.dropout = Dropout(dropout, rng=rng)
        self.act = activation(act)

    def forward(self, x: ArrayLike) -> Tensor:
        up, down = self.up, self.down
        return feed_forward(x, up.weight, down.weight, up.bias, down.bias, act=self.act, dropout=self.dropout)


class GatedFeedForward(Module):
    """``gated_feed_forward`` with its weights, by default without biases: D -> F -> D.

    dropout: probability, of the F products while training.
    """

    def __init__(
        self,
        D: int,
        F: int,
        act: Activation = "silu",
        bias: bool = False,
        *,
        dropout: float = 0.0,
        rng: np.random.Generator,
    ):
        super().__init__()
        self.gate = Linear(D, F, bias=bias, rng=rng)
        self.up = Linear(D, F, bias=bias, rng=rng)
        self.down = Linear(F, D, bias=bias, rng=rng)
        self.dropout = Dropout(dropout, rng=rng)
        self.act = activation(act)

    def forward(self, x: ArrayLike) -> Tensor:
        gate, up, down = self.gate, self.up, self.down
        weights = gate.weight, up.weight, down.weight, gate.bias, up.bias, down.bias
        return gated_feed_forward(x, *weights, act=self.act, dropout=self.dropout)


# -- what the oracle asks --------------------------------------------------------------------------------------------


def _example(draw: Any, size: str, *, act: str = "silu") -> tuple[dict[str, Any], dict[str, Any]]:
    T, D, F = {"tiny": (3, 4, 5), "small": (9, 16, 37), "medium": (65, 96, 258)}[size]
    inputs = {"x": draw.normal((2, T, D)), "w_gate": draw.normal((D, F)) * D**-0.5}
    inputs |= {"w_up": draw.normal((D, F)) * D**-0.5, "w_down": draw.normal((F, D)) * F**-0.5}
    return inputs, {"act": act}


reference(
    "feedforward.gated",
    gated_feed_forward,
    example=_example,
    differentiable=("x", "w_gate", "w_up", "w_down"),
    options=({}, {"act": "gelu"}, {"act": "gelu_tanh"}),
)
