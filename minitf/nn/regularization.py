"""Random networks: branches that are skipped for whole samples, and weights that are left out for a step.

    DropPath       y = x keep_b / (1 - p)            keep_b Bernoulli(1 - p), one draw a sample of the batch
    DropConnect    y = layer(x; W M / (1 - p))       M Bernoulli(1 - p), one draw a weight, for the whole batch

Both are the identity, or the layer, in evaluation, and their expectation over the draws is what they are then (for
DropConnect, if the layer is linear in its weight). DropPath is put behind the branch of a residual block; the
deeper the block, the more often it is skipped (``drop_path_rates``).

The ideas are of Huang et al., "Deep Networks with Stochastic Depth" (2016), here with one draw a sample, and of Wan et
al., "Regularization of Neural Networks using DropConnect" (2013), here without the bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.autodiff.tensor import ArrayLike, Tensor
from minitf.nn import functional
from minitf.nn.init import generator
from minitf.nn.layers import Dropout
from minitf.nn.module import Module, Parameter, require_sizes


def drop_path_rates(rate: float, L: int) -> list[float]:
    """The rates of L blocks, from 0 in the first to ``rate`` in the last in equal steps."""
    require_sizes("drop_path_rates", L=L)
    if not 0 <= rate <= 1:
        raise ValueError(f"drop_path_rates: rate must be between 0 and 1, got {rate!r}")
    return np.linspace(0, rate, L).tolist()


class DropPath(Dropout):
    """While training, zeroes whole samples of ``(B, *)`` with probability ``p`` and divides the others by 1 - p.

    rng: draws which; needed unless p is 0.
    """

    def forward(self, x: ArrayLike) -> Tensor:
        return functional.drop_path(x, self.p, rng=self.rng, training=self.training)


class DropConnect(Module):
    """``layer``, a ``Linear`` or a convolution; while training, some of its weights are left out in every call.

    p: the probability of a weight to be left out; the others are divided by 1 - p.

    Raises TypeError for a layer without a parameter called weight.
    """

    def __init__(self, layer: Module, p: float = 0.5, *, rng: np.random.Generator):
        if not isinstance(getattr(layer, "weight", None), Parameter):
            raise TypeError(f"DropConnect: needs a layer with a parameter called weight, got {type(layer).__name__}")
        if not 0 <= p <= 1:
            raise ValueError(f"DropConnect: p must be between 0 and 1, got {p!r}")
        self.layer, self.p, self.rng = layer, p, generator(rng)

    def forward(self, *inputs: Any) -> Any:
        layer: Any = self.layer
        weight = layer.weight
        try:
            layer.weight = functional.dropout(weight, self.p, rng=self.rng, training=self.training)
            return layer(*inputs)
        finally:
            layer.weight = weight

    def extra_repr(self) -> str:
        return f"{self.p}"
