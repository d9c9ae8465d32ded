"""Stochastic gradient descent with momentum.

g ← g + weight_decay p
u ← momentum u + g                              u = g in the first step
p ← p - lr u,  with nesterov  p ← p - lr (g + momentum u)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minitf.kernels import optimizers as kernels
from minitf.optim.optimizer import Optimizer, Params, Row, fused

_sgd = fused(kernels.sgd, kernels.sgd_twin)


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

    def _update_all(self, rows: list[Row], **options: Any) -> None:
        if options["momentum"]:
            for p, _, state in rows:
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = np.zeros_like(p)
            _sgd([(p, g, state["momentum_buffer"]) for p, g, state in rows], **options)
        else:
            _sgd([(p, g) for p, g, _ in rows], **options)
