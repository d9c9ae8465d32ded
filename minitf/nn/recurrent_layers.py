"""Recurrent layers: a cell along a sequence, in one or both directions, and several of them on top of each other.

    forward(x (*, T, D_in), state=None) -> (y (*, T, D), state)

y holds h at every position, of both directions side by side if there are two: ``(*, T, 2D)``. The state has an entry
for every layer and direction, [layer 0 forward, layer 0 backward, layer 1 forward, ...], as one array ``(L, *, D)``, or
``(2L, *, D)``; that of an LSTM is the pair (h, c) of these. It is h after the last position each direction came to, so
a sequence may be cut and carried on, unless it is also read backwards.

The input's part of all steps is one matrix product; only the T products with the state are taken one after another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf import autodiff as mt
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.tensor import ArrayLike, Tensor, as_tensor
from minitf.nn.layers import Dropout
from minitf.nn.module import Module, require_sizes
from minitf.nn.recurrent_cells import Cell, GRUCell, LSTMCell, RNNCell


class _Layers(Module):
    cell: type[Cell]

    def __init__(
        self,
        D_in: int,
        D: int,
        L: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        rng: np.random.Generator,
        **options: Any,
    ):
        require_sizes(type(self).__name__, D_in=D_in, D=D, L=L)
        self.directions = 2 if bidirectional else 1
        widths = [D_in] + [self.directions * D] * (L - 1)
        self.layers = [
            [self.cell(width, D, bias, **options, rng=rng) for _ in range(self.directions)] for width in widths
        ]
        self.dropout = Dropout(dropout, rng=rng)

    def forward(self, x: ArrayLike, state: Any = None) -> tuple[Tensor, Any]:
        """y and the state behind the sequence; ``state`` is the one in front of it, zeros by default."""
        y = as_tensor(x)
        cell = self.layers[0][0]
        if y.ndim < 2 or y.shape[-1] != cell.D_in or y.shape[-2] == 0:
            raise ShapeError(
                f"{type(self).__name__}: x must be (*, T, D_in) with D_in = {cell.D_in} and T at least 1, got {y.shape}"
            )
        starts, ends = iter(self._starts(y.shape[:-2], state)), []
        for depth, cells in enumerate(self.layers):
            below = self.dropout(y) if depth else y
            runs = [
                _along(cell, below, next(starts), backward)
                for cell, backward in zip(cells, (False, True), strict=False)
            ]
            y = runs[0][0] if len(runs) == 1 else mt.concatenate([out for out, _ in runs], -1)
            ends += [end for _, end in runs]
        parts = tuple(mt.stack(part) for part in zip(*ends, strict=True))
        return y, parts if cell.parts > 1 else parts[0]

    def _starts(self, lead: tuple[int, ...], state: Any) -> list[Any]:
        """The state of every cell, as the cell takes it."""
        cell, count = self.layers[0][0], len(self.layers) * self.directions
        if state is None:
            return [None] * count
        parts = tuple(map(as_tensor, state if cell.parts > 1 else (state,)))
        if [p.shape for p in parts] != [(count, *lead, cell.D)] * cell.parts:
            raise ShapeError(
                f"{type(self).__name__}: the state must be {cell.parts} x {(count, *lead, cell.D)}, got "
                f"{', '.join(str(p.shape) for p in parts)}"
            )
        each = list(zip(*(mt.unstack(p) for p in parts), strict=True))
        return each if cell.parts > 1 else [part for (part,) in each]

    def extra_repr(self) -> str:
        cell = self.layers[0][0]
        options = "" if self.directions == 1 else ", bidirectional=True"
        return f"{cell.D_in}, {cell.D}, L={len(self.layers)}{options}"


def _along(cell: Cell, x: Tensor, state: Any, backward: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """``cell`` at one position after another of x ``(*, T, D_in)``: h at each ``(*, T, D)``, and the last state."""
    projected = cell.project(x)
    parts = cell.start(x.shape[:-2], state)
    steps, hs = mt.unstack(projected, -2), []
    for step in reversed(steps) if backward else steps:
        parts = cell.step(step, parts)
        hs.append(parts[0])
    return mt.stack(hs[::-1] if backward else hs, -2), parts


class RNN(_Layers):
    """L layers of ``RNNCell``: ``(*, T, D_in) -> (*, T, D)``; see ``LSTM``. nonlinearity: "tanh" or "relu"."""

    cell = RNNCell

    def __init__(
        self,
        D_in: int,
        D: int,
        L: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        nonlinearity: str = "tanh",
        *,
        rng: np.random.Generator,
    ):
        super().__init__(D_in, D, L, bias, dropout, bidirectional, rng=rng, nonlinearity=nonlinearity)


class LSTM(_Layers):
    """L layers of ``LSTMCell``: ``(*, T, D_in) -> (*, T, D)``, or 2D if ``bidirectional``; state (h, c) of ``(L, *, D)``.

    dropout: between layers, while training; drawn from ``rng``, as the initial values are.

    Raises ShapeError for another width of x, an empty sequence, or a state of another shape.
    """

    cell = LSTMCell


class GRU(_Layers):
    """L layers of ``GRUCell``: ``(*, T, D_in) -> (*, T, D)``, or 2D if ``bidirectional``; state h ``(L, *, D)``.

    See ``LSTM``.
    """

    cell = GRUCell
