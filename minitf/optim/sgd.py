"""Stochastic gradient descent with momentum.

g ← g + weight_decay p
u ← momentum u + g                              u = g in the first step
p ← p - lr u,  with nesterov  p ← p - lr (g + momentum u)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.optim.optimizer import Optimizer, Params


class SGD(Optimizer):
    """SGD as in PyTorch: weight decay is part of the gradient."""

    def __init__(
        self, params: Params, lr: float, *, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ):
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        if not 0 <= options["momentum"] < 1:
            raise ValueError(f"SGD: momentum must be in [0, 1), got {options['momentum']!r}")
        if options["nesterov"] and not options["momentum"]:
            raise ValueError("SGD: nesterov needs a momentum greater than 0")

    def _update(
        self,
        p: np.ndarray,
        g: np.ndarray,
        state: dict[str, Any],
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        if weight_decay:
            g = g + weight_decay * p
        if momentum:
            if "momentum_buffer" in state:
                u = state["momentum_buffer"]
                u *= momentum
                u += g
            else:
                u = state["momentum_buffer"] = np.array(g, dtype=p.dtype)
            g = g + momentum * u if nesterov else u
        p -= float(lr) * g
