"""Recurrent cells: one step of a plain recurrence, of an LSTM and of a GRU.

    RNN     h = tanh(x W + b + h' U + c)

    LSTM    i, f, g, o = x W + b + h' U + c          input, forget, candidate, output, in this order
            c = σ(f) c' + σ(i) tanh(g)               the memory is only scaled and added to
            h = σ(o) tanh(c)

    GRU     r, z, n = x W + b                        reset, update, candidate, in this order
            ρ, ζ, ν = h' U + c
            n = tanh(n + σ(r + ρ) ν)                 "reset after": the gate acts on the product, not on h'
            h = (1 - σ(z + ζ)) n + σ(z + ζ) h'

W is ``weight_ih (D_in, G D)``, U ``weight_hh (D, G D)``, b and c are ``bias_ih`` and ``bias_hh``, both ``(G D,)``; there
are G = 1, 4 and 3 gates. A step takes G D (D_in + D) multiply-adds a sample. x W + b does not depend on the state, so a
whole sequence's is one product (``minitf.nn.recurrent_layers``); the ``*_step`` functions get it ready made.

The LSTM is Hochreiter and Schmidhuber's (1997) with forget gates, the GRU that of Cho et al. (2014) in the form of
cuDNN; gate order, the two biases and the initial values, all U(±1 / sqrt(D)), are PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn import init
from minitf.nn.functional import linear, relu
from minitf.nn.module import Module, Parameter, require_sizes


def _gates(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """``(*, count D)`` as ``count`` times ``(*, D)``."""
    return mt.unstack(mt.reshape(x, (*x.shape[:-1], count, x.shape[-1] // count)), -2)


def rnn_step(
    projected: ArrayLike, h: ArrayLike, weight_hh: ArrayLike, bias_hh: ArrayLike | None, nonlinearity: str = "tanh"
) -> Tensor:
    """The next h ``(*, D)`` from x W + b ``(*, D)`` and h ``(*, D)``. nonlinearity: "tanh" or "relu"."""
    return (mt.tanh if nonlinearity == "tanh" else relu)(linear(h, weight_hh, bias_hh) + projected)


def lstm_step(
    projected: ArrayLike, h: ArrayLike, c: ArrayLike, weight_hh: ArrayLike, bias_hh: ArrayLike | None
) -> tuple[Tensor, Tensor]:
    """The next h and c ``(*, D)`` from x W + b ``(*, 4D)``, h and c ``(*, D)``."""
    i, f, g, o = _gates(linear(h, weight_hh, bias_hh) + projected, 4)
    c = mt.sigmoid(f) * c + mt.sigmoid(i) * mt.tanh(g)
    return mt.sigmoid(o) * mt.tanh(c), c


def gru_step(projected: ArrayLike, h: ArrayLike, weight_hh: ArrayLike, bias_hh: ArrayLike | None) -> Tensor:
    """The next h ``(*, D)`` from x W + b ``(*, 3D)`` and h ``(*, D)``."""
    r_x, z_x, n_x = _gates(as_tensor(projected), 3)
    r_h, z_h, n_h = _gates(linear(h, weight_hh, bias_hh), 3)
    z = mt.sigmoid(z_x + z_h)
    n = mt.tanh(n_x + mt.sigmoid(r_x + r_h) * n_h)
    return (1 - z) * n + z * h


class Cell(Module):
    """What the three cells share: their parameters, and how a step reads its input and state.

    ``forward(x (*, D_in), state=None) -> (h (*, D), state)``; ``state`` is a tuple of ``parts`` arrays ``(*, D)``, the
    first of which is h, or h itself where there is only one; None is the zero state.
    """

    gates: int
    parts = 1

    def __init__(self, D_in: int, D: int, bias: bool = True, *, rng: np.random.Generator):
        require_sizes(type(self).__name__, D_in=D_in, D=D)
        bound = 1 / math.sqrt(D)

        def drawn(*shape: int) -> Parameter:
            return Parameter(init.uniform(shape, -bound, bound, rng=rng))

        self.D_in, self.D = D_in, D
        self.weight_ih, self.weight_hh = drawn(D_in, self.gates * D), drawn(D, self.gates * D)
        self.bias_ih, self.bias_hh = (drawn(self.gates * D), drawn(self.gates * D)) if bias else (None, None)

    def forward(self, x: ArrayLike, state: Any = None) -> tuple[Tensor, Any]:
        projected = self.project(x)
        parts = self.step(projected, self.start(projected.shape[:-1], state))
        return parts[0], parts if self.parts > 1 else parts[0]

    def project(self, x: ArrayLike) -> Tensor:
        """x W + b: ``(*, D_in) -> (*, G D)``; what of a step does not depend on the state."""
        x = as_tensor(x)
        if x.ndim < 1 or x.shape[-1] != self.D_in:
            raise ShapeError(f"{type(self).__name__}: x must be (*, D_in) with D_in = {self.D_in}, got {x.shape}")
        return linear(x, self.weight_ih, self.bias_ih)

    def start(self, lead: tuple[int, ...], state: Any) -> tuple[Tensor, ...]:
        """The parts of ``state``, checked to be ``(*lead, D)``, or zeros."""
        if state is None:
            return (mt.zeros((*lead, self.D), self.weight_hh.dtype),) * self.parts
        parts = tuple(map(as_tensor, state if self.parts > 1 else (state,)))
        if [p.shape for p in parts] != [(*lead, self.D)] * self.parts:
            raise ShapeError(
                f"{type(self).__name__}: the state must be {self.parts} x {(*lead, self.D)}, got "
                f"{', '.join(str(p.shape) for p in parts)}"
            )
        return parts

    def step(self, projected: Tensor, parts: Any) -> tuple[Tensor, ...]:
        """The next parts of the state, h first."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.D_in}, {self.D}" + ("" if self.bias_ih is not None else ", bias=False")


class RNNCell(Cell):
    """``rnn_step`` with its parameters: x ``(*, D_in)``, state h ``(*, D)`` -> (h, h). nonlinearity: "tanh" or "relu"."""

    gates = 1

    def __init__(self, D_in: int, D: int, bias: bool = True, nonlinearity: str = "tanh", *, rng: np.random.Generator):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(D_in, D, bias, rng=rng)
        self.nonlinearity = nonlinearity

    def step(self, projected: Tensor, parts: Any) -> tuple[Tensor, ...]:
        (h,) = parts
        return (rnn_step(projected, h, self.weight_hh, self.bias_hh, self.nonlinearity),)


class LSTMCell(Cell):
    """``lstm_step`` with its parameters: x ``(*, D_in)``, state (h, c) of ``(*, D)`` -> (h, (h, c))."""

    gates, parts = 4, 2

    def step(self, projected: Tensor, parts: Any) -> tuple[Tensor, ...]:
        h, c = parts
        return lstm_step(projected, h, c, self.weight_hh, self.bias_hh)


class GRUCell(Cell):
    """``gru_step`` with its parameters: x ``(*, D_in)``, state h ``(*, D)`` -> (h, h)."""

    gates = 3

    def step(self, projected: Tensor, parts: Any) -> tuple[Tensor, ...]:
        (h,) = parts
        return (gru_step(projected, h, self.weight_hh, self.bias_hh),)
